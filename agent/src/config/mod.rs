//! The one configuration file: TOML, the same on every host but for `[member]`. Unknown keys are refused, and so is every
//! value that breaks a rule or a relation; a refusal names the file, the key, its value, the rule and the reason.
//!
//! `docs/configuration.md` explains every key; `docs/rekindle.toml` is a complete example, which a test loads.

mod agents;
mod checker;
mod devices;
mod drivers;
mod file;
mod hooks;
mod notifications;
mod paths;
mod processes;
mod refusal;
mod rules;
mod select;
mod watchdog;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rekindle_coordinator::policy::{DeviceRule, Policy};
use rekindle_proto::fact::MemberRole;
use rekindle_proto::id::{BootId, ClusterName, DomainName, HostName, Incarnation, PathName, SystemUuid};

pub use refusal::{ConfigError, Refusal};

use crate::bmc::DeviceAccess;
use crate::hook::HookSettings;
use crate::hypervisor::HypervisorSettings;
use crate::ledger::LedgerSettings;
use crate::notify::NotificationSettings;
use crate::nova::NovaSettings;
use crate::process::ProcessSettings;
use crate::transport::{TlsFiles, TransportSettings};
use crate::watchdog::Node;

/// Where the file lies if nothing else is said.
pub const CONFIG_FILE: &str = "/etc/rekindle/rekindle.toml";

/// Largest configuration file we read, in bytes: a site of 2,000 hosts with a fence device entry each fits.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The first network: everything that is not a probe runs on it.
pub const MANAGEMENT: &str = "management";

/// Everything the file says, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Who we are.
    pub member: Member,
    /// With whom we belong.
    pub cluster: Cluster,
    /// Thresholds, relations checked.
    pub policy: Policy,
    /// Fence devices and how to reach them, in the file's order.
    pub devices: Vec<DeviceAccess>,
    /// Nova, if the file has `[nova]`.
    pub nova: Option<NovaSettings>,
    /// Where to ask for local guests.
    pub hypervisor: HypervisorSettings,
    /// How and where to log.
    pub log: LogSettings,
    /// The site's hooks, in the file's order: [`Policy::hooks`] with what is run.
    pub hooks: Vec<HookSettings>,
    /// Whom to tell of incidents.
    pub notifications: NotificationSettings,
    /// The processes that are watched here, in the file's order: [`Policy::processes`] with how it is done.
    pub processes: Vec<ProcessSettings>,
}

/// `[member]`: what differs from host to host.
#[derive(Debug, Clone)]
pub struct Member {
    /// Exactly Nova's service host.
    pub host: HostName,
    /// Where we listen on the management network (UDP).
    pub listen: SocketAddr,
    /// Where we listen on the further networks (UDP), in the order of [`Cluster::paths`]; without those we are not on.
    pub paths: Vec<(PathName, SocketAddr)>,
    /// Where the ledger, the life number and the reset key lie.
    pub state_dir: PathBuf,
    /// The local socket behind `rekindle`.
    pub admin_socket: PathBuf,
    /// Where `/metrics` and `/healthz` are served (TCP), if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Failure domain, for labels of metrics. Brakes go by the roster's.
    pub domain: Option<DomainName>,
    /// Further labels of `rekindle_member_info`.
    pub labels: BTreeMap<String, String>,
    /// Hypervisor or witness.
    pub role: MemberRole,
    /// Overrides DMI, for machines without it.
    pub system_uuid: Option<SystemUuid>,
    /// The hardware watchdog under which this host lives, if any: only with [`Policy::self_fence`].
    pub watchdog: Option<Node>,
    /// Whether what this daemon is told is recorded in `state_dir`, to be replayed.
    pub record: bool,
}

/// `[cluster]`: the same everywhere.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The cluster, as in its certificates.
    pub name: ClusterName,
    /// `host:port` of members to join by.
    pub seeds: Vec<String>,
    /// Who votes at first: 1, 3, 5 or 7. Afterwards the ledger says.
    pub voters: Vec<HostName>,
    /// Who may take a lost voter's place.
    pub standbys: Vec<HostName>,
    /// The further networks, beside management.
    pub paths: Vec<PathName>,
    /// Our certificate.
    pub tls: TlsFiles,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// Whither.
    pub target: LogTarget,
}

/// How a log line looks on stderr. The journal has fields of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whither the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// systemd's journal, each field by itself.
    Journald,
    /// Standard error.
    Stderr,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are taken from its own directory.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, is not TOML, or breaks a rule; all broken rules at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { file: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong { file: path.to_owned(), bytes });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(failed)?, path)
    }

    /// Checks a text as if it were the file at `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let (raw, table) = refusal::read(text, path)?;
        rules::check(raw, table, path)
    }

    /// Whether this member votes or may come to vote, and so holds the ledger, may lead, and reaches BMCs and Nova.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.cluster.voters.contains(&self.member.host) || self.cluster.standbys.contains(&self.member.host)
    }

    /// Who may keep the ledger.
    #[must_use]
    pub fn keepers(&self) -> Vec<HostName> {
        self.cluster.voters.iter().chain(&self.cluster.standbys).cloned().collect()
    }

    /// The fence device rules, for the coordinator.
    #[must_use]
    pub fn device_rules(&self) -> Vec<DeviceRule> {
        self.devices.iter().map(|device| device.rule.clone()).collect()
    }

    /// Where we listen, per path, [`MANAGEMENT`] first.
    #[must_use]
    pub fn listen(&self) -> Vec<(PathName, SocketAddr)> {
        let first = PathName::new(MANAGEMENT).map(|path| (path, self.member.listen));
        first.into_iter().chain(self.member.paths.iter().cloned()).collect()
    }

    /// What the ledger adapter needs, with the latest generation of voters known; `None` if this member keeps no ledger.
    #[must_use]
    pub fn ledger(&self, generation: u64) -> Option<LedgerSettings> {
        self.is_voter().then(|| LedgerSettings {
            cluster: self.cluster.name.clone(),
            host: self.member.host.clone(),
            voters: self.cluster.voters.clone(),
            standbys: self.cluster.standbys.clone(),
            dir: self.member.state_dir.join("ledger"),
            generation,
        })
    }

    /// What the transport needs, with what only a running daemon knows.
    #[must_use]
    pub fn transport(&self, boot: BootId, incarnation: Incarnation, reset_key: [u8; 64]) -> TransportSettings {
        TransportSettings {
            cluster: self.cluster.name.clone(),
            host: self.member.host.clone(),
            boot,
            incarnation,
            listen: self.listen(),
            tls: self.cluster.tls.clone(),
            reset_key,
        }
    }
}

#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod select_tests;
#[cfg(test)]
mod tests;
