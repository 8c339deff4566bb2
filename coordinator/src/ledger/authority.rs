//! Who may order what: the check of an operator's signature. Pure, so that every voter comes to the same answer.
//!
//! The certificate must have been issued by the ledger's CA *directly*: there are no intermediates, and a certificate with
//! a critical extension that is not looked at here is refused (RFC 5280, section 4.2). The age of an order and its
//! repetition are not judged here but where entries are applied, because they depend on the ledger.

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rekindle_proto::admin::{ORDER_BYTES_MAX, SignedOrder};
use rekindle_proto::id::{ClusterName, NameError, OperatorName, WallTime};
use rekindle_proto::message::{CodecError, decode};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::Time;

use super::entry::{OperatorCommand, OperatorOrder};

/// Longest certificate looked at, in bytes: ours have about 700, and each is kept in the ledger beside its order.
const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;

/// Before every name of ours in a certificate: `rekindle://<cluster>/<role>/<name>`.
const SCHEME: &str = "rekindle://";
/// The role that may order.
const OPERATOR: &str = "operator";

/// ecdsa-with-SHA256 (RFC 5758, section 3.2).
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// id-ecPublicKey (RFC 5480, section 2.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1, that is P-256 (RFC 5480, section 2.1.1.1).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// id-kp-clientAuth (RFC 5280, section 4.2.1.12).
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// Extensions looked at here: the only ones that may be critical. Basic constraints, key usage, extended key usage, and
/// subject alternative name (RFC 5280, sections 4.2.1.9, .3, .12 and .6).
const UNDERSTOOD: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
];

/// CertificateOf of the two certificates a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateOf {
    /// The cluster's CA.
    Ca,
    /// The operator's.
    Operator,
}

impl std::fmt::Display for CertificateOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ca => "the cluster's CA certificate",
            Self::Operator => "the operator's certificate",
        })
    }
}

/// Why an order was not accepted. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Not looked at.
    #[error("{which} has {bytes} bytes; at most {CERTIFICATE_BYTES_MAX} are allowed")]
    CertificateTooLong {
        /// CertificateOf one.
        which: CertificateOf,
        /// Its size.
        bytes: usize,
    },
    /// Not X.509 in DER.
    #[error("{which} cannot be read: {why}")]
    CertificateMalformed {
        /// CertificateOf one.
        which: CertificateOf,
        /// What the decoder says.
        why: String,
    },
    /// It demands something that is not checked here.
    #[error("{which} has the critical extension {oid}, which rekindle does not know")]
    UnknownCriticalExtension {
        /// CertificateOf one.
        which: CertificateOf,
        /// The extension.
        oid: String,
    },
    /// Only ECDSA on P-256 is accepted.
    #[error("{which} holds a key that is not ECDSA P-256: {why}")]
    Key {
        /// CertificateOf one.
        which: CertificateOf,
        /// What it is instead.
        why: String,
    },
    /// The roster's CA may not issue certificates.
    #[error("the cluster's CA certificate may not issue certificates: {rule}")]
    CaIsNoCa {
        /// The rule broken.
        rule: &'static str,
    },
    /// Another CA's.
    #[error("the operator's certificate names the issuer {issuer:?}; the cluster's CA is {ca:?}")]
    Issuer {
        /// Who it says issued it.
        issuer: String,
        /// Our CA.
        ca: String,
    },
    /// Not signed in the one way we accept.
    #[error("the operator's certificate is signed with algorithm {oid}; only ecdsa-with-SHA256 is accepted")]
    CertificateAlgorithm {
        /// How it is signed.
        oid: String,
    },
    /// Not signed by our CA's key.
    #[error("the operator's certificate was not signed by the cluster's CA")]
    CertificateSignature,
    /// Too early.
    #[error("the operator's certificate is valid from {from_s} s (Unix time); the order was proposed at {at_s} s")]
    NotYetValid {
        /// Its begin, in seconds since the Unix epoch.
        from_s: u64,
        /// When it was judged, in seconds since the Unix epoch.
        at_s: i64,
    },
    /// Too late.
    #[error("the operator's certificate expired at {until_s} s (Unix time); the order was proposed at {at_s} s")]
    Expired {
        /// Its end, in seconds since the Unix epoch.
        until_s: u64,
        /// When it was judged, in seconds since the Unix epoch.
        at_s: i64,
    },
    /// A CA must not order anything itself.
    #[error("the operator's certificate is itself a CA's")]
    OperatorIsCa,
    /// Its key usage does not allow signing.
    #[error("the operator's certificate does not allow its key to sign: {rule}")]
    Usage {
        /// The rule broken.
        rule: &'static str,
    },
    /// It must say once who it is.
    #[error("the operator's certificate has {found} names beginning {SCHEME}; exactly one is required")]
    Names {
        /// How many.
        found: usize,
    },
    /// It does not say properly who it is.
    #[error("the name {uri:?} in the operator's certificate is malformed: {source}")]
    Name {
        /// The name.
        uri: String,
        /// The rule broken.
        #[source]
        source: IdentityError,
    },
    /// Another cluster's operator.
    #[error("the certificate is for cluster {found}; this is {ours}")]
    ForeignCertificate {
        /// Whose.
        found: ClusterName,
        /// Ours.
        ours: ClusterName,
    },
    /// A host's certificate.
    #[error("{uri} is a certificate of a {role}; only an operator may order")]
    Role {
        /// Its role.
        role: CertRole,
        /// Its name.
        uri: String,
    },
    /// Not a signature.
    #[error("the order's signature cannot be read as ECDSA P-256 in DER ({bytes} bytes)")]
    SignatureMalformed {
        /// Its size.
        bytes: usize,
    },
    /// Altered, or signed by another key.
    #[error("the order's signature is not that of operator {operator}'s certificate")]
    Signature {
        /// Who is said to have signed.
        operator: OperatorName,
    },
    /// Too long, or not an order.
    #[error("the order cannot be read: {0}")]
    Order(#[source] CodecError),
    /// Meant for another cluster.
    #[error("the order is for cluster {found}; this is {ours}")]
    ForeignOrder {
        /// Whose.
        found: ClusterName,
        /// Ours.
        ours: ClusterName,
    },
    /// An order must say why.
    #[error("the order of operator {operator} gives no reason")]
    NoReason {
        /// Whose order.
        operator: OperatorName,
    },
    /// Before the first roster, nothing but the first roster can be ordered.
    #[error("this cluster has no roster yet: only the first roster (init) can be ordered")]
    NoRoster,
}

