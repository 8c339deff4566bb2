//! Raft as the daemon's ledger meets it: one `Node` a voter, with its own term, vote, log and role, and messages between
//! them that the world delays, loses and cuts. So there are uncommitted tails that are overwritten, leaders that believe in
//! themselves behind a partition, and entries that are committed though their proposer never learns of it.
//!
//! As openraft does it, and the daemon's adapter around it: a voter grants no vote while it hears a leader, nor for one
//! longest election time after its start; a leader whose process restarts resumes its own term; entries are sent on once
//! they are on the leader's own disk; who lags behind the log that is kept gets a snapshot.
//!
//! Source: Ongaro, Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); openraft 0.9.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::ledger::{Entry, Ledger, Outcome, Position};
use rekindle_coordinator::mutant::{Guard, keeps};
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::{CallId, LogIndex, Term};

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

/// One place of the log.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) term: Term,
    /// `None`: the blank with which a leader begins its term.
    pub(crate) entry: Option<Entry>,
}

/// What voters say to each other. Voters are named by their host's number.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    Vote { term: Term, last: (Term, usize), forced: bool },
    Voted { term: Term, granted: bool },
    Append { term: Term, prev: (Term, usize), entries: Vec<Arc<Record>>, commit: usize, round: u64 },
    Appended { term: Term, ok: bool, matched: usize, round: u64 },
    Snapshot { term: Term, last: (Term, usize), round: u64 },
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
    /// Its store is new: it belongs to no quorum until the voters are changed.
    pub(crate) is_blank: bool,
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
    silent_until: Moment,
    pub(crate) deadline: Moment,
}

impl Node {
    pub(crate) fn new(me: usize) -> Self {
        Self {
            me,
            term: Term(0),
            voted: None,
            log: Vec::new(),
            durable: 0,
            base: 0,
            ack_round: (Term(0), 0),
            is_blank: false,
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
            silent_until: Moment::ZERO,
            deadline: Moment::ZERO,
        }
    }

    /// Its process starts: what is not on its disk is gone. What it knew to be committed is restored.
    pub(crate) fn start(&mut self, now: Moment, first: bool, election: Duration, out: &mut Vec<Wish>) {
        self.log.truncate(self.durable.max(self.commit));
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
        if leads && !self.is_blank {
            // Its vote for itself was committed, and is on its disk: openraft goes on in the same term.
            self.role = Role::Leader;
            self.leader = Some(self.me);
            self.deadline = now;
            out.push(Wish::Leadership);
        }
    }

    /// Its disk is lost: an empty store, which is nobody's voter.
    pub(crate) fn lose(&mut self) {
        *self = Self { is_blank: keeps(Guard::BlankStore), ..Self::new(self.me) };
    }

    /// The last entry is torn away, if nothing rests on it yet: it had not been acknowledged.
    pub(crate) fn tear(&mut self) {
        if self.log.len() > self.commit && self.log.len() > self.durable {
            self.log.truncate(self.durable);
        }
    }

    pub(crate) fn record(&self, index: usize) -> Option<&Arc<Record>> {
        self.log.get(index.checked_sub(1)?)
    }

    fn last(&self) -> (Term, usize) {
        (self.term_at(self.log.len()), self.log.len())
    }

    fn term_at(&self, index: usize) -> Term {
        self.record(index).map_or(Term(0), |record| record.term)
    }

    /// Its timer.
    pub(crate) fn tick(&mut self, now: Moment, voters: &[usize], election: Duration, out: &mut Vec<Wish>) {
        if now < self.deadline || self.is_broken {
            return;
        }
        match self.role {
            Role::Leader if self.abstains => {
                self.step_down(self.term, now + election, out);
            }
            Role::Leader => {
                self.join_peers(voters);
                self.deadline = now + HEARTBEAT;
                self.round += 1;
                self.send_all(now, out);
            }
            Role::Follower | Role::Candidate => {
                self.deadline = now + election;
                if voters.contains(&self.me) && !self.is_blank && !self.abstains {
                    self.stand(now, voters, false, out);
                }
            }
        }
    }

    /// Stands for election. `forced`: at somebody's wish, so that others grant it though they hear a leader.
    pub(crate) fn stand(&mut self, now: Moment, voters: &[usize], forced: bool, out: &mut Vec<Wish>) {
        self.term = Term(self.term.0 + 1);
        self.voted = Some(self.me);
        self.role = Role::Candidate;
        self.leader = None;
        self.votes = BTreeSet::from([self.me]);
        out.push(Wish::Leadership);
        let word = Word::Vote { term: self.term, last: self.last(), forced };
        out.extend(voters.iter().filter(|to| **to != self.me).map(|to| Wish::Send(*to, word.clone())));
        self.count_votes(now, voters, out);
    }

