//! Certificates for a fake service: one of an authority of its own, good or bad.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

/// What is the matter with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Nothing.
    Good,
    /// It ended years ago.
    Expired,
}

/// A certificate with its key, and how a client may know it.
#[derive(Clone)]
pub struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// The authority that signed it, PEM.
    pub ca_pem: String,
    /// Itself, PEM.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}

impl Identity {
    /// A new one for this host name or address, of a new authority.
    ///
    /// # Errors
    /// Those of its making.
    pub fn new(name: &str, validity: Validity) -> io::Result<Self> {
        let ca_key = KeyPair::generate().map_err(io::Error::other)?;
        let mut ca = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "the authority of a fake BMC");
        let ca_pem = ca.self_signed(&ca_key).map_err(io::Error::other)?.pem();
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).map_err(io::Error::other)?;
        let (cert_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        let certificate = certificate.der().clone();
        let sha256 = Sha256::digest(&certificate).into();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        Ok(Self { config: Arc::new(config), ca_pem, cert_pem, key_pem, sha256 })
    }
}
