//! The voters: their Raft, their disks, and what their coordinators hear of it.

use rekindle_coordinator::ledger::{LeaderCommand, Statement};
use rekindle_proto::id::LogIndex;
use rekindle_proto::message::{MESSAGE_BYTES_MAX, decode, encode};

use super::*;
use crate::raft::{ELECTION_MAX, ELECTION_MIN, Role, STORES, Wish};

impl World {
    fn election(&mut self) -> Duration {
        self.millis(ELECTION_MIN.as_millis() as u64, ELECTION_MAX.as_millis() as u64)
    }

    /// Lets a voter's Raft act, and does what it wishes.
    pub(super) fn raft(&mut self, ix: Ix, act: impl FnOnce(&mut Node, &mut Vec<Wish>)) {
        let Some(node) = self.hosts[ix].node.as_mut() else { return };
        let mut wishes = std::mem::take(&mut self.wishes);
        act(node, &mut wishes);
        for wish in wishes.drain(..) {
            self.raft_wish(ix, wish);
        }
        self.wishes = wishes;
        self.raft_deadline(ix);
    }

    fn raft_deadline(&mut self, ix: Ix) {
        let now = self.now;
        let host = &mut self.hosts[ix];
        let (Some(node), true) = (&host.node, host.running) else { return };
        if node.is_broken || host.raft_tick.is_some_and(|tick| tick <= node.deadline && tick > now) {
            return;
        }
        let due = node.deadline.max(now + Duration::from_micros(1));
        host.raft_tick = Some(due);
        self.queue.put(due, Happening::RaftTick { host: ix as u32, start: host.start });
    }

    fn raft_wish(&mut self, ix: Ix, wish: Wish) {
        let start = self.hosts[ix].start;
        let from = self.hosts[ix].node.as_ref().map_or(ix, Node::number);
        match wish {
            Wish::Send(store, word) => {
                let to = store % STORES;
                // What is meant for a store that is no more is answered in another's name, and that answer is not heard.
                let is_there = self.hosts[to].node.as_ref().is_some_and(|node| node.number() == store);
                if is_there && self.hosts[to].running && self.net.carries(ix, to, 0) && self.net.carries(to, ix, 0) {
                    let (delay, start) = (self.delay(), self.hosts[to].start);
                    let word = Box::new(word);
                    self.schedule(delay, Happening::Raft { to: to as u32, from: from as u32, start, word });
                }
            }
            Wish::Write(index) => self.raft_write(ix, index),
            Wish::Leadership => self.raft_leadership(ix),
            Wish::Commit => self.raft_commit(ix),
            Wish::Restore(index) => {
                self.count("snapshots installed");
                let ledger = Box::new(self.raft.state_at(index));
                self.input_of_voter(ix, Input::Restored { ledger });
            }
            Wish::Confirmed(call) => {
                let Some(node) = &self.hosts[ix].node else { return };
                let (term, finished) = (node.term, self.clock(ix).mono);
                self.later(
                    ix,
                    start,
                    Duration::from_micros(50),
                    Input::Linearizable { call, result: Ok(term), finished },
                );
            }
        }
    }

    fn input_of_voter(&mut self, ix: Ix, input: Input) {
        let start = self.hosts[ix].start;
        self.arrive(ix, start, false, input);
    }

    fn raft_write(&mut self, ix: Ix, index: usize) {
        let (host, start) = (ix as u32, self.hosts[ix].start);
        if self.hosts[ix].tears_next {
            self.hosts[ix].tears_next = false;
            self.tell(format!(
                "rekindled of {} crashes while it writes its ledger: the write is torn",
                self.hosts[ix].name
            ));
            self.count("torn writes");
            if let Some(node) = self.hosts[ix].node.as_mut() {
                node.tear();
            }
            self.crash(ix, true);
            return;
        }
        let after = match self.hosts[ix].disk {
            Disk::Good => self.millis(1, 3),
            Disk::Slow(millis) => self.millis(u64::from(millis) / 2, u64::from(millis) + 1),
            Disk::Full => {
                // A ledger that cannot be written to stops its voter, loudly.
                if let Some(node) = self.hosts[ix].node.as_mut().filter(|node| !node.is_broken) {
                    node.is_broken = true;
                    node.role = Role::Follower;
                    self.tell(format!("the ledger of {} cannot be written: disk full", self.hosts[ix].name));
                    let term = self.hosts[ix].node.as_ref().map(|node| node.term).unwrap_or_default();
                    self.later(ix, start, Duration::from_millis(1), Input::Leadership { term, leader: None });
                }
                return;
            }
        };
        self.schedule(after, Happening::Written { host, start, index });
    }

