//! What an operator has signed.

use std::collections::BTreeSet;

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::{MemberRole, RosterEntry, Text};
use rekindle_proto::id::{HostName, IncidentId, OperatorName, WallTime};
use rekindle_proto::status::Phase;

use super::super::authority::{VerifiedOrder, verify_order};
use super::super::entry::{Fate, OperatorCommand, OperatorOrder};
use super::super::incident::Incident;
use super::super::state::{Arming, HostRecord, Ledger};
use super::super::{NONCES_MAX, ORDER_AGE_MAX_MS, ROSTER_MAX};
use super::{Applied, Outcome};

/// Who ordered something, when, and why.
pub(super) struct By<'a> {
    pub(super) operator: &'a OperatorName,
    pub(super) at: WallTime,
    pub(super) reason: &'a Text,
}

impl Ledger {
    pub(super) fn apply_operator(&mut self, at: WallTime, signed: &SignedOrder) -> Applied {
        let verified = verify_order(signed, &self.cluster, &self.operator_ca, at)
            .map_err(|error| Outcome::refused(error.to_string()))?;
        let outcome = self.apply_verified(at, &verified)?;
        if matches!(verified.order.command, OperatorCommand::RecoverQuorum(_)) {
            self.voters.recovery = Some(signed.clone());
        }
        Ok(outcome)
    }

    /// An order whose signature was checked: its age, its novelty, and the rules.
    pub(super) fn apply_verified(&mut self, at: WallTime, verified: &VerifiedOrder) -> Applied {
        let OperatorOrder { nonce, signed_at, reason, command, cluster: _ } = &verified.order;
        let age_ms = at.0.abs_diff(signed_at.0);
        if age_ms > ORDER_AGE_MAX_MS {
            return Err(Outcome::refused(format!(
                "the order was signed {age_ms} ms away from the leader's clock; at most {ORDER_AGE_MAX_MS}"
            )));
        }
        if self.nonces.contains(nonce) {
            return Err(Outcome::refused("this very order was applied before"));
        }
        let outcome = self.apply_order(&By { operator: &verified.operator, at, reason }, command)?;
        self.nonces.push_back(*nonce);
        if self.nonces.len() > NONCES_MAX {
            self.nonces.pop_front();
        }
        Ok(outcome)
    }

