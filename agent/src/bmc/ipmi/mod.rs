//! The driver `ipmi`: IPMI 2.0 over LAN (RMCP+), spoken by ourselves.
//!
//! No program is started, so no password stands in a command line; and a session is kept, so a reading costs one round
//! trip, and none of a process. Cipher suites 17 and 3 and no others: see [`CipherSuite::from_number`].
//!
//! | module | is |
//! |---|---|
//! | `suite`, `packet`, `command` | bytes: codes and keys, datagrams, commands and their answers |
//! | `rakp`, `session` | the handshake, and who may say what in the session it leads to |
//! | `console`, `call` | the conversation: what is asked, sent again, given up; no clock, no I/O |
//! | `login`, `error` | the keys; what can go wrong |
//! | here | a UDP socket and the clock around one [`Console`] |
//!
//! "IPMI 2.0" is the *Intelligent Platform Management Interface Specification, Second Generation*, v2.0, revision 1.1.

mod call;
mod command;
mod console;
mod error;
mod login;
mod packet;
mod rakp;
mod session;
mod suite;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceReading, OrderError, PowerState};
use rekindle_proto::id::HostName;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

pub use self::call::{Answer, Ask, Times};
pub use self::command::DeviceId;
pub use self::console::{Console, Entropy, Step};
pub use self::error::{Completion, IpmiError, Status};
pub use self::login::Login;
pub use self::suite::CipherSuite;
use super::driver::{FenceDriver, lost as untold};
use super::settings::IpmiSettings;
use crate::clock;

/// Longest wait for a name's address. It counts against the call's time.
const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// One BMC. It costs a socket and a few hundred bytes, and no thread. Calls are one at a time; a second one waits.
#[derive(Debug)]
pub struct NativeIpmi {
    settings: IpmiSettings,
    link: Mutex<Option<Box<Link>>>,
}

/// A call that came to nothing.
#[derive(Debug)]
struct Failed {
    why: IpmiError,
    /// A power order of it was put on the wire, and may be carried out.
    ordered: bool,
}

impl From<IpmiError> for Failed {
    /// Before anything could be sent.
    fn from(why: IpmiError) -> Self {
        Self { why, ordered: false }
    }
}

impl From<Failed> for DeviceError {
    fn from(failed: Failed) -> Self {
        failed.why.into()
    }
}

impl From<Failed> for OrderError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed { why, ordered: true } => Self::MaybeSent(why.into()),
            Failed { why: IpmiError::TooLate, ordered: false } => Self::TooLate,
            Failed { why, ordered: false } => Self::NotSent(why.into()),
        }
    }
}

#[derive(Debug)]
struct Link {
    console: Console,
    socket: UdpSocket,
    peer: SocketAddr,
}

impl NativeIpmi {
    /// That host's BMC. Nothing is read or sent before the first call.
    #[must_use]
    pub fn new(settings: &IpmiSettings, host: &HostName) -> Self {
        let settings = IpmiSettings {
            endpoint: settings.endpoint.of(host),
            password: settings.password.of(host),
            k_g: settings.k_g.as_ref().map(|source| source.of(host)),
            ..settings.clone()
        };
        Self { settings, link: Mutex::new(None) }
    }

