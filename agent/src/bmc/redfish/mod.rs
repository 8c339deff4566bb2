//! The driver `redfish`: DMTF Redfish (DSP0266) over HTTPS, spoken by ourselves.
//!
//! Three resources and one action: a session, the list of systems, the system, and its `ComputerSystem.Reset`. That an
//! order was accepted (200, 202, 204) says nothing about power, and neither does anything but *On* and *Off* in
//! `PowerState`: services answer an order in milliseconds and carry it out seconds later, or not at all.
//!
//! | file | does |
//! |---|---|
//! | `address` | where the service is; which addresses of its own are followed |
//! | `tls` | whose certificate is trusted |
//! | `wire` | one request: its bounds, what kind of failure it was, the last check before an order leaves |
//! | `entry` | the session: opened, renewed when the device forgot it, closed when it is not used |
//! | `document` | its JSON as our words |
//! | `driver` | what the daemon asks of it |

mod address;
mod document;
mod driver;
mod entry;
mod tls;
mod trial;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, OrderError};
use rekindle_proto::id::HostName;
use reqwest::header::IF_MATCH;
use reqwest::{StatusCode, Url};
use serde_json::json;
use uuid::Uuid;

use self::address::Address;
use self::document::{System, Want, complaint, members, says_already, unusable};
use self::entry::{Desk, Entry};
use self::wire::{Answer, Failed, Gate, Wire, send};
use super::settings::{RedfishSettings, RedfishTrust};
use crate::clock;

pub(crate) use self::address::is_id as is_system;
pub use self::trial::RedfishTrial;

/// The list of systems (DSP0266, 6.6).
const SYSTEMS: &str = "/redfish/v1/Systems";

/// For so long after a system was read an order may go out at once, by what was read: its connection still stands. Later
/// it is read once more first, as a connection and a session take longer to come about than a permit lasts.
const READY_FOR: Duration = Duration::from_secs(3);

/// A session that was not used for so long is closed: longer than any pause between the readings of one fence, and short
/// beside the ten minutes between health checks. BMCs have few sessions, some four, and every voter would hold one.
const SESSION_IDLE: Duration = Duration::from_secs(60);

/// Which of a service's systems is the host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SystemChoice {
    /// The only one it has.
    Only,
    /// The one with this id.
    Id(String),
    /// The one with this UUID, or with an id that reads so.
    Uuid(Uuid),
}

impl SystemChoice {
    /// From the key `system`: an id, or a UUID.
    ///
    /// # Errors
    /// The rule that is broken.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const UUID_BYTES: usize = 36;
        if !address::is_id(text) {
            return Err("must be the id of a system (the last part of its @odata.id) or its UUID");
        }
        // Other spellings than with hyphens may be ids.
        let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == UUID_BYTES);
        Ok(uuid.map_or_else(|| Self::Id(text.to_owned()), Self::Uuid))
    }
}

/// The driver of one device.
#[derive(Debug)]
pub(super) struct Redfish {
    address: Address,
    system: SystemChoice,
    wire: Arc<Wire>,
    entry: Entry,
    known: Mutex<Known>,
}

/// What is kept between calls.
#[derive(Debug, Default)]
struct Known {
    /// Where the system is.
    path: Option<String>,
    /// The system as it was last read.
    last: Option<Look>,
}

/// The system as it was read.
#[derive(Debug, Clone)]
struct Look {
    at: Moment,
    path: String,
    etag: Option<String>,
    system: Arc<System>,
}

impl Look {
    /// Whether it is the system that is meant.
    fn is_of(&self, identity: Option<&DeviceIdentity>) -> Result<(), DeviceError> {
        identity.map_or(Ok(()), |identity| identity.judge(&self.system.guid()))
    }
}

impl Redfish {
    /// The device of this host. Nothing is sent yet.
    ///
    /// # Errors
    /// [`DeviceError::Unusable`]: an address or a system that can be none.
    pub(super) fn new(settings: &RedfishSettings, host: &HostName) -> Result<Self, DeviceError> {
        let tls = settings.trust != RedfishTrust::Nobody;
        let address = Address::new(&settings.endpoint.of(host), tls).map_err(unusable)?;
        let system = settings.system.as_ref().map(|system| system.replace("{host}", host.as_str()));
        let system = match system {
            None => SystemChoice::Only,
            Some(system) => {
                SystemChoice::parse(&system).map_err(|rule| unusable(format!("system = {system:?} {rule}")))?
            }
        };
        let wire = Arc::new(Wire::new(settings.trust.clone()));
        let desk = Desk {
            address: address.clone(),
            username: settings.username.clone(),
            password: settings.password.of(host),
            auth: settings.auth,
            wire: Arc::clone(&wire),
        };
        Ok(Self { address, system, wire, entry: Entry::new(desk, SESSION_IDLE), known: Mutex::default() })
    }

