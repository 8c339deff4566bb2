//! What must never happen, each checked against the ground truth, whatever the coordinators believe.
//!
//! Safety is judged while it happens: [`crate::world`] tells the [`Oracle`] of every act and of every agreed entry. Liveness is
//! judged when everything has healed, by [`all_end`] and [`none_lost`].
//!
//! | rule (design, section 3) | violation |
//! |---|---|
//! | headline | [`Violation::RunsTwice`] |
//! | I1 | [`Violation::EvacuatedFromPowered`], [`Violation::EvacuatedWithoutProof`] |
//! | I2 | [`Violation::FencedWrongMachine`], [`Violation::ProvenWithoutReads`] |
//! | I3 | [`Violation::TwoLeaders`], [`Violation::FencedByMinority`], [`Violation::ActedDeposed`] |
//! | I4 | [`Violation::FencedUnderBrake`], [`Violation::TooFast`], [`Violation::ColdStart`] |
//! | I5 | [`Violation::FencedWithoutIncident`], [`Violation::OffTooLate`], [`Violation::TwoIncidents`], [`Violation::WrittenAfterClosing`], [`Violation::ProofOutlivesEpoch`], [`Violation::Diverged`] |
//! | I6 | [`Violation::HeardAndFenced`] |
//! | I7 | [`Violation::StartedBeforeGate`] |
//! | I8 | [`Violation::Unbounded`] |
//! | I9 | [`Violation::Panicked`] |
//! | I10 and liveness | [`Violation::NeverEnds`], [`Violation::NeverNoticed`], [`Violation::Lost`], [`Violation::StuckWithoutCause`] |
//! | I11 | [`Violation::CalledTwice`] |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rekindle_coordinator::ledger::{Entry, Fate, LeaderCommand, Ledger, Statement};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::PowerState;
use rekindle_proto::id::{BootId, HostName, IncidentId, ServerId, Term};
use rekindle_proto::status::Phase;

use crate::nova::Nova;
use crate::raft::History;

/// What is agreed binds an act begun this much later: an order rests on a check that may be half a second old (I3), and is on
/// its way for some milliseconds.
pub const BINDS_AFTER: Duration = Duration::from_millis(700);
/// After an order's not-after, how late a device may execute it (I5).
pub const OFF_SETTLE: Duration = Duration::from_secs(60);
/// Most hosts that may be fenced within [`RATE_WINDOW`]: three at once, then one each ten seconds (design, section 4).
pub const RATE_MAX: usize = 9;
/// See [`RATE_MAX`].
pub const RATE_WINDOW: Duration = Duration::from_secs(60);
/// A roll call may speak for this long (the daemon's own bound), and takes a second.
pub const ROLL_SPEAKS: Duration = Duration::from_secs(12);
/// A cold start is over after this time, or when most of the roster has been seen.
pub const COLD_START: Duration = Duration::from_secs(300);
/// How much of the roster must have been seen before, in percent.
pub const COLD_START_SEEN_PERCENT: usize = 80;

