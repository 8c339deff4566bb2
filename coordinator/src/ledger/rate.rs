//! How fast hosts may be fenced: three at once in the first minute of a storm, then one every ten seconds. Held in the
//! ledger, so that a leader that takes over in a storm does not begin with three more.
//!
//! The ledger has no clock, and a wall clock may jump. So each counted intent carries a [`RateClaim`]: how long its leader
//! waited, on its own monotonic clock, since it saw the fence before it applied. The claim names that fence by number, so
//! that two leaders cannot spend the same wait, and a leader that was elected later has waited less, never more: a change
//! of leader makes a storm slower.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_proto::id::IncidentId;
use serde::{Deserialize, Serialize};

/// Hosts fenced at once at the begin of a storm. One failed switch or feed must not cost more before a person looks.
pub const FENCES_AT_ONCE: u32 = 3;

/// How long a storm's begin lasts.
pub const STORM_BEGIN: Duration = Duration::from_secs(60);

/// Between two fences after that. A rack of 40 is fenced in 60 s + 37 · 10 s, 7.2 minutes.
pub const FENCE_EVERY: Duration = Duration::from_secs(10);

/// A storm is over when nobody was fenced for that long: longer than any wait within one.
pub const STORM_QUIET: Duration = Duration::from_secs(120);

/// What was fenced lately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FenceRate {
    /// Fences counted, ever: the number of the last one.
    pub counted: u64,
    /// Of this storm.
    pub in_storm: u32,
    /// The storm's age at the last counted fence, in milliseconds.
    pub storm_ms: u64,
    /// Incidents counted already: further attempts of theirs are not counted. Open ones only.
    pub incidents: BTreeSet<IncidentId>,
}

/// How long a leader waited before a counted fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateClaim {
    /// Since which fence ([`FenceRate::counted`]).
    pub after: u64,
    /// How long, in milliseconds, on the leader's monotonic clock.
    pub waited_ms: u64,
}

impl FenceRate {
    /// What a claim is worth: a wait since another fence than the last one is none.
    #[must_use]
    pub fn waited(&self, claim: RateClaim) -> Duration {
        if claim.after == self.counted { Duration::from_millis(claim.waited_ms) } else { Duration::ZERO }
    }

    /// How much longer must be waited, if that much has passed since the last counted fence.
    #[must_use]
    pub fn wait(&self, waited: Duration) -> Duration {
        if self.is_quiet(waited) {
            return Duration::ZERO;
        }
        let last = Duration::from_millis(self.storm_ms);
        let now = last + waited;
        if self.in_storm < FENCES_AT_ONCE && now < STORM_BEGIN {
            return Duration::ZERO;
        }
        (last.max(STORM_BEGIN) + FENCE_EVERY).saturating_sub(now)
    }

    /// Whether a storm is not (or no longer) under way.
    #[must_use]
    pub fn is_quiet(&self, waited: Duration) -> bool {
        self.in_storm == 0 || waited >= STORM_QUIET
    }

    /// Counts a fence of an incident that was not counted yet.
    pub(super) fn count(&mut self, incident: IncidentId, waited: Duration) {
        if self.is_quiet(waited) {
            self.in_storm = 0;
            self.storm_ms = 0;
        } else {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            self.storm_ms = self.storm_ms.saturating_add(waited_ms);
        }
        self.in_storm = self.in_storm.saturating_add(1);
        self.counted = self.counted.saturating_add(1);
        self.incidents.insert(incident);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fences `hosts` as fast as is allowed, asking every second; gives the second of each.
    fn storm(hosts: u64) -> Vec<u64> {
        let mut rate = FenceRate::default();
        let (mut now, mut last, mut fenced) = (0, 0, Vec::new());
        while (fenced.len() as u64) < hosts {
            let waited = seconds(now - last);
            if rate.wait(waited).is_zero() {
                rate.count(IncidentId(now), waited);
                last = now;
                fenced.push(now);
            } else {
                now += 1;
            }
        }
        fenced
    }

    #[test]
    fn three_at_once_then_one_every_ten_seconds() {
        assert_eq!(storm(7), [0, 0, 0, 70, 80, 90, 100]);
        assert_eq!(storm(40).last(), Some(&430), "a rack of 40 takes 7.2 minutes");
    }

    #[test]
    fn the_rate_table() {
        // Fenced in the storm, the storm's age at the last one, waited since; how much longer.
        let rows = [
            (0, 0, 0, 0),
            (1, 0, 0, 0),
            (2, 5, 20, 0),
            (3, 5, 0, 65),
            (3, 5, 64, 1),
            (3, 5, 65, 0),
            (1, 0, 61, 9),
            (1, 0, 70, 0),
            (4, 70, 3, 7),
            (4, 70, 10, 0),
            // A hundred seconds unused are no hundred seconds' worth of fences.
            (4, 70, 119, 0),
            (5, 189, 0, 10),
            (40, 430, 119, 0),
            (40, 430, 120, 0),
        ];
        for (in_storm, storm_s, waited, expected) in rows {
            let rate = FenceRate { in_storm, storm_ms: storm_s * 1_000, ..FenceRate::default() };
            assert_eq!(rate.wait(seconds(waited)), seconds(expected), "{in_storm} by {storm_s} s, {waited} s ago");
        }
    }

    #[test]
    fn after_quiet_a_storm_begins_anew() {
        let mut rate = FenceRate { counted: 9, in_storm: 9, storm_ms: 120_000, ..FenceRate::default() };
        rate.count(IncidentId(1), STORM_QUIET);
        assert_eq!((rate.counted, rate.in_storm, rate.storm_ms), (10, 1, 0));
        rate.count(IncidentId(2), seconds(4));
        assert_eq!((rate.counted, rate.in_storm, rate.storm_ms), (11, 2, 4_000));
    }
}
