//! What must never happen, each checked against the ground truth, whatever the coordinators believe.
//!
//! Safety is judged while it happens: [`crate::world`] tells the [`Oracle`] of every act and of every agreed entry. Liveness is
//! judged when everything has healed, by [`all_end`], [`stuck_for_a_cause`] and the world's own look at who runs where.
//!
//! That each of these is seen is proven by `sim/tests/mutants`: every kind of violation is tripped there by switching a guard
//! off, or is excused by name.
//!
//! | rule (design, section 3) | violation |
//! |---|---|
//! | headline | [`Violation::RunsTwice`] |
//! | I1 | [`Violation::EvacuatedFromPowered`], [`Violation::EvacuatedWithoutProof`] |
//! | I2 | [`Violation::FencedWrongMachine`], [`Violation::ProvenWithoutReads`] |
//! | I3 | [`Violation::TwoLeaders`], [`Violation::FencedByMinority`], [`Violation::ActedDeposed`], [`Violation::TwoElected`] |
//! | I4 | [`Violation::FencedUnderBrake`], [`Violation::TooFast`], [`Violation::ColdStart`], [`Violation::RehearsedUnfit`], [`Violation::DumpCutShort`] |
//! | I5 | [`Violation::PoweredOnEarly`], [`Violation::FencedWithoutIncident`], [`Violation::OffTooLate`], [`Violation::BegunLate`], [`Violation::TwoIncidents`], [`Violation::WrittenAfterClosing`], [`Violation::ProofOutlivesEpoch`], [`Violation::Diverged`], [`Violation::VotersWorse`] |
//! | I6 | [`Violation::HeardAndFenced`] |
//! | I7 | [`Violation::StartedBeforeGate`] |
//! | I8 | [`Violation::Unbounded`] |
//! | I9 | [`Violation::Panicked`] |
//! | I10 and liveness | [`Violation::NeverEnds`], [`Violation::NeverNoticed`], [`Violation::Lost`], [`Violation::StuckWithoutCause`], [`Violation::NotReplaced`] |
//! | I11 | [`Violation::CalledTwice`] |
//! | state (section 5, I6) | [`Violation::LockLeft`], [`Violation::OwnersLock`], [`Violation::ActedBeforeArrival`], [`Violation::NotRestored`], [`Violation::LeftDisabled`] |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::DeviceName;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{BootId, CallId, HostName, IncidentId, ServerId, Term};

mod agreed;
mod evacuations;
mod fences;
mod hooks;
mod liveness;
mod place;
mod violation;
mod voters;

pub use agreed::{no_proof_outlives, one_incident_a_host, written_while_open};
pub use evacuations::never_twice;
pub use liveness::{all_end, stuck_for_a_cause};
pub use violation::Violation;
pub use voters::voters_no_worse;

/// What is agreed binds an act begun this much later: an order rests on a check that may be half a second old (I3), and is on
/// its way for at most 60 ms. Anything beyond is an act that nothing allowed.
pub const BINDS_AFTER: Duration = Duration::from_millis(600);
/// After an order's not-after, how late a device may execute it (I5): the minute that the daemon waits before it lets a host
/// back. A later device is beyond what is promised, and beyond what the world's slowest does (twenty seconds).
pub const OFF_SETTLE: Duration = Duration::from_secs(60);
/// Most hosts that may be fenced within [`RATE_WINDOW`]: three at once, then one each ten seconds (design, section 4).
pub const RATE_MAX: usize = 9;
/// See [`RATE_MAX`].
pub const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Most hooks of the site that one daemon may run at once (I8; docs/integration.md).
pub const HOOKS_AT_ONCE: usize = 4;
/// A roll call may speak for this long: ten seconds by the daemon's own bound, the second that it takes, and half a second of
/// the permit that rests on it.
pub const ROLL_SPEAKS: Duration = Duration::from_secs(12);
/// A cold start is over after this time, or when most of the roster has been seen (design, section 4).
pub const COLD_START: Duration = Duration::from_secs(300);
/// How much of the roster must have been seen before, in percent.
pub const COLD_START_SEEN_PERCENT: usize = 80;
/// How long before an incident a cut may have ended and still leave it stuck: what was read of a device before the incident
/// counts for ten seconds in it, and a command that hangs is given up after twenty.
pub const CUT_ECHO: Duration = Duration::from_secs(30);
/// Between the two off readings of a proof: a second by the leader's own clock, which runs up to 500 parts in a million fast.
pub const READS_APART: Duration = Duration::from_millis(999);
/// How long after others have gone on without it a leader may still act: an answer to its last check may have been on its way
/// to a starved machine for the second in which its adapter gives it up, and then holds for half a second.
pub const DEPOSED_ACTS: Duration = Duration::from_secs(2);