/// Between the two off readings of a proof: a second by the leader's own clock, which may run fast.
pub const READS_APART: Duration = Duration::from_millis(950);
/// How long after others have gone on without it a leader may still act: an answer to its last check may have been on its way
/// to a starved machine for as long as the daemon waits for one, and then holds for half a second.
pub const DEPOSED_ACTS: Duration = Duration::from_secs(6);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The headline: a VM with two running copies (design, section 3).
    #[error("server {server} runs on {hosts:?} at once")]
    RunsTwice {
        /// Which.
        server: ServerId,
        /// Where.
        hosts: BTreeSet<HostName>,
    },
    /// I1: an evacuate call reached Nova for a host that has power and runs.
    #[error("server {server} was evacuated from {host}, which has power")]
    EvacuatedFromPowered {
        /// Which.
        server: ServerId,
        /// From where.
        host: HostName,
    },
    /// I1: an evacuate call was sent though no valid proof was committed.
    #[error("server {server} was evacuated from {host} without a valid proof")]
    EvacuatedWithoutProof {
        /// Which.
        server: ServerId,
        /// From where.
        host: HostName,
    },
    /// I2: an off order switched off another machine than the incident's.
    #[error("{machine} was powered off in the stead of {host}")]
    FencedWrongMachine {
        /// Whose incident it was.
        host: HostName,
        /// What went off.
        machine: HostName,
    },
    /// I2: a proof was agreed though the device had not said *off* twice, a second apart, since the order.
    #[error("{host} was taken for proven off after {apart_ms} ms of off readings")]
    ProvenWithoutReads {
        /// Which.
        host: HostName,
        /// From its first off reading since the order to its last.
        apart_ms: u64,
    },
    /// I3: a leader acted long after others had elected another.
    #[error("{leader} acted on {host}, {late_s} s after a later term had begun without it")]
    ActedDeposed {
        /// Who.
        leader: HostName,
        /// On whom.
        host: HostName,
        /// How long after.
        late_s: u64,
    },
    /// I5: a proof was still held valid after everything had lost its power.
    #[error("the proof that {host} is off outlived the loss of power")]
    ProofOutlivesEpoch {
        /// Which.
        host: HostName,
    },
    /// I3: two leaders acted under one committed intent.
    #[error("{a} and {b} both acted under one intent: {intent}")]
    TwoLeaders {
        /// One.
        a: HostName,
        /// The other.
        b: HostName,
        /// Which.
        intent: String,
    },
    /// I3: an off order was given though 51 % of the roster could not have answered.
    #[error("{host} was to be powered off by {leader}, which reached {present} of {roster}")]
    FencedByMinority {
        /// Whose power.
        host: HostName,
        /// By whom.
        leader: HostName,
        /// How many it reached.
        present: usize,
        /// Of how many.
        roster: usize,
    },
    /// I4: an act though a brake held.
    #[error("{host} was to be powered off though a brake held: {brake}")]
    FencedUnderBrake {
        /// Whose power.
        host: HostName,
        /// Which brake.
        brake: String,
    },
    /// I4: more fences than the rate allows.
    #[error("{hosts} hosts were fenced within {} s; at most {RATE_MAX}", RATE_WINDOW.as_secs())]
    TooFast {
        /// How many.
        hosts: usize,
    },
    /// I4: an incident was opened while the cluster was still starting.
    #[error("an incident of {host} was opened when {seen} of {roster} had been seen")]
    ColdStart {
        /// Whose.
        host: HostName,
        /// How many had been seen.
        seen: usize,
        /// Of how many.
        roster: usize,
    },
    /// I5: a host was powered off without an open incident, or after it was let back.
    #[error("{host} was powered off without an open incident")]
    FencedWithoutIncident {
        /// Which.
        host: HostName,
    },
    /// I5: an off order was carried out long after its not-after.
    #[error("{host} was powered off {late_s} s after the order's not-after")]
    OffTooLate {
        /// Which.
        host: HostName,
        /// How late.
        late_s: u64,
    },
    /// I5: two open incidents of one host.
    #[error("{host} has two open incidents")]
    TwoIncidents {
        /// Which.
        host: HostName,
    },
    /// I5: an intent, a proof or a move was taken by a closed incident.
    #[error("incident {incident} took an intent, a proof or a move though it is closed")]
    WrittenAfterClosing {
        /// Which.
        incident: IncidentId,
    },
    /// I5: two voters came to different states by the same entries, or to different entries at the same place.
    #[error("{host} differs from the agreed ledger at entry {index}")]
    Diverged {
        /// Who.
        host: HostName,
        /// Where.
        index: u64,
    },
    /// I6: a host that was heard, in the same boot, before the first off order, was to be powered off.
    #[error("{leader} heard {host} and yet ordered it off")]
    HeardAndFenced {
        /// Whose power.
        host: HostName,
        /// By whom.
        leader: HostName,
    },
    /// I7: a fenced host started guests before it was let back.
    #[error("{host} started {server} before it was let back")]
    StartedBeforeGate {
        /// Which host.
        host: HostName,
        /// Which guest.
        server: ServerId,
    },
    /// I8: something grew beyond its bound.
    #[error("{host}: {found} {what}")]
    Unbounded {
        /// Where.
        host: HostName,
        /// What.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// I9: a coordinator panicked.
    #[error("a coordinator panicked: {text}")]
    Panicked {
        /// What it said.
        text: String,
    },
    /// I11: Nova was called more than once for one committed intent, or without one.
    #[error("server {server} was evacuated {calls} times on {intents} committed intents")]
    CalledTwice {
        /// Which.
        server: ServerId,
        /// Calls that were sent.
        calls: usize,
        /// Intents in the ledger.
        intents: usize,
    },
    /// Liveness: an incident is neither recovered, refuted nor stuck after everything healed.
    #[error("an incident of {host} is still {phase} long after everything healed")]
    NeverEnds {
        /// Whose.
        host: HostName,
        /// Its phase.
        phase: Phase,
    },
    /// Liveness: a host died for good and nothing came of it.
    #[error("{host} died, and there is no incident of it")]
    NeverNoticed {
        /// Which.
        host: HostName,
    },
    /// Liveness: a server does not run, and nothing says why.
    #[error("server {server} runs nowhere, and no incident says why")]
    Lost {
        /// Which.
        server: ServerId,
    },
    /// Liveness: an incident is stuck, and nothing that was done to its host explains it.
    #[error("the incident of {host} is stuck though nothing was wrong: {why}")]
    StuckWithoutCause {
        /// Whose.
        host: HostName,
        /// What it says.
        why: String,
    },
}

