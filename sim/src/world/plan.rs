//! What a world is made of before anything happens in it, and what goes wrong in it by itself.

use std::collections::BTreeMap;

use rekindle_coordinator::policy::Policy;
use rekindle_proto::fact::RosterEntry;
use rekindle_proto::id::HostName;
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};
use serde::{Deserialize, Serialize};

/// Everything a world is built from. One plan, one world; one world and the same deeds, one log.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of every random choice.
    pub seed: u64,
    /// Hypervisors: `cmp-01`, `cmp-02`, …
    pub hosts: usize,
    /// Witnesses (they vote and have no servers): `wit-1`, `wit-2`, …
    pub witnesses: usize,
    /// Voters: 1, 3, 5 or 7. Witnesses first, then hypervisors, one domain after the other.
    pub voters: usize,
    /// Failure domains: `rack-1`, … Hypervisors are dealt out in runs of equal length. 0: no labels.
    pub domains: usize,
    /// Servers on each hypervisor.
    pub servers: usize,
    /// Networks: 1 `management`, 2 also `storage`, 3 also `tenant`.
    pub paths: usize,
    /// What goes wrong by itself.
    pub weather: Weather,
    /// Thresholds.
    pub policy: Policy,
    /// Whether the cluster is armed from the start.
    pub armed: bool,
    /// The members by name, if not empty: instead of hosts, witnesses, voters, domains and servers.
    pub members: Vec<PlannedMember>,
    /// Whether the word of fence devices is taken of which nothing can be read.
    pub unverified: bool,
    /// The format that the ledger is written in when it begins; `None`: the newest.
    pub ledger_format: Option<u32>,
    /// Whether hypervisors have boot gates.
    pub gates: bool,
    /// Whether what every daemon is told is recorded.
    pub records: bool,
    /// Whether it begins as a cluster that has run for hours (`world/formed.rs`), not with everybody's first start.
    pub formed: bool,
    /// Part of all servers that is not simply active: stopped, paused, in error, locked by its owner …, in percent.
    pub odd_servers: u8,
    /// What servers are like that are not like all others, in this order.
    pub dresses: Vec<Dress>,
    /// Hypervisors that keep a ledger and do not vote, to take a dead voter's place: the next ones after the voters.
    pub standbys: usize,
    /// For how many servers each host has room that no segment has reserved; `None`: for all.
    pub room: Option<usize>,
    /// Segments, with their hosts.
    pub segments: Vec<PlannedSegment>,
    /// Hosts on which every rebuild fails, and which Nova's scheduler takes before all others.
    pub failing: Vec<HostName>,
    /// The first host that takes an evacuation out of its queue dies before its claim.
    pub dies_claiming: bool,
    /// Host aggregates of Nova.
    pub aggregates: Vec<PlannedAggregate>,
}

/// What the servers of some names are like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dress {
    /// Their name, or a pattern: `vm-4-*`.
    pub name: String,
    /// Their metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Their project, by id and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Their rebuilds fail, wherever they are built.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broken: bool,
    /// Properties of the image they were made from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub image_property: BTreeMap<String, String>,
    /// The server group of that name, with the policy anti-affinity, of which they are members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
    /// The same with the policy affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<String>,
    /// Nova's scheduler lets only hosts of that aggregate run them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
}

/// A host aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedAggregate {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<HostName>,
    /// The availability zone that it makes of them: a host can be in one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A segment of the cluster, and what its reserved hosts are like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedSegment {
    /// Its name.
    pub name: SegmentWord,
    /// Where servers go.
    pub recovery_method: RecoveryMethod,
    /// Its hosts that are not reserved.
    pub hosts: Vec<HostName>,
    /// Its reserved hosts: their compute services are disabled, and they run nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<HostName>,
    /// For how many servers each reserved host has room; left out: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<usize>,
}

/// One member of a cluster that is given by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMember {
    /// Its line in the roster.
    pub entry: RosterEntry,
    /// Whether it votes.
    pub votes: bool,
    /// Servers on it.
    pub servers: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            hosts: 5,
            witnesses: 0,
            voters: 3,
            domains: 0,
            servers: 3,
            paths: 1,
            weather: Weather::CALM,
            policy: Policy::default(),
            armed: true,
            members: Vec::new(),
            unverified: false,
            ledger_format: None,
            gates: false,
            records: false,
            formed: false,
            odd_servers: 0,
            dresses: Vec::new(),
            standbys: 0,
            room: None,
            segments: Vec::new(),
            failing: Vec::new(),
            dies_claiming: false,
            aggregates: Vec::new(),
        }
    }
}

/// How the simulated network and cloud misbehave all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Part of all datagrams that is lost, in percent.
    pub loss_percent: u8,
    /// Part of all evacuate calls whose answer is lost, in percent.
    pub lost_answers_percent: u8,
    /// Part of all rebuilds that fail, in percent.
    pub failed_rebuilds_percent: u8,
    /// Part of all failed rebuilds that leave their guest running, in percent. Together with `meddling_percent` only where
    /// hosts have boot gates (I7): without one, a host that a person powers on while it cannot be fenced boots its guests
    /// beside such a copy, and nothing can keep it from that.
    pub leftover_percent: u8,
    /// Part of all evacuate calls that take up to ten seconds to arrive, in percent.
    pub slow_calls_percent: u8,
    /// Part of all proposals that are committed and whose answer is lost, in percent.
    pub lost_commits_percent: u8,
    /// Part of all fenced hosts that somebody powers on again, in percent.
    pub meddling_percent: u8,
    /// Whether the first host that an evacuation is built on dies meanwhile.
    pub dying_destination: bool,
    /// Part of the time a pair of hosts spends in a burst, in which half of its datagrams are lost (Gilbert-Elliott), in
    /// percent. Bursts last a second on average.
    pub burst_percent: u8,
    /// Part of all datagrams that arrives twice, in percent.
    pub duplicate_percent: u8,
    /// Part of all datagrams that is overtaken by later ones (late by up to 50 ms), in percent.
    pub reorder_percent: u8,
    /// Added to every datagram and message at most, evenly spread, in milliseconds.
    pub delay_ms: u16,
    /// Part of all Nova calls that is answered 503 and not done, in percent.
    pub nova_errors_percent: u8,
    /// Part of all evacuate calls that is answered 504 at once and arrives up to two minutes later, in percent.
    pub late_calls_percent: u8,
    /// Part of all evacuations whose cast reaches its destination twice (a broker that did not hear that it was taken), in
    /// percent.
    pub doubled_calls_percent: u8,
}

impl Weather {
    /// Nothing goes wrong by itself.
    pub const CALM: Self = Self {
        loss_percent: 0,
        lost_answers_percent: 0,
        failed_rebuilds_percent: 0,
        leftover_percent: 0,
        slow_calls_percent: 0,
        lost_commits_percent: 0,
        meddling_percent: 0,
        dying_destination: false,
        burst_percent: 0,
        duplicate_percent: 0,
        reorder_percent: 0,
        delay_ms: 0,
        nova_errors_percent: 0,
        late_calls_percent: 0,
        doubled_calls_percent: 0,
    };
}
