//! The record of a host's armed watchdog: committed before the first feed, withdrawn before it is disarmed.

use rekindle_proto::fact::{Text, Watchdog};
use rekindle_proto::id::{BootId, CallId, HostName, Incarnation, WallTime};
use serde::{Deserialize, Serialize};

use super::state::Ledger;
use crate::mutant::{Guard, keeps};

/// When a member asked for something, by its own count: what arrives late must not undo what came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// In which life of the member.
    pub life: Incarnation,
    /// The number of its question.
    pub call: CallId,
}

/// What is known of a host's watchdog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogRecord {
    /// The latest question that was taken in.
    pub stamp: Stamp,
    /// `None`: withdrawn.
    pub armed: Option<ArmedWatchdog>,
}

/// A watchdog that resets its host unless it is fed under a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedWatchdog {
    /// In this boot, and in no other.
    pub boot: BootId,
    /// Which, and its time-out.
    pub watchdog: Watchdog,
    /// Since when, for the story.
    pub at: WallTime,
}

impl Ledger {
    /// The watchdog of a host, if it is armed in that very boot.
    #[must_use]
    pub fn armed_watchdog(&self, host: &HostName, boot: BootId) -> Option<&ArmedWatchdog> {
        let record = self.hosts.get(host)?.watchdog.as_ref()?;
        record.armed.as_ref().filter(|armed| armed.boot == boot)
    }

    /// The same, if the host has said since that it runs. Only this one proves anything: it is armed before the first feed,
    /// and a host that was cut off in between has a watchdog that never began.
    #[must_use]
    pub fn running_watchdog(&self, host: &HostName, boot: BootId) -> Option<&ArmedWatchdog> {
        self.armed_watchdog(host, boot).filter(|armed| armed.watchdog.running || !keeps(Guard::WatchdogRuns))
    }
}

/// Why the watchdog of a host, in that boot, proves nothing, for people.
#[must_use]
pub fn not_armed(ledger: &Ledger, host: &HostName, boot: Option<BootId>) -> Text {
    match ledger.hosts.get(host).and_then(|record| record.watchdog.as_ref()) {
        None => "its watchdog was never armed".into(),
        Some(WatchdogRecord { armed: None, .. }) => "its watchdog was disarmed".into(),
        Some(WatchdogRecord { armed: Some(armed), .. }) if Some(armed.boot) == boot => {
            "its watchdog was armed, and never said to run".into()
        }
        Some(WatchdogRecord { armed: Some(_), .. }) => "its watchdog was armed in another boot".into(),
    }
}
