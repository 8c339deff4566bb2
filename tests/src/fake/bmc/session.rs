//! Sessions: opening one (RMCP+ Open Session, RAKP messages 1 to 4), and who may say what in it.
//!
//! IPMI 2.0 specification, sections 13.17 to 13.24.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;

use super::crypto::{SessionKeys, Suite, same};
use super::wire::u32_le;

/// Sessions at once, of which BMCs have few: the newcomer is refused when all are in use.
const SESSIONS_MAX: usize = 16;
/// A session nobody uses ends (section 6.12.15: 60 s ± 3 s).
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Longest user name (section 13.20).
const USERNAME_MAX: usize = 16;
/// How far ahead of, and behind, the highest sequence number a packet may be (section 6.12.13).
const WINDOW_AHEAD: u32 = 15;
const WINDOW_BEHIND: u32 = 16;

/// User level: what every session starts at, whatever was asked in RAKP message 1.
pub(super) const USER: u8 = 2;
/// The level chassis control needs (appendix G).
pub(super) const OPERATOR: u8 = 3;
/// The level our one user may rise to.
pub(super) const ADMINISTRATOR: u8 = 4;

const STATUS_NO_RESOURCES: u8 = 0x01;
const STATUS_INVALID_SESSION: u8 = 0x02;
const STATUS_NO_SUITE: u8 = 0x11;
const STATUS_INVALID_ROLE: u8 = 0x09;
const STATUS_UNAUTHORIZED_NAME: u8 = 0x0D;
const STATUS_INVALID_CODE: u8 = 0x0F;

/// What the handshake knows of its users, who have one password.
pub(super) struct User<'a> {
    /// The names under which it may come.
    pub(super) names: &'a [&'a [u8]],
    pub(super) key: &'a [u8],
    /// K_g, the BMC's own key, where it has one (section 13.31).
    pub(super) kg: Option<&'a [u8]>,
    pub(super) guid: &'a [u8; 16],
}

/// One active session.
pub(super) struct Session {
    /// Under which name it was opened.
    pub(super) user: Vec<u8>,
    pub(super) console: u32,
    pub(super) keys: SessionKeys,
    pub(super) privilege: u8,
    pub(super) privilege_max: u8,
    received: Window,
    sent: u32,
}

impl Session {
    /// Whether a packet of this number is new. Retries carry new numbers; a number seen before is a replay.
    pub(super) fn accepts(&mut self, sequence: u32) -> bool {
        self.received.accepts(sequence)
    }

    /// The number of the next packet we send in it. Zero is for packets outside a session.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sent = self.sent.wrapping_add(1).max(1);
        self.sent
    }
}

/// Which sequence numbers were seen.
#[derive(Default)]
struct Window {
    highest: u32,
    seen: u32,
}

impl Window {
    fn accepts(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false;
        }
        let ahead = sequence.wrapping_sub(self.highest);
        if ahead != 0 && ahead <= WINDOW_AHEAD {
            self.seen = (self.seen << ahead) | 1;
            self.highest = sequence;
            return true;
        }
        let behind = self.highest.wrapping_sub(sequence);
        if behind > WINDOW_BEHIND || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

/// A session on its way.
struct Opening {
    console: u32,
    suite: Suite,
    level: u8,
    challenge: Option<Challenge>,
}

/// What RAKP messages 1 and 2 agreed on.
#[derive(Clone)]
struct Challenge {
    console_random: [u8; 16],
    our_random: [u8; 16],
    role: u8,
    name: Vec<u8>,
}

enum Slot {
    Opening(Opening),
    Active(Box<Session>),
}

/// What the end of a handshake came to.
pub(super) enum Outcome {
    /// The session is active.
    Opened(Vec<u8>),
    /// The handshake failed; the caller is told this.
    Refused(Vec<u8>),
}

/// Every session of one BMC.
#[derive(Default)]
pub(super) struct Sessions {
    slots: BTreeMap<u32, (Instant, Slot)>,
}

impl Sessions {
    /// RMCP+ Open Session Request.
    pub(super) fn open(&mut self, request: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (tag, console) = (*request.first()?, u32_le(request, 4)?);
        let level = request.get(1)? & 0x0F;
        let proposal = [(8, 0_u8), (16, 1), (24, 2)].map(|(at, kind)| algorithm(request, at, kind));
        let refuse = |status| {
            let mut reply = vec![tag, status, 0, 0];
            reply.extend(console.to_le_bytes());
            Some(reply)
        };
        let chosen = Suite::ALL.into_iter().find(|suite| {
            let [_, wanted @ ..] = suite.numbers();
            proposal.iter().zip(wanted).all(|(offered, wanted)| *offered == Some(wanted))
        });
        let Some(suite) = chosen else { return refuse(STATUS_NO_SUITE) };
        if !self.make_room(now) {
            return refuse(STATUS_NO_RESOURCES);
        }
        let managed = self.fresh_id();
        let level = if level == 0 { ADMINISTRATOR } else { level.min(ADMINISTRATOR) };
        self.slots.insert(managed, (now, Slot::Opening(Opening { console, suite, level, challenge: None })));
        let [_, authentication, integrity, confidentiality] = suite.numbers();
        let mut reply = vec![tag, 0, level, 0];
        reply.extend(console.to_le_bytes());
        reply.extend(managed.to_le_bytes());
        for (kind, number) in [(0, authentication), (1, integrity), (2, confidentiality)] {
            reply.extend([kind, 0, 0, 8, number, 0, 0, 0]);
        }
        Some(reply)
    }

