//! Facts: what adapters and members report of the world. Reported, never judged: judging is the coordinator's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DomainName, HostName, MigrationId, PathName, ServerId, ServiceId};

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
    /// The order's not-after time or permit had passed before it could be sent: nothing was sent.
    #[error("the order came too late and was not sent")]
    TooLate,
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

/// A Nova compute service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NovaService {
    /// Its record.
    pub id: ServiceId,
    /// Its host.
    pub host: HostName,
    /// Nova's opinion: heartbeat fresh, and not forced down.
    pub up: bool,
    /// Whether the scheduler may use it.
    pub enabled: bool,
    /// Whether somebody declared it down.
    pub forced_down: bool,
    /// Nova's `updated_at`, verbatim: its last heartbeat. Compared for change only, never with a clock.
    pub heartbeat: Option<Text>,
}

/// A Nova server, as far as recovery looks at it. States are Nova's own words, lower-cased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NovaServer {
    /// Its id.
    pub id: ServerId,
    /// Its display name.
    pub name: Text,
    /// `OS-EXT-SRV-ATTR:host`.
    pub host: Option<HostName>,
    /// `OS-EXT-STS:vm_state`: `active`, `stopped`, `error`, ….
    pub vm_state: Text,
    /// `OS-EXT-STS:task_state`, if any.
    pub task_state: Option<Text>,
    /// Metadata, only keys that begin with `rekindle:` and `HA_Enabled`.
    pub metadata: BTreeMap<String, Text>,
}

/// What kind of move a Nova migration record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationKind {
    /// `evacuation`.
    Evacuation,
    /// `live-migration`.
    LiveMigration,
    /// `migration` or `resize` (cold).
    Cold,
    /// A word this version does not know.
    Other,
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// Under way, in whatever stage (`accepted`, `queued`, `preparing`, `pre-migrating`, `running`, …, or an unknown word).
    UnderWay,
    /// `done` (evacuation: rebuilt; the source has not cleaned up yet), `finished`, `confirmed`, `reverted`.
    Done,
    /// `completed`.
    Completed,
    /// `failed`, `error` or `cancelled`. **It may have left a running guest at its destination.**
    Failed,
}

impl MigrationStatus {
    /// Whether Nova will not touch this record's guest again on its own.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::UnderWay => false,
            Self::Done | Self::Completed | Self::Failed => true,
        }
    }
}

/// A Nova migration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NovaMigration {
    /// Its number. Nova allocates them upwards: a larger one is newer.
    pub id: MigrationId,
    /// The server that moves.
    pub server: ServerId,
    /// What kind of move.
    pub kind: MigrationKind,
    /// How far it is.
    pub status: MigrationStatus,
    /// Nova's own word for the status, for people.
    pub status_text: Text,
    /// Where it comes from.
    pub source: Option<HostName>,
    /// Where it goes to. `None` until the scheduler has chosen.
    pub dest: Option<HostName>,
}

/// Why Nova, Keystone, or the way to them failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NovaError {
    /// Not sent at all (permit or deadline passed, no token, no connection): certainly nothing happened.
    #[error("not sent: {0}")]
    NotSent(Text),
    /// Nova said no, with this HTTP status (4xx): certainly nothing happened.
    #[error("Nova refused with {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Nova's words.
        text: Text,
    },
    /// Sent, and the answer is a 5xx, a time-out or a broken connection: it may or may not have happened.
    #[error("outcome unknown: {0}")]
    Unknown(Text),
    /// The answer could not be understood.
    #[error("answer not understood: {0}")]
    Malformed(Text),
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
    /// It resets the host this many milliseconds after it was last fed.
    pub timeout_ms: u64,
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
