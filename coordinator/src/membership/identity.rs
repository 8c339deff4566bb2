//! Who a member is to foca: its id, its life number and where it listens.

use std::net::SocketAddr;

use rekindle_proto::id::{Incarnation, MemberId};
use serde::{Deserialize, Serialize};

/// A member in one of its lives. Foca keys members by [`foca::Identity::addr`], here the member's id: a later life replaces
/// an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) member: MemberId,
    pub(super) incarnation: Incarnation,
    pub(super) address: SocketAddr,
}

/// Largest encoding of a [`foca::Member`] of ours, in bytes: id 16, life number ≤ 10 (a varint), address ≤ 20 (IPv6),
/// SWIM incarnation ≤ 3, state 1.
pub(super) const MEMBER_BYTES_MAX: usize = 50;

impl foca::Identity for Identity {
    type Addr = MemberId;

    fn addr(&self) -> MemberId {
        self.member
    }

    /// The next life, or `None` when the numbers are used up (a member that counts one a millisecond never gets there).
    fn renew(&self) -> Option<Self> {
        let incarnation = Incarnation(self.incarnation.0.checked_add(1)?);
        Some(Self { incarnation, ..*self })
    }

    /// The later life wins. Two addresses in one life are a lie or a bug; an order between them makes every member settle on
    /// the same one, and the member itself, refused under the other, ends the matter by beginning a new life.
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, self.address) > (adversary.incarnation, adversary.address)
    }
}
