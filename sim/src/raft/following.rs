//! A follower: whom it votes for, whom it follows, what it writes.

use super::*;

impl Node {
    pub(super) fn asked_to_vote(
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
        let holds = (hears_leader && !forced) || now < self.silent_until;
        if term < self.term || holds || (term == self.term && self.voted != Some(from) && self.voted.is_some()) {
            out.push(Wish::Send(from, Word::Voted { term: self.term, granted: false }));
            return;
        }
        // As openraft's `handle_vote_req`: who has less is refused, and its term is not taken over. So a voter that was removed
        // while it was away, and does not know it, disturbs nobody.
        if last < self.last() {
            out.push(Wish::Send(from, Word::Voted { term: self.term, granted: false }));
            return;
        }
        if term > self.term {
            self.step_down(term, now + election, out);
        }
        self.voted = Some(from);
        self.deadline = now + election;
        out.push(Wish::Send(from, Word::Voted { term, granted: true }));
    }

    pub(super) fn follow(
        &mut self,
        now: Moment,
        from: usize,
        term: Term,
        election: Duration,
        out: &mut Vec<Wish>,
    ) -> bool {
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

    pub(super) fn take(
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
            self.cut(index - 1);
            self.durable = self.durable.min(index - 1);
            self.push(record);
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
    pub(super) fn answered(&self) -> u64 {
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
}
