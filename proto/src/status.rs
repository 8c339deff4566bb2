//! The documents behind `rekindle status`, `members`, `incident`, `why` and `fence-test`. Field names are an interface:
//! they are added to, never renamed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capacity::CapacitySummary;
use crate::fact::{GateReport, MemberRole, PowerState, Text};
use crate::id::{
    BootId, ClusterName, DomainName, HostName, Incarnation, IncidentId, OperatorName, PathName, ProcessName, ServerId,
    Term, WallTime,
};
use crate::process::ProcessState;
use crate::segment::{ReserveDoc, SegmentWord};

/// Phases of an incident. See `rekindle-coordinator`'s `incident` module for what may follow what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// At least one member cannot reach the host; it may refute. Not yet in the ledger.
    Suspect,
    /// A quorum says it is gone; it may still be running guests.
    Unclean,
    /// Power-off has been ordered; there is no way back.
    Fencing,
    /// Power read back as off; its guests run nowhere.
    Fenced,
    /// Nova marked it forced-down; its servers are being rebuilt elsewhere.
    Evacuating,
    /// Each server runs elsewhere, or is listed as left behind with a reason.
    Recovered,
    /// It answered in time; nothing was done.
    Refuted,
    /// Nothing more is done by itself: a person is needed, and is told what to check.
    Stuck,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Suspect => "suspect",
            Self::Unclean => "unclean",
            Self::Fencing => "fencing",
            Self::Fenced => "fenced",
            Self::Evacuating => "evacuating",
            Self::Recovered => "recovered",
            Self::Refuted => "refuted",
            Self::Stuck => "stuck",
        })
    }
}

/// The whole picture, as the leader sees it (or, without a leader, what one member can say).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDoc {
    /// The cluster.
    pub cluster: ClusterName,
    /// Who made this document.
    pub told_by: HostName,
    /// When, on that member's wall clock.
    pub at: WallTime,
    /// The leader, if one is known.
    pub leader: Option<HostName>,
    /// Its term.
    pub term: Term,
    /// `None`: no roster yet (`rekindle init`). Else whether we act, or only watch.
    pub armed: Option<bool>,
    /// Why it was armed or disarmed, and by whom.
    pub armed_reason: Option<Text>,
    /// Roster members heard from lately, of all in the roster, and how many the 51 % brake needs.
    pub alive: u32,
    /// Roster size (hosts and witnesses).
    pub roster: u32,
    /// How many of the roster must answer before anything is done.
    pub needed: u32,
    /// The voters by name.
    pub voters: Vec<HostName>,
    /// One entry a roster member, sorted by name.
    pub hosts: Vec<HostLine>,
    /// Open incidents with their stories.
    pub incidents: Vec<IncidentDoc>,
    /// What an operator should know now: brakes that hold, devices that fail, Nova out of reach.
    pub alarms: Vec<Text>,
    /// Members heard, with a certificate of this cluster, that nobody has enrolled: they only propose themselves.
    #[serde(default)]
    pub strangers: Vec<HostName>,
    /// Disarmed for a time: how long until the cluster is armed again by itself, in milliseconds.
    #[serde(default)]
    pub armed_again_in_ms: Option<u64>,
    /// Whether the servers of one lost host would find room, by the leader's latest reading of Placement.
    #[serde(default)]
    pub capacity: Option<CapacitySummary>,
    /// Hypervisors that could not be proven off by any of their fence devices now, as the leader last read them; sorted.
    #[serde(default)]
    pub unfenceable: Vec<HostName>,
    /// The format that the ledger is written in; 0: not told.
    #[serde(default)]
    pub ledger_format: u32,
}

