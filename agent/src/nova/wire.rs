//! One HTTP request to Nova: permit, token, send, and what came of it.
//!
//! osauth holds the session (credentials, interface, region). The request itself is sent by us: osauth's error no longer
//! tells a connection that never came about from one that broke, and that is the difference between "certainly nothing
//! happened" and "nobody knows". For the same reason endpoints come from the catalog as they are, without version
//! discovery: microversions are pinned, and the links Nova prints about itself are often wrong behind a proxy.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::stream;
use openstack::InterfaceType;
use openstack::auth::NoAuth;
use openstack::session::Session;
use osauth::ApiVersion;
use osauth::services::{COMPUTE, ServiceType, VersionedService};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{NovaError, Text};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Client, Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::answer;
use super::clouds::{Cloud, NovaSetupError};
use super::keystone::Keystone;
use super::reply::{chain, send};
use super::tls::{self, Clients};
use crate::clock;

/// New credentials objects because of a 401 are at least this far apart: where Nova refuses every token, each call must
/// not cost Keystone another one.
const RENEWAL_SPACING: Duration = Duration::from_secs(5);

/// Readings under way at once. Nova's API has a handful of workers, and recovery's acts must find one free; acts are
/// bounded by whoever orders them, and their permits would lapse in a queue.
const READS_AT_ONCE: usize = 16;

/// The same of Placement. Few: its database is what Nova's scheduler waits for.
const PLACEMENT_READS_AT_ONCE: usize = 8;

/// The service of the catalog that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Nova,
    Placement,
    Masakari,
}

impl Service {
    /// Its type in the catalog, and in the header of its microversions.
    fn kind(self) -> &'static str {
        match self {
            Self::Nova => COMPUTE.catalog_type(),
            Self::Placement => "placement",
            Self::Masakari => "instance-ha",
        }
    }
}

/// A request that changes nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Get<'a> {
    pub(super) version: ApiVersion,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
}

/// A service beside Nova, and the version in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Glance.
    Image,
    /// Keystone.
    Identity,
}

/// A request that changes the world.
#[derive(Debug)]
pub(super) struct Act<'a> {
    pub(super) version: ApiVersion,
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) body: Value,
    pub(super) begin_before: Moment,
}

/// The session with one cloud.
pub(super) struct Wire {
    cloud: Cloud,
    clients: Clients,
    live: Mutex<Live>,
    reads: Semaphore,
    placement_reads: Semaphore,
}

/// The credentials in use. A rejected token is never renewed in place: osauth believes its token until it ends, and its
/// `refresh` does nothing. A new credentials object takes the old one's place.
struct Live {
    generation: u64,
    keystone: Keystone,
    session: Session,
    renewed: Option<Moment>,
}

impl Wire {
    pub(super) fn new(cloud: Cloud, timeout: Duration) -> Result<Self, NovaSetupError> {
        let clients = tls::clients(cloud.ca_file.as_deref(), timeout)?;
        // A session can only be made with credentials that it tries at once; these have nothing to try.
        let session = Session::new_with_client(clients.reading.clone(), NoAuth::new_without_endpoint())
            .now_or_never()
            .and_then(Result::ok)
            .ok_or_else(|| NovaSetupError::Client("the session would not open without a network".to_owned()))?;
        let mut session = session.with_endpoint_interface(match cloud.interface {
            "internal" => InterfaceType::Internal,
            "admin" => InterfaceType::Admin,
            _ => InterfaceType::Public,
        });
        if let Some(region) = &cloud.region {
            session.set_region(region);
        }
        let keystone = Keystone::new(&cloud);
        session.set_auth_type(keystone.clone());
        let live = Mutex::new(Live { generation: 0, keystone, session, renewed: None });
        let (reads, placement_reads) = (Semaphore::new(READS_AT_ONCE), Semaphore::new(PLACEMENT_READS_AT_ONCE));
        Ok(Self { cloud, clients, live, reads, placement_reads })
    }

    /// Reads; a 401 is answered with new credentials and one more try.
    pub(super) async fn get(&self, get: Get<'_>) -> Result<Value, NovaError> {
        self.get_from(Service::Nova, get).await
    }

