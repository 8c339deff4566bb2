//! How we are let in: a session and its token, or user and password with each request.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, Text};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::document::{own_path, sessions, unusable};
use super::left;
use super::wire::{Answer, Wire, send};
use crate::bmc::scrub::Scrub;
use crate::bmc::secret::SecretSource;
use crate::bmc::settings::{RedfishAuth, SECRET_BYTES_MAX};
use crate::clock;

/// Where sessions are opened (DSP0266, 13.3.4.2). Older services have them elsewhere, and say so in their root.
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
/// The service's root, which is told to anybody.
const SERVICE_ROOT: &str = "/redfish/v1/";

/// How long the farewell may take. Nobody waits for it, and the service forgets the session by itself later.
const LOGOUT_WITHIN: Duration = Duration::from_secs(5);

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The door of one device. Holds one session at most.
pub(super) struct Entry {
    desk: Arc<Desk>,
    session: Arc<Mutex<Option<Session>>>,
    idle: Duration,
}

/// What is needed to open a session.
pub(super) struct Desk {
    pub(super) address: Address,
    pub(super) username: String,
    pub(super) password: SecretSource,
    pub(super) auth: RedfishAuth,
    pub(super) wire: Arc<Wire>,
}

struct Session {
    token: SecretString,
    used: Moment,
    /// Its keeper hears when this is dropped.
    _held: oneshot::Sender<()>,
}

/// Who closes a session, and when.
struct Keeper {
    desk: Arc<Desk>,
    session: Weak<Mutex<Option<Session>>>,
    idle: Duration,
    token: SecretString,
    url: Url,
}

/// What lets a request in.
pub(super) enum Pass {
    Basic(SecretString),
    Token(SecretString),
}

impl Entry {
    /// A session that was not used for `idle` is closed.
    pub(super) fn new(desk: Desk, idle: Duration) -> Self {
        Self { desk: Arc::new(desk), session: Arc::default(), idle }
    }

    pub(super) fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// A pass that the device took when it was last shown, or a new one.
    pub(super) async fn pass(&self, end: Moment) -> Result<Pass, DeviceError> {
        if self.desk.auth == RedfishAuth::Basic {
            return Ok(Pass::Basic(self.desk.password()?));
        }
        let slot = Arc::clone(&self.session).lock_owned();
        let late = |_| DeviceError::Silent(Text::from("an earlier login took all the time"));
        let mut slot = timeout(left(end), slot).await.map_err(late)?;
        if let Some(session) = slot.as_mut() {
            session.used = clock::moment();
            return Ok(Pass::Token(session.token.clone()));
        }
        // On its own, if its caller goes away (a power-off goes before a reading): else the device would keep a session
        // that nobody knows of, and the power-off would have to log in once more. It ends by `end` all the same.
        let (desk, session, idle) = (Arc::clone(&self.desk), Arc::downgrade(&self.session), self.idle);
        let login = tokio::spawn(async move {
            let (token, url) = desk.login(end).await?;
            let (_held, dropped) = oneshot::channel();
            *slot = Some(Session { token: token.clone(), used: clock::moment(), _held });
            if let Some(url) = url {
                tokio::spawn(Keeper { desk, session, idle, token: token.clone(), url }.keep(dropped));
            }
            Ok::<_, DeviceError>(Pass::Token(token))
        });
        login.await.unwrap_or_else(|_| Err(unusable("the login did not come to its end".to_owned())))
    }

