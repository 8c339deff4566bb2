//! The function that applies an entry. Every rule here is a guard of last resort: what it refuses cannot happen,
//! whichever leader decided it.

use std::collections::BTreeSet;

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::{MemberRole, RosterEntry, Text};
use rekindle_proto::id::{BootId, HostName, IncidentId, LogIndex, OperatorName, Term, WallTime};
use rekindle_proto::status::{Phase, StoryLine};
use serde::{Deserialize, Serialize};

use super::authority::verify_order;
use super::entry::{
    Entry, Fate, IntentEnd, LeaderCommand, MemberStatement, OperatorCommand, OperatorOrder, PlannedServer, Statement,
};
use super::incident::{FenceAttempt, GuestIncident, Incident, OpenIntent, Proof, ServerRecord, tell};
use super::state::{Arming, HostRecord, Ledger, Pulse};
use super::{
    CLOSED_INCIDENTS_MAX, GUEST_RESTARTS_MAX, GUEST_WINDOW_MS, INCIDENT_SERVERS_MAX, LEDGER_FORMAT, NONCES_MAX,
    OFF_SETTLE_MS, ORDER_AGE_MAX_MS, ROSTER_MAX,
};
use crate::order::GuestPower;

/// Where an entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its index.
    pub index: LogIndex,
    /// The term in which it was committed.
    pub term: Term,
}

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It changed the ledger.
    Applied {
        /// The incident it opened, if it opened one.
        incident: Option<IncidentId>,
        /// What it did, in words.
        text: Text,
    },
    /// The rules forbid it; nothing was changed.
    Refused {
        /// Which rule, with its figures.
        why: Text,
    },
}

impl Outcome {
    pub(super) fn refused(why: impl Into<Text>) -> Self {
        Self::Refused { why: why.into() }
    }

    fn done(text: impl Into<Text>) -> Self {
        Self::Applied { incident: None, text: text.into() }
    }

    /// Whether it changed the ledger.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied { .. })
    }
}

/// Least time between two off readings, in milliseconds (I2).
const OFF_READS_APART_MS: u64 = 1_000;

type Applied = Result<Outcome, Outcome>;

impl Ledger {
    /// Applies one committed entry. Deterministic: the same entries give the same state on every voter. A refused entry
    /// changes nothing but [`Ledger::applied`].
    pub fn apply(&mut self, position: Position, entry: &Entry) -> Outcome {
        self.applied = position.index;
        if entry.format > LEDGER_FORMAT {
            return Outcome::refused(format!("entry format {} is newer than {LEDGER_FORMAT}", entry.format));
        }
        let result = match &entry.statement {
            Statement::Leader { term, host, command } => self.apply_leader(position, *term, host, entry.at, command),
            Statement::Member { host, boot, statement } => self.apply_member(host, *boot, entry.at, statement),
            Statement::Operator(order) => self.apply_operator(entry.at, order),
        };
        result.unwrap_or_else(|refusal| refusal)
    }

