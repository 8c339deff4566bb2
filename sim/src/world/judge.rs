//! What the world tells its oracle, and what comes of it.

use rekindle_coordinator::ledger::{Outcome, Statement};

use super::power::Ordered;
use rekindle_proto::executor::ExecutorWord;
use rekindle_proto::id::IncidentId;

use super::*;
use crate::oracle;

/// How often, in entries, voters' whole states are compared, where nothing but a pulse was written.
const COMPARE_EVERY: usize = 16;

impl World {
    /// A server's copies have changed.
    pub(super) fn judge_server(&mut self, server: ServerId) {
        let verdict = oracle::never_twice(&self.nova, server);
        self.judge(verdict);
    }

    pub(super) fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.broken(violation);
        }
    }

    pub(super) fn oracle_hears(&mut self, to: Ix, input: &Input) {
        if let Input::Datagram { from, .. } | Input::Message { from, .. } | Input::Connected { peer: from, .. } = input
        {
            let host = &self.hosts[to];
            let leads = host.coordinator().is_some_and(|mind| mind.leads().is_some());
            if leads && !host.frozen && !host.starved {
                self.oracle.hears((&host.name, host.start), &from.host, from.boot, self.now);
            }
        }
    }

    /// An entry is agreed for the first time.
    pub(super) fn oracle_agreed(&mut self, index: usize) {
        let Some(agreed) = self.raft.at(index) else { return };
        self.oracle.agreed_in(agreed.record.term, self.now);
        if let Some(config) = agreed.record.config.clone() {
            self.voters_agreed(&config);
            return;
        }
        let Some(entry) = &agreed.record.entry else { return };
        let applied = agreed.outcome.as_ref().is_some_and(Outcome::is_applied);
        if !applied {
            *self.counters.entry("refused entries").or_default() += 1;
        }
        let verdict = self.oracle.agreed(self.now, entry, applied, self.raft.ledger());
        let pace = match &entry.statement {
            Statement::Leader { command, .. } if applied => {
                let most = self.policy.evacuations_at_once;
                self.oracle.within_pace(self.now, command, self.raft.ledger(), most)
            }
            Statement::Leader { .. } | Statement::Member { .. } | Statement::Operator(_) => Ok(()),
        };
        self.judge(verdict.and(pace));
    }

    /// A voter has taken in an entry: is its state the agreed one?
    pub(super) fn oracle_compare(&mut self, ix: Ix, index: usize, statement: &Statement) {
        let is_pulse = matches!(statement, Statement::Member { .. });
        if is_pulse && !index.is_multiple_of(COMPARE_EVERY) {
            return;
        }
        let Some(coordinator) = self.hosts[ix].coordinator() else { return };
        let (theirs, agreed) = (coordinator.ledger(), self.raft.ledger());
        if theirs.applied == agreed.applied && theirs != agreed {
            let host = self.hosts[ix].name.clone();
            self.broken(Violation::Diverged { host, index: index as u64 });
        }
    }

    /// Something is about to be done that needs no further entry.
    pub(super) fn oracle_acts(&mut self, ix: Ix, host: &HostName) {
        let by = &self.hosts[ix];
        let verdict = self.oracle.acts_as_leader(self.now, (&by.name, by.leads), host);
        self.judge(verdict);
    }

    /// Whose act an order is: the leader's, whoever executes it.
    fn ordered_by(&self, ix: Ix, key: (IncidentId, u32)) -> Ix {
        let ledger = self.raft.ledger();
        let is_executor = ledger.executors.get(&key) == Some(&self.hosts[ix].name);
        let attempts = ledger.incidents.get(&key.0).filter(|_| is_executor).map(|incident| &incident.attempts);
        let attempt = attempts.and_then(|attempts| attempts.iter().find(|attempt| attempt.attempt == key.1));
        attempt.and_then(|attempt| self.ix(attempt.leader.as_ref()?)).unwrap_or(ix)
    }

    /// What is said about an attempt that another voter executes.
    pub(super) fn note_executor(&mut self, from: Ix, word: &ExecutorWord) {
        self.oracle.executor_word(self.now, word);
        if let ExecutorWord::Done { result: Err(OrderError::TooLate), .. } = word {
            self.tell(format!("{} begins nothing: the go came too late", self.hosts[from].name));
        }
    }

    /// A driver begins an order: within what the leader granted, where another voter executes it.
    pub(super) fn oracle_off_begun(&mut self, ix: Ix, order: &PowerOffOrder) {
        let key = (order.incident(), order.attempt());
        let leader = self.ordered_by(ix, key);
        if leader != ix {
            let (executor, leader) = (&self.hosts[ix].name, &self.hosts[leader].name);
            self.tell(format!("{executor} executes attempt {} of incident {} for {leader}", key.1, key.0));
            let not_after = self.hosts[ix].clock.when(order.not_after());
            let verdict = self.oracle.off_begun(self.now, key, order.device(), not_after);
            self.judge(verdict);
        }
    }

    pub(super) fn oracle_off_ordered(&mut self, ix: Ix, order: &PowerOffOrder) {
        let key = (order.incident(), order.attempt());
        let not_after = self.hosts[ix].clock.when(order.not_after());
        let ix = self.ordered_by(ix, key);
        self.oracle_acts(ix, order.host());
        self.oracle.off_is_over(order.host(), not_after);
        if self.raft.ledger().rehearsals.contains_key(&key.0) {
            let running = self.nova.guests_on(order.host()).len();
            let verdict = self.oracle.rehearsal_ordered(self.now, order.host(), key.0, running, self.raft.ledger());
            self.judge(verdict);
            return;
        }
        let by = (&self.hosts[ix].name, self.hosts[ix].start);
        let verdict = self.oracle.off_ordered(self.now, by, order.host(), key, self.raft.ledger());
        self.judge(verdict);
    }

    pub(super) fn oracle_on_ordered(&mut self, ix: Ix, order: &PowerOnOrder) {
        self.oracle_acts(ix, order.host());
        let verdict = self.oracle.on_ordered(self.now, order.host(), self.raft.ledger());
        self.judge(verdict);
    }

    pub(super) fn oracle_off_executed(&mut self, machine: Ix, ordered: &Ordered, had_power: bool) {
        if !had_power {
            return;
        }
        let order = (&ordered.host, (ordered.incident, ordered.attempt), ordered.not_after);
        let lasts = Duration::from_secs(u64::from(self.policy.off_polls)) + self.policy.device_timeout;
        let verdict = self.oracle.off_executed(self.now, order, lasts, &self.hosts[machine].name, self.raft.ledger());
        self.judge(verdict);
    }

    pub(super) fn oracle_evacuate_sent(&mut self, ix: Ix, order: &EvacuateOrder) {
        let by = (&self.hosts[ix].name, self.hosts[ix].start);
        let key = (order.incident(), order.server(), order.attempt());
        let verdict = self.oracle.evacuate_sent(self.now, by, key, self.raft.ledger());
        self.judge(verdict);
        let host = self.raft.ledger().incidents.get(&order.incident()).map(|incident| incident.host.clone());
        let host = host.unwrap_or_else(|| self.hosts[ix].name.clone());
        // Judged when it is sent: where it arrives minutes later, a gate keeps whoever was powered on meanwhile from starting
        // anything, and without a gate the copies are counted.
        if self.ix(&host).is_some_and(|source| self.hosts[source].has_kernel()) {
            self.broken(Violation::EvacuatedFromPowered { server: order.server(), host: host.clone() });
        }
        let unread = self.nova.unread(order.server()).find(|host| !self.ix(host).is_some_and(|ix| self.hosts[ix].gate));
        if let Some(host) = unread.cloned() {
            self.broken(Violation::OrderUnread { server: order.server(), host });
        }
        self.oracle_acts(ix, &host);
    }

    /// The compute service of a host that has a gate has begun.
    pub(super) fn oracle_guests_start(&mut self, ix: Ix) {
        let host = &self.hosts[ix].name;
        let first = self.nova.guests_on(host).first().copied();
        let verdict = self.oracle.guests_started(host, first, self.raft.ledger());
        self.judge(verdict);
    }

    /// Something changed in who reaches whom: which voters lack their 51 %, and since when.
    pub(super) fn recount(&mut self) {
        let now = self.now;
        // Counted here, not asked of those who are judged.
        let needed = (self.hosts.len() * 51).div_ceil(100);
        let mut lacking = BTreeMap::new();
        for voter in &self.voters {
            let reach = |other: &Ix| *other == *voter || self.connected(*voter, *other);
            let present = (0..self.hosts.len()).filter(reach).count();
            if present < needed {
                let name = &self.hosts[*voter].name;
                let since = self.oracle.lacking.get(name).map_or(now, |(since, _)| *since);
                lacking.insert(name.clone(), (since, present));
            }
        }
        self.oracle.lacking = lacking;
        let is_cut = self.voters.iter().any(|voter| !self.reaches_services(*voter));
        self.oracle.devices_reached(now, !is_cut);
        let running = |host: &&Host| host.running;
        // As long as one machine has power, its boot says that not all was lost; a daemon that is stopped there loses nothing.
        if !self.hosts.iter().any(|host| host.has_kernel()) {
            self.oracle.seen.clear();
            self.oracle.began = now;
        }
        self.oracle.seen.extend(self.hosts.iter().filter(running).map(|host| host.name.clone()));
    }

    /// Liveness, long after everything has healed: every incident has ended, none is stuck without a cause, every server runs
    /// or is excused by name. Nothing is promised while the voters cannot agree, or 51 % are not there.
    ///
    /// # Errors
    /// The broken promise.
    pub fn judge_liveness(&self) -> Result<(), Violation> {
        if !self.can_act() {
            return Ok(());
        }
        oracle::all_end(&self.raft)?;
        oracle::stuck_for_a_cause(&self.oracle, self.raft.ledger())?;
        self.judge_replacement()?;
        self.all_noticed()?;
        self.all_restored()?;
        self.all_enabled()
    }

    /// The same in the middle of a story: incidents may be open, and nobody may be forgotten.
    ///
    /// # Errors
    /// The broken promise.
    pub fn judge_noticed(&self) -> Result<(), Violation> {
        if self.can_act() { self.all_noticed() } else { Ok(()) }
    }

    /// Every server of a dead host runs elsewhere, or is excused by name.
    fn all_noticed(&self) -> Result<(), Violation> {
        let ledger = self.raft.ledger();
        for server in self.nova.servers().filter(|server| server.vm_state.as_str() == "active") {
            if self.nova.copies(server.id) > 0 {
                continue;
            }
            let Some(host) = &server.host else { continue };
            let is_told = |incident: &rekindle_coordinator::ledger::Incident| {
                incident.host == *host && incident.is_open()
                    || incident.servers.get(&server.id).is_some_and(|record| record.fate.is_some())
            };
            let is_quarantined = ledger.host(host).is_some_and(|record| record.quarantine.is_some());
            let guest = ledger.guest_incidents.values().any(|guest| guest.server == server.id);
            if ledger.incidents.values().any(is_told) || is_quarantined || guest || ledger.brakes_of(host).is_some() {
                continue;
            }
            if self.ix(host).is_some_and(|ix| self.hosts[ix].has_kernel()) {
                return Err(Violation::Lost { server: server.id });
            }
            return Err(Violation::NeverNoticed { host: host.clone() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No guard of ours stands before this one, so that `tests/mutants` cannot trip it.
    #[test]
    fn a_panic_is_a_violation() {
        let mut world = World::new(1, 3, 3, 1, Weather::CALM);
        let nobody = Happening::Tick { host: 99, start: 0 };
        world.schedule(Duration::ZERO, nobody);
        let broken = world.run_until(Moment::ZERO + Duration::from_secs(1)).expect_err("it panics");
        assert!(matches!(&broken, Violation::Panicked { text } if text.contains("99")), "{broken}");
    }
}
