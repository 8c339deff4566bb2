//! What of a peer's words is kept from foca.
//!
//! Foca believes all it reads. Peers are authenticated, yet one of them may be captured or mad, and it must not stop a second
//! one: no packet of one member may use up another's life numbers, fill our memory, or make us write to disk without end.

use foca::{Header, Message};

use super::*;

/// Largest life number believed by hearsay alone. Life numbers begin as milliseconds since 1970: this lasts until the year
/// 10889. The rest of the 64 bits is room to outlive a liar in.
const HEARSAY_INCARNATION_MAX: u64 = 1 << 48;

/// Beyond that bound hearsay may raise a known life number by this much at a time: using up the rest would take 2^47 packets.
const HEARSAY_INCARNATION_STEP: u64 = 1 << 16;

/// Hearsay, sorted.
pub(super) struct Screened {
    /// What foca may hear.
    pub(super) kept: Vec<Member<Identity>>,
    /// Whether something was taken out.
    pub(super) dropped: bool,
    /// The highest life number others believe to be ours, if ours does not win against it.
    pub(super) claim: Option<Incarnation>,
}

impl Membership {
    pub(super) fn check_header(&self, from: MemberId, header: &Header<Identity>) -> Result<(), MembershipError> {
        let claimed = header.src.member;
        if claimed != from || from == self.me {
            return Err(MembershipError::Source { from, claimed });
        }
        if header.dst.member != self.me {
            return Err(MembershipError::Misdirected { from, destination: header.dst.member });
        }
        if !reachable(header.src.address) {
            return Err(MembershipError::Malformed(format!("nobody can listen at {}", header.src.address)));
        }
        if !self.views.contains_key(&from) && self.views.len() >= MEMBERS_MAX {
            return Err(MembershipError::Full { from });
        }
        match &header.message {
            // Sent on, to an address out of the packet: only to where we know that member to be.
            Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => {
                let known = self.views.get(&target.member);
                if known.is_none_or(|known| known.address != target.address) {
                    return Err(MembershipError::UnknownTarget { from, target: target.member });
                }
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
        Ok(())
    }

    /// Sorts what a peer says of members.
    pub(super) fn screen(&self, now: Moment, updates: Vec<Member<Identity>>) -> Screened {
        let before = updates.len();
        let (mut room, mut claim) = (MEMBERS_MAX.saturating_sub(self.views.len()), None);
        let mut kept = updates;
        kept.retain(|update| {
            if update.id().member == self.me {
                claim = claim.max(self.claim(update.id()));
                return self.concerns_us(now, update);
            }
            let known = self.views.get(&update.id().member);
            if !believable(update.id(), known.map(|known| known.incarnation)) {
                return false;
            }
            if known.is_none() {
                // A member named twice takes two places here: at worst the last few wait for the next packet.
                let Some(left) = room.checked_sub(1) else { return false };
                room = left;
            }
            true
        });
        Screened { dropped: kept.len() < before, kept, claim }
    }

    /// The life number of ours that others believe in, if they would not believe in our present one.
    pub(super) fn claim(&self, identity: &Identity) -> Option<Incarnation> {
        let ours = self.foca.identity();
        let wins = identity.member == ours.member && identity != ours && identity.incarnation >= ours.incarnation;
        (wins && believable(identity, Some(ours.incarnation))).then_some(identity.incarnation)
    }

    /// Whether it may be we who are cut off: our probes fail one after the other, or at most half of those we know,
    /// ourselves included, are alive in our eyes.
    pub(super) fn may_be_cut_off(&self) -> bool {
        let alive = self.views.values().filter(|view| view.state == MemberState::Alive).count();
        self.health.doubtful() || 2 * (alive + 1) <= self.views.len() + 1
    }

    /// Whether we believe this member, in this life, to be down.
    pub(super) fn holds_down(&self, identity: &Identity) -> bool {
        let view = self.views.get(&identity.member);
        view.is_some_and(|view| view.state == MemberState::Down && view.incarnation >= identity.incarnation)
    }

    /// Whether a new life may begin: once a probe period, since each is written to disk. What is put off is said again.
    pub(super) fn may_renew(&self, now: Moment) -> bool {
        self.renewed_at.is_none_or(|at| now.since(at) >= self.rules.probe_period)
    }

    /// Whether foca must hear of this update of ourselves: only what it has to answer. Of earlier lives it would make members.
    fn concerns_us(&self, now: Moment, update: &Member<Identity>) -> bool {
        let renews = match update.state() {
            State::Alive => return false,
            State::Suspect => update.incarnation() == foca::Incarnation::MAX,
            State::Down => true,
        };
        update.id() == self.foca.identity() && (!renews || self.may_renew(now))
    }
}

fn believable(identity: &Identity, known: Option<Incarnation>) -> bool {
    let by_step = known.map_or(0, |known| known.0.saturating_add(HEARSAY_INCARNATION_STEP));
    identity.incarnation.0 <= by_step.max(HEARSAY_INCARNATION_MAX) && reachable(identity.address)
}

fn reachable(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}