    fn apply_leader(
        &mut self,
        position: Position,
        term: Term,
        leader: &HostName,
        at: WallTime,
        command: &LeaderCommand,
    ) -> Applied {
        if term != position.term {
            return Err(Outcome::refused(format!("{leader} led term {term}; this is term {}", position.term)));
        }
        match command {
            LeaderCommand::OpenIncident { host, boot, suspected_at, verdict } => {
                self.may_open(host)?;
                if verdict.testimonies.len() < usize::try_from(verdict.needed).unwrap_or(usize::MAX)
                    || verdict.needed < 2
                {
                    return Err(Outcome::refused(format!(
                        "{} testimonies; {} are needed, never fewer than 2",
                        verdict.testimonies.len(),
                        verdict.needed
                    )));
                }
                self.last_incident = IncidentId(self.last_incident.0 + 1);
                let id = self.last_incident;
                let mut incident = Incident {
                    id,
                    host: host.clone(),
                    boot: *boot,
                    began: *suspected_at,
                    ended: None,
                    phase: Phase::Suspect,
                    verdict: verdict.clone(),
                    attempts: Vec::new(),
                    attempts_before_resume: 0,
                    proof: None,
                    voided: 0,
                    heartbeat: None,
                    servers: std::collections::BTreeMap::new(),
                    story: Vec::new(),
                };
                incident.tell(*suspected_at, "no answer to a probe", None);
                let accusers: Vec<&str> = verdict.testimonies.iter().map(|record| record.accuser.as_str()).collect();
                let text = format!(
                    "{} testimonies of {} eligible (need {}): {}; {} of {} answered the roll call",
                    accusers.len(),
                    verdict.eligible,
                    verdict.needed,
                    accusers.join(" "),
                    verdict.present,
                    verdict.roster
                );
                incident.turn(Phase::Unclean, at, text)?;
                self.incidents.insert(id, incident);
                self.forget_old_incidents();
                Ok(Outcome::Applied { incident: Some(id), text: format!("incident {id} of {host} opened").into() })
            }
            LeaderCommand::Refute { incident, why } => self.refute(*incident, at, why),
            LeaderCommand::FenceIntent { incident, attempt, author, level, devices, not_after } => {
                self.may_act_on(*incident)?;
                let incident = self.incident_mut(*incident)?;
                let last = incident.attempts.last().map_or(0, |attempt| attempt.attempt);
                if *attempt != last + 1 {
                    return Err(Outcome::refused(format!("fence attempt {attempt} does not follow {last}")));
                }
                if devices.is_empty() {
                    return Err(Outcome::refused("a fence attempt without a device"));
                }
                let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
                let text = format!("attempt {attempt}: power off by level {level}: {}", names.join(" and "));
                match incident.phase {
                    Phase::Unclean => incident.turn(Phase::Fencing, at, text)?,
                    Phase::Fencing => incident.tell(at, text, None),
                    Phase::Suspect
                    | Phase::Fenced
                    | Phase::Evacuating
                    | Phase::Recovered
                    | Phase::Refuted
                    | Phase::Stuck => {
                        return Err(Outcome::refused(format!("incident is {}; no fence attempt now", incident.phase)));
                    }
                }
                incident.attempts.push(FenceAttempt {
                    attempt: *attempt,
                    term,
                    author: *author,
                    level: *level,
                    devices: devices.clone(),
                    not_after: *not_after,
                    failed: None,
                });
                Ok(Outcome::done(format!("fence attempt {attempt} committed")))
            }
            LeaderCommand::FenceFailed { incident, attempt, why } => {
                let incident = self.incident_mut(*incident)?;
                incident.must_be(Phase::Fencing)?;
                let Some(last) = incident.attempts.last_mut().filter(|last| last.attempt == *attempt) else {
                    return Err(Outcome::refused(format!("attempt {attempt} is not the last")));
                };
                if last.failed.is_some() {
                    return Err(Outcome::refused(format!("attempt {attempt} is over")));
                }
                last.failed = Some(why.clone());
                incident.tell(at, format!("attempt {attempt} gave no proof: {why}"), None);
                Ok(Outcome::done(format!("fence attempt {attempt} failed")))
            }
            LeaderCommand::ConfirmFence { incident, attempt, proof } => {
                let incident = self.incident_mut(*incident)?;
                incident.must_be(Phase::Fencing)?;
                let Some(last) = incident.attempts.last() else {
                    return Err(Outcome::refused("no fence attempt to prove"));
                };
                if last.attempt != *attempt || last.failed.is_some() || last.term != term {
                    return Err(Outcome::refused(format!("attempt {attempt} is not the running one of term {term}")));
                }
                let ordered: BTreeSet<_> = last.devices.iter().collect();
                let proven: BTreeSet<_> = proof
                    .devices
                    .iter()
                    .filter(|reads| reads.apart_ms >= OFF_READS_APART_MS)
                    .map(|reads| &reads.device)
                    .collect();
                if ordered != proven || proof.level != last.level {
                    return Err(Outcome::refused(format!(
                        "{} of {} devices were read off twice, at least {OFF_READS_APART_MS} ms apart",
                        proven.len(),
                        ordered.len()
                    )));
                }
                let names: Vec<String> = proof.devices.iter().map(|reads| reads.device.to_string()).collect();
                incident.turn(Phase::Fenced, at, format!("off, read twice: {}", names.join(" and ")))?;
                incident.proof = Some(Proof { attempt: *attempt, record: proof.clone(), at });
                Ok(Outcome::done(format!("{} is proven off", incident.host)))
            }
            LeaderCommand::VoidProof { incident, why } => {
                let incident = self.incident_mut(*incident)?;
                if incident.proof.is_none() {
                    return Err(Outcome::refused("there is no proof to void"));
                }
                incident.turn(Phase::Fencing, at, format!("the proof is void: {why}"))?;
                incident.proof = None;
                incident.voided += 1;
                incident.heartbeat = None;
                if let Some(last) = incident.attempts.last_mut() {
                    last.failed = Some(why.clone());
                }
                Ok(Outcome::done("proof voided"))
            }
            LeaderCommand::BeginEvacuation { incident, heartbeat, servers, remarks } => {
                self.may_act_on(*incident)?;
                let incident = self.incident_mut(*incident)?;
                if servers.len() > INCIDENT_SERVERS_MAX {
                    return Err(Outcome::refused(format!("{} servers; at most {INCIDENT_SERVERS_MAX}", servers.len())));
                }
                incident.turn(
                    Phase::Evacuating,
                    at,
                    format!("{} servers; Nova has the host forced down", servers.len()),
                )?;
                incident.heartbeat.clone_from(heartbeat);
                for remark in remarks {
                    incident.tell(at, remark.clone(), None);
                }
                for planned in servers {
                    incident.plan(at, planned);
                }
                Ok(Outcome::done("evacuation begun"))
            }
            LeaderCommand::EvacuateIntent { incident, server, attempt, author, newest_migration } => {
                self.may_act_on(*incident)?;
                let incident = self.incident_mut(*incident)?;
                incident.must_be(Phase::Evacuating)?;
                if incident.proof.is_none() {
                    return Err(Outcome::refused("no valid proof that the host is off (I1)"));
                }
                let record = incident.unsettled_mut(*server)?;
                if let Some(open) = record.intent {
                    return Err(Outcome::refused(format!("attempt {} of that server is open (I11)", open.attempt)));
                }
                if *attempt != record.attempts + 1 {
                    return Err(Outcome::refused(format!("attempt {attempt} does not follow {}", record.attempts)));
                }
                record.attempts = *attempt;
                record.intent =
                    Some(OpenIntent { attempt: *attempt, author: *author, newest_migration: *newest_migration });
                Ok(Outcome::done(format!("evacuate attempt {attempt} committed")))
            }
            LeaderCommand::CloseIntent { incident, server, attempt, end } => {
                let incident = self.incident_mut(*incident)?;
                let record = incident.unsettled_mut(*server)?;
                if record.intent.is_none_or(|open| open.attempt != *attempt) {
                    return Err(Outcome::refused(format!("attempt {attempt} of that server is not open")));
                }
                record.intent = None;
                let why = intent_end_text(end);
                if let Some(why) = &why {
                    record.last_failure = Some(why.clone());
                    let text = format!("{} ({server}), attempt {attempt}: {why}", record.name);
                    incident.tell(at, text, None);
                }
                Ok(Outcome::done("intent closed"))
            }
            LeaderCommand::Settle { incident, server, fate } => {
                let incident = self.incident_mut(*incident)?;
                incident.must_be(Phase::Evacuating)?;
                let record = incident.unsettled_mut(*server)?;
                if record.intent.is_some() {
                    return Err(Outcome::refused("its evacuate intent is still open"));
                }
                record.fate = Some(fate.clone());
                let text = match fate {
                    Fate::Recovered { to } => format!("{} ({server}) runs on {to}", record.name),
                    Fate::LeftBehind { why } => format!("{} ({server}) left behind: {why}", record.name),
                    Fate::Deleted => format!("{} ({server}) was deleted meanwhile", record.name),
                };
                incident.tell(at, text, None);
                Ok(Outcome::done("server settled"))
            }
            LeaderCommand::Close { incident } => self.close(*incident, at),
            LeaderCommand::Stick { incident, why } => {
                let incident = self.incident_mut(*incident)?;
                incident.turn(Phase::Stuck, at, why.clone())?;
                incident.proof = None;
                Ok(Outcome::done("stuck"))
            }
            LeaderCommand::GuestIntent { incident, power } => self.guest_intent(*incident, at, *power),
            LeaderCommand::SettleGuest { incident, recovered, why } => {
                let Some(guest) = self.guest_incidents.get_mut(incident).filter(|guest| guest.recovered.is_none())
                else {
                    return Err(Outcome::refused(format!("no open guest incident {incident}")));
                };
                guest.recovered = Some(*recovered);
                guest.ended = Some(at);
                let phase = if *recovered { Phase::Recovered } else { Phase::Stuck };
                tell(&mut guest.story, StoryLine { at, phase, text: why.clone(), operator: None });
                Ok(Outcome::done("guest settled"))
            }
        }
    }

