//! `POST /servers/{id}/action` (nova/api/openstack/compute/evacuate.py, servers.py, lock_server.py, admin_actions.py).

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use rekindle_proto::id::{HostName, MigrationId, ServerId};
use serde_json::{Value, json};

use super::http::Call;
use super::nova::{self, Answer, Microversion, Refusal};
use super::servers::missing;
use super::world::{Cast, Migration, World};
use super::{EvacuateCall, EvacuateOutcome, PowerAction, PowerCall, Shared};
use crate::fake::record::When;

pub(super) fn act(shared: &Arc<Shared>, call: &Call, version: Microversion, id: ServerId) -> Answer {
    let body = call.body.as_object().filter(|body| body.len() == 1);
    let Some((action, argument)) = body.and_then(|body| body.iter().next()) else {
        return Err(Refusal::bad_request("Malformed request body"));
    };
    match action.as_str() {
        "evacuate" => evacuate(shared, argument, version, id),
        "os-stop" => power(shared, id, PowerAction::Stop),
        "os-start" => power(shared, id, PowerAction::Start),
        "lock" => lock(shared, id, Some(argument["locked_reason"].as_str().map(str::to_owned))),
        "unlock" => lock(shared, id, None),
        "os-resetState" => reset_state(shared, id, argument),
        other => Err(Refusal::bad_request(format!("There is no such action: {other}"))),
    }
}

fn evacuate(shared: &Arc<Shared>, argument: &Value, version: Microversion, id: ServerId) -> Answer {
    let accepted = {
        let mut world = shared.world();
        let accepted = accept(&mut world, argument, version, id);
        let outcome = match &accepted {
            Ok(migration) => EvacuateOutcome::Accepted(*migration),
            Err(refusal) => EvacuateOutcome::Refused(refusal.status.as_u16()),
        };
        world.evacuate_calls.push(EvacuateCall { when: When::now(), server: id, outcome });
        accepted?
    };
    shared.begin_evacuation(accepted);
    let password = argument["adminPass"].as_str().unwrap_or("simulated").to_owned();
    Ok(Json(json!({"adminPass": password})).into_response())
}

/// Nova's checks, and no more than those: the vm_state, the source service, a named destination. The task_state is
/// **not** checked (nova/compute/api.py since 2022).
fn accept(world: &mut World, argument: &Value, version: Microversion, id: ServerId) -> Result<MigrationId, Refusal> {
    let chosen = schema(argument, version)?;
    let server = world.servers.get(&id).ok_or_else(|| missing(id))?;
    let source = server.host.clone();
    if !matches!(server.vm_state.as_str(), "active" | "stopped" | "error") {
        let text = format!("Cannot 'evacuate' instance {id} while it is in vm_state {}", server.vm_state);
        return Err(Refusal::conflict(text));
    }
    if let Some(host) = &chosen {
        if !world.hosts.contains_key(host) {
            return Err(Refusal::not_found(format!("Compute host {host} not found.")));
        }
        if *host == source {
            return Err(Refusal::bad_request("The target host can't be the same one."));
        }
    }
    if world.is_up(&source, Instant::now()) {
        return Err(Refusal::bad_request(format!("Compute service of {source} is still in use.")));
    }
    let vm_state_before = server.vm_state.clone();
    let created = SystemTime::now();
    let migration = Migration {
        id: MigrationId(world.migrations.len() as u64 + 1),
        uuid: world.fresh_uuid(),
        server: id,
        source,
        dest: None,
        status: "accepted",
        created,
        updated: created,
        chosen,
        sent: None,
        taken: None,
        leave_stopped: version >= 95,
        vm_state_before,
        dest_boot: 0,
    };
    let number = migration.id;
    world.migrations.push(migration);
    world.under_way.insert(number);
    if let Some(server) = world.servers.get_mut(&id) {
        server.migrations.push(number);
    }
    world.set_server(id, None, Some("rebuilding"));
    Ok(number)
}

/// The body: 2.14 dropped `onSharedStorage`, 2.29 added `force`, 2.68 dropped it.
fn schema(argument: &Value, version: Microversion) -> Result<Option<HostName>, Refusal> {
    let object = argument.as_object().ok_or_else(|| Refusal::bad_request("Invalid input for evacuate."))?;
    let mut known = vec!["host", "adminPass"];
    if version < 14 {
        known.push("onSharedStorage");
    }
    if (29..68).contains(&version) {
        known.push("force");
    }
    nova::only_known(object.keys().map(String::as_str), &known)?;
    match object.get("host") {
        None => Ok(None),
        Some(name) => {
            let name = name.as_str().and_then(|name| HostName::new(name).ok());
            name.map(Some).ok_or_else(|| Refusal::bad_request("Invalid input for field/attribute host."))
        }
    }
}

/// Start and stop: accepted if the vm_state allows, and cast to the server's host, dead or alive: what is cast to a dead
/// host is done when it returns.
fn power(shared: &Arc<Shared>, id: ServerId, action: PowerAction) -> Answer {
    let (word, allowed, task_state, cast) = match action {
        PowerAction::Stop => ("stop", &["active", "error"][..], "powering-off", Cast::Stop(id)),
        PowerAction::Start => ("start", &["stopped"][..], "powering-on", Cast::Start(id)),
    };
    let host = {
        let mut world = shared.world();
        let server = world.servers.get(&id).ok_or_else(|| missing(id))?;
        if !allowed.contains(&server.vm_state.as_str()) {
            let text = format!("Cannot '{word}' instance {id} while it is in vm_state {}", server.vm_state);
            return Err(Refusal::conflict(text));
        }
        let host = server.host.clone();
        world.set_server(id, None, Some(task_state));
        world.power_calls.push(PowerCall { when: When::now(), server: id, action });
        host
    };
    shared.cast(&host, cast);
    Ok(StatusCode::ACCEPTED.into_response())
}

fn lock(shared: &Shared, id: ServerId, locked: Option<Option<String>>) -> Answer {
    let mut world = shared.world();
    world.servers.get_mut(&id).ok_or_else(|| missing(id))?.locked = locked;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn reset_state(shared: &Shared, id: ServerId, argument: &Value) -> Answer {
    let state = argument["state"].as_str().filter(|state| matches!(*state, "active" | "error"));
    let state = state.ok_or_else(|| Refusal::bad_request("Invalid input for field/attribute state."))?;
    let mut world = shared.world();
    if !world.servers.contains_key(&id) {
        return Err(missing(id));
    }
    world.set_server(id, Some(state), None);
    Ok(StatusCode::ACCEPTED.into_response())
}
