//! The HTTP server: routes, faults, the request log, and connections that can be cut.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use rekindle_proto::id::ServerId;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use super::fault::{Endpoint, Fault};
use super::{RequestLine, Shared, keystone, nova, placement};
use crate::fake::record::When;

/// Longest request body we read; Nova's own `max_request_body_size` is 114,688.
const BODY_MAX: usize = 114_688;
/// How long a hanging call hangs before its connection is cut: longer than any client waits.
const HANG: Duration = Duration::from_secs(3600);

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    IdentityVersions,
    IdentityVersion,
    IssueToken,
    RevokeToken,
    ComputeVersions,
    ComputeVersion,
    Compute(ComputeRoute),
    Placement(PlacementRoute),
    Unknown,
}

/// What of Nova, behind its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ComputeRoute {
    Services,
    UpdateService(String),
    Servers { detail: bool },
    Server(ServerId),
    Action(ServerId),
    Migrations,
    Hypervisors,
    Hypervisor(Uuid),
    ServerGroup(Uuid),
    InstanceActions(ServerId),
    InstanceAction(ServerId, String),
}

/// What of Placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlacementRoute {
    Providers,
    Inventories(Uuid),
    Allocations(Uuid),
    OfServer(ServerId),
}

/// A call, read whole.
pub(super) struct Call {
    pub(super) parts: Parts,
    pub(super) body: Value,
    pub(super) query: Vec<(String, String)>,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The last value of a query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let service = Router::new().fallback(handle).with_state(shared).into_make_service_with_connect_info::<Cut>();
    if let Err(error) = axum::serve(CutListener(listener), service).await {
        tracing::warn!(%error, "fake cloud stopped serving");
    }
}

async fn handle(State(shared): State<Arc<Shared>>, ConnectInfo(cut): ConnectInfo<Cut>, request: Request) -> Response {
    // What was sent is done, whether or not its caller waits for the answer: as behind a proxy.
    let done = tokio::spawn(async move { answer(&shared, &cut, request).await });
    done.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn answer(shared: &Arc<Shared>, cut: &Cut, request: Request) -> Response {
    let when = When::now();
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let query = Query::try_from_uri(&parts.uri).map_or_else(|_| Vec::new(), |Query(pairs)| pairs);
    let call = Call { body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), parts, query };
    let route = route(&call.parts.method, call.parts.uri.path());
    let endpoint = endpoint(&route, &call.body);
    let (number, faults) = begin(shared, &call, endpoint, when);
    let (mut drop_after, mut hang_after) = (false, false);
    for fault in faults {
        match fault {
            Fault::Latency(time) => tokio::time::sleep(time).await,
            Fault::Http(status) => return refused(shared, number, endpoint, status),
            Fault::Throttled(seconds) => {
                let mut response = refused(shared, number, endpoint, 429);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                return response;
            }
            Fault::Hang => return hang(cut).await,
            Fault::DropBefore => return cut.now(),
            Fault::DropAfter => drop_after = true,
            Fault::HangAfter => hang_after = true,
        }
    }
    let response = act(shared, &route, &call).await;
    if drop_after {
        return cut.now();
    }
    if hang_after {
        return hang(cut).await;
    }
    answered(shared, number, response.status());
    response
}

async fn act(shared: &Arc<Shared>, route: &Route, call: &Call) -> Response {
    match route {
        Route::IdentityVersions => keystone::versions(shared),
        Route::IdentityVersion => keystone::version(shared),
        Route::IssueToken => keystone::issue(shared, call),
        Route::RevokeToken => keystone::revoke(shared, call),
        Route::ComputeVersions => nova::versions(shared),
        Route::ComputeVersion => nova::version(shared),
        Route::Compute(route) => nova::serve(shared, route, call).await,
        Route::Placement(route) => placement::serve(shared, route, call),
        Route::Unknown => StatusCode::NOT_FOUND.into_response(),
    }
}

fn route(method: &Method, path: &str) -> Route {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["identity"]) => Route::IdentityVersions,
        ("GET", ["identity", "v3"]) => Route::IdentityVersion,
        ("POST", ["identity", "v3", "auth", "tokens"]) => Route::IssueToken,
        ("DELETE", ["identity", "v3", "auth", "tokens"]) => Route::RevokeToken,
        ("GET", ["compute"]) => Route::ComputeVersions,
        ("GET", ["compute", "v2.1"]) => Route::ComputeVersion,
        (method, ["compute", "v2.1", rest @ ..]) => compute_route(method, rest).map_or(Route::Unknown, Route::Compute),
        ("GET", ["placement", rest @ ..]) => placement_route(rest).map_or(Route::Unknown, Route::Placement),
        _ => Route::Unknown,
    }
}

