//! One HTTP request: sent, answered, bounded in time and size, and what came of it.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use futures::stream;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, Text};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use tokio::time::timeout;

use super::address::excerpt;
use super::document::{complaint, unusable};
use super::left;
use super::tls;
use crate::bmc::scrub::Scrub;
use crate::bmc::settings::RedfishTrust;
use crate::clock;
use crate::nova::chain;

/// Longest answer read. A System of a full server has some 50 KB.
const BODY_BYTES_MAX: usize = 512 * 1024;

const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");

/// The client of one device, made at its first use: a CA file that was mended is read then.
#[derive(Debug)]
pub(super) struct Wire {
    trust: RedfishTrust,
    client: OnceLock<Client>,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// There was no whole answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing came, or it ended too early.
    Silent(String),
    /// The connection broke before an answer; one that was kept may have been closed by the other side.
    Broke(String),
    /// What came was no answer, or not from whom it should be.
    Unusable(String),
}

impl From<Failed> for DeviceError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Silent(text) | Failed::Broke(text) => Self::Silent(Text::new(text)),
            Failed::Unusable(text) => Self::Unusable(Text::new(text)),
        }
    }
}

impl Wire {
    pub(super) fn new(trust: RedfishTrust) -> Self {
        Self { trust, client: OnceLock::new() }
    }

    /// The client, if it can be made.
    pub(super) fn client(&self) -> Result<&Client, DeviceError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = tls::client(&self.trust).map_err(unusable)?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// Sends a request of ours and reads its answer; both must have ended by `end`.
pub(super) async fn send(request: RequestBuilder, end: Moment) -> Result<Answer, Failed> {
    let request = request.header(ACCEPT, "application/json").header(ODATA_VERSION, "4.0");
    let within = left(end);
    let exchange = async {
        let response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok::<_, Failed>(Answer { status, headers, body: read(response).await? })
    };
    let late = || Failed::Silent(format!("no whole answer within {:.1} s", within.as_secs_f32()));
    timeout(within, exchange).await.unwrap_or_else(|_| Err(late()))
}

/// The body of an answer, no longer than it may be.
async fn read(mut response: Response) -> Result<Vec<u8>, Failed> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_BYTES_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(Failed::Unusable(format!("an answer longer than {BODY_BYTES_MAX} bytes"))),
            Err(error) => {
                let why = chain(&error.without_url());
                return Err(Failed::Unusable(format!("its answer broke off: {why}")));
            }
        }
    }
}

impl Answer {
    /// A header, where it is there and plain text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn etag(&self) -> Option<&str> {
        self.header(&ETAG)
    }

    pub(super) fn location(&self) -> Option<&str> {
        self.header(&LOCATION)
    }

    /// The body of a success; any other answer as the error that it is.
    pub(super) fn success(self) -> Result<Vec<u8>, DeviceError> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.refusal()) }
    }

    /// The same without these secrets in its body.
    pub(super) fn cleaned(mut self, scrub: &Scrub) -> Self {
        self.body = scrub.clean(&String::from_utf8_lossy(&self.body), true).into_bytes();
        self
    }

    /// What it refuses, in its own words.
    pub(super) fn refusal(&self) -> DeviceError {
        let status = self.status;
        let told = Text::new(format!("HTTP {}: {}", status.as_u16(), complaint(&self.body)));
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            DeviceError::Credentials(told)
        } else if status.is_redirection() {
            let to = self.location().map(excerpt).unwrap_or_default();
            unusable(format!("HTTP {}: it redirects to {to:?}, which is not followed", status.as_u16()))
        } else if let Some(later) = self.header(&RETRY_AFTER) {
            DeviceError::Refused(Text::new(format!("{told} (to be asked again after {})", excerpt(later))))
        } else {
            DeviceError::Refused(told)
        }
    }
}

/// What kind of failure it is. Whether anything was done is for [`Gate`] to say.
fn failed(error: reqwest::Error) -> Failed {
    let error = error.without_url();
    let text = chain(&error);
    if is_tls(&error) {
        Failed::Unusable(text)
    } else if error.is_connect() || error.is_timeout() {
        Failed::Silent(text)
    } else if is_broken(&error) || text.contains("closed before message completed") {
        Failed::Broke(text)
    } else {
        Failed::Unusable(text)
    }
}

/// The error and all its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether TLS failed: somebody answered, but not whom we trust.
fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(is_of_tls)
}

/// An I/O error's own cause is not what it wraps, and connectors wrap each other's.
fn is_of_tls(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.is::<rustls::Error>() || inner.is_some_and(|inner| is_of_tls(inner))
}

/// Whether the connection broke.
fn is_broken(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let broken = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| broken.contains(&error.kind()))
}

/// The last check of a permit: the body of an order is handed over only when the connection stands and its first byte
/// would leave, which may be seconds after the request was made. Without its body an order is none.
#[derive(Debug, Default, Clone)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Gate {
    /// The request with this order as its body.
    pub(super) fn order(&self, request: RequestBuilder, body: String, begin_before: Moment) -> RequestBuilder {
        let opened = Arc::clone(&self.0);
        let length = body.len();
        let body = Body::wrap_stream(stream::once(async move {
            if clock::moment() >= begin_before {
                return Err(io::Error::other("the order came too late"));
            }
            opened.store(true, Ordering::SeqCst);
            Ok(body)
        }));
        request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, length).body(body)
    }

    /// Whether the order may have left.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
