//! What ended the boot before this one, as far as a watchdog tells.

use std::fmt;

/// Bits of `WDIOC_GETBOOTSTATUS` (`linux/watchdog.h`), each in an operator's words.
const CAUSES: [(u32, &str); 7] = [
    (CARDRESET, "its watchdog reset it, as nobody fed it in time"),
    (0x0001, "it was too hot"),
    (0x0002, "a fan had failed"),
    (0x0004, "a contact (external relay 1) tripped"),
    (0x0008, "a contact (external relay 2) tripped"),
    (0x0010, "its supply voltage was too low"),
    (0x0040, "its supply voltage was too high"),
];

/// `WDIOF_CARDRESET`.
const CARDRESET: u32 = 0x0020;

/// What an operator who reads of it wants to know next.
pub const LAST_WORDS: &str = "the log of the boot before (journalctl -b -1 -u rekindled) ends with \"the watchdog is no longer \
                              fed\" if the host fenced itself; else its kernel or the daemon stood still, or somebody else held \
                              the watchdog and died";

/// What ended the boot before this one. Zero, if the watchdog had no part in it, or its driver cannot tell: not all can
/// (iTCO_wdt cannot). Told, and nothing else: no decision rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootStatus(u32);

impl BootStatus {
    pub(super) fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether there is anything to say.
    #[must_use]
    pub fn says_something(self) -> bool {
        CAUSES.iter().any(|(bit, _)| self.0 & bit != 0)
    }

    /// Whether the watchdog itself reset the host.
    #[must_use]
    pub fn is_reset(self) -> bool {
        self.0 & CARDRESET != 0
    }
}

impl fmt::Display for BootStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes: Vec<&str> = CAUSES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, words)| *words).collect();
        write!(f, "before this boot: {}", causes.join(", and "))
    }
}