/// One host in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLine {
    /// Its name.
    pub host: HostName,
    /// Member or witness.
    pub role: MemberRole,
    /// Its failure domain.
    pub domain: Option<DomainName>,
    /// `alive`, `suspect`, `down`, `absent`, `agent-down`, `unseen`, `probation`, or an incident's phase, or `quarantined`.
    pub state: Text,
    /// Since when, in milliseconds before [`StatusDoc::at`].
    pub for_ms: Option<u64>,
    /// Its life number, if it was ever heard.
    pub incarnation: Option<Incarnation>,
    /// Its boot, if known.
    pub boot: Option<BootId>,
    /// In maintenance: never acted upon.
    pub maintenance: bool,
    /// Its fence devices, shortly: `ipmi-tool on, bound`.
    pub devices: Text,
    /// How many guests ran there when it last said.
    pub guests: Option<u32>,
    /// Remarks, `leader` among them.
    pub notes: Vec<Text>,
    /// The host on each network, as the teller hears it; sorted as configured.
    #[serde(default)]
    pub paths: Vec<PathLine>,
    /// Signs of life although its daemon does not answer, and who saw them.
    #[serde(default)]
    pub signs: Vec<Text>,
    /// Its boot gate, by its own last word; `None`: it has not said.
    #[serde(default)]
    pub gate: Option<GateReport>,
    /// Its segment; `None`: in none, which is recovered as with `auto`.
    #[serde(default)]
    pub segment: Option<SegmentWord>,
    /// The processes that are watched there, by its own last word.
    #[serde(default)]
    pub processes: Vec<ProcessState>,
}

/// One host on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathLine {
    /// Which network.
    pub path: PathName,
    /// `alive`, `suspect`, `down`, or `unseen`.
    pub state: Text,
    /// The host says itself that it hears nobody there.
    pub lost: bool,
}

/// The answer to a boot gate: may guests start on that host, in that boot?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateDoc {
    /// Which host.
    pub host: HostName,
    /// In which boot. An answer about another boot opens nothing.
    pub boot: BootId,
    /// Whether guests may start.
    pub open: bool,
    /// Why, and if not, what has to happen first.
    pub why: Text,
}

/// Gossip as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersDoc {
    /// Whose view.
    pub told_by: HostName,
    /// Sorted by name.
    pub members: Vec<MemberLine>,
}

/// One member in gossip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLine {
    /// Its name; `None` when it is not in the roster and never spoke to us.
    pub host: Option<HostName>,
    /// Where it listens.
    pub address: String,
    /// `alive`, `suspect` or `down`.
    pub state: Text,
    /// Its life number.
    pub incarnation: Incarnation,
    /// How long it has been in that state, in milliseconds.
    pub for_ms: u64,
}

/// One line of `rekindle incident`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentLine {
    /// Its number.
    pub id: IncidentId,
    /// The host that failed, or on which a guest failed.
    pub host: HostName,
    /// The guest, if only a guest failed.
    pub server: Option<ServerId>,
    /// Where it stands.
    pub phase: Phase,
    /// When it began.
    pub began: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// Servers recovered / left behind / all.
    pub recovered: u32,
    /// Servers given up, each with its reason in the story.
    pub left_behind: u32,
    /// Servers concerned.
    pub servers: u32,
    /// The host came back in another boot: its guests are started in place, `evacuating` means that this is under way.
    #[serde(default)]
    pub rebooted: bool,
    /// No host failed, but this process of one: nothing is fenced and nothing moved; its compute service is disabled.
    #[serde(default)]
    pub process: Option<ProcessName>,
    /// Nothing failed: an operator had the host's fencing rehearsed. `unclean` means that it is looked at whether that may be
    /// done, `fencing` that it is switched off, `fenced` that it is to come back; then `recovered` means that it has passed.
    #[serde(default)]
    pub rehearsal: bool,
}

/// The story of one incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentDoc {
    /// The head.
    pub line: IncidentLine,
    /// What happened, in order.
    pub story: Vec<StoryLine>,
    /// Each server of the host, in the order in which they are recovered.
    pub servers: Vec<ServerLine>,
    /// What holds it now, if anything (a brake, a wait, a person's decision).
    pub held_by: Vec<Text>,
    /// How far its servers are, once they are listed.
    #[serde(default)]
    pub progress: Option<ProgressDoc>,
    /// Where its servers go, once that is settled: where its segment's method says so.
    #[serde(default)]
    pub reserve: Option<ReserveDoc>,
    /// Every order to power it off, oldest first, with what its devices said.
    #[serde(default)]
    pub fences: Vec<FenceLine>,
}

