//! An off order that a voter executes for the leader: by the leader's word, which answers the voter's own question.
//!
//! Nothing outside can forge one:
//!
//! ```compile_fail,E0624
//! use rekindle_coordinator::order::{LeadersGo, PowerOffOrder};
//! use rekindle_proto::id::CallId;
//! fn bypass(go: LeadersGo) -> PowerOffOrder {
//!     PowerOffOrder::told(CallId(1), go)
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use rekindle_coordinator::order::LeadersGo;
//! fn stretch(honest: LeadersGo) -> LeadersGo {
//!     LeadersGo { begin_before: honest.not_after(), ..honest }
//! }
//! ```

use std::marker::PhantomData;
use std::time::Duration;

use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::{CallId, HostName, IncidentId};

use super::PowerOffOrder;
use crate::fencing::DeviceIdentity;
use crate::mutant::{Guard, keeps};
use crate::permit::CHECK_AGE_MAX;
use crate::time::Moment;

/// What a voter has been told to do, and asked the leader about: may I begin? Spent by the answer.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) leader: HostName,
    pub(crate) task: CallId,
    pub(crate) incident: IncidentId,
    pub(crate) attempt: u32,
    pub(crate) host: HostName,
    pub(crate) device: DeviceName,
    /// When it was asked, on our own clock: before the leader granted anything.
    pub(crate) asked: Moment,
}

/// The leader's "go", as the answer to a question of ours. Built from nothing else, and spent by one order.
#[derive(Debug)]
pub struct LeadersGo {
    question: Question,
    identity: DeviceIdentity,
    begin_before: Moment,
    not_after: Moment,
}

impl LeadersGo {
    /// The leader's permit, in durations, counted from our question: it was asked before the permit was granted, so what is left
    /// here is never more than what is left there (I3, I5). `lasts`: how long an attempt may take at most; no leader's word
    /// stretches that, nor the half second of a permit.
    pub(crate) fn answer(
        question: Question,
        (begin_within, kill_within): (Duration, Duration),
        lasts: Duration,
        identity: DeviceIdentity,
        now: Moment,
    ) -> Self {
        let from = if keeps(Guard::GoCounts) { question.asked } else { now };
        let not_after = from + kill_within.min(lasts);
        let begin_before = (from + begin_within.min(CHECK_AGE_MAX)).min(not_after);
        Self { question, identity, begin_before, not_after }
    }

    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
    /// Everything begun for it is killed at this moment.
    #[must_use]
    pub fn not_after(&self) -> Moment {
        self.not_after
    }
}

impl PowerOffOrder {
    /// By the leader's word, on the voter that executes for it.
    pub(crate) fn told(call: CallId, go: LeadersGo) -> Self {
        let LeadersGo { question, identity, begin_before, not_after } = go;
        let Question { incident, attempt, host, device, .. } = question;
        Self { call, incident, attempt, host, device, identity, begin_before, not_after, to: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_counts_from_the_question() {
        let at = |ms: u64| Moment::from_micros(ms * 1_000);
        // (begin within, kill within, begin before, not after), asked at 10 s, answered at 10.2 s; an attempt lasts 25 s
        let rows = [
            (400, 20_000, 10_400, 30_000),
            (500, 25_000, 10_500, 35_000),
            (0, 20_000, 10_000, 30_000),
            // No word stretches a permit, nor an attempt.
            (60_000, 900_000, 10_500, 35_000),
            // What ends begins no later.
            (400, 100, 10_100, 10_100),
        ];
        for (begin, kill, before, after) in rows {
            let question = Question {
                leader: HostName::new("a").expect("legal"),
                task: CallId(1),
                incident: IncidentId(2),
                attempt: 3,
                host: HostName::new("x").expect("legal"),
                device: DeviceName("ipmi@x".to_owned()),
                asked: at(10_000),
            };
            let within = (Duration::from_millis(begin), Duration::from_millis(kill));
            let lasts = Duration::from_secs(25);
            let go = LeadersGo::answer(question, within, lasts, DeviceIdentity::Untold, at(10_200));
            assert_eq!((go.begin_before(), go.not_after()), (at(before), at(after)), "{begin} {kill}");
        }
    }
}
