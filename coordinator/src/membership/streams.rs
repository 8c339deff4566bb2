//! What goes over streams because a lost datagram must not decide it: a second question to a member that has not answered a
//! probe, and all we know, exchanged with one member after the other (memberlist's fallback ping and push-pull); and a
//! leader's word on whom a quorum has found silent.

use foca::{Header, ProbeNumber};
use rekindle_proto::id::CallId;

use super::*;

/// One member is told all we know, and tells what it knows, every so often (memberlist's LAN value): the tail of gossip, where
/// some member is never told, ends there.
pub const PUSH_PULL_EVERY: Duration = Duration::from_secs(30);

/// From this many members on it is more seldom, by the doublings beyond: each exchange grows with them (memberlist's rule).
const PUSH_PULL_MEMBERS: usize = 32;

/// Shortest confirmed suspicion, in probe periods: a busy host may be deaf for as long as its probe and these together, 1.5 s
/// by default, whatever its cluster's size.
const CONFIRMED_PERIODS: u32 = 2;

/// Our present probe, until it is answered.
#[derive(Debug)]
pub(super) struct Probing {
    target: Identity,
    number: ProbeNumber,
    /// Under which number it was asked on a stream.
    asked: Option<CallId>,
    /// Whether others were asked to probe.
    pub(super) asked_helpers: bool,
    /// Those of them that have not said that they got no answer. At most as many as are asked at once.
    pub(super) silent: Vec<MemberId>,
}

impl Probing {
    pub(super) fn new(target: Identity, number: ProbeNumber) -> Self {
        Self { target, number, asked: None, asked_helpers: false, silent: Vec::new() }
    }

    pub(super) fn target(&self) -> &Identity {
        &self.target
    }

    pub(super) fn is(&self, target: MemberId, number: ProbeNumber) -> bool {
        self.target.member == target && self.number == number
    }

    /// That one was asked to probe it too.
    pub(super) fn helped_by(&mut self, helper: MemberId) {
        self.asked_helpers = true;
        self.silent.push(helper);
    }
}

impl Membership {
    /// A datagram that answers our present probe, directly or through a helper: no stream needs to ask.
    pub(super) fn note_answer(&mut self, header: &Header<Identity>) {
        let answered = match &header.message {
            Message::Ack(number) => {
                self.probing.as_ref().is_some_and(|probe| probe.number == *number && probe.target == header.src)
            }
            Message::ForwardedAck { origin, probe_number } => {
                self.probing.as_ref().is_some_and(|probe| probe.number == *probe_number && probe.target == *origin)
            }
            Message::Ping(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => false,
        };
        if answered {
            self.probing = None;
        }
    }

    /// The direct probe was not answered in time: beside the helpers, its target is asked on a stream.
    pub(super) fn ask_on_stream(&mut self, probed: Identity) {
        if self.probing.as_ref().is_some_and(|probe| probe.target == probed) {
            self.outputs.push_back(MembershipOutput::AskOnStream { member: probed.member });
        }
    }

    /// The question went out under that number.
    pub fn asked_on_stream(&mut self, member: MemberId, call: CallId) {
        if let Some(probe) = self.probing.as_mut().filter(|probe| probe.target.member == member) {
            probe.asked = Some(call);
        }
    }

    /// The member has answered it, on its own authenticated stream. In time it is as good as the probe's own answer; after
    /// the probe has failed it is nothing here.
    pub fn answered_on_stream(&mut self, now: Moment, member: MemberId, call: CallId) {
        let answers = |probe: &Probing| probe.target.member == member && probe.asked == Some(call);
        let Some(probe) = self.probing.take_if(|probe| answers(probe)) else { return };
        self.last_heard = now;
        let known = self.seen_at.get(&member).and_then(|place| self.seen.get(*place));
        let Some(known) = known.filter(|known| *known.id() == probe.target && known.state() != State::Down) else {
            return;
        };
        // Foca is told by the very words the lost datagram would have had; they say nothing else that is new to it.
        let header = Header {
            src: probe.target,
            src_incarnation: known.incarnation(),
            dst: *self.foca.identity(),
            message: Message::Ack(probe.number),
        };
        if let Ok(bytes) = (Packet { header, updates: Vec::new() }).close() {
            // Refused only for what is not well formed.
            let _ = self.foca.handle_data(&bytes, &mut self.wishes);
            self.settle_unchanged(now, None);
        }
    }

    /// The leader says that these are gone, in these lives, on a quorum's testimony. Whom we hold suspect is down then, and
    /// gossip passes it on; who is alive to us, because the word comes late, is forged, or overtakes the suspicion, becomes
    /// suspect and may refute like anybody. Of other lives than we know it says nothing.
    pub fn learn_gone(&mut self, now: Moment, gone: &[(MemberId, Incarnation)]) {
        let as_told = |(member, life): &(MemberId, Incarnation)| {
            let known = self.seen.get(*self.seen_at.get(member)?)?;
            let is_meant = known.id().member == *member && known.id().incarnation == *life;
            let state = match known.state() {
                State::Alive => State::Suspect,
                State::Suspect => State::Down,
                State::Down => return None,
            };
            is_meant.then(|| Member::new(*known.id(), known.incarnation(), state))
        };
        let told: Vec<Member<Identity>> = gone.iter().filter_map(as_told).collect();
        if told.is_empty() {
            return;
        }
        let concerned = told.iter().map(|told| told.id().member).collect();
        // Fails only for news of ourselves, of which there is none: we do not know ourselves.
        let _ = self.foca.apply_many(told.into_iter(), true, &mut self.wishes);
        self.settle_of(now, None, concerned);
    }

    /// How long a suspect may refute once as many members as a verdict needs have found it silent themselves, each by three
    /// probes on streams: half of [`Self::suspicion_time`], at least `CONFIRMED_PERIODS` probe periods, and never longer than
    /// unconfirmed. All of it while we doubt ourselves. (Lifeguard's suspicion, arXiv 1707.00788, section IV.B, from its longest
    /// to its shortest in one step: a leader asks all its confirmers at once, and they answer at once.)
    #[must_use]
    pub fn confirmed_suspicion_time(&self) -> Duration {
        let full = self.suspicion_time();
        if self.health.doubtful() {
            return full;
        }
        full.min((full / 2).max(self.rules.probe_period * CONFIRMED_PERIODS))
    }

    /// Names a member to exchange all we know with: the caller sends it [`Self::full_state`], and asks for its own.
    pub(super) fn push_and_pull(&mut self, now: Moment) {
        self.timers.set(now + push_pull_period(self.views.len() + 1), Task::PushPull);
        let is_alive = |view: &&MemberView| view.state == MemberState::Alive;
        let alive = self.views.values().filter(is_alive).count();
        if alive > 0 {
            let chosen = self.rng.random_range(0..alive);
            if let Some(view) = self.views.values().filter(is_alive).nth(chosen) {
                self.outputs.push_back(MembershipOutput::PushPull { member: view.member });
            }
        }
    }
}

/// Between two exchanges of one of so many members.
fn push_pull_period(members: usize) -> Duration {
    let doublings = members.div_ceil(PUSH_PULL_MEMBERS).next_power_of_two().trailing_zeros();
    PUSH_PULL_EVERY * (1 + doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_are_more_seldom_among_many() {
        let table = [2, 32, 33, 64, 65, 128, 2_000].map(|members| push_pull_period(members).as_secs());
        assert_eq!(table, [30, 30, 60, 60, 90, 90, 210]);
    }
}
