//! An operator's signature under an order.

use std::path::Path;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rekindle_coordinator::ledger::OperatorOrder;
use rekindle_proto::admin::{ORDER_BYTES_MAX, SignedOrder};
use rekindle_proto::message::encode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use webpki::EndEntityCert;

use super::{CertRole, PkiError, identity_of, read_secret};

/// Signs an order with an operator's key: ECDSA on P-256 with SHA-256 over the order's encoding.
///
/// # Errors
/// [`PkiError`] if the key file is open to others, is not the certificate's, or the certificate is not an operator's.
pub fn sign_order(certificate: &Path, key: &Path, order: &OperatorOrder) -> Result<SignedOrder, PkiError> {
    let malformed = |path: &Path, why: String| PkiError::Malformed { what: path.display().to_string(), why };
    let der = CertificateDer::from_pem_file(certificate).map_err(|error| malformed(certificate, error.to_string()))?;
    match identity_of(&der)?.role {
        CertRole::Operator => {}
        role @ (CertRole::Member | CertRole::Witness) => {
            return Err(PkiError::Role { path: certificate.to_owned(), role });
        }
    }
    let signing = SigningKey::from_pkcs8_pem(&read_secret(key)?).map_err(|error| malformed(key, error.to_string()))?;
    let public = signing.verifying_key().to_public_key_der().map_err(|error| malformed(key, error.to_string()))?;
    let parsed = EndEntityCert::try_from(&der).map_err(|error| malformed(certificate, error.to_string()))?;
    if parsed.subject_public_key_info().as_ref() != public.as_bytes() {
        return Err(PkiError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() });
    }
    let order = encode(order, ORDER_BYTES_MAX).map_err(PkiError::Order)?;
    let signature: DerSignature = signing.sign(&order);
    Ok(SignedOrder { certificate: der.to_vec(), signature: signature.as_bytes().to_vec(), order })
}