    /// The same, of another service of the catalog. Readings of each wait only for their like.
    pub(super) async fn get_from(&self, service: Service, get: Get<'_>) -> Result<Value, NovaError> {
        for last in [false, true] {
            let (generation, session) = self.session();
            let client = &self.clients.reading;
            let request = self.prepare(&session, client, service, Method::GET, get.path, get.version).await?;
            let request = request.query(get.query).build().map_err(not_built)?;
            let turn = match service {
                Service::Nova | Service::Masakari => self.reads.acquire().await,
                Service::Placement => self.placement_reads.acquire().await,
            };
            let answer = send(&self.clients.reading, request).await.map_err(|error| {
                let text = Text::new(chain(&error));
                if error.is_connect() { NovaError::NotSent(text) } else { NovaError::Unknown(text) }
            })?;
            drop(turn);
            if answer.status == StatusCode::UNAUTHORIZED && !last && self.renew(generation) {
                continue;
            }
            return answer.judged(service)?.ok_or_else(|| NovaError::Malformed(Text::from("an empty answer")));
        }
        Err(NovaError::NotSent(Text::from("no token that Nova accepts")))
    }

    /// Reads one thing of another service of the cloud; a 401 is answered as in [`Self::get`]. `None`: that service says
    /// itself that there is no such thing.
    pub(super) async fn find(&self, home: Home, path: &[&str]) -> Result<Option<Value>, NovaError> {
        for last in [false, true] {
            let (generation, session) = self.session();
            let client = &self.clients.reading;
            let request = client.request(Method::GET, below(self.home(&session, home).await?, path)?);
            let request = request.header("accept", "application/json");
            let request = session.auth_type().authenticate(client, request).await.map_err(no_token)?;
            let request = request.build().map_err(not_built)?;
            let turn = self.reads.acquire().await;
            let answer = send(client, request).await.map_err(|error| {
                let text = Text::new(chain(&error));
                if error.is_connect() { NovaError::NotSent(text) } else { NovaError::Unknown(text) }
            })?;
            drop(turn);
            if answer.status == StatusCode::UNAUTHORIZED && !last && self.renew(generation) {
                continue;
            }
            if answer.status == StatusCode::NOT_FOUND && answer::is_none_such(&answer.body, home) {
                return Ok(None);
            }
            return answer
                .judged(Service::Nova)?
                .map(Some)
                .ok_or_else(|| NovaError::Malformed(Text::from("an empty answer")));
        }
        Err(NovaError::NotSent(Text::from("no token that it accepts")))
    }

    /// Acts, at most once; only a 401, which says that nothing was done, is answered with new credentials and one more
    /// try under the same permit.
    pub(super) async fn act(&self, act: Act<'_>) -> Result<(), NovaError> {
        for last in [false, true] {
            still_permitted(act.begin_before)?;
            let (generation, session) = self.session();
            let client = &self.clients.acting;
            let method = act.method.clone();
            let request = self.prepare(&session, client, Service::Nova, method, act.path, act.version).await?;
            let gate = Gate::default();
            let bytes = act.body.to_string().into_bytes();
            let request = request
                .header(CONTENT_TYPE, "application/json")
                .header(CONTENT_LENGTH, bytes.len())
                .body(gate.body(bytes, act.begin_before))
                .build()
                .map_err(not_built)?;
            let answer = send(client, request).await.map_err(|error| gate.judge(&error))?;
            if answer.status == StatusCode::UNAUTHORIZED && !last && self.renew(generation) {
                continue;
            }
            return answer.judged(Service::Nova).map(drop);
        }
        Err(NovaError::NotSent(Text::from("no token that Nova accepts")))
    }

    /// Whose token we have, and where Nova is: for people. Fetches a token if there is none.
    pub(super) async fn introduction(&self) -> Result<String, NovaError> {
        let (_, session) = self.session();
        let keystone = self.lock().keystone.clone();
        let token = keystone.token(&self.clients.reading).await.map_err(no_token)?;
        let nova = self.compute(&session).await?;
        let minutes = token.left().as_secs() / 60;
        Ok(format!(
            "Keystone {} knows us as {} (token good for {minutes} min); Nova is at {nova}",
            self.cloud.auth_url, token.owner
        ))
    }

    /// A request with its address, microversion and token, not yet sent. May fetch a token.
    async fn prepare(
        &self,
        session: &Session,
        client: &Client,
        service: Service,
        method: Method,
        path: &[&str],
        version: ApiVersion,
    ) -> Result<RequestBuilder, NovaError> {
        let home = match service {
            Service::Nova => self.compute(session).await?,
            Service::Placement => self.endpoint(session, service).await?,
            Service::Masakari => versioned(self.endpoint(session, service).await?, "v1"),
        };
        let url = below(home, path)?;
        let kind = service.kind();
        // The older name of the header is the one osauth knows; Nova takes either, newer services only the other.
        let mut request = client.request(method, url).header("accept", "application/json");
        if service == Service::Nova {
            let (name, value) = COMPUTE.get_version_header(version);
            request = request.header(name, value);
        }
        let request = request.header("openstack-api-version", format!("{kind} {version}"));
        session.auth_type().authenticate(&self.clients.reading, request).await.map_err(no_token)
    }

