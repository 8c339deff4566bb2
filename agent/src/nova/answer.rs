//! Nova's JSON as our words. Fields we do not know are passed over, words we do not know never fail a list; what would
//! make us believe something that Nova did not say does.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::recovery::SelectKeys;
use rekindle_proto::fact::{
    MigrationKind, MigrationStatus, NovaError, NovaMigration, NovaServer, NovaService, ServerStanding, ServerTraits,
    Text,
};
use rekindle_proto::id::{HostName, MigrationId, ServerId, ServiceId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::groups;
use super::wire::Home;

/// Longest excerpt of an answer that is not Nova's (a proxy's error page), in characters.
const EXCERPT_CHARS_MAX: usize = 160;

#[derive(Deserialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    id: ServiceId,
    host: String,
    binary: String,
    state: String,
    status: String,
    #[serde(default)]
    forced_down: bool,
    updated_at: Option<String>,
    #[serde(default)]
    disabled_reason: Option<String>,
}

#[derive(Deserialize)]
struct Server {
    id: ServerId,
    #[serde(default)]
    name: String,
    status: Option<String>,
    /// Absent (not null): Nova would not tell us.
    #[serde(rename = "OS-EXT-SRV-ATTR:host", default, deserialize_with = "present")]
    host: Option<Option<String>>,
    #[serde(rename = "OS-EXT-STS:vm_state")]
    vm_state: Option<String>,
    #[serde(rename = "OS-EXT-STS:task_state")]
    task_state: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(rename = "OS-EXT-STS:power_state")]
    power_state: Option<u8>,
    #[serde(default)]
    locked: bool,
    locked_reason: Option<String>,
    tenant_id: Option<String>,
    /// An object with an id; an empty word for a server that boots from a volume.
    image: Option<Value>,
    flavor: Option<Flavor>,
    server_groups: Option<Value>,
}

