//! The times of self-fencing, and their relation: checked here and nowhere else.
//!
//! ```text
//!  host    asks ──────────── fed for ISOLATED at most ────────┤ not fed ── watchdog ──┤ reset
//!  leader      └ checks its quorum, grants ── PROOF_AFTER ────────────────────────────────────────┤ proof
//! ```
//!
//! A lease counts from the host's *question*, on the host's clock; the leader counts from its *grant*, which is later. A
//! leader grants only after a quorum has confirmed it in a round begun after the question came. So every question that an
//! earlier leader may have granted was asked before the present one was elected, and that one may count from its election.

use std::time::Duration;

use rekindle_proto::fact::Text;

use crate::ledger::WatchdogEvidence;
use crate::time::Moment;

/// How long a host feeds its watchdog after the question to which its last lease was granted.
pub const ISOLATED: Duration = Duration::from_secs(20);

/// The watchdog's time-out, where the device lets us choose.
pub const WATCHDOG: Duration = Duration::from_secs(10);

/// How long after the last lease possibly granted, and after the host's last word, it is taken for off.
pub const PROOF_AFTER: Duration = Duration::from_secs(60);

/// For the reset itself, and for a last feed that was on its way.
const RESET_MARGIN_MS: u64 = 10_000;

/// Two clocks may differ in pace by this part: one twentieth, far above any crystal's.
const DRIFT_PART: u64 = 20;

/// How long a host must have been silent for a proof that no reading renews. Looked at anew for every act.
const SILENCE_LEASE: Duration = Duration::from_secs(1);

/// A watchdog that would still run when its host is taken for off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "fed for {isolated_ms} ms after its last lease and reset after {watchdog_ms} ms, with {margin_ms} ms and a twentieth \
     to spare, is more than the {proof_ms} ms after which the host is taken for off"
)]
pub struct UnsafeTimes {
    isolated_ms: u64,
    watchdog_ms: u64,
    margin_ms: u64,
    proof_ms: u64,
}

/// Whether a host fed for `isolated_ms` after its last lease, with that watchdog, is certainly reset after `proof_ms`.
#[must_use]
pub const fn are_safe(isolated_ms: u64, watchdog_ms: u64, proof_ms: u64) -> bool {
    let Some(lives) = isolated_ms.checked_add(watchdog_ms) else { return false };
    let Some(bound) = lives.saturating_add(lives / DRIFT_PART).checked_add(RESET_MARGIN_MS) else { return false };
    watchdog_ms > 0 && bound <= proof_ms
}

/// Whether a watchdog with this time-out may be armed at all.
///
/// # Errors
/// [`UnsafeTimes`] if its host could outlive the proof.
pub fn check_times(watchdog_ms: u64) -> Result<(), UnsafeTimes> {
    let (isolated_ms, proof_ms) = (millis(ISOLATED), millis(PROOF_AFTER));
    if are_safe(isolated_ms, watchdog_ms, proof_ms) {
        return Ok(());
    }
    Err(UnsafeTimes { isolated_ms, watchdog_ms, margin_ms: RESET_MARGIN_MS, proof_ms })
}

// The defaults keep their own rule: 20 s + 10 s, a twentieth, and 10 s, are less than 60 s.
const _: () = assert!(are_safe(millis(ISOLATED), millis(WATCHDOG), millis(PROOF_AFTER)));

/// Nothing was heard of a host, by one leader, since a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    since: Moment,
    seen: Moment,
}

impl Silence {
    /// `watching`: since when this leader listens, or since when it may last have granted a lease; `heard`: the host's last
    /// authenticated word.
    #[must_use]
    pub(crate) fn of(watching: Moment, heard: Option<Moment>, now: Moment) -> Self {
        Self { since: heard.map_or(watching, |heard| heard.max(watching)), seen: now }
    }

    /// When it will have been long enough for a watchdog.
    #[must_use]
    pub fn proves_at(self) -> Moment {
        self.since + PROOF_AFTER
    }

    /// The evidence, once it has been long enough.
    #[must_use]
    pub(crate) fn evidence(self, boot: rekindle_proto::id::BootId, device: Text) -> Option<WatchdogEvidence> {
        let waited_ms = millis(self.seen.since(self.since));
        (self.seen >= self.proves_at()).then_some(WatchdogEvidence { boot, device, waited_ms })
    }

    /// Until when an act may begin that rests on it.
    pub(super) fn valid_until(self) -> Moment {
        self.seen + SILENCE_LEASE
    }
}

const fn millis(duration: Duration) -> u64 {
    let millis = duration.as_millis();
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_times() {
        // (isolated, watchdog, proof, safe): (isolated + watchdog) · 21/20 + 10 s must not exceed the proof.
        let rows = [
            (20_000, 10_000, 60_000, true),
            (20_000, 10_000, 41_500, true),
            (20_000, 10_000, 41_499, false),
            (20_000, 27_000, 60_000, true),
            (20_000, 28_000, 60_000, false),
            (20_000, 0, 60_000, false),
            (u64::MAX, 10_000, u64::MAX, false),
            (0, u64::MAX, u64::MAX, false),
        ];
        for (isolated, watchdog, proof, safe) in rows {
            assert_eq!(are_safe(isolated, watchdog, proof), safe, "{isolated} {watchdog} {proof}");
        }
        assert_eq!(
            check_times(60_000).expect_err("too long").to_string(),
            "fed for 20000 ms after its last lease and reset after 60000 ms, with 10000 ms and a twentieth to spare, is \
             more than the 60000 ms after which the host is taken for off"
        );
    }

    #[test]
    fn silence_counts_from_the_last_lease_and_from_the_last_word() {
        let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
        let boot = rekindle_proto::id::BootId(uuid::Uuid::nil());
        // (watching since, heard at, now, proof)
        let rows = [
            (10, None, 69, false),
            (10, None, 70, true),
            (10, Some(5), 70, true),
            (10, Some(40), 70, false),
            (10, Some(40), 100, true),
        ];
        for (watching, heard, now, proof) in rows {
            let silence = Silence::of(at(watching), heard.map(at), at(now));
            assert_eq!(silence.evidence(boot, "w".into()).is_some(), proof, "{watching} {heard:?} {now}");
        }
    }
}
