//! How far an order to one device has come, and when it is given again.

use std::time::Duration;

use rekindle_proto::fact::{DeviceError, OrderError};

use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// From an order that was surely not sent to the next: the pace of readings, which is what a device takes without harm. Within
/// an attempt that is some twenty orders at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// An order to one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Given {
    /// Not given yet, or too late to be sent.
    #[default]
    No,
    /// The adapter has it.
    UnderWay {
        /// Since when.
        since: Moment,
    },
    /// Surely nothing was sent.
    Unsent {
        /// When it had been given.
        since: Moment,
        /// Why not.
        why: DeviceError,
    },
    /// It may have left; this was the answer.
    Answered {
        /// When it had been given.
        since: Moment,
        /// The device's word.
        answer: Result<(), DeviceError>,
    },
}

/// When an order is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Now, or as soon as there is a permit.
    Now,
    /// Not before that moment.
    At(Moment),
    /// It was given; or to give it again would only lock our account.
    Never,
}

impl Given {
    /// It was handed to the adapter.
    pub fn give(&mut self, now: Moment) {
        *self = Self::UnderWay { since: now };
    }

    /// The adapter's answer. One that nobody waits for says nothing.
    pub fn answered(&mut self, result: Result<(), OrderError>) {
        let Self::UnderWay { since } = *self else { return };
        *self = match result {
            Ok(()) => Self::Answered { since, answer: Ok(()) },
            // What was reached of a session until its permit was over serves the next one, if that comes at once.
            Err(OrderError::TooLate) => Self::No,
            Err(OrderError::NotSent(why)) if keeps(Guard::OrderSent) => Self::Unsent { since, why },
            Err(OrderError::NotSent(why) | OrderError::MaybeSent(why)) => Self::Answered { since, answer: Err(why) },
        };
    }

    /// When it is to be given (again).
    #[must_use]
    pub fn due(&self) -> Due {
        match self {
            Self::No => Due::Now,
            Self::UnderWay { .. } | Self::Answered { .. } => Due::Never,
            Self::Unsent { .. } if self.is_refused() => Due::Never,
            Self::Unsent { since, .. } => Due::At(*since + AGAIN_AFTER),
        }
    }

    /// The answer to an order that may have left.
    #[must_use]
    pub fn answer(&self) -> Option<&Result<(), DeviceError>> {
        match self {
            Self::Answered { answer, .. } => Some(answer),
            Self::No | Self::UnderWay { .. } | Self::Unsent { .. } => None,
        }
    }

    /// When the order was given that may have left.
    #[must_use]
    pub fn sent(&self) -> Option<Moment> {
        match self {
            Self::Answered { since, .. } => Some(*since),
            Self::No | Self::UnderWay { .. } | Self::Unsent { .. } => None,
        }
    }

    /// Whether it may have left by now.
    #[must_use]
    pub fn may_have_left(&self) -> bool {
        match self {
            Self::UnderWay { .. } | Self::Answered { .. } => true,
            Self::No | Self::Unsent { .. } => false,
        }
    }

    /// Nothing was sent, and asking again would change nothing. The device does not let us in: most lock an account after three
    /// to five wrong passwords, for minutes, and then nobody is let in. Or it is another machine's.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Unsent { why: DeviceError::Credentials(_) | DeviceError::Foreign(_), .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_did_not_leave_is_given_again_and_a_refused_login_never() {
        let at = |ms: u64| Moment::from_micros(ms * 1_000);
        let silent = || DeviceError::Silent("timed out".into());
        let refused = || DeviceError::Credentials("RAKP 2".into());
        let full = || DeviceError::Refused("no resources for another session".into());
        // (the answer, when it is given again, whether it may have left)
        let rows: Vec<(Result<(), OrderError>, Due, bool)> = vec![
            (Ok(()), Due::Never, true),
            (Err(OrderError::TooLate), Due::Now, false),
            (Err(OrderError::NotSent(silent())), Due::At(at(1_700)), false),
            (Err(OrderError::NotSent(full())), Due::At(at(1_700)), false),
            (Err(OrderError::NotSent(refused())), Due::Never, false),
            (Err(OrderError::NotSent(DeviceError::Foreign("cmp-4's".into()))), Due::Never, false),
            (Err(OrderError::MaybeSent(silent())), Due::Never, true),
            (Err(OrderError::MaybeSent(refused())), Due::Never, true),
        ];
        for (answer, due, may_have_left) in rows {
            let mut given = Given::default();
            assert_eq!(given.due(), Due::Now);
            given.give(at(700));
            assert_eq!((given.due(), given.sent()), (Due::Never, None), "under way");
            given.answered(answer.clone());
            assert_eq!((given.due(), given.sent()), (due, may_have_left.then_some(at(700))), "{answer:?}");
            let before = given.clone();
            given.answered(Err(OrderError::TooLate));
            assert_eq!(given, before, "an answer to nothing, after {answer:?}");
        }
    }
}
