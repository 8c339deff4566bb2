//! Armed and withdrawn watchdogs, and the two proofs that no device gives: a watchdog that ran out, an operator's word.

use rekindle_proto::fact::{Text, Watchdog};
use rekindle_proto::id::{BootId, HostName, IncidentId, WallTime};
use rekindle_proto::status::Phase;

use super::super::evidence::{Evidence, StatementEvidence, WatchdogEvidence};
use super::super::incident::{Incident, Proof};
use super::super::state::Ledger;
use super::super::watchdog::{ArmedWatchdog, Stamp, WatchdogRecord};
use super::operator::By;
use super::{Applied, Outcome, When};
use crate::fencing::{PROOF_AFTER, check_times};

impl Ledger {
    pub(super) fn arm_watchdog(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: BootId,
        stamp: Stamp,
        watchdog: &Watchdog,
    ) -> Applied {
        if watchdog.soft {
            return Err(Outcome::refused(format!("{}: a software watchdog dies with its kernel", watchdog.device)));
        }
        check_times(watchdog.timeout_ms).map_err(|unsafe_times| Outcome::refused(unsafe_times.to_string()))?;
        self.newer_than_known(host, stamp)?;
        let armed = Some(ArmedWatchdog { boot, watchdog: watchdog.clone(), at });
        self.hosts.entry(host.clone()).or_default().watchdog = Some(WatchdogRecord { stamp, armed });
        let runs = if watchdog.running { ", and runs" } else { "" };
        Ok(Outcome::done(format!("{host}: watchdog {} armed{runs}", watchdog.device)))
    }

    pub(super) fn withdraw_watchdog(&mut self, host: &HostName, stamp: Stamp) -> Applied {
        self.newer_than_known(host, stamp)?;
        self.hosts.entry(host.clone()).or_default().watchdog = Some(WatchdogRecord { stamp, armed: None });
        Ok(Outcome::done(format!("{host}: watchdog withdrawn")))
    }

    fn newer_than_known(&self, host: &HostName, stamp: Stamp) -> Result<(), Outcome> {
        let known = self.hosts.get(host).and_then(|record| record.watchdog.as_ref()).map(|record| record.stamp);
        match known.filter(|known| stamp <= *known) {
            Some(_) => Err(Outcome::refused(format!("{host} has said something later of its watchdog"))),
            None => Ok(()),
        }
    }

    pub(super) fn confirm_watchdog(&mut self, when: When<'_>, id: IncidentId, evidence: &WatchdogEvidence) -> Applied {
        let incident = self.incident_mut(id)?;
        let (host, boot) = (incident.host.clone(), incident.boot);
        incident.no_attempt_runs()?;
        if boot != Some(evidence.boot) || self.running_watchdog(&host, evidence.boot).is_none() {
            return Err(Outcome::refused(format!("no watchdog of {host} is armed in the boot it was last heard in")));
        }
        let needed_ms = u64::try_from(PROOF_AFTER.as_millis()).unwrap_or(u64::MAX);
        if evidence.waited_ms < needed_ms {
            return Err(Outcome::refused(format!("waited {} ms; {needed_ms} are needed", evidence.waited_ms)));
        }
        let text = format!(
            "off, by its own watchdog {}: no lease and no word for {} s",
            evidence.device,
            evidence.waited_ms / 1_000
        );
        let incident = self.incident_mut(id)?;
        incident.prove(when.at, Evidence::Watchdog(evidence.clone()), text.into())?;
        Ok(Outcome::done(format!("{host} is off by its watchdog")))
    }

    /// An operator has seen that the host is off.
    pub(super) fn confirm_off(&mut self, by: &By<'_>, id: IncidentId, checked: &Text) -> Applied {
        if checked.as_str().trim().is_empty() {
            return Err(Outcome::refused("it must be said what was checked"));
        }
        let incident = self.incident_mut(id)?;
        match incident.phase {
            Phase::Unclean | Phase::Fencing | Phase::Stuck => {}
            Phase::Suspect | Phase::Fenced | Phase::Evacuating | Phase::Recovered | Phase::Refuted => {
                return Err(Outcome::refused(format!("incident {id} is {}: it is proven off already", incident.phase)));
            }
        }
        if incident.phase == Phase::Stuck {
            incident.resume(by.at, "resumed by an operator's word")?;
        }
        let statement =
            StatementEvidence { operator: by.operator.clone(), checked: checked.clone(), reason: by.reason.clone() };
        let text = format!("off, by the word of {}, who checked: {checked}", by.operator);
        incident.end_attempt(&"an operator says that it is off".into());
        incident.prove(by.at, Evidence::Statement(statement), text.into())?;
        incident.tell(by.at, by.reason.clone(), Some(by.operator.clone()));
        Ok(Outcome::done(format!("{} is taken for off, by your word", incident.host)))
    }

    /// What rested on a watchdog was contradicted: that watchdog proves nothing more.
    pub(super) fn distrust_watchdog(&mut self, host: &HostName) {
        if let Some(record) = self.hosts.get_mut(host).and_then(|record| record.watchdog.as_mut()) {
            record.armed = None;
        }
    }
}

impl Incident {
    fn no_attempt_runs(&self) -> Result<(), Outcome> {
        match self.last_attempt().filter(|attempt| attempt.failed.is_none()) {
            Some(running) => Err(Outcome::refused(format!("fence attempt {} is not over", running.attempt))),
            None => Ok(()),
        }
    }

    /// Fenced, by something else than the running attempt of a leader.
    fn prove(&mut self, at: WallTime, evidence: Evidence, text: Text) -> Result<(), Outcome> {
        if self.phase == Phase::Unclean {
            self.turn(Phase::Fencing, at, "proven without an order to any device")?;
        }
        self.turn(Phase::Fenced, at, text)?;
        let attempt = self.last_attempt().map_or(0, |attempt| attempt.attempt);
        self.proof = Some(Proof { attempt, evidence, at });
        Ok(())
    }
}
