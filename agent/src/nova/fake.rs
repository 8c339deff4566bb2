//! A small Keystone and Nova on a socket, for the adapter's own tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rekindle_coordinator::recovery::SelectKeys;
use rekindle_proto::id::ServerId;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{Nova, NovaSettings};

/// The password in its `clouds.yaml`.
pub(super) const PASSWORD: &str = "Kst-Pa55w0rd";

/// Its only hypervisor.
pub(super) const HOST: &str = "cmp-1";

/// What the fake does with an act.
#[derive(Clone)]
pub(super) enum Act {
    Accept,
    Answer(u16, &'static str, &'static str),
    Hang,
}

/// A small Keystone and Nova on a socket.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    /// `METHOD path` of everything that came, with its headers and body.
    seen: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    tokens: Mutex<u32>,
    /// The first token Nova takes.
    pub(super) valid_from: Mutex<u32>,
    pub(super) keystone_delay: Mutex<Duration>,
    pub(super) keystone_refuses: Mutex<bool>,
    act: Mutex<Act>,
    pub(super) servers: Mutex<Vec<ServerId>>,
    /// Ids of migrations, oldest first; every third is hidden.
    pub(super) migrations: Mutex<u64>,
    forced: Mutex<bool>,
    pub(super) regions: Mutex<BTreeMap<String, String>>,
    /// What the adapter under test is to look at.
    pub(super) keys: Mutex<SelectKeys>,
    /// What Glance and Keystone answer to a lookup, by path.
    pub(super) others: Mutex<BTreeMap<String, (u16, Value)>>,
}

impl Fake {
    pub(super) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("socket");
        let address = listener.local_addr().expect("address");
        let fake = Arc::new(Self {
            address,
            seen: Mutex::default(),
            tokens: Mutex::default(),
            valid_from: Mutex::new(1),
            keystone_delay: Mutex::default(),
            keystone_refuses: Mutex::default(),
            act: Mutex::new(Act::Accept),
            servers: Mutex::default(),
            migrations: Mutex::default(),
            forced: Mutex::default(),
            regions: Mutex::new(BTreeMap::from([("one".to_owned(), format!("http://{address}/compute/v2.1"))])),
            keys: Mutex::default(),
            others: Mutex::default(),
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, app).await });
        fake
    }

    /// A Nova under test. `more`: further lines of its cloud.
    pub(super) fn nova(&self, timeout: Duration, more: &str) -> Nova {
        let dir = tempfile::tempdir().expect("dir");
        let settings = self.settings(&dir, timeout, more);
        Nova::open(settings).expect("opens")
    }

    fn settings(&self, dir: &TempDir, timeout: Duration, more: &str) -> NovaSettings {
        let clouds_file = dir.path().join("clouds.yaml");
        let text = format!(
            "clouds:\n  c:\n    auth:\n      auth_url: http://{}\n      username: rekindle\n      password: {PASSWORD}\n      user_domain_id: default\n      project_name: service\n      project_domain_name: Default\n{more}",
            self.address
        );
        std::fs::write(&clouds_file, text).expect("written");
        let keys = self.keys.lock().expect("lock").clone();
        NovaSettings { clouds_file, cloud: "c".to_owned(), timeout, keys }
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.seen.lock().expect("lock").iter().filter(|(line, ..)| line.starts_with(what)).count()
    }

    pub(super) fn last(&self, what: &str) -> (HeaderMap, Bytes) {
        let seen = self.seen.lock().expect("lock");
        let (_, headers, body) = seen.iter().rev().find(|(line, ..)| line.starts_with(what)).expect("it came");
        (headers.clone(), body.clone())
    }

    pub(super) fn set_act(&self, act: Act) {
        *self.act.lock().expect("lock") = act;
    }
}

async fn answer(State(fake): State<Arc<Fake>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("body");
    let path = parts.uri.path().to_owned();
    let line = format!("{} {path}", parts.method);
    fake.seen.lock().expect("lock").push((line.clone(), parts.headers.clone(), body.clone()));
    if line == "POST /v3/auth/tokens" {
        return token(&fake).await;
    }
    let token = parts.headers.get("x-auth-token").and_then(|token| token.to_str().ok()?.parse::<u32>().ok());
    if token.is_none_or(|token| token < *fake.valid_from.lock().expect("lock")) {
        return (StatusCode::UNAUTHORIZED, "Authentication required").into_response();
    }
    let query = Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri).expect("query").0;
    if let Some((status, body)) = fake.others.lock().expect("lock").get(&path) {
        return (StatusCode::from_u16(*status).expect("status"), axum::Json(body.clone())).into_response();
    }
    let Some(path) = path.strip_prefix("/compute/v2.1") else { return StatusCode::NOT_FOUND.into_response() };
    match (parts.method.as_str(), path) {
        ("GET", "/os-services") => axum::Json(json!({ "services": [service(&fake)] })).into_response(),
        ("GET", "/servers/detail") => axum::Json(servers(&fake, &query)).into_response(),
        ("GET", "/os-migrations") => axum::Json(migrations(&fake, &query)).into_response(),
        ("GET", _) => fault(404, "itemNotFound", "gone"),
        (_, path) => {
            let act = fake.act.lock().expect("lock").clone();
            match act {
                Act::Accept if path.starts_with("/os-services/") => {
                    *fake.forced.lock().expect("lock") = true;
                    axum::Json(json!({ "service": service(&fake) })).into_response()
                }
                Act::Accept if body.starts_with(b"{\"evacuate\"") => {
                    axum::Json(json!({ "adminPass": "x" })).into_response()
                }
                Act::Accept => StatusCode::ACCEPTED.into_response(),
                Act::Answer(status, kind, text) => (
                    StatusCode::from_u16(status).expect("status"),
                    [("content-type", kind), ("location", "/elsewhere")],
                    text,
                )
                    .into_response(),
                Act::Hang => std::future::pending().await,
            }
        }
    }
}