    /// Nova's root, with its version in the path.
    async fn compute(&self, session: &Session) -> Result<Url, NovaError> {
        let mut url = self.endpoint(session, Service::Nova).await?;
        let versioned = url.path_segments().is_some_and(|mut parts| parts.any(|part| part == "v2.1" || part == "v2"));
        if !versioned && let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("v2.1");
        }
        Ok(url)
    }

    /// The root of another service, with its version in the path.
    async fn home(&self, session: &Session, home: Home) -> Result<Url, NovaError> {
        let (service, version) = match home {
            Home::Image => ("image", "v2"),
            Home::Identity => ("identity", "v3"),
        };
        let found = session.client().get_endpoint(service, session.endpoint_filters()).await;
        Ok(versioned(found.map_err(no_token)?, version))
    }

    async fn endpoint(&self, session: &Session, service: Service) -> Result<Url, NovaError> {
        session.client().get_endpoint(service.kind(), session.endpoint_filters()).await.map_err(no_token)
    }

    fn session(&self) -> (u64, Session) {
        let live = self.lock();
        (live.generation, live.session.clone())
    }

    /// Puts new credentials in the place of those whose token was refused. `true`: there are others now than the caller
    /// used, so that trying again makes sense. Of many callers with the same refused token, the first does it.
    fn renew(&self, refused: u64) -> bool {
        let mut live = self.lock();
        if live.generation != refused {
            return true;
        }
        let now = clock::moment();
        if live.renewed.is_some_and(|before| now.since(before) < RENEWAL_SPACING) {
            return false;
        }
        tracing::info!("Nova refused our token (401): fetching another");
        live.keystone = Keystone::new(&self.cloud);
        let keystone = live.keystone.clone();
        live.session.set_auth_type(keystone);
        live.generation += 1;
        live.renewed = Some(now);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // What is behind it is changed in steps that cannot panic between them.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("auth_url", &self.cloud.auth_url.as_str()).finish_non_exhaustive()
    }
}

/// Refuses what comes too late.
pub(super) fn still_permitted(begin_before: Moment) -> Result<(), NovaError> {
    if clock::moment() < begin_before { Ok(()) } else { Err(NovaError::NotSent(Text::from("the permit had passed"))) }
}

/// The last check of a permit: the body of an act is handed over only when the connection stands and its first byte
/// would leave, which may be seconds after the request was made (a lost SYN, a slow TLS handshake). Without its body a
/// request is incomplete, and Nova does nothing.
#[derive(Debug, Default, Clone)]
struct Gate {
    opened: Arc<AtomicBool>,
}

impl Gate {
    fn body(&self, bytes: Vec<u8>, begin_before: Moment) -> Body {
        let opened = Arc::clone(&self.opened);
        Body::wrap_stream(stream::once(async move {
            if clock::moment() >= begin_before {
                return Err(std::io::Error::other("the permit passed while the connection was being made"));
            }
            opened.store(true, Ordering::SeqCst);
            Ok(bytes)
        }))
    }

    /// Certainly nothing happened exactly if the body was never handed over.
    fn judge(&self, error: &reqwest::Error) -> NovaError {
        let text = Text::new(chain(error));
        if self.opened.load(Ordering::SeqCst) { NovaError::Unknown(text) } else { NovaError::NotSent(text) }
    }
}

/// A service's root with its version in the path: catalogs have it with and without.
fn versioned(mut url: Url, version: &str) -> Url {
    let has = url.path_segments().is_some_and(|mut parts| parts.any(|part| part == version));
    if !has && let Ok(mut parts) = url.path_segments_mut() {
        parts.pop_if_empty().push(version);
    }
    url
}

/// An address below a service's root.
fn below(mut url: Url, path: &[&str]) -> Result<Url, NovaError> {
    match url.path_segments_mut() {
        Ok(mut segments) => drop(segments.pop_if_empty().extend(path)),
        Err(()) => return Err(NovaError::NotSent(Text::from("the catalog's endpoint is no web address"))),
    }
    Ok(url)
}

/// Without a token nothing was sent. What kind of failure osauth makes of it is of no use to the reader.
fn no_token(error: openstack::Error) -> NovaError {
    let text = error.to_string();
    let plain = text.strip_prefix(error.kind().description()).and_then(|rest| rest.strip_prefix(": "));
    NovaError::NotSent(Text::new(plain.unwrap_or(&text)))
}

fn not_built(error: reqwest::Error) -> NovaError {
    NovaError::NotSent(Text::new(chain(&error)))
}
