//! What a member has done about its own watchdog.

use crate::time::Moment;

/// What is to become of the host's watchdog. Given only to a member whose adapter told of one ([`super::Input::Watchdog`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogOrder {
    /// Feed it now; the first time, open it, which starts it.
    Feed {
        /// When the lease ends on which this rests: from then on it must not be done any more.
        until: Moment,
    },
    /// Feed it no more: the host will be reset. Only told; not feeding is what does it.
    Stop,
    /// Disarm it: the ledger no longer counts on it.
    Disarm,
}