    fn refute(&mut self, id: IncidentId, at: WallTime, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        incident.turn(Phase::Refuted, at, why.clone())?;
        incident.ended = Some(at);
        Ok(Outcome::done(format!("incident {id} refuted")))
    }

    fn close(&mut self, id: IncidentId, at: WallTime) -> Applied {
        let incident = self.incident_mut(id)?;
        if let Some((server, _)) = incident.servers.iter().find(|(_, record)| record.fate.is_none()) {
            return Err(Outcome::refused(format!("server {server} is not settled")));
        }
        let recovered = incident.servers.values().filter(|record| matches!(record.fate, Some(Fate::Recovered { .. })));
        let text = format!("{} of {} servers run elsewhere", recovered.count(), incident.servers.len());
        incident.turn(Phase::Recovered, at, text)?;
        incident.ended = Some(at);
        incident.proof = None;
        let host = incident.host.clone();
        self.hosts.entry(host.clone()).or_default().quarantine = Some(id);
        Ok(Outcome::done(format!("{host} recovered; it is quarantined until an operator releases it")))
    }

    fn guest_intent(&mut self, id: IncidentId, at: WallTime, power: GuestPower) -> Applied {
        if !self.arming.armed {
            return Err(Outcome::refused("disarmed"));
        }
        let Some(guest) = self.guest_incidents.get_mut(&id).filter(|guest| guest.recovered.is_none()) else {
            return Err(Outcome::refused(format!("no open guest incident {id}")));
        };
        guest.intent = Some(power);
        guest.steps += 1;
        let text = match power {
            GuestPower::Stop => "Nova is asked to stop it",
            GuestPower::Start => "Nova is asked to start it",
        };
        tell(&mut guest.story, StoryLine { at, phase: Phase::Evacuating, text: text.into(), operator: None });
        Ok(Outcome::done(text))
    }

