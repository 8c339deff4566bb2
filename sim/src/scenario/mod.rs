//! Scenarios: what a cluster is, what befalls it and when, and what is to come of it. One TOML file each, written for
//! operators (docs/simulator.md has the format); the random generator and the shrinker speak the same format.

use rekindle_coordinator::policy::AfterRecovery;
use rekindle_proto::id::{DomainName, HostName};
use rekindle_proto::status::Phase;
use serde::{Deserialize, Serialize};

use crate::deed::{Deed, PathWord, Span, Targets, WeatherWords};

mod check;
mod expect;
mod library;
mod parse;
mod plan;
mod run;
mod watch;

pub use check::{EVENTS_MAX, HOSTS_MAX, SERVERS_MAX};
pub use library::{find, library};
pub use parse::{ScenarioError, TEXT_BYTES_MAX};
pub use run::{Broken, End, Outcome, run, run_asking};
pub use watch::Watch;

/// Nothing goes wrong by itself.
pub use crate::world::Weather;
pub use crate::world::{Dress, PlannedAggregate, PlannedSegment};
/// Nothing goes wrong by itself.
pub const CALM: Weather = Weather::CALM;

/// One story with its expected end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// A short name: letters, digits and dashes.
    pub name: String,
    /// A paragraph for people: what happens, and what must come of it.
    pub about: String,
    /// Where the idea is from: `red-team 4`, `Pacemaker CTS near-quorum-point`, `random seed 7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// It is run with that many seeds, one after the other.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub seeds: u64,
    /// The first of them.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub first_seed: u64,
    /// When everything mends that can mend without a person. Left out: nothing mends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal: Option<Span>,
    /// When it ends and is judged.
    #[serde(default = "ten_minutes")]
    pub end: Span,
    /// It ends in the middle of the story: incidents may be open then. Else a run goes on until all have ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_ended: bool,
    /// The cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// What goes wrong all the time.
    #[serde(default, skip_serializing_if = "WeatherWords::is_calm")]
    pub weather: WeatherWords,
    /// What befalls it, in any order.
    #[serde(default, rename = "event", skip_serializing_if = "Vec::is_empty", deserialize_with = "parse::events")]
    pub events: Vec<Event>,
    /// What must come of it. All of it must be so, besides the promises that are always checked.
    #[serde(default, rename = "expect", skip_serializing_if = "Vec::is_empty", deserialize_with = "parse::expects")]
    pub expects: Vec<Expect>,
}

/// The cluster of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cluster {
    /// Hypervisors: `cmp-01`, `cmp-02`, …
    pub hosts: usize,
    /// Witnesses: `wit-1`, …
    pub witnesses: usize,
    /// Voters.
    pub voters: usize,
    /// Hypervisors that keep the ledger and do not vote: each can take a dead voter's place.
    #[serde(skip_serializing_if = "is_zero")]
    pub standbys: usize,
    /// Failure domains: `rack-1`, …, equal runs of hypervisors. 0: no labels.
    pub domains: usize,
    /// Servers on each hypervisor.
    pub servers: usize,
    /// Networks.
    pub paths: usize,
    /// Whether the cluster is armed.
    pub armed: bool,
    /// Whether the word of fence devices is taken of which nothing can be read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
    /// The format that the ledger is written in when it begins; left out: the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_format: Option<u32>,
    /// Whether hosts have boot gates.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gates: bool,
    /// Whether it has run for hours when the story begins: everybody knows everybody, the ledger is complete, somebody leads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub formed: bool,
    /// Thresholds that differ from the defaults.
    #[serde(skip_serializing_if = "PolicyWords::is_default")]
    pub policy: PolicyWords,
    /// Servers that are not simply active when it begins: stopped, paused, in error, locked by their owners …, in percent.
    #[serde(skip_serializing_if = "is_none")]
    pub odd_servers: u8,
    /// The members by name, instead of `hosts`, `witnesses`, `voters` and `domains`: a live cluster's.
    #[serde(rename = "member", skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// Servers that are not like all others: each table is about those of a name, or of a pattern.
    #[serde(rename = "server", skip_serializing_if = "Vec::is_empty")]
    pub dresses: Vec<Dress>,
    /// For how many servers each host has room that no segment has reserved. Left out: for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<usize>,
    /// Segments, their recovery methods, their hosts and reserved hosts.
    #[serde(rename = "segment", skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<PlannedSegment>,
    /// Hosts on which every rebuild fails, and which Nova's scheduler takes before all others: nothing stays there, so they
    /// are the emptiest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<HostName>,
    /// The first host that takes an evacuation out of its queue dies before it claims what that needs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dies_claiming: bool,
    /// Host aggregates of Nova. Servers can be bound to one.
    #[serde(rename = "aggregate", skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<PlannedAggregate>,
}

/// One member by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub host: HostName,
    /// It has no servers and is never fenced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub witness: bool,
    /// It votes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub votes: bool,
    /// Its failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// Servers on it.
    #[serde(default)]
    pub servers: usize,
}

