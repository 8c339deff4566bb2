//! Server groups: which a server is in, and what one demands.

use osauth::ApiVersion;
use rekindle_proto::fact::{GROUP_MEMBERS_MAX, GROUPS_OF_A_SERVER_MAX, GroupPolicy, NovaError, NovaServerGroup, Text};
use rekindle_proto::id::{ServerGroupId, ServerId};
use serde_json::Value;

use super::wire::{Get, Wire};

/// Server groups. 2.64 (Stein) is the first that tells the one policy of a group and its rules.
const SERVER_GROUPS: ApiVersion = ApiVersion(2, 64);

/// Nova's default for `max_server_per_host`.
const PER_HOST_DEFAULT: u32 = 1;

/// Reads a group by its id, which needs the policy `os_compute_api:os-server-groups:show` for groups of other projects: by
/// default an administrator has it. All groups of the cloud are never listed: to credentials that are no administrator's Nova
/// lists those of their own project without a word of the others (nova/api/openstack/compute/server_groups.py, `index`).
///
/// # Errors
/// [`NovaError`]; what cannot be read is never told as if it were not there.
pub(super) async fn read(wire: &Wire, id: ServerGroupId) -> Result<Option<NovaServerGroup>, NovaError> {
    let word = id.to_string();
    match wire.get(Get { version: SERVER_GROUPS, path: &["os-server-groups", &word], query: &[] }).await {
        Ok(body) => parse(&body, id).map(Some),
        Err(NovaError::Refused { status: 404, .. }) => Ok(None),
        Err(error @ (NovaError::Refused { .. } | NovaError::NotSent(_))) => Err(error),
        Err(error @ (NovaError::Unknown(_) | NovaError::Malformed(_))) => Err(error),
    }
}

/// The groups of a server, as `GET /servers/{id}` has them since 2.71. Whatever else stands there is passed over: nothing but
/// words comes of it.
pub(super) fn of_server(field: Option<&Value>) -> Option<Vec<ServerGroupId>> {
    let ids = field?.as_array()?.iter().filter_map(|id| id.as_str()?.parse().ok());
    Some(ids.take(GROUPS_OF_A_SERVER_MAX).collect())
}

fn parse(body: &Value, id: ServerGroupId) -> Result<NovaServerGroup, NovaError> {
    let wrong = |what: &str| NovaError::Malformed(Text::new(format!("os-server-groups/{id}: {what}")));
    let group = body.get("server_group").ok_or_else(|| wrong("no \"server_group\""))?;
    if group.get("id").and_then(Value::as_str).and_then(|word| word.parse().ok()) != Some(id) {
        return Err(wrong("another group"));
    }
    let policy = group.get("policy").and_then(Value::as_str).ok_or_else(|| wrong("no \"policy\""))?;
    let rows = group.get("members").and_then(Value::as_array).ok_or_else(|| wrong("no \"members\""))?;
    let mut members: Vec<ServerId> = rows
        .iter()
        .map(|row| row.as_str().and_then(|word| word.parse().ok()).ok_or_else(|| wrong("a member that is no id")))
        .collect::<Result<_, _>>()?;
    members.sort_unstable();
    members.dedup();
    let more = members.len().saturating_sub(GROUP_MEMBERS_MAX);
    members.truncate(GROUP_MEMBERS_MAX);
    Ok(NovaServerGroup {
        id,
        name: Text::new(group.get("name").and_then(Value::as_str).unwrap_or_default()),
        policy: match policy {
            "affinity" => GroupPolicy::Affinity,
            "anti-affinity" => {
                GroupPolicy::AntiAffinity { most: per_host(group.pointer("/rules/max_server_per_host")) }
            }
            wish => GroupPolicy::Wish(Text::new(wish)),
        },
        members,
        more: u32::try_from(more).unwrap_or(u32::MAX),
    })
}

/// Nova shows a number, and takes a word.
fn per_host(rule: Option<&Value>) -> u32 {
    let number = rule.and_then(|rule| rule.as_u64().or_else(|| rule.as_str()?.parse().ok()));
    number.and_then(|number| u32::try_from(number).ok()).filter(|most| *most > 0).unwrap_or(PER_HOST_DEFAULT)
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
