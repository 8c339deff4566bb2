//! What Nova is asked that changes nothing, and what it says.

use std::collections::BTreeMap;

use rekindle_proto::capacity::CapacityDoc;
use rekindle_proto::fact::{NovaAggregate, NovaMigration, NovaServer, NovaServerGroup, NovaService, Text};
use rekindle_proto::id::{HostName, MigrationId, ServerId};
use serde::{Deserialize, Serialize};

use crate::capacity::CapacityQuestion;
use crate::recovery::Lookup;

/// A question to Nova that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NovaRead {
    /// The compute service of a host. Answered by [`NovaAnswer::Service`].
    Service(HostName),
    /// All servers of a host, all pages. Answered by [`NovaAnswer::Servers`].
    Servers(HostName),
    /// All migration records that name a host at either end, all pages. Answered by [`NovaAnswer::Migrations`].
    Migrations(HostName),
    /// The newest evacuation records of the whole cloud, at most so many, in one call. What is not among them may exist all
    /// the same. Answered by [`NovaAnswer::Migrations`].
    NewestEvacuations {
        /// How many; at most 1,000.
        rows: usize,
    },
    /// All migration records of one server. Answered by [`NovaAnswer::Migrations`].
    MigrationsOf(ServerId),
    /// Which host has begun an evacuation: taken its order out of its queue. Answered by [`NovaAnswer::Begun`].
    Begun {
        /// Whose.
        server: ServerId,
        /// Its record.
        migration: MigrationId,
    },
    /// One server. Answered by [`NovaAnswer::Server`].
    Server(ServerId),
    /// What a rule of the selection needs, or a reserved host that joins aggregates, or what is told of a server for which Nova
    /// found no place. Answered by [`NovaAnswer::Image`], [`NovaAnswer::Project`], [`NovaAnswer::Aggregates`],
    /// [`NovaAnswer::ServerGroup`], or, of another member of a group, [`NovaAnswer::Server`].
    Look {
        /// Whose servers are selected; whose aggregates.
        host: HostName,
        /// What.
        lookup: Lookup,
    },
    /// Placement, and what the loss of hosts would mean by it. The adapter reads, and answers by
    /// [`crate::capacity::examine`], which may take seconds, beside the loop. Answered by [`NovaAnswer::Capacity`], within
    /// [`crate::CAPACITY_WITHIN`].
    Capacity(CapacityQuestion),
}

/// What Nova said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NovaAnswer {
    /// The service; `None`: Nova has no compute service of that host. Also answers [`super::Output::ForceDown`].
    Service(Option<NovaService>),
    /// The servers.
    Servers(Vec<NovaServer>),
    /// The migration records.
    Migrations(Vec<NovaMigration>),
    /// The host; `None`: none yet, or not certainly of this record.
    Begun(Option<HostName>),
    /// The server; `None`: deleted.
    Server(Option<NovaServer>),
    /// The evacuation, stop or start was accepted, and has not been done; the lock, unlock or reset has.
    Accepted,
    /// The properties of an image, only keys that a rule names; `None`: there is no such image any more.
    Image(Option<BTreeMap<String, Text>>),
    /// The name of a project; `None`: there is no such project any more.
    Project(Option<Text>),
    /// The aggregates of the host.
    Aggregates(Vec<NovaAggregate>),
    /// The server group; `None`: there is no such group any more.
    ServerGroup(Option<NovaServerGroup>),
    /// The host is in the aggregate, or is not, as was ordered.
    Membership {
        /// By this very call; `false`: it was so by then.
        changed: bool,
    },
    /// The estimate, or why the question has no answer.
    Capacity(Result<Box<CapacityDoc>, Text>),
}
