//! What is needed beyond the list of servers: from Nova, Glance and Keystone, and only the keys that rules name.

use std::collections::BTreeMap;

use osauth::ApiVersion;
use rekindle_coordinator::io::NovaAnswer;
use rekindle_coordinator::recovery::{Lookup, SelectKeys};
use rekindle_proto::fact::{NovaAggregate, NovaError, Text};
use rekindle_proto::id::{AggregateId, HostName, ServerId};
use serde_json::Value;

use super::wire::{Get, Home, Wire};
use super::{SERVERS, answer, groups};

/// Aggregates. Id, name, hosts and metadata have been there since the first microversion, and so have the actions.
pub(super) const AGGREGATES: ApiVersion = ApiVersion(2, 1);

/// Answers one lookup for the servers of a host.
///
/// # Errors
/// [`NovaError`]; what cannot be read is never told as if it were not there.
pub(super) async fn look(
    wire: &Wire,
    host: &HostName,
    lookup: &Lookup,
    keys: &SelectKeys,
) -> Result<NovaAnswer, NovaError> {
    match lookup {
        Lookup::Image(id) => {
            let found = wire.find(Home::Image, &["images", id.as_str()]).await.map_err(|error| by("Glance", error))?;
            Ok(NovaAnswer::Image(found.map(|image| answer::chosen(image.as_object(), &keys.image))))
        }
        Lookup::Project(id) => {
            let path = ["projects", id.as_str()];
            let found = wire.find(Home::Identity, &path).await.map_err(|error| by("Keystone", error))?;
            let name = |body: Value| match body.pointer("/project/name").and_then(Value::as_str) {
                Some(name) => Ok(Text::new(name)),
                None => Err(NovaError::Malformed(Text::new(format!("Keystone: project {id} without a name")))),
            };
            found.map(name).transpose().map(NovaAnswer::Project)
        }
        Lookup::Aggregates => {
            let body = wire.get(Get { version: AGGREGATES, path: &["os-aggregates"], query: &[] }).await?;
            aggregates(&body, host, keys).map(NovaAnswer::Aggregates)
        }
        Lookup::Group(id) => groups::read(wire, *id).await.map(NovaAnswer::ServerGroup),
        Lookup::Member(id) => server(wire, *id, keys).await,
    }
}

/// Reads one server.
///
/// # Errors
/// [`NovaError`]; a server that cannot be read is never told as if it were deleted.
pub(super) async fn server(wire: &Wire, server: ServerId, keys: &SelectKeys) -> Result<NovaAnswer, NovaError> {
    let id = server.to_string();
    match wire.get(Get { version: SERVERS, path: &["servers", &id], query: &[] }).await {
        Ok(body) => answer::server(&body, keys).map(|server| NovaAnswer::Server(Some(server))),
        Err(NovaError::Refused { status: 404, .. }) => Ok(NovaAnswer::Server(None)),
        Err(error @ (NovaError::Refused { .. } | NovaError::NotSent(_) | NovaError::Unknown(_))) => Err(error),
        Err(error @ NovaError::Malformed(_)) => Err(error),
    }
}

/// The aggregates of a host.
fn aggregates(body: &Value, host: &HostName, keys: &SelectKeys) -> Result<Vec<NovaAggregate>, NovaError> {
    let wrong = |what: &str| NovaError::Malformed(Text::new(format!("os-aggregates: {what}")));
    let rows = body.get("aggregates").and_then(Value::as_array).ok_or_else(|| wrong("no \"aggregates\""))?;
    let mut found = Vec::new();
    for row in rows {
        let id = row.get("id").and_then(Value::as_u64).ok_or_else(|| wrong("a row without an id"))?;
        let name = row.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a row without a name"))?;
        if has_host(row, host).ok_or_else(|| wrong("a row without hosts"))? {
            let metadata: BTreeMap<String, Text> =
                answer::chosen(row.get("metadata").and_then(Value::as_object), &keys.aggregate);
            found.push(NovaAggregate { id: AggregateId(id), name: Text::new(name), metadata });
        }
    }
    Ok(found)
}

/// Whether a host is in an aggregate; `None`: Nova does not say.
pub(super) fn has_host(aggregate: &Value, host: &HostName) -> Option<bool> {
    let hosts = aggregate.get("hosts").and_then(Value::as_array)?;
    Some(hosts.iter().any(|other| other.as_str() == Some(host.as_str())))
}

/// Says whose answer it was: errors are told as Nova's otherwise.
fn by(service: &str, error: NovaError) -> NovaError {
    let named = |text: Text| Text::new(format!("{service}: {text}"));
    match error {
        NovaError::NotSent(text) => NovaError::NotSent(named(text)),
        NovaError::Refused { status, text } => NovaError::Refused { status, text: named(text) },
        NovaError::Unknown(text) => NovaError::Unknown(named(text)),
        NovaError::Malformed(text) => NovaError::Malformed(named(text)),
    }
}
