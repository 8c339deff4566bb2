//! Time as the ledger knows it: milliseconds that leaders have seen pass on their own monotonic clocks, and have committed.
//!
//! What must end after a while (a disarm with a limit, a quarantine, the wait for a host that reboots) ends when an entry
//! says that so much time has passed, on every voter at the same entry. No wall clock is asked: a clock that jumps neither
//! arms a cluster nor ends a quarantine. Time in which nobody led is not counted, so that waits only ever grow longer.

use serde::{Deserialize, Serialize};

use super::state::Ledger;

/// Most that one entry may add, in milliseconds: a leader commits at least that often while something waits, and a wrong
/// entry does little harm.
pub const ELAPSE_MAX_MS: u32 = 60_000;

/// A moment of the ledger's own time, in milliseconds since the ledger began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LedgerTime(pub u64);

impl LedgerTime {
    /// That much later.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long ago `earlier` was, in milliseconds; zero if it is later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A disarm that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisarmLimit {
    /// When the cluster is armed again.
    pub until: LedgerTime,
}

impl Ledger {
    /// How much longer the cluster stays disarmed; `None`: it is armed, or disarmed without a limit.
    #[must_use]
    pub fn armed_again_in_ms(&self) -> Option<u64> {
        let limit = self.disarm_limit.filter(|_| !self.arming.armed)?;
        Some(limit.until.millis_since(self.time))
    }

    /// The next moment at which something ends by itself. `None`: nothing waits, and no time need be committed.
    ///
    /// `shutdown_wait_ms`: how long a host that said that it reboots is waited for.
    #[must_use]
    pub fn next_end(&self, shutdown_wait_ms: Option<u64>) -> Option<LedgerTime> {
        let disarm = self.disarm_limit.filter(|_| !self.arming.armed).map(|limit| limit.until);
        let hosts = self.hosts.values().flat_map(|record| {
            let wait = shutdown_wait_ms.and_then(|wait| record.absence.as_ref()?.wait_ends(wait));
            let alarm = record.absence.as_ref().map(|absence| absence.alarm_at());
            [record.flap.next_end(self.time), wait, alarm].into_iter().flatten()
        });
        disarm.into_iter().chain(hosts).chain(self.voters.rests_until()).filter(|end| *end > self.time).min()
    }
}