    fn raft_leadership(&mut self, ix: Ix) {
        let Some(node) = &self.hosts[ix].node else { return };
        let (term, leader, leads) = (node.term, node.leader, node.role == Role::Leader);
        if leads {
            self.oracle_elected(ix, term);
            self.count("elections");
            self.tell(format!("{} leads term {term}", self.hosts[ix].name));
        }
        if !leads {
            self.change_ends(ix, Err("we do not lead any more".into()));
        }
        let leader = leader.map(|leader| self.hosts[leader % STORES].name.clone());
        let start = self.hosts[ix].start;
        self.later(ix, start, Duration::from_micros(200), Input::Leadership { term, leader });
    }

    /// What a voter holds to be committed is applied there, and is agreed.
    fn raft_commit(&mut self, ix: Ix) {
        loop {
            let Some(node) = self.hosts[ix].node.as_mut() else { return };
            if node.applied >= node.commit {
                return;
            }
            let index = node.applied + 1;
            let Some(record) = node.record(index).cloned() else { return };
            node.applied = index;
            let is_first = index > self.raft.len();
            if !self.raft.agree(index, &record) {
                let host = self.hosts[ix].name.clone();
                self.broken(Violation::Diverged { host, index: index as u64 });
                return;
            }
            if is_first {
                self.oracle_agreed(index);
            }
            if record.config.is_some() {
                self.change_goes_on(ix, index, record.term);
            }
            if let Some(entry) = &record.entry {
                let position = LogIndex(index as u64);
                let input = Input::Committed { index: position, term: record.term, entry: entry.clone() };
                self.input_of_voter(ix, input);
                self.oracle_compare(ix, index, &entry.statement);
            }
            self.answer_proposer(ix, index, &record);
        }
    }

    fn answer_proposer(&mut self, ix: Ix, index: usize, record: &crate::raft::Record) {
        let mine = |(_, place): &(&(Ix, CallId), &(usize, _))| **place == (index, record.term);
        let mut asked = self.pending.range((ix, CallId(0))..=(ix, CallId(u64::MAX))).filter(mine).map(|(key, _)| *key);
        let Some(key) = asked.next() else { return };
        let Some(outcome) = self.raft.at(index).and_then(|agreed| agreed.outcome.clone()) else { return };
        if self.percent(self.weather.lost_commits_percent) {
            return;
        }
        self.pending.remove(&key);
        let start = self.hosts[ix].start;
        self.later(ix, start, Duration::from_micros(10), Input::Proposed { call: key.1, result: Ok(outcome) });
    }

    pub(super) fn propose(&mut self, ix: Ix, start: u32, call: CallId, entry: Entry) {
        if !self.is_current(ix, start) {
            return;
        }
        // As the daemon's adapter does: what voters cannot read must never be logged (I9).
        let bytes = encode(&entry, MESSAGE_BYTES_MAX).unwrap_or_default();
        assert_eq!(decode::<Entry>(&bytes, MESSAGE_BYTES_MAX).as_ref(), Ok(&entry), "an entry reads as it was written");
        if self.hosts[ix].frozen {
            self.schedule(
                Duration::from_millis(100),
                Happening::Propose { host: ix as u32, start, call, entry: Box::new(entry) },
            );
            return;
        }
        let leads = self.hosts[ix].node.as_ref().filter(|node| node.role == Role::Leader).map(|node| node.term);
        let Some(term) = leads else {
            self.later(ix, start, Duration::ZERO, Input::Proposed { call, result: Err(ProposeError::NotLeader) });
            return;
        };
        let now = self.now;
        let mut index = 0;
        self.schedule(RAFT_TIMEOUT, Happening::GiveUp { host: ix as u32, start, call });
        self.raft(ix, |node, out| index = node.append(now, Some(entry), out));
        if self.is_current(ix, start) {
            self.pending.insert((ix, call), (index, term));
        }
    }