    fn apply_member(&mut self, host: &HostName, boot: BootId, at: WallTime, statement: &MemberStatement) -> Applied {
        if !self.roster.contains_key(host) {
            return Err(Outcome::refused(format!("{host} is not in the roster")));
        }
        match statement {
            MemberStatement::Pulse { system_uuid, guests } => {
                let record = self.hosts.entry(host.clone()).or_default();
                record.pulse = Some(Pulse { at, boot, system_uuid: *system_uuid, guests: guests.clone() });
                Ok(Outcome::done(format!("{host}: {} guests", guests.guests.len())))
            }
            MemberStatement::GuestFailed { server, event: _ } => {
                let open = |guest: &&GuestIncident| guest.server == *server && guest.recovered.is_none();
                if let Some(guest) = self.guest_incidents.values().find(open) {
                    return Err(Outcome::refused(format!("guest incident {} of {server} is open", guest.id)));
                }
                if self.open_incident(host).is_some() {
                    return Err(Outcome::refused(format!("{host} itself has an open incident")));
                }
                let recent =
                    |guest: &&GuestIncident| guest.server == *server && at.millis_since(guest.began) < GUEST_WINDOW_MS;
                if self.guest_incidents.values().filter(recent).count() >= GUEST_RESTARTS_MAX {
                    return Err(Outcome::refused(format!(
                        "{server} was restarted {GUEST_RESTARTS_MAX} times within {} minutes",
                        GUEST_WINDOW_MS / 60_000
                    )));
                }
                self.last_incident = IncidentId(self.last_incident.0 + 1);
                let id = self.last_incident;
                let line = StoryLine { at, phase: Phase::Unclean, text: "its process died".into(), operator: None };
                self.guest_incidents.insert(
                    id,
                    GuestIncident {
                        id,
                        host: host.clone(),
                        server: *server,
                        began: at,
                        ended: None,
                        intent: None,
                        steps: 0,
                        recovered: None,
                        story: vec![line],
                    },
                );
                self.forget_old_incidents();
                Ok(Outcome::Applied { incident: Some(id), text: format!("guest incident {id}").into() })
            }
        }
    }

