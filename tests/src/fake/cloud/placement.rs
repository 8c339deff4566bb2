//! Placement: resource providers, what they have, and who holds it (placement/handlers of Placement 13); and Nova's
//! `os-hypervisors`, whose ids are those of the providers.

use std::time::Instant;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rekindle_proto::id::{HostName, ServerId};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Shared;
use super::http::{Call, PlacementRoute};
use super::nova::{self, Answer, Microversion};
use super::world::{Migration, World};

/// The newest microversion: 1.*n*.
const NEWEST: u16 = 39;
/// From this version on a provider tells its parent and its root.
const NESTED: u16 = 14;

/// An inventory of a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inventory {
    pub(super) total: u64,
    pub(super) reserved: u64,
    pub(super) ratio: f64,
}

/// What a host has unless a test says otherwise.
pub(super) fn inventories() -> std::collections::BTreeMap<String, Inventory> {
    let of = |total, reserved, ratio| Inventory { total, reserved, ratio };
    [("VCPU", of(64, 0, 4.0)), ("MEMORY_MB", of(131_072, 512, 1.0)), ("DISK_GB", of(2_000, 0, 1.0))]
        .map(|(class, inventory)| (class.to_owned(), inventory))
        .into()
}

/// An error as Placement words it.
pub(super) fn fault(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let error = json!({"status": status.as_u16(), "title": title, "detail": detail, "request_id": "req-simulated"});
    (status, Json(json!({"errors": [error]}))).into_response()
}

/// Every call of Placement that needs a token.
pub(super) fn serve(shared: &Shared, route: &PlacementRoute, call: &Call) -> Response {
    let mut world = shared.world();
    if !world.tokens.admits(call.header("x-auth-token")) {
        return fault(StatusCode::UNAUTHORIZED, "Authentication required");
    }
    let asked = call.header("openstack-api-version").and_then(|value| value.strip_prefix("placement 1."));
    let version: u16 = match asked.map(str::parse) {
        None => 0,
        Some(Ok(version)) if version <= NEWEST => version,
        Some(_) => return fault(StatusCode::NOT_ACCEPTABLE, "Unacceptable version header"),
    };
    match route {
        PlacementRoute::Providers => Json(json!({"resource_providers": providers(&world, version)})).into_response(),
        PlacementRoute::OfServer(id) => Json(allocations_by(&world, *id)).into_response(),
        PlacementRoute::Inventories(id) => match host_of(&world, *id) {
            Some(host) => Json(inventories_of(&world, host)).into_response(),
            None => missing(*id),
        },
        PlacementRoute::Allocations(id) => match host_of(&world, *id) {
            Some(host) => Json(allocations_of(&world, host)).into_response(),
            None => missing(*id),
        },
    }
}

/// `GET /os-hypervisors/detail`.
pub(super) fn hypervisors(shared: &Shared, call: &Call, version: Microversion) -> Answer {
    let world = shared.world();
    let names: Vec<HostName> = world.hosts.keys().cloned().collect();
    let id = |name: &HostName| node(&world, name).map(|id| id.to_string()).unwrap_or_default();
    let url = format!("{}/os-hypervisors/detail", shared.compute_url());
    let page = nova::page(call, &url, world.settings.page_limit, &names, id, |_| true)?;
    let row = |name: &HostName| {
        let host = world.hosts.get(name)?;
        Some(json!({
            "id": if version >= 53 { json!(node(&world, name)) } else { json!(host.number) },
            "hypervisor_hostname": format!("{name}.example.org"), "hypervisor_type": "QEMU",
            "state": if world.is_up(name, Instant::now()) { "up" } else { "down" },
            "status": if host.disabled { "disabled" } else { "enabled" },
            "service": {"id": host.service, "host": name, "disabled_reason": host.disabled_reason},
        }))
    };
    let mut body = json!({"hypervisors": page.items.iter().filter_map(row).collect::<Vec<Value>>()});
    nova::links(&mut body, "hypervisors_links", page.next);
    Ok(Json(body).into_response())
}

