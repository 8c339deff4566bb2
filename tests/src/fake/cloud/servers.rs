//! `servers` (nova/api/openstack/compute/servers.py, views/servers.py).

use axum::Json;
use axum::response::IntoResponse;
use rekindle_proto::id::ServerId;
use serde_json::{Value, json};

use super::Shared;
use super::http::Call;
use super::nova::{self, Answer, Microversion, Refusal};
use super::world::{Server, World};

/// Query parameters we know. Nova knows more; from 2.75 it refuses those it does not.
const PARAMETERS: [&str; 12] = [
    "all_tenants",
    "host",
    "limit",
    "marker",
    "status",
    "vm_state",
    "name",
    "sort_key",
    "sort_dir",
    "deleted",
    "node",
    "changes-since",
];

/// `GET /servers` and `GET /servers/detail`. Without `all_tenants` the caller sees its own project, which has none.
pub(super) fn list(shared: &Shared, call: &Call, version: Microversion, detail: bool) -> Answer {
    if version >= 75 {
        nova::only_known(call.query.iter().map(|(name, _)| name.as_str()), &PARAMETERS)?;
    }
    let world = shared.world();
    let all_tenants = match call.parameter("all_tenants").map(str::to_lowercase).as_deref() {
        None | Some("0" | "false" | "no" | "off" | "f" | "n") => false,
        Some("" | "1" | "true" | "yes" | "on" | "t" | "y") => true,
        Some(other) => return Err(Refusal::bad_request(format!("Invalid input for all_tenants. Value: {other}."))),
    };
    let matches = |id: &ServerId| {
        let Some(server) = world.servers.get(id) else { return false };
        let same = |name: &str, value: &str| call.parameter(name).is_none_or(|wanted| wanted == value);
        all_tenants
            && same("host", server.host.as_str())
            && same("node", server.host.as_str())
            && same("vm_state", &server.vm_state)
            && call.parameter("status").is_none_or(|wanted| wanted.eq_ignore_ascii_case(status(server)))
            && call.parameter("name").is_none_or(|wanted| server.spec.name.contains(wanted))
            && call.parameter("deleted").is_none_or(|wanted| !matches!(wanted, "1" | "true" | "True"))
    };
    let order: Vec<ServerId> = world.order.iter().rev().copied().collect();
    let url = format!("{}/servers{}", shared.compute_url(), if detail { "/detail" } else { "" });
    let page = nova::page(call, &url, world.settings.page_limit, &order, ServerId::to_string, matches)?;
    let shown = page
        .items
        .iter()
        .filter_map(|id| if detail { document(shared, &world, version, *id) } else { brief(shared, &world, *id) });
    let mut body = json!({"servers": shown.collect::<Vec<Value>>()});
    nova::links(&mut body, "servers_links", page.next);
    Ok(Json(body).into_response())
}

/// `GET /servers/{id}`.
pub(super) fn show(shared: &Shared, version: Microversion, id: ServerId) -> Answer {
    let world = shared.world();
    let mut document = document(shared, &world, version, id).ok_or_else(|| missing(id))?;
    if version >= 71 {
        document["server_groups"] = json!(world.groups_of(id));
    }
    Ok(Json(json!({"server": document})).into_response())
}

pub(super) fn missing(id: ServerId) -> Refusal {
    Refusal::not_found(format!("Instance {id} could not be found."))
}

/// The status Nova derives from vm_state and task_state (nova/api/openstack/common.py).
fn status(server: &Server) -> &'static str {
    let rebuilding = server.task_state.is_some_and(|task| task.starts_with("rebuild"));
    match server.vm_state.as_str() {
        "active" | "stopped" | "error" if rebuilding => "REBUILD",
        "active" => "ACTIVE",
        "stopped" => "SHUTOFF",
        "error" => "ERROR",
        "building" => "BUILD",
        "paused" => "PAUSED",
        "suspended" => "SUSPENDED",
        "rescued" => "RESCUE",
        "resized" => "VERIFY_RESIZE",
        "shelved" => "SHELVED",
        "shelved_offloaded" => "SHELVED_OFFLOADED",
        "soft-delete" => "SOFT_DELETED",
        "deleted" => "DELETED",
        _ => "UNKNOWN",
    }
}

fn self_links(shared: &Shared, id: ServerId) -> Value {
    json!([
        {"rel": "self", "href": format!("{}/servers/{id}", shared.compute_url())},
        {"rel": "bookmark", "href": format!("http://{}/compute/servers/{id}", shared.address)},
    ])
}

fn brief(shared: &Shared, world: &World, id: ServerId) -> Option<Value> {
    let server = world.servers.get(&id)?;
    Some(json!({"id": id, "name": server.spec.name, "links": self_links(shared, id)}))
}

fn document(shared: &Shared, world: &World, version: Microversion, id: ServerId) -> Option<Value> {
    let server = world.servers.get(&id)?;
    let mut document = json!({
        "id": id,
        "name": server.spec.name,
        "status": status(server),
        "tenant_id": server.spec.project,
        "user_id": world.tokens.user_id,
        "metadata": server.spec.metadata,
        "hostId": format!("{:056x}", id.0.as_u128()),
        "image": server.spec.image.as_ref().map_or_else(|| json!(""), |id| json!({"id": id, "links": []})),
        "flavor": {"original_name": server.spec.flavor, "vcpus": 1, "ram": 64, "disk": 1, "ephemeral": 0, "swap": 0},
        "created": nova::time(server.created, false),
        "updated": nova::time(server.updated, false),
        "addresses": {},
        "accessIPv4": "",
        "accessIPv6": "",
        "links": self_links(shared, id),
        "OS-DCF:diskConfig": "MANUAL",
        "OS-EXT-AZ:availability_zone": "nova",
        "config_drive": "",
        "key_name": null,
        "OS-SRV-USG:launched_at": nova::bare_time(server.created),
        "OS-SRV-USG:terminated_at": null,
        "OS-EXT-SRV-ATTR:host": server.host,
        "OS-EXT-SRV-ATTR:hypervisor_hostname": server.host,
        "OS-EXT-SRV-ATTR:instance_name": format!("instance-{:08x}", id.0.as_fields().0),
        "OS-EXT-STS:vm_state": server.vm_state,
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:power_state": server.power_state,
        "os-extended-volumes:volumes_attached": [],
        "security_groups": [{"name": "default"}],
    });
    if let Some(specs) = &server.spec.extra_specs {
        document["flavor"]["extra_specs"] = json!(specs);
    }
    if matches!(status(server), "ACTIVE" | "BUILD" | "REBUILD") {
        document["progress"] = json!(0);
    }
    if status(server) == "ERROR" {
        let message = "Build of instance failed.";
        document["fault"] = json!({"code": 500, "created": nova::time(server.updated, false), "message": message});
    }
    if version >= 9 {
        document["locked"] = json!(server.locked.is_some());
    }
    if version >= 73 {
        document["locked_reason"] = json!(server.locked.clone().flatten());
    }
    if version >= 16 {
        let state = if world.is_up(&server.host, std::time::Instant::now()) { "UP" } else { "DOWN" };
        document["host_status"] = json!(state);
    }
    Some(document)
}
