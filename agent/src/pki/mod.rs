//! Certificates: a cluster's own CA, what it issues, and what a certificate says of its owner.
//!
//! Keys are ECDSA on P-256, signatures ECDSA with SHA-256, key files PKCS#8 in PEM. A host's certificate names it twice:
//! as a DNS name, and as `rekindle://<cluster>/<role>/<name>`, which is what rekindle goes by. An operator's has the
//! second only. `authority.rs` makes certificates, [`identity_of`] reads them, [`sign_order`] uses an operator's key.

mod authority;
mod files;
mod sign;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use authority::{Authority, Issued, LEAF_VALIDITY, Validity};
pub use files::{IssuedFiles, certificate_der, init, issue, read_secret};
use rekindle_coordinator::ledger::IdentityError;
pub use rekindle_coordinator::ledger::{CertIdentity, CertRole};
use rekindle_proto::message::CodecError;
pub use sign::sign_order;
use webpki::EndEntityCert;

/// Why a certificate or key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Nothing is overwritten: a CA that is lost cannot be made again, and a host may be running on that key.
    #[error("{path} exists and is not overwritten; move it away if it is no longer needed")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A key that others may read is no secret.
    #[error("{path} has mode {mode:04o}; a key must not be open to group or others: chmod 0600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The library could not make it.
    #[error("cannot make {what}")]
    Make {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Not a certificate or a key.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// Issued by `rekindle pki init` it would say so.
    #[error(
        "the CA certificate does not name a cluster as rekindle://<cluster>/ca; was it made by `rekindle pki init`?"
    )]
    NoCluster,
    /// A certificate must say once who it belongs to.
    #[error("the certificate has {found} names beginning rekindle://; exactly one is required")]
    Names {
        /// How many.
        found: usize,
    },
    /// It does not say properly who it belongs to.
    #[error("the name {uri:?} in the certificate is malformed")]
    Name {
        /// The name.
        uri: String,
        /// The rule broken.
        #[source]
        source: IdentityError,
    },
    /// Its two names disagree.
    #[error("the certificate of {identity} must have {expected} as its DNS names, but has [{found}]")]
    DnsNames {
        /// Its URI name.
        identity: String,
        /// What the DNS names should be.
        expected: String,
        /// What they are.
        found: String,
    },
    /// A host needs a DNS name.
    #[error("{name:?} is not a DNS name, so no certificate can be issued to it (RFC 1123, section 2.1)")]
    NotDns {
        /// The name.
        name: String,
    },
    /// Ends before it begins.
    #[error("the certificate would not be valid for any time: it ends before it begins, or the CA has expired")]
    NoTime,
    /// The two files do not belong together.
    #[error("the key in {key} is not the key of the certificate in {certificate}")]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Hosts do not order.
    #[error("{path} is the certificate of a {role}; orders are signed by an operator")]
    Role {
        /// The certificate's file.
        path: PathBuf,
        /// Its role.
        role: CertRole,
    },
    /// The order is longer than any voter would read.
    #[error("the order cannot be encoded")]
    Order(#[source] CodecError),
}

/// Who a certificate (DER) belongs to. Its signature is *not* checked here.
///
/// # Errors
/// [`PkiError`] if it has not exactly one `rekindle://` name, or if a host's DNS name disagrees with it.
pub fn identity_of(certificate: &[u8]) -> Result<CertIdentity, PkiError> {
    let der = certificate.into();
    let parsed = EndEntityCert::try_from(&der)
        .map_err(|error| PkiError::Malformed { what: "the certificate".to_owned(), why: error.to_string() })?;
    let names: Vec<&str> = parsed.valid_uri_names().filter(|uri| CertIdentity::is_ours(uri)).collect();
    let [uri] = names.as_slice() else {
        return Err(PkiError::Names { found: names.len() });
    };
    let identity = CertIdentity::parse(uri).map_err(|source| PkiError::Name { uri: (*uri).to_owned(), source })?;
    let expected = match identity.role {
        CertRole::Member | CertRole::Witness => vec![identity.name.as_str()],
        CertRole::Operator => Vec::new(),
    };
    let found: Vec<&str> = parsed.valid_dns_names().collect();
    if found != expected {
        let (expected, found) = (format!("{expected:?}"), found.join(", "));
        return Err(PkiError::DnsNames { identity: identity.uri(), expected, found });
    }
    Ok(identity)
}
