//! What a network's streams carry: questions and answers, the word of helpers, exchanges of all that is known.

use std::time::Duration;

use rand::RngExt;
use rekindle_proto::id::{CallId, MemberId};

use super::super::Errand;
use super::net::{LATENCY, Net, Node};

/// Said on a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    /// The answer to a question.
    Answer(CallId),
    /// A helper got no answer.
    Nack(Errand),
}

impl Net {
    /// A stream's bytes are sent again until they arrive.
    fn stream_delay(&mut self) -> Duration {
        let mut micros = self.rng.random_range(LATENCY);
        while self.loss > 0.0 && self.rng.random_bool(self.loss.min(0.9)) {
            micros += self.rng.random_range(30_000..120_000);
        }
        Duration::from_micros(micros)
    }

    /// Who that is, if streams carry anything.
    fn at_stream(&self, member: MemberId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == member).filter(|_| !self.streams_cut)
    }

    pub(super) fn ask(&mut self, from: usize, member: MemberId) {
        self.asked[from] += 1;
        self.serial += 1;
        let call = CallId(self.serial);
        self.nodes[from].membership.asked_on_stream(member, call);
        let Some(target) = self.at_stream(member) else { return };
        let at = self.now + self.stream_delay() + self.stream_delay();
        self.words.insert((at, self.serial), (from, target, Word::Answer(call)));
    }

    pub(super) fn nack(&mut self, from: usize, errand: Errand) {
        let Some(origin) = self.at_stream(errand.origin) else { return };
        self.serial += 1;
        let at = self.now + self.stream_delay();
        self.words.insert((at, self.serial), (origin, from, Word::Nack(errand)));
    }

    /// If who says it lives, and the network carried it.
    pub(super) fn hear_word(&mut self) {
        let Some((_, (to, from, word))) = self.words.pop_first() else { return };
        let is_awake =
            |index: usize| self.nodes[index].up && self.nodes[index].asleep.is_none_or(|until| until <= self.now);
        if is_awake(from) && is_awake(to) && self.group[from] == self.group[to] {
            let id = self.nodes[from].id;
            let membership = &mut self.nodes[to].membership;
            match word {
                Word::Answer(call) => membership.answered_on_stream(self.now, id, call),
                Word::Nack(errand) => membership.nacked(self.now, id, errand.target, errand.number),
            }
            self.collect(to);
        }
    }

    /// All at once, as if the stream took no time.
    pub(super) fn exchange(&mut self, from: usize, member: MemberId) {
        let is_awake = |node: &Node| node.up && node.asleep.is_none();
        let Some(target) = self
            .at_stream(member)
            .filter(|target| is_awake(&self.nodes[*target]) && self.group[from] == self.group[*target])
        else {
            return;
        };
        self.exchanges += 1;
        let (ours, theirs) = (self.nodes[from].membership.full_state(), self.nodes[target].membership.full_state());
        let id = self.nodes[from].id;
        self.nodes[target].membership.merge_state(self.now, id, &ours).expect("well formed");
        self.nodes[from].membership.merge_state(self.now, member, &theirs).expect("well formed");
        self.collect(target);
    }
}
