//! The remote console: the whole conversation with one BMC as a state machine, without clock or I/O.
//!
//! A call is begun; then [`Console::poll`] says what to send and how long to wait, and [`Console::receive`] takes what
//! came. A session is kept from call to call. What is sent again has a new sequence number and the old request number, so
//! an answer to any copy is an answer, and a BMC that knows copies can tell. Whatever is not surely the answer to what was
//! asked last is as if it had not come. A wrong password is tried once per call: BMCs lock users.

mod answer;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid};

use super::call::{Answer, Ask, Call, SessionAge, Times, Waiting};
use super::command::Command;
use super::error::IpmiError;
use super::login::Login;
use super::packet::parse;
use super::rakp::{Handshake, Progress, SEED};
use super::session::Session;
use super::suite::BLOCK;

/// A session unused for longer is opened anew instead: BMCs end it after 60 s ± 3 s (IPMI 2.0, section 6.12.15).
const IDLE_MAX: Duration = Duration::from_secs(45);

/// A handshake not heard of for longer is begun anew by the next call. It outlives a call: a BMC that is too slow for one
/// gets on in the next.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// A session heard in so lately is taken as alive: a power order in it is given a whole [`PATIENCE`](super::call).
const WARM: Duration = Duration::from_secs(3);

/// Fills with random bytes that nobody can guess; false where it cannot.
pub type Entropy = Box<dyn FnMut(&mut [u8]) -> bool + Send>;

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Send this, now or never.
    Send(Vec<u8>),
    /// Wait for a datagram, at most until then.
    Wait(Moment),
    /// The call has ended.
    Done(Result<Answer, IpmiError>),
    /// There is no call.
    Idle,
}

/// One BMC, as seen from here.
pub struct Console {
    login: Login,
    entropy: Entropy,
    state: State,
    /// Which of the allowed suites is tried next.
    suite: usize,
    call: Option<Call>,
    /// Whether a copy of the call's power order was put on the wire; of the last call, when it has ended.
    ordered: bool,
    out: VecDeque<Vec<u8>>,
    /// Slowest answer of late.
    slowest: Duration,
    last_heard: Moment,
    /// Since when the handshake asks what it asks now, in this call or an earlier one.
    step_since: Moment,
    trouble: Option<String>,
    /// What the BMC has told of its machine in the session that is open: another BMC knows none of its keys.
    told: Option<Result<DeviceGuid, DeviceError>>,
}

enum State {
    Closed,
    Opening(Box<Handshake>),
    Open(Box<Session>),
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = matches!(self.state, State::Open(_));
        f.debug_struct("Console").field("open", &is_open).field("call", &self.call).finish_non_exhaustive()
    }
}

impl Console {
    /// Nothing is sent before the first call.
    #[must_use]
    pub fn new(login: Login, entropy: Entropy) -> Self {
        Self {
            login,
            entropy,
            state: State::Closed,
            suite: 0,
            call: None,
            ordered: false,
            out: VecDeque::new(),
            slowest: Duration::ZERO,
            last_heard: Moment::ZERO,
            step_since: Moment::ZERO,
            trouble: None,
            told: None,
        }
    }

    /// Whether a new session will have to be opened: keys and address may be looked up anew.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether the last call has put its power order on the wire, whatever came of it. If not, surely nothing was ordered.
    #[must_use]
    pub fn has_ordered(&self) -> bool {
        self.ordered
    }

    /// Keys from now on.
    pub fn set_login(&mut self, login: Login) {
        self.suite = self.suite.min(login.suites().len().saturating_sub(1));
        self.login = login;
    }

    /// Begins a call. One that is under way was given up by its caller: its answer is not waited for.
    pub fn begin(&mut self, now: Moment, ask: Ask, times: Times) {
        self.out.clear();
        self.trouble = None;
        self.ordered = false;
        let unheard = now.since(self.last_heard);
        let is_stale = match self.state {
            State::Closed => false,
            State::Opening(_) => unheard > OPENING_MAX,
            State::Open(_) => unheard > IDLE_MAX,
        };
        if is_stale {
            self.let_go();
        }
        let mut call = Call::new(ask, times);
        let is_order = matches!(ask, Ask::Order(_));
        if is_order && (now >= times.begin_before || now >= times.end) {
            call.result = Some(Err(IpmiError::TooLate));
        }
        self.call = Some(call);
    }