impl Violation {
    /// The rule of design.md, section 3, that was broken.
    #[must_use]
    pub fn invariant(&self) -> &'static str {
        match self {
            Self::RunsTwice { .. } => "headline",
            Self::EvacuatedFromPowered { .. } | Self::EvacuatedWithoutProof { .. } => "I1",
            Self::FencedWrongMachine { .. } | Self::ProvenWithoutReads { .. } => "I2",
            Self::TwoLeaders { .. } | Self::FencedByMinority { .. } | Self::ActedDeposed { .. } => "I3",
            Self::FencedUnderBrake { .. } | Self::TooFast { .. } | Self::ColdStart { .. } => "I4",
            Self::FencedWithoutIncident { .. }
            | Self::OffTooLate { .. }
            | Self::TwoIncidents { .. }
            | Self::WrittenAfterClosing { .. }
            | Self::ProofOutlivesEpoch { .. }
            | Self::Diverged { .. } => "I5",
            Self::HeardAndFenced { .. } => "I6",
            Self::StartedBeforeGate { .. } => "I7",
            Self::Unbounded { .. } => "I8",
            Self::Panicked { .. } => "I9",
            Self::CalledTwice { .. } => "I11",
            Self::NeverEnds { .. } | Self::NeverNoticed { .. } | Self::Lost { .. } | Self::StuckWithoutCause { .. } => {
                "liveness"
            }
        }
    }
}

/// What the oracle remembers of acts, to judge later ones by.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Who gave the off orders of (incident, attempt): host and life of its daemon.
    off_orders: BTreeMap<(IncidentId, u32), (HostName, u32)>,
    /// Who sent the evacuate call of (incident, server, attempt).
    calls: BTreeMap<(IncidentId, ServerId, u32), (HostName, u32)>,
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
    /// Whether hosts have a boot gate: [`Violation::StartedBeforeGate`] is judged only then.
    pub has_gate: bool,
    /// Since when each host's device has said nothing but off, and how long it did so at most since the attempt began: what
    /// was proven and is not yet agreed is not unproven by somebody at the button.
    off_reads: BTreeMap<HostName, (Option<Moment>, Duration)>,
    /// The latest term of which an entry is agreed, and since when.
    term: Option<(Term, Moment)>,
    /// What was done to each host that may leave an incident stuck.
    pub causes: BTreeMap<HostName, BTreeSet<&'static str>>,
    /// The same for all hosts: whoever leads may have been unable to reach a device.
    pub causes_of_all: BTreeSet<&'static str>,
}

impl Oracle {
    /// Whether any host's voice matters at the moment.
    pub(crate) fn is_watching(&self) -> bool {
        !self.opened.is_empty()
    }

    pub(crate) fn hears(&mut self, leader: (&HostName, u32), host: &HostName, boot: BootId, now: Moment) {
        if self.opened.contains_key(host) {
            self.heard.entry((leader.0.clone(), leader.1, host.clone())).or_insert((now, boot));
        }
    }

    /// An entry was agreed, and applied to `ledger`.
    pub(crate) fn agreed(
        &mut self,
        now: Moment,
        entry: &Entry,
        applied: bool,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        self.follow_brakes(now, ledger);
        self.follow_incidents(now, ledger);
        if let (Statement::Leader { command, .. }, true) = (&entry.statement, applied) {
            written_while_open(command, ledger)?;
            self.proven_by_reads(command, ledger)?;
            no_proof_outlives(command, ledger)?;
            self.not_at_cold_start(now, command, ledger)?;
        }
        one_incident_a_host(ledger)
    }

    fn follow_brakes(&mut self, now: Moment, ledger: &Ledger) {
        let mut braked = BTreeMap::new();
        if !ledger.arming.armed {
            braked.insert(None, now);
        }
        for (host, record) in &ledger.hosts {
            if record.maintenance.is_some() {
                braked.insert(Some(host.clone()), now);
            }
        }
        for (key, since) in &mut braked {
            if let Some(known) = self.braked.get(key) {
                *since = *known;
            }
        }
        self.braked = braked;
    }

