//! The CA in memory: what makes certificates.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rekindle_proto::id::ClusterName;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName};
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use super::{CertIdentity, CertRole, PkiError};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a CA is valid: longer than a cluster keeps its hardware.
const CA_VALIDITY: Duration = DAY.saturating_mul(3_652);

/// How long a host's or operator's certificate is valid unless said otherwise: renewed once a year, with the yearly
/// maintenance.
pub const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);

/// How far back a certificate begins: the clocks of a cluster without NTP yet may be minutes apart.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// Random bytes of a serial number (RFC 5280, section 4.1.2.2, allows 20).
const SERIAL_BYTES: usize = 16;

/// Longest common name, in bytes (RFC 5280, appendix A.1, `ub-common-name`). For people only: rekindle reads the URI.
const COMMON_NAME_BYTES_MAX: usize = 64;

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its begin.
    pub from: SystemTime,
    /// Its end.
    pub until: SystemTime,
}

impl Validity {
    /// From a few minutes ago, for clocks that are behind, until that long after `now`.
    #[must_use]
    pub fn beginning(now: SystemTime, lasting: Duration) -> Self {
        let from = now.checked_sub(BACKDATED).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { from, until: now.checked_add(lasting).unwrap_or(now) }
    }
}

/// A certificate and its key.
pub struct Issued {
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The same in DER.
    pub certificate_der: Vec<u8>,
    /// The key: PKCS#8 in PEM.
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// A cluster's CA with its key.
pub struct Authority {
    cluster: ClusterName,
    certificate_der: Vec<u8>,
    until: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).field("until", &self.until).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new CA, valid from `now` for ten years, and the files to keep it in.
    ///
    /// # Errors
    /// [`PkiError::Make`] if there is no randomness to make a key of.
    pub fn generate(cluster: &ClusterName, now: SystemTime) -> Result<(Self, Issued), PkiError> {
        let validity = Validity::beginning(now, CA_VALIDITY);
        let key = new_key()?;
        let mut params = params(&format!("rekindle CA of {cluster}"), validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("rekindle://{cluster}/ca"))?];
        let certificate =
            params.self_signed(&key).map_err(|source| PkiError::Make { what: "the CA certificate", source })?;
        let issued = Issued {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        };
        Ok((Self::from_pem(&issued.certificate_pem, &issued.key_pem)?, issued))
    }

    /// A CA from what is in its two files.
    ///
    /// # Errors
    /// [`PkiError`] if they cannot be read, or if the certificate names no cluster.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let malformed = |what: &str, why: String| PkiError::Malformed { what: what.to_owned(), why };
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| malformed("the CA certificate", error.to_string()))?;
        let key = KeyPair::from_pem(key_pem).map_err(|error| malformed("the CA key", error.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| malformed("the CA certificate", error.to_string()))?;
        let until = Certificate::from_der(&der)
            .map(|certificate| certificate.tbs_certificate.validity.not_after.to_system_time())
            .map_err(|error| malformed("the CA certificate", error.to_string()))?;
        Ok(Self { cluster: cluster_of(&der)?, certificate_der: der.to_vec(), until, issuer })
    }

    /// Its cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Its certificate (DER).
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Issues a certificate. It never outlives the CA.
    ///
    /// # Errors
    /// [`PkiError`] if a host's name is not a DNS name, or if no time is left.
    pub fn issue(&self, identity: &CertIdentity, validity: Validity) -> Result<Issued, PkiError> {
        let validity = Validity { until: validity.until.min(self.until), ..validity };
        if validity.until <= validity.from {
            return Err(PkiError::NoTime);
        }
        let key = new_key()?;
        let mut params = params(identity.name.as_str(), validity)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(&identity.uri())?];
        match identity.role {
            CertRole::Member | CertRole::Witness => params.subject_alt_names.push(dns(identity.name.as_str())?),
            CertRole::Operator => {}
        }
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|source| PkiError::Make { what: "the certificate", source })?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::Make { what: "a key", source })
}

fn params(common_name: &str, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = validity.from.into();
    params.not_after = validity.until.into();
    let mut serial = [0; SERIAL_BYTES];
    let no_random = |_| PkiError::Make { what: "a serial number", source: rcgen::Error::RingUnspecified };
    SystemRandom::new().fill(&mut serial).map_err(no_random)?;
    serial[0] &= 0x7f; // A serial number is positive.
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name.get(..COMMON_NAME_BYTES_MAX).unwrap_or(common_name));
    params.distinguished_name = name;
    Ok(params)
}

fn uri(uri: &str) -> Result<SanType, PkiError> {
    let uri = uri.try_into().map_err(|source| PkiError::Make { what: "the certificate's name", source })?;
    Ok(SanType::URI(uri))
}

fn dns(name: &str) -> Result<SanType, PkiError> {
    let not_dns = || PkiError::NotDns { name: name.to_owned() };
    DnsName::try_from(name).map_err(|_| not_dns())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| not_dns())?))
}

fn cluster_of(ca: &CertificateDer<'_>) -> Result<ClusterName, PkiError> {
    let parsed = EndEntityCert::try_from(ca)
        .map_err(|error| PkiError::Malformed { what: "the CA certificate".to_owned(), why: error.to_string() })?;
    let mut names = parsed.valid_uri_names().filter(|uri| CertIdentity::is_ours(uri));
    let (Some(uri), None) = (names.next(), names.next()) else {
        return Err(PkiError::NoCluster);
    };
    let cluster = uri.strip_prefix("rekindle://").and_then(|rest| rest.strip_suffix("/ca"));
    cluster.and_then(|cluster| ClusterName::new(cluster).ok()).ok_or(PkiError::NoCluster)
}
