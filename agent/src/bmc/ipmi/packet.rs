//! Datagrams: the RMCP header and the session header of IPMI 2.0 (sections 13.1 to 13.6).
//!
//! Every read is checked: what is short, long or absurd is `None`. Nothing in a datagram is believed here; its code is
//! compared in [`super::session`], and that only for packets of a session that is open.

use super::suite::{BLOCK, SessionKeys, same};

/// Longest datagram that is looked at, in bytes. The longest answer we ask for is under 120; an IPMI message over LAN is
/// at most 255 bytes, and some BMCs pad. Longer ones are dropped unread.
pub(super) const DATAGRAM_MAX: usize = 512;

/// RMCP version 1.0, no acknowledgement wanted, message class IPMI (section 13.1.3).
const RMCP_IPMI: [u8; 4] = [0x06, 0x00, 0xFF, 0x07];
const AUTH_RMCP_PLUS: u8 = 0x06;
const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;
const KIND_MASK: u8 = 0x3F;
/// The byte before the code at the end (table 13-8).
const NEXT_HEADER: u8 = 0x07;
/// From the authentication type up to the payload.
const HEADER: usize = 12;

/// What a packet carries (table 13-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An IPMI message in a session.
    Message,
    /// RMCP+ Open Session Request.
    OpenSession,
    /// Its answer.
    OpenSessionReply,
    /// RAKP message 1, ours.
    Rakp1,
    /// RAKP message 2, the BMC's.
    Rakp2,
    /// RAKP message 3, ours.
    Rakp3,
    /// RAKP message 4, the BMC's.
    Rakp4,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Message => 0x00,
            Self::OpenSession => 0x10,
            Self::OpenSessionReply => 0x11,
            Self::Rakp1 => 0x12,
            Self::Rakp2 => 0x13,
            Self::Rakp3 => 0x14,
            Self::Rakp4 => 0x15,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        const ALL: [Kind; 7] = [
            Kind::Message,
            Kind::OpenSession,
            Kind::OpenSessionReply,
            Kind::Rakp1,
            Kind::Rakp2,
            Kind::Rakp3,
            Kind::Rakp4,
        ];
        ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// A packet as it came.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    pub(super) encrypted: bool,
    pub(super) authenticated: bool,
    /// The session id of whom it is for; 0 outside a session.
    pub(super) session: u32,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
    /// What a code covers, from the session header on, followed by that code.
    covered: &'a [u8],
}

impl Packet<'_> {
    /// Whether it ends in the right code under these keys.
    pub(super) fn is_signed(&self, keys: &SessionKeys) -> bool {
        let Some(end) = self.covered.len().checked_sub(keys.code_len()) else { return false };
        let (signed, code) = self.covered.split_at(end);
        self.authenticated && signed.last() == Some(&NEXT_HEADER) && same(&keys.code(signed), code)
    }
}

/// Reads a datagram. `None`: it is not of IPMI 2.0, not whole, or longer than [`DATAGRAM_MAX`].
pub(super) fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
    if datagram.len() > DATAGRAM_MAX {
        return None;
    }
    let (rmcp, covered) = datagram.split_at_checked(RMCP_IPMI.len())?;
    // The third byte is a sequence number that some BMCs count up.
    if rmcp[0] != RMCP_IPMI[0] || rmcp[3] != RMCP_IPMI[3] {
        return None;
    }
    let (head, body) = covered.split_at_checked(HEADER)?;
    if head[0] != AUTH_RMCP_PLUS {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([head[10], head[11]]));
    Some(Packet {
        kind: Kind::from_number(head[1] & KIND_MASK)?,
        encrypted: head[1] & ENCRYPTED != 0,
        authenticated: head[1] & AUTHENTICATED != 0,
        session: u32_le(head, 2)?,
        sequence: u32_le(head, 6)?,
        payload: body.get(..length)?,
        covered,
    })
}

/// Four bytes at `at`, least significant first.
pub(super) fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// A packet outside any session. `None` never happens: no payload of ours is 65,536 bytes long.
pub(super) fn bare(kind: Kind, payload: &[u8]) -> Option<Vec<u8>> {
    build(kind.number(), 0, 0, payload)
}

/// An encrypted and signed message to the session `session` of the BMC.
pub(super) fn sealed(
    session: u32,
    sequence: u32,
    message: &[u8],
    keys: &SessionKeys,
    iv: &[u8; BLOCK],
) -> Option<Vec<u8>> {
    let payload = keys.encrypt(iv, message)?;
    let mut packet = build(Kind::Message.number() | ENCRYPTED | AUTHENTICATED, session, sequence, &payload)?;
    let covered = packet.len() - RMCP_IPMI.len();
    // What is covered, with the padding, its length and the next header, is a multiple of four bytes.
    let pad = (4 - (covered + 2) % 4) % 4;
    packet.extend(std::iter::repeat_n(0xFF, pad));
    packet.push(u8::try_from(pad).ok()?);
    packet.push(NEXT_HEADER);
    let code = keys.code(packet.get(RMCP_IPMI.len()..)?);
    packet.extend_from_slice(&code);
    Some(packet)
}

fn build(kind: u8, session: u32, sequence: u32, payload: &[u8]) -> Option<Vec<u8>> {
    let mut packet = RMCP_IPMI.to_vec();
    packet.extend([AUTH_RMCP_PLUS, kind]);
    packet.extend(session.to_le_bytes());
    packet.extend(sequence.to_le_bytes());
    packet.extend(u16::try_from(payload.len()).ok()?.to_le_bytes());
    packet.extend_from_slice(payload);
    Some(packet)
}
