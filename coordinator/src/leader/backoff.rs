//! Pauses after Nova's errors: they grow, and vary, so that a cloud's questions do not come back together.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::time::Moment;

/// First pause after a Nova error; doubled up to [`MAX`].
const MIN: Duration = Duration::from_millis(500);

/// Longest pause: an incident goes on soon after Nova is back, however long it was away (I10).
const MAX: Duration = Duration::from_secs(10);

/// Part of a pause by which it varies, up or down, in percent.
const JITTER_PERCENT: u32 = 20;

/// A pause, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) until: Moment,
    /// Without its variation.
    pause: Duration,
}

impl Backoff {
    /// The pause after another error. `seed`: of the member, and what it is about; the same seed and moment give the same.
    pub(super) fn after(last: Option<Self>, now: Moment, seed: u64) -> Self {
        let pause = last.map_or(MIN, |last| (last.pause * 2).min(MAX));
        let dice = StdRng::seed_from_u64(seed ^ now.as_micros()).random_range(-1.0..1.0);
        let part = f64::from(JITTER_PERCENT) / 100.0;
        Self { until: now + pause.mul_f64(1.0 + part * dice), pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_vary_by_a_fifth() {
        let mut last = None;
        let mut now = Moment::from_micros(7);
        let mut seen = std::collections::BTreeSet::new();
        for nominal_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000] {
            let backoff = Backoff::after(last, now, 42);
            assert_eq!(backoff, Backoff::after(last, now, 42), "the same dice twice");
            let pause = backoff.until.since(now);
            let nominal = Duration::from_millis(nominal_ms);
            assert!(pause >= nominal.mul_f64(0.8) && pause <= nominal.mul_f64(1.2), "{pause:?} for {nominal:?}");
            seen.insert(pause.as_micros() * 1_000 / nominal.as_micros());
            last = Some(backoff);
            now = backoff.until;
        }
        assert!(seen.len() > 4, "they do not vary: {seen:?}");
    }
}