fn is_none(percent: &u8) -> bool {
    *percent == 0
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            hosts: 5,
            witnesses: 0,
            voters: 3,
            standbys: 0,
            domains: 0,
            servers: 3,
            paths: 1,
            armed: true,
            unverified: false,
            ledger_format: None,
            gates: false,
            formed: false,
            policy: PolicyWords::default(),
            odd_servers: 0,
            members: Vec::new(),
            dresses: Vec::new(),
            room: None,
            segments: Vec::new(),
            failing: Vec::new(),
            dies_claiming: false,
            aggregates: Vec::new(),
        }
    }
}

/// Thresholds by the names they have in `rekindle.toml`'s `[policy]`; what is left out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyWords {
    /// SWIM period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_period: Option<Span>,
    /// Per try of a fence device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_timeout: Option<Span>,
    /// Off reads polled per attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_polls: Option<u32>,
    /// Attempts per topology level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence_tries: Option<u32>,
    /// Evacuate calls under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuations_at_once: Option<usize>,
    /// Evacuate attempts per server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuate_tries: Option<u32>,
    /// How long a call without a record may still have an effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuate_settle: Option<Span>,
    /// Hosts live under their own watchdog, and one that ran out is proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_fence: Option<bool>,
    /// How long the first off order waits for a word of the host's crash kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdump_wait: Option<Span>,
    /// And from that word, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdump_longest: Option<Span>,
    /// A host that is down on this path alone is a verdict too (a row of the path matrix).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_on: Option<PathWord>,
    /// Only servers that bear the mark (`HA_Enabled`) are recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_marked: Option<bool>,
    /// The first rule of the selection: servers of such a name are left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_name: Option<String>,
    /// The next: servers whose image has such a property, `key=pattern`. It takes a lookup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_image: Option<String>,
    /// The next: servers of a project of such a name. It takes a lookup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_project: Option<String>,
    /// Servers wait until all of higher priority are settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_previous: Option<bool>,
    /// At most for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_timeout: Option<Span>,
    /// What becomes of a fenced host once its failure is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_recovery: Option<AfterRecovery>,
    /// The site has a hook at every point of an incident, and a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<bool>,
    /// A reserved host joins the dead host's aggregates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_reserved_host_to_aggregate: Option<bool>,
}

impl PolicyWords {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that befalls the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// When.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// It is taken back after so long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// What.
    #[serde(flatten)]
    pub deed: Deed,
}

/// When an event befalls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Trigger {
    /// At that time.
    At {
        /// Since the start.
        at: Span,
    },
    /// When an incident reaches one of these phases: once for each phase, or each time.
    When(WhenPhase),
}

/// When an incident reaches a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WhenPhase {
    /// Which.
    pub when: Phases,
    /// Of these hosts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Targets>,
    /// So long after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// Each time, not only the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every: bool,
}

/// One phase or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a phase, or a list of phases: suspect, unclean, fencing, fenced, evacuating, recovered, \
                               refuted, stuck"
)]
pub enum Phases {
    /// One.
    One(Phase),
    /// Several.
    Many(Vec<Phase>),
}

impl Phases {
    /// Whether it names that one.
    #[must_use]
    pub fn contains(&self, phase: Phase) -> bool {
        match self {
            Self::One(one) => *one == phase,
            Self::Many(many) => many.contains(&phase),
        }
    }
}

/// How a rehearsal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RehearsalWord {
    /// Its fence devices are its own.
    Passed,
    /// They are not, or it was not shown, or not done.
    Failed,
    /// The host has not come back.
    Stuck,
    /// There was none.
    None,
}

/// A claim about what came of it. Claims about hosts hold for each host named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expect {
    /// About which hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Targets>,
    /// These phases were reached, in this order; others may lie between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub story: Option<Vec<Phase>>,
    /// Its last incident stands there at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Phase>,
    /// That phase was reached; see `by` and `not-before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaches: Option<Phase>,
    /// … at the latest then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Span>,
    /// … at the earliest then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Span>,
    /// It is stuck at the end, and the reason has these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
    /// At some time it was held back, and the reason had these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// At no time was it held back for a reason with these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheld: Option<String>,
    /// Its last rehearsal ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<RehearsalWord>,
    /// The story of its last rehearsal has these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<String>,
    /// It had so many incidents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incidents: Option<usize>,
    /// Exactly these hosts were powered off by us; an empty list: nobody was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<Targets>,
    /// At most so many hosts were powered off by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced_at_most: Option<usize>,
    /// At least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced_at_least: Option<usize>,
    /// Exactly these hosts have a recovered incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Targets>,
    /// So many servers run at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<usize>,
    /// Nova accepted so many evacuate calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuations: Option<usize>,
    /// The story has a line with these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// The story has no line with these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
    /// Nova was first asked to evacuate these servers in this order; others may lie between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Vec<String>>,
    /// These servers ran again in this order, each for the last time; others may lie between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_again: Option<Vec<String>>,
    /// Exactly these servers were left behind, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_behind: Option<Vec<String>>,
    /// … each for a reason with these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// So many servers run there at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<usize>,
    /// Exactly these hosts are reserved at the end; an empty list: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Vec<HostName>>,
    /// Exactly these hosts' compute services are disabled in Nova at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Vec<HostName>>,
}

fn one() -> u64 {
    1
}

// serde asks by reference.
fn is_one(seeds: &u64) -> bool {
    *seeds == 1
}

fn is_zero(standbys: &usize) -> bool {
    *standbys == 0
}

fn ten_minutes() -> Span {
    Span::from_secs(600)
}
