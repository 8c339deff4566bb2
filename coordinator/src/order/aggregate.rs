//! Orders about host aggregates: a reserved host joins those of a dead host, and leaves those that it joined for nothing.

use rekindle_proto::id::{AggregateId, CallId, HostName};

use crate::ledger::Taken;
use crate::permit::Permit;
use crate::time::Moment;

/// What becomes of a host's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateChange {
    /// It is added.
    Join,
    /// It is taken out.
    Leave,
}

/// Add a reserved host to an aggregate, or take it out again.
#[derive(Debug)]
pub struct AggregateOrder {
    call: CallId,
    host: HostName,
    aggregate: AggregateId,
    change: AggregateChange,
    begin_before: Moment,
}

impl AggregateOrder {
    /// `None`: the ledger does not have that membership as ours, begun or done. Then it is not ours to change: what an operator
    /// has added is never taken out, and what was not written down would not be known again.
    pub(crate) fn new(
        call: CallId,
        permit: Permit,
        taken: &Taken,
        aggregate: AggregateId,
        change: AggregateChange,
    ) -> Option<Self> {
        let state = taken.joins.state_of(aggregate)?;
        let begin_before = permit.begin_before();
        state.is_ours().then(|| Self { call, host: taken.host.clone(), aggregate, change, begin_before })
    }

    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Whose membership.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// In which aggregate.
    #[must_use]
    pub fn aggregate(&self) -> AggregateId {
        self.aggregate
    }
    /// What becomes of it.
    #[must_use]
    pub fn change(&self) -> AggregateChange {
        self.change
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}