    /// Of the call just begun: its order is put on the wire, and its power asked for, only in a session in which the BMC has
    /// told that it is this one. In each session it is asked once: what it is sent is sealed with keys that no other BMC has,
    /// wherever the cables lead by now. To ask anew before an order would take a slow one longer than its permit lasts.
    pub fn hold_to(&mut self, identity: DeviceIdentity) {
        if let Some(call) = &mut self.call {
            call.identity = Some(identity);
        }
    }

    /// The network said why something cannot be sent or did not arrive. It says nothing for sure: another may.
    pub fn note_trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// What to do now. To be asked again after each datagram sent, and whenever one came or the wait is over.
    pub fn poll(&mut self, now: Moment) -> Step {
        self.turn(now);
        if let Some(datagram) = self.out.pop_front() {
            return Step::Send(datagram);
        }
        match &mut self.call {
            None => Step::Idle,
            Some(call) => match call.result.take() {
                Some(result) => {
                    self.call = None;
                    Step::Done(result)
                }
                None => Step::Wait(call.next(now)),
            },
        }
    }

    /// Takes a datagram, whatever it is.
    pub fn receive(&mut self, now: Moment, datagram: &[u8]) {
        let Some(call) = self.call.as_mut().filter(|call| call.result.is_none()) else { return };
        let Some(packet) = parse(datagram) else { return };
        match &mut self.state {
            State::Closed => {}
            State::Opening(handshake) => {
                let progress = handshake.receive(&self.login, &packet);
                if !matches!(progress, Progress::Nothing) {
                    self.heard(now);
                    self.progressed(now, progress);
                }
            }
            State::Open(session) => {
                let Some(reply) = session.receive(&packet) else { return };
                self.last_heard = now;
                let asked = call.waiting.as_ref().and_then(|waiting| waiting.command);
                if let Some((command, _)) = asked.filter(|(command, rq_seq)| reply.answers(*command, *rq_seq)) {
                    self.heard(now);
                    self.answered(now, command, &reply);
                }
            }
        }
    }

    /// The datagram that ends the session, if one is open or opening. For a BMC whose places are few.
    pub fn close(&mut self) -> Option<Vec<u8>> {
        self.out.clear();
        self.let_go();
        self.out.pop_front()
    }

    fn turn(&mut self, now: Moment) {
        let Some(call) = self.call.as_mut().filter(|call| call.result.is_none()) else { return };
        if now >= call.times.end || call.is_too_late(now) {
            return self.overdue();
        }
        if call.is_resting(now) {
            return;
        }
        match &call.waiting {
            None => self.ask(now),
            Some(waiting) if now >= waiting.give_up_at => self.give_up(now),
            Some(waiting) if now >= waiting.resend_at => self.resend(now),
            Some(_) => {}
        }
    }

    /// Sends the next question.
    fn ask(&mut self, now: Moment) {
        if let Some(Err(why)) = self.judged() {
            return self.finish(Err(IpmiError::NotTheOne(why)));
        }
        match &mut self.state {
            State::Closed => self.open(now),
            State::Opening(_) => self.wait(now, None),
            State::Open(session) => {
                let Some(call) = &mut self.call else { return };
                let command = match call.ask {
                    _ if !session.raised => Command::Raise(self.login.level()),
                    _ if call.identity.is_some() && self.told.is_none() => Command::Guid,
                    Ask::DeviceId => Command::DeviceId,
                    Ask::Guid => Command::Guid,
                    Ask::Power => Command::Status,
                    Ask::Order(_) if call.verify => Command::Status,
                    Ask::Order(state) => Command::Control(state),
                };
                if !call.may_send(now, command) {
                    return self.overdue();
                }
                match session.next_question() {
                    Some(rq_seq) => self.wait(now, Some((command, rq_seq))),
                    None => {
                        self.let_go();
                        self.open(now);
                    }
                }
            }
        }
    }