    fn follow_incidents(&mut self, now: Moment, ledger: &Ledger) {
        let mut opened = BTreeMap::new();
        for incident in ledger.open_incidents() {
            let known = self.opened.get(&incident.host).copied();
            opened.insert(incident.host.clone(), known.unwrap_or((now, incident.boot)));
            if incident.proof.is_some() {
                self.had_proof.insert(incident.id);
                self.proof_lost.remove(&incident.id);
            } else if self.had_proof.contains(&incident.id) {
                self.proof_lost.entry(incident.id).or_insert(now);
            }
        }
        if opened.len() < self.opened.len() {
            self.heard.retain(|(_, _, host), _| opened.contains_key(host));
        }
        self.opened = opened;
    }

    /// I4. Source: design section 4, "cold start".
    fn not_at_cold_start(&self, now: Moment, command: &LeaderCommand, ledger: &Ledger) -> Result<(), Violation> {
        let LeaderCommand::OpenIncident { host, .. } = command else { return Ok(()) };
        let (seen, roster) = (self.seen.len(), ledger.roster.len());
        if now.since(self.began) < COLD_START && seen * 100 < roster * COLD_START_SEEN_PERCENT {
            return Err(Violation::ColdStart { host: host.clone(), seen, roster });
        }
        Ok(())
    }

    /// A device has answered.
    pub(crate) fn device_read(&mut self, host: &HostName, power: PowerState, at: Moment) {
        let (since, longest) = self.off_reads.entry(host.clone()).or_default();
        match power {
            PowerState::On => *since = None,
            PowerState::Off => *longest = (*longest).max(at.since(*since.get_or_insert(at))),
        }
    }

    /// I2. Source: design section 3.
    fn proven_by_reads(&self, command: &LeaderCommand, ledger: &Ledger) -> Result<(), Violation> {
        let LeaderCommand::ConfirmFence { incident, .. } = command else { return Ok(()) };
        let Some(host) = ledger.incidents.get(incident).map(|incident| &incident.host) else { return Ok(()) };
        let apart = self.off_reads.get(host).map_or(Duration::ZERO, |(_, longest)| *longest);
        if apart >= READS_APART {
            return Ok(());
        }
        let apart_ms = u64::try_from(apart.as_millis()).unwrap_or(u64::MAX);
        Err(Violation::ProvenWithoutReads { host: host.clone(), apart_ms })
    }

    /// An entry of that term is agreed.
    pub(crate) fn agreed_in(&mut self, term: Term, now: Moment) {
        if self.term.is_none_or(|(known, _)| known < term) {
            self.term = Some((term, now));
        }
    }

