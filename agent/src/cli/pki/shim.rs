//! TEMPORARY. Stands in for `crate::pki` on this branch alone; to be deleted when that is merged (see the parent module).

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rekindle_coordinator::ledger::OperatorOrder;
use rekindle_proto::admin::{ORDER_BYTES_MAX, SignedOrder};
use rekindle_proto::id::{ClusterName, OperatorName};
use rekindle_proto::message::encode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use webpki::EndEntityCert;

pub(crate) const LEAF_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PkiError(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertRole {
    Member,
    Witness,
    Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertIdentity {
    pub(crate) cluster: ClusterName,
    pub(crate) role: CertRole,
    pub(crate) name: OperatorName,
}

fn wrong(error: impl std::fmt::Display) -> PkiError {
    PkiError(error.to_string())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(wrong)?;
    file.write_all(text.as_bytes()).map_err(wrong)
}

pub(crate) fn init(dir: &Path, cluster: &ClusterName) -> Result<PathBuf, PkiError> {
    std::fs::create_dir_all(dir).map_err(wrong)?;
    let key = KeyPair::generate().map_err(wrong)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.subject_alt_names =
        vec![SanType::URI(format!("rekindle://{cluster}/ca").as_str().try_into().map_err(wrong)?)];
    let certificate = params.self_signed(&key).map_err(wrong)?;
    write(&dir.join("ca.pem"), &certificate.pem(), 0o644)?;
    write(&dir.join("ca.key"), &key.serialize_pem(), 0o600)?;
    Ok(dir.join("ca.pem"))
}

pub(crate) fn issue(dir: &Path, name: &str, role: CertRole, out: &Path, valid: Duration) -> Result<PathBuf, PkiError> {
    let ca = CertificateDer::from_pem_file(dir.join("ca.pem")).map_err(wrong)?;
    let parsed = EndEntityCert::try_from(&ca).map_err(wrong)?;
    let cluster = parsed.valid_uri_names().next().and_then(|uri| uri.split('/').nth(2)).unwrap_or_default().to_owned();
    let key = std::fs::read_to_string(dir.join("ca.key")).map_err(wrong)?;
    let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::from_pem(&key).map_err(wrong)?).map_err(wrong)?;
    let word = match role {
        CertRole::Member => "member",
        CertRole::Witness => "witness",
        CertRole::Operator => "operator",
    };
    let mut params = CertificateParams::default();
    params.not_before = time::OffsetDateTime::now_utc();
    params.not_after = params.not_before + valid;
    params.subject_alt_names =
        vec![SanType::URI(format!("rekindle://{cluster}/{word}/{name}").as_str().try_into().map_err(wrong)?)];
    let key = KeyPair::generate().map_err(wrong)?;
    let certificate = params.signed_by(&key, &issuer).map_err(wrong)?;
    std::fs::create_dir_all(out).map_err(wrong)?;
    write(&out.join(format!("{name}.pem")), &certificate.pem(), 0o644)?;
    write(&out.join(format!("{name}.key")), &key.serialize_pem(), 0o600)?;
    Ok(out.join(format!("{name}.pem")))
}

pub(crate) fn identity_of(certificate: &[u8]) -> Result<CertIdentity, PkiError> {
    let der = certificate.into();
    let parsed = EndEntityCert::try_from(&der).map_err(wrong)?;
    let uri = parsed.valid_uri_names().next().ok_or_else(|| wrong("no URI name"))?;
    let parts: Vec<&str> = uri.strip_prefix("rekindle://").unwrap_or_default().split('/').collect();
    let [cluster, role, name] = parts.as_slice() else { return Err(wrong("not a rekindle:// name")) };
    let role = match *role {
        "member" => CertRole::Member,
        "witness" => CertRole::Witness,
        "operator" => CertRole::Operator,
        other => return Err(wrong(format!("unknown role {other}"))),
    };
    let name = OperatorName::new(name).map_err(wrong)?;
    Ok(CertIdentity { cluster: ClusterName::new(cluster).map_err(wrong)?, role, name })
}

pub(crate) fn sign_order(certificate: &Path, key: &Path, order: &OperatorOrder) -> Result<SignedOrder, PkiError> {
    let der = CertificateDer::from_pem_file(certificate).map_err(wrong)?;
    let pem = std::fs::read_to_string(key).map_err(|error| wrong(format!("{}: {error}", key.display())))?;
    let signing = SigningKey::from_pkcs8_pem(&pem).map_err(wrong)?;
    let order = encode(order, ORDER_BYTES_MAX).map_err(wrong)?;
    let signature: DerSignature = signing.sign(&order);
    Ok(SignedOrder { certificate: der.to_vec(), signature: signature.as_bytes().to_vec(), order })
}
