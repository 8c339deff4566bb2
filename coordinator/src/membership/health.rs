//! Local health, after Lifeguard (Dadgar, Phillips, Currey: arXiv 1707.00788, section IV.A): a member that misses many
//! answers, or hears that others miss its own, doubts itself before it accuses others; one that hears nobody accuses nobody,
//! for a while.

use std::time::Duration;

use super::Membership;
use crate::time::Moment;

/// Worst score. The paper's S; memberlist's `AwarenessMaxMultiplier`.
pub(super) const SCORE_MAX: u32 = 8;

/// Among members of which each of us pings one and is pinged by one each period, two such periods without a word are no
/// accident.
const DEAF_PERIODS: u32 = 2;

/// Fewer others than these may well be dead all at once: there silence is evidence.
const DEAF_MEMBERS_MIN: usize = 4;

/// From then on those we do not hear are down to us, whoever of us is ill. Lifeguard's experiments have members deaf for up
/// to half a minute; most of it is bridged, and a member that was cut off for good shows it in time.
const DEAF_MAX: Duration = Duration::from_secs(20);

/// From 0 (healthy) to [`SCORE_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health(u32);

impl Health {
    /// A probe of ours was answered.
    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// A probe of ours failed which nobody else complained of, and not all its helpers were heard; we had to refute a
    /// suspicion of ourselves; or our timers ran late.
    pub(super) fn worse(&mut self) {
        self.0 = (self.0 + 1).min(SCORE_MAX);
    }

    /// Our own delays, stretched.
    pub(super) fn stretch(self, delay: Duration) -> Duration {
        delay * (1 + self.0)
    }

    /// From 0 (healthy) to [`SCORE_MAX`].
    pub(super) fn score(self) -> u32 {
        self.0
    }

    /// Whether we are too doubtful of ourselves to declare anybody down. One lost answer is not yet a doubt.
    pub(super) fn doubtful(self) -> bool {
        self.0 > 1
    }
}

impl Membership {
    /// Whether we hear nobody at all of those, several, that we hold for alive or suspect: starved of input, or cut off. Who
    /// hears nothing has no evidence against anyone. Bounded, should all the others indeed be gone.
    pub(super) fn is_deaf(&self, now: Moment) -> bool {
        let silence = now.since(self.last_heard);
        let begins = self.rules.probe_period * DEAF_PERIODS;
        self.foca.num_members() >= DEAF_MEMBERS_MIN && silence >= begins && silence < DEAF_MAX
    }
}
