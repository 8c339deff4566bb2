//! What commands carry: who testified, what was read, how it ended.

use rekindle_proto::fact::{DeviceName, LifeSign, MigrationStatus, PathFinding, Text};
use rekindle_proto::id::{HostName, MigrationId, PathName, ServerId};
use serde::{Deserialize, Serialize};

use super::super::restoration::RestorePlan;

/// On whose word a host was judged gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// How many could have testified.
    pub eligible: u32,
    /// How many had to.
    pub needed: u32,
    /// Who did, and what each found.
    pub testimonies: Vec<TestimonyRecord>,
    /// Roster members who answered the roll call.
    pub present: u32,
    /// Roster size at that moment.
    pub roster: u32,
    /// The one network on which all of this was counted, if the operator's matrix lets it suffice; `None`: every network.
    #[serde(default)]
    pub path: Option<PathName>,
}

/// One member's testimony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestimonyRecord {
    /// Who.
    pub accuser: HostName,
    /// What it found, per path.
    pub findings: Vec<PathFinding>,
    /// What it found to live there.
    #[serde(default)]
    pub signs: Vec<LifeSign>,
    /// Milliseconds after the suspicion began at which the leader had it, on the leader's monotonic clock.
    #[serde(default)]
    pub after_ms: u64,
}

/// The evidence that a host is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRecord {
    /// The topology level whose devices all confirmed.
    pub level: u8,
    /// Each device's readings.
    pub devices: Vec<OffReads>,
}

/// Two (or more) off readings of one device, after our own off order to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffReads {
    /// Which device.
    pub device: DeviceName,
    /// Whether it said *on* before our order and *off* after it. If not, somebody may be power-cycling the host: it is
    /// watched closely for a minute.
    pub seen_going_off: bool,
    /// Milliseconds between the first and the last off reading. At least 1,000.
    pub apart_ms: u64,
    /// Milliseconds from our order to the first off reading.
    #[serde(default)]
    pub after_ms: u64,
    /// Nothing could be read: the device only said that it did what it was told, and the operator accepts its word. The times
    /// are those of the vain readings.
    #[serde(default)]
    pub unverified: bool,
}

/// What is to become of a server of the dead host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedServer {
    /// Which.
    pub server: ServerId,
    /// Its name.
    pub name: Text,
    /// Nova's `vm_state` before we touched it.
    pub vm_state: Text,
    /// `None`: to be evacuated. Else why it is left behind.
    pub left_behind: Option<Text>,
    /// What is to become of its state.
    #[serde(default)]
    pub restore: RestorePlan,
    /// How urgent it is, 0 to 100: higher ones are evacuated first.
    #[serde(default = "priority_default")]
    pub priority: u8,
    /// Whether it bears the mark of the selection: before others of the same priority.
    #[serde(default)]
    pub marked: bool,
    /// What has to be read before it is known whether it is to be evacuated at all; `None`: it is known.
    #[serde(default)]
    pub undecided: Option<Text>,
}

/// The priority of a server of which none is written down.
pub(in crate::ledger) fn priority_default() -> u8 {
    super::super::PRIORITY_DEFAULT
}

/// How an evacuate intent ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntentEnd {
    /// Certainly not sent.
    NotSent(Text),
    /// Nova refused it (4xx).
    Refused(Text),
    /// A newer migration record of the server is final.
    Migration {
        /// Which record.
        id: MigrationId,
        /// How it ended.
        status: MigrationStatus,
        /// Where it went.
        dest: Option<HostName>,
        /// Nova's scheduler found no host for it, or no room on the one that was asked for: nothing was begun.
        #[serde(default)]
        no_host: bool,
    },
    /// No newer migration record appeared in the settling time after the call.
    NoneAppeared,
    /// The newest migration record of the server is under way to a host that is proven off: it will never end.
    DestinationOff {
        /// Which record.
        id: MigrationId,
        /// Where it went.
        dest: HostName,
    },
}

/// A server's fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Nova shows it on another host, its migration done, no task under way.
    Recovered {
        /// Where.
        to: HostName,
    },
    /// Not recovered by us.
    LeftBehind {
        /// Why.
        why: Text,
    },
    /// Deleted by its owner meanwhile.
    Deleted,
}
