//! `/metrics` and `/healthz` over plain HTTP. Whoever can connect may read; nobody can hold us up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::Metrics;

/// Connections at once: some scrapers and a few curious people.
pub(super) const CONNECTIONS_MAX: usize = 16;
/// A connection ends after that long, busy or not: a scraper comes anew, and one that only listens frees its place.
pub(super) const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// OpenMetrics 1.0, as Prometheus asks for it.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// After a failed accept (no file descriptors left, as a rule): not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
#[error("metrics: cannot listen on {address}")]
pub struct MetricsServeError {
    /// Where.
    pub address: SocketAddr,
    /// The system's words.
    #[source]
    pub source: io::Error,
}

/// The listening server.
#[derive(Debug)]
pub struct MetricsServer {
    listener: Bounded,
    address: SocketAddr,
}

impl MetricsServer {
    /// Listens.
    ///
    /// # Errors
    /// [`MetricsServeError`] if the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsServeError> {
        let failed = |source| MetricsServeError { address, source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        Ok(Self { listener: Bounded { tcp, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// Never, by axum's word; the type is its.
    pub async fn serve(self, metrics: Arc<Metrics>) -> io::Result<()> {
        let router = Router::new().route("/metrics", get(scrape)).route("/healthz", get(health)).with_state(metrics);
        axum::serve(self.listener, router).await
    }
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    std::future::ready(([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encoded())).await
}

async fn health(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    std::future::ready(if metrics.healthy() {
        (StatusCode::OK, "the loop turns\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop has not turned for 10 s\n")
    })
    .await
}

/// A listener with so many places; who finds none waits in the kernel's queue.
#[derive(Debug)]
struct Bounded {
    tcp: TcpListener,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.tcp.accept().await {
                Ok((stream, from)) => {
                    return (Held { stream, end: Box::pin(sleep(CONNECTION_LIFE)), _place: place }, from);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection with its place and its end.
struct Held {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.over(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.over(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