/// One order to power a host off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceLine {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it was committed, on the then leader's wall clock.
    pub at: Option<WallTime>,
    /// Who led, and gave the order.
    pub by: Option<HostName>,
    /// The voter that executed it for the leader; none: the leader itself.
    pub executor: Option<HostName>,
    /// In which term.
    pub term: Term,
    /// The topology level.
    pub level: u8,
    /// All devices of it.
    pub devices: Vec<String>,
    /// When nothing of it was begun any more.
    pub not_after: WallTime,
    /// `proven`, `failed` or `under-way`; a proof that was voided later is told by the story.
    pub result: Text,
    /// Each device's readings, or why there is no proof.
    pub readings: Vec<Text>,
}

/// How far the servers of an incident are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressDoc {
    /// Those that run again, are left behind, or were deleted.
    pub settled: u32,
    /// All of them.
    pub servers: u32,
    /// How long the rest will take by the pace so far, in milliseconds; `None`: there is no pace yet, or nobody leads here.
    pub remaining_ms: Option<u64>,
    /// By priority, the most urgent first.
    pub priorities: Vec<PriorityLine>,
    /// How many were settled per minute since the evacuation began, or since this leader took over; `None`: none yet.
    #[serde(default)]
    pub per_minute: Option<u32>,
    /// How many evacuations Nova is given at once at the moment, over all incidents; `None`: none, or nobody leads here.
    #[serde(default)]
    pub at_once: Option<u32>,
}

/// The servers of one priority.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PriorityLine {
    /// 0 to 100.
    pub priority: u8,
    /// All of them.
    pub servers: u32,
    /// Those that run again.
    pub recovered: u32,
    /// Those that are left behind, or were deleted.
    pub left_behind: u32,
    /// Those that Nova is asked to evacuate now.
    pub under_way: u32,
    /// Those that have arrived, and wait for what is left to be done: their start in its turn, an unlock.
    #[serde(default)]
    pub arrived: u32,
}

/// One moment of a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    /// When, on the then leader's wall clock.
    pub at: WallTime,
    /// The phase it began, or was in.
    pub phase: Phase,
    /// What happened, with the evidence.
    pub text: Text,
    /// The operator whose order it was.
    pub operator: Option<OperatorName>,
}

/// One server of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLine {
    /// Its id.
    pub server: ServerId,
    /// Its name in Nova.
    pub name: Text,
    /// `waiting`, `evacuating`, `recovered`, `left-behind`.
    pub state: Text,
    /// Where it runs now, if recovered.
    pub to: Option<HostName>,
    /// Evacuate calls sent.
    pub attempts: u32,
    /// Why it waits or was left behind.
    pub reason: Option<Text>,
    /// How urgent it is, 0 to 100, where it has an order.
    #[serde(default)]
    pub priority: Option<u8>,
}

/// The answer to `rekindle why HOST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyDoc {
    /// Which host.
    pub host: HostName,
    /// Whether its servers would be recovered if it died now.
    pub protected: bool,
    /// Each guard, by name, with its figures.
    pub guards: Vec<GuardLine>,
    /// What would be done, in order.
    pub plan: Vec<Text>,
    /// Whether its servers would find room elsewhere, by the last reading of Placement. It holds nothing.
    #[serde(default)]
    pub capacity: Option<Text>,
}

/// One guard of `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardLine {
    /// Its name: `armed`, `maintenance`, `quorum`, `fence-device`, ….
    pub guard: Text,
    /// Whether it would let the recovery pass.
    pub passes: bool,
    /// Its figures, or what to do.
    pub text: Text,
}

/// One device of `rekindle fence-test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceTestLine {
    /// Whose device.
    pub host: HostName,
    /// Topology level, 1 to 9.
    pub level: u8,
    /// `driver@address`.
    pub device: String,
    /// What it read.
    pub power: Option<PowerState>,
    /// Whether its GUID equals the host's own system UUID.
    pub bound: bool,
    /// What is wrong, or a remark.
    pub text: Text,
}
