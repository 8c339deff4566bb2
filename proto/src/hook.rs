//! What a site's hook is told on its standard input.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fact::Text;
use crate::id::{ClusterName, HostName, IncidentId, ServerId, WallTime};
use crate::status::Phase;

/// Version of [`HookDoc`]; fields are added without raising it.
pub const HOOK_VERSION: u32 = 1;

/// Most servers listed to a hook: with a thousand the document is a quarter of a megabyte.
pub const HOOK_SERVERS_MAX: usize = 1_000;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    /// All speaks for switching the host off, and nothing was ordered yet. What follows waits for it.
    BeforeFence,
    /// It is proven off.
    AfterFence,
    /// It is proven off and forced down in Nova, and no server was asked for yet. What follows waits for it.
    BeforeEvacuate,
    /// Every server has its fate.
    AfterEvacuate,
    /// The incident is closed.
    Recovered,
    /// The incident needs a person.
    Stuck,
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeFence => "before-fence",
            Self::AfterFence => "after-fence",
            Self::BeforeEvacuate => "before-evacuate",
            Self::AfterEvacuate => "after-evacuate",
            Self::Recovered => "recovered",
            Self::Stuck => "stuck",
        })
    }
}

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDoc {
    /// [`HOOK_VERSION`].
    pub version: u32,
    /// Why it is run.
    pub on: HookPoint,
    /// The cluster.
    pub cluster: ClusterName,
    /// Who leads, and runs it.
    pub leader: HostName,
    /// The incident.
    pub incident: IncidentId,
    /// The failed host.
    pub host: HostName,
    /// Where the incident stands.
    pub phase: Phase,
    /// When the host was first suspected.
    pub began: WallTime,
    /// The last line of the incident's story.
    pub text: Text,
    /// Its servers; before they are listed in Nova, those of the host's last own list.
    pub servers: Vec<HookServer>,
    /// How many more there are.
    pub servers_left_out: u32,
}

/// A server of the failed host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookServer {
    /// Its id.
    pub id: ServerId,
    /// Its name, once listed.
    pub name: Text,
    /// `waiting`, `recovered`, `left-behind` or `deleted`.
    pub state: Text,
    /// Where it runs now.
    pub to: Option<HostName>,
    /// Why it was left behind.
    pub reason: Option<Text>,
}
