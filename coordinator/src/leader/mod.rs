//! What the leader does, and only the leader: from a suspicion to the last recovered server.
//!
//! A reconciler. After every input that could matter, and whenever a moment it asked for has come, [`Leader::drive`]
//! looks at the ledger, at gossip and at what the adapters have answered, and takes every next step that is due. It keeps
//! no list of steps: a new leader begins with nothing but the ledger and goes on where the last one stopped (I5).

mod checks;
mod denials;
mod devices;
mod evacuation;
mod fence;
mod guests;
mod holds;
mod lease;
mod proposals;
mod pulses;
mod servers;
mod suspects;
mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{DeviceReading, NovaError, PathFinding, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, LeadershipId, ServerId, SystemUuid, Term};
use rekindle_proto::status::Phase;

use crate::context::Context;
use crate::fencing::DeviceBook;
use crate::io::{NovaAnswer, Peer};
use crate::time::Moment;

use checks::{Checker, RollCaller};
use devices::DeviceCalls;
use evacuation::Evacuation;
use fence::Fence;
use guests::GuestCase;
use proposals::{Key, Proposals};
use pulses::Pulses;
use servers::IntentState;
use suspects::SuspectCase;
use voters::Seating;

pub(crate) use suspects::OwnExamination;

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
    intending: BTreeSet<(IncidentId, ServerId)>,
    /// What this leadership did about each open intent. Outlives a voided proof: an intent is called once, whatever becomes
    /// of the evacuation around it (I11).
    intents: BTreeMap<(IncidentId, ServerId), IntentState>,
    devices: DeviceBook,
    device_calls: DeviceCalls,
    fences: BTreeMap<IncidentId, Fence>,
    evacuations: BTreeMap<IncidentId, Evacuation>,
    guests: BTreeMap<IncidentId, GuestCase>,
    nova: BTreeMap<CallId, NovaCall>,
    /// Why an incident does not go on at the moment, for people.
    holds: BTreeMap<IncidentId, Text>,
    /// The earliest moment at which anything is due.
    wake: Option<Moment>,
    dirty: bool,
    seating: Seating,
}

/// To whom an answer of Nova belongs.
#[derive(Debug, Clone)]
enum NovaCall {
    Evacuation(IncidentId, evacuation::Ask),
    Guest(IncidentId, guests::Ask),
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
            intending: BTreeSet::new(),
            intents: BTreeMap::new(),
            devices: DeviceBook::default(),
            device_calls: DeviceCalls::new(cx.now.mono),
            fences: BTreeMap::new(),
            evacuations: BTreeMap::new(),
            guests: BTreeMap::new(),
            nova: BTreeMap::new(),
            holds: BTreeMap::new(),
            wake: None,
            dirty: true,
            seating: Seating::default(),
        };
        leader.want_check(cx);
        leader
    }

    /// Whether a quorum has once confirmed this leadership. Until then it is a belief: a voter that restarts may find its
    /// old leadership on its disk, long after another was elected.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.checker.ever_confirmed()
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

    /// Examinations the leader wants to make itself.
    pub(crate) fn take_own_examinations(&mut self) -> Vec<OwnExamination> {
        std::mem::take(&mut self.own_examinations)
    }

    /// Questions to our own hypervisor: the leader may itself be named by a migration record.
    pub(crate) fn take_own_guest_questions(&mut self) -> Vec<(CallId, Vec<ServerId>)> {
        std::mem::take(&mut self.own_guest_questions)
    }

    /// Our own failed guests that need not be reported again.
    pub(crate) fn take_own_guest_notes(&mut self) -> Vec<ServerId> {
        std::mem::take(&mut self.own_guest_notes)
    }

    /// Something may have changed: look again at the end of this `handle`.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
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
        self.devices.enroll(cx.ledger.roster.keys().filter(|host| cx.ledger.is_hypervisor(host)), &cx.setup.devices);
        self.drive_pulses(cx);
        self.devices.rebind(|host| system_uuid(cx, host));
        self.drive_suspects(cx);
        self.drive_incidents(cx);
        self.drive_guests(cx);
        self.drive_devices(cx);
        self.drive_voters(cx);
    }

    fn wake_at(&mut self, moment: Moment) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }

    fn drive_incidents(&mut self, cx: &mut Context<'_>) {
        let open: Vec<IncidentId> = cx.ledger.open_incidents().map(|incident| incident.id).collect();
        self.intending.retain(|(id, server)| self.proposals.is_under_way(&Key::Server(*id, *server)));
        self.forget_closed_intents(cx);
        self.fences.retain(|id, _| open.contains(id));
        self.evacuations.retain(|id, _| open.contains(id));
        let guests = &cx.ledger.guest_incidents;
        self.holds.retain(|id, _| open.contains(id) || guests.get(id).is_some_and(|guest| guest.recovered.is_none()));
        for id in open {
            let Some(incident) = cx.ledger.incidents.get(&id) else { continue };
            match incident.phase {
                Phase::Unclean | Phase::Fencing => {
                    self.drop_evacuation(id);
                    self.drive_fence(cx, id);
                }
                Phase::Fenced | Phase::Evacuating => {
                    self.drive_evacuation(cx, id);
                }
                Phase::Stuck => {
                    self.fences.remove(&id);
                    self.drop_evacuation(id);
                }
                Phase::Suspect | Phase::Recovered | Phase::Refuted => {}
            }
        }
    }

    /// What holds an incident, for people; looked at again after [`HOLD_RETRY`].
    fn hold(&mut self, now: Moment, incident: IncidentId, why: impl Into<Text>) {
        self.holds.insert(incident, why.into());
        self.wake_at(now + HOLD_RETRY);
    }

    /// A peer was heard. Cheap: it runs for every datagram.
    pub(crate) fn heard(&mut self, cx: &mut Context<'_>, peer: &Peer) {
        self.heard_by_suspects(cx, peer);
        if self.devices.heard(&peer.host, peer.boot, cx.now.mono) {
            cx.out.warn(Some(&peer.host), "a fence device reads off while the host is heard: it is not used");
            self.read_again(cx.now.mono, &peer.host);
        }
        if let Some(incident) = cx.ledger.open_incident(&peer.host) {
            self.heard_by_incident(cx, incident.id, peer);
        }
    }

    pub(crate) fn testimony(
        &mut self,
        cx: &mut Context<'_>,
        accuser: &HostName,
        target: &HostName,
        question: CallId,
        findings: Vec<PathFinding>,
    ) {
        self.take_testimony(cx, accuser, target, question, findings);
        self.touch();
    }

    pub(crate) fn device_read(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        reading: &DeviceReading,
        finished: Moment,
    ) {
        self.take_device_reading(cx, call, reading, finished);
        self.touch();
    }

    pub(crate) fn nova(&mut self, cx: &mut Context<'_>, call: CallId, result: Result<NovaAnswer, NovaError>) {
        match self.nova.remove(&call) {
            None => {}
            Some(NovaCall::Evacuation(incident, ask)) => self.take_nova(cx, incident, ask, result),
            Some(NovaCall::Guest(incident, ask)) => self.take_guest_nova(cx, incident, ask, result),
        }
        self.touch();
    }
}

/// A host's machine, by its own last word.
fn system_uuid(cx: &Context<'_>, host: &HostName) -> Option<SystemUuid> {
    cx.ledger.host(host).and_then(|record| record.pulse.as_ref()).and_then(|pulse| pulse.system_uuid)
}