async fn token(fake: &Fake) -> Response {
    let delay = *fake.keystone_delay.lock().expect("lock");
    tokio::time::sleep(delay).await;
    if *fake.keystone_refuses.lock().expect("lock") {
        let body = json!({ "error": { "code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication." } });
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    let mut tokens = fake.tokens.lock().expect("lock");
    *tokens += 1;
    let elsewhere = |service: &str| {
        let url = format!("http://{}/{service}", fake.address);
        json!({ "type": service, "endpoints": [{ "interface": "public", "region": "one", "url": url }] })
    };
    let mut endpoints = Vec::new();
    for (region, url) in &*fake.regions.lock().expect("lock") {
        endpoints.push(json!({ "interface": "public", "region": region, "url": url }));
        endpoints.push(json!({ "interface": "internal", "region": region, "url": format!("{url}-internal") }));
    }
    let body = json!({ "token": {
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T01:00:00.000000Z",
        "user": { "name": "rekindle" }, "project": { "name": "service" }, "roles": [{ "name": "admin" }],
        "catalog": [{ "type": "compute", "name": "nova", "endpoints": endpoints }, elsewhere("image"), elsewhere("identity"), elsewhere("instance-ha"), elsewhere("placement")] } });
    (StatusCode::CREATED, [("x-subject-token", tokens.to_string())], axum::Json(body)).into_response()
}

fn service(fake: &Fake) -> Value {
    let forced = *fake.forced.lock().expect("lock");
    json!({ "id": "5f0b8f4e-6f6b-4a3c-9d4b-00000000000a", "binary": "nova-compute", "host": HOST, "state": "up", "status": "enabled",
        "forced_down": forced, "updated_at": "2026-01-01T00:00:00.000000", "zone": "nova", "disabled_reason": null })
}

/// A page after the marker, of at most `cap` rows.
fn page<T>(all: Vec<T>, id: impl Fn(&T) -> String, query: &BTreeMap<String, String>, cap: usize) -> Vec<T> {
    let limit = query.get("limit").map_or(cap, |limit| limit.parse::<usize>().expect("limit").min(cap));
    let after =
        query.get("marker").map_or(0, |marker| all.iter().position(|row| id(row) == *marker).expect("marker") + 1);
    all.into_iter().skip(after).take(limit).collect()
}

fn servers(fake: &Fake, query: &BTreeMap<String, String>) -> Value {
    assert_eq!(query["all_tenants"], "true");
    assert!(query.get("host").is_none_or(|host| host == HOST));
    let all = fake.servers.lock().expect("lock").clone();
    let rows: Vec<Value> = page(all, ToString::to_string, query, 1000)
        .into_iter()
        .map(|id| json!({ "id": id, "name": "s", "OS-EXT-SRV-ATTR:host": HOST, "OS-EXT-STS:vm_state": "active" }))
        .collect();
    json!({ "servers": rows })
}

/// As Nova: newest first, hidden ones left out of a page after it was cut.
fn migrations(fake: &Fake, query: &BTreeMap<String, String>) -> Value {
    let all: Vec<u64> = (1..=*fake.migrations.lock().expect("lock")).rev().collect();
    let uuid = |id: &u64| format!("00000000-0000-0000-0000-{id:012}");
    let rows: Vec<Value> = page(all, uuid, query, 100)
        .into_iter()
        .filter(|id| id % 3 != 0)
        .map(|id| {
            let (source, dest) = if id % 2 == 0 { (HOST, "cmp-2") } else { ("cmp-3", HOST) };
            json!({ "id": id, "uuid": uuid(&id), "instance_uuid": uuid(&1), "status": "done", "migration_type": "evacuation",
                "source_compute": source, "dest_compute": dest })
        })
        .collect();
    json!({ "migrations": rows })
}

fn fault(status: u16, name: &str, message: &str) -> Response {
    let body = json!({ name: { "code": status, "message": message } });
    (StatusCode::from_u16(status).expect("status"), axum::Json(body)).into_response()
}
