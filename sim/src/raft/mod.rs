//! Raft as the daemon's ledger meets it: one `Node` a voter, with its own term, vote, log and role, and messages between
//! them that the world delays, loses and cuts. So there are uncommitted tails that are overwritten, leaders that believe in
//! themselves behind a partition, and entries that are committed though their proposer never learns of it.
//!
//! As openraft does it, and the daemon's adapter around it: a voter grants no vote while it hears a leader, nor for one
//! longest election time after its start; a leader whose process restarts resumes its own term; entries are sent on once
//! they are on the leader's own disk; who lags behind the log that is kept gets a snapshot.
//!
//! Who votes is a record of the log: see `membership.rs`.
//!
//! Source: Ongaro, Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); openraft 0.9.

mod following;
mod history;
mod leading;
mod membership;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::ledger::{Entry, Ledger, Outcome, Position};
use rekindle_coordinator::mutant::{Guard, keeps};
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::{CallId, LogIndex, Term};

pub use history::History;
pub(crate) use membership::{Change, Config};

/// Between two heartbeats (design, section 4).
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);
/// Shortest silence of a leader before a voter stands for election.
pub(crate) const ELECTION_MIN: Duration = Duration::from_millis(1_500);
/// Longest; and how long a voter that has just started grants nothing (I3).
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(3_000);
/// Most entries in one message, as the daemon's adapter has it.
const ENTRIES_MAX: usize = 64;
/// A voter that lags by more than this gets a snapshot.
const LAG_MAX: usize = 200;
/// Between two snapshots, in entries.
const SNAPSHOT_EVERY: usize = 100;
/// Numbers of stores: a host's own number, and so much more with each store it loses. More than there are hosts.
pub(crate) const STORES: usize = 4_096;

/// One place of the log.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) term: Term,
    /// `None`: the blank with which a leader begins its term.
    pub(crate) entry: Option<Entry>,
    /// From here on these vote.
    pub(crate) config: Option<Arc<Config>>,
}

/// What voters say to each other. They are named by the numbers of their stores.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    Vote { term: Term, last: (Term, usize), forced: bool },
    Voted { term: Term, granted: bool },
    Append { term: Term, prev: (Term, usize), entries: Vec<Arc<Record>>, commit: usize, round: u64 },
    Appended { term: Term, ok: bool, matched: usize, round: u64 },
    Snapshot { term: Term, last: (Term, usize), config: Arc<Config>, round: u64 },
}

/// What a voter wants done.
#[derive(Debug)]
pub(crate) enum Wish {
    Send(usize, Word),
    /// Write everything up to this place, then call [`Node::written`].
    Write(usize),
    /// Its belief of who leads has changed.
    Leadership,
    /// Everything up to [`Node::commit`] may be applied.
    Commit,
    /// Everything up to this place is replaced by the agreed state at it.
    Restore(usize),
    /// A quorum has confirmed that it leads since this call was made.
    Confirmed(CallId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Follower,
    Candidate,
    Leader,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    matched: usize,
    next: usize,
    acked: u64,
    sent_at: Moment,
    /// When it last said anything to us as leader.
    answered: Moment,
}

/// One voter's Raft. `term`, `voted` and `log` up to `durable` are its disk.
#[derive(Debug)]
pub(crate) struct Node {
    me: usize,
    pub(crate) term: Term,
    voted: Option<usize>,
    log: Vec<Arc<Record>>,
    durable: usize,
    /// Everything up to here is known only as a snapshot.
    base: usize,
    /// What its last word to its leader answers, once it is written.
    ack_round: (Term, u64),
    /// Configurations in its log, each with its place, the last in force. None: a new store, which belongs to no quorum until
    /// the voters are changed.
    configs: Vec<(usize, Arc<Config>)>,
    /// A write failed: it takes part in nothing until its process starts anew.
    pub(crate) is_broken: bool,
    /// It does not stand for election, and lets its leadership lapse.
    pub(crate) abstains: bool,
    pub(crate) role: Role,
    pub(crate) leader: Option<usize>,
    votes: BTreeSet<usize>,
    peers: Vec<(usize, Progress)>,
    round: u64,
    checks: Vec<(CallId, u64)>,
    pub(crate) commit: usize,
    /// What its coordinator was given.
    pub(crate) applied: usize,
    heard_leader: Option<Moment>,
    led_since: Moment,
    silent_until: Moment,
    pub(crate) deadline: Moment,
}

impl Node {
    /// One of the first voters of a cluster.
    pub(crate) fn first(me: usize, config: Arc<Config>) -> Self {
        Self { configs: vec![(0, config)], ..Self::new(me) }
    }

