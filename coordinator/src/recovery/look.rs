//! What Nova's list of servers does not tell and has to be asked for: by rules of the selection before a server is decided,
//! and about its server group after Nova found no place for it.

use std::collections::BTreeMap;
use std::fmt;

use rekindle_proto::fact::{NovaAggregate, NovaServerGroup, Text};
use rekindle_proto::id::{HostName, ServerGroupId, ServerId};
use serde::{Deserialize, Serialize};

/// Something that has to be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lookup {
    /// The properties of an image.
    Image(Text),
    /// The name of a project.
    Project(Text),
    /// The aggregates of the dead host.
    Aggregates,
    /// A server group.
    Group(ServerGroupId),
    /// Where another member of such a group is.
    Member(ServerId),
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(id) => write!(f, "the properties of image {id}"),
            Self::Project(id) => write!(f, "the name of project {id}"),
            Self::Aggregates => f.write_str("the aggregates of its host"),
            Self::Group(id) => write!(f, "server group {id}"),
            Self::Member(id) => write!(f, "where server {id} is"),
        }
    }
}

/// What was read for one dead host. What is not there has not been read.
#[derive(Debug, Clone, Default)]
pub struct Looked {
    /// Properties of images; `None`: that image is gone, and nobody can say any more what it was.
    pub images: BTreeMap<Text, Option<BTreeMap<String, Text>>>,
    /// Names of projects; `None`: that project is gone.
    pub projects: BTreeMap<Text, Option<Text>>,
    /// The aggregates of the host.
    pub aggregates: Option<Vec<NovaAggregate>>,
    /// Server groups; `None`: that group is gone, and binds nobody.
    pub groups: BTreeMap<ServerGroupId, Option<NovaServerGroup>>,
    /// Name and host of members of such groups; `None`: deleted.
    pub members: BTreeMap<ServerId, Option<(Text, Option<HostName>)>>,
}

impl Looked {
    /// Whether that was read.
    #[must_use]
    pub fn has(&self, lookup: &Lookup) -> bool {
        match lookup {
            Lookup::Image(id) => self.images.contains_key(id),
            Lookup::Project(id) => self.projects.contains_key(id),
            Lookup::Aggregates => self.aggregates.is_some(),
            Lookup::Group(id) => self.groups.contains_key(id),
            Lookup::Member(id) => self.members.contains_key(id),
        }
    }
}
