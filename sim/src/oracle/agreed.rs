//! Judged of every agreed entry (I2, I4, I5), and what the oracle learns from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_coordinator::ledger::{Entry, Incident, LeaderCommand, Ledger, Statement};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::PowerState;
use rekindle_proto::id::{HostName, Term};
use rekindle_proto::status::Phase;

use super::{COLD_START, COLD_START_SEEN_PERCENT, CUT_ECHO, Oracle, READS_APART, Violation};

impl Oracle {
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
        let stuck = |incident: &&Incident| incident.phase == Phase::Stuck;
        let mut known = BTreeMap::new();
        for incident in ledger.open_incidents().filter(stuck) {
            let began = opened.get(&incident.host).map_or(now, |(at, _)| *at);
            let cut = || self.cut.is_some() || self.cut_ended.is_some_and(|ended| ended + CUT_ECHO >= began);
            known.insert(incident.id, self.stuck.get(&incident.id).copied().unwrap_or_else(cut));
        }
        self.stuck = known;
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
        let LeaderCommand::ConfirmFence { incident, attempt, proof } = command else { return Ok(()) };
        if self.takes_words && proof.devices.iter().all(|reads| reads.unverified) {
            return Ok(());
        }
        let Some(host) = ledger.incidents.get(incident).map(|incident| &incident.host) else { return Ok(()) };
        let is_ordered = self.offs_reached.contains(&(*incident, *attempt));
        let read = self.off_reads.get(host).filter(|_| is_ordered);
        let apart = read.map_or(Duration::ZERO, |(_, longest)| *longest);
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
    | LeaderCommand::FenceIntentBy { incident: id, .. }
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
