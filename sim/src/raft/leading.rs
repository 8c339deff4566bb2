//! A leader: what it sends, what is answered, what is agreed, and that it still leads.

use super::*;

impl Node {
    pub(super) fn join_peers(&mut self, voters: &[usize]) {
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

    pub(super) fn send_all(&mut self, now: Moment, out: &mut Vec<Wish>) {
        for place in 0..self.peers.len() {
            self.send_to(now, place, out);
        }
    }

    pub(super) fn send_to(&mut self, now: Moment, place: usize, out: &mut Vec<Wish>) {
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

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn acknowledged(
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

    pub(super) fn count_matched(&mut self, voters: &[usize], out: &mut Vec<Wish>) {
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
    pub(super) fn confirm(&mut self, voters: &[usize], out: &mut Vec<Wish>) {
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

    /// A leader that was answered lately by a majority does not help to depose itself.
    pub(super) fn hears_quorum(&self, now: Moment) -> bool {
        let fresh =
            self.peers.iter().filter(|(_, peer)| peer.acked == self.round && now.since(peer.sent_at) < ELECTION_MIN);
        2 * (fresh.count() + 1) > self.peers.len() + 1
    }
}