    /// A new store.
    pub(crate) fn new(me: usize) -> Self {
        Self {
            me,
            term: Term(0),
            voted: None,
            log: Vec::new(),
            durable: 0,
            base: 0,
            ack_round: (Term(0), 0),
            configs: Vec::new(),
            is_broken: false,
            abstains: false,
            role: Role::Follower,
            leader: None,
            votes: BTreeSet::new(),
            peers: Vec::new(),
            round: 0,
            checks: Vec::new(),
            commit: 0,
            applied: 0,
            heard_leader: None,
            led_since: Moment::ZERO,
            silent_until: Moment::ZERO,
            deadline: Moment::ZERO,
        }
    }

    /// Its process starts: what is not on its disk is gone. What it knew to be committed is restored.
    pub(crate) fn start(&mut self, now: Moment, first: bool, election: Duration, out: &mut Vec<Wish>) {
        self.cut(self.durable.max(self.commit));
        self.durable = self.log.len();
        self.is_broken = false;
        self.applied = self.commit;
        self.checks.clear();
        self.peers.clear();
        self.heard_leader = None;
        self.silent_until = if first { now } else { now + ELECTION_MAX };
        self.deadline = self.silent_until + election;
        let leads = self.role == Role::Leader && self.leader == Some(self.me);
        self.role = Role::Follower;
        self.leader = None;
        if leads {
            // Its vote for itself was committed, and is on its disk: openraft goes on in the same term.
            self.role = Role::Leader;
            self.leader = Some(self.me);
            self.led_since = now;
            self.deadline = now;
            out.push(Wish::Leadership);
            // A torn write may have cost the entry that began its term: openraft writes it anew (`vote_handler`).
            if self.last().0 < self.term {
                self.append(now, None, out);
            }
        }
    }

    /// Its disk is lost: an empty store under a number of its own, which is nobody's voter.
    pub(crate) fn lose(&mut self) {
        *self = if keeps(Guard::BlankStore) {
            Self::new(self.me + STORES)
        } else {
            Self::first(self.me, self.config_at(0))
        };
    }

    /// The number of its store.
    pub(crate) fn number(&self) -> usize {
        self.me
    }

    /// The last entry is torn away, if nothing rests on it yet: it had not been acknowledged.
    pub(crate) fn tear(&mut self) {
        if self.log.len() > self.commit && self.log.len() > self.durable {
            // What was agreed is on the disks of others, and is restored from what it knew.
            self.cut(self.durable.max(self.commit));
        }
    }

    pub(crate) fn record(&self, index: usize) -> Option<&Arc<Record>> {
        self.log.get(index.checked_sub(1)?)
    }

    pub(crate) fn last(&self) -> (Term, usize) {
        (self.term_at(self.log.len()), self.log.len())
    }

    pub(super) fn term_at(&self, index: usize) -> Term {
        self.record(index).map_or(Term(0), |record| record.term)
    }

