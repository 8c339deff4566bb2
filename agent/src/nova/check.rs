//! What `rekindled --check` can try without changing anything.

use osauth::ApiVersion;
use rekindle_coordinator::recovery::SelectKeys;
use rekindle_proto::fact::{NovaError, Text};
use serde_json::Value;

use super::wire::{Get, Wire};
use super::{MIGRATIONS, SERVERS, SERVICES, answer};

/// Hosts named in full before "and n more".
const NAMES_MAX: usize = 8;

/// Every read recovery rests on, as an administrator, in words.
pub(super) async fn check(wire: &Wire) -> Result<String, NovaError> {
    let mut words = vec![wire.introduction().await?];
    let query = [("binary", "nova-compute")];
    let body = tried(wire, SERVICES, &["os-services"], &query, "compute services").await?;
    let services = answer::services(&body)?;
    if services.is_empty() {
        return Err(NovaError::Malformed(Text::from("Nova lists no compute service: is this the right region?")));
    }
    let up = services.iter().filter(|service| service.up).count();
    let names: Vec<&str> = services.iter().take(NAMES_MAX).map(|service| service.host.as_str()).collect();
    let more = services.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    words.push(format!("{} compute services, {up} up: {}{more}", services.len(), names.join(", ")));
    let forced: Vec<&str> = services.iter().filter(|service| service.forced_down).map(|s| s.host.as_str()).collect();
    if !forced.is_empty() {
        words.push(format!("forced down: {}", forced.join(", ")));
    }
    tried(wire, MIGRATIONS, &["os-migrations"], &[("limit", "1")], "migration records").await?;
    let query = [("all_tenants", "true"), ("limit", "1")];
    let body = tried(wire, SERVERS, &["servers", "detail"], &query, "servers of all projects").await?;
    if let Some(row) = body.get("servers").and_then(Value::as_array).and_then(|rows| rows.first()) {
        answer::server_row(row, &SelectKeys::default())?;
    }
    words.push("may read services, servers of all projects and their hosts, and migration records".to_owned());
    words.push(match super::placement::check(wire).await {
        Ok(words) => words,
        // Nothing rests on it.
        Err(error) => format!("`rekindle capacity` has no answer here: {error}"),
    });
    words.push("force-down and evacuate cannot be tried without doing them; by default Nova grants them to whoever may read these".to_owned());
    Ok(words.join("; "))
}

async fn tried(
    wire: &Wire,
    version: ApiVersion,
    path: &[&str],
    query: &[(&str, &str)],
    what: &str,
) -> Result<Value, NovaError> {
    wire.get(Get { version, path, query }).await.map_err(|error| match error {
        NovaError::Refused { status: 403, text } => NovaError::Refused {
            status: 403,
            text: Text::new(format!("our credentials may not read {what}; give them the admin role ({text})")),
        },
        NovaError::Refused { status: 406, text } => NovaError::Refused {
            status: 406,
            text: Text::new(format!("this Nova is older than microversion {version}, which {what} need ({text})")),
        },
        NovaError::Refused { .. } | NovaError::NotSent(_) | NovaError::Unknown(_) | NovaError::Malformed(_) => error,
    })
}
