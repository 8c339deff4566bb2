//! A Redfish service: the server side of DSP0266 over HTTP or HTTPS on a TCP address, with sessions, basic authentication,
//! systems, and their action `ComputerSystem.Reset`.
//!
//! HTTP is spoken by hand, as no server library would send what a broken BMC sends.

mod http;
mod identity;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::bmc::Power;
use super::record::{Records, When};

pub use identity::{Identity, Validity};

/// Sessions a service keeps before it refuses another; BMCs have 4 to 16.
const SESSIONS_MAX: usize = 8;

/// Who the service is.
#[derive(Clone)]
pub struct ServiceSettings {
    /// The one user.
    pub username: String,
    /// Its password.
    pub password: String,
    /// The systems behind it.
    pub systems: Vec<SystemSettings>,
    /// Its certificate; `None`: plain http.
    pub identity: Option<Identity>,
}

impl fmt::Debug for ServiceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSettings")
            .field("username", &self.username)
            .field("systems", &self.systems)
            .finish_non_exhaustive()
    }
}

/// One system of a service.
#[derive(Debug, Clone)]
pub struct SystemSettings {
    /// The last part of its path.
    pub id: String,
    /// What it tells as its UUID.
    pub uuid: Uuid,
    /// The reset types it says it takes. Empty: it does not say.
    pub resets: Vec<&'static str>,
}

impl SystemSettings {
    /// One as services usually have it.
    #[must_use]
    pub fn new(id: &str, uuid: Uuid) -> Self {
        let resets = vec!["On", "ForceOff", "GracefulShutdown", "ForceRestart", "PushPowerButton"];
        Self { id: id.to_owned(), uuid, resets }
    }
}

/// How the service behaves. Switch it live with [`Redfish::behaviour`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Does what it is told and says what is so.
    #[default]
    Honest,
    /// Holds another password than its callers. Open sessions go on.
    WrongPassword,
    /// The account is locked: 403 to whoever comes with it.
    Locked,
    /// Takes connections and never answers.
    Silent,
    /// Cuts every connection at once.
    Dead,
    /// Cuts the connection at an order, having done nothing.
    CutsBeforeOrder,
    /// Carries out an order and cuts the connection before it answers.
    CutsAfterOrder,
    /// Answers orders with 204 and does nothing. What it reads is true.
    SaysOkStaysOn,
    /// Answers an order at once, says *Off* for half a second, then, truly, *On* until this time has passed, and only
    /// then cuts the power.
    OffForShow(Duration),
    /// Answers each call after this time.
    Slow(Duration),
    /// Answers an order at once with 204 and carries it out after this time.
    ActsLate(Duration),
    /// Answers an order with 202 and a task. Carries it out after this time; `None`: its task fails.
    Task(Option<Duration>),
    /// Bytes that are no HTTP.
    Garbage,
    /// HTTP whose body is no JSON.
    GarbledBody,
    /// A body of sixteen megabytes.
    Oversize,
    /// A body that never ends.
    NeverEnds,
    /// Everything but sessions is answered with this status, and nothing is done.
    Http(u16),
    /// The same with 503 and `Retry-After` in seconds.
    Busy(u32),
    /// Orders are answered with this status and these words, and nothing is done.
    RefusesOrders(u16, &'static str),
    /// Everything is redirected there.
    Redirects(String),
    /// Orders without `If-Match` are answered with this status; with the right one they are done.
    WantsEtag(u16),
    /// A reading's `PowerState` is this JSON.
    Says(&'static str),
    /// It tells this UUID.
    IsMachine(Uuid),
    /// Its list of systems leads there.
    LeadsTo(String),
    /// The target of a system's action is there.
    Targets(String),
}

/// What happened at a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedfishRecordKind {
    /// A session was opened.
    LoggedIn,
    /// A login, or a call without a good pass, was refused.
    Refused,
    /// A session was closed.
    LoggedOut,
    /// A system was read.
    Read,
    /// A reset was ordered, of this type. Whether it was done is another matter.
    Ordered(String),
    /// The machine lost its power.
    PowerOff,
    /// The machine got power.
    PowerOn,
}

/// One line of [`Redfish::record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedfishRecord {
    /// When.
    pub when: When,
    /// What.
    pub kind: RedfishRecordKind,
}

/// A running fake service. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct Redfish {
    shared: Arc<Shared>,
    _server: Arc<Server>,
}

impl fmt::Debug for Redfish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redfish").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Redfish {
    /// Starts a service on `address` (port 0: any), with the power of all its systems on. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, settings: ServiceSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let acceptor = settings.identity.as_ref().map(|identity| TlsAcceptor::from(Arc::clone(&identity.config)));
        let machines = settings.systems.iter().map(|system| (system.id.clone(), Machine::default())).collect();
        let state = State { machines, ..State::default() };
        let shared = Arc::new(Shared { address: listener.local_addr()?, settings, state: Mutex::new(state) });
        let task = tokio::spawn(http::serve(Arc::clone(&shared), listener, acceptor));
        Ok(Self { shared, _server: Arc::new(Server(task.abort_handle())) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Behaves so from now on.
    pub fn behaviour(&self, behaviour: Behaviour) {
        self.shared.state().behaviour = behaviour;
    }

    /// Forgets all its sessions, as when the BMC itself is reset.
    pub fn restart(&self) {
        self.shared.state().sessions.clear();
    }

    /// Whether its first machine has power. The truth, whatever the service says.
    #[must_use]
    pub fn power(&self) -> Power {
        self.power_of(&self.shared.settings.systems[0].id)
    }

    /// The same of that system. One that it does not have has none.
    #[must_use]
    pub fn power_of(&self, id: &str) -> Power {
        self.shared.state().machines.get(id).map_or(Power::Off, |machine| machine.power)
    }

    /// Somebody presses the button of the first machine.
    pub fn set_power(&self, power: Power) {
        self.shared.turn(&self.shared.settings.systems[0].id, power);
    }

    /// What happened, oldest first. The latest 200,000 lines are kept.
    #[must_use]
    pub fn record(&self) -> Vec<RedfishRecord> {
        self.shared.state().records.all()
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.state().sessions.len()
    }
}

struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    address: SocketAddr,
    settings: ServiceSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    machines: BTreeMap<String, Machine>,
    /// Tokens, by the ids of their sessions.
    sessions: BTreeMap<u32, String>,
    sessions_opened: u32,
    records: Records<RedfishRecord>,
}

struct Machine {
    power: Power,
    /// Counts every change, for its ETag.
    version: u32,
    /// Until then it says *Off*, whatever is so.
    shows_off_until: Option<tokio::time::Instant>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { power: Power::On, version: 1, shows_off_until: None }
    }
}

impl State {
    fn record(&mut self, kind: RedfishRecordKind) {
        self.records.push(RedfishRecord { when: When::now(), kind });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, id: &str, power: Power) {
        let mut state = self.state();
        let Some(machine) = state.machines.get_mut(id).filter(|machine| machine.power != power) else { return };
        machine.power = power;
        machine.version += 1;
        state.record(match power {
            Power::Off => RedfishRecordKind::PowerOff,
            Power::On => RedfishRecordKind::PowerOn,
        });
    }
}