    /// Its timer.
    pub(crate) fn tick(&mut self, now: Moment, election: Duration, out: &mut Vec<Wish>) {
        if now < self.deadline || self.is_broken {
            return;
        }
        match self.role {
            Role::Leader if self.abstains => {
                self.step_down(self.term, now + election, out);
            }
            Role::Leader => {
                self.join_peers();
                self.deadline = now + HEARTBEAT;
                self.round += 1;
                self.send_all(now, out);
            }
            Role::Follower | Role::Candidate => {
                self.deadline = now + election;
                if self.config().votes(self.me) && !self.abstains {
                    self.stand(now, false, out);
                }
            }
        }
    }

    /// Stands for election. `forced`: at somebody's wish, so that others grant it though they hear a leader.
    pub(crate) fn stand(&mut self, now: Moment, forced: bool, out: &mut Vec<Wish>) {
        self.term = Term(self.term.0 + 1);
        self.voted = Some(self.me);
        self.role = Role::Candidate;
        self.leader = None;
        self.votes = BTreeSet::from([self.me]);
        out.push(Wish::Leadership);
        let word = Word::Vote { term: self.term, last: self.last(), forced };
        let voters = self.config().voters();
        out.extend(voters.into_iter().filter(|to| *to != self.me).map(|to| Wish::Send(to, word.clone())));
        self.count_votes(now, out);
    }

    pub(super) fn count_votes(&mut self, now: Moment, out: &mut Vec<Wish>) {
        if self.role != Role::Candidate || !self.config().is_quorum(|voter| self.votes.contains(&voter)) {
            return;
        }
        self.role = Role::Leader;
        self.leader = Some(self.me);
        self.led_since = now;
        self.checks.clear();
        self.peers.clear();
        self.join_peers();
        self.deadline = now + HEARTBEAT;
        out.push(Wish::Leadership);
        self.append(now, None, out);
    }

    /// A word of another voter.
    pub(crate) fn hear(&mut self, now: Moment, from: usize, word: Word, election: Duration, out: &mut Vec<Wish>) {
        if self.is_broken {
            return;
        }
        match word {
            Word::Vote { term, last, forced } => self.asked_to_vote(now, from, (term, last, forced), election, out),
            Word::Voted { term, granted } => {
                if term > self.term {
                    self.step_down(term, now + election, out);
                } else if granted && term == self.term && self.role == Role::Candidate {
                    self.votes.insert(from);
                    self.count_votes(now, out);
                }
            }
            Word::Append { term, prev, entries, commit, round } => {
                if !self.follow(now, from, term, election, out) {
                    out.push(Wish::Send(from, Word::Appended { term: self.term, ok: false, matched: 0, round }));
                    return;
                }
                self.take(from, prev, entries, commit, round, out);
            }
            Word::Snapshot { term, last: (last_term, index), config, round } => {
                if !self.follow(now, from, term, election, out) {
                    out.push(Wish::Send(from, Word::Appended { term: self.term, ok: false, matched: 0, round }));
                    return;
                }
                if index > self.commit {
                    // What the snapshot holds is not looked at again; only its last term is.
                    let blank = Arc::new(Record { term: last_term, entry: None, config: None });
                    self.log = vec![blank; index];
                    self.configs = vec![(index, config)];
                    (self.base, self.durable, self.commit, self.applied) = (index, index, index, index);
                    out.push(Wish::Restore(index));
                }
                out.push(Wish::Send(from, Word::Appended { term: self.term, ok: true, matched: self.commit, round }));
            }
            Word::Appended { term, ok, matched, round } => {
                if term > self.term {
                    self.step_down(term, now + election, out);
                } else if term == self.term && self.role == Role::Leader {
                    self.acknowledged(now, from, ok, matched, round, out);
                }
            }
        }
    }

    pub(super) fn step_down(&mut self, term: Term, deadline: Moment, out: &mut Vec<Wish>) {
        if term > self.term {
            self.term = term;
            self.voted = None;
        }
        let knew = self.leader.take().is_some() || self.role != Role::Follower;
        self.role = Role::Follower;
        self.peers.clear();
        self.checks.clear();
        self.deadline = deadline;
        if knew {
            out.push(Wish::Leadership);
        }
    }
}