    /// Whether the BMC is the one that the call is held to; `None`: it was not asked in this session, or need not be.
    fn judged(&self) -> Option<Result<(), DeviceError>> {
        let identity = self.call.as_ref()?.identity?;
        self.told.as_ref().map(|told| identity.judge(told))
    }

    /// Begins a handshake.
    fn open(&mut self, now: Moment) {
        let mut seed = [0; SEED];
        let suite = self.login.suites().get(self.suite).or(self.login.suites().first()).copied();
        let (Some(suite), true) = (suite, (self.entropy)(&mut seed)) else { return self.no_random() };
        self.told = None;
        self.state = State::Opening(Box::new(Handshake::new(suite, &seed)));
        (self.last_heard, self.step_since) = (now, now);
        self.wait(now, None);
    }

    /// Sends a question for the first time and waits for its answer.
    fn wait(&mut self, now: Moment, command: Option<(Command, u8)>) {
        let Some(call) = &mut self.call else { return };
        let is_warm = now.since(self.last_heard) <= WARM;
        let is_order = matches!(call.ask, Ask::Order(_));
        let age = match command {
            None => SessionAge::Fresh,
            Some(_) if call.is_fresh => SessionAge::Fresh,
            Some((Command::Control(_), _)) if is_warm => SessionAge::Fresh,
            Some((Command::Guid, _)) if is_warm && is_order => SessionAge::Fresh,
            Some((Command::Control(_) | Command::Guid, _)) if is_order => SessionAge::KeptForOrder,
            Some(_) => SessionAge::Kept,
        };
        let patience = call.patience(age, self.slowest);
        call.waiting = Some(Waiting::new(now, command, self.slowest, patience));
        self.send();
    }

    /// Puts a copy of what is waited for on the wire.
    fn send(&mut self) {
        let Some(call) = &mut self.call else { return };
        let Some(waiting) = &call.waiting else { return };
        let datagram = match (&mut self.state, waiting.command) {
            (State::Opening(handshake), _) => handshake.question(&self.login),
            (State::Open(session), Some((command, rq_seq))) => {
                let mut iv = [0; BLOCK];
                if !(self.entropy)(&mut iv) {
                    return self.no_random();
                }
                if matches!(command, Command::Control(_)) {
                    call.ordered += 1;
                    self.ordered = true;
                }
                session.question(command, rq_seq, &iv)
            }
            (State::Open(_), None) | (State::Closed, _) => None,
        };
        self.out.extend(datagram);
    }

    fn resend(&mut self, now: Moment) {
        let Some(call) = &mut self.call else { return };
        let Some(waiting) = &mut call.waiting else { return };
        if waiting.is_order() && now >= call.times.begin_before {
            waiting.only_wait();
        } else {
            waiting.resent(now);
            self.send();
        }
    }

    /// Begins anew after too long a silence: the BMC may have forgotten the session.
    fn give_up(&mut self, now: Moment) {
        let Some(call) = &mut self.call else { return };
        let Some(waiting) = &mut call.waiting else { return };
        if waiting.is_order() && now >= call.times.begin_before {
            // It cannot be ordered again, so all that is left is its late answer; and the lane is needed for readings.
            waiting.only_wait();
            if now >= waiting.give_up_at {
                self.overdue();
            }
            return;
        }
        // What a dead session of an earlier call says nothing of is this BMC's pace.
        call.restarts += u32::from(waiting.command.is_none() || call.is_fresh);
        call.waiting = None;
        self.let_go();
        self.ask(now);
    }

    /// Forgets the session; the BMC is told, and whether it hears it does not matter.
    fn let_go(&mut self) {
        self.told = None;
        let mut iv = [0; BLOCK];
        let has_random = (self.entropy)(&mut iv);
        let last_words = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => None,
            State::Opening(handshake) => handshake.abandon(&iv),
            State::Open(mut session) => session.close(&iv),
        };
        if has_random {
            self.out.extend(last_words);
        }
    }

    fn no_random(&mut self) {
        self.state = State::Closed;
        self.finish(Err(IpmiError::Unusable("the system gives no random bytes".to_owned())));
    }

    fn finish(&mut self, result: Result<Answer, IpmiError>) {
        if let Some(call) = &mut self.call {
            call.waiting = None;
            call.result = Some(result);
        }
    }
}
