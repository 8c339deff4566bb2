//! What a member has done about its own watchdog.

/// What is to become of the host's watchdog. Given only by a member that asked for leases ([`super::Input::Watchdog`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogOrder {
    /// Feed it now; the first time, arm it.
    Feed,
    /// Feed it no more: the host will be reset. Only told; not feeding is what does it.
    Stop,
    /// Disarm it: the ledger no longer counts on it.
    Disarm,
}
