//! Hosts that go down and come up again and again.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName};
use serde::{Deserialize, Serialize};

use super::clock::LedgerTime;
use super::state::Ledger;

/// This many times down and up within [`FLAP_WINDOW_MS`] are flapping (design, section 4).
pub const FLAP_TIMES: usize = 2;
/// See [`FLAP_TIMES`], in milliseconds of the ledger's time.
pub const FLAP_WINDOW_MS: u64 = 30 * 60 * 1_000;
/// The first quarantine, in milliseconds. Each further one is twice as long.
pub const QUARANTINE_MS: u64 = 2 * 60 * 60 * 1_000;
/// The longest quarantine, in milliseconds: a day later somebody has looked.
pub const QUARANTINE_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// An incident that was refuted because the host had rebooted, and the reboot itself, are one down and up: they follow each
/// other within a few statements of the host, in milliseconds.
const SAME_MS: u64 = 3 * 60 * 1_000;

/// What is remembered of a host's ups and downs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flap {
    /// The last times it went down and came up: when, and in which boot it was before. At most [`FLAP_TIMES`].
    pub times: Vec<(LedgerTime, Option<BootId>)>,
    /// How often it was quarantined since an operator last released it.
    pub quarantines: u32,
    /// Until when it is quarantined for flapping.
    pub quarantined_until: Option<LedgerTime>,
}

impl Flap {
    /// It went down and came up: an incident of it was closed, or its boot changed. Gives the length of the quarantine that
    /// begins, if one does.
    pub(super) fn note(&mut self, now: LedgerTime, boot: Option<BootId>) -> Option<u64> {
        self.times.retain(|(at, _)| now.millis_since(*at) < FLAP_WINDOW_MS);
        let same = |(at, known): &(LedgerTime, Option<BootId>)| {
            boot.is_some() && *known == boot && now.millis_since(*at) < SAME_MS
        };
        if self.times.last().is_some_and(same) {
            return None;
        }
        self.times.push((now, boot));
        if self.times.len() < FLAP_TIMES {
            return None;
        }
        self.times.clear();
        let lasts = quarantine_ms(self.quarantines);
        self.quarantines = self.quarantines.saturating_add(1);
        self.quarantined_until = Some(now.after_ms(lasts));
        Some(lasts)
    }

    /// When the ledger's time matters to it next.
    pub(super) fn next_end(&self, now: LedgerTime) -> Option<LedgerTime> {
        let window = self.times.iter().map(|(at, _)| at.after_ms(FLAP_WINDOW_MS)).filter(|end| *end > now).min();
        [window, self.quarantined_until].into_iter().flatten().min()
    }
}

/// How long the quarantine after `before` others lasts, in milliseconds.
#[must_use]
pub fn quarantine_ms(before: u32) -> u64 {
    QUARANTINE_MS.saturating_mul(1_u64.checked_shl(before).unwrap_or(u64::MAX)).min(QUARANTINE_MAX_MS)
}

impl Ledger {
    /// Whether a host may be let back, or its guests be started in place, without a person. `Some`: why not.
    ///
    /// Whoever readmits a host by itself asks this first; `rekindle release` ends it. It is no brake: a flapping host that
    /// dies is fenced, and its servers are recovered elsewhere.
    #[must_use]
    pub fn flap_hold(&self, host: &HostName) -> Option<Text> {
        let flap = &self.hosts.get(host)?.flap;
        let left_ms = flap.quarantined_until?.millis_since(self.time);
        (left_ms > 0).then(|| {
            Text::new(format!(
                "flapping: {host} went down and came up {FLAP_TIMES} times within {} minutes; quarantined for {} min more \
                 (quarantine {}): look at it, then `rekindle release {host}`",
                FLAP_WINDOW_MS / 60_000,
                left_ms.div_ceil(60_000),
                flap.quarantines
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const MINUTE: u64 = 60_000;

    fn boot(number: u128) -> Option<BootId> {
        Some(BootId(Uuid::from_u128(number)))
    }

    #[test]
    fn quarantines_double_and_are_bounded() {
        let hours: Vec<u64> = (0..6).map(|before| quarantine_ms(before) / (60 * MINUTE)).collect();
        assert_eq!(hours, [2, 4, 8, 16, 24, 24]);
        assert_eq!(quarantine_ms(u32::MAX), QUARANTINE_MAX_MS);
    }

    #[test]
    fn the_flap_table() {
        // When it went down and came up, in minutes; in which boot it was before; which of these begins a quarantine.
        type Times = &'static [(u64, u128)];
        let rows: [(Times, Option<usize>); 6] = [
            (&[(0, 1)], None),
            (&[(0, 1), (29, 2)], Some(1)),
            (&[(0, 1), (30, 2)], None),
            (&[(0, 1), (30, 2), (59, 3)], Some(2)),
            // The same boot twice: a network that comes and goes, unless the reboot follows its own incident at once.
            (&[(0, 1), (10, 1)], Some(1)),
            (&[(0, 1), (1, 1)], None),
        ];
        for (times, expected) in rows {
            let mut flap = Flap::default();
            let first = times.iter().position(|(at, old)| flap.note(LedgerTime(at * MINUTE), boot(*old)).is_some());
            assert_eq!(first, expected, "{times:?}");
        }
    }

    #[test]
    fn nothing_is_remembered_without_bound() {
        let mut flap = Flap::default();
        for number in 0..100 {
            flap.note(LedgerTime(u64::try_from(number).unwrap_or(0) * 5 * MINUTE), boot(number));
            assert!(flap.times.len() < FLAP_TIMES);
        }
        assert_eq!(flap.quarantines, 50);
    }
}