    fn count_votes(&mut self, now: Moment, voters: &[usize], out: &mut Vec<Wish>) {
        let granted = voters.iter().filter(|voter| self.votes.contains(voter)).count();
        if self.role != Role::Candidate || 2 * granted <= voters.len() {
            return;
        }
        self.role = Role::Leader;
        self.leader = Some(self.me);
        self.checks.clear();
        self.peers.clear();
        self.join_peers(voters);
        self.deadline = now + HEARTBEAT;
        out.push(Wish::Leadership);
        self.append(now, None, out);
    }

    fn join_peers(&mut self, voters: &[usize]) {
        if self.peers.len() + 1 == voters.len() && self.peers.iter().all(|(peer, _)| voters.contains(peer)) {
            return;
        }
        let next = self.log.len() + 1;
        let known = std::mem::take(&mut self.peers);
        let progress = |voter: usize| {
            let old = known.iter().find(|(peer, _)| *peer == voter).map(|(_, progress)| *progress);
            (voter, old.unwrap_or(Progress { next, ..Progress::default() }))
        };
        self.peers = voters.iter().copied().filter(|voter| *voter != self.me).map(progress).collect();
    }

    /// Takes an entry into the leader's log. Where it stands.
    pub(crate) fn append(&mut self, now: Moment, entry: Option<Entry>, out: &mut Vec<Wish>) -> usize {
        self.log.push(Arc::new(Record { term: self.term, entry }));
        let _ = now;
        out.push(Wish::Write(self.log.len()));
        self.log.len()
    }

    /// Everything up to `index` is on its disk.
    pub(crate) fn written(&mut self, now: Moment, index: usize, voters: &[usize], out: &mut Vec<Wish>) {
        self.durable = self.durable.max(index.min(self.log.len()));
        if self.role == Role::Leader {
            self.join_peers(voters);
            self.send_all(now, out);
            self.count_matched(voters, out);
        }
    }

    /// A linearizable read begins.
    pub(crate) fn check(&mut self, now: Moment, call: CallId, voters: &[usize], out: &mut Vec<Wish>) {
        self.join_peers(voters);
        self.round += 1;
        self.checks.push((call, self.round));
        self.send_all(now, out);
        self.confirm(voters, out);
    }

    /// Nobody waits for this check any more. `false`: it had been confirmed.
    pub(crate) fn give_up(&mut self, call: CallId) -> bool {
        let before = self.checks.len();
        self.checks.retain(|(known, _)| *known != call);
        self.checks.len() < before
    }

    fn send_all(&mut self, now: Moment, out: &mut Vec<Wish>) {
        for place in 0..self.peers.len() {
            self.send_to(now, place, out);
        }
    }

    fn send_to(&mut self, now: Moment, place: usize, out: &mut Vec<Wish>) {
        let (peer, Progress { next, .. }) = self.peers[place];
        let (term, round) = (self.term, self.round);
        let next = next.clamp(1, self.log.len() + 1);
        if next <= self.base || self.durable >= next + LAG_MAX {
            let index = self.commit / SNAPSHOT_EVERY * SNAPSHOT_EVERY;
            if index >= next {
                out.push(Wish::Send(peer, Word::Snapshot { term, last: (self.term_at(index), index), round }));
                return;
            }
        }
        let end = self.durable.min(next - 1 + ENTRIES_MAX).max(next - 1);
        let entries = self.log[next - 1..end].to_vec();
        let prev = (self.term_at(next - 1), next - 1);
        self.peers[place].1.sent_at = now;
        out.push(Wish::Send(peer, Word::Append { term, prev, entries, commit: self.commit, round }));
    }

