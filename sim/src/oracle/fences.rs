//! Judged when an off order is given, and when a device carries one out (I2 to I6).

use std::time::Duration;

use rekindle_coordinator::ledger::{Ledger, unsettled};
use rekindle_coordinator::time::Moment;
use rekindle_proto::executor::ExecutorWord;
use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::{HostName, IncidentId, ServerId, Term};

use super::{BINDS_AFTER, DEPOSED_ACTS, OFF_SETTLE, Oracle, RATE_MAX, RATE_WINDOW, ROLL_SPEAKS, Violation};

/// Clocks differ by 500 parts in a million: a tenth of a second in the minutes that an attempt may last.
const CLOCKS_DIFFER: Duration = Duration::from_millis(100);

impl Oracle {
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

    /// What a leader and the voter that executes for it say to each other.
    pub(crate) fn executor_word(&mut self, now: Moment, word: &ExecutorWord) {
        match word {
            ExecutorWord::Task { call, incident, attempt, device } => {
                self.tasks.insert(*call, (*incident, *attempt, device.clone()));
            }
            ExecutorWord::MayI { question, task } => {
                if let Some(of) = self.tasks.get(task) {
                    self.asked.insert(*question, of.clone());
                }
            }
            ExecutorWord::Go { question, begin_within_ms, kill_within_ms, .. } => {
                if let Some(of) = self.asked.get(question) {
                    let until = |ms: u32| now + Duration::from_millis(u64::from(ms));
                    self.granted.insert(of.clone(), (until(*begin_within_ms), until(*kill_within_ms)));
                }
            }
            ExecutorWord::Refused { .. }
            | ExecutorWord::Done { .. }
            | ExecutorWord::Read { .. }
            | ExecutorWord::Reading { .. } => {}
        }
    }

    /// I3, I5: whoever executes for a leader begins while that leader's permit lasts, and ends by its not-after. Source: issue,
    /// "alternating executors"; design section 3.
    pub(crate) fn off_begun(
        &self,
        now: Moment,
        (incident, attempt): (IncidentId, u32),
        device: &DeviceName,
        not_after: Moment,
    ) -> Result<(), Violation> {
        let begun_late = |late: Duration| {
            let order = format!("attempt {attempt} of incident {incident}");
            Err(Violation::BegunLate { order, late_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX) })
        };
        match self.granted.get(&(incident, attempt, device.clone())) {
            None => begun_late(Duration::MAX),
            Some((begin_before, _)) if now > *begin_before => begun_late(now.since(*begin_before)),
            Some((_, killed)) if not_after > *killed + CLOCKS_DIFFER => begun_late(not_after.since(*killed)),
            Some(_) => Ok(()),
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
        self.first_ordered.entry(key).or_insert(now);
        self.one_leader_an_intent(leader, start, key)?;
        self.no_brake(now, host)?;
        self.most_can_answer(now, leader, host, ledger)?;
        // Where the operator lets one network suffice, a host is fenced that is heard on another.
        if ledger.incidents.get(&key.0).is_none_or(|incident| incident.verdict.path.is_none()) {
            self.not_heard(by, host, key.1)?;
        }
        self.not_too_fast(now, key.0)
    }

    /// An off order has reached a device of the host, which may do it, or not.
    pub(crate) fn off_reached(&mut self, host: &HostName, key: (IncidentId, u32)) {
        if self.offs_reached.insert(key) {
            self.off_reads.remove(host);
        }
    }

    /// An off order was given whose driver is killed then.
    pub(crate) fn off_is_over(&mut self, host: &HostName, not_after: Moment) {
        let last = self.offs_over.entry(host.clone()).or_insert(not_after);
        *last = (*last).max(not_after);
    }

