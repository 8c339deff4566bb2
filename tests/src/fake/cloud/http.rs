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
    Services,
    UpdateService(String),
    Servers { detail: bool },
    Server(ServerId),
    Action(ServerId),
    Migrations,
    Hypervisors,
    Providers,
    Inventories(Uuid),
    Allocations(Uuid),
    Unknown,
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
        Route::Providers | Route::Inventories(_) | Route::Allocations(_) => placement::serve(shared, route, call),
        Route::Unknown => StatusCode::NOT_FOUND.into_response(),
        Route::Services
        | Route::UpdateService(_)
        | Route::Servers { .. }
        | Route::Server(_)
        | Route::Action(_)
        | Route::Hypervisors
        | Route::Migrations => nova::serve(shared, route, call).await,
    }
}

fn route(method: &Method, path: &str) -> Route {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let server = |id: &str| Uuid::parse_str(id).map(ServerId);
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["identity"]) => Route::IdentityVersions,
        ("GET", ["identity", "v3"]) => Route::IdentityVersion,
        ("POST", ["identity", "v3", "auth", "tokens"]) => Route::IssueToken,
        ("DELETE", ["identity", "v3", "auth", "tokens"]) => Route::RevokeToken,
        ("GET", ["compute"]) => Route::ComputeVersions,
        ("GET", ["compute", "v2.1"]) => Route::ComputeVersion,
        ("GET", ["compute", "v2.1", "os-services"]) => Route::Services,
        ("PUT", ["compute", "v2.1", "os-services", id]) => Route::UpdateService((*id).to_owned()),
        ("GET", ["compute", "v2.1", "servers"]) => Route::Servers { detail: false },
        ("GET", ["compute", "v2.1", "servers", "detail"]) => Route::Servers { detail: true },
        ("GET", ["compute", "v2.1", "servers", id]) => server(id).map_or(Route::Unknown, Route::Server),
        ("POST", ["compute", "v2.1", "servers", id, "action"]) => server(id).map_or(Route::Unknown, Route::Action),
        ("GET", ["compute", "v2.1", "os-migrations"]) => Route::Migrations,
        ("GET", ["compute", "v2.1", "os-hypervisors", "detail"]) => Route::Hypervisors,
        ("GET", ["placement", "resource_providers"]) => Route::Providers,
        ("GET", ["placement", "resource_providers", id, what]) => match (Uuid::parse_str(id), *what) {
            (Ok(id), "inventories") => Route::Inventories(id),
            (Ok(id), "allocations") => Route::Allocations(id),
            (Ok(_) | Err(_), _) => Route::Unknown,
        },
        _ => Route::Unknown,
    }
}

fn endpoint(route: &Route, body: &Value) -> Endpoint {
    match route {
        Route::IdentityVersions | Route::IdentityVersion | Route::ComputeVersions | Route::ComputeVersion => {
            Endpoint::Versions
        }
        Route::IssueToken | Route::RevokeToken => Endpoint::Token,
        Route::Services => Endpoint::Services,
        Route::UpdateService(_) => Endpoint::UpdateService,
        Route::Servers { .. } => Endpoint::Servers,
        Route::Server(_) => Endpoint::Server,
        Route::Action(_) if body.get("evacuate").is_some() => Endpoint::Evacuate,
        Route::Action(_) => Endpoint::Action,
        Route::Migrations => Endpoint::Migrations,
        Route::Hypervisors => Endpoint::Hypervisors,
        Route::Providers | Route::Inventories(_) | Route::Allocations(_) => Endpoint::Placement,
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