/// What a certificate's owner may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertRole {
    /// A hypervisor.
    Member,
    /// Votes, has no guests.
    Witness,
    /// A person who may order.
    Operator,
}

impl CertRole {
    /// The word for it in a certificate.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Witness => "witness",
            Self::Operator => OPERATOR,
        }
    }
}

impl std::fmt::Display for CertRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who a certificate belongs to: its URI name `rekindle://<cluster>/<role>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertIdentity {
    /// Of which cluster.
    pub cluster: ClusterName,
    /// What its owner may be.
    pub role: CertRole,
    /// The host's or the operator's name; both obey the same rules.
    pub name: OperatorName,
}

/// Why a name in a certificate was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the one form.
    #[error("it is not of the form {SCHEME}<cluster>/<role>/<name>")]
    Form,
    /// A role we do not know.
    #[error("{role:?} is none of member, witness, operator")]
    Role {
        /// The role.
        role: String,
    },
    /// A part that is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl CertIdentity {
    /// Whether this is a name of ours, well formed or not.
    #[must_use]
    pub fn is_ours(uri: &str) -> bool {
        uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads a certificate's URI name.
    ///
    /// # Errors
    /// [`IdentityError`] naming the rule broken.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let path = uri.strip_prefix(SCHEME).ok_or(IdentityError::Form)?;
        let mut parts = path.split('/');
        let (Some(cluster), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::Form);
        };
        let role = [CertRole::Member, CertRole::Witness, CertRole::Operator]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(|| IdentityError::Role { role: role.to_owned() })?;
        Ok(Self { cluster: ClusterName::new(cluster)?, role, name: OperatorName::new(name)? })
    }

    /// The name as it stands in the certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// An order whose certificate, role, cluster and signature were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedOrder {
    /// Who signed it.
    pub operator: OperatorName,
    /// What.
    pub order: OperatorOrder,
}

/// Checks an order: the certificate is signed by `ca` (DER), valid at `at`, has the URI SAN
/// `rekindle://<cluster>/operator/<name>`, the signature is that certificate's, and the order is for this cluster.
///
/// An empty `ca` means that there is no roster yet: then only the first roster is accepted, on the word of the CA that it
/// brings itself. The CA's own dates are not looked at, as TLS does not look at a trust anchor's either.
///
/// # Errors
/// [`AuthorityError`] naming the check that failed.
pub fn verify_order(
    signed: &SignedOrder,
    cluster: &ClusterName,
    ca: &[u8],
    at: WallTime,
) -> Result<VerifiedOrder, AuthorityError> {
    let order: OperatorOrder = decode(&signed.order, ORDER_BYTES_MAX).map_err(AuthorityError::Order)?;
    let ca = match (&order.command, ca.is_empty()) {
        (OperatorCommand::Init { ca, .. }, true) => ca,
        (_, true) => return Err(AuthorityError::NoRoster),
        (_, false) => ca,
    };
    let ca = parse(CertificateOf::Ca, ca)?;
    let certificate = parse(CertificateOf::Operator, &signed.certificate)?;
    let ca_key = issuing_key(&ca)?;
    check_issued(&certificate, &ca, &ca_key)?;
    check_dates(&certificate, at)?;
    check_usage(&certificate)?;
    let operator = operator_of(&certificate, cluster)?;
    let key = key_of(CertificateOf::Operator, &certificate.tbs_certificate.subject_public_key_info)?;
    let signature = DerSignature::try_from(signed.signature.as_slice())
        .map_err(|_| AuthorityError::SignatureMalformed { bytes: signed.signature.len() })?;
    key.verify(&signed.order, &signature).map_err(|_| AuthorityError::Signature { operator: operator.clone() })?;
    if order.cluster != *cluster {
        return Err(AuthorityError::ForeignOrder { found: order.cluster, ours: cluster.clone() });
    }
    if order.reason.as_str().trim().is_empty() {
        return Err(AuthorityError::NoReason { operator });
    }
    Ok(VerifiedOrder { operator, order })
}

