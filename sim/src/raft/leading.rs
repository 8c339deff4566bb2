//! A leader: what it sends, what is answered, what is agreed, and that it still leads.

use super::*;

impl Node {
    /// Sends from now on to everybody of its configuration, and to nobody else.
    pub(super) fn join_peers(&mut self) {
        let config = self.config();
        let members: Vec<usize> = config.members().filter(|member| *member != self.me).collect();
        if self.peers.iter().map(|(peer, _)| peer).eq(&members) {
            return;
        }
        let next = self.log.len() + 1;
        let known = std::mem::take(&mut self.peers);
        let progress = |member: usize| {
            let old = known.iter().find(|(peer, _)| *peer == member).map(|(_, progress)| *progress);
            (member, old.unwrap_or(Progress { next, ..Progress::default() }))
        };
        self.peers = members.into_iter().map(progress).collect();
    }

    /// Takes an entry into the leader's log. Where it stands.
    pub(crate) fn append(&mut self, now: Moment, entry: Option<Entry>, out: &mut Vec<Wish>) -> usize {
        self.push(Arc::new(Record { term: self.term, entry, config: None }));
        let _ = now;
        out.push(Wish::Write(self.log.len()));
        self.log.len()
    }

    /// Everything up to `index` is on its disk.
    pub(crate) fn written(&mut self, now: Moment, index: usize, out: &mut Vec<Wish>) {
        self.durable = self.durable.max(index.min(self.log.len()));
        if self.role == Role::Leader {
            self.join_peers();
            self.send_all(now, out);
            self.count_matched(out);
        }
    }

    /// A linearizable read begins.
    pub(crate) fn check(&mut self, now: Moment, call: CallId, out: &mut Vec<Wish>) {
        self.join_peers();
        self.round += 1;
        self.checks.push((call, self.round));
        self.send_all(now, out);
        self.confirm(out);
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
                let (last, config) = ((self.term_at(index), index), self.config_at(index));
                out.push(Wish::Send(peer, Word::Snapshot { term, last, config, round }));
                return;
            }
        }
        let end = self.durable.min(next - 1 + ENTRIES_MAX).max(next - 1);
        let entries = self.log[next - 1..end].to_vec();
        let prev = (self.term_at(next - 1), next - 1);
        self.peers[place].1.sent_at = now;
        out.push(Wish::Send(peer, Word::Append { term, prev, entries, commit: self.commit, round }));
    }

    pub(super) fn acknowledged(
        &mut self,
        now: Moment,
        from: usize,
        ok: bool,
        matched: usize,
        round: u64,
        out: &mut Vec<Wish>,
    ) {
        let Some(place) = self.peers.iter().position(|(peer, _)| *peer == from) else { return };
        let progress = &mut self.peers[place].1;
        progress.answered = now;
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
            self.count_matched(out);
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
        self.confirm(out);
    }

    pub(super) fn progress(&self, number: usize) -> Progress {
        self.peers.iter().find(|(peer, _)| *peer == number).map(|(_, progress)| *progress).unwrap_or_default()
    }

    pub(super) fn count_matched(&mut self, out: &mut Vec<Wish>) {
        let matched = |voter| if voter == self.me { self.durable } else { self.progress(voter).matched };
        let Some(agreed) = self.config().reached(matched) else { return };
        // Only entries of its own term are committed by counting (the paper's section 5.4.2).
        if agreed > self.commit && self.term_at(agreed) == self.term {
            self.commit = agreed;
            out.push(Wish::Commit);
            self.leave_if_out(out);
        }
    }

    /// Which checks a quorum has confirmed: asked since they began, by a leader that has committed in its own term.
    pub(super) fn confirm(&mut self, out: &mut Vec<Wish>) {
        if self.checks.is_empty() || self.term_at(self.commit) != self.term {
            return;
        }
        let acked = |voter| if voter == self.me { self.round } else { self.progress(voter).acked };
        let Some(agreed) = self.config().reached(acked) else { return };
        let (done, open) = self.checks.iter().partition(|(_, round)| *round <= agreed);
        self.checks = open;
        let done: Vec<(CallId, u64)> = done;
        out.extend(done.into_iter().map(|(call, _)| Wish::Confirmed(call)));
    }

    /// A leader that was answered lately by a majority does not help to depose itself.
    pub(super) fn hears_quorum(&self, now: Moment) -> bool {
        let fresh = |peer: Progress| peer.acked == self.round && now.since(peer.sent_at) < ELECTION_MIN;
        self.config().is_quorum(|voter| voter == self.me || fresh(self.progress(voter)))
    }
}
