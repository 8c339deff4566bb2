//! Who may order what: the check of an operator's signature. Pure, so that every voter comes to the same answer.

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::{ClusterName, OperatorName, WallTime};

use super::entry::OperatorOrder;

/// Why an order was not accepted. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Placeholder.
    #[error("not checked")]
    NotChecked,
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
/// # Errors
/// [`AuthorityError`] naming the check that failed.
pub fn verify_order(
    _signed: &SignedOrder,
    _cluster: &ClusterName,
    _ca: &[u8],
    _at: WallTime,
) -> Result<VerifiedOrder, AuthorityError> {
    Err(AuthorityError::NotChecked)
}
