//! What Nova says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Text;
use crate::id::{AggregateId, HostName, MigrationId, ServerGroupId, ServerId, ServiceId};

/// Most server groups of one server that are kept. Nova knows one at most; a list all the same, and room for a Nova that knows
/// more.
pub const GROUPS_OF_A_SERVER_MAX: usize = 4;

/// Most members of a server group that are kept. Nova's default quota (`quota.server_group_members`) is 10; of more than this
/// only the number is told.
pub const GROUP_MEMBERS_MAX: usize = 64;

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
    /// `disabled_reason`: whose word it is that it is disabled; `None`: none was given.
    #[serde(default)]
    pub disabled_reason: Option<Text>,
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
    /// Metadata, only keys that begin with `rekindle:`, and those that the selection names (`HA_Enabled` by default).
    pub metadata: BTreeMap<String, Text>,
    /// What else the selection may look at.
    #[serde(default)]
    pub traits: ServerTraits,
    /// Whether it has power, and whether somebody locked it.
    #[serde(default)]
    pub standing: ServerStanding,
}

/// What rules of selection look at, as far as Nova's list of servers tells it. `None`: it did not tell, which is not the
/// same as an empty word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerTraits {
    /// The id of its project.
    pub project: Option<Text>,
    /// The id of the image it was made from; empty: it boots from a volume, and Nova names no image.
    pub image: Option<Text>,
    /// The name of its flavor, as it was when the server was made.
    pub flavor: Option<Text>,
    /// The extra specs of its flavor, as they were then; only keys that a rule names. Nova tells them to those whom its
    /// policy `os_compute_api:os-flavor-extra-specs:index` allows.
    pub extra_specs: Option<BTreeMap<String, Text>>,
    /// The server groups it is in, at most [`GROUPS_OF_A_SERVER_MAX`]. Nova tells it when one server is read (2.71), and never in
    /// a list. No rule looks at it.
    #[serde(default)]
    pub groups: Option<Vec<ServerGroupId>>,
}

/// A server group: where Nova may put servers beside each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NovaServerGroup {
    /// Its id.
    pub id: ServerGroupId,
    /// Its name; nothing makes it unique.
    pub name: Text,
    /// What it demands.
    pub policy: GroupPolicy,
    /// Its members that are not deleted, at most [`GROUP_MEMBERS_MAX`].
    pub members: Vec<ServerId>,
    /// How many members more it has.
    pub more: u32,
}

/// What a server group demands of Nova's scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupPolicy {
    /// All on one host.
    Affinity,
    /// At most so many on one host (`max_server_per_host`); at least 1.
    AntiAffinity {
        /// How many.
        most: u32,
    },
    /// What Nova only tries (`soft-affinity`, `soft-anti-affinity`), or a word that nobody knows: it keeps no server from a host.
    Wish(Text),
}

/// A host aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NovaAggregate {
    /// By which Nova is asked to change it; its name may change.
    pub id: AggregateId,
    /// Its name.
    pub name: Text,
    /// Its metadata; only keys that a rule names.
    pub metadata: BTreeMap<String, Text>,
}

/// What else Nova says of a server's state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerStanding {
    /// `OS-EXT-STS:power_state`: 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended; 0: Nova has not looked.
    pub power_state: Option<u8>,
    /// Whether it is locked, by whomever.
    pub locked: bool,
    /// What whoever locked it gave as the reason.
    pub lock_reason: Option<Text>,
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