/// `GET /os-hypervisors/{id}`, of 2.53 and later.
pub(super) fn hypervisor(shared: &Shared, id: Uuid) -> Answer {
    let world = shared.world();
    let missing = || nova::Refusal::not_found(format!("Compute host {id} could not be found."));
    let (name, host) = world.hosts.iter().find(|(name, _)| node(&world, name) == Some(id)).ok_or_else(missing)?;
    let body = json!({"hypervisor": {
        "id": id, "hypervisor_hostname": format!("{name}.example.org"), "hypervisor_type": "QEMU",
        "state": if world.is_up(name, Instant::now()) { "up" } else { "down" },
        "status": if host.disabled { "disabled" } else { "enabled" },
        "service": {"id": host.service, "host": name, "disabled_reason": host.disabled_reason},
    }});
    Ok(Json(body).into_response())
}

/// What a server holds: where it is, and where its evacuations were given to, until they fail.
fn allocations_by(world: &World, id: ServerId) -> Value {
    let Some(server) = world.servers.get(&id) else { return json!({"allocations": {}}) };
    let holds = |migration: &&Migration| migration.sent.is_some() && !matches!(migration.status, "failed" | "error");
    let given = world.migrations.iter().filter(|migration| migration.server == id).filter(holds);
    let sources = given.clone().filter(|migration| migration.status == "done").map(|migration| &migration.source);
    let hosts = given.filter_map(|migration| migration.chosen.as_ref()).chain(sources).chain([&server.host]);
    let rows: Map<String, Value> = hosts
        .filter_map(|host| {
            Some((node(world, host)?.to_string(), json!({"generation": 1, "resources": server.spec.resources})))
        })
        .collect();
    json!({"allocations": rows, "project_id": "sim", "user_id": "sim"})
}

/// A compute node's id is not its service's.
fn node(world: &World, host: &HostName) -> Option<Uuid> {
    world.hosts.get(host).map(|host| Uuid::from_u128(host.service.as_u128() ^ 1))
}

fn host_of(world: &World, id: Uuid) -> Option<&HostName> {
    world.hosts.keys().find(|host| node(world, host) == Some(id))
}

fn missing(id: Uuid) -> Response {
    fault(StatusCode::NOT_FOUND, &format!("No resource provider with uuid {id} found"))
}

fn providers(world: &World, version: u16) -> Vec<Value> {
    let row = |name: &HostName| {
        let id = node(world, name);
        let mut row = json!({"uuid": id, "name": format!("{name}.example.org"), "generation": 1, "links": []});
        if version >= NESTED {
            row["root_provider_uuid"] = json!(id);
            row["parent_provider_uuid"] = Value::Null;
        }
        row
    };
    // A pool shared by all is a provider too, and no compute node.
    let pool = Uuid::from_u128(0x5a4e_d000_0000_4000_8000_0000_0000_0001);
    let mut rows: Vec<Value> = world.hosts.keys().map(row).collect();
    rows.push(json!({"uuid": pool, "name": "shared-pool", "generation": 1, "links": []}));
    if let Some(row) = rows.last_mut().filter(|_| version >= NESTED) {
        row["root_provider_uuid"] = json!(pool);
    }
    rows
}

fn inventories_of(world: &World, host: &HostName) -> Value {
    let mut rows = Map::new();
    for (class, inventory) in world.hosts.get(host).into_iter().flat_map(|host| &host.inventories) {
        let Inventory { total, reserved, ratio } = inventory;
        rows.insert(
            class.clone(),
            json!({"total": total, "reserved": reserved, "allocation_ratio": ratio, "min_unit": 1, "max_unit": total,
                   "step_size": 1}),
        );
    }
    json!({"inventories": rows, "resource_provider_generation": 1})
}

fn allocations_of(world: &World, host: &HostName) -> Value {
    let held = world.servers.iter().filter(|(_, server)| server.host == *host);
    let rows: Map<String, Value> =
        held.map(|(id, server)| (id.to_string(), json!({"resources": server.spec.resources}))).collect();
    json!({"allocations": rows, "resource_provider_generation": 1})
}
