//! Packets: RMCP, ASF, the session header in its 1.5 and 2.0 forms, and the LAN message inside.
//!
//! IPMI 2.0 specification, sections 13.1 to 13.8; ASF 2.0, section 3.2. Every read is checked: a short or absurd packet
//! is `None`, never a panic.

use super::crypto::{SessionKeys, same};

/// RMCP version 6, no RMCP acknowledgement wanted.
const RMCP: [u8; 3] = [0x06, 0x00, 0xFF];
const CLASS_ASF: u8 = 0x06;
const CLASS_IPMI: u8 = 0x07;
/// The enterprise number in ASF messages.
const ASF_IANA: [u8; 4] = [0x00, 0x00, 0x11, 0xBE];
const ASF_PING: u8 = 0x80;
const ASF_PONG: u8 = 0x40;
const AUTH_NONE: u8 = 0x00;
const AUTH_RMCP_PLUS: u8 = 0x06;
const PAYLOAD_ENCRYPTED: u8 = 0x80;
const PAYLOAD_AUTHENTICATED: u8 = 0x40;
const NEXT_HEADER: u8 = 0x07;
/// Our own address on the management bus, and a remote console's.
const BMC_ADDRESS: u8 = 0x20;

/// What kind of payload a 2.0 packet carries (table 13-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadType {
    Message,
    OpenSession,
    OpenSessionReply,
    Rakp1,
    Rakp2,
    Rakp3,
    Rakp4,
}

const PAYLOAD_TYPES: [(PayloadType, u8); 7] = [
    (PayloadType::Message, 0x00),
    (PayloadType::OpenSession, 0x10),
    (PayloadType::OpenSessionReply, 0x11),
    (PayloadType::Rakp1, 0x12),
    (PayloadType::Rakp2, 0x13),
    (PayloadType::Rakp3, 0x14),
    (PayloadType::Rakp4, 0x15),
];

impl PayloadType {
    fn number(self) -> u8 {
        PAYLOAD_TYPES.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, number)| *number)
    }

    fn from_number(number: u8) -> Option<Self> {
        PAYLOAD_TYPES.iter().find(|(_, known)| *known == number).map(|(kind, _)| *kind)
    }
}

/// A packet as it came, before anything in it is believed.
#[derive(Debug)]
pub(super) enum Packet<'a> {
    /// An ASF presence ping with its tag.
    Ping(u8),
    /// A command outside any session, in the 1.5 wrapper.
    Plain(&'a [u8]),
    /// The 2.0 wrapper.
    Plus(PlusPacket<'a>),
}

/// A packet in the 2.0 wrapper.
#[derive(Debug)]
pub(super) struct PlusPacket<'a> {
    pub(super) kind: PayloadType,
    pub(super) encrypted: bool,
    pub(super) authenticated: bool,
    pub(super) session: u32,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
    /// From the session header on: what an authentication code covers, followed by that code.
    covered: &'a [u8],
}

impl PlusPacket<'_> {
    /// Whether the authentication code at the end is the right one.
    pub(super) fn proves(&self, keys: &SessionKeys) -> bool {
        let Some(end) = self.covered.len().checked_sub(keys.code_bytes()) else { return false };
        let (signed, code) = self.covered.split_at(end);
        signed.last() == Some(&NEXT_HEADER) && same(&keys.code(signed), code)
    }
}

pub(super) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let (head, rest) = bytes.split_at_checked(4)?;
    match (head[0], head[3]) {
        (0x06, CLASS_ASF) => {
            let (asf, _) = rest.split_at_checked(8)?;
            (asf[..4] == ASF_IANA && asf[4] == ASF_PING).then_some(Packet::Ping(asf[5]))
        }
        (0x06, CLASS_IPMI) => match *rest.first()? {
            AUTH_NONE => {
                let (wrapper, body) = rest.split_at_checked(10)?;
                let outside = wrapper[1..9].iter().all(|byte| *byte == 0);
                let message = body.get(..usize::from(wrapper[9]))?;
                outside.then_some(Packet::Plain(message))
            }
            AUTH_RMCP_PLUS => parse_plus(rest).map(Packet::Plus),
            _ => None,
        },
        _ => None,
    }
}

