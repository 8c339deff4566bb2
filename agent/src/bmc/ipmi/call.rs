//! One call as it is under way: what is asked, what it waits for, and how long.

use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::PowerState;

use super::command::{Command, DeviceId};
use super::error::IpmiError;

/// How long an answer is waited for before a handshake is begun anew, or a new session is opened. BMCs answer in 5 to
/// 100 ms, busy ones in one or two seconds. Doubled with each new beginning in a call, up to [`PATIENCE_DOUBLINGS`] times:
/// a BMC slower than this is slow, and not gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
const PATIENCE_DOUBLINGS: u32 = 2;

/// Slowest answer that patience takes its measure from. Callers wait for less.
pub(super) const SLOWEST_MAX: Duration = Duration::from_secs(10);

/// Least patience with a session of an earlier call: the BMC may have dropped it, as some do when their host loses power,
/// and then it stays silent. A new session costs four round trips.
const KEPT_PATIENCE: Duration = Duration::from_millis(800);

/// The same for a power order, whose permit lasts half a second: a new session and a copy must find room in it.
const KEPT_ORDER_PATIENCE: Duration = Duration::from_millis(150);

/// A question is sent again after twice the slowest answer of late, within these bounds, and then ever more slowly.
const RESEND_MIN: Duration = Duration::from_millis(100);
const RESEND_MAX: Duration = Duration::from_secs(1);

/// Pause after "busy", doubled each time up to the second value.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is wanted of a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Its machine's power.
    Power,
    /// Its machine's GUID.
    Guid,
    /// Who it is.
    DeviceId,
    /// To cut the power, or to switch it on.
    Order(PowerState),
}

/// What it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The power, in its one bit for it.
    Power(PowerState),
    /// The GUID's bytes as they came.
    Guid([u8; 16]),
    /// Who it is.
    DeviceId(DeviceId),
    /// That it would switch; or that the power is so already. Whether it did is to be read.
    Accepted,
}

/// The limits of a call.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A power order is put on the wire before this moment only, its copies too.
    pub begin_before: Moment,
    /// The call has ended by then.
    pub end: Moment,
}

/// What a session is to the question that is asked in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionAge {
    /// Not open yet, or heard in just now.
    Fresh,
    /// Of an earlier call: it may be gone.
    Kept,
    /// The same, and the question is a power order, or whose it would be.
    KeptForOrder,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) ask: Ask,
    pub(super) times: Times,
    /// What the BMC is held to; `None`: whosever it is.
    pub(super) identity: Option<DeviceIdentity>,
    /// Copies of the power order that were sent.
    pub(super) ordered: u32,
    /// The order was refused as "not in this state": the power is read to see whether it is so already.
    pub(super) verify: bool,
    /// Whether anything came from the BMC.
    pub(super) heard: bool,
    /// Whether the session was opened in this call.
    pub(super) is_fresh: bool,
    /// Handshakes begun anew.
    pub(super) restarts: u32,
    /// The last refusal that may pass.
    pub(super) busy: Option<IpmiError>,
    pub(super) waiting: Option<Waiting>,
    pause: Option<Moment>,
    pause_next: Duration,
    pub(super) result: Option<Result<Answer, IpmiError>>,
}

/// A question whose answer is waited for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// In a session: which command under which number.
    pub(super) command: Option<(Command, u8)>,
    pub(super) asked: Moment,
    pub(super) resend_at: Moment,
    pub(super) give_up_at: Moment,
    interval: Duration,
}

impl Waiting {
    /// `slowest`: the slowest answer of late.
    pub(super) fn new(now: Moment, command: Option<(Command, u8)>, slowest: Duration, patience: Duration) -> Self {
        let interval = (slowest * 2).clamp(RESEND_MIN, RESEND_MAX);
        Self { command, asked: now, resend_at: now + interval, give_up_at: now + patience, interval }
    }

    /// It was sent again.
    pub(super) fn resent(&mut self, now: Moment) {
        self.interval *= 2;
        self.resend_at = now + self.interval;
    }

    /// It must not be sent again: its answer is all that is waited for.
    pub(super) fn only_wait(&mut self) {
        self.give_up_at = self.asked + PATIENCE;
        self.resend_at = self.give_up_at;
    }

    /// Whether it is a power order.
    pub(super) fn is_order(&self) -> bool {
        matches!(self.command, Some((Command::Control(_), _)))
    }
}

impl Call {
    pub(super) fn new(ask: Ask, times: Times) -> Self {
        Self {
            ask,
            times,
            identity: None,
            ordered: 0,
            verify: false,
            heard: false,
            is_fresh: false,
            restarts: 0,
            busy: None,
            waiting: None,
            pause: None,
            pause_next: PAUSE_MIN,
            result: None,
        }
    }

    /// Whether it may still send its power order. Calls without one always may.
    pub(super) fn may_send(&self, now: Moment, command: Command) -> bool {
        !matches!(command, Command::Control(_)) || now < self.times.begin_before
    }

    /// Whether it is a power order that can no longer be sent, and nothing is on its way that would tell how it went.
    pub(super) fn is_too_late(&self, now: Moment) -> bool {
        let is_answer_due = self.verify || self.waiting.as_ref().is_some_and(Waiting::is_order);
        matches!(self.ask, Ask::Order(_)) && now >= self.times.begin_before && !is_answer_due
    }

    /// How long the next answer is waited for, with this slowest answer of late.
    pub(super) fn patience(&self, in_session: SessionAge, slowest: Duration) -> Duration {
        match in_session {
            SessionAge::Fresh => (slowest * 2).max(PATIENCE * 2_u32.pow(self.restarts.min(PATIENCE_DOUBLINGS))),
            SessionAge::Kept => (slowest * 4).max(KEPT_PATIENCE),
            SessionAge::KeptForOrder => (slowest * 4).max(KEPT_ORDER_PATIENCE),
        }
    }

    /// Waits a while before the next question.
    pub(super) fn rest(&mut self, now: Moment) {
        self.pause = Some(now + self.pause_next);
        self.pause_next = (self.pause_next * 2).min(PAUSE_MAX);
    }

    /// Whether it rests now. At the end of a pause it forgets it.
    pub(super) fn is_resting(&mut self, now: Moment) -> bool {
        self.pause = self.pause.filter(|until| now < *until);
        self.pause.is_some()
    }

    /// When something is to be done at the latest.
    pub(super) fn next(&self, now: Moment) -> Moment {
        let limits = [
            Some(self.times.end),
            self.pause,
            self.waiting.as_ref().map(|waiting| waiting.resend_at.min(waiting.give_up_at)),
            matches!(self.ask, Ask::Order(_))
                .then_some(self.times.begin_before)
                .filter(|begin_before| now < *begin_before),
        ];
        limits.into_iter().flatten().min().unwrap_or(self.times.end)
    }

    /// The error of a call whose time is over, with what was asked last and what the network said of it.
    pub(super) fn overdue(&mut self, asked: &'static str, trouble: Option<String>) -> IpmiError {
        let ordered = self.ordered > 0;
        match (self.busy.take(), trouble) {
            (Some(busy), _) if self.waiting.is_none() => busy,
            (_, Some(why)) => IpmiError::Unreachable { asked, why, ordered },
            (_, None) => IpmiError::Silent { asked, ordered },
        }
    }
}