    /// The device refused this pass. `true`: another may do.
    pub(super) async fn forget(&self, refused: &Pass) -> bool {
        let Pass::Token(token) = refused else { return false };
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|session| session.is(token)) {
            tracing::debug!(address = %self.desk.address, "the device forgot our session: opening another");
            *slot = None;
        }
        true
    }

    /// A refusal, before any of it is cut or quoted.
    pub(super) fn cleaned(&self, answer: Answer, pass: &Pass) -> Answer {
        match pass {
            _ if answer.status.is_success() => answer,
            Pass::Basic(_) => answer.cleaned(&self.desk.scrub(None)),
            Pass::Token(token) => answer.cleaned(&self.desk.scrub(Some(token))),
        }
    }

    /// A request with its pass.
    pub(super) fn show(&self, pass: &Pass, request: RequestBuilder) -> RequestBuilder {
        match pass {
            Pass::Basic(password) => request.basic_auth(&self.desk.username, Some(password.expose_secret())),
            Pass::Token(token) => with_token(request, token),
        }
    }

    /// An error without our secrets: services like to repeat what they were sent.
    pub(super) fn clean(&self, error: DeviceError) -> DeviceError {
        let token = self.session.try_lock().ok().and_then(|slot| slot.as_ref().map(|session| session.token.clone()));
        let scrub = self.desk.scrub(token.as_ref());
        let clean = |text: &Text| Text::new(scrub.clean(text.as_str(), false));
        match &error {
            DeviceError::Silent(text) => DeviceError::Silent(clean(text)),
            DeviceError::Credentials(text) => DeviceError::Credentials(clean(text)),
            DeviceError::Foreign(text) => DeviceError::Foreign(clean(text)),
            DeviceError::Refused(text) => DeviceError::Refused(clean(text)),
            DeviceError::Unusable(text) => DeviceError::Unusable(clean(text)),
        }
    }
}

impl Desk {
    /// Read anew each time: it may have been changed.
    fn password(&self) -> Result<SecretString, DeviceError> {
        self.password.read(SECRET_BYTES_MAX).map_err(|error| unusable(error.to_string()))
    }

    fn scrub(&self, token: Option<&SecretString>) -> Scrub {
        let password = self.password().ok();
        Scrub::of(password.iter().chain(token), Some(&self.username))
    }

    /// Opens a session: its token, and where it is closed.
    async fn login(&self, end: Moment) -> Result<(SecretString, Option<Url>), DeviceError> {
        let password = self.password()?;
        let mut answer = self.open(self.address.at(SESSIONS), &password, end).await?;
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            answer = self.open(self.sessions(end).await?, &password, end).await?;
        }
        if !answer.status.is_success() {
            return Err(answer.cleaned(&self.scrub(None)).refusal());
        }
        let token = answer.header(&TOKEN).filter(|token| (1..=SECRET_BYTES_MAX).contains(&token.len()));
        let token = token.ok_or_else(|| unusable("it opened a session without telling its token".to_owned()))?;
        let place = answer.location().map(ToOwned::to_owned).or_else(|| own_path(&answer.body));
        // Without it the session lasts until the service ends it.
        let url = place.and_then(|place| self.address.follow_location(&place).ok());
        Ok((SecretString::from(token), url))
    }

    async fn open(&self, url: Url, password: &SecretString, end: Moment) -> Result<Answer, DeviceError> {
        let body = json!({ "UserName": self.username, "Password": password.expose_secret() });
        let request = self.wire.client()?.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        Ok(send(request, end).await?)
    }

    /// Where the root says that sessions are opened.
    async fn sessions(&self, end: Moment) -> Result<Url, DeviceError> {
        let root = send(self.wire.client()?.get(self.address.at(SERVICE_ROOT)), end).await?.success()?;
        let path = sessions(&root).ok_or_else(|| unusable("it offers no sessions: set auth = \"basic\"".to_owned()))?;
        self.address.follow(&path).map_err(unusable)
    }
}

impl Keeper {
    /// Closes the session when nobody has used it for a while, or its driver is gone.
    async fn keep(self, mut dropped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut dropped => break,
                () = sleep(self.idle / 2) => {}
            }
            let Some(slot) = self.session.upgrade() else { break };
            let mut slot = slot.lock().await;
            let ours = slot.as_ref().filter(|held| held.is(&self.token));
            if ours.is_some_and(|held| clock::moment().since(held.used) >= self.idle) {
                *slot = None;
            }
        }
        let Ok(client) = self.desk.wire.client() else { return };
        // Whatever it says to it: it may have forgotten it, or be gone.
        let _ = send(with_token(client.delete(self.url), &self.token), clock::moment() + LOGOUT_WITHIN).await;
    }
}

impl Session {
    fn is(&self, token: &SecretString) -> bool {
        self.token.expose_secret() == token.expose_secret()
    }
}

/// Never shown in a log of HTTP's innards.
fn with_token(request: RequestBuilder, token: &SecretString) -> RequestBuilder {
    match HeaderValue::from_str(token.expose_secret()) {
        Ok(mut value) => {
            value.set_sensitive(true);
            request.header(TOKEN, value)
        }
        // It came as a header: it can be one.
        Err(_) => request,
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("address", &self.desk.address).finish_non_exhaustive()
    }
}
