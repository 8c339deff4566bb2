//! `os-services` (nova/api/openstack/compute/services.py).

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::IntoResponse;
use rekindle_proto::id::HostName;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Shared;
use super::http::Call;
use super::nova::{self, Answer, Microversion, Refusal};
use super::world::World;

/// From this version on ids are UUIDs and one PUT changes everything.
const UUIDS: Microversion = 53;

/// The services of the control plane; they are in every real listing, and no compute is among them.
const CONTROLLER: &str = "controller";
const CONTROL_PLANE: [(&str, u64, Uuid); 2] = [
    ("nova-scheduler", 1, Uuid::from_u128(0x5c4e_d01e_0000_4000_8000_0000_0000_0001)),
    ("nova-conductor", 2, Uuid::from_u128(0xc04d_0c70_0000_4000_8000_0000_0000_0002)),
];

/// `GET /os-services?host=&binary=`.
pub(super) fn list(shared: &Shared, call: &Call, version: Microversion) -> Answer {
    if version >= 75 {
        nova::only_known(call.query.iter().map(|(name, _)| name.as_str()), &["host", "binary"])?;
    }
    let wanted = |binary: &str, host: &str| {
        call.parameter("binary").is_none_or(|wanted| wanted == binary)
            && call.parameter("host").is_none_or(|wanted| wanted == host)
    };
    let world = shared.world();
    let mut found = Vec::new();
    for (binary, number, id) in CONTROL_PLANE {
        if wanted(binary, CONTROLLER) {
            found.push(json!({
                "id": shown_id(version, number, id), "binary": binary, "host": CONTROLLER, "zone": "internal",
                "status": "enabled", "state": "up", "disabled_reason": null, "forced_down": false,
                "updated_at": nova::bare_time(shared.wall(Instant::now())),
            }));
        }
    }
    for name in world.hosts.keys().filter(|name| wanted("nova-compute", name.as_str())) {
        found.extend(document(shared, &world, version, name));
    }
    Ok(Json(json!({"services": found})).into_response())
}

fn shown_id(version: Microversion, number: u64, id: Uuid) -> Value {
    if version >= UUIDS { json!(id) } else { json!(number) }
}

fn document(shared: &Shared, world: &World, version: Microversion, name: &HostName) -> Option<Value> {
    let (host, now) = (world.hosts.get(name)?, Instant::now());
    let mut document = json!({
        "id": shown_id(version, host.number, host.service),
        "binary": "nova-compute",
        "host": name,
        "zone": "nova",
        "status": if host.disabled { "disabled" } else { "enabled" },
        "state": if world.is_up(name, now) { "up" } else { "down" },
        "updated_at": nova::bare_time(shared.wall(host.last_seen(now, world.settings.report_every))),
        "disabled_reason": host.disabled_reason,
    });
    if version >= 11 {
        document["forced_down"] = json!(host.forced_down);
    }
    Some(document)
}

/// What a PUT asks for.
struct Update<'a> {
    forced_down: Option<bool>,
    disabled: Option<bool>,
    reason: Option<&'a str>,
}

fn parse(body: &Value) -> Result<Update<'_>, Refusal> {
    let object = body.as_object().ok_or_else(|| Refusal::bad_request("None is not of type 'object'"))?;
    nova::only_known(object.keys().map(String::as_str), &["status", "disabled_reason", "forced_down"])?;
    let disabled = match object.get("status").map(Value::as_str) {
        None => None,
        Some(Some("enabled")) => Some(false),
        Some(Some("disabled")) => Some(true),
        Some(_) => return Err(Refusal::bad_request("Invalid input for field/attribute status.")),
    };
    let forced_down = match object.get("forced_down") {
        None => None,
        Some(value) => {
            let invalid = || Refusal::bad_request("Invalid input for field/attribute forced_down.");
            Some(value.as_bool().ok_or_else(invalid)?)
        }
    };
    let reason = object.get("disabled_reason").and_then(Value::as_str);
    if reason.is_some() && disabled != Some(true) {
        let text = "Specifying disabled_reason requires that status is disabled.";
        return Err(Refusal::bad_request(text));
    }
    if forced_down.is_none() && disabled.is_none() {
        let text = "No updates were requested. Fields 'status' or 'forced_down' should be specified.";
        return Err(Refusal::bad_request(text));
    }
    Ok(Update { forced_down, disabled, reason })
}

/// `PUT /os-services/{id}`. Enabling or disabling calls the compute if Nova holds it for up: on a host that just died
/// that call waits for `rpc_response_timeout`, and then the PUT succeeds all the same.
pub(super) async fn update(shared: &Arc<Shared>, call: &Call, version: Microversion, id: &str) -> Answer {
    if version < UUIDS {
        return Err(Refusal::not_found("The resource could not be found."));
    }
    let uuid = Uuid::parse_str(id).map_err(|_| Refusal::bad_request("Invalid uuid"))?;
    let update = parse(&call.body)?;
    let (name, wait) = {
        let mut world = shared.world();
        let found = world.hosts.iter().find(|(_, host)| host.service == uuid).map(|(name, _)| name.clone());
        let name = found.ok_or_else(|| Refusal::not_found(format!("Service {uuid} could not be found.")))?;
        let wait = change(&mut world, &name, &update)?;
        (name, wait)
    };
    if let Some(wait) = wait {
        tokio::time::sleep(wait).await;
    }
    let document = document(shared, &shared.world(), version, &name);
    Ok(Json(json!({"service": document})).into_response())
}

fn change(world: &mut World, name: &HostName, update: &Update<'_>) -> Result<Option<std::time::Duration>, Refusal> {
    let unsettled = world.migrations.iter().any(|it| it.source == *name && it.status == "done");
    let Some(host) = world.hosts.get_mut(name) else {
        return Err(Refusal::not_found(format!("Compute host {name} could not be found.")));
    };
    if update.forced_down == Some(false) && host.forced_down && unsettled {
        return Err(Refusal::bad_request(format!(
            "Unable to force up host {name} as `done` evacuation migration records remain associated with the host. \
             Ensure the compute service has been restarted, allowing these records to move to `completed` before \
             retrying this request."
        )));
    }
    host.forced_down = update.forced_down.unwrap_or(host.forced_down);
    let turned = update.disabled.is_some_and(|disabled| disabled != host.disabled);
    if let Some(disabled) = update.disabled {
        host.disabled = disabled;
        host.disabled_reason = update.reason.map(str::to_owned);
    }
    let deaf = !host.works();
    let blocks = turned && deaf && world.is_up(name, Instant::now());
    Ok(blocks.then_some(world.settings.rpc_timeout))
}
