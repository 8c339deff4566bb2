//! What a proof rests on (I2).

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, OperatorName};
use serde::{Deserialize, Serialize};

use super::entry::{OffReads, ProofRecord};

/// What says that a host is off. Each kind has its own way to hold, and to be contradicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Every device of a level, read off twice after our own order. Holds by being read again.
    Devices(ProofRecord),
    /// The host's own armed watchdog has run out. Holds as long as nothing is heard of the host.
    Watchdog(WatchdogEvidence),
    /// An operator says so. Holds as long as nothing is heard of the host.
    Statement(StatementEvidence),
}

/// A watchdog that has certainly run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogEvidence {
    /// In which boot it was armed: the one the host was last heard in.
    pub boot: BootId,
    /// Which watchdog, by its own word.
    pub device: Text,
    /// Milliseconds, on the leader's monotonic clock, since the last lease that any leader may have granted it, and since
    /// its last word.
    pub waited_ms: u64,
}

/// An operator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementEvidence {
    /// Who.
    pub operator: OperatorName,
    /// What was looked at, in the operator's words.
    pub checked: Text,
    /// Why it was given.
    pub reason: Text,
}

impl Evidence {
    /// The devices that were read off; none, if it rests on something else.
    #[must_use]
    pub fn devices(&self) -> &[OffReads] {
        match self {
            Self::Devices(record) => &record.devices,
            Self::Watchdog(_) | Self::Statement(_) => &[],
        }
    }

    /// Whether any device's word was taken that nothing could be read of (`unverified = "accept"`).
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        self.devices().iter().any(|reads| reads.unverified)
    }

    /// Whether it is renewed by reading. What is not, any word of the host contradicts at once: it must have been silent
    /// for long before. Of a level with one unverified device too, whatever the others read: the level says that *all* of
    /// them hold it off.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Self::Devices(_) => !self.is_unverified(),
            Self::Watchdog(_) | Self::Statement(_) => false,
        }
    }
}