fn malformed(which: CertificateOf) -> impl Fn(x509_cert::der::Error) -> AuthorityError {
    move |error| AuthorityError::CertificateMalformed { which, why: error.to_string() }
}

fn parse(which: CertificateOf, der: &[u8]) -> Result<Certificate, AuthorityError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(AuthorityError::CertificateTooLong { which, bytes: der.len() });
    }
    let certificate = Certificate::from_der(der).map_err(malformed(which))?;
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or(&[]);
    match extensions.iter().find(|extension| extension.critical && !UNDERSTOOD.contains(&extension.extn_id)) {
        Some(extension) => Err(AuthorityError::UnknownCriticalExtension { which, oid: extension.extn_id.to_string() }),
        None => Ok(certificate),
    }
}

fn key_of(which: CertificateOf, info: &SubjectPublicKeyInfoOwned) -> Result<VerifyingKey, AuthorityError> {
    let refuse = |why: String| AuthorityError::Key { which, why };
    let curve = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != Some(P256) {
        let curve = curve.map_or_else(|| "no curve".to_owned(), |oid| oid.to_string());
        return Err(refuse(format!("algorithm {}, {curve}", info.algorithm.oid)));
    }
    let point = info.subject_public_key.as_bytes().ok_or_else(|| refuse("a key that is no octets".to_owned()))?;
    VerifyingKey::from_sec1_bytes(point).map_err(|_| refuse("not a point of the curve".to_owned()))
}

/// The CA's key, if the CA may issue certificates.
fn issuing_key(ca: &Certificate) -> Result<VerifyingKey, AuthorityError> {
    let tbs = &ca.tbs_certificate;
    let constraints = tbs.get::<BasicConstraints>().map_err(malformed(CertificateOf::Ca))?;
    if !constraints.is_some_and(|(_, constraints)| constraints.ca) {
        return Err(AuthorityError::CaIsNoCa { rule: "basic constraints must say CA" });
    }
    let usage = tbs.get::<KeyUsage>().map_err(malformed(CertificateOf::Ca))?;
    if !usage.is_some_and(|(_, usage)| usage.key_cert_sign()) {
        return Err(AuthorityError::CaIsNoCa { rule: "key usage must have keyCertSign" });
    }
    key_of(CertificateOf::Ca, &tbs.subject_public_key_info)
}

fn check_issued(certificate: &Certificate, ca: &Certificate, ca_key: &VerifyingKey) -> Result<(), AuthorityError> {
    let tbs = &certificate.tbs_certificate;
    if tbs.issuer != ca.tbs_certificate.subject {
        let (issuer, ca) = (tbs.issuer.to_string(), ca.tbs_certificate.subject.to_string());
        return Err(AuthorityError::Issuer { issuer, ca });
    }
    let wanted = AlgorithmIdentifierOwned { oid: ECDSA_SHA256, parameters: None };
    for found in [&certificate.signature_algorithm, &tbs.signature] {
        if *found != wanted {
            return Err(AuthorityError::CertificateAlgorithm { oid: found.oid.to_string() });
        }
    }
    // What was parsed is encoded again rather than cut out of the bytes, so that what is judged below is what was signed.
    let signed = tbs.to_der().map_err(malformed(CertificateOf::Operator))?;
    let signature = certificate.signature.as_bytes().and_then(|bytes| DerSignature::try_from(bytes).ok());
    let signature = signature.ok_or(AuthorityError::CertificateSignature)?;
    ca_key.verify(&signed, &signature).map_err(|_| AuthorityError::CertificateSignature)
}