    /// RAKP message 1: who the console says it is. The reply is message 2, with the console's session id.
    pub(super) fn rakp1(&mut self, request: &[u8], user: &User<'_>, now: Instant) -> Option<(u32, Vec<u8>)> {
        let (tag, managed) = (*request.first()?, u32_le(request, 4)?);
        let console_random: [u8; 16] = request.get(8..24)?.try_into().ok()?;
        let role = *request.get(24)?;
        let length = usize::from(*request.get(27)?);
        let name = named(request)?;
        let Some((used, Slot::Opening(opening))) = self.slots.get_mut(&managed) else {
            return Some((0, vec![tag, STATUS_INVALID_SESSION, 0, 0, 0, 0, 0, 0]));
        };
        let console = opening.console;
        let refuse = |status| {
            let mut reply = vec![tag, status, 0, 0];
            reply.extend(console.to_le_bytes());
            Some((console, reply))
        };
        if length > USERNAME_MAX || !user.names.contains(&name) {
            self.slots.remove(&managed);
            return refuse(STATUS_UNAUTHORIZED_NAME);
        }
        if role & 0x0F > ADMINISTRATOR {
            self.slots.remove(&managed);
            return refuse(STATUS_INVALID_ROLE);
        }
        *used = now;
        // A repeated message 1 (the answer was lost) gets the same challenge.
        let is_same = |known: &Challenge| known.console_random == console_random && known.name == name;
        let known = opening.challenge.take().filter(is_same);
        let challenge = known.unwrap_or_else(|| {
            let mut our_random = [0; 16];
            rand::rng().fill_bytes(&mut our_random);
            Challenge { console_random, our_random, role, name: name.to_vec() }
        });
        let code = opening.suite.hmac(
            user.key,
            &[
                &console.to_le_bytes(),
                &managed.to_le_bytes(),
                &challenge.console_random,
                &challenge.our_random,
                user.guid,
                &[role, u8::try_from(length).ok()?],
                name,
            ],
        );
        let mut reply = vec![tag, 0, 0, 0];
        reply.extend(console.to_le_bytes());
        reply.extend(challenge.our_random);
        reply.extend(user.guid);
        reply.extend(code);
        opening.challenge = Some(challenge);
        Some((console, reply))
    }

    /// RAKP message 3: the console proves that it knows the key. The outcome holds message 4.
    pub(super) fn rakp3(&mut self, request: &[u8], user: &User<'_>, now: Instant) -> Option<(u32, Outcome)> {
        let (tag, status, managed) = (*request.first()?, *request.get(1)?, u32_le(request, 4)?);
        let Some((_, Slot::Opening(opening))) = self.slots.get(&managed) else {
            return Some((0, Outcome::Refused(vec![tag, STATUS_INVALID_SESSION, 0, 0, 0, 0, 0, 0])));
        };
        let (console, suite) = (opening.console, opening.suite);
        let mut reply = vec![tag, 0, 0, 0];
        reply.extend(console.to_le_bytes());
        let refused = |mut reply: Vec<u8>, status| {
            reply[1] = status;
            Some((console, Outcome::Refused(reply)))
        };
        let Some(challenge) = opening.challenge.clone() else { return refused(reply, STATUS_INVALID_SESSION) };
        let level = opening.level.min(challenge.role & 0x0F).max(1);
        let name = challenge.name;
        let named = [challenge.role, u8::try_from(name.len()).ok()?];
        let wanted = suite.hmac(user.key, &[&challenge.our_random, &console.to_le_bytes(), &named, &name]);
        if status != 0 || !same(&wanted, request.get(8..)?) {
            self.slots.remove(&managed);
            return refused(reply, STATUS_INVALID_CODE);
        }
        let parts: [&[u8]; 4] = [&challenge.console_random, &challenge.our_random, &named, &name];
        let keys = SessionKeys::new(suite, user.kg.unwrap_or(user.key), &parts);
        reply.extend(keys.rakp4(&[&challenge.console_random, &managed.to_le_bytes(), user.guid]));
        let session = Session {
            user: name,
            console,
            keys,
            privilege: USER.min(level),
            privilege_max: level,
            received: Window::default(),
            sent: 0,
        };
        self.slots.insert(managed, (now, Slot::Active(Box::new(session))));
        Some((console, Outcome::Opened(reply)))
    }

    /// An active session, marked as used.
    pub(super) fn active(&mut self, managed: u32, now: Instant) -> Option<&mut Session> {
        match self.slots.get_mut(&managed)? {
            (used, Slot::Active(session)) if now.duration_since(*used) <= IDLE_MAX => {
                *used = now;
                Some(session)
            }
            (_, Slot::Active(_) | Slot::Opening(_)) => None,
        }
    }