    fn apply_operator(&mut self, at: WallTime, signed: &SignedOrder) -> Applied {
        let verified = verify_order(signed, &self.cluster, &self.operator_ca, at)
            .map_err(|error| Outcome::refused(error.to_string()))?;
        let OperatorOrder { nonce, signed_at, reason, command, cluster: _ } = verified.order;
        let age_ms = at.0.abs_diff(signed_at.0);
        if age_ms > ORDER_AGE_MAX_MS {
            return Err(Outcome::refused(format!(
                "the order was signed {age_ms} ms away from the leader's clock; at most {ORDER_AGE_MAX_MS}"
            )));
        }
        if self.nonces.contains(&nonce) {
            return Err(Outcome::refused("this very order was applied before"));
        }
        let outcome = self.apply_order(at, &verified.operator, &reason, &command)?;
        self.nonces.push_back(nonce);
        if self.nonces.len() > NONCES_MAX {
            self.nonces.pop_front();
        }
        Ok(outcome)
    }

    fn apply_order(&mut self, at: WallTime, by: &OperatorName, reason: &Text, command: &OperatorCommand) -> Applied {
        match command {
            OperatorCommand::Init { roster, ca } => self.init(roster, ca),
            OperatorCommand::Arm(armed) => {
                if self.roster.is_empty() {
                    return Err(Outcome::refused("there is no roster yet: rekindle init"));
                }
                self.arming = Arming { armed: *armed, at, by: Some(by.clone()), reason: reason.clone() };
                Ok(Outcome::done(if *armed { "armed" } else { "disarmed" }))
            }
            OperatorCommand::Maintenance { host, on } => {
                if !self.is_hypervisor(host) {
                    return Err(Outcome::refused(format!("{host} is not a hypervisor of the roster")));
                }
                let record = self.hosts.entry(host.clone()).or_default();
                record.maintenance = on.then(|| Text::new(format!("{by}: {reason}")));
                Ok(Outcome::done(format!("{host} is {} maintenance", if *on { "in" } else { "out of" })))
            }
            OperatorCommand::Resume { incident } => {
                let incident = self.incident_mut(*incident)?;
                incident.must_be(Phase::Stuck)?;
                incident.turn(Phase::Fencing, at, "resumed: to be proven again")?;
                incident.tell(at, reason.clone(), Some(by.clone()));
                incident.attempts_before_resume = u32::try_from(incident.attempts.len()).unwrap_or(u32::MAX);
                incident.voided = 0;
                // What was left behind is planned anew: consent may have been given, or a wait be over.
                incident.servers.retain(|_, record| !matches!(record.fate, Some(Fate::LeftBehind { .. })));
                for record in incident.servers.values_mut() {
                    record.attempts_before_resume = record.attempts;
                }
                Ok(Outcome::done("resumed"))
            }
            OperatorCommand::Release { host } => self.release(host, at, by, reason),
        }
    }

