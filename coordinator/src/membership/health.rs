//! Local health, after Lifeguard (Dadgar, Phillips, Currey: arXiv 1707.00788, section IV.A): a member that misses many
//! answers, or hears that others miss its own, doubts itself before it accuses others.

use std::time::Duration;

/// Worst score. The paper's S; memberlist's `AwarenessMaxMultiplier`.
pub(super) const SCORE_MAX: u32 = 8;

/// From 0 (healthy) to [`SCORE_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health(u32);

impl Health {
    /// A probe of ours was answered.
    pub(super) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// A probe of ours failed which nobody else complained of, we had to refute a suspicion of ourselves, or our timers
    /// ran late.
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
