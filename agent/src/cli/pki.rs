//! The one place where the command touches certificates.

use std::path::Path;

use rekindle_coordinator::ledger::OperatorOrder;
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::ClusterName;

use super::{Failure, Role};
use crate::pki::{self as real, CertIdentity, CertRole, IssuedFiles, identity_of};

/// Who the certificate in a PEM file belongs to. Its signature is not checked.
pub(super) fn identity_in(path: &Path) -> Result<CertIdentity, Failure> {
    identity_of(&certificate(path)?).map_err(|error| at(path, Failure::here(&error)))
}

/// The certificate in a PEM file, as DER.
pub(super) fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    real::certificate_der(path).map_err(|error| Failure::here(&error))
}

/// Signs an order.
pub(super) fn sign(certificate: &Path, key: &Path, order: &OperatorOrder) -> Result<SignedOrder, Failure> {
    real::sign_order(certificate, key, order).map_err(|error| Failure::here(&error))
}

/// Makes a CA.
pub(super) fn init(dir: &Path, cluster: &ClusterName) -> Result<IssuedFiles, Failure> {
    real::init(dir, cluster).map_err(|error| Failure::here(&error))
}

/// Issues a certificate.
pub(super) fn issue(dir: &Path, name: &str, role: Role, out: &Path) -> Result<IssuedFiles, Failure> {
    let role = match role {
        Role::Member => CertRole::Member,
        Role::Witness => CertRole::Witness,
        Role::Operator => CertRole::Operator,
    };
    real::issue(dir, name, role, out, real::LEAF_VALIDITY).map_err(|error| Failure::here(&error))
}

fn at(path: &Path, failure: Failure) -> Failure {
    Failure { text: format!("{}: {}", path.display(), failure.text), ..failure }
}
