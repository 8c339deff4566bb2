//! Nova's outside: versions, microversions, who may call, errors, paging.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::http::{Call, ComputeRoute};
use super::{Shared, actions, groups, migrations, placement, servers, services, trail};

/// A compute microversion: 2.*n*.
pub(super) type Microversion = u16;

const OLDEST: Microversion = 1;
/// Nova 34.0.0.
const NEWEST: Microversion = 104;

/// What Nova answers instead.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, message: message.into() }
    }
}

/// A body, or why not.
pub(super) type Answer = Result<Response, Refusal>;

/// An error as Nova words it: the name of the error, then code and message.
pub(super) fn fault(status: StatusCode, message: &str) -> Response {
    let name = match status.as_u16() {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        406 => "notAcceptable",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    (status, Json(json!({name: {"code": status.as_u16(), "message": message}}))).into_response()
}

/// `GET /`.
pub(super) fn versions(shared: &Shared) -> Response {
    Json(json!({"versions": [version_document(shared)]})).into_response()
}

/// `GET /v2.1/`.
pub(super) fn version(shared: &Shared) -> Response {
    Json(json!({"version": version_document(shared)})).into_response()
}

fn version_document(shared: &Shared) -> Value {
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": format!("2.{NEWEST}"),
        "min_version": format!("2.{OLDEST}"),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{}/", shared.compute_url())}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}],
    })
}

/// The microversion a call asks for, in the new header or in the old one; the new one wins.
pub(super) fn asked_version(call: &Call) -> Option<String> {
    let new = call.header("openstack-api-version").and_then(|value| value.strip_prefix("compute "));
    new.or_else(|| call.header("x-openstack-nova-api-version")).map(|version| version.trim().to_owned())
}

fn microversion(call: &Call) -> Result<Microversion, Refusal> {
    let Some(asked) = asked_version(call) else { return Ok(OLDEST) };
    if asked == "latest" {
        return Ok(NEWEST);
    }
    let number = asked.strip_prefix("2.").and_then(|number| number.parse().ok());
    let Some(number) = number else {
        let message = format!("API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum.");
        return Err(Refusal::bad_request(message));
    };
    if (OLDEST..=NEWEST).contains(&number) {
        return Ok(number);
    }
    let message =
        format!("Version {asked} is not supported by the API. Minimum is 2.{OLDEST} and maximum is 2.{NEWEST}.");
    Err(Refusal { status: StatusCode::NOT_ACCEPTABLE, message })
}

/// Every call of Nova that needs a token.
pub(super) async fn serve(shared: &Arc<Shared>, route: &ComputeRoute, call: &Call) -> Response {
    if !shared.world().tokens.admits(call.header("x-auth-token")) {
        let challenge = format!("Keystone uri=\"{}\"", shared.identity_url());
        let text = "The request you have made requires authentication.";
        let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": text}});
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], Json(body)).into_response();
    }
    let version = match microversion(call) {
        Ok(version) => version,
        Err(refusal) => return fault(refusal.status, &refusal.message),
    };
    let answer = match route {
        ComputeRoute::Services => services::list(shared, call, version),
        ComputeRoute::UpdateService(id) => services::update(shared, call, version, id).await,
        ComputeRoute::Servers { detail } => servers::list(shared, call, version, *detail),
        ComputeRoute::Server(id) => servers::show(shared, version, *id),
        ComputeRoute::Action(id) => actions::act(shared, call, version, *id),
        ComputeRoute::Migrations => migrations::list(shared, call, version),
        ComputeRoute::Hypervisors => placement::hypervisors(shared, call, version),
        ComputeRoute::Hypervisor(id) => placement::hypervisor(shared, *id),
        ComputeRoute::InstanceActions(id) => trail::list(shared, *id),
        ComputeRoute::InstanceAction(id, request) => trail::show(shared, *id, request),
        ComputeRoute::ServerGroup(id) => groups::show(shared, version, *id),
    };
    let mut response = answer.unwrap_or_else(|refusal| fault(refusal.status, &refusal.message));
    let headers = response.headers_mut();
    for (name, value) in [
        ("openstack-api-version", format!("compute 2.{version}")),
        ("x-openstack-nova-api-version", format!("2.{version}")),
        ("vary", "OpenStack-API-Version, X-OpenStack-Nova-API-Version".to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    response
}

/// A time as Nova prints it: seconds with a `Z`, or, in older documents and Keystone's, microseconds.
pub(super) fn time(at: SystemTime, keystone: bool) -> String {
    let format = if keystone { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    stamp(at, format)
}

/// A time as os-services and os-migrations print it: microseconds, no zone.
pub(super) fn bare_time(at: SystemTime) -> String {
    stamp(at, "%Y-%m-%dT%H:%M:%S.%6f")
}

fn stamp(at: SystemTime, format: &str) -> String {
    jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime(format).to_string()
}

/// One page of a listing.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// The link to the next page: Nova gives one whenever the page is full, also when nothing follows.
    pub(super) next: Option<String>,
}

/// Cuts a page from `all` (in listing order): `limit` and `marker` as the query has them, at most `limit_max`. The
/// marker is an item of `all`, matching or not: a server that moved away meanwhile still marks its place.
pub(super) fn page<T: Clone>(
    call: &Call,
    url: &str,
    limit_max: usize,
    all: &[T],
    id: impl Fn(&T) -> String,
    matches: impl Fn(&T) -> bool,
) -> Result<Page<T>, Refusal> {
    let limit = match call.parameter("limit") {
        None => limit_max,
        Some(text) => {
            let limit: usize = text.parse().map_err(|_| {
                Refusal::bad_request(format!("Invalid input for query parameters limit. Value: {text}."))
            })?;
            if limit == 0 { limit_max } else { limit.min(limit_max) }
        }
    };
    let from = match call.parameter("marker") {
        None => 0,
        Some(marker) => {
            let at = all.iter().position(|item| id(item) == marker);
            at.ok_or_else(|| Refusal::bad_request(format!("marker [{marker}] not found")))? + 1
        }
    };
    let items: Vec<T> = all.iter().skip(from).filter(|item| matches(item)).take(limit).cloned().collect();
    let next = items.last().filter(|_| items.len() == limit).map(|last| {
        let query = call.parts.uri.query().unwrap_or_default().split('&');
        let kept = query.filter(|part| !part.is_empty() && !part.starts_with("marker="));
        let mut parts: Vec<String> = kept.map(str::to_owned).collect();
        parts.push(format!("marker={}", id(last)));
        format!("{url}?{}", parts.join("&"))
    });
    Ok(Page { items, next })
}

/// The links of a page, if there is a next one.
pub(super) fn links(document: &mut Value, name: &str, next: Option<String>) {
    if let (Some(object), Some(next)) = (document.as_object_mut(), next) {
        object.insert(name.to_owned(), json!([{"rel": "next", "href": next}]));
    }
}

/// Refuses query parameters or body keys that Nova's schema does not know.
pub(super) fn only_known<'a>(keys: impl Iterator<Item = &'a str>, known: &[&str]) -> Result<(), Refusal> {
    for key in keys {
        if !known.contains(&key) {
            return Err(Refusal::bad_request(format!(
                "Invalid input for field/attribute {key}. Additional properties are not allowed ('{key}' was unexpected)"
            )));
        }
    }
    Ok(())
}
