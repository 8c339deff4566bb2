//! How long a host lives on after the last feed that was ordered, at the very longest.
//!
//! ```text
//!  last feed ── one time-out, or two ──┤ reset, if the daemon lives on and does not feed
//!            ··· a daemon dies here ──► the kernel feeds it once ── one time-out, or two ──┤ reset
//! ```

use std::time::Duration;

use rekindle_coordinator::fencing::{ISOLATED, PROOF_AFTER, WATCHDOG, check_times};

/// Drivers that are known to reset the machine after *one* time-out. All others are taken to need two: iTCO_wdt, which most
/// Intel machines have, only notes the first time-out and resets at the second (Linux took the correction of 2021 back, as
/// some firmwares do reset at the first). i6300esb has two stages as well, but its driver gives each half of the time.
const COUNT_ONCE: [&str; 1] = ["i6300ESB timer"];

/// When a process that has it open dies, the kernel closes it for it, and feeds it then (`watchdog_release`): the time runs
/// anew, in the worst case just before its end. Only once: the next daemon opens it under a lease, or never.
const FED_BY_CLOSING: u64 = 2;

/// Shortest time-out that is of use, in seconds: two feeds, and the restart of a daemon.
pub(super) const SHORTEST: u32 = 5;

/// The times of one watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// What it is set to, in seconds.
    pub timeout: u32,
    /// How often its driver counts that down before it resets the machine: 1 or 2.
    pub counts: u32,
}

impl Times {
    /// The longest time-out up to ten seconds that the driver takes (`least` to `most`, in seconds) and that is safe.
    ///
    /// # Errors
    /// The rule with its figures, if there is none.
    pub(super) fn choose(identity: &str, least: u32, most: u32) -> Result<Self, String> {
        let counts = if COUNT_ONCE.contains(&identity) { 1 } else { 2 };
        let longest = u32::try_from(WATCHDOG.as_secs()).unwrap_or(SHORTEST);
        let times = |timeout| Self { timeout, counts };
        let taken = (SHORTEST..=longest).rev().filter(|timeout| (least..=most).contains(timeout));
        let safe = taken.map(times).find(|times| check_times(times.lasts_ms()).is_ok());
        safe.ok_or_else(|| times(least.max(SHORTEST)).relation())
    }

    /// How long the host lives after its last ordered feed, at the very longest, in milliseconds.
    #[must_use]
    pub fn lasts_ms(self) -> u64 {
        u64::from(self.timeout)
            .saturating_mul(u64::from(self.counts))
            .saturating_mul(FED_BY_CLOSING)
            .saturating_mul(1_000)
    }

    /// The relation of all times, each by its name.
    #[must_use]
    pub fn relation(self) -> String {
        let seconds = |duration: Duration| duration.as_secs();
        let Self { timeout, counts } = self;
        let lasts = self.lasts_ms() / 1_000;
        let verdict = match check_times(self.lasts_ms()) {
            Ok(()) => "within".to_owned(),
            Err(unsafe_times) => format!("not within ({unsafe_times})"),
        };
        format!(
            "fed for {} s after its last lease, then a time-out of {timeout} s, counted {counts} times by its driver, and that \
             once more because the kernel feeds it when a daemon dies: {lasts} s; with what is to spare that is {verdict} the \
             {} s after which the host is taken for off",
            seconds(ISOLATED),
            seconds(PROOF_AFTER),
        )
    }
}
