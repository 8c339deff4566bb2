//! Epochs, and brakes lifted by operators.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, IncidentId, LeadershipId, OperatorName, WallTime};
use rekindle_proto::status::Phase;

use super::super::epoch::{Epoch, VoterBoot};
use super::super::lift::{Lift, LiftTarget};
use super::super::rate::RateClaim;
use super::super::state::Ledger;
use super::{Applied, Outcome};
use crate::brake::{self, Brake};
use crate::mutant::{Guard, keeps};

/// Nobody's: an intent of an earlier epoch is waited out, and no leadership takes it for its own.
const NOBODY: LeadershipId = LeadershipId(0);

/// Most voters that can speak for a loss of power.
const VOTERS_MAX: usize = 7;

impl Ledger {
    /// Power was lost, or this is the first leader: nothing that was proven before is known now.
    pub(super) fn begin_epoch(&mut self, at: WallTime, number: u64, why: &Text, voters: &[VoterBoot]) -> Applied {
        if self.roster.is_empty() {
            return Err(Outcome::refused("there is no roster yet: rekindle init"));
        }
        if self.epoch.number.checked_add(1) != Some(number) {
            return Err(Outcome::refused(format!("epoch {number} does not follow {}", self.epoch.number)));
        }
        let names: BTreeSet<&HostName> = voters.iter().map(|voter| &voter.host).collect();
        if names.len() != voters.len() || voters.len() > VOTERS_MAX {
            return Err(Outcome::refused(format!("{} voters, or one of them twice", voters.len())));
        }
        let fresh = voters.iter().filter(|voter| self.epoch.is_fresh(voter)).count();
        if self.epoch.number > 0 && 2 * fresh <= voters.len() {
            return Err(Outcome::refused(format!(
                "{fresh} of {} voters booted lately: no loss of power",
                voters.len()
            )));
        }
        let void = format!("epoch {number} begins: {why}");
        for incident in self.incidents.values_mut().filter(|incident| incident.is_open()) {
            incident.void_by_epoch(at, &Text::new(void.clone()))?;
        }
        // A lift was given for what was then so.
        self.lifts.clear();
        // What was fenced before is proven again: it counts again.
        self.rate.incidents.clear();
        let boots: BTreeMap<HostName, BootId> = voters.iter().map(|voter| (voter.host.clone(), voter.boot)).collect();
        self.epoch = Epoch { number, began: at, why: why.clone(), elapsed_ms: 0, seen: BTreeSet::new(), boots };
        Ok(Outcome::done(void))
    }

    pub(super) fn mark_epoch(
        &mut self,
        number: u64,
        elapsed_ms: u64,
        seen: &[(HostName, SocketAddr)],
        voters: &[VoterBoot],
    ) -> Applied {
        if number != self.epoch.number {
            return Err(Outcome::refused(format!("this is epoch {}, not {number}", self.epoch.number)));
        }
        if voters.len() > VOTERS_MAX {
            return Err(Outcome::refused(format!("{} voters; at most {VOTERS_MAX}", voters.len())));
        }
        self.epoch.elapsed_ms = self.epoch.elapsed_ms.max(elapsed_ms);
        for (host, address) in seen.iter().filter(|(host, _)| self.roster.contains_key(host)) {
            self.epoch.seen.insert(host.clone());
            self.addresses.insert(host.clone(), *address);
        }
        for voter in voters.iter().filter(|voter| self.roster.contains_key(&voter.host)) {
            self.epoch.boots.insert(voter.host.clone(), voter.boot);
        }
        Ok(Outcome::done(format!("{} of epoch {number}: {} seen", brake::seconds(elapsed_ms), self.epoch.seen.len())))
    }