fn parse_plus(covered: &[u8]) -> Option<PlusPacket<'_>> {
    let (head, body) = covered.split_at_checked(12)?;
    let length = usize::from(u16::from_le_bytes([head[10], head[11]]));
    Some(PlusPacket {
        kind: PayloadType::from_number(head[1] & 0x3F)?,
        encrypted: head[1] & PAYLOAD_ENCRYPTED != 0,
        authenticated: head[1] & PAYLOAD_AUTHENTICATED != 0,
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

pub(super) fn pong(tag: u8) -> Vec<u8> {
    let mut packet = RMCP.to_vec();
    packet.push(CLASS_ASF);
    packet.extend(ASF_IANA);
    packet.extend([ASF_PONG, tag, 0x00, 0x10]);
    packet.extend(ASF_IANA);
    packet.extend([0; 4]);
    // Entities: IPMI supported, ASF 1.0. No interactions; six reserved bytes.
    packet.extend([0x81, 0x00, 0, 0, 0, 0, 0, 0]);
    packet
}

/// A reply outside any session, in the 1.5 wrapper.
pub(super) fn plain(message: &[u8]) -> Option<Vec<u8>> {
    let mut packet = RMCP.to_vec();
    packet.push(CLASS_IPMI);
    packet.extend([0; 9]);
    packet.push(u8::try_from(message.len()).ok()?);
    packet.extend(message);
    Some(packet)
}

/// A packet in the 2.0 wrapper: bare before a session is active, encrypted and signed in one.
pub(super) fn plus(
    kind: PayloadType,
    session: u32,
    sequence: u32,
    payload: &[u8],
    keys: Option<&SessionKeys>,
) -> Option<Vec<u8>> {
    let (flags, payload) = match keys {
        Some(keys) => (PAYLOAD_ENCRYPTED | PAYLOAD_AUTHENTICATED, keys.seal(payload)?),
        None => (0, payload.to_vec()),
    };
    let mut covered = vec![AUTH_RMCP_PLUS, kind.number() | flags];
    covered.extend(session.to_le_bytes());
    covered.extend(sequence.to_le_bytes());
    covered.extend(u16::try_from(payload.len()).ok()?.to_le_bytes());
    covered.extend(payload);
    if let Some(keys) = keys {
        let pad = (4 - (covered.len() + 2) % 4) % 4;
        covered.extend(std::iter::repeat_n(0xFF, pad));
        covered.push(u8::try_from(pad).ok()?);
        covered.push(NEXT_HEADER);
        let code = keys.code(&covered);
        covered.extend(code);
    }
    let mut packet = RMCP.to_vec();
    packet.push(CLASS_IPMI);
    packet.extend(covered);
    Some(packet)
}

/// A request to the BMC, as a LAN message carries it (section 13.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) function: u8,
    pub(super) number: u8,
    pub(super) data: Vec<u8>,
    requester: u8,
    requester_sequence: u8,
}

impl Command {
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let (head, rest) = message.split_at_checked(6)?;
        let (_, data) = rest.split_last()?;
        let intact = sum(&head[..3]) == 0 && sum(&head[3..]).wrapping_add(sum(rest)) == 0;
        // The lowest bit of the function is set in replies; the two bits below it are the LUN, ours being 0.
        let for_us = head[0] == BMC_ADDRESS && head[1] & 0x07 == 0;
        (intact && for_us).then(|| Self {
            function: head[1] >> 2,
            number: head[5],
            data: data.to_vec(),
            requester: head[3],
            requester_sequence: head[4],
        })
    }

    /// The LAN message that answers this one.
    pub(super) fn reply(&self, completion: u8, data: &[u8]) -> Vec<u8> {
        let mut message = vec![self.requester, (self.function | 1) << 2];
        message.push(0_u8.wrapping_sub(sum(&message)));
        let mut tail = vec![BMC_ADDRESS, self.requester_sequence, self.number, completion];
        tail.extend(data);
        tail.push(0_u8.wrapping_sub(sum(&tail)));
        message.extend(tail);
        message
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::super::command;
    use super::super::crypto::Suite;
    use super::*;

    /// What a console sends: a Chassis Control "off" under these keys.
    fn order(keys: &SessionKeys) -> Vec<u8> {
        let mut message = vec![BMC_ADDRESS, 0x00];
        message.push(0_u8.wrapping_sub(sum(&message)));
        let mut tail = vec![0x81, 0x04, 0x02, 0x00];
        tail.push(0_u8.wrapping_sub(sum(&tail)));
        message.extend(tail);
        plus(PayloadType::Message, 7, 1, &message, Some(keys)).expect("builds")
    }

    #[test]
    fn only_the_whole_signed_packet_is_believed() {
        for suite in Suite::ALL {
            let keys = SessionKeys::new(suite, b"secret", &[b"a"]);
            let packet = order(&keys);
            let Some(Packet::Plus(plus)) = parse(&packet) else { panic!("parses") };
            assert!(plus.proves(&keys));
            let command = Command::parse(&keys.open(plus.payload).expect("opens")).expect("a command");
            assert_eq!((command.function, command.number, command.data.as_slice()), (0, 2, &[0_u8][..]));
            for at in 4..packet.len() {
                let mut forged = packet.clone();
                forged[at] ^= 0x10;
                let believed = matches!(parse(&forged), Some(Packet::Plus(plus)) if plus.proves(&keys));
                assert!(!believed, "{suite:?}: byte {at} was changed and nobody noticed");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let seed = 0xB17E_5EED;
        println!("seed {seed:#x}");
        let mut random = StdRng::seed_from_u64(seed);
        let keys = SessionKeys::new(Suite::Sha256, b"secret", &[b"a"]);
        for _ in 0..50_000 {
            let mut bytes = vec![0; random.random_range(0..90)];
            random.fill_bytes(&mut bytes);
            if let Some(Packet::Plus(plus)) = parse(&bytes) {
                plus.proves(&keys);
            }
            keys.open(&bytes);
            // Make the checksums right, so that what lies behind them is reached too.
            if bytes.len() >= 7 {
                (bytes[0], bytes[1]) = (BMC_ADDRESS, bytes[1] & 0x18);
                bytes[2] = 0_u8.wrapping_sub(sum(&bytes[..2]));
                let last = bytes.len() - 1;
                bytes[last] = 0_u8.wrapping_sub(sum(&bytes[3..last]));
                let command = Command::parse(&bytes).expect("whole");
                command::within(&command, random.random_range(0..5), &[0; 16]);
                command::outside(&command, &[0; 16]);
            }
        }
    }
}
