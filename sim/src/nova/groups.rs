//! Server groups with a hard policy, as Nova keeps them: the scheduler's filters (nova/scheduler/filters/affinity_filter.py),
//! and the late check of a destination (nova/compute/manager.py, `_validate_instance_group_policy`), because the scheduler does
//! not see what is on its way.

use rekindle_proto::fact::NovaServerGroup;
use rekindle_proto::id::ServerGroupId;

use super::*;

/// A server group.
#[derive(Debug)]
pub(super) struct Group {
    id: ServerGroupId,
    name: Text,
    policy: GroupPolicy,
    members: BTreeSet<ServerId>,
}

impl Nova {
    /// A server is a member of the group of that name, which is made if there is none. Of one group at most.
    pub(super) fn join(&mut self, server: ServerId, name: &str, policy: GroupPolicy) {
        if self.group_of(server).is_some() {
            return;
        }
        let group = match self.groups.iter().position(|group| group.name.as_str() == name) {
            Some(at) => &mut self.groups[at],
            None => {
                let id = ServerGroupId(Uuid::from_u128(0x6700_0000 + self.groups.len() as u128));
                self.groups.push(Group { id, name: name.into(), policy, members: BTreeSet::new() });
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        group.members.insert(server);
    }

    /// As `GET /os-server-groups/{id}` shows it.
    pub(super) fn group(&self, id: ServerGroupId) -> Option<NovaServerGroup> {
        let group = self.groups.iter().find(|group| group.id == id)?;
        let members = group.members.iter().filter(|member| self.servers.contains_key(member)).copied().collect();
        Some(NovaServerGroup { id, name: group.name.clone(), policy: group.policy.clone(), members, more: 0 })
    }

    /// A server as it is shown alone: with its groups, which a list leaves out.
    pub(super) fn shown_alone(&self, server: ServerId) -> Option<NovaServer> {
        let mut shown = self.shown(self.servers.get(&server)?);
        shown.traits.groups = Some(self.group_of(server).into_iter().map(|group| group.id).collect());
        Some(shown)
    }

    /// Whether the scheduler's filters let a server of a group go to a host. By affinity only the hosts will do that members are
    /// on, itself included.
    pub(super) fn group_lets(&self, server: ServerId, host: &HostName) -> bool {
        let Some(group) = self.group_of(server) else { return true };
        match group.policy {
            GroupPolicy::Affinity => self.members_on(group, host).count() > 0,
            GroupPolicy::AntiAffinity { most } => self.members_on(group, host).count() < most as usize,
            GroupPolicy::Wish(_) => true,
        }
    }

    /// Whether a destination refuses a rebuild at the last moment: it also counts what is on its way to it.
    pub(super) fn fails_late(&self, rebuild: &Rebuild) -> bool {
        let Some(group) = self.group_of(rebuild.server) else { return false };
        let others = |member: &ServerId| *member != rebuild.server;
        match group.policy {
            GroupPolicy::Affinity => {
                let others = group.members.iter().filter(|member| others(member));
                let homes: BTreeSet<&HostName> =
                    others.filter_map(|member| self.servers.get(member)?.host.as_ref()).collect();
                !homes.is_empty() && !homes.contains(&rebuild.dest)
            }
            GroupPolicy::AntiAffinity { most } => {
                let here = self.members_on(group, &rebuild.dest).filter(others).count();
                let comes = |record: &&NovaMigration| {
                    let is_member = others(&record.server) && group.members.contains(&record.server);
                    is_member
                        && record.status == MigrationStatus::UnderWay
                        && record.dest.as_ref() == Some(&rebuild.dest)
                };
                here + self.migrations.iter().filter(comes).count() >= most as usize
            }
            GroupPolicy::Wish(_) => false,
        }
    }

    fn group_of(&self, server: ServerId) -> Option<&Group> {
        self.groups.iter().find(|group| group.members.contains(&server))
    }

    fn members_on<'a>(&'a self, group: &'a Group, host: &'a HostName) -> impl Iterator<Item = ServerId> + 'a {
        let is_there =
            move |member: &ServerId| self.servers.get(member).is_some_and(|record| record.host.as_ref() == Some(host));
        group.members.iter().copied().filter(is_there)
    }
}
