//! SWIM packets and full states, opened before foca sees them.
//!
//! A packet is foca's: a header, then nothing or a count (`u16`, network order) and as many members. We open it ourselves
//! first, so that nothing in it is half applied when its end turns out to be rubbish.

use foca::{Header, Member, Message};
use rekindle_proto::message::DATAGRAM_BYTES_MAX;

use super::identity::{Identity, MEMBER_BYTES_MAX};
use super::{MEMBERS_MAX, MembershipError};

/// Largest encoded full state, in bytes: every member we may know, and ourselves. Fits into a
/// [`rekindle_proto::message::Message::PushPull`].
pub(super) const STATE_BYTES_MAX: usize = 8 + (MEMBERS_MAX + 1) * MEMBER_BYTES_MAX;

const _: () = assert!(STATE_BYTES_MAX + 64 < rekindle_proto::message::MESSAGE_BYTES_MAX);

/// A SWIM packet, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) header: Header<Identity>,
    pub(super) updates: Vec<Member<Identity>>,
}

impl Packet {
    pub(super) fn open(bytes: &[u8]) -> Result<Self, MembershipError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(MembershipError::TooLong { bytes: bytes.len(), bound: DATAGRAM_BYTES_MAX });
        }
        let (header, mut rest) = postcard::take_from_bytes::<Header<Identity>>(bytes).map_err(malformed)?;
        let mut updates = Vec::new();
        if let Some((count, members)) = rest.split_first_chunk::<2>() {
            if matches!(header.message, Message::Announce | Message::Broadcast) {
                return Err(MembershipError::Malformed("bytes after a message that has none".to_owned()));
            }
            rest = members;
            for _ in 0..u16::from_be_bytes(*count) {
                let (member, after) = postcard::take_from_bytes(rest).map_err(malformed)?;
                updates.push(member);
                rest = after;
            }
        }
        if !rest.is_empty() {
            return Err(MembershipError::Malformed(format!("{} bytes left over", rest.len())));
        }
        Ok(Self { header, updates })
    }

    /// Never longer than what was opened, less the members that were taken out.
    pub(super) fn close(&self) -> Result<Vec<u8>, MembershipError> {
        let mut bytes = postcard::to_stdvec(&self.header).map_err(malformed)?;
        let bare = matches!(self.header.message, Message::Announce | Message::Broadcast | Message::TurnUndead);
        if bare && self.updates.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&u16::try_from(self.updates.len()).unwrap_or(u16::MAX).to_be_bytes());
        for member in &self.updates {
            bytes = postcard::to_extend(member, bytes).map_err(malformed)?;
        }
        Ok(bytes)
    }
}

pub(super) fn close_state(members: &[Member<Identity>]) -> Vec<u8> {
    // A list of plain numbers always encodes; if it ever did not, the receiver refuses the empty state and nothing is lost.
    postcard::to_stdvec(members).unwrap_or_default()
}

pub(super) fn open_state(state: &[u8]) -> Result<Vec<Member<Identity>>, MembershipError> {
    if state.len() > STATE_BYTES_MAX {
        return Err(MembershipError::TooLong { bytes: state.len(), bound: STATE_BYTES_MAX });
    }
    let (members, rest) = postcard::take_from_bytes::<Vec<Member<Identity>>>(state).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(MembershipError::Malformed(format!("{} bytes left over", rest.len())));
    }
    Ok(members)
}

fn malformed(error: postcard::Error) -> MembershipError {
    MembershipError::Malformed(error.to_string())
}
