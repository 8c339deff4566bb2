//! Facts: what adapters and members report of the world. Reported, never judged: judging is the coordinator's.

mod nova;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DomainName, HostName, PathName, ServerId};

pub use nova::{
    GROUP_MEMBERS_MAX, GROUPS_OF_A_SERVER_MAX, GroupPolicy, MigrationKind, MigrationStatus, NovaAggregate, NovaError,
    NovaMigration, NovaServer, NovaServerGroup, NovaService, ServerStanding, ServerTraits,
};

/// Longest free text we carry (reasons, error texts), in bytes: a screenful, so that one verbose BMC or HTML error page
/// cannot fill the ledger.
pub const TEXT_BYTES_MAX: usize = 512;

/// Most guests one host may report. Nova's own per-host limits are far lower; a longer list is cut and marked incomplete.
pub const GUESTS_MAX: usize = 4_000;

/// Free text for people, cut at [`TEXT_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// Takes a text, cutting it at a character boundary where it is too long.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if text.len() > TEXT_BYTES_MAX {
            let mut end = TEXT_BYTES_MAX - '…'.len_utf8();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        Self(text)
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}
impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}
impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fence device, named `driver@address` (`ipmi-tool@cmp-01-bmc`). Unique per outlet: two hosts never share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceName(pub String);

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a power device says of its machine. Anything in between ("powering off") is reported as [`PowerState::On`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// Power is, or may be, on.
    On,
    /// The device says, in so many words, that power is off.
    Off,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// Sixteen bytes by which a device names its machine, in the order in which they came over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceGuid(pub [u8; 16]);

/// Why a device did not do, or did not say, what it was asked. None of these says anything about the machine's power.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceError {
    /// No answer before the deadline, or no route. Silence is never proof.
    #[error("did not answer: {0}")]
    Silent(Text),
    /// It answered, and refused our user, password, privilege or cipher suite.
    #[error("refused our credentials: {0}")]
    Credentials(Text),
    /// It answered, and refused or failed the command.
    #[error("refused the command: {0}")]
    Refused(Text),
    /// Its answer could not be understood, or the driver could not be run.
    #[error("gave no usable answer: {0}")]
    Unusable(Text),
    /// It says that it is another machine's: nothing it reads is of this host, and it was ordered nothing.
    #[error("is another machine's: {0}")]
    Foreign(Text),
}

/// Why a device did not accept an order to switch. Only one that may have left can have been carried out, and only after
/// such a one do readings prove anything (I2): so whoever is in doubt says [`OrderError::MaybeSent`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum OrderError {
    /// Its not-after time or its permit had passed before it could be sent: nothing was sent.
    #[error("was not sent the order: it came too late")]
    TooLate,
    /// Surely nothing was sent, and this is why: nobody there, no session, no program to send it.
    #[error("{0}; the order was not sent")]
    NotSent(DeviceError),
    /// It was sent, or may have been: it may have been carried out, or may yet be.
    #[error("{0}")]
    MaybeSent(DeviceError),
}

impl OrderError {
    /// What the device, or its driver, said. `None`: it was not asked.
    #[must_use]
    pub fn told(&self) -> Option<&DeviceError> {
        match self {
            Self::TooLate => None,
            Self::NotSent(error) | Self::MaybeSent(error) => Some(error),
        }
    }

    /// Whether it was surely not sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::TooLate | Self::NotSent(_) => true,
            Self::MaybeSent(_) => false,
        }
    }
}

/// One reading of a device: its power, and (if asked and answered) whose machine it says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReading {
    /// Power, or why it is not known.
    pub power: Result<PowerState, DeviceError>,
    /// The machine's GUID, or why it is not known. `None`: not asked.
    pub guid: Option<Result<DeviceGuid, DeviceError>>,
}

/// Where a guest's disks lie: whether another host could open them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskPlacement {
    /// Every disk is on the network or a shared mount (or the guest has none).
    Shared,
    /// At least one disk is a file or device of this host only: an evacuation rebuilds it from its image, empty of data.
    Local,
    /// The agent could not tell. Treated as local.
    Unknown,
}

/// One guest on a host, as its hypervisor tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Guest {
    /// The Nova server it is (libvirt's domain UUID).
    pub server: ServerId,
    /// Whether a process runs it now (running, paused, or in a crash dump).
    pub running: bool,
    /// Where its disks lie.
    pub disks: DiskPlacement,
    /// Whether nothing runs it because its process died or its kernel crashed: nobody stopped it (libvirt: shutoff/crashed,
    /// shutoff/failed).
    #[serde(default)]
    pub died: bool,
}

