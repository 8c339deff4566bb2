//! Server groups with the policy anti-affinity (nova/api/openstack/compute/server_groups.py,
//! nova/scheduler/filters/affinity_filter.py). The late check of a destination is not made.

use axum::Json;
use axum::response::IntoResponse;
use rekindle_proto::id::{HostName, ServerId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::nova::{Answer, Microversion, Refusal};
use super::world::World;
use super::{Cloud, Shared};

/// A group of which no two members may be on one host.
pub(super) struct Group {
    id: Uuid,
    name: String,
    members: Vec<ServerId>,
}

impl Cloud {
    /// From now on these servers are in a group of their own: the scheduler puts none of them beside another.
    pub fn keep_apart(&self, name: &str, members: &[ServerId]) {
        let mut world = self.world();
        let id = world.fresh_uuid();
        world.groups.push(Group { id, name: name.to_owned(), members: members.to_vec() });
    }
}

impl World {
    /// What a server's own document has since 2.71, and a list never.
    pub(super) fn groups_of(&self, server: ServerId) -> Vec<Uuid> {
        self.groups.iter().filter(|group| group.members.contains(&server)).map(|group| group.id).collect()
    }

    /// Whether another member of a server's group is on a host.
    pub(super) fn keeps_apart(&self, server: ServerId, host: &HostName) -> bool {
        let groups = self.groups.iter().filter(|group| group.members.contains(&server));
        let mut others = groups.flat_map(|group| &group.members).filter(|other| **other != server);
        others.any(|other| self.servers.get(other).is_some_and(|other| other.host == *host))
    }
}

/// `GET /os-server-groups/{id}`.
pub(super) fn show(shared: &Shared, version: Microversion, id: Uuid) -> Answer {
    let world = shared.world();
    let group = world.groups.iter().find(|group| group.id == id);
    let group = group.ok_or_else(|| Refusal::not_found(format!("Instance group {id} could not be found.")))?;
    let members: Vec<&ServerId> = group.members.iter().filter(|member| world.servers.contains_key(member)).collect();
    let mut document: Value = json!({"id": id, "name": group.name, "members": members});
    if version >= 64 {
        document["policy"] = json!("anti-affinity");
        document["rules"] = json!({});
    } else {
        document["policies"] = json!(["anti-affinity"]);
        document["metadata"] = json!({});
    }
    if version >= 13 {
        document["project_id"] = json!(format!("{:032x}", 0x7e4a47));
        document["user_id"] = json!(world.tokens.user_id);
    }
    Ok(Json(json!({"server_group": document})).into_response())
}