    /// I3. Source: design section 3, "act only as leader with a fresh linearizable check".
    pub(crate) fn acts_as_leader(
        &self,
        now: Moment,
        leader: (&HostName, Option<Term>),
        host: &HostName,
    ) -> Result<(), Violation> {
        match (self.term, leader.1) {
            (Some((newest, since)), Some(term)) if term < newest && now.since(since) > DEPOSED_ACTS => {
                let late_s = now.since(since).as_secs();
                Err(Violation::ActedDeposed { leader: leader.0.clone(), host: host.clone(), late_s })
            }
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    /// A leader's coordinator gave an off order.
    pub(crate) fn off_ordered(
        &mut self,
        now: Moment,
        by: (&HostName, u32),
        host: &HostName,
        key: (IncidentId, u32),
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let (leader, start) = by;
        if !self.off_orders.contains_key(&key) {
            self.off_reads.remove(host);
        }
        self.one_leader_an_intent(leader, start, key)?;
        self.no_brake(now, host)?;
        self.most_can_answer(now, leader, host, ledger)?;
        // Where the operator lets one network suffice, a host is fenced that is heard on another.
        if ledger.incidents.get(&key.0).is_none_or(|incident| incident.verdict.path.is_none()) {
            self.not_heard(by, host, key.1)?;
        }
        self.not_too_fast(now, key.0)
    }

    /// I3, I5: an intent is its author's own. Source: design section 3; openraft resumes a leadership after a restart.
    fn one_leader_an_intent(&mut self, leader: &HostName, start: u32, key: (IncidentId, u32)) -> Result<(), Violation> {
        let first = self.off_orders.entry(key).or_insert_with(|| (leader.clone(), start));
        if *first == (leader.clone(), start) {
            return Ok(());
        }
        let intent = format!("attempt {} of incident {}", key.1, key.0);
        Err(Violation::TwoLeaders { a: first.0.clone(), b: leader.clone(), intent })
    }

    /// I4. Source: design section 3: no act while disarmed or in maintenance.
    fn no_brake(&self, now: Moment, host: &HostName) -> Result<(), Violation> {
        for (key, brake) in [(None, "disarmed"), (Some(host.clone()), "maintenance")] {
            if self.braked.get(&key).is_some_and(|since| now.since(*since) > BINDS_AFTER) {
                return Err(Violation::FencedUnderBrake { host: host.clone(), brake: brake.to_owned() });
            }
        }
        Ok(())
    }

    /// I3: at least 51 % must have answered since the suspicion began. Source: design sections 3 and 4.
    fn most_can_answer(
        &self,
        now: Moment,
        leader: &HostName,
        host: &HostName,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        match self.lacking.get(leader) {
            Some((since, present)) if now.since(*since) > ROLL_SPEAKS => Err(Violation::FencedByMinority {
                host: host.clone(),
                leader: leader.clone(),
                present: *present,
                roster: ledger.roster.len(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// I6. Source: design section 3.
    fn not_heard(&self, leader: (&HostName, u32), host: &HostName, attempt: u32) -> Result<(), Violation> {
        let heard = self.heard.get(&(leader.0.clone(), leader.1, host.clone()));
        let about = self.opened.get(host).and_then(|(_, boot)| *boot);
        match heard {
            Some((_, boot)) if attempt == 1 && Some(*boot) == about => {
                Err(Violation::HeardAndFenced { host: host.clone(), leader: leader.0.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// I4: the fence rate. Source: design section 4.
    fn not_too_fast(&mut self, now: Moment, incident: IncidentId) -> Result<(), Violation> {
        while self.fences.front().is_some_and(|(at, _)| now.since(*at) > RATE_WINDOW) {
            self.fences.pop_front();
        }
        if !self.fences.iter().any(|(_, known)| *known == incident) {
            self.fences.push_back((now, incident));
        }
        if self.fences.len() > RATE_MAX { Err(Violation::TooFast { hosts: self.fences.len() }) } else { Ok(()) }
    }

    /// An evacuate call leaves the leader: I1 (a valid proof is committed) and I11 (one call an intent, of one leader).
    pub(crate) fn evacuate_sent(
        &mut self,
        now: Moment,
        by: (&HostName, u32),
        order: (IncidentId, ServerId, u32),
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let (incident, server, attempt) = order;
        let me = (by.0.clone(), by.1);
        let intents = ledger.incidents.get(&incident).and_then(|incident| incident.servers.get(&server));
        let intents = intents.map_or(0, |record| record.attempts as usize);
        if let Some(first) = self.calls.get(&order) {
            if *first != me {
                let intent = format!("evacuation {attempt} of {server} in incident {incident}");
                return Err(Violation::TwoLeaders { a: first.0.clone(), b: me.0, intent });
            }
            return Err(Violation::CalledTwice { server, calls: 2, intents: 1 });
        }
        self.calls.insert(order, me);
        if intents < attempt as usize {
            return Err(Violation::CalledTwice { server, calls: attempt as usize, intents });
        }
        let known = ledger.incidents.get(&incident);
        let host = known.map_or_else(|| by.0.clone(), |incident| incident.host.clone());
        let has_proof = known.is_some_and(|incident| incident.proof.is_some());
        let just_lost = self.proof_lost.get(&incident).is_some_and(|at| now.since(*at) <= BINDS_AFTER);
        if has_proof || just_lost { Ok(()) } else { Err(Violation::EvacuatedWithoutProof { server, host }) }
    }

    /// A device carried out an off order.
    pub(crate) fn off_executed(
        &self,
        now: Moment,
        order: (&HostName, IncidentId, Moment),
        machine: &HostName,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let (host, incident, not_after) = order;
        if host != machine {
            return Err(Violation::FencedWrongMachine { host: host.clone(), machine: machine.clone() });
        }
        let late = now.since(not_after);
        if late > OFF_SETTLE {
            return Err(Violation::OffTooLate { host: host.clone(), late_s: late.as_secs() });
        }
        let is_open = ledger.incidents.get(&incident).is_some_and(|incident| incident.is_open());
        let is_quarantined = ledger.host(host).is_some_and(|record| record.quarantine.is_some());
        if is_open || is_quarantined { Ok(()) } else { Err(Violation::FencedWithoutIncident { host: host.clone() }) }
    }

    /// What was done to a host that may leave its incident stuck.
    pub(crate) fn cause(&mut self, host: &HostName, what: &'static str) {
        self.causes.entry(host.clone()).or_default().insert(what);
    }
}

/// The headline: no VM ever has two running copies.
///
/// # Errors
/// [`Violation::RunsTwice`].
pub fn never_twice(nova: &Nova) -> Result<(), Violation> {
    match nova.doubles().next() {
        None => Ok(()),
        Some((server, hosts)) => Err(Violation::RunsTwice { server: *server, hosts: hosts.clone() }),
    }
}

/// I5: at most one open incident a host.
///
/// # Errors
/// [`Violation::TwoIncidents`].
pub fn one_incident_a_host(ledger: &Ledger) -> Result<(), Violation> {
    let mut hosts = BTreeSet::new();
    match ledger.open_incidents().find(|incident| !hosts.insert(&incident.host)) {
        None => Ok(()),
        Some(second) => Err(Violation::TwoIncidents { host: second.host.clone() }),
    }
}

/// I5: intents, proofs and moves are refused once an incident is closed.
///
/// # Errors
/// [`Violation::WrittenAfterClosing`].
pub fn written_while_open(command: &LeaderCommand, ledger: &Ledger) -> Result<(), Violation> {
    let (LeaderCommand::FenceIntent { incident: id, .. }
    | LeaderCommand::ConfirmFence { incident: id, .. }
    | LeaderCommand::BeginEvacuation { incident: id, .. }
    | LeaderCommand::EvacuateIntent { incident: id, .. }
    | LeaderCommand::Settle { incident: id, .. }) = command
    else {
        return Ok(());
    };
    if ledger.incidents.get(id).is_some_and(|incident| incident.is_open()) {
        return Ok(());
    }
    Err(Violation::WrittenAfterClosing { incident: *id })
}

/// I5. Source: design section 3 and red-team 29: after a loss of power nothing that was proven before is known.
///
/// # Errors
/// [`Violation::ProofOutlivesEpoch`].
pub fn no_proof_outlives(command: &LeaderCommand, ledger: &Ledger) -> Result<(), Violation> {
    let LeaderCommand::BeginEpoch { .. } = command else { return Ok(()) };
    let proven = ledger.open_incidents().find(|incident| incident.proof.is_some());
    proven.map_or(Ok(()), |incident| Err(Violation::ProofOutlivesEpoch { host: incident.host.clone() }))
}

/// Liveness: every incident ends in recovered, refuted, or stuck with a reason.
///
/// # Errors
/// [`Violation::NeverEnds`].
pub fn all_end(history: &History) -> Result<(), Violation> {
    let open = history.ledger().open_incidents().find(|incident| incident.phase != Phase::Stuck);
    match open {
        None => Ok(()),
        Some(incident) => Err(Violation::NeverEnds { host: incident.host.clone(), phase: incident.phase }),
    }
}

/// Liveness: every server runs, or an incident says why it does not.
///
/// # Errors
/// [`Violation::Lost`].
pub fn none_lost(nova: &Nova, history: &History) -> Result<(), Violation> {
    let ledger = history.ledger();
    let excused = |server: ServerId| {
        ledger.incidents.values().any(|incident| {
            incident.phase == Phase::Stuck
                || incident
                    .servers
                    .get(&server)
                    .is_some_and(|record| matches!(record.fate, Some(Fate::LeftBehind { .. })))
        })
    };
    let lost = nova
        .servers()
        .find(|server| server.vm_state.as_str() == "active" && nova.copies(server.id) == 0 && !excused(server.id));
    lost.map_or(Ok(()), |server| Err(Violation::Lost { server: server.id }))
}

/// Liveness: a stuck incident has a reason that was really there.
///
/// # Errors
/// [`Violation::StuckWithoutCause`].
pub fn stuck_for_a_cause(oracle: &Oracle, ledger: &Ledger) -> Result<(), Violation> {
    let stuck = ledger.open_incidents().filter(|incident| incident.phase == Phase::Stuck);
    for incident in stuck {
        if oracle.causes_of_all.is_empty() && !oracle.causes.contains_key(&incident.host) {
            let why = incident.story.last().map(|line| line.text.to_string()).unwrap_or_default();
            return Err(Violation::StuckWithoutCause { host: incident.host.clone(), why });
        }
    }
    Ok(())
}
