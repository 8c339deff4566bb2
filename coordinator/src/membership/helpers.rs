//! Members that probe in another's stead, and say so when they get no answer (Lifeguard's *nack*, arXiv 1707.00788, section
//! IV.A). Foca's helpers say nothing then: who hears nobody takes every target for dead, and cannot tell that it is deaf.

use foca::{Header, ProbeNumber};

use super::*;

/// A helper says so after this part of the time of an answer, for its word to arrive before the probe ends: the probe has
/// that time once more for its helpers, and their way there and back. (Lifeguard: 80 %.)
const NACK_AFTER: f64 = 0.8;

/// A probe in another's stead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errand {
    /// Who asked for it.
    pub origin: MemberId,
    /// Who is to be probed.
    pub target: MemberId,
    /// The number of the origin's probe.
    pub number: ProbeNumber,
}

impl Membership {
    /// We are asked to probe, or have an answer for who asked: until then a word that there is none is due.
    pub(super) fn note_errand(&mut self, now: Moment, header: &Header<Identity>) {
        match &header.message {
            Message::PingReq { target, probe_number } => {
                let errand = Errand { origin: header.src.member, target: target.member, number: *probe_number };
                self.timers.set(now + self.rules.probe_ack.mul_f64(NACK_AFTER), Task::Nack(errand));
            }
            Message::IndirectAck { target: origin, probe_number } => {
                self.timers.drop_nack(&Errand {
                    origin: origin.member,
                    target: header.src.member,
                    number: *probe_number,
                });
            }
            Message::Ping(_)
            | Message::Ack(_)
            | Message::IndirectPing { .. }
            | Message::ForwardedAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {}
        }
    }

    /// A helper that we have asked says, on its own authenticated stream, that it got no answer either. It says nothing of
    /// the target, only that we still hear.
    pub fn nacked(&mut self, now: Moment, from: MemberId, target: MemberId, number: ProbeNumber) {
        if let Some(probe) = self.probing.as_mut().filter(|probe| probe.is(target, number)) {
            let asked = probe.silent.len();
            probe.silent.retain(|helper| *helper != from);
            if probe.silent.len() < asked {
                self.last_heard = now;
            }
        }
    }

    /// Whether a failed probe makes us doubt ourselves: not if all its helpers say that they got no answer either, those not
    /// counted that are not alive to us. It does if there was nobody to ask. (Lifeguard counts every missing word. A member
    /// that hears nobody would then probe so seldom after two probes that nobody hears it either, and it would be condemned:
    /// scenario deaf-leader.)
    pub(super) fn doubts(&self, failed: &Identity) -> bool {
        let probe = self.probing.as_ref().filter(|probe| probe.asked_helpers && probe.target() == failed);
        let Some(probe) = probe else { return true };
        let is_alive = |helper: &MemberId| self.views.get(helper).is_some_and(|view| view.state == MemberState::Alive);
        probe.silent.iter().any(is_alive)
    }
}