    /// I4: a rehearsal is of an empty host, which an operator has in hand. `running`: its guests, in truth. Source: issue,
    /// "a named, empty, maintenance-mode host".
    pub(crate) fn rehearsal_ordered(
        &self,
        now: Moment,
        host: &HostName,
        id: IncidentId,
        running: usize,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let unfit = |why: &str| Err(Violation::RehearsedUnfit { host: host.clone(), why: why.to_owned() });
        if self.braked.get(&None).is_some_and(|since| now.since(*since) > BINDS_AFTER) {
            return Err(Violation::FencedUnderBrake { host: host.clone(), brake: "disarmed".to_owned() });
        }
        if running > 0 {
            return unfit("guests run there");
        }
        if !self.braked.contains_key(&Some(host.clone())) {
            return unfit("it is not in maintenance");
        }
        match ledger.open_rehearsal().is_some_and(|open| open.id == id && open.host == *host) {
            true => Ok(()),
            false => unfit("its rehearsal is not under way"),
        }
    }

    /// I5: no power before nothing of an off order can have an effect any more, and none for a host that is being recovered,
    /// or whose failure is not settled (I7). Source: design section 3.
    pub(crate) fn on_ordered(&self, now: Moment, host: &HostName, ledger: &Ledger) -> Result<(), Violation> {
        // Clocks differ by 500 parts in a million: a tenth of a second in these minutes.
        let early = self.offs_over.get(host).filter(|over| now + Duration::from_millis(100) < **over + OFF_SETTLE);
        let early = early.map(|over| (*over + OFF_SETTLE).since(now).as_secs());
        match (early, unsettled(ledger, host)) {
            (Some(early_s), _) => {
                let why = format!("{early_s} s before its off order was over");
                Err(Violation::PoweredOnEarly { host: host.clone(), why })
            }
            (None, Some(why)) => Err(Violation::PoweredOnEarly { host: host.clone(), why: why.to_string() }),
            (None, None) => Ok(()),
        }
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
        // In the same boot it refutes; in another it is a failure of its own, for which nobody is powered off.
        match heard {
            Some(_) if attempt == 1 => Err(Violation::HeardAndFenced { host: host.clone(), leader: leader.0.clone() }),
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

    /// A device carried out an off order.
    pub(crate) fn off_executed(
        &self,
        now: Moment,
        order: (&HostName, (IncidentId, u32), Moment),
        lasts: Duration,
        machine: &HostName,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let (host, key, not_after) = order;
        let incident = key.0;
        // Whose machine it is is what it is done for; that it was empty was judged when it was ordered.
        if ledger.rehearsals.contains_key(&incident) {
            return Ok(());
        }
        if host != machine {
            return Err(Violation::FencedWrongMachine { host: host.clone(), machine: machine.clone() });
        }
        // What the order itself says counts only as far as an attempt may last.
        let not_after = self.first_ordered.get(&key).map_or(not_after, |given| not_after.min(*given + lasts));
        let late = now.since(not_after);
        if late > OFF_SETTLE {
            return Err(Violation::OffTooLate { host: host.clone(), late_s: late.as_secs() });
        }
        let is_open = ledger.incidents.get(&incident).is_some_and(|incident| incident.is_open());
        let is_quarantined = ledger.host(host).is_some_and(|record| record.quarantine.is_some());
        if is_open || is_quarantined { Ok(()) } else { Err(Violation::FencedWithoutIncident { host: host.clone() }) }
    }

    /// A host with a gate has started its guests, or would have: `first` is one of them.
    ///
    /// I7. Source: design section 3. What counts is a fence: an incident that is opened after the gate's question was answered
    /// overtakes nobody, as whatever was started dies with the power.
    pub(crate) fn guests_started(
        &self,
        host: &HostName,
        first: Option<ServerId>,
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let Some(server) = first else { return Ok(()) };
        let is_fenced = ledger.open_incident(host).is_some_and(|incident| !incident.attempts.is_empty());
        let is_quarantined = ledger.host(host).is_some_and(|record| record.quarantine.is_some());
        if is_fenced || is_quarantined {
            return Err(Violation::StartedBeforeGate { host: host.clone(), server });
        }
        Ok(())
    }
}