    /// The same with sessions that are closed earlier.
    fn with_session_idle(self, idle: Duration) -> Self {
        Self { entry: self.entry.with_idle(idle), ..self }
    }

    /// Reads the system.
    async fn look(&self, end: Moment) -> Result<Look, DeviceError> {
        let known = self.known().path.clone();
        let path = match known {
            Some(path) => path,
            None => {
                let found = self.find(end).await?;
                // At once: a slow service may not get further before `end`, now or ever.
                self.known().path = Some(found.clone());
                found
            }
        };
        let answer = self.get(self.address.follow(&path).map_err(unusable)?, end).await?;
        if answer.status == StatusCode::NOT_FOUND {
            // Numbered anew, perhaps with a new firmware: the next call looks for it, and no order goes by what was there.
            *self.known() = Known::default();
        }
        let etag = answer.etag().map(ToOwned::to_owned);
        let system = System::parse(&answer.success()?)?;
        if let SystemChoice::Uuid(uuid) = self.system
            && !(is_last(&path, uuid) || system.is_machine(uuid))
        {
            *self.known() = Known::default();
            return Err(unusable(format!("the system at {path} is no longer that with the UUID {uuid}")));
        }
        let etag = etag.or_else(|| system.etag().map(ToOwned::to_owned));
        let look = Look { at: clock::moment(), path, etag, system: Arc::new(system) };
        self.known().last = Some(look.clone());
        Ok(look)
    }

    /// Where the system is.
    async fn find(&self, end: Moment) -> Result<String, DeviceError> {
        let uuid = match &self.system {
            SystemChoice::Id(id) => return Ok(format!("{SYSTEMS}/{id}")),
            SystemChoice::Only => None,
            SystemChoice::Uuid(uuid) => Some(*uuid),
        };
        let paths = members(&self.get(self.address.at(SYSTEMS), end).await?.success()?)?;
        let Some(uuid) = uuid else {
            return match paths.as_slice() {
                [only] => Ok(only.clone()),
                [] => Err(unusable("it has no system".to_owned())),
                several => {
                    let names: Vec<&str> = several.iter().map(|path| last_part(path)).collect();
                    Err(unusable(format!(
                        "it has {} systems, {}: `system` must name one",
                        names.len(),
                        names.join(", ")
                    )))
                }
            };
        };
        if let Some(path) = paths.iter().find(|path| is_last(path, uuid)) {
            return Ok(path.clone());
        }
        for path in &paths {
            let answer = self.get(self.address.follow(path).map_err(unusable)?, end).await?;
            // One that does not tell what it is is not the one.
            let system = answer.success().and_then(|body| System::parse(&body));
            if system.is_ok_and(|system| system.is_machine(uuid)) {
                return Ok(path.clone());
            }
        }
        Err(unusable(format!("none of its {} systems has the UUID {uuid}", paths.len())))
    }

    /// Reads something. At most once each: a session that the device forgot is replaced, a kept connection that it closed
    /// is made anew, and the slash at the end that it wants (or does not) is given to it.
    async fn get(&self, mut url: Url, end: Moment) -> Result<Answer, DeviceError> {
        let (mut entered, mut connected, mut slashed) = (false, false, false);
        loop {
            let pass = self.entry.pass(end).await?;
            let request = self.entry.show(&pass, self.wire.client()?.get(url.clone()));
            let answer = match send(request, end).await {
                Err(Failed::Broke(_)) if !connected => {
                    connected = true;
                    continue;
                }
                answer => answer?,
            };
            if answer.status == StatusCode::UNAUTHORIZED && !entered && self.entry.forget(&pass).await {
                entered = true;
                continue;
            }
            if let Some(same) = self.same_place(&url, &answer).filter(|_| !slashed) {
                slashed = true;
                url = same;
                continue;
            }
            return Ok(self.entry.cleaned(answer, &pass));
        }
    }

    /// A redirect to the same address with or without a slash at its end leads nowhere else: some services have only one
    /// of the two, though both are the same (DSP0266, 6.6). No other is followed.
    fn same_place(&self, url: &Url, answer: &Answer) -> Option<Url> {
        let to = answer.location().filter(|_| answer.status.is_redirection())?;
        let to = self.address.follow_location(to).ok()?;
        let bare = |url: &Url| url.path().trim_end_matches('/').to_owned();
        (to != *url && bare(&to) == bare(url)).then_some(to)
    }

