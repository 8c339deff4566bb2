//! Who may order what: the check of an operator's signature. Pure, so that every voter comes to the same answer.
//!
//! The certificate must have been issued by the ledger's CA *directly*: there are no intermediates, and a certificate with
//! a critical extension that is not looked at here is refused (RFC 5280, section 4.2). The age of an order and its
//! repetition are not judged here but where entries are applied, because they depend on the ledger.

mod error;
mod identity;

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};
use rekindle_proto::admin::{ORDER_BYTES_MAX, SignedOrder};
use rekindle_proto::id::{ClusterName, OperatorName, WallTime};
use rekindle_proto::message::decode;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::Time;

use self::error::CERTIFICATE_BYTES_MAX;
pub use self::error::{AuthorityError, CertificateOf};
pub use self::identity::{CertIdentity, CertRole, IdentityError};
use super::entry::{OperatorCommand, OperatorOrder};

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
    fn bytes_that_are_no_order_are_refused() {
        let cluster = ClusterName::new("zrh").expect("legal");
        let signed = SignedOrder { certificate: vec![], order: vec![0xff; 40], signature: vec![] };
        let refusal = verify_order(&signed, &cluster, &[], WallTime(0)).expect_err("garbage");
        assert!(matches!(refusal, AuthorityError::Order(_)), "{refusal}");
    }
}
