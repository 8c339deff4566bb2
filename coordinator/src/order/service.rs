//! Orders about a host's compute service.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName};

use crate::fencing::FenceProof;
use crate::permit::Permit;
use crate::time::Moment;

/// Mark a proven-off host's compute service forced-down.
#[derive(Debug)]
pub struct ForceDownOrder {
    call: CallId,
    host: HostName,
    begin_before: Moment,
}

impl ForceDownOrder {
    pub(crate) fn new(call: CallId, permit: Permit, proof: &FenceProof) -> Self {
        let begin_before = permit.begin_before().min(proof.valid_until());
        Self { call, host: proof.host().clone(), begin_before }
    }

    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Whose service.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}

/// What becomes of a compute service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceChange {
    /// Nova's scheduler may use it.
    Enable,
    /// It may not. Never of a host that has died and is not forced down: Nova asks it, and waits for a minute.
    Disable {
        /// Why, in Nova's `disabled_reason`.
        reason: Text,
    },
    /// The forced-down mark, which we set, is taken away: its host came back.
    LetBack,
}

/// Enable or disable the compute service of a host, or take its forced-down mark away.
#[derive(Debug)]
pub struct ServiceOrder {
    call: CallId,
    host: HostName,
    change: ServiceChange,
    begin_before: Moment,
}

impl ServiceOrder {
    pub(crate) fn new(call: CallId, permit: Permit, host: HostName, change: ServiceChange) -> Self {
        Self { call, host, change, begin_before: permit.begin_before() }
    }

    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Whose service.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// What becomes of it.
    #[must_use]
    pub fn change(&self) -> &ServiceChange {
        &self.change
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}
