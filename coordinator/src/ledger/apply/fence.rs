//! Attempts to power a host off: begun, and ended without a proof.

use std::collections::BTreeSet;

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::id::{HostName, IncidentId, LeadershipId, WallTime};
use rekindle_proto::status::Phase;

use super::super::FENCE_ATTEMPTS_MAX;
use super::super::incident::FenceAttempt;
use super::super::rate::RateClaim;
use super::super::state::Ledger;
use super::{Applied, Outcome, When};

/// An order to power off, as it is about to be given.
pub(super) struct FenceOrder<'a> {
    pub(super) attempt: u32,
    pub(super) author: LeadershipId,
    pub(super) level: u8,
    pub(super) devices: &'a [DeviceName],
    pub(super) not_after: WallTime,
    pub(super) rate: RateClaim,
    /// Another voter executes it.
    pub(super) executor: Option<&'a HostName>,
}

impl Ledger {
    pub(super) fn fence_intent(&mut self, when: When<'_>, id: IncidentId, order: &FenceOrder<'_>) -> Applied {
        self.may_act_on(id)?;
        self.may_fence(id, order.rate)?;
        if let Some(executor) = order.executor {
            self.may_execute(when, id, executor)?;
        }
        let guards = self.guards_of_fence(id, order.rate);
        let incident = self.incident_mut(id)?;
        let last = incident.attempts.last();
        if let Some(running) = last.filter(|last| last.failed.is_none()) {
            return Err(Outcome::refused(format!("fence attempt {} is not over", running.attempt)));
        }
        let last = last.map_or(0, |attempt| attempt.attempt);
        if last.checked_add(1) != Some(order.attempt) || incident.attempts.len() >= FENCE_ATTEMPTS_MAX {
            return Err(Outcome::refused(format!("fence attempt {} does not follow {last}", order.attempt)));
        }
        let distinct: BTreeSet<&DeviceName> = order.devices.iter().collect();
        if order.devices.is_empty() || distinct.len() != order.devices.len() {
            return Err(Outcome::refused("a fence attempt without a device, or with one twice"));
        }
        let names: Vec<String> = order.devices.iter().map(ToString::to_string).collect();
        let by = order.executor.map(|host| format!(", executed by {host}")).unwrap_or_default();
        let text =
            format!("attempt {}: power off by level {}: {}{by}", order.attempt, order.level, names.join(" and "));
        match incident.phase {
            Phase::Unclean => {
                incident.tell(when.at, guards, None);
                incident.turn(Phase::Fencing, when.at, text)?;
            }
            Phase::Fencing => {
                incident.tell(when.at, guards, None);
                incident.tell(when.at, text, None);
            }
            Phase::Suspect | Phase::Fenced | Phase::Evacuating | Phase::Recovered | Phase::Refuted | Phase::Stuck => {
                return Err(Outcome::refused(format!("incident is {}; no fence attempt now", incident.phase)));
            }
        }
        incident.attempts.push(FenceAttempt {
            attempt: order.attempt,
            term: when.term,
            author: order.author,
            level: order.level,
            devices: order.devices.to_vec(),
            not_after: order.not_after,
            failed: None,
            leader: when.leader.cloned(),
            at: Some(when.at),
            proof: None,
        });
        if let Some(executor) = order.executor {
            self.executors.insert((id, order.attempt), executor.clone());
        }
        self.count_fence(id, order.rate);
        Ok(Outcome::done(format!("fence attempt {} committed", order.attempt)))
    }

    pub(super) fn fence_failed(&mut self, at: WallTime, id: IncidentId, attempt: u32, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Fencing)?;
        let Some(last) = incident.attempts.last_mut().filter(|last| last.attempt == attempt) else {
            return Err(Outcome::refused(format!("attempt {attempt} is not the last")));
        };
        if last.failed.is_some() {
            return Err(Outcome::refused(format!("attempt {attempt} is over")));
        }
        last.failed = Some(why.clone());
        incident.tell(at, format!("attempt {attempt} gave no proof: {why}"), None);
        Ok(Outcome::done(format!("fence attempt {attempt} failed")))
    }

    /// A voter executes what the leader does not: secrets of devices are the voters' alone.
    fn may_execute(&self, when: When<'_>, id: IncidentId, executor: &HostName) -> Result<(), Outcome> {
        let host = self.incidents.get(&id).map(|incident| &incident.host);
        if host == Some(executor) || when.leader == Some(executor) {
            return Err(Outcome::refused(format!("{executor} is no other voter than the leader and the host itself")));
        }
        let voters = &self.voters.voters;
        // Before the first leader has written them down nobody knows them here.
        if voters.is_empty() || voters.contains_key(executor) {
            return Ok(());
        }
        Err(Outcome::refused(format!("{executor} executes no fence attempt: it is no voter")))
    }
}