#[derive(Deserialize)]
struct Flavor {
    original_name: Option<String>,
    /// Left out for those who may not see them.
    extra_specs: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Migration {
    id: u64,
    instance_uuid: Option<ServerId>,
    migration_type: Option<String>,
    status: Option<String>,
    source_compute: Option<String>,
    dest_compute: Option<String>,
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// The compute service of that host among those in the answer.
pub(super) fn service_of(body: &Value, host: &HostName) -> Result<Option<NovaService>, NovaError> {
    let mut found = None;
    for service in services(body)? {
        if service.host != *host {
            continue;
        }
        if found.is_some() {
            return Err(malformed(format!(
                "Nova has two compute services of host {host}: tell which is right by deleting the other"
            )));
        }
        found = Some(service);
    }
    Ok(found)
}

/// All compute services in the answer.
pub(super) fn services(body: &Value) -> Result<Vec<NovaService>, NovaError> {
    let answer: Services = parse(body)?;
    answer
        .services
        .into_iter()
        .filter(|service| service.binary == "nova-compute")
        .map(|service| {
            Ok(NovaService {
                id: service.id,
                host: host_name(&service.host)?,
                up: service.state.eq_ignore_ascii_case("up") && !service.forced_down,
                enabled: service.status.eq_ignore_ascii_case("enabled"),
                forced_down: service.forced_down,
                heartbeat: service.updated_at.map(Text::new),
                disabled_reason: service.disabled_reason.filter(|why| !why.is_empty()).map(Text::new),
            })
        })
        .collect()
}

/// `{"server": {…}}`.
pub(super) fn server(body: &Value, keys: &SelectKeys) -> Result<NovaServer, NovaError> {
    server_row(body.get("server").unwrap_or(&Value::Null), keys)
}

/// One row of a list, or the inside of a single answer.
pub(super) fn server_row(row: &Value, keys: &SelectKeys) -> Result<NovaServer, NovaError> {
    let server: Server = parse(row)?;
    let id = server.id;
    // A server of an unreachable cell comes with its id and little else.
    let (Some(host), Some(vm_state)) = (server.host, server.vm_state) else {
        let status = server.status.unwrap_or_default();
        return Err(malformed(format!(
            "Nova does not tell host and state of server {id} (status {status:?}): its cell cannot be reached, or our credentials may not see them (OS-EXT-SRV-ATTR is for administrators)"
        )));
    };
    let ours = server.metadata.keys().filter(|key| key.starts_with("rekindle:"));
    let metadata: BTreeSet<String> = ours.chain(&keys.metadata).cloned().collect();
    let image = server.image.as_ref().and_then(|image| {
        let id = image.as_str().filter(|word| word.is_empty()).or_else(|| image.get("id")?.as_str());
        id.map(Text::new)
    });
    let specs = server.flavor.as_ref().and_then(|flavor| flavor.extra_specs.as_ref());
    let traits = ServerTraits {
        project: server.tenant_id.map(Text::new),
        image,
        extra_specs: specs.map(|specs| chosen(Some(specs), &keys.extra_specs)),
        flavor: server.flavor.and_then(|flavor| flavor.original_name).map(Text::new),
        groups: groups::of_server(server.server_groups.as_ref()),
    };
    Ok(NovaServer {
        id,
        name: Text::new(server.name),
        host: host.filter(|host| !host.is_empty()).map(|host| host_name(&host)).transpose()?,
        vm_state: Text::new(vm_state.to_lowercase()),
        task_state: server.task_state.filter(|state| !state.is_empty()).map(|state| Text::new(state.to_lowercase())),
        metadata: chosen(Some(&server.metadata), &metadata),
        traits,
        standing: ServerStanding {
            power_state: server.power_state,
            locked: server.locked,
            lock_reason: server.locked_reason.map(Text::new),
        },
    })
}

/// Those keys of an object, as words.
pub(super) fn chosen(all: Option<&Map<String, Value>>, keys: &BTreeSet<String>) -> BTreeMap<String, Text> {
    let word = |key: &String| Some((key.clone(), Text::new(plain(all?.get(key)?))));
    keys.iter().filter_map(word).collect()
}

/// One row of `os-migrations`. `None`: a record without a server, which concerns nobody.
pub(super) fn migration_row(row: &Value) -> Result<Option<NovaMigration>, NovaError> {
    let migration: Migration = parse(row)?;
    let Some(server) = migration.instance_uuid else {
        tracing::warn!(migration = migration.id, "a migration record without a server was passed over");
        return Ok(None);
    };
    let status = migration.status.unwrap_or_default();
    let host = |host: Option<String>| host.filter(|host| !host.is_empty()).map(|host| host_name(&host)).transpose();
    Ok(Some(NovaMigration {
        id: MigrationId(migration.id),
        server,
        kind: migration_kind(migration.migration_type.as_deref().unwrap_or_default()),
        status: migration_status(&status),
        status_text: Text::new(status),
        source: host(migration.source_compute)?,
        dest: host(migration.dest_compute)?,
    }))
}

fn migration_kind(word: &str) -> MigrationKind {
    match word {
        "evacuation" => MigrationKind::Evacuation,
        "live-migration" => MigrationKind::LiveMigration,
        "migration" | "resize" => MigrationKind::Cold,
        _ => MigrationKind::Other,
    }
}

/// An unknown word is *under way*: the one reading under which nobody begins a second move.
fn migration_status(word: &str) -> MigrationStatus {
    match word.to_lowercase().as_str() {
        "done" | "finished" | "confirmed" | "reverted" => MigrationStatus::Done,
        "completed" => MigrationStatus::Completed,
        "failed" | "error" | "cancelled" => MigrationStatus::Failed,
        _ => MigrationStatus::UnderWay,
    }
}

/// Whether this is an error of Nova's own (`{"conflictingRequest": {"code": 409, "message": …}}`, or `{"errors": […]}`
/// from its version check) and not of a gateway before it. "Not found" must say that it is the item.
pub(super) fn is_fault(json: &Value, status: u16) -> bool {
    let Some(object) = json.as_object() else { return false };
    let fault = object.values().any(|fault| fault.get("message").is_some_and(Value::is_string));
    let versions = object.get("errors").is_some_and(Value::is_array);
    if status == 404 { object.contains_key("itemNotFound") } else { fault || versions }
}

/// Whether a 404 is that service's own, and not of a gateway before it. Glance's is webob's, in JSON or else as a page.
pub(super) fn is_none_such(body: &[u8], home: Home) -> bool {
    let json = serde_json::from_slice::<Value>(body).ok();
    let json = json.as_ref();
    match home {
        Home::Image => {
            let code = json.and_then(|json| json.get("code")).and_then(Value::as_str);
            code.is_some_and(|code| code.starts_with("404")) || words(body).contains("No image found with ID")
        }
        Home::Identity => json.and_then(|json| json.pointer("/error/code")).and_then(Value::as_u64) == Some(404),
    }
}

/// What an answer says, for people: the message of a fault, else the beginning of the text without its markup.
pub(super) fn words(body: &[u8]) -> String {
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let inner = json.as_object().and_then(|object| object.values().find_map(|fault| fault.get("message")));
        if let Some(message) = inner.or_else(|| json.get("message")).and_then(Value::as_str) {
            return message.to_owned();
        }
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(64 * EXCERPT_CHARS_MAX)]);
    let mut plain = String::new();
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' => in_tag = false,
            _ if in_tag => continue,
            _ if c.is_whitespace() || c.is_control() => {}
            _ => {
                plain.push(c);
                continue;
            }
        }
        if !plain.is_empty() && !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    let excerpt: String = plain.trim().chars().take(EXCERPT_CHARS_MAX).collect();
    if excerpt.is_empty() { "no text".to_owned() } else { excerpt }
}

