//! The document behind `rekindle capacity`: would the servers of lost hosts find room on the others? An estimate: Nova's
//! scheduler decides, and it knows rules that are not in here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fact::Text;
use crate::id::{HostName, ServerId, WallTime};

/// Most hosts that may be lost at once in one question: with more, the number of ways to lose them says nothing any more.
pub const LOSE_MAX: u8 = 4;

/// Amounts by resource class, as Placement names them: `VCPU`, `MEMORY_MB`, `DISK_GB`, ….
pub type Amounts = BTreeMap<String, u64>;

/// What `rekindle capacity` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityDoc {
    /// When Placement was read.
    pub at: WallTime,
    /// How many hosts are lost at once.
    pub lose: u8,
    /// The host that is among the lost ones, if the question named one.
    pub host: Option<HostName>,
    /// Whether, by this estimate, every loss that was tried leaves room for all servers.
    pub survives: bool,
    /// Losses tried.
    pub tried: u64,
    /// Losses there are; more than `tried`: only those of the heaviest hosts were.
    pub of: u64,
    /// Of the tried ones, those after which some server would find no room.
    pub failing: u64,
    /// Losses, worst first. Of one host: each; of several: those that fail. Cut at a bound; `failing` counts all.
    pub losses: Vec<LossLine>,
    /// Each resource class over all hosts that may receive servers now.
    pub classes: Vec<ClassLine>,
    /// Hosts that receive no servers, and why: `disabled`, `down`, a maintenance, a quarantine.
    pub closed: BTreeMap<HostName, Text>,
    /// Hosts that may receive servers.
    pub open: u32,
    /// What is not in the estimate.
    pub notes: Vec<Text>,
}

/// The loss of some hosts at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossLine {
    /// Which are lost.
    pub hosts: Vec<HostName>,
    /// Servers on them.
    pub servers: u32,
    /// Those that would find no room.
    pub unfit: u32,
    /// By class, what those want in all.
    pub short: Amounts,
    /// The largest of them.
    pub named: Vec<UnfitLine>,
}

/// A server that would find no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfitLine {
    /// Which: a server, or the migration that holds resources for one.
    pub server: ServerId,
    /// What it wants.
    pub wants: Amounts,
    /// Why there is no room, in words.
    pub why: Text,
}

/// One resource class, over all hosts that may receive servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLine {
    /// Its name.
    pub class: String,
    /// (total - reserved) · allocation ratio, summed.
    pub capacity: u64,
    /// Allocated.
    pub used: u64,
    /// Free on the host with most of it.
    pub most_free: u64,
}

/// Capacity in `status`: the latest reading, for the loss of any one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacitySummary {
    /// When Placement was read; `None`: never since this leader began.
    pub at: Option<WallTime>,
    /// Hosts whose loss was tried.
    pub tried: u64,
    /// Hosts whose servers would not all find room.
    pub failing: u64,
    /// The most servers that the loss of one host would leave without room.
    pub unfit: u32,
    /// Free by class, on hosts that may receive servers.
    pub free: Amounts,
    /// Why the last attempt to read failed.
    pub error: Option<Text>,
}
