//! A host that said goodbye: what its silence means, and for how long.

use std::time::Duration;

use rekindle_proto::fact::StopReason;
use rekindle_proto::id::{BootId, HostName, Incarnation, WallTime};
use serde::{Deserialize, Serialize};

use super::clock::LedgerTime;
use super::state::Ledger;

/// An absence longer than this is an alarm, in milliseconds: a restart of the daemon takes a second, a package upgrade some.
pub const ABSENCE_ALARM_MS: u64 = 2 * 60 * 1_000;

/// A goodbye that holds: the host has not been heard in a later life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// In which boot it was said.
    pub boot: BootId,
    /// In which life. A later one takes it back.
    pub life: Incarnation,
    /// Why.
    pub why: StopReason,
    /// Since when, for people.
    pub at: WallTime,
    /// Since when, in the ledger's time.
    pub since: LedgerTime,
    /// Something was seen to live there since, by a leader: from then on its silence says something.
    pub answered: bool,
}

impl Absence {
    /// When the wait for a host that reboots or powers off is over; `None`: only its daemon stopped, nothing is waited for.
    #[must_use]
    pub fn wait_ends(&self, wait_ms: u64) -> Option<LedgerTime> {
        match self.why {
            StopReason::Daemon => None,
            StopReason::Reboot | StopReason::PowerOff => Some(self.since.after_ms(wait_ms)),
        }
    }

    /// When it becomes an alarm.
    #[must_use]
    pub fn alarm_at(&self) -> LedgerTime {
        self.since.after_ms(ABSENCE_ALARM_MS)
    }
}

/// What is done about a host that said that it reboots or powers off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnShutdown {
    /// It is given that long to return; then its silence is judged as any other.
    Wait(Duration),
    /// Its silence is judged as any other at once.
    Recover,
    /// Nothing: it stays absent until it returns.
    Ignore,
}

impl OnShutdown {
    /// How long is waited, if at all, in milliseconds.
    #[must_use]
    pub fn wait_ms(self) -> Option<u64> {
        match self {
            Self::Wait(wait) => Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            Self::Recover | Self::Ignore => None,
        }
    }
}

/// Whether the kernel of a silent host still answers, by those who looked. (`None` where it is asked for: nobody looked.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelLife {
    /// It answers on at least one path.
    Answers,
    /// It answered before, and does so no more, on any path.
    Ended,
}

/// What an absent host's silence means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It is explained: nothing is done.
    Explained,
    /// It is suspect like any other.
    Suspect,
}

/// What an absent host's silence means, `waited_ms` after its goodbye.
#[must_use]
pub fn silence(why: StopReason, waited_ms: u64, policy: OnShutdown, kernel: Option<KernelLife>) -> Silence {
    match (why, policy, kernel) {
        (StopReason::Daemon, _, Some(KernelLife::Ended)) => Silence::Suspect,
        (StopReason::Daemon, _, Some(KernelLife::Answers) | None) => Silence::Explained,
        (StopReason::Reboot | StopReason::PowerOff, OnShutdown::Recover, _) => Silence::Suspect,
        (StopReason::Reboot | StopReason::PowerOff, OnShutdown::Ignore, _) => Silence::Explained,
        (StopReason::Reboot | StopReason::PowerOff, OnShutdown::Wait(wait), _) => {
            if u128::from(waited_ms) < wait.as_millis() { Silence::Explained } else { Silence::Suspect }
        }
    }
}

impl Ledger {
    /// The goodbye of a host that holds, if any.
    #[must_use]
    pub fn absence(&self, host: &HostName) -> Option<&Absence> {
        self.hosts.get(host).and_then(|record| record.absence.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_absence_table() {
        use KernelLife::{Answers, Ended};
        use OnShutdown::{Ignore, Recover};
        use Silence::{Explained, Suspect};
        use StopReason::{Daemon, PowerOff, Reboot};
        let wait = OnShutdown::Wait(Duration::from_secs(600));
        let rows = [
            (Daemon, 0, wait, None, Explained),
            (Daemon, u64::MAX, wait, None, Explained),
            (Daemon, u64::MAX, Recover, None, Explained),
            (Daemon, 0, wait, Some(Answers), Explained),
            (Daemon, 0, wait, Some(Ended), Suspect),
            (Daemon, 0, Ignore, Some(Ended), Suspect),
            (Reboot, 0, wait, None, Explained),
            (Reboot, 599_999, wait, None, Explained),
            (Reboot, 600_000, wait, None, Suspect),
            (PowerOff, 599_999, wait, Some(Ended), Explained),
            (PowerOff, 600_000, wait, Some(Answers), Suspect),
            (Reboot, 0, Recover, None, Suspect),
            (PowerOff, 0, Recover, None, Suspect),
            (Reboot, u64::MAX, Ignore, None, Explained),
            (PowerOff, u64::MAX, Ignore, Some(Ended), Explained),
        ];
        for (why, waited_ms, policy, kernel, expected) in rows {
            assert_eq!(silence(why, waited_ms, policy, kernel), expected, "{why:?} {waited_ms} {policy:?} {kernel:?}");
        }
    }
}