/// All guests of a host at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestList {
    /// Whether the hypervisor answered and nothing was cut. An incomplete list proves nothing about what is missing from it.
    pub complete: bool,
    /// At most [`GUESTS_MAX`], sorted by server.
    pub guests: Vec<Guest>,
}

/// Something that happened to one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestEvent {
    /// It runs (started, resumed, migrated in).
    Running,
    /// Its process died, or its kernel crashed: nobody asked for that (libvirt: stopped/failed, stopped/crashed).
    Failed,
    /// It was stopped by its owner, an operator, a migration or Nova: left alone.
    Stopped,
    /// It is gone from this host's definitions.
    Undefined,
}

/// What a host says of its boot gate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateReport {
    /// Whether what starts guests there requires the gate, in this boot and the next.
    pub installed: bool,
    /// What it did in this boot.
    pub state: GateState,
}

/// What a boot gate did in this boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// It has not run in this boot: whatever starts guests was not held.
    #[default]
    NotRun,
    /// It holds what starts guests.
    Closed {
        /// Why.
        why: Text,
    },
    /// It was opened on the word of a quorate ledger.
    OpenedByLedger,
    /// It was opened by a person.
    OpenedByHand {
        /// Who, as far as that host could tell.
        by: Text,
        /// Why, in that person's words.
        reason: Text,
    },
}

/// Why a daemon stops, as its own host's init system says. What is not known is the least of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// Only the daemon: the host, and its guests, run on.
    Daemon,
    /// The host reboots: it will be back.
    Reboot,
    /// The host powers off.
    PowerOff,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Daemon => "its daemon was stopped",
            Self::Reboot => "it was told to reboot",
            Self::PowerOff => "it was told to power off",
        })
    }
}

/// What one member found when it probed a host directly, on one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFinding {
    /// The network it probed on.
    pub path: PathName,
    /// `None`: no answer to three direct probes. Else the boot id with which the host answered.
    pub heard: Option<crate::id::BootId>,
}

/// Something lives at a host whose daemon does not answer. Whatever it is, it is not the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeSign {
    /// ICMP port unreachable came back from its gossip port: a kernel answers, and nobody listens there.
    PortUnreachable,
    /// A TCP connection was reset.
    Reset {
        /// At which port.
        port: u16,
    },
    /// A service said its first words.
    Banner {
        /// At which port.
        port: u16,
    },
    /// Nova's heartbeat of its compute service was seen to change after the suspicion began.
    Heartbeat,
}

/// What must be alive for a sign to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeGrade {
    /// A kernel, or a firewall, a proxy or another machine that answers in its stead.
    Kernel,
    /// A process of the host.
    Userland,
}

/// Most signs one member may report of one host: one for the gossip port, one for each port it tried.
pub const LIFE_SIGNS_MAX: usize = 8;

impl LifeSign {
    /// What must be alive for it.
    #[must_use]
    pub fn grade(self) -> LifeGrade {
        match self {
            Self::PortUnreachable | Self::Reset { .. } => LifeGrade::Kernel,
            Self::Banner { .. } | Self::Heartbeat => LifeGrade::Userland,
        }
    }
}

impl fmt::Display for LifeSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortUnreachable => f.write_str("its gossip port is refused by a kernel"),
            Self::Reset { port } => write!(f, "TCP port {port} is refused by a kernel"),
            Self::Banner { port } => write!(f, "a service answers at TCP port {port}"),
            Self::Heartbeat => f.write_str("Nova's heartbeat of its compute service goes on"),
        }
    }
}

/// A host or witness as the roster names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEntry {
    /// Its name.
    pub host: HostName,
    /// Whether it runs guests, or only watches and votes.
    #[serde(default)]
    pub role: MemberRole,
    /// Its failure domain. Unlabelled hosts are each their own.
    #[serde(default)]
    pub domain: Option<DomainName>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    /// A hypervisor.
    #[default]
    Member,
    /// Votes and watches; has no guests, is never fenced.
    Witness,
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Member => "member",
            Self::Witness => "witness",
        })
    }
}

/// A host's watchdog device, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// What its driver calls it.
    pub device: Text,
    /// A timer of the kernel itself: it stops with it, and proves nothing.
    pub soft: bool,
    /// It has reset the host this many milliseconds after it was last fed by order, whatever becomes of the daemon: longer
    /// than the time-out it is set to, as some drivers count that twice, and the kernel feeds it once when a daemon dies.
    pub timeout_ms: u64,
    /// This very daemon has fed it, so that it runs. Before that it is only meant to: it would reset nothing.
    pub running: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = Text::new("ä".repeat(TEXT_BYTES_MAX));
        assert!(text.as_str().len() <= TEXT_BYTES_MAX);
        assert!(text.as_str().ends_with('…'));
    }
}