    pub(super) fn raft_give_up(&mut self, ix: Ix, start: u32, call: CallId) {
        if self.pending.remove(&(ix, call)).is_some() {
            self.later(ix, start, Duration::ZERO, Input::Proposed { call, result: Err(ProposeError::Unknown) });
        } else if self.is_current(ix, start) && self.hosts[ix].node.as_mut().is_some_and(|node| node.give_up(call)) {
            let finished = self.clock(ix).mono;
            let result = Err("not enough for a quorum".into());
            self.later(ix, start, Duration::ZERO, Input::Linearizable { call, result, finished });
        }
    }

    pub(super) fn check(&mut self, ix: Ix, start: u32, call: CallId) {
        if !self.is_current(ix, start) {
            return;
        }
        if !self.hosts[ix].node.as_ref().is_some_and(|node| node.role == Role::Leader) {
            let finished = self.clock(ix).mono;
            let result = Err("not the leader".into());
            self.later(ix, start, Duration::from_millis(1), Input::Linearizable { call, result, finished });
            return;
        }
        self.schedule(RAFT_TIMEOUT, Happening::GiveUp { host: ix as u32, start, call });
        let now = self.now;
        self.raft(ix, |node, out| node.check(now, call, out));
    }

    pub(super) fn raft_word(&mut self, to: Ix, from: Ix, start: u32, word: Word) {
        if !self.is_current(to, start) {
            return;
        }
        if self.hosts[to].frozen {
            // A connection to a stopped process keeps little: its voters ask again.
            return;
        }
        if self.hosts[to].starved {
            let after = self.millis(STARVED_MS.0, STARVED_MS.1);
            if after > Duration::from_secs(2) {
                return;
            }
        }
        let (now, election) = (self.now, self.election());
        self.raft(to, |node, out| node.hear(now, from, word, election, out));
    }

    pub(super) fn raft_tick(&mut self, ix: Ix, start: u32) {
        if !self.is_current(ix, start) || self.hosts[ix].raft_tick != Some(self.now) {
            return;
        }
        self.hosts[ix].raft_tick = None;
        if self.hosts[ix].frozen {
            return;
        }
        let (now, election) = (self.now, self.election());
        self.raft(ix, |node, out| node.tick(now, election, out));
    }

    /// A stopped process goes on: its timers were due meanwhile.
    pub(super) fn wake_raft(&mut self, ix: Ix) {
        self.hosts[ix].raft_tick = None;
        self.raft_deadline(ix);
    }

    pub(super) fn raft_written(&mut self, ix: Ix, start: u32, index: usize) {
        if !self.is_current(ix, start) {
            return;
        }
        let now = self.now;
        self.raft(ix, |node, out| {
            node.written(now, index, out);
            node.acknowledge(index, out);
        });
    }

    /// A voter's process starts: its coordinator is given what its disk knows to be agreed.
    pub(super) fn start_raft(&mut self, ix: Ix) {
        self.pending.retain(|(host, _), _| *host != ix);
        self.begin_looking(ix);
        let (now, election) = (self.now, self.election());
        let is_first = now == Moment::ZERO;
        let Some(node) = self.hosts[ix].node.as_mut() else { return };
        let mut wishes = Vec::new();
        node.start(now, is_first, election, &mut wishes);
        let applied = node.applied;
        let ledger = Box::new(self.raft.state_at(applied));
        self.input(ix, Input::Restored { ledger });
        for wish in wishes {
            self.raft_wish(ix, wish);
        }
        self.raft_deadline(ix);
    }

