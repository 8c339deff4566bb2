//! Elections and the log: who leads, what is committed, who hears of it.

use super::*;

impl World {
    /// Whether a majority of voters can agree: without it nobody may act, and nothing is promised but safety.
    #[must_use]
    pub fn can_agree(&self) -> bool {
        self.raft
            .voters()
            .iter()
            .any(|voter| self.is_up(voter) && self.raft.has_majority(voter, |a, b| self.connected(a, b)))
    }

    pub(super) fn commit(&mut self, host: &HostName, start: u64, call: CallId, entry: Entry) {
        let leads = self.raft.leader() == Some(host) && self.is_current(host, start);
        if !leads {
            self.later(host, Duration::ZERO, Input::Proposed { call, result: Err(ProposeError::NotLeader) });
            return;
        }
        if !self.raft.has_majority(host, |a, b| self.connected(a, b)) {
            self.later(host, RAFT_TIMEOUT, Input::Proposed { call, result: Err(ProposeError::Unknown) });
            return;
        }
        let outcome = self.raft.commit(entry);
        self.replicate_all();
        if self.percent(self.weather.lost_commits_percent) {
            self.later(host, RAFT_TIMEOUT, Input::Proposed { call, result: Err(ProposeError::Unknown) });
            return;
        }
        self.later(host, Duration::from_micros(10), Input::Proposed { call, result: Ok(outcome) });
    }

    pub(super) fn replicate_all(&mut self) {
        let Some(leader) = self.raft.leader().cloned() else { return };
        let voters: Vec<HostName> = self
            .raft
            .voters()
            .iter()
            .filter(|voter| **voter == leader || self.connected(&leader, voter))
            .cloned()
            .collect();
        for voter in voters {
            self.replicate(&voter);
        }
    }

    pub(super) fn replicate(&mut self, voter: &HostName) {
        for (position, entry) in self.raft.catch_up(voter) {
            let input = Input::Committed { index: position.index, term: position.term, entry };
            self.later(voter, Duration::from_micros(5), input);
        }
    }

    pub(super) fn check(&mut self, host: &HostName, start: u64, call: CallId) {
        let holds = self.raft.leader() == Some(host) && self.is_current(host, start) && self.may_lead(host);
        let (after, result) = if holds {
            (Duration::from_micros(50), Ok(self.raft.term()))
        } else {
            (RAFT_TIMEOUT, Err("not enough for a quorum".into()))
        };
        let finished = self.now + after;
        self.later(host, after, Input::Linearizable { call, result, finished });
    }

    /// The leader may be gone: an election is due.
    pub(super) fn check_leader(&mut self) {
        let leader = self.raft.leader().cloned();
        let holds = leader.is_some_and(|leader| self.may_lead(&leader));
        if !holds && self.election.is_none() {
            let after = self.millis(1_500, 3_000);
            self.election = Some(self.now + after);
        }
    }

    fn may_lead(&self, voter: &HostName) -> bool {
        self.hosts.get(voter).is_some_and(|host| host.stands)
            && self.raft.has_majority(voter, |a, b| self.connected(a, b))
    }

    pub(super) fn elect(&mut self) {
        self.check_leader();
        if self.raft.leader().is_none() && self.raft.term().0 == 0 {
            self.election = Some(self.now);
        }
        if self.election.is_some_and(|due| due <= self.now) {
            self.election = None;
            let leader = self.raft.leader().cloned();
            let holds = leader.is_some_and(|leader| self.may_lead(&leader));
            if !holds {
                let able: Vec<HostName> = self
                    .raft
                    .voters()
                    .iter()
                    .filter(|voter| self.is_up(voter) && self.may_lead(voter))
                    .cloned()
                    .collect();
                if !able.is_empty() {
                    let choice = self.random(able.len());
                    self.raft.elect(Some(able[choice].clone()));
                    self.tell(format!("{} leads term {}", able[choice], self.raft.term()));
                    self.announce_leader();
                }
            }
        }
        self.replicate_all();
        self.announce_leader();
        self.schedule(Duration::from_millis(100), Happening::Election);
    }

    /// Voters that hear the leader believe in it; an isolated old leader goes on believing in itself.
    pub(super) fn announce_leader(&mut self) {
        let Some(leader) = self.raft.leader().cloned() else { return };
        let term = self.raft.term();
        let told: Vec<HostName> =
            self.raft.voters().iter().filter(|voter| self.connected(&leader, voter)).cloned().collect();
        for voter in told {
            let known = self.hosts.get(&voter).and_then(|host| host.coordinator.as_ref()).and_then(Coordinator::leads);
            let stale = if voter == leader { known != Some(term) } else { known.is_some() };
            if stale {
                self.later(&voter, Duration::from_millis(1), Input::Leadership { term, leader: Some(leader.clone()) });
            }
        }
    }

    /// Whether a majority of voters can agree, and 51 % of the roster is there: without it nothing is promised but safety.
    #[must_use]
    pub fn can_act(&self) -> bool {
        let present = self.hosts.keys().filter(|host| self.is_up(host)).count();
        self.can_agree() && present * 100 >= self.hosts.len() * 51
    }
}