fn host_name(name: &str) -> Result<HostName, NovaError> {
    HostName::new(name).map_err(|error| malformed(format!("Nova names a host {name:?}: {error}")))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, NovaError> {
    T::deserialize(value).map_err(|error| malformed(format!("not as Nova's API reference has it: {error}")))
}

fn malformed(text: String) -> NovaError {
    NovaError::Malformed(Text::new(text))
}

#[cfg(test)]
mod tests {
    use rekindle_coordinator::recovery::SelectPolicy;
    use serde_json::json;

    use super::*;

    const ID: &str = "5f0b8f4e-6f6b-4a3c-9d4b-000000000001";

    fn row(host: Value) -> Value {
        json!({ "id": ID, "name": "web", "status": "ACTIVE", "OS-EXT-SRV-ATTR:host": host, "OS-EXT-STS:vm_state": "Active",
            "OS-EXT-STS:task_state": null, "metadata": { "HA_Enabled": "True", "rekindle:priority": "1", "colour": "blue" }, "new": [1] })
    }

    #[test]
    fn a_server_is_read_and_foreign_metadata_left_out() {
        let keys = SelectPolicy::default().keys();
        let server = server_row(&row(json!("cmp-1")), &keys).expect("read");
        assert_eq!(server.vm_state.as_str(), "active");
        assert_eq!(server.metadata.keys().collect::<Vec<_>>(), ["HA_Enabled", "rekindle:priority"]);
        assert_eq!(server_row(&row(Value::Null), &keys).expect("shelved").host, None);
        assert_eq!(server.standing, ServerStanding::default());
        let mut locked = row(json!("cmp-1"));
        locked["OS-EXT-STS:power_state"] = json!(1);
        locked["locked"] = json!(true);
        locked["locked_reason"] = json!("mine");
        let standing = server_row(&locked, &keys).expect("read").standing;
        assert_eq!((standing.power_state, standing.locked), (Some(1), true));
        assert_eq!(standing.lock_reason, Some("mine".into()));
    }

    #[test]
    fn what_rules_look_at_is_read_and_what_is_missing_is_not_made_up() {
        let keys = SelectKeys { extra_specs: ["evacuable".to_owned()].into(), ..SelectKeys::default() };
        let with = |flavor: Value, image: Value| {
            let mut row = row(json!("cmp-1"));
            row["tenant_id"] = json!("p1");
            row["flavor"] = flavor;
            row["image"] = image;
            server_row(&row, &keys).expect("read").traits
        };
        let specs =
            json!({ "original_name": "m1.tiny", "extra_specs": { "evacuable": "true", "hw:cpu_policy": "shared" } });
        let traits = with(specs, json!({ "id": "i1", "links": [] }));
        assert_eq!((traits.project, traits.flavor), (Some("p1".into()), Some("m1.tiny".into())));
        assert_eq!(traits.image, Some("i1".into()));
        assert_eq!(traits.extra_specs, Some([("evacuable".to_owned(), Text::from("true"))].into()));
        // A volume-booted server, and a caller who may not see extra specs.
        let traits = with(json!({ "original_name": "m1.tiny" }), json!(""));
        assert_eq!((traits.image, traits.extra_specs), (Some("".into()), None));
        assert_eq!(server_row(&row(json!("cmp-1")), &keys).expect("read").traits, ServerTraits::default());
    }

    #[test]
    fn what_nova_does_not_tell_is_never_read_as_nowhere() {
        let mut hidden = row(json!("cmp-1"));
        hidden.as_object_mut().expect("object").remove("OS-EXT-SRV-ATTR:host");
        let keys = SelectKeys::default();
        let said = server_row(&hidden, &keys).expect_err("hidden").to_string();
        assert!(said.contains(ID) && said.contains("credentials"), "{said}");
        let said = server_row(&row(json!("cmp 1")), &keys).expect_err("refused").to_string();
        assert!(said.contains("\"cmp 1\""), "{said}");
    }

    #[test]
    fn unknown_words_do_not_fail_a_list_and_count_as_under_way() {
        let migration =
            migration_row(&json!({ "id": 7, "instance_uuid": ID, "migration_type": "teleport", "status": "folding",
            "source_compute": "cmp-1", "dest_compute": null }))
            .expect("read")
            .expect("a server's");
        assert_eq!((migration.kind, migration.status), (MigrationKind::Other, MigrationStatus::UnderWay));
        assert_eq!(migration.status_text.as_str(), "folding");
        for (word, is) in [
            ("accepted", MigrationStatus::UnderWay),
            ("pre-migrating", MigrationStatus::UnderWay),
            ("done", MigrationStatus::Done),
            ("completed", MigrationStatus::Completed),
            ("failed", MigrationStatus::Failed),
            ("error", MigrationStatus::Failed),
        ] {
            assert_eq!(migration_status(word), is, "{word}");
        }
    }

    #[test]
    fn only_novas_own_faults_are_believed() {
        assert!(is_fault(&json!({ "conflictingRequest": { "code": 409, "message": "x" } }), 409));
        assert!(is_fault(&json!({ "itemNotFound": { "code": 404, "message": "x" } }), 404));
        assert!(!is_fault(&json!({ "message": "no Route matched with those values" }), 404));
        assert!(!is_fault(&json!({ "error": { "message": "not here" } }), 404));
        assert!(!is_fault(&json!("text"), 400));
    }

    #[test]
    fn an_error_page_is_told_without_its_markup() {
        assert_eq!(words(b"<html><body><h1>503 Service\n Unavailable</h1></body></html>"), "503 Service Unavailable");
        assert_eq!(words(br#"{"badRequest": {"code": 400, "message": "still in use."}}"#), "still in use.");
        assert_eq!(words(b""), "no text");
    }
}
