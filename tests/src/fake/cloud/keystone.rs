//! Keystone v3: version documents, and tokens for a password or an application credential.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::http::Call;
use super::{CLOUD_NAME, REGION, Shared};

/// Tokens kept; the oldest to expire goes first. Above any test's need.
const TOKENS_MAX: usize = 10_000;

const USER: &str = "rekindle";
const PROJECT: &str = "service";
const DOMAIN: &str = "Default";

/// Who may come in, and who has.
pub(super) struct Tokens {
    password: String,
    credential_id: String,
    credential_secret: String,
    pub(super) user_id: String,
    pub(super) project_id: String,
    expiries: BTreeMap<String, Instant>,
    revoke_after: Option<u64>,
}

impl Tokens {
    pub(super) fn new(random: &mut StdRng) -> Self {
        let mut secret = || format!("{:032x}", random.random::<u128>());
        Self {
            password: secret(),
            credential_id: secret(),
            credential_secret: secret(),
            user_id: secret(),
            project_id: secret(),
            expiries: BTreeMap::new(),
            revoke_after: None,
        }
    }

    pub(super) fn clouds_yaml(&self, auth_url: &str, application_credential: bool) -> String {
        let auth = if application_credential {
            format!(
                "    auth_type: v3applicationcredential\n    auth:\n      auth_url: {auth_url}\n      \
                 application_credential_id: \"{}\"\n      application_credential_secret: \"{}\"\n",
                self.credential_id, self.credential_secret
            )
        } else {
            format!(
                "    auth_type: password\n    auth:\n      auth_url: {auth_url}\n      username: {USER}\n      \
                 password: \"{}\"\n      project_name: {PROJECT}\n      user_domain_name: {DOMAIN}\n      \
                 project_domain_name: {DOMAIN}\n",
                self.password
            )
        };
        format!(
            "clouds:\n  {CLOUD_NAME}:\n{auth}    region_name: {REGION}\n    interface: internal\n    \
             identity_api_version: 3\n"
        )
    }

    pub(super) fn revoke_all(&mut self) {
        self.expiries.clear();
        self.revoke_after = None;
    }

    pub(super) fn revoke_after(&mut self, calls: u64) {
        self.revoke_after = Some(calls);
    }

    /// Whether this token is good now. Counts towards a revocation that was ordered.
    pub(super) fn admits(&mut self, token: Option<&str>) -> bool {
        let good = token.and_then(|token| self.expiries.get(token)).is_some_and(|expiry| Instant::now() < *expiry);
        match self.revoke_after {
            Some(0) if good => {
                self.revoke_all();
                false
            }
            Some(calls) if good => {
                self.revoke_after = Some(calls - 1);
                true
            }
            Some(_) | None => good,
        }
    }

    fn issue(&mut self, token: String, life: Duration) {
        if self.expiries.len() >= TOKENS_MAX {
            let oldest = self.expiries.iter().min_by_key(|(_, expiry)| **expiry).map(|(token, _)| token.clone());
            oldest.and_then(|token| self.expiries.remove(&token));
        }
        self.expiries.insert(token, Instant::now() + life);
    }

    /// Whether this identity section is a user we know.
    fn knows(&self, identity: &Value) -> bool {
        let methods = identity.get("methods").and_then(Value::as_array);
        let Some([method]) = methods.map(Vec::as_slice) else { return false };
        match method.as_str() {
            Some("password") => {
                let user = &identity["password"]["user"];
                let in_domain = user["domain"]["name"] == DOMAIN || user["domain"]["id"] == "default";
                let named = user["id"] == self.user_id.as_str() || (user["name"] == USER && in_domain);
                named && user["password"] == self.password.as_str()
            }
            Some("application_credential") => {
                let credential = &identity["application_credential"];
                credential["id"] == self.credential_id.as_str()
                    && credential["secret"] == self.credential_secret.as_str()
            }
            Some(_) | None => false,
        }
    }
}

