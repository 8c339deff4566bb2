//! The daemon's clocks, read here and nowhere else.

use nix::time::{ClockId, clock_gettime};
use rekindle_coordinator::time::{Moment, Now};
use rekindle_proto::id::WallTime;

/// The present moment on `CLOCK_BOOTTIME`: it never jumps, and goes on while the machine is suspended.
#[must_use]
pub fn moment() -> Moment {
    Moment::from_micros(read(ClockId::CLOCK_BOOTTIME))
}

/// Both clocks now.
#[must_use]
pub fn now() -> Now {
    let wall_ms = read(ClockId::CLOCK_REALTIME) / 1_000;
    Now { mono: moment(), wall: WallTime(i64::try_from(wall_ms).unwrap_or(i64::MAX)) }
}

/// Microseconds on that clock. Both clocks exist on every Linux since 2.6.39; a kernel without them stands still at zero.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000
    })
}