    /// A word of another voter.
    pub(crate) fn hear(
        &mut self,
        now: Moment,
        from: usize,
        word: Word,
        election: Duration,
        voters: &[usize],
        out: &mut Vec<Wish>,
    ) {
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
                    self.count_votes(now, voters, out);
                }
            }
            Word::Append { term, prev, entries, commit, round } => {
                if !self.follow(now, from, term, election, out) {
                    out.push(Wish::Send(from, Word::Appended { term: self.term, ok: false, matched: 0, round }));
                    return;
                }
                self.take(from, prev, entries, commit, round, out);
            }
            Word::Snapshot { term, last: (last_term, index), round } => {
                if !self.follow(now, from, term, election, out) {
                    out.push(Wish::Send(from, Word::Appended { term: self.term, ok: false, matched: 0, round }));
                    return;
                }
                if index > self.commit {
                    // What the snapshot holds is not looked at again; only its last term is.
                    let blank = Arc::new(Record { term: last_term, entry: None });
                    self.log = vec![blank; index];
                    (self.base, self.durable, self.commit, self.applied) = (index, index, index, index);
                    out.push(Wish::Restore(index));
                }
                out.push(Wish::Send(from, Word::Appended { term: self.term, ok: true, matched: self.commit, round }));
            }
            Word::Appended { term, ok, matched, round } => {
                if term > self.term {
                    self.step_down(term, now + election, out);
                } else if term == self.term && self.role == Role::Leader {
                    self.acknowledged(now, from, ok, matched, round, voters, out);
                }
            }
        }
    }

    fn asked_to_vote(
        &mut self,
        now: Moment,
        from: usize,
        ask: (Term, (Term, usize), bool),
        election: Duration,
        out: &mut Vec<Wish>,
    ) {
        let (term, last, forced) = ask;
        let hears_leader = self.heard_leader.is_some_and(|at| now.since(at) < ELECTION_MIN)
            || (self.role == Role::Leader && !self.abstains && self.hears_quorum(now));
        let holds = (hears_leader && !forced) || now < self.silent_until || self.is_blank;
        if term < self.term || holds || (term == self.term && self.voted != Some(from) && self.voted.is_some()) {
            out.push(Wish::Send(from, Word::Voted { term: self.term.min(term), granted: false }));
            return;
        }
        if last < self.last() {
            if term > self.term {
                self.step_down(term, now + election, out);
            }
            out.push(Wish::Send(from, Word::Voted { term, granted: false }));
            return;
        }
        if term > self.term {
            self.step_down(term, now + election, out);
        }
        self.voted = Some(from);
        self.deadline = now + election;
        out.push(Wish::Send(from, Word::Voted { term, granted: true }));
    }

    /// A leader that was answered lately by a majority does not help to depose itself.
    fn hears_quorum(&self, now: Moment) -> bool {
        let fresh =
            self.peers.iter().filter(|(_, peer)| peer.acked == self.round && now.since(peer.sent_at) < ELECTION_MIN);
        2 * (fresh.count() + 1) > self.peers.len() + 1
    }

    fn follow(&mut self, now: Moment, from: usize, term: Term, election: Duration, out: &mut Vec<Wish>) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term || self.role != Role::Follower {
            self.step_down(term, now, out);
        }
        if self.leader != Some(from) {
            self.leader = Some(from);
            out.push(Wish::Leadership);
        }
        self.heard_leader = Some(now);
        self.deadline = now + election;
        true
    }

    fn take(
        &mut self,
        from: usize,
        prev: (Term, usize),
        entries: Vec<Arc<Record>>,
        commit: usize,
        round: u64,
        out: &mut Vec<Wish>,
    ) {
        let (prev_term, prev_index) = prev;
        if prev_index > self.log.len() || (prev_index > self.commit && self.term_at(prev_index) != prev_term) {
            let matched = self.log.len().min(prev_index.saturating_sub(1));
            out.push(Wish::Send(from, Word::Appended { term: self.term, ok: false, matched, round }));
            return;
        }
        let end = prev_index + entries.len();
        for (index, record) in (prev_index + 1..).zip(entries) {
            if index <= self.commit || self.record(index).is_some_and(|known| known.term == record.term) {
                continue;
            }
            self.log.truncate(index - 1);
            self.durable = self.durable.min(index - 1);
            self.log.push(record);
        }
        let commit = commit.min(end);
        if commit > self.commit {
            self.commit = commit;
            out.push(Wish::Commit);
        }
        if self.durable < end {
            // Said once it is written: see `acknowledge`.
            self.ack_round = (self.term, self.answered().max(round));
            out.push(Wish::Write(end));
            return;
        }
        let matched = self.durable.min(end);
        out.push(Wish::Send(from, Word::Appended { term: self.term, ok: true, matched, round }));
    }

    /// The latest question of the present leader that waits for a disk. Another leader counted its own.
    fn answered(&self) -> u64 {
        let (term, round) = self.ack_round;
        if term == self.term { round } else { 0 }
    }

    /// A follower has written what it was sent: its leader is told.
    pub(crate) fn acknowledge(&self, index: usize, out: &mut Vec<Wish>) {
        if let (Role::Follower, Some(leader)) = (self.role, self.leader) {
            let matched = self.durable.min(index);
            out.push(Wish::Send(leader, Word::Appended { term: self.term, ok: true, matched, round: self.answered() }));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn acknowledged(
        &mut self,
        now: Moment,
        from: usize,
        ok: bool,
        matched: usize,
        round: u64,
        voters: &[usize],
        out: &mut Vec<Wish>,
    ) {
        let Some(place) = self.peers.iter().position(|(peer, _)| *peer == from) else { return };
        let progress = &mut self.peers[place].1;
        progress.acked = progress.acked.max(round);
        // More is sent only for an answer that brought it on: else each heartbeat would begin another round of questions and
        // answers without end.
        let before = progress.matched;
        if ok {
            progress.matched = progress.matched.max(matched);
            progress.next = progress.next.max(progress.matched + 1);
            let brought_on = progress.matched > before;
            if brought_on && progress.next <= self.durable {
                self.send_to(now, place, out);
            }
            self.count_matched(voters, out);
        } else {
            // At the floor there is nothing to go back to: a peer that refuses there has lost its disk since it acknowledged.
            // Sent again at once, each heartbeat would begin another endless exchange with it.
            let next = (matched + 1).min(progress.next.saturating_sub(1)).max(progress.matched + 1).max(1);
            let goes_back = next < progress.next;
            progress.next = next;
            if goes_back {
                self.send_to(now, place, out);
            }
        }
        self.confirm(voters, out);
    }

    fn count_matched(&mut self, voters: &[usize], out: &mut Vec<Wish>) {
        let mut matched: Vec<usize> = self.peers.iter().map(|(_, peer)| peer.matched).collect();
        if voters.contains(&self.me) {
            matched.push(self.durable);
        }
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let Some(agreed) = matched.get(voters.len() / 2).copied() else { return };
        // Only entries of its own term are committed by counting (the paper's section 5.4.2).
        if agreed > self.commit && self.term_at(agreed) == self.term {
            self.commit = agreed;
            out.push(Wish::Commit);
        }
    }

    /// Which checks a quorum has confirmed: asked since they began, by a leader that has committed in its own term.
    fn confirm(&mut self, voters: &[usize], out: &mut Vec<Wish>) {
        if self.checks.is_empty() || self.term_at(self.commit) != self.term {
            return;
        }
        let mut acked: Vec<u64> = self.peers.iter().map(|(_, peer)| peer.acked).collect();
        acked.push(self.round);
        acked.sort_unstable_by(|a, b| b.cmp(a));
        let Some(agreed) = acked.get(voters.len() / 2).copied() else { return };
        let (done, open) = self.checks.iter().partition(|(_, round)| *round <= agreed);
        self.checks = open;
        let done: Vec<(CallId, u64)> = done;
        out.extend(done.into_iter().map(|(call, _)| Wish::Confirmed(call)));
    }

    fn step_down(&mut self, term: Term, deadline: Moment, out: &mut Vec<Wish>) {
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

/// One agreed place.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) record: Arc<Record>,
    pub(crate) outcome: Option<Outcome>,
}

/// What has been agreed, as an observer who sees every disk knows it: the log as committed, and the state it gives.
#[derive(Debug)]
pub struct History {
    first: Ledger,
    ledger: Ledger,
    agreed: Vec<Agreed>,
    snapshots: Vec<Ledger>,
}

impl History {
    /// A log that begins with a given ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { first: ledger.clone(), ledger, agreed: Vec::new(), snapshots: Vec::new() }
    }

    /// The agreed state.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes the state the log begins with. Only before anything has happened.
    pub(crate) fn arrange(&mut self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.first);
        self.ledger = self.first.clone();
    }

    /// How many places are agreed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agreed.len()
    }

    /// Whether nothing is agreed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agreed.is_empty()
    }

    pub(crate) fn at(&self, index: usize) -> Option<&Agreed> {
        self.agreed.get(index.checked_sub(1)?)
    }

    /// A voter holds this record to be committed at `index`. `false`: another one was committed there before.
    pub(crate) fn agree(&mut self, index: usize, record: &Arc<Record>) -> bool {
        if let Some(known) = self.at(index) {
            return Arc::ptr_eq(&known.record, record) || known.record.term == record.term;
        }
        let position = Position { index: LogIndex(u64::try_from(index).unwrap_or(u64::MAX)), term: record.term };
        let outcome = record.entry.as_ref().map(|entry| self.ledger.apply(position, entry));
        self.agreed.push(Agreed { record: record.clone(), outcome });
        if self.agreed.len().is_multiple_of(SNAPSHOT_EVERY) {
            self.snapshots.push(self.ledger.clone());
        }
        true
    }

    /// The agreed state at `index`.
    pub(crate) fn state_at(&self, index: usize) -> Ledger {
        let count = (index / SNAPSHOT_EVERY).min(self.snapshots.len());
        let mut ledger = count.checked_sub(1).map_or(&self.first, |last| &self.snapshots[last]).clone();
        for (place, agreed) in self.agreed.iter().enumerate().take(index).skip(count * SNAPSHOT_EVERY) {
            if let Some(entry) = &agreed.record.entry {
                let index = LogIndex(u64::try_from(place + 1).unwrap_or(u64::MAX));
                ledger.apply(Position { index, term: agreed.record.term }, entry);
            }
        }
        ledger
    }
}
