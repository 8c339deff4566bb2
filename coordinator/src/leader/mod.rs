//! What the leader does, and only the leader: from a suspicion to the last recovered server.
//!
//! A reconciler. After every input that could matter, and whenever a moment it asked for has come, [`Leader::drive`]
//! looks at the ledger, at gossip and at what the adapters have answered, and takes every next step that is due. It keeps
//! no list of steps: a new leader begins with nothing but the ledger and goes on where the last one stopped (I5).

mod absence;
mod absent;
mod aggregates;
mod ahead;
mod attempt;
mod backoff;
mod begun;
mod calls;
mod capacity;
mod checks;
mod delegate;
mod denials;
mod devices;
mod dumps;
mod early;
mod elapse;
mod epoch;
mod evacuation;
mod evacuation_answers;
mod fence;
mod forecast;
mod format;
mod gates;
mod guests;
mod holds;
mod hooks;
mod incidents;
mod intents;
mod lease;
mod levels;
mod life;
mod locks;
mod lookups;
mod lost;
mod moves;
mod neighbours;
mod notices;
mod pace;
mod path_cases;
mod patience;
mod power_on;
mod processes;
mod proposals;
mod pulses;
mod queues;
mod readmission;
mod rebooted;
mod rehearsal;
mod rehearsal_on;
mod rehearsal_ready;
mod reserve;
mod restore;
mod retries;
mod roster;
mod second;
mod server_groups;
mod server_words;
mod servers;
mod silence;
mod suspect_case;
mod suspects;
mod together;
mod turns;
mod voters;
mod watchdog;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName, Incarnation, IncidentId, LeadershipId, MemberId, ServerId, Term};

use crate::context::Context;
use crate::fencing::DeviceBook;
use crate::time::Moment;
use crate::voter::Ailment;

use absent::AbsentWatch;
use aggregates::AggregateDesk;
use ahead::Ahead;
use calls::NovaCall;
use capacity::CapacityDesk;
use checks::{Checker, RollCaller};
use devices::DeviceCalls;
use dumps::Dumps;
use early::EarlyReads;
use elapse::TimeKeeper;
use epoch::EpochWatch;
use evacuation::Evacuation;
use fence::Fence;
use forecast::Forecasts;
use gates::Gates;
use guests::GuestCase;
use holds::Brakes;
use hooks::HookDesk;
use intents::IntentState;
use life::LifeDesk;
use locks::LockCase;
use lost::Lost;
use moves::MovesDesk;
use notices::NoticeDesk;
use pace::PaceDesk;
use path_cases::PathDesk;
use power_on::PowerDesk;
use processes::ProcessDesk;
use proposals::Proposals;
use pulses::{Pulses, system_uuid};
use queues::QueueDesk;
use readmission::ReturnCase;
use rebooted::RebootCase;
use rehearsal::RehearsalDesk;
use reserve::ReserveDesk;
use restore::ActState;
use roster::RosterWatch;
use suspect_case::SuspectCase;
use together::Together;
use turns::Groups;
use voters::Seating;
pub(crate) use watchdog::LeaseAnswer;
use watchdog::Leases;

pub use capacity::READ_WITHIN as CAPACITY_WITHIN;
pub(crate) use suspects::{OwnExamination, SuspectView};

/// How long what holds an act is waited for before it is looked at again.
const HOLD_RETRY: Duration = Duration::from_secs(1);