    fn apply_order(&mut self, by: &By<'_>, command: &OperatorCommand) -> Applied {
        match command {
            OperatorCommand::Init { roster, ca } => self.init(roster, ca),
            OperatorCommand::Arm(armed) => self.arm(by, *armed),
            OperatorCommand::Maintenance { host, on } => self.maintenance(by, host, *on),
            OperatorCommand::Resume { incident } => self.resume(by, *incident),
            OperatorCommand::Release { host } => self.release(by, host),
            OperatorCommand::LiftBrake { target } => self.lift_brake(by.at, by.operator, by.reason, target),
            OperatorCommand::DisarmFor { ms } => self.disarm_for(by, *ms),
            OperatorCommand::Enroll { entry } => self.enroll(entry),
            OperatorCommand::Forget { host } => self.forget(host),
            OperatorCommand::ConfirmOff { incident, checked } => self.confirm_off(by, *incident, checked),
            OperatorCommand::ReplaceVoter { old, new } => self.replace_voter(by.at, by.operator, by.reason, old, new),
            OperatorCommand::Segment(order) => self.segment_order(by, order),
            OperatorCommand::Rehearse { host, level } => self.rehearse(by, host, *level),
            OperatorCommand::RaiseFormat { to } => self.raise_format(by, *to),
            OperatorCommand::RecoverQuorum(order) => self.recover_quorum(by.at, by.operator, by.reason, order),
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

    /// The entry that brings the order has raised it already, if it is written in that format.
    fn raise_format(&mut self, by: &By<'_>, to: u32) -> Applied {
        if self.format < to {
            return Err(Outcome::refused(format!("the order is written in a format before {to}: it raises nothing")));
        }
        let text = format!("the ledger's format is {}", self.format);
        self.voters.tell(by.at, format!("{text}: {}: {}", by.operator, by.reason));
        Ok(Outcome::done(text))
    }

    pub(super) fn arm(&mut self, by: &By<'_>, armed: bool) -> Applied {
        if self.roster.is_empty() {
            return Err(Outcome::refused("there is no roster yet: rekindle init"));
        }
        self.disarm_limit = None;
        if armed {
            self.may_arm_voters()?;
        }
        self.arming = Arming { armed, at: by.at, by: Some(by.operator.clone()), reason: by.reason.clone() };
        Ok(Outcome::done(if armed { "armed" } else { "disarmed" }))
    }

    fn maintenance(&mut self, by: &By<'_>, host: &HostName, on: bool) -> Applied {
        if !self.is_hypervisor(host) {
            return Err(Outcome::refused(format!("{host} is not a hypervisor of the roster")));
        }
        if let Some(open) = self.rehearsal_of(host).filter(|_| !on) {
            return Err(Outcome::refused(format!(
                "rehearsal {} of {host} is under way: it stays in maintenance",
                open.id
            )));
        }
        let record = self.hosts.entry(host.clone()).or_default();
        record.maintenance = on.then(|| Text::new(format!("{}: {}", by.operator, by.reason)));
        Ok(Outcome::done(format!("{host} is {} maintenance", if on { "in" } else { "out of" })))
    }

    fn resume(&mut self, by: &By<'_>, id: IncidentId) -> Applied {
        if self.reboots.contains_key(&id) {
            return self.resume_reboot(by, id);
        }
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Stuck)?;
        incident.resume(by.at, "resumed: to be proven again")?;
        incident.awaits_signs = false;
        incident.tell(by.at, by.reason.clone(), Some(by.operator.clone()));
        Ok(Outcome::done("resumed"))
    }

    /// Lets a recovered incident's host back; or ends a stuck one, on the operator's word that it was seen to.
    fn release(&mut self, by: &By<'_>, host: &HostName) -> Applied {
        let id = match self.open_incident(host) {
            Some(open) => open.id,
            None => match self.hosts.get(host).and_then(|record| record.quarantine) {
                Some(id) => id,
                None => return self.release_living(by, host),
            },
        };
        let ends = self.open_incident(host).is_some();
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.may_be_released()?;
            if incident.is_open() {
                incident.turn(Phase::Refuted, by.at, "ended by an operator")?;
                incident.ended = Some(by.at);
            }
            incident.tell(by.at, format!("released: {}", by.reason), Some(by.operator.clone()));
        }
        if let Some(record) = self.hosts.get_mut(host) {
            (record.quarantine, record.admitted, record.power_on) = (None, None, None);
        }
        if ends {
            self.account_for(host);
            self.came_up(host);
        }
        self.release_flap(host);
        Ok(Outcome::done(format!("{host} is protected again")))
    }
}

impl Incident {
    /// A stuck incident goes on: what counted against it counts no more.
    pub(super) fn resume(&mut self, at: WallTime, text: &str) -> Result<(), Outcome> {
        self.turn(Phase::Fencing, at, text)?;
        self.attempts_before_resume = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.voided = 0;
        self.hooks.iter_mut().for_each(|hook| hook.excused = true);
        // What was left behind is planned anew: consent may have been given, or a wait be over.
        self.servers.retain(|_, record| !matches!(record.fate, Some(Fate::LeftBehind { .. })));
        for record in self.servers.values_mut() {
            record.attempts_excused = record.attempts;
            record.restore.resume();
            record.leg = Default::default();
        }
        self.reserve.resume();
        Ok(())
    }

    fn may_be_released(&self) -> Result<(), Outcome> {
        if self.is_open() && self.phase != Phase::Stuck {
            return Err(Outcome::refused(format!("{} has an open incident, {}: {}", self.host, self.id, self.phase)));
        }
        if let Some((server, _)) = self.servers.iter().find(|(_, record)| record.intent.is_some()) {
            return Err(Outcome::refused(format!("an evacuation of server {server} may still be under way (I11)")));
        }
        if !self.is_off_settled() {
            return Err(Outcome::refused(format!(
                "an off order of incident {} may still be under way: its leader waits for it, a minute and a half at most; again after a change of leader (I5)",
                self.id
            )));
        }
        Ok(())
    }
}
