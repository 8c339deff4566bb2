//! Lists, all pages: what is not in them is believed not to exist.

use std::collections::BTreeMap;

use osauth::ApiVersion;
use rekindle_coordinator::recovery::SelectKeys;
use rekindle_proto::fact::{MigrationKind, NovaError, NovaMigration, NovaServer, Text};
use rekindle_proto::id::{HostName, ServerId};
use serde_json::Value;

use super::wire::{Get, Wire};
use super::{MIGRATIONS, SERVERS, answer};

/// Rows asked for at once: Nova's default maximum (`api.max_limit`); a cloud with less gives less.
const PAGE_ROWS: &str = "1000";

/// Most pages of one list. 1,000 servers on a host are one page; this is room for a host whose migration records were
/// never archived, on a cloud with small pages. A longer list is an error, as half a list would be a lie.
const PAGES_MAX: usize = 100;

/// All servers of a host.
pub(super) async fn servers(wire: &Wire, host: &HostName, keys: &SelectKeys) -> Result<Vec<NovaServer>, NovaError> {
    let query = [("all_tenants", "true"), ("host", host.as_str())];
    let list = List { version: SERVERS, path: &["servers", "detail"], rows: "servers", marker: "id", query: &query };
    let mut found = BTreeMap::new();
    for row in list.read(wire).await? {
        let server = answer::server_row(&row, keys)?;
        // Nova passes over filters that the credentials may not use.
        if server.host.as_ref() == Some(host) {
            found.insert(server.id, server);
        }
    }
    Ok(found.into_values().collect())
}

/// All migration records that name a host at either end (Nova's `host` filter matches source or destination).
pub(super) async fn migrations_at(wire: &Wire, host: &HostName) -> Result<Vec<NovaMigration>, NovaError> {
    let mut found = migrations(wire, &[("host", host.as_str())]).await?;
    found.retain(|migration| migration.source.as_ref() == Some(host) || migration.dest.as_ref() == Some(host));
    Ok(found)
}

/// All migration records of a server.
pub(super) async fn migrations_of(wire: &Wire, server: ServerId) -> Result<Vec<NovaMigration>, NovaError> {
    let id = server.to_string();
    let mut found = migrations(wire, &[("instance_uuid", &id)]).await?;
    found.retain(|migration| migration.server == server);
    Ok(found)
}

/// The same, as Nova writes them.
pub(super) async fn rows_of(wire: &Wire, server: ServerId) -> Result<Vec<Value>, NovaError> {
    let id = server.to_string();
    let query = [("instance_uuid", id.as_str())];
    let list =
        List { version: MIGRATIONS, path: &["os-migrations"], rows: "migrations", marker: "uuid", query: &query };
    list.read(wire).await
}

/// The newest evacuation records, of all hosts: one page (newest first since 2.59).
pub(super) async fn newest_evacuations(wire: &Wire, rows: usize) -> Result<Vec<NovaMigration>, NovaError> {
    let rows = rows.to_string();
    let query = [("migration_type", "evacuation"), ("limit", rows.as_str())];
    let list =
        List { version: MIGRATIONS, path: &["os-migrations"], rows: "migrations", marker: "uuid", query: &query };
    let mut found = Vec::new();
    for row in list.page(wire, &query).await? {
        // Nova passes over filters it does not know.
        found.extend(answer::migration_row(&row)?.filter(|record| record.kind == MigrationKind::Evacuation));
    }
    Ok(found)
}

async fn migrations(wire: &Wire, query: &[(&str, &str)]) -> Result<Vec<NovaMigration>, NovaError> {
    let list = List { version: MIGRATIONS, path: &["os-migrations"], rows: "migrations", marker: "uuid", query };
    let mut found = BTreeMap::new();
    for row in list.read(wire).await? {
        if let Some(migration) = answer::migration_row(&row)? {
            found.insert(migration.id, migration);
        }
    }
    Ok(found.into_values().collect())
}

pub(super) struct List<'a> {
    pub(super) version: ApiVersion,
    pub(super) path: &'a [&'a str],
    /// The key of the rows in an answer.
    pub(super) rows: &'a str,
    /// The key in a row by which the next page begins.
    pub(super) marker: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
}

impl List<'_> {
    /// Reads on until a page brings nothing new. The link to a next page is no guide: Nova leaves hidden migration records
    /// out of a page *after* counting it, and then leaves out the link although there are more.
    pub(super) async fn read(&self, wire: &Wire) -> Result<Vec<Value>, NovaError> {
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = self.query.to_vec();
            query.push(("limit", PAGE_ROWS));
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let before = all.len();
            for row in self.page(wire, &query).await? {
                let Some(id) = row.get(self.marker).and_then(Value::as_str) else {
                    return Err(self.wrong(&format!("a row without {:?}", self.marker)));
                };
                let id = id.to_owned();
                marker = Some(id.clone());
                all.insert(id, row);
            }
            if all.len() == before {
                return Ok(all.into_values().collect());
            }
        }
        Err(self.wrong(&format!("more than {PAGES_MAX} pages; the list was not read to its end")))
    }

    async fn page(&self, wire: &Wire, query: &[(&str, &str)]) -> Result<Vec<Value>, NovaError> {
        let mut body = wire.get(Get { version: self.version, path: self.path, query }).await?;
        match body.get_mut(self.rows).map(Value::take) {
            Some(Value::Array(rows)) => Ok(rows),
            Some(_) | None => Err(self.wrong(&format!("no {:?} in the answer", self.rows))),
        }
    }

    fn wrong(&self, what: &str) -> NovaError {
        NovaError::Malformed(Text::new(format!("{}: {what}", self.path.join("/"))))
    }
}