    fn init(&mut self, roster: &[RosterEntry], ca: &[u8]) -> Applied {
        if !self.roster.is_empty() {
            return Err(Outcome::refused("the roster was given already"));
        }
        let names: BTreeSet<&HostName> = roster.iter().map(|entry| &entry.host).collect();
        if names.len() != roster.len() {
            return Err(Outcome::refused("a host stands in the roster twice"));
        }
        if roster.len() < 2 || roster.len() > ROSTER_MAX {
            return Err(Outcome::refused(format!("{} members; a roster has 2 to {ROSTER_MAX}", roster.len())));
        }
        if !roster.iter().any(|entry| entry.role == MemberRole::Member) {
            return Err(Outcome::refused("a roster without a hypervisor"));
        }
        self.operator_ca = ca.to_vec();
        self.roster = roster.iter().map(|entry| (entry.host.clone(), entry.clone())).collect();
        self.hosts = roster.iter().map(|entry| (entry.host.clone(), HostRecord::default())).collect();
        Ok(Outcome::done(format!("{} members enrolled; disarmed until `rekindle arm`", roster.len())))
    }

    fn release(&mut self, host: &HostName, at: WallTime, by: &OperatorName, reason: &Text) -> Applied {
        if self.open_incident(host).is_some() {
            return Err(Outcome::refused(format!("{host} has an open incident")));
        }
        let Some(id) = self.hosts.get(host).and_then(|record| record.quarantine) else {
            return Err(Outcome::refused(format!("{host} is not quarantined")));
        };
        if let Some(incident) = self.incidents.get_mut(&id) {
            let last_not_after = incident.attempts.iter().map(|attempt| attempt.not_after).max().unwrap_or_default();
            let wait_ms = WallTime(last_not_after.0.saturating_add_unsigned(OFF_SETTLE_MS)).millis_since(at);
            if wait_ms > 0 {
                return Err(Outcome::refused(format!(
                    "an off order may still be under way: wait {} s more (I5)",
                    wait_ms.div_ceil(1_000)
                )));
            }
            incident.tell(at, format!("released: {reason}"), Some(by.clone()));
        }
        if let Some(record) = self.hosts.get_mut(host) {
            record.quarantine = None;
        }
        Ok(Outcome::done(format!("{host} is protected again")))
    }

    fn may_open(&self, host: &HostName) -> Result<(), Outcome> {
        if !self.is_hypervisor(host) {
            return Err(Outcome::refused(format!("{host} is not a hypervisor of the roster")));
        }
        if let Some(open) = self.open_incident(host) {
            return Err(Outcome::refused(format!("incident {} of {host} is open", open.id)));
        }
        let record = self.hosts.get(host);
        if let Some(incident) = record.and_then(|record| record.quarantine) {
            return Err(Outcome::refused(format!("{host} is quarantined since incident {incident}")));
        }
        self.brakes_of(host).map_or(Ok(()), |brake| Err(Outcome::refused(brake)))
    }

    /// The ledger's own brakes on a host: disarmed, maintenance.
    #[must_use]
    pub fn brakes_of(&self, host: &HostName) -> Option<Text> {
        if !self.arming.armed {
            return Some(Text::new(format!("disarmed: {}", self.arming.reason)));
        }
        let maintenance = self.hosts.get(host).and_then(|record| record.maintenance.as_ref());
        maintenance.map(|reason| Text::new(format!("{host} is in maintenance: {reason}")))
    }

