//! What the outside is told when an incident changes phase: on a local socket, and by a webhook.

use serde::{Deserialize, Serialize};

use crate::fact::Text;
use crate::id::{ClusterName, HostName, IncidentId, ProcessName, WallTime};
use crate::status::Phase;

/// Version of [`Notification`]; fields are added without raising it.
pub const NOTIFICATION_VERSION: u32 = 1;

/// One change of phase. All of it but `by` is from the ledger: whoever tells it, and however often, it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// [`NOTIFICATION_VERSION`].
    pub version: u32,
    /// The same for every telling of this change, and for no other change: by it a receiver knows what it has seen.
    pub id: Text,
    /// The cluster.
    pub cluster: ClusterName,
    /// The incident.
    pub incident: IncidentId,
    /// Which change of this incident, from 1, without gaps.
    pub number: u32,
    /// The failed host, or the one whose process failed.
    pub host: HostName,
    /// The phase before.
    pub from: Phase,
    /// The phase now.
    pub phase: Phase,
    /// When the host was first suspected, or its process found to be down.
    pub began: WallTime,
    /// When the phase changed.
    pub at: WallTime,
    /// The evidence, or the reason.
    pub text: Text,
    /// Who tells it.
    pub by: HostName,
    /// No host failed, but this process of one: `unclean` means that it is down for good and that the host's compute
    /// service is disabled for it. Absent in notifications about hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessName>,
}

/// What a reader of the socket is told when it was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostDoc {
    /// [`NOTIFICATION_VERSION`].
    pub version: u32,
    /// How many notifications it has not been told.
    pub lost: u64,
}