/// The leader of one term.
#[derive(Debug)]
pub(crate) struct Leader {
    term: Term,
    /// Written into every intent: only what this very leadership began is its own to do.
    author: LeadershipId,
    checker: Checker,
    roll: RollCaller,
    proposals: Proposals,
    pulses: Pulses,
    suspects: BTreeMap<HostName, SuspectCase>,
    refutations: BTreeMap<HostName, Vec<Moment>>,
    own_examinations: Vec<OwnExamination>,
    own_guest_questions: Vec<(CallId, Vec<ServerId>)>,
    own_guest_notes: Vec<ServerId>,
    /// Intents that are being proposed, and the host that each names.
    intending: BTreeMap<(IncidentId, ServerId), Option<HostName>>,
    /// What this leadership did about each open intent. Outlives a voided proof: an intent is called once, whatever becomes
    /// of the evacuation around it (I11).
    intents: BTreeMap<(IncidentId, ServerId), IntentState>,
    devices: DeviceBook,
    device_calls: DeviceCalls,
    fences: BTreeMap<IncidentId, Fence>,
    evacuations: BTreeMap<IncidentId, Evacuation>,
    guests: BTreeMap<IncidentId, GuestCase>,
    nova: BTreeMap<CallId, NovaCall>,
    life: LifeDesk,
    paths: PathDesk,
    gates: Gates,
    lost: Lost,
    /// Why an incident does not go on at the moment, for people.
    holds: BTreeMap<IncidentId, Text>,
    epoch: EpochWatch,
    brakes: Brakes,
    /// The earliest moment at which anything is due.
    wake: Option<Moment>,
    dirty: bool,
    time: TimeKeeper,
    roster: RosterWatch,
    reboots: BTreeMap<IncidentId, RebootCase>,
    /// Why this leader must not act, though it leads (I3).
    ill: Option<Ailment>,
    leases: Leases,
    seating: Seating,
    /// When suspects were last judged.
    last_round: Option<Moment>,
    absent: BTreeMap<HostName, AbsentWatch>,
    /// When this leadership began.
    began: Moment,
    /// Fenced hosts that come back.
    returns: BTreeMap<HostName, ReturnCase>,
    /// What this leadership did about each open act on a server.
    acts: BTreeMap<(IncidentId, ServerId), ActState>,
    /// Locks that outlive their evacuation.
    lock_cases: BTreeMap<(IncidentId, ServerId), LockCase>,
    /// Since when a server, locked by us for all that is known, shows no lock of ours.
    unlocked_since: BTreeMap<(IncidentId, ServerId), Moment>,
    /// Nova, or a compute of it, does not know evacuations that leave a server stopped (microversion 2.95).
    stops_unknown: bool,
    groups: Groups,
    together: Together,
    dumps: Dumps,
    forecasts: Forecasts,
    capacity: CapacityDesk,
    hooks: HookDesk,
    notices: NoticeDesk,
    processes: ProcessDesk,
    reserves: ReserveDesk,
    aggregates: AggregateDesk,
    /// How many evacuations at once.
    pace: PaceDesk,
    /// How far Nova is.
    moves: MovesDesk,
    /// Servers of hosts that read off, and are not proven so.
    ahead: BTreeMap<IncidentId, Ahead>,
    /// Devices of suspects that were read.
    early: EarlyReads,
    /// Whom a quorum's testimony has found gone, to be told to all.
    gone: Vec<(MemberId, Incarnation)>,
    /// The rehearsal under way.
    rehearsal: RehearsalDesk,
    /// Hosts that are powered on after their recovery.
    power: PowerDesk,
    /// Hosts that come back with orders which they never read.
    queues: QueueDesk,
}

impl Leader {
    pub(crate) fn new(term: Term, cx: &mut Context<'_>) -> Self {
        let mut leader = Self {
            term,
            author: LeadershipId(cx.out.call().0),
            checker: Checker::default(),
            roll: RollCaller::default(),
            proposals: Proposals::default(),
            pulses: Pulses::default(),
            suspects: BTreeMap::new(),
            refutations: BTreeMap::new(),
            own_examinations: Vec::new(),
            own_guest_questions: Vec::new(),
            own_guest_notes: Vec::new(),
            intending: BTreeMap::new(),
            intents: BTreeMap::new(),
            devices: DeviceBook::default(),
            device_calls: DeviceCalls::new(cx.now.mono),
            fences: BTreeMap::new(),
            evacuations: BTreeMap::new(),
            guests: BTreeMap::new(),
            nova: BTreeMap::new(),
            life: LifeDesk::default(),
            paths: PathDesk::default(),
            gates: Gates::default(),
            lost: Lost::default(),
            holds: BTreeMap::new(),
            epoch: EpochWatch::default(),
            brakes: Brakes::default(),
            wake: None,
            dirty: true,
            time: TimeKeeper::default(),
            roster: RosterWatch::new(cx.now.mono),
            reboots: BTreeMap::new(),
            ill: None,
            leases: Leases::new(cx.now.mono),
            seating: Seating::default(),
            last_round: None,
            absent: BTreeMap::new(),
            began: cx.now.mono,
            returns: BTreeMap::new(),
            acts: BTreeMap::new(),
            lock_cases: BTreeMap::new(),
            unlocked_since: BTreeMap::new(),
            stops_unknown: false,
            groups: Groups::default(),
            together: Together::default(),
            dumps: Dumps::default(),
            forecasts: Forecasts::default(),
            capacity: CapacityDesk::default(),
            hooks: HookDesk::default(),
            notices: NoticeDesk::default(),
            processes: ProcessDesk::default(),
            reserves: ReserveDesk::default(),
            aggregates: AggregateDesk::default(),
            pace: PaceDesk::default(),
            moves: MovesDesk::default(),
            ahead: BTreeMap::new(),
            early: EarlyReads::default(),
            gone: Vec::new(),
            rehearsal: RehearsalDesk::default(),
            power: PowerDesk::default(),
            queues: QueueDesk::default(),
        };
        leader.want_check(cx);
        leader
    }

