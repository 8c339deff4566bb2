//! A BMC without socket and clock: datagrams and moments go in, datagrams come out. For tests in virtual time.

use std::fmt;
use std::time::{Duration, Instant};

use super::Power;
use super::command::{self, Answer, Effect};
use super::session::{Outcome, Sessions, User};
use super::wire::{self, Command, Packet, PayloadType, PlusPacket};

/// RMCP+ status: no such session, and no such algorithms (IPMI 2.0, table 13-15).
const NO_SUITE: u8 = 0x11;
/// Where the confidentiality algorithm stands in the answer to Open Session.
const CONFIDENTIALITY_AT: usize = 32;
/// Where the number of the authentication algorithm stands in that request, and SHA-256's.
const AUTHENTICATION_AT: usize = 12;
const SHA256: u8 = 3;

/// What is wrong with a BMC. All of it can be combined.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Each answer takes so long.
    pub answers_after: Duration,
    /// Chassis commands are answered with this completion code, so many times.
    pub busy: (u8, u32),
    /// Power orders are answered with "done" and not carried out.
    pub ignores_orders: bool,
    /// A power order is answered at once and carried out so much later.
    pub acts_after: Duration,
    /// It says what it was ordered to do, though that is not done yet.
    pub says_what_was_ordered: bool,
    /// "Off" is refused with 0xD5 while the power is off, as some makers do.
    pub refuses_off_when_off: bool,
    /// It holds another password.
    pub other_password: bool,
    /// RAKP message 1 is answered with this status: a locked account (0x0D), a full session table (0x01).
    pub login_status: Option<u8>,
    /// Set Session Privilege Level is answered with this completion code.
    pub raise_code: Option<u8>,
    /// From this packet on it is silent.
    pub dies_at: Option<u32>,
    /// Before it takes this packet it forgets every session.
    pub restarts_at: Option<u32>,
    /// It forgets every session when the power goes.
    pub restarts_with_power: bool,
    /// It knows suite 3 only.
    pub only_sha1: bool,
    /// It answers that the session will not be encrypted.
    pub offers_no_encryption: bool,
    /// Its own key, besides the user's.
    pub kg: Option<Vec<u8>>,
}

impl Default for Faults {
    /// None: it answers after a millisecond.
    fn default() -> Self {
        Self {
            answers_after: Duration::from_millis(1),
            busy: (0, 0),
            ignores_orders: false,
            acts_after: Duration::ZERO,
            says_what_was_ordered: false,
            refuses_off_when_off: false,
            other_password: false,
            login_status: None,
            raise_code: None,
            dies_at: None,
            restarts_at: None,
            restarts_with_power: false,
            only_sha1: false,
            offers_no_encryption: false,
            kg: None,
        }
    }
}

/// A BMC and its machine, which is on at first.
pub struct Model {
    username: String,
    password: String,
    guid: [u8; 16],
    faults: Faults,
    sessions: Sessions,
    began: Instant,
    /// Every change of the true power that was, and that is still to come, in the order in which they were ordered.
    changes: Vec<(Duration, Power)>,
    packets: u32,
    orders: Vec<(Duration, u8)>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("faults", &self.faults).field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl Model {
    /// A BMC of that user and machine.
    #[must_use]
    pub fn new(username: &str, password: &str, guid: [u8; 16], faults: Faults) -> Self {
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            guid,
            faults,
            sessions: Sessions::default(),
            began: Instant::now(),
            changes: vec![(Duration::ZERO, Power::On)],
            packets: 0,
            orders: Vec::new(),
        }
    }

    /// What is wrong with it, from now on.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Somebody switches the machine by its button.
    pub fn press(&mut self, now: Duration, power: Power) {
        self.changes.push((now, power));
    }

    /// The true power at that moment.
    #[must_use]
    pub fn power(&self, at: Duration) -> Power {
        let due = self.changes.iter().filter(|(from, _)| *from <= at);
        // Of two at the same moment the later order counts.
        due.max_by_key(|(from, _)| *from).map_or(Power::On, |(_, power)| *power)
    }

    /// Every Chassis Control that was accepted, with its number.
    #[must_use]
    pub fn orders(&self) -> &[(Duration, u8)] {
        &self.orders
    }

    /// How many packets came.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// How many sessions are open or opening.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Takes a packet. The answer, and when it is sent.
    pub fn handle(&mut self, now: Duration, bytes: &[u8]) -> Option<(Duration, Vec<u8>)> {
        self.packets += 1;
        if self.faults.dies_at.is_some_and(|at| self.packets >= at) {
            return None;
        }
        if self.faults.restarts_at == Some(self.packets) {
            self.sessions.clear();
        }
        let Some(Packet::Plus(packet)) = wire::parse(bytes) else { return None };
        let answer = if packet.session == 0 { self.handshake(now, &packet) } else { self.in_session(now, &packet) };
        Some((now + self.faults.answers_after, answer?))
    }

