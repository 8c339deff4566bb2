//! A BMC: the server side of IPMI 2.0 RMCP+ ("lanplus") on a UDP address, with cipher suites 3 and 17.
//!
//! It answers presence pings, discovery (channel authentication capabilities, cipher suites), opens sessions, and in
//! them does Get Device ID, Get System GUID, Set Session Privilege Level, Get Chassis Status, Chassis Control and Close
//! Session. What power means is the caller's: a [`PowerHook`] kills or starts the fake host's process.
//!
//! [`Model`] is the same BMC without socket and clock, for tests in virtual time, with the faults of [`Faults`].
//!
//! As on a real BMC a session starts at USER level, and Chassis Control answers 0xD4 until it was raised to OPERATOR.

mod command;
mod crypto;
mod model;
mod server;
mod session;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::record::{Records, When};
pub use model::{Faults, Model};
use session::Sessions;

/// Whether the machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    On,
    /// It does not.
    Off,
}

/// Does what a change of power means: kills the fake host at once, or starts it. A power cycle and a hard reset are `Off` and then
/// `On`. It may block until that is done; it runs on a thread for blocking work, one call at a time per BMC. An error leaves the
/// power as it was and answers completion code 0xFF.
pub type PowerHook = Arc<dyn Fn(Power) -> io::Result<()> + Send + Sync>;

/// In which order a BMC sends the bytes of its system GUID. The field disagrees with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuidByteOrder {
    /// SMBIOS: the first three fields least significant byte first. Most BMCs, and what Linux shows for such bytes.
    #[default]
    Smbios,
    /// RFC 9562: most significant byte first throughout.
    Rfc,
    /// IPMI 2.0, table 20-10: the whole UUID least significant byte first.
    Ipmi,
}

/// Who the BMC is.
#[derive(Clone)]
pub struct BmcSettings {
    /// Its user, at most 16 bytes.
    pub username: String,
    /// Further ones.
    pub other_users: Vec<String>,
    /// The password of each, at most 20 bytes.
    pub password: String,
    /// The system UUID of the machine behind it.
    pub guid: Uuid,
    /// How it sends that.
    pub guid_byte_order: GuidByteOrder,
}

impl BmcSettings {
    fn users(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.username).chain(&self.other_users).map(String::as_str)
    }
}

impl fmt::Debug for BmcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BmcSettings")
            .field("username", &self.username)
            .field("guid", &self.guid)
            .field("guid_byte_order", &self.guid_byte_order)
            .finish_non_exhaustive()
    }
}

/// How the BMC behaves. Switch it live with [`Bmc::behaviour`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// Does what it is told and says what is so.
    #[default]
    Honest,
    /// Holds another password than its callers: no new session opens. Open ones go on.
    WrongPassword,
    /// Drops every packet, as when its cable was pulled or its supply was cut with the host's.
    Silent,
    /// Answers power orders with "done" and does nothing. Status stays true.
    SaysOkStaysOn,
    /// Says "off" whatever is so, and does nothing that it is told.
    LiesOff,
    /// Answers a chassis command only after this time, and acts just before the answer. A caller that gave up and went
    /// away has still given the order.
    Slow(Duration),
    /// Answers a power order at once with "done", and acts only after this time. Status stays true.
    ActsLate(Duration),
    /// Answers every chassis command with completion code 0xC0 (node busy).
    Busy,
    /// Does "off"; says "done" to "on" and stays off, as with a broken supply.
    StaysOff,
    /// Forgets its sessions, then is honest: what a reset of the BMC itself looks like from outside. Reads back as
    /// [`Behaviour::Honest`].
    Restarted,
}

/// What happened at a BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BmcRecordKind {
    /// A console proved its password.
    SessionOpened,
    /// A console failed to.
    SessionRefused,
    /// A console closed its session.
    SessionClosed,
    /// A chassis status was answered.
    StatusRead {
        /// What it was told, true or not.
        answered: Power,
    },
    /// A console with the privilege ordered this chassis control (0 down, 1 up, 2 cycle, 3 hard reset).
    Ordered(u8),
    /// A chassis command was refused with this completion code.
    Refused(u8),
    /// The machine lost its power.
    PowerOff,
    /// The machine got power.
    PowerOn,
}

/// One line of [`Bmc::record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BmcRecord {
    /// When.
    pub when: When,
    /// What.
    pub kind: BmcRecordKind,
}

/// A running fake BMC. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct Bmc {
    shared: Arc<Shared>,
    _server: Arc<Server>,
}