fn compute_route(method: &str, path: &[&str]) -> Option<ComputeRoute> {
    let server = |id: &str| Uuid::parse_str(id).ok().map(ServerId);
    match (method, path) {
        ("GET", ["os-services"]) => Some(ComputeRoute::Services),
        ("PUT", ["os-services", id]) => Some(ComputeRoute::UpdateService((*id).to_owned())),
        ("GET", ["servers"]) => Some(ComputeRoute::Servers { detail: false }),
        ("GET", ["servers", "detail"]) => Some(ComputeRoute::Servers { detail: true }),
        ("GET", ["servers", id]) => server(id).map(ComputeRoute::Server),
        ("POST", ["servers", id, "action"]) => server(id).map(ComputeRoute::Action),
        ("GET", ["os-migrations"]) => Some(ComputeRoute::Migrations),
        ("GET", ["os-hypervisors", "detail"]) => Some(ComputeRoute::Hypervisors),
        ("GET", ["os-hypervisors", id]) => Uuid::parse_str(id).ok().map(ComputeRoute::Hypervisor),
        ("GET", ["servers", id, "os-instance-actions"]) => server(id).map(ComputeRoute::InstanceActions),
        ("GET", ["servers", id, "os-instance-actions", request]) => {
            server(id).map(|id| ComputeRoute::InstanceAction(id, (*request).to_owned()))
        }
        ("GET", ["os-server-groups", id]) => Uuid::parse_str(id).ok().map(ComputeRoute::ServerGroup),
        _ => None,
    }
}

fn placement_route(path: &[&str]) -> Option<PlacementRoute> {
    match path {
        ["resource_providers"] => Some(PlacementRoute::Providers),
        ["allocations", id] => Uuid::parse_str(id).ok().map(|id| PlacementRoute::OfServer(ServerId(id))),
        ["resource_providers", id, "inventories"] => Uuid::parse_str(id).ok().map(PlacementRoute::Inventories),
        ["resource_providers", id, "allocations"] => Uuid::parse_str(id).ok().map(PlacementRoute::Allocations),
        _ => None,
    }
}

fn endpoint(route: &Route, body: &Value) -> Endpoint {
    match route {
        Route::IdentityVersions | Route::IdentityVersion | Route::ComputeVersions | Route::ComputeVersion => {
            Endpoint::Versions
        }
        Route::IssueToken | Route::RevokeToken => Endpoint::Token,
        Route::Compute(ComputeRoute::Services) => Endpoint::Services,
        Route::Compute(ComputeRoute::UpdateService(_)) => Endpoint::UpdateService,
        Route::Compute(ComputeRoute::Servers { .. }) => Endpoint::Servers,
        Route::Compute(ComputeRoute::Server(_)) => Endpoint::Server,
        Route::Compute(ComputeRoute::Action(_)) if body.get("evacuate").is_some() => Endpoint::Evacuate,
        Route::Compute(ComputeRoute::Action(_)) => Endpoint::Action,
        Route::Compute(ComputeRoute::Migrations) => Endpoint::Migrations,
        Route::Compute(ComputeRoute::Hypervisors | ComputeRoute::Hypervisor(_)) => Endpoint::Hypervisors,
        Route::Compute(ComputeRoute::InstanceActions(_) | ComputeRoute::InstanceAction(..)) => {
            Endpoint::InstanceActions
        }
        Route::Compute(ComputeRoute::ServerGroup(_)) => Endpoint::ServerGroup,
        Route::Placement(_) => Endpoint::Placement,
        Route::Unknown => Endpoint::Unknown,
    }
}

fn begin(shared: &Shared, call: &Call, endpoint: Endpoint, when: When) -> (u64, Vec<Fault>) {
    let mut world = shared.world();
    world.requests_begun += 1;
    let number = world.requests_begun;
    let line = RequestLine {
        number,
        when,
        endpoint,
        method: call.parts.method.to_string(),
        path: call.parts.uri.path().to_owned(),
        query: call.parts.uri.query().unwrap_or_default().to_owned(),
        microversion: nova::asked_version(call),
        status: None,
    };
    world.requests.push(line);
    (number, world.faults.met_by(endpoint, Instant::now()))
}

fn answered(shared: &Shared, number: u64, status: StatusCode) {
    if let Some(line) = shared.world().requests.latest_mut(|line| line.number == number) {
        line.status = Some(status.as_u16());
    }
}

/// An answer that comes from in front of the service: HTML from a proxy, JSON from the service's own middleware.
fn refused(shared: &Shared, number: u64, endpoint: Endpoint, status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answered(shared, number, status);
    if matches!(status.as_u16(), 502..=504) {
        let page =
            format!("<html><body><h1>{status}</h1>\nNo server is available to handle this request.\n</body></html>\n");
        return (status, [(header::CONTENT_TYPE, "text/html")], page).into_response();
    }
    let text = "The simulated cloud was told to fail this call.";
    if endpoint == Endpoint::Placement { placement::fault(status, text) } else { nova::fault(status, text) }
}

async fn hang(cut: &Cut) -> Response {
    tokio::time::sleep(HANG).await;
    cut.now()
}

/// Cuts the connection a call came on.
#[derive(Clone)]
struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Nothing written after this reaches the caller; its connection closes without an answer.
    fn now(&self) -> Response {
        self.0.store(true, Ordering::Release);
        Response::new(Body::empty())
    }
}

impl Connected<IncomingStream<'_, CutListener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, CutListener>) -> Self {
        stream.io().cut.clone()
    }
}

struct CutListener(TcpListener);

impl Listener for CutListener {
    type Io = CutStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, from) = Listener::accept(&mut self.0).await;
        // Small answers at once: a delay here would only look like Nova's.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        (CutStream { stream, cut: Cut(Arc::new(AtomicBool::new(false))) }, from)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

struct CutStream {
    stream: TcpStream,
    cut: Cut,
}

impl CutStream {
    fn whole(&self) -> io::Result<()> {
        if self.cut.0.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for CutStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