    fn handshake(&mut self, now: Duration, packet: &PlusPacket<'_>) -> Option<Vec<u8>> {
        let mut password = self.password.clone().into_bytes();
        if self.faults.other_password {
            password.insert(0, b'!');
        }
        let user = User {
            names: &[self.username.as_bytes()],
            key: &password,
            kg: self.faults.kg.as_deref(),
            guid: &self.guid,
        };
        let (now, request) = (self.began + now, packet.payload);
        let (kind, payload) = match packet.kind {
            PayloadType::OpenSession => {
                let is_unknown = self.faults.only_sha1 && request.get(AUTHENTICATION_AT) == Some(&SHA256);
                let mut reply = if is_unknown {
                    [[*request.first()?, NO_SUITE, 0, 0].as_slice(), request.get(4..8)?].concat()
                } else {
                    self.sessions.open(request, now)?
                };
                if self.faults.offers_no_encryption {
                    *reply.get_mut(CONFIDENTIALITY_AT)? = 0;
                }
                (PayloadType::OpenSessionReply, reply)
            }
            PayloadType::Rakp1 => {
                let (console, mut reply) = self.sessions.rakp1(request, &user, now)?;
                if let Some(status) = self.faults.login_status {
                    reply = vec![*request.first()?, status, 0, 0];
                    reply.extend(console.to_le_bytes());
                }
                (PayloadType::Rakp2, reply)
            }
            PayloadType::Rakp3 => match self.sessions.rakp3(request, &user, now)?.1 {
                Outcome::Opened(reply) | Outcome::Refused(reply) => (PayloadType::Rakp4, reply),
            },
            PayloadType::Message | PayloadType::OpenSessionReply | PayloadType::Rakp2 | PayloadType::Rakp4 => {
                return None;
            }
        };
        wire::plus(kind, 0, 0, &payload, None)
    }

    fn in_session(&mut self, now: Duration, packet: &PlusPacket<'_>) -> Option<Vec<u8>> {
        let is_sealed = packet.kind == PayloadType::Message && packet.encrypted && packet.authenticated;
        let session = self.sessions.active(packet.session, self.began + now).filter(|_| is_sealed)?;
        if !packet.proves(&session.keys) || !session.accepts(packet.sequence) {
            return None;
        }
        let command = Command::parse(&session.keys.open(packet.payload)?)?;
        let (level, level_max) = (session.privilege, session.privilege_max);
        let mut closes = None;
        let (code, data) = match command::within(&command, level, &self.guid) {
            Effect::Reply(answer) => answer,
            Effect::Raise(wanted) => match self.faults.raise_code.map_or(command::raise(wanted, level, level_max), Err)
            {
                Ok(level) => {
                    session.privilege = level;
                    (command::OK, vec![level])
                }
                Err(code) => (code, Vec::new()),
            },
            Effect::Close(which) => {
                closes = Some(which).filter(|which| *which == packet.session);
                command::closed(closes.is_some())
            }
            Effect::Status => self.chassis(|bmc| bmc.status(now)),
            Effect::Control(number) => self.chassis(|bmc| bmc.control(now, number)),
        };
        // The sessions may be gone with the power.
        let session = self.sessions.active(packet.session, self.began + now)?;
        let sequence = session.next_sequence();
        let message = command.reply(code, &data);
        let reply = wire::plus(PayloadType::Message, session.console, sequence, &message, Some(&session.keys));
        if let Some(which) = closes {
            self.sessions.close(which);
        }
        reply
    }

    fn chassis(&mut self, act: impl FnOnce(&mut Self) -> Answer) -> Answer {
        let (code, times) = &mut self.faults.busy;
        match times.checked_sub(1) {
            Some(left) => {
                *times = left;
                (*code, Vec::new())
            }
            None => act(self),
        }
    }

    fn status(&self, now: Duration) -> Answer {
        let ordered = self.changes.last().map_or(Power::On, |(_, power)| *power);
        let said = if self.faults.says_what_was_ordered { ordered } else { self.power(now) };
        (command::OK, command::status_bytes(said))
    }

    fn control(&mut self, now: Duration, number: u8) -> Answer {
        let power = self.power(now);
        if self.faults.refuses_off_when_off && (number, power) == (0, Power::Off) {
            return (command::NOT_IN_THIS_STATE, Vec::new());
        }
        let powers = match command::control(number, power) {
            Ok(powers) => powers,
            Err(code) => return (code, Vec::new()),
        };
        self.orders.push((now, number));
        for &power in powers.iter().filter(|_| !self.faults.ignores_orders) {
            let goes = self.power(now) == Power::On && power == Power::Off;
            self.changes.push((now + self.faults.acts_after, power));
            if self.faults.restarts_with_power && goes {
                self.sessions.clear();
            }
        }
        (command::OK, Vec::new())
    }
}
