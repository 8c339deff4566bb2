//! `os-migrations` (nova/api/openstack/compute/migrations.py).

use axum::Json;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Shared;
use super::http::Call;
use super::nova::{self, Answer, Microversion};
use super::world::{Migration, World};

/// From this version on: uuids, paging, newest first, a strict query.
const PAGED: Microversion = 59;
/// From this version on: user and project.
const PROJECTS: Microversion = 80;

const PARAMETERS: [&str; 13] = [
    "hidden",
    "host",
    "status",
    "source_compute",
    "migration_type",
    "instance_uuid",
    "limit",
    "marker",
    "changes-since",
    "changes-before",
    "user_id",
    "project_id",
    "sort_dir",
];

/// `GET /os-migrations`. `host` matches either end.
pub(super) fn list(shared: &Shared, call: &Call, version: Microversion) -> Answer {
    if version >= PAGED {
        nova::only_known(call.query.iter().map(|(name, _)| name.as_str()), &PARAMETERS)?;
    }
    let world = shared.world();
    let matches = |migration: &Migration| {
        let same = |name: &str, value: &str| call.parameter(name).is_none_or(|wanted| wanted == value);
        let either = |wanted: &str| {
            migration.source.as_str() == wanted || migration.dest.as_ref().is_some_and(|dest| dest.as_str() == wanted)
        };
        same("status", migration.status)
            && same("migration_type", "evacuation")
            && same("source_compute", migration.source.as_str())
            && same("instance_uuid", &migration.server.to_string())
            && call.parameter("host").is_none_or(either)
    };
    let mut all = world.migrations.clone();
    let (items, next) = if version >= PAGED {
        all.reverse();
        let url = format!("{}/os-migrations", shared.compute_url());
        let id = |migration: &Migration| migration.uuid.to_string();
        let page = nova::page(call, &url, world.settings.page_limit, &all, id, matches)?;
        (page.items, page.next)
    } else {
        all.retain(matches);
        (all, None)
    };
    let shown: Vec<Value> = items.iter().map(|migration| document(&world, version, migration)).collect();
    let mut body = json!({"migrations": shown});
    nova::links(&mut body, "migrations_links", next);
    Ok(Json(body).into_response())
}

fn document(world: &World, version: Microversion, migration: &Migration) -> Value {
    let mut document = json!({
        "id": migration.id,
        "status": migration.status,
        "instance_uuid": migration.server,
        "source_compute": migration.source,
        "source_node": migration.source,
        "dest_compute": migration.dest,
        "dest_node": migration.dest,
        "dest_host": migration.dest.as_ref().map(|_| "127.0.0.1"),
        "old_instance_type_id": 1,
        "new_instance_type_id": 1,
        "created_at": nova::bare_time(migration.created),
        "updated_at": nova::bare_time(migration.updated),
    });
    if version >= 23 {
        document["migration_type"] = json!("evacuation");
    }
    if version >= PAGED {
        document["uuid"] = json!(migration.uuid);
    }
    if version >= PROJECTS {
        document["user_id"] = json!(world.tokens.user_id);
        document["project_id"] = json!(world.tokens.project_id);
    }
    document
}
