//! `os-instance-actions` (nova/api/openstack/compute/instance_actions.py), of evacuations: what nova-conductor and the
//! destination have written of each (nova/compute/utils.py, `EventReporter`). An action is called by its request, here by its
//! migration's number.

use axum::Json;
use axum::response::IntoResponse;
use rekindle_proto::id::ServerId;
use serde_json::{Value, json};

use super::Shared;
use super::nova::{self, Answer, Refusal};
use super::servers::missing;
use super::world::{Migration, World};

/// `GET /servers/{id}/os-instance-actions`, newest first.
pub(super) fn list(shared: &Shared, id: ServerId) -> Answer {
    let world = shared.world();
    world.servers.get(&id).ok_or_else(|| missing(id))?;
    let rows: Vec<Value> = of(&world, id).rev().map(action).collect();
    Ok(Json(json!({"instanceActions": rows})).into_response())
}

/// `GET /servers/{id}/os-instance-actions/{request}`.
pub(super) fn show(shared: &Shared, id: ServerId, request: &str) -> Answer {
    let world = shared.world();
    let found = of(&world, id).find(|migration| request_of(migration) == request);
    let migration = found.ok_or_else(|| Refusal::not_found(format!("Action for request_id {request} not found")))?;
    let mut action = action(migration);
    let created = nova::bare_time(migration.created);
    let mut events = vec![json!({"event": "rebuild_server", "host": "controller", "start_time": created,
        "finish_time": migration.sent.map(nova::bare_time), "result": migration.sent.map(|_| result(migration.status != "error")),
        "traceback": null})];
    if let Some(host) = &migration.taken {
        let ended = (!migration.under_way()).then(|| result(migration.status != "failed"));
        events.push(json!({"event": "compute_rebuild_instance", "host": host, "start_time": created,
            "finish_time": ended.map(|_| nova::bare_time(migration.updated)), "result": ended, "traceback": null}));
    }
    action["events"] = json!(events);
    Ok(Json(json!({"instanceAction": action})).into_response())
}

fn of(world: &World, id: ServerId) -> impl DoubleEndedIterator<Item = &Migration> {
    world.migrations.iter().filter(move |migration| migration.server == id)
}

fn request_of(migration: &Migration) -> String {
    format!("req-{}", migration.id.0)
}

fn action(migration: &Migration) -> Value {
    json!({"action": "evacuate", "request_id": request_of(migration), "instance_uuid": migration.server,
        "start_time": nova::bare_time(migration.created), "message": null})
}

fn result(well: bool) -> &'static str {
    if well { "Success" } else { "Error" }
}
