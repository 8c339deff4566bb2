//! Why an order is not accepted.

use rekindle_proto::id::{ClusterName, OperatorName};
use rekindle_proto::message::CodecError;

use super::identity::{CertRole, IdentityError, SCHEME};

/// Longest certificate looked at, in bytes: ours have about 700, and each is kept in the ledger beside its order.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;

/// Which of the two certificates a refusal is about.
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
        /// Which one.
        which: CertificateOf,
        /// Its size.
        bytes: usize,
    },
    /// Not X.509 in DER.
    #[error("{which} cannot be read: {why}")]
    CertificateMalformed {
        /// Which one.
        which: CertificateOf,
        /// What the decoder says.
        why: String,
    },
    /// It demands something that is not checked here.
    #[error("{which} has the critical extension {oid}, which rekindle does not know")]
    UnknownCriticalExtension {
        /// Which one.
        which: CertificateOf,
        /// The extension.
        oid: String,
    },
    /// Only ECDSA on P-256 is accepted.
    #[error("{which} holds a key that is not ECDSA P-256: {why}")]
    Key {
        /// Which one.
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
