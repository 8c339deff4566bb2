//! The host's own watchdog, `/dev/watchdogN` of Linux: what it is, and its feeding on order.
//!
//! ```text
//!  start     sysfs is read, nothing is opened: opening starts it, and feeds it ──► Input::Watchdog { running: false }
//!  Feed      the first: open, set the time-out, read it back, feed             ──► Input::Watchdog { running: true }
//!            later: feed; an order whose lease has ended is not carried out
//!  Disarm    the letter 'V', then close; only after the ledger has withdrawn it
//!  crash     the kernel closes it, feeds it once, and it runs on; the next daemon opens it under a lease of its own
//! ```
//!
//! Nothing here decides, and nothing here runs beside the shell's loop: if the loop stands still, the host is reset.
//!
//! Sources: `Documentation/watchdog/watchdog-api.rst`, `watchdog-kernel-api.rst` and `drivers/watchdog/watchdog_dev.c` of
//! Linux.

mod boot;
mod device;
mod error;
mod keeper;
mod rivals;
mod sysfs;
mod times;

use std::fmt;
use std::path::{Path, PathBuf};

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{Text, Watchdog};

pub use boot::{BootStatus, LAST_WORDS};
pub use error::WatchdogError;
pub use keeper::{Fed, Keeper};
pub use rivals::{holders, is_left_to_us};
pub use times::Times;

/// Where Linux shows its watchdogs.
const CLASS_DIR: &str = "/sys/class/watchdog";

/// Where their nodes lie.
const DEV_DIR: &str = "/dev";

/// Most watchdogs that Linux numbers (`MAX_DOGS` of `drivers/watchdog/watchdog_core.h`).
const NODES_MAX: u32 = 32;

/// A watchdog by its number: `/dev/watchdog0`. Not `/dev/watchdog`, which is another name for one of them, or a driver of
/// the time before the kernel's watchdog core, of which nobody can say what it is without opening it, and so starting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(u32);

impl Node {
    /// From `/dev/watchdogN`, without leading zeros.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let number = path.strip_prefix("/dev/watchdog")?;
        let parsed: u32 = number.parse().ok().filter(|parsed| *parsed < NODES_MAX)?;
        (parsed.to_string() == number).then_some(Self(parsed))
    }

    fn name(self) -> String {
        format!("watchdog{}", self.0)
    }

    fn path(self) -> PathBuf {
        Path::new(DEV_DIR).join(self.name())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DEV_DIR}/watchdog{}", self.0)
    }
}

/// A watchdog that may be armed, as far as sysfs tells. It was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub node: Node,
    /// What its driver calls it.
    pub identity: String,
    /// Once started it cannot be stopped any more, by anybody.
    pub nowayout: bool,
    /// Somebody has started it: a daemon before us, most likely. Unless it is fed it resets the host.
    pub active: bool,
    /// Its times.
    pub times: Times,
    /// What ended the boot before this one.
    pub before: BootStatus,
}

impl Found {
    /// Looks at a watchdog without opening it.
    ///
    /// # Errors
    /// [`WatchdogError`] if it is not there, is no hardware, would be disarmed by a crash, or cannot be safe.
    pub fn look(node: Node) -> Result<Self, WatchdogError> {
        sysfs::look(Path::new(CLASS_DIR), Path::new(DEV_DIR), node)
    }

    /// For the coordinator. `running`: this daemon has fed it.
    #[must_use]
    pub fn fact(&self, running: bool) -> Watchdog {
        Watchdog {
            device: Text::new(format!("{} at {}", self.identity, self.node)),
            soft: false,
            timeout_ms: self.times.lasts_ms(),
            running,
        }
    }
}

/// The clock by which leases end.
pub type Clock = fn() -> Moment;

#[cfg(test)]
mod tests;
