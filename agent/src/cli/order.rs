//! Orders: built here, signed with the operator's key, carried by whatever daemon, checked by every voter.

use std::path::Path;

use rekindle_coordinator::ledger::{OperatorCommand, OperatorOrder};
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::WallTime;
use uuid::Uuid;

use super::{Exit, Failure, pki};

/// Builds and signs an order for the cluster that the operator's certificate names.
///
/// # Errors
/// [`Failure`] if there is no reason, or certificate or key cannot be used.
pub(super) fn signed(
    certificate: &Path,
    key: &Path,
    command: OperatorCommand,
    reason: &str,
) -> Result<SignedOrder, Failure> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Failure::new(Exit::Refused, "--reason must not be empty: it is what the next operator reads"));
    }
    let identity = pki::identity_in(certificate)?;
    let order = OperatorOrder {
        cluster: identity.cluster,
        nonce: Uuid::new_v4().into_bytes(),
        signed_at: now(),
        reason: reason.into(),
        command,
    };
    pki::sign(certificate, key, &order)
}

fn now() -> WallTime {
    crate::clock::now().wall
}