pub(super) fn versions(shared: &Shared) -> Response {
    let document = json!({"versions": {"values": [version_document(shared)]}});
    (StatusCode::MULTIPLE_CHOICES, Json(document)).into_response()
}

pub(super) fn version(shared: &Shared) -> Response {
    Json(json!({"version": version_document(shared)})).into_response()
}

fn version_document(shared: &Shared) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/", shared.identity_url())}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

/// `POST /v3/auth/tokens`: 201 with the token in a header, 400 without an identity, 401 for a wrong one.
pub(super) fn issue(shared: &Shared, call: &Call) -> Response {
    let identity = &call.body["auth"]["identity"];
    if !identity.is_object() {
        return refusal(StatusCode::BAD_REQUEST, "'auth' is a required property");
    }
    let mut world = shared.world();
    if !world.tokens.knows(identity) {
        return refusal(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.");
    }
    let scope = &call.body["auth"]["scope"]["project"];
    let elsewhere = scope.is_object() && scope["name"] != PROJECT && scope["id"] != world.tokens.project_id.as_str();
    if elsewhere {
        return refusal(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.");
    }
    let token = format!("gAAAA{}{}", world.fresh_uuid().simple(), world.fresh_uuid().simple());
    let life = world.settings.token_life;
    world.tokens.issue(token.clone(), life);
    let has_placement = world.settings.placement;
    let document = token_document(shared, &identity["methods"], &world.tokens, life, has_placement);
    drop(world);
    let mut response = (StatusCode::CREATED, Json(document)).into_response();
    if let Ok(token) = HeaderValue::from_str(&token) {
        response.headers_mut().insert("x-subject-token", token);
    }
    response
}

/// `DELETE /v3/auth/tokens`.
pub(super) fn revoke(shared: &Shared, call: &Call) -> Response {
    let mut world = shared.world();
    let asker = call.header("x-auth-token").map(str::to_owned);
    if !world.tokens.admits(asker.as_deref()) {
        return refusal(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.");
    }
    match call.header("x-subject-token").and_then(|token| world.tokens.expiries.remove(token)) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => refusal(StatusCode::NOT_FOUND, "Could not find token."),
    }
}

fn token_document(shared: &Shared, methods: &Value, tokens: &Tokens, life: Duration, has_placement: bool) -> Value {
    let now = Instant::now();
    let endpoint = |interface: &str, id: &str, url: String| json!({"id": id, "interface": interface, "region": REGION, "region_id": REGION, "url": url});
    let service = |kind: &str, name: &str, id: &str, url: &str| {
        let endpoints: Vec<Value> = ["public", "internal", "admin"]
            .iter()
            .map(|interface| endpoint(interface, &format!("{id}{interface}"), url.to_owned()))
            .collect();
        json!({"type": kind, "name": name, "id": id, "endpoints": endpoints})
    };
    let mut catalog = vec![
        service("identity", "keystone", "k", &shared.identity_url()),
        service("compute", "nova", "n", &shared.compute_url()),
    ];
    if has_placement {
        catalog.push(service("placement", "placement", "p", &shared.placement_url()));
    }
    let domain = json!({"id": "default", "name": DOMAIN});
    json!({"token": {
        "methods": methods,
        "user": {"id": tokens.user_id, "name": USER, "domain": domain, "password_expires_at": null},
        "project": {"id": tokens.project_id, "name": PROJECT, "domain": domain},
        "roles": [{"id": "admin", "name": "admin"}],
        "is_domain": false,
        "audit_ids": ["c2ltdWxhdGVkIGNsb3Vk"],
        "issued_at": super::nova::time(shared.wall(now), true),
        "expires_at": super::nova::time(shared.wall(now + life), true),
        "catalog": catalog,
    }})
}

fn refusal(status: StatusCode, message: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    (status, Json(json!({"error": {"code": status.as_u16(), "title": title, "message": message}}))).into_response()
}