    /// Sends the order, at most once; only a 401, which says that nothing was done, is answered with a new session and
    /// one more try under the same permit. Whether it may have left is the gate's to say.
    async fn order(
        &self,
        look: &Look,
        (want, identity): (Want, Option<&DeviceIdentity>),
        etag: Option<&str>,
        (gate, begin_before): (&Gate, Moment),
        end: Moment,
    ) -> Result<Answer, DeviceError> {
        let reset = look.system.reset(&look.path, want)?;
        let url = self.address.follow(&reset.target).map_err(unusable)?;
        let mut entered = false;
        loop {
            let pass = self.entry.pass(end).await?;
            let mut request = self.entry.show(&pass, self.wire.client()?.post(url.clone()));
            if let Some(etag) = etag {
                request = request.header(IF_MATCH, etag);
            }
            let request = gate.order(request, json!({ "ResetType": reset.kind }).to_string(), begin_before);
            match send(request, end).await {
                Ok(answer)
                    if answer.status == StatusCode::UNAUTHORIZED && !entered && self.entry.forget(&pass).await =>
                {
                    entered = true;
                    // Whoever forgot the session may be another one than told whose it is in it.
                    if identity.is_some() {
                        self.look(end).await?.is_of(identity)?;
                    }
                }
                Ok(answer) => return Ok(self.entry.cleaned(answer, &pass)),
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// Gives an order, and says of a failure whether anything of it may have left.
    async fn switch(
        &self,
        want: Want,
        identity: Option<&DeviceIdentity>,
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), OrderError> {
        let now = clock::moment();
        if now >= begin_before || now >= end {
            return Err(OrderError::TooLate);
        }
        let gate = Gate::default();
        let result = self.give((want, identity), (&gate, begin_before), end).await;
        match (result, gate.is_open()) {
            (Ok(()), true) => Ok(()),
            (Err(error), true) => Err(OrderError::MaybeSent(self.entry.clean(error))),
            (Err(_), false) if gate.was_late() => Err(OrderError::TooLate),
            (Err(error), false) => Err(OrderError::NotSent(self.entry.clean(error))),
            (Ok(()), false) => Err(OrderError::NotSent(unusable("it answered before it had the order".to_owned()))),
        }
    }

    /// Gives an order, and judges what is answered to it.
    async fn give(
        &self,
        (want, identity): (Want, Option<&DeviceIdentity>),
        (gate, begin_before): (&Gate, Moment),
        end: Moment,
    ) -> Result<(), DeviceError> {
        let now = clock::moment();
        let last = self.known().last.take();
        let mut look = match last.filter(|look| now.since(look.at) < READY_FOR) {
            Some(look) => look,
            None => self.look(end).await?,
        };
        look.is_of(identity)?;
        let mut answer = self.order(&look, (want, identity), None, (gate, begin_before), end).await?;
        if matches!(answer.status, StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED) {
            // Some want to hear which version of the system is meant, others refuse to hear it: so only on demand.
            look = self.look(end).await?;
            look.is_of(identity)?;
            let Some(etag) = look.etag.as_deref() else { return Err(answer.refusal()) };
            answer = self.order(&look, (want, identity), Some(etag), (gate, begin_before), end).await?;
        }
        self.judge(&answer, want, end).await
    }

    /// Accepted; or refused because there was nothing to do, which counts only if it is then read so.
    async fn judge(&self, answer: &Answer, want: Want, end: Moment) -> Result<(), DeviceError> {
        let already = match answer.status {
            status if status.is_success() => return Ok(()),
            StatusCode::CONFLICT => true,
            StatusCode::BAD_REQUEST => says_already(&complaint(&answer.body)),
            StatusCode::NOT_FOUND => {
                self.known().path = None;
                false
            }
            _ => false,
        };
        if already && self.look(end).await.and_then(|look| look.system.power()) == Ok(want.power()) {
            return Ok(());
        }
        Err(answer.refusal())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is behind it is changed in steps that cannot panic between them.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether certificates can be judged by these settings. Nothing is sent.
///
/// # Errors
/// In words, with the file's name.
pub(super) fn check_trust(trust: &RedfishTrust) -> Result<(), String> {
    tls::client(trust).map(drop)
}

/// The last part of a path.
fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Whether a path ends with this UUID: an id that is one.
fn is_last(path: &str, uuid: Uuid) -> bool {
    Uuid::try_parse(last_part(path)).is_ok_and(|id| id == uuid)
}

/// What is left until then.
fn left(end: Moment) -> Duration {
    end.since(clock::moment())
}