/// What the oracle remembers of acts, to judge later ones by.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Who gave the off orders of (incident, attempt): host and life of its daemon.
    off_orders: BTreeMap<(IncidentId, u32), (HostName, u32)>,
    /// When the first off order of (incident, attempt) was given: the ledger's not-after is a wall clock's, this is the world's.
    first_ordered: BTreeMap<(IncidentId, u32), Moment>,
    /// What voters were told to execute, by the leader's call; and what they asked about it, by their own.
    tasks: BTreeMap<CallId, (IncidentId, u32, DeviceName)>,
    asked: BTreeMap<CallId, (IncidentId, u32, DeviceName)>,
    /// Until when what a voter executes may be begun, and when it is killed, by the world's clock.
    granted: BTreeMap<(IncidentId, u32, DeviceName), (Moment, Moment)>,
    /// When the driver of each host's last off order was killed at the latest.
    offs_over: BTreeMap<HostName, Moment>,
    /// Who sent the evacuate call of (incident, server, attempt).
    calls: BTreeMap<(IncidentId, ServerId, u32), (HostName, u32)>,
    /// When each evacuate intent was agreed.
    intents: BTreeMap<(IncidentId, ServerId, u32), Moment>,
    /// When each host was first ordered off, by incident.
    fences: VecDeque<(Moment, IncidentId)>,
    /// When each open incident was agreed, and the boot it is about.
    opened: BTreeMap<HostName, (Moment, Option<BootId>)>,
    /// When a leader, in one life of its daemon and while it led, heard the host of an open incident.
    heard: BTreeMap<(HostName, u32, HostName), (Moment, BootId)>,
    /// When the valid proof of an incident was lost.
    proof_lost: BTreeMap<IncidentId, Moment>,
    had_proof: BTreeSet<IncidentId>,
    /// Since when a brake has held each host, or all (`None`).
    braked: BTreeMap<Option<HostName>, Moment>,
    /// Since when fewer than 51 % of the roster can be reached by a voter.
    pub(crate) lacking: BTreeMap<HostName, (Moment, usize)>,
    /// Who has run since the cluster began, or since everything was down at once.
    pub(crate) seen: BTreeSet<HostName>,
    pub(crate) began: Moment,
    /// The operator takes the word of devices of which nothing can be read.
    pub(crate) takes_words: bool,
    /// Since when each host's device has said nothing but off, and how long it did so at most since the attempt began: what
    /// was proven and is not yet agreed is not unproven by somebody at the button.
    off_reads: BTreeMap<HostName, (Option<Moment>, Duration)>,
    /// The attempts of which an off order has reached a device: only what it said after that proves anything.
    offs_reached: BTreeSet<(IncidentId, u32)>,
    /// The latest term of which an entry is agreed, and since when.
    term: Option<(Term, Moment)>,
    /// What was done to each host that may leave an incident stuck.
    pub causes: BTreeMap<HostName, BTreeSet<&'static str>>,
    /// The same for all hosts.
    pub causes_of_all: BTreeSet<&'static str>,
    /// Since when a voter has not reached the devices and Nova: it may lead.
    cut: Option<Moment>,
    /// When that was last over.
    cut_ended: Option<Moment>,
    /// Whether each stuck incident may be so because whoever led did not reach a device: a cut that was over when the incident
    /// began, or that began when it was stuck already, is no cause.
    stuck: BTreeMap<IncidentId, bool>,
    /// Who ran each hook of each incident.
    hooks: BTreeMap<(IncidentId, HookPoint, usize), HostName>,
    /// When each daemon's running hooks end.
    hooks_running: BTreeMap<(HostName, u32), Vec<Moment>>,
}

impl Oracle {
    /// An oracle at the beginning. `takes_words`: what a device says of itself counts where nothing can be read of it.
    pub(crate) fn taking_words(takes_words: bool) -> Self {
        Self { takes_words, ..Self::default() }
    }

    /// Whether any host's voice matters at the moment.
    pub(crate) fn is_watching(&self) -> bool {
        !self.opened.is_empty()
    }

    pub(crate) fn hears(&mut self, leader: (&HostName, u32), host: &HostName, boot: BootId, now: Moment) {
        if self.opened.contains_key(host) {
            self.heard.entry((leader.0.clone(), leader.1, host.clone())).or_insert((now, boot));
        }
    }

    /// Whether all voters reach the devices now.
    pub(crate) fn devices_reached(&mut self, now: Moment, all: bool) {
        match (all, self.cut) {
            (false, None) => self.cut = Some(now),
            (true, Some(_)) => {
                self.cut = None;
                self.cut_ended = Some(now);
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    /// What was done to a host that may leave its incident stuck.
    pub(crate) fn cause(&mut self, host: &HostName, what: &'static str) {
        self.causes.entry(host.clone()).or_default().insert(what);
    }
}