impl fmt::Debug for Bmc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bmc").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Bmc {
    /// Starts a BMC on `address` (port 0: any), with the power on. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound, or the user name or password is longer than IPMI allows.
    pub async fn start(address: SocketAddr, settings: BmcSettings, power: PowerHook) -> io::Result<Self> {
        if settings.users().any(|name| name.len() > 16) || settings.password.len() > 20 {
            return Err(io::Error::other("IPMI allows 16 bytes of user name and 20 of password"));
        }
        let socket = UdpSocket::bind(address).await?;
        let shared = Arc::new(Shared {
            address: socket.local_addr()?,
            settings,
            hook: power,
            acting: tokio::sync::Mutex::new(()),
            state: Mutex::new(State {
                power: Power::On,
                behaviour: Behaviour::Honest,
                sessions: Sessions::default(),
                records: Records::default(),
                silent_to: None,
                ordered_by: BTreeSet::new(),
            }),
        });
        let task = tokio::spawn(server::serve(Arc::clone(&shared), socket));
        Ok(Self { shared, _server: Arc::new(Server(task.abort_handle())) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Behaves so from now on.
    pub fn behaviour(&self, behaviour: Behaviour) {
        let mut state = self.shared.state();
        state.behaviour = behaviour;
        if behaviour == Behaviour::Restarted {
            state.sessions.clear();
            state.behaviour = Behaviour::Honest;
        }
    }

    /// From now on whoever comes as this user hears nothing of it, in open sessions neither, as where a network is cut between
    /// one console and the BMC; `None`: everybody hears it again. What is said before a console has told its name (discovery, Open
    /// Session) is answered.
    pub fn silent_to(&self, user: Option<&str>) {
        self.shared.state().silent_to = user.map(|name| name.as_bytes().to_vec());
    }

    /// As which users its consoles have ordered a chassis control, ever.
    #[must_use]
    pub fn ordered_by(&self) -> BTreeSet<String> {
        self.shared.state().ordered_by.clone()
    }

    /// Whether the machine has power. The truth, whatever the BMC says.
    #[must_use]
    pub fn power(&self) -> Power {
        self.shared.state().power
    }

    /// States that the machine has power, or not, without calling the hook: the caller did it.
    pub fn set_power(&self, power: Power) {
        self.shared.turned(power);
    }

    /// Presses the button on the front: calls the hook, whatever the behaviour is.
    ///
    /// # Errors
    /// Those of the hook.
    pub async fn press(&self, power: Power) -> io::Result<()> {
        self.shared.switch(&[power]).await
    }

    /// What happened, oldest first. The latest 200,000 lines are kept.
    #[must_use]
    pub fn record(&self) -> Vec<BmcRecord> {
        self.shared.state().records.all()
    }

    /// How many sessions are open or opening.
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

struct State {
    power: Power,
    behaviour: Behaviour,
    sessions: Sessions,
    records: Records<BmcRecord>,
    silent_to: Option<Vec<u8>>,
    ordered_by: BTreeSet<String>,
}

impl State {
    fn record(&mut self, kind: BmcRecordKind) {
        self.records.push(BmcRecord { when: When::now(), kind });
    }
}

struct Shared {
    address: SocketAddr,
    settings: BmcSettings,
    hook: PowerHook,
    /// Held while the hook runs: one power action at a time.
    acting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The GUID's bytes as they go on the wire.
    fn guid(&self) -> [u8; 16] {
        let guid = self.settings.guid;
        match self.settings.guid_byte_order {
            GuidByteOrder::Smbios => guid.to_bytes_le(),
            GuidByteOrder::Rfc => *guid.as_bytes(),
            GuidByteOrder::Ipmi => guid.as_u128().to_le_bytes(),
        }
    }

    fn turned(&self, power: Power) {
        let mut state = self.state();
        if state.power != power {
            state.power = power;
            state.record(match power {
                Power::On => BmcRecordKind::PowerOn,
                Power::Off => BmcRecordKind::PowerOff,
            });
        }
    }

    /// Calls the hook for each of these that changes something, and notes the new power.
    async fn switch(&self, powers: &[Power]) -> io::Result<()> {
        let _turn = self.acting.lock().await;
        for &wanted in powers {
            if self.state().power != wanted {
                let hook = Arc::clone(&self.hook);
                tokio::task::spawn_blocking(move || hook(wanted)).await.map_err(io::Error::other)??;
                self.turned(wanted);
            }
        }
        Ok(())
    }
}