    fn may_act_on(&self, id: IncidentId) -> Result<(), Outcome> {
        let Some(incident) = self.incidents.get(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        self.brakes_of(&incident.host).map_or(Ok(()), |brake| Err(Outcome::refused(brake)))
    }

    fn incident_mut(&mut self, id: IncidentId) -> Result<&mut Incident, Outcome> {
        match self.incidents.get_mut(&id) {
            None => Err(Outcome::refused(format!("no incident {id}"))),
            Some(incident) if !incident.is_open() => Err(Outcome::refused(format!("incident {id} is closed"))),
            Some(incident) => Ok(incident),
        }
    }

    fn forget_old_incidents(&mut self) {
        let closed: Vec<IncidentId> =
            self.incidents.values().filter(|incident| !incident.is_open()).map(|incident| incident.id).collect();
        let quarantines: BTreeSet<IncidentId> = self.hosts.values().filter_map(|host| host.quarantine).collect();
        let surplus = closed.len().saturating_sub(CLOSED_INCIDENTS_MAX);
        for id in closed.iter().filter(|id| !quarantines.contains(id)).take(surplus) {
            self.incidents.remove(id);
        }
        let settled: Vec<IncidentId> =
            self.guest_incidents.values().filter(|guest| guest.recovered.is_some()).map(|guest| guest.id).collect();
        for id in settled.iter().take(settled.len().saturating_sub(CLOSED_INCIDENTS_MAX)) {
            self.guest_incidents.remove(id);
        }
    }
}

impl Incident {
    fn must_be(&self, phase: Phase) -> Result<(), Outcome> {
        if self.phase == phase {
            return Ok(());
        }
        Err(Outcome::refused(format!("incident {} is {}, not {phase}", self.id, self.phase)))
    }

    fn unsettled_mut(&mut self, server: rekindle_proto::id::ServerId) -> Result<&mut ServerRecord, Outcome> {
        match self.servers.get_mut(&server) {
            None => Err(Outcome::refused(format!("{server} is not a server of this incident"))),
            Some(record) if record.fate.is_some() => Err(Outcome::refused(format!("{server} is settled"))),
            Some(record) => Ok(record),
        }
    }

    /// Adds a server. One that is known already (the proof was voided, or the incident resumed) keeps its intents and fate.
    fn plan(&mut self, at: WallTime, planned: &PlannedServer) {
        if self.servers.contains_key(&planned.server) {
            return;
        }
        let fate = planned.left_behind.clone().map(|why| Fate::LeftBehind { why });
        if let Some(why) = &planned.left_behind {
            self.tell(at, format!("{} ({}) left behind: {why}", planned.name, planned.server), None);
        }
        self.servers.insert(
            planned.server,
            ServerRecord {
                name: planned.name.clone(),
                vm_state: planned.vm_state.clone(),
                attempts: 0,
                attempts_before_resume: 0,
                intent: None,
                last_failure: None,
                fate,
            },
        );
    }
}

/// Why a closed intent did not bring its server back; `None` if it did.
fn intent_end_text(end: &IntentEnd) -> Option<Text> {
    match end {
        IntentEnd::NotSent(why) => Some(Text::new(format!("not sent: {why}"))),
        IntentEnd::Refused(why) => Some(Text::new(format!("refused: {why}"))),
        IntentEnd::Migration { id, status, dest } => match status {
            rekindle_proto::fact::MigrationStatus::Done | rekindle_proto::fact::MigrationStatus::Completed => None,
            rekindle_proto::fact::MigrationStatus::Failed | rekindle_proto::fact::MigrationStatus::UnderWay => {
                let dest = dest.as_ref().map_or("no host", HostName::as_str);
                Some(Text::new(format!("migration {id} to {dest} failed")))
            }
        },
        IntentEnd::NoneAppeared => Some("Nova shows no migration for it".into()),
    }
}