fn check_dates(certificate: &Certificate, at: WallTime) -> Result<(), AuthorityError> {
    let seconds = |time: Time| time.to_unix_duration().as_secs();
    let validity = certificate.tbs_certificate.validity;
    let (from_s, until_s) = (seconds(validity.not_before), seconds(validity.not_after));
    let at_s = at.0.div_euclid(1_000);
    if u64::try_from(at_s).is_ok_and(|at_s| at_s > until_s) {
        return Err(AuthorityError::Expired { until_s, at_s });
    }
    if u64::try_from(at_s).map_or(true, |at_s| at_s < from_s) {
        return Err(AuthorityError::NotYetValid { from_s, at_s });
    }
    Ok(())
}

fn check_usage(certificate: &Certificate) -> Result<(), AuthorityError> {
    let tbs = &certificate.tbs_certificate;
    let constraints = tbs.get::<BasicConstraints>().map_err(malformed(CertificateOf::Operator))?;
    if constraints.is_some_and(|(_, constraints)| constraints.ca) {
        return Err(AuthorityError::OperatorIsCa);
    }
    let usage = tbs.get::<KeyUsage>().map_err(malformed(CertificateOf::Operator))?;
    if !usage.is_some_and(|(_, usage)| usage.digital_signature()) {
        return Err(AuthorityError::Usage { rule: "key usage must have digitalSignature" });
    }
    let extended = tbs.get::<ExtendedKeyUsage>().map_err(malformed(CertificateOf::Operator))?;
    if !extended.is_some_and(|(_, extended)| extended.0.contains(&CLIENT_AUTH)) {
        return Err(AuthorityError::Usage { rule: "extended key usage must have clientAuth" });
    }
    Ok(())
}

fn operator_of(certificate: &Certificate, cluster: &ClusterName) -> Result<OperatorName, AuthorityError> {
    let names = certificate.tbs_certificate.get::<SubjectAltName>().map_err(malformed(CertificateOf::Operator))?;
    let names = names.map(|(_, names)| names.0).unwrap_or_default();
    let ours: Vec<&str> = names.iter().filter_map(uri).filter(|uri| CertIdentity::is_ours(uri)).collect();
    let [uri] = ours.as_slice() else {
        return Err(AuthorityError::Names { found: ours.len() });
    };
    let identity =
        CertIdentity::parse(uri).map_err(|source| AuthorityError::Name { uri: (*uri).to_owned(), source })?;
    if identity.cluster != *cluster {
        return Err(AuthorityError::ForeignCertificate { found: identity.cluster, ours: cluster.clone() });
    }
    match identity.role {
        CertRole::Operator => Ok(identity.name),
        role @ (CertRole::Member | CertRole::Witness) => Err(AuthorityError::Role { role, uri: (*uri).to_owned() }),
    }
}

fn uri(name: &GeneralName) -> Option<&str> {
    if let GeneralName::UniformResourceIdentifier(uri) = name { Some(uri.as_str()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_written_and_nothing_else_is_read() {
        let identity = CertIdentity::parse("rekindle://zrh/operator/ada").expect("well formed");
        assert_eq!((identity.role, identity.name.as_str()), (CertRole::Operator, "ada"));
        assert_eq!(identity.uri(), "rekindle://zrh/operator/ada");
        for uri in [
            "rekindle://zrh/operator",
            "rekindle://zrh/operator/ada/",
            "rekindle://zrh/operator/ada/x",
            "rekindle://zrh//ada",
            "rekindle:///operator/ada",
            "rekindle://zrh/root/ada",
            "rekindle://zrh/operator/a%64a",
            "rekindle://zrh:1/operator/ada",
            "Rekindle://zrh/operator/ada",
            "https://zrh/operator/ada",
        ] {
            assert!(CertIdentity::parse(uri).is_err(), "{uri}");
        }
        assert!(CertIdentity::is_ours("Rekindle://zrh"), "a disguised second name is counted, not overlooked");
    }

    #[test]
    fn bytes_that_are_no_order_are_refused() {
        let cluster = ClusterName::new("zrh").expect("legal");
        let signed = SignedOrder { certificate: vec![], order: vec![0xff; 40], signature: vec![] };
        let refusal = verify_order(&signed, &cluster, &[], WallTime(0)).expect_err("garbage");
        assert!(matches!(refusal, AuthorityError::Order(_)), "{refusal}");
    }
}