    /// An operator's word that a brake does not hold for one host.
    pub(super) fn lift_brake(
        &mut self,
        at: WallTime,
        by: &OperatorName,
        reason: &Text,
        target: &LiftTarget,
    ) -> Applied {
        let (host, incident) = match target {
            LiftTarget::Incident(id) => (self.incident_mut(*id)?.host.clone(), Some(*id)),
            LiftTarget::Host(host) if !self.is_hypervisor(host) => {
                return Err(Outcome::refused(format!("{host} is not a hypervisor of the roster")));
            }
            LiftTarget::Host(host) => (host.clone(), self.open_incident(host).map(|open| open.id)),
        };
        if let Some(incident) = incident.and_then(|id| self.incidents.get_mut(&id)) {
            incident.tell(at, format!("brakes lifted: {reason}"), Some(by.clone()));
        }
        self.lifts.insert(host.clone(), Lift { by: by.clone(), reason: reason.clone(), at, incident });
        Ok(Outcome::done(match incident {
            Some(id) => format!("brakes lifted for incident {id} of {host}; disarmed and maintenance hold as ever"),
            None => format!("brakes lifted for {host} until it is heard; disarmed and maintenance hold as ever"),
        }))
    }

    pub(super) fn drop_lift(&mut self, host: &HostName) -> Applied {
        match self.lifts.get(host) {
            Some(lift) if lift.incident.is_none() => {
                self.lifts.remove(host);
                Ok(Outcome::done(format!("{host} is alive: the brakes hold again")))
            }
            Some(_) | None => Err(Outcome::refused(format!("no lift of {host} waits for an incident"))),
        }
    }

    /// The lift of a host becomes its incident's.
    pub(super) fn bind_lift(&mut self, at: WallTime, host: &HostName, id: IncidentId) {
        let Some(lift) = self.lifts.get_mut(host) else { return };
        lift.incident = Some(id);
        let (text, by) = (format!("brakes lifted: {}", lift.reason), lift.by.clone());
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text, Some(by));
        }
    }

    /// What belonged to incidents that are closed is forgotten.
    pub(super) fn forget_closed(&mut self) {
        let is_open = |id: IncidentId| self.incidents.get(&id).is_some_and(super::Incident::is_open);
        self.lifts.retain(|_, lift| lift.incident.is_none_or(is_open));
        self.rate.incidents.retain(|id| is_open(*id));
    }

    /// The brakes the ledger holds before an incident: cold start and cap. Those on an off order: [`Self::may_fence`].
    pub(super) fn may_begin(&self, host: &HostName, needed_by: Option<IncidentId>) -> Result<(), Outcome> {
        let held = brake::cold_start(self, host).or_else(|| brake::domain_cap(self, host, needed_by));
        self.unless_lifted(host, held)
    }

    /// The brakes on an off order: cold start and rate.
    pub(super) fn may_fence(&self, id: IncidentId, claim: RateClaim) -> Result<(), Outcome> {
        let Some(incident) = self.incidents.get(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let held = brake::cold_start(self, &incident.host).or_else(|| brake::fence_rate(self, id, claim));
        self.unless_lifted(&incident.host, held)
    }

    /// The first off order of an incident in this epoch counts; its further attempts do not.
    pub(super) fn count_fence(&mut self, id: IncidentId, claim: RateClaim) {
        if !self.rate.incidents.contains(&id) {
            let waited = self.rate.waited(claim);
            self.rate.count(id, waited);
        }
    }

    fn unless_lifted(&self, host: &HostName, held: Option<Brake>) -> Result<(), Outcome> {
        match held {
            Some(brake) if self.lift_of(host).is_none() => Err(Outcome::refused(brake.to_string())),
            Some(_) | None => Ok(()),
        }
    }
}

impl super::Incident {
    /// Nothing that was ordered or read before a loss of power holds now. Servers already moved stay moved. Open
    /// evacuate intents stay open until they are settled, and are nobody's to call (I11).
    fn void_by_epoch(&mut self, at: WallTime, why: &Text) -> Result<(), Outcome> {
        if !keeps(Guard::EpochVoids) {
            return Ok(());
        }
        match self.phase {
            Phase::Fenced | Phase::Evacuating => self.turn(Phase::Fencing, at, why.clone())?,
            Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Stuck => self.tell(at, why.clone(), None),
            Phase::Recovered | Phase::Refuted => {}
        }
        self.proof = None;
        self.heartbeat = None;
        self.end_attempt(why);
        self.attempts_before_resume = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        for intent in self.servers.values_mut().filter_map(|record| record.intent.as_mut()) {
            intent.author = NOBODY;
        }
        Ok(())
    }
}