    /// Whether there was such a session; now there is not.
    pub(super) fn close(&mut self, managed: u32) -> bool {
        self.slots.remove(&managed).is_some()
    }

    /// Forgets every session, as a BMC's own reset does.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    /// How many sessions are open or opening.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Makes room for one more: the idle go first, then the oldest that never finished opening.
    fn make_room(&mut self, now: Instant) -> bool {
        self.slots.retain(|_, (used, _)| now.duration_since(*used) <= IDLE_MAX);
        if self.slots.len() < SESSIONS_MAX {
            return true;
        }
        let opening = self.slots.iter().filter(|(_, (_, slot))| matches!(slot, Slot::Opening(_)));
        let oldest = opening.min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
        oldest.is_some_and(|id| self.slots.remove(&id).is_some())
    }

    fn fresh_id(&self) -> u32 {
        loop {
            let id = rand::rng().next_u32();
            if id != 0 && !self.slots.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Who RAKP message 1 says that the console is.
pub(super) fn named(request: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*request.get(27)?);
    request.get(28..28_usize.checked_add(length)?)
}

/// The algorithm a proposal names: eight bytes that begin with their kind and say their length.
fn algorithm(request: &[u8], at: usize, kind: u8) -> Option<u8> {
    let part = request.get(at..at + 8)?;
    (part[0] == kind && part[3] == 8).then_some(part[4] & 0x3F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_counts_once_and_only_near_the_highest() {
        let mut window = Window::default();
        assert!(!window.accepts(0));
        assert!(window.accepts(1) && !window.accepts(1));
        assert!(window.accepts(5) && window.accepts(3) && !window.accepts(3));
        assert!(!window.accepts(5 + 16), "too far ahead");
        assert!(window.accepts(20) && window.accepts(4), "16 behind");
        assert!(!window.accepts(2), "too far behind");
    }

    const USER_OF: User<'static> = User { names: &[b"admin"], key: b"secret", kg: None, guid: &[7; 16] };

    fn proposal() -> Vec<u8> {
        let mut request = vec![0, 0, 0, 0, 1, 2, 3, 4];
        for (kind, number) in [(0, 3), (1, 4), (2, 1)] {
            request.extend([kind, 0, 0, 8, number, 0, 0, 0]);
        }
        request
    }

    /// RAKP message 1 for a session, as an administrator.
    fn hello(managed: &[u8]) -> Vec<u8> {
        [&[0; 4], managed, &[9; 16], &[ADMINISTRATOR, 0, 0, 5], b"admin"].concat()
    }

    /// RAKP message 3 that proves this key to the sender of that message 2.
    fn proof(key: &[u8], managed: &[u8], reply: &[u8]) -> Vec<u8> {
        let named = [ADMINISTRATOR, 5];
        let code = Suite::Sha256.hmac(key, &[&reply[8..24], &[1, 2, 3, 4], &named, b"admin"]);
        [&[0; 4], managed, &code].concat()
    }

    #[test]
    fn message_3_must_prove_the_key_and_be_whole() {
        let now = Instant::now();
        for (key, opens) in [(&b"secret"[..], true), (b"wrong", false)] {
            let mut sessions = Sessions::default();
            let managed = sessions.open(&proposal(), now).expect("answers")[8..12].to_vec();
            let id = u32_le(&managed, 0).expect("four bytes");
            let whole = hello(&managed);
            for length in 0..whole.len() {
                assert!(sessions.rakp1(&whole[..length], &USER_OF, now).is_none(), "cut to {length}");
            }
            let (_, reply) = sessions.rakp1(&whole, &USER_OF, now).expect("answers");
            assert_eq!((reply[1], reply.len()), (0, 40 + 32));
            let proof = proof(key, &managed, &reply);
            for length in 0..8 {
                assert!(sessions.rakp3(&proof[..length], &USER_OF, now).is_none(), "cut to {length}");
            }
            let status = match sessions.rakp3(&proof, &USER_OF, now).expect("answers").1 {
                Outcome::Opened(reply) | Outcome::Refused(reply) => reply[1],
            };
            assert_eq!(status, if opens { 0 } else { STATUS_INVALID_CODE });
            assert_eq!(sessions.active(id, now).is_some(), opens);
            let idle = now + IDLE_MAX + Duration::from_millis(1);
            assert!(sessions.active(id, idle).is_none(), "an idle session ends");
        }
    }

    #[test]
    fn sessions_are_bounded() {
        let (mut sessions, mut request, now) = (Sessions::default(), proposal(), Instant::now());
        for _ in 0..100 {
            let reply = sessions.open(&request, now).expect("answers");
            assert_eq!((reply[1], reply.len()), (0, 36));
        }
        assert_eq!(sessions.len(), SESSIONS_MAX);
        request[12] = 1;
        assert_eq!(sessions.open(&request, now).expect("answers")[1], STATUS_NO_SUITE);
    }
}