    /// The power, as the BMC tells it in its one bit for it.
    ///
    /// # Errors
    /// Anything else; it says nothing about the power.
    pub async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        match self.call(Ask::Power, None, end, end).await? {
            Answer::Power(state) => Ok(state),
            answer @ (Answer::Guid(_) | Answer::DeviceId(_) | Answer::Accepted) => Err(odd(answer)),
        }
    }

    /// The system GUID, sixteen bytes as they come.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        match self.call(Ask::Guid, None, end, end).await? {
            Answer::Guid(bytes) => Ok(DeviceGuid(bytes)),
            answer @ (Answer::Power(_) | Answer::DeviceId(_) | Answer::Accepted) => Err(odd(answer)),
        }
    }

    /// Who the BMC is.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn device_id(&self, end: Moment) -> Result<DeviceId, DeviceError> {
        match self.call(Ask::DeviceId, None, end, end).await? {
            Answer::DeviceId(id) => Ok(id),
            answer @ (Answer::Power(_) | Answer::Guid(_) | Answer::Accepted) => Err(odd(answer)),
        }
    }

    /// Cuts the power, whosever it is: for tools and benches; the daemon's orders go through the trait, and say whose. `Ok`:
    /// the BMC said that it would, or refused because the power is off already and then read so;
    /// whether it did is to be read. The order, and every copy of it that silence or "busy" calls for, is put on the wire
    /// before `begin_before` only. A copy does no harm: off is off.
    ///
    /// # Errors
    /// [`OrderError::MaybeSent`]: the BMC may or may not have cut the power, or may yet. Any other: the order was not sent.
    pub async fn power_off(&self, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.order(PowerState::Off, None, begin_before, end).await
    }

    /// Switches on, by the same rules.
    ///
    /// # Errors
    /// As for [`NativeIpmi::power_off`].
    pub async fn power_on(&self, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.order(PowerState::On, None, begin_before, end).await
    }

    async fn order(
        &self,
        state: PowerState,
        identity: Option<&DeviceIdentity>,
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), OrderError> {
        match self.call(Ask::Order(state), identity, begin_before, end).await? {
            Answer::Accepted => Ok(()),
            answer @ (Answer::Power(_) | Answer::Guid(_) | Answer::DeviceId(_)) => {
                Err(OrderError::MaybeSent(odd(answer)))
            }
        }
    }

    async fn call(
        &self,
        ask: Ask,
        identity: Option<&DeviceIdentity>,
        begin_before: Moment,
        end: Moment,
    ) -> Result<Answer, Failed> {
        let Ok(mut link) = timeout(left(end), self.link.lock()).await else {
            return Err(IpmiError::Unusable("not asked: an earlier call took all the time".to_owned()).into());
        };
        self.prepare(&mut link, end).await?;
        let Some(link) = link.as_mut() else { return Err(lost().into()) };
        link.console.begin(clock::moment(), ask, Times { begin_before, end });
        if let Some(identity) = identity {
            link.console.hold_to(*identity);
        }
        let mut buffer = [0; packet::DATAGRAM_MAX + 1];
        loop {
            match link.console.poll(clock::moment()) {
                Step::Send(datagram) => link.send(&datagram),
                Step::Wait(until) => tokio::select! {
                    received = link.socket.recv(&mut buffer) => match received {
                        Ok(length) => link.console.receive(clock::moment(), &buffer[..length]),
                        Err(error) => link.console.note_trouble(error.to_string()),
                    },
                    () = sleep(left(until)) => {}
                },
                Step::Done(result) => {
                    return result.map_err(|why| Failed { why, ordered: link.console.has_ordered() });
                }
                Step::Idle => return Err(Failed { why: lost(), ordered: link.console.has_ordered() }),
            }
        }
    }

    /// A socket to the BMC; and its keys, where a session has to be opened: they may have been changed since the last.
    async fn prepare(&self, link: &mut Option<Box<Link>>, end: Moment) -> Result<(), IpmiError> {
        if link.as_ref().is_some_and(|link| !link.console.is_closed()) {
            return Ok(());
        }
        let login = Login::read(&self.settings)?;
        let peer = self.resolve(link.as_ref().map(|link| link.peer), end).await?;
        match link.as_mut().filter(|link| link.peer == peer) {
            Some(link) => link.console.set_login(login),
            None => {
                let failed = |error: io::Error| unreached("a UDP socket", error.to_string());
                let socket = connect(peer, end).await.map_err(failed)?;
                *link = Some(Box::new(Link { console: Console::new(login, entropy()), socket, peer }));
            }
        }
        Ok(())
    }

    /// The BMC's address. Where names cannot be looked up, the one it had before: a name server may have died with the
    /// host that is to be fenced.
    async fn resolve(&self, known: Option<SocketAddr>, end: Moment) -> Result<SocketAddr, IpmiError> {
        let (address, port) = (self.settings.endpoint.host(), self.settings.endpoint.port());
        if let Ok(address) = address.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        let found = timeout(left(end).min(RESOLVE_MAX), lookup_host((address, port))).await;
        let why = match found {
            Ok(Ok(mut found)) => match found.next() {
                Some(found) => return Ok(found),
                None => "it has no address".to_owned(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no name server answered".to_owned(),
        };
        known.ok_or_else(|| unreached("the name server", format!("{address}: {why}")))
    }
}

impl FenceDriver for NativeIpmi {
    async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        Self::power_state(self, end).await
    }

    async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        Self::guid(self, end).await
    }

    /// The power is asked for in the session in which the GUID was told, or else the GUID once more.
    async fn reading(&self, end: Moment) -> DeviceReading {
        let told = match Self::guid(self, end).await {
            Err(error @ (DeviceError::Silent(_) | DeviceError::Credentials(_))) => return untold(error),
            told => told,
        };
        let identity = DeviceIdentity::as_told(told.as_ref().ok().copied());
        let power = match self.call(Ask::Power, Some(&identity), end, end).await {
            Ok(Answer::Power(state)) => Ok(state),
            Ok(answer @ (Answer::Guid(_) | Answer::DeviceId(_) | Answer::Accepted)) => Err(odd(answer)),
            Err(failed) => Err(failed.into()),
        };
        DeviceReading { power, guid: Some(told) }
    }

    async fn power_off(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.order(PowerState::Off, Some(identity), begin_before, end).await
    }

    async fn power_on(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.order(PowerState::On, Some(identity), begin_before, end).await
    }
}

impl Link {
    /// What cannot be sent is as good as lost on the way, and sent again when it is time.
    fn send(&mut self, datagram: &[u8]) {
        // The first error may be the echo of an earlier datagram (port unreachable), and this one was not even tried.
        let sent = self.socket.try_send(datagram).or_else(|_| self.socket.try_send(datagram));
        if let Err(error) = sent {
            self.console.note_trouble(error.to_string());
        }
    }
}

impl Drop for Link {
    /// BMCs have few places for sessions.
    fn drop(&mut self) {
        if let Some(datagram) = self.console.close() {
            self.send(&datagram);
        }
    }
}

/// A socket that hears that peer alone.
async fn connect(peer: SocketAddr, end: Moment) -> io::Result<UdpSocket> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(peer).await?;
    // It always is; but tokio has to have been told so once, before anything is sent without waiting.
    let _ = timeout(left(end), socket.writable()).await;
    Ok(socket)
}

fn entropy() -> Entropy {
    let random = SystemRandom::new();
    Box::new(move |bytes| random.fill(bytes).is_ok())
}

fn left(end: Moment) -> Duration {
    end.since(clock::moment())
}

fn unreached(asked: &'static str, why: String) -> IpmiError {
    IpmiError::Unreachable { asked, why, ordered: false }
}

fn lost() -> IpmiError {
    IpmiError::Unusable("the call was lost".to_owned())
}

/// An answer to another question: the console's own mistake, should it ever make it.
fn odd(answer: Answer) -> DeviceError {
    IpmiError::Unusable(format!("{answer:?} is no answer to what was asked")).into()
}