    /// Whether a quorum has once confirmed this leadership. Until then it is a belief: a voter that restarts may find its
    /// old leadership on its disk, long after another was elected.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.checker.ever_confirmed()
    }

    /// Whether one has lately. A leader without a majority believes in itself for as long as nobody tells it otherwise; it
    /// cannot act (I3), and does not call itself the leader.
    pub(crate) fn is_confirmed_lately(&self, now: Moment) -> bool {
        self.checker.is_confirmed_lately(now)
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn holds(&self, incident: IncidentId) -> Option<&Text> {
        self.holds.get(&incident)
    }

    pub(crate) fn device_book(&self) -> &DeviceBook {
        &self.devices
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        if self.dirty { Some(Moment::ZERO) } else { self.wake }
    }

    /// Something may have changed: look again at the end of this `handle`.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Whether we are fit to act, by our own signs (I3).
    pub(crate) fn note_health(&mut self, ill: Option<Ailment>) {
        if self.ill.is_some() != ill.is_some() {
            self.touch();
        }
        self.ill = ill;
    }

    /// Why this leader does not act.
    pub(crate) fn ill(&self) -> Option<&Ailment> {
        self.ill.as_ref()
    }

    /// Takes every step that is due.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        let due = self.wake.is_some_and(|wake| wake <= cx.now.mono);
        if !self.dirty && !due {
            return;
        }
        self.dirty = false;
        self.wake = None;
        self.drive_checks(cx);
        // Until a quorum has once confirmed this term, entries of earlier terms may still be unapplied here.
        if !self.checker.ever_confirmed() {
            return;
        }
        self.devices.enroll(cx.ledger.targets(), &cx.setup.devices);
        self.drive_time(cx);
        self.drive_absence(cx);
        self.drive_probation(cx);
        self.drive_pulses(cx);
        self.drive_gates(cx);
        self.devices.rebind(|host| system_uuid(cx, host));
        self.devices.take_rehearsals(cx.ledger);
        // Whatever was proven before a loss of power is void: that must be settled before anything is done.
        if !self.drive_epoch(cx) {
            return;
        }
        self.watch_brakes(cx);
        self.drive_paths(cx);
        self.drive_absent(cx);
        self.drive_suspects(cx);
        self.drive_life(cx);
        self.drive_reserves(cx);
        self.drive_asked_readings(cx);
        self.drive_incidents(cx);
        self.drive_locks(cx);
        self.drive_reboots(cx);
        self.drive_guests(cx);
        self.drive_lost(cx);
        self.drive_readmission(cx);
        self.drive_queues(cx);
        self.drive_rehearsal(cx);
        self.drive_power_on(cx);
        self.drive_devices(cx);
        self.drive_leases(cx);
        self.drive_off_settled(cx);
        self.drive_voters(cx);
        self.drive_forecasts(cx);
        self.drive_capacity(cx);
        self.drive_hooks(cx);
        self.drive_notices(cx);
        self.drive_processes(cx);
    }

    fn wake_at(&mut self, moment: Moment) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }

    /// What holds an incident, for people; looked at again after [`HOLD_RETRY`].
    fn hold(&mut self, now: Moment, incident: IncidentId, why: impl Into<Text>) {
        self.holds.insert(incident, why.into());
        self.wake_at(now + HOLD_RETRY);
    }
}