    /// Who leads in the newest term, among those that run.
    #[must_use]
    pub fn leader(&self) -> Option<HostName> {
        self.leading().map(|ix| self.hosts[ix].name.clone())
    }

    pub(super) fn leading(&self) -> Option<Ix> {
        let leads = |ix: &Ix| {
            let host = &self.hosts[*ix];
            host.node.as_ref().filter(|node| host.running && node.role == Role::Leader).map(|node| (node.term, *ix))
        };
        self.keepers.iter().filter_map(leads).max().map(|(_, ix)| ix)
    }

    /// This voter stands for election now, and whoever it reaches grants it.
    pub fn elect(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host).filter(|ix| self.hosts[*ix].running) else { return };
        let now = self.now;
        self.raft(ix, |node, out| node.stand(now, true, out));
    }

    /// The leader is cut off from the other voters for a moment, long enough for another to be elected; it believes in itself
    /// meanwhile.
    pub fn depose(&mut self) {
        let Some(leader) = self.leading() else { return };
        let others: Vec<Ix> =
            self.voters.iter().copied().filter(|voter| *voter != leader && self.speaks(*voter)).collect();
        if others.is_empty() {
            return;
        }
        let chosen = others[self.random(others.len())];
        let name = self.hosts[chosen].name.clone();
        self.count("leaders deposed");
        self.tell(format!("{} stands against {}", name, self.hosts[leader].name));
        self.elect(&name);
    }

    /// The leader of the moment proposes what its own coordinator would not, as one that has lost its mind: against that only
    /// stands what every voter refuses by itself.
    pub fn misled(&mut self, command: LeaderCommand) {
        let Some(ix) = self.leading() else { return };
        let Some(term) = self.hosts[ix].node.as_ref().map(|node| node.term) else { return };
        let (start, host, wall) = (self.hosts[ix].start, self.hosts[ix].name.clone(), self.clock(ix).wall);
        self.queries += 1;
        // From the other end than the coordinator's own: it does not know this call.
        let call = CallId(u64::MAX - self.queries);
        let entry = Box::new(Entry::new(wall, Statement::Leader { host, term, command }));
        self.schedule(Duration::ZERO, Happening::Propose { host: ix as u32, start, call, entry });
    }

    /// Whether a majority of voters can agree: without it nobody may act, and nothing is promised but safety.
    #[must_use]
    pub fn can_agree(&self) -> bool {
        let able = |ix: &Ix| self.speaks(*ix) && self.hosts[*ix].node.as_ref().is_some_and(|node| !node.is_broken);
        let able: Vec<Ix> = self.keepers.iter().copied().filter(able).collect();
        let (agreed, _) = self.raft.config();
        let node = |ix: Ix| self.hosts[ix].node.as_ref();
        let votes = |ix: &&Ix| {
            node(**ix).is_some_and(|node| node.config_index() >= agreed && node.config().votes(node.number()))
        };
        able.iter().filter(votes).any(|a| {
            let there: BTreeSet<Ix> = able.iter().copied().filter(|b| b == a || self.connected(*a, *b)).collect();
            let is_there = |store: usize| {
                there.contains(&(store % STORES)) && node(store % STORES).is_some_and(|node| node.number() == store)
            };
            // Whichever configuration comes to count, of those that are not outdated.
            let mut there = there.iter().filter(votes).filter_map(|ix| node(*ix));
            there.all(|node| node.config().is_quorum(is_there))
        })
    }

    /// Whether a majority of voters can agree, and 51 % of the roster is there: without it nothing is promised but safety.
    #[must_use]
    pub fn can_act(&self) -> bool {
        let present = (0..self.hosts.len()).filter(|ix| self.speaks(*ix) && self.net.carries(*ix, *ix, 0)).count();
        self.can_agree() && present * 100 >= self.hosts.len() * 51
    }
}
