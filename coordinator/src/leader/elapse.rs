//! Commits the time that passes on this leader's monotonic clock, while something in the ledger waits for it.

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::ledger::{ELAPSE_MAX_MS, LeaderCommand, LedgerTime};
use crate::time::Moment;

/// At which moment the ledger's time stood where, when this leader began to count.
#[derive(Debug, Default)]
pub(super) struct TimeKeeper {
    base: Option<(Moment, LedgerTime)>,
}

/// What is to be done about the ledger's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing waits.
    Rest,
    /// Say that so much has passed.
    Say(u32),
    /// Not yet: look again in that many milliseconds.
    Look(u64),
}

impl TimeKeeper {
    fn step(&mut self, now: Moment, time: LedgerTime, end: Option<LedgerTime>) -> Step {
        let Some(end) = end else {
            self.base = None;
            return Step::Rest;
        };
        let (at, began) = *self.base.get_or_insert((now, time));
        let passed = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let unsaid = passed.saturating_sub(time.millis_since(began));
        let due = end.millis_since(time).clamp(1, u64::from(ELAPSE_MAX_MS));
        if unsaid < due {
            return Step::Look(due - unsaid);
        }
        Step::Say(u32::try_from(unsaid).unwrap_or(u32::MAX).min(ELAPSE_MAX_MS))
    }
}

impl Leader {
    pub(super) fn drive_time(&mut self, cx: &mut Context<'_>) {
        let end = cx.ledger.next_end(cx.setup.policy.on_shutdown.wait_ms());
        match self.time.step(cx.now.mono, cx.ledger.time, end) {
            Step::Rest => {}
            Step::Say(ms) => self.command(cx, Key::Time, LeaderCommand::Elapse { ms }),
            Step::Look(ms) => self.wake_at(cx.now.mono + std::time::Duration::from_millis(ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_table() {
        let at = |ms: u64| Moment::from_micros(ms * 1_000);
        let mut keeper = TimeKeeper::default();
        let mut step = |now, time, end: Option<u64>| keeper.step(at(now), LedgerTime(time), end.map(LedgerTime));
        // A clock that stands anywhere: only what passes from here on counts.
        assert_eq!(step(500_000, 7_000, Some(107_000)), Step::Look(60_000));
        assert_eq!(step(530_000, 7_000, Some(107_000)), Step::Look(30_000));
        assert_eq!(step(560_000, 7_000, Some(107_000)), Step::Say(60_000));
        // The answer was lost: the same again, and not twice if it was committed after all.
        assert_eq!(step(561_000, 7_000, Some(107_000)), Step::Say(60_000));
        assert_eq!(step(561_000, 67_000, Some(107_000)), Step::Look(39_000));
        assert_eq!(step(600_000, 67_000, Some(107_000)), Step::Say(40_000));
        assert_eq!(step(600_000, 107_000, None), Step::Rest);
        // Time in which nothing waited is never said.
        assert_eq!(step(900_000, 107_000, Some(108_000)), Step::Look(1_000));
        // A leader that slept says all of it, bit by bit.
        assert_eq!(step(1_100_000, 107_000, Some(508_000)), Step::Say(60_000));
    }
}
