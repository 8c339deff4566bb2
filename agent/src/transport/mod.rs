//! QUIC with mutual TLS between members.
//!
//! | module | does |
//! |---|---|
//! | `tls` | certificates, TLS 1.3, our CA only |
//! | `endpoint` | sockets and QUIC parameters, one endpoint per path |
//! | `hello` | acceptance: both sides agree who the other is |
//! | `link` | one peer on one path: queues, dialling, choosing one connection |
//! | `serve` | accepting, and reading what peers send |
//! | `refusals` | warnings about strangers, bounded |
//!
//! Datagrams may be lost. A message is sent again if its connection is lost before the peer's QUIC has acknowledged it, and
//! dropped after five seconds; so it may be lost, and it may come twice. A request is sent once.

mod endpoint;
mod hello;
mod link;
mod refusals;
mod serve;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::Endpoint;
use rekindle_coordinator::io::Peer;
use rekindle_proto::id::{BootId, ClusterName, HostName, Incarnation, MemberId, PathName};
use rekindle_proto::message::{
    CodecError, DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX, Message, REQUEST_BYTES_MAX, Reply, Request, decode, encode,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use self::endpoint::PathEndpoint;
use self::hello::Unconnected;
use self::link::{Link, Wanted};
use self::refusals::{Counters, Quieter, count};
use crate::pki::PkiError;

/// Time to resolve a seed's name; a name server that takes longer is not one to wait for.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);

/// Addresses of one seed that are dialled: a name that stands for all voters, in both address families.
const SEED_ADDRESSES_MAX: usize = 14;

/// Time for the goodbye of [`Transport::close`] to reach the peers.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why a connection was closed, as QUIC application error codes.
mod close {
    use quinn::VarInt;

    /// The peer was not accepted; the reason says why.
    pub(super) const REFUSED: VarInt = VarInt::from_u32(1);
    /// A newer connection is used instead.
    pub(super) const REPLACED: VarInt = VarInt::from_u32(2);
    /// This daemon stops.
    pub(super) const STOPPING: VarInt = VarInt::from_u32(3);
    /// The shell wants this peer gone.
    pub(super) const DROPPED: VarInt = VarInt::from_u32(4);
    /// A seed's address was our own.
    pub(super) const OURSELVES: VarInt = VarInt::from_u32(5);
    /// Of a stream: too long, too slow, or no longer wanted.
    pub(super) const UNWANTED: VarInt = VarInt::from_u32(6);
}

/// Where the certificate files are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The cluster's CA (PEM).
    pub ca: PathBuf,
    /// This host's certificate (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM, mode 0600).
    pub key: PathBuf,
}

/// What the transport needs to know.
#[derive(Debug, Clone)]
pub struct TransportSettings {
    /// Our cluster.
    pub cluster: ClusterName,
    /// Our name.
    pub host: HostName,
    /// This boot.
    pub boot: BootId,
    /// Our life number at start.
    pub incarnation: Incarnation,
    /// Where to listen, per path, `management` first. Streams use the first.
    pub listen: Vec<(PathName, SocketAddr)>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Persisted key of stateless resets (RFC 9000, section 10.3): peers of a restarted daemon notice at once.
    pub reset_key: [u8; 64],
}

/// What the transport tells the shell.
#[derive(Debug)]
pub enum TransportEvent {
    /// Accepted by both sides.
    Connected(Peer),
    /// A SWIM packet.
    Datagram {
        /// From whom.
        from: Peer,
        /// On which network.
        path: PathName,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// A message.
    Message {
        /// From whom.
        from: Peer,
        /// What.
        message: Message,
    },
    /// A question; the answer goes back through `reply`. Dropping it refuses.
    Request {
        /// From whom.
        from: Peer,
        /// What.
        request: Request,
        /// Whither the answer.
        reply: oneshot::Sender<Reply>,
    },
}

/// Why something could not be sent, or the transport not be started.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// There must be a first path.
    #[error("no address to listen on")]
    NoPath,
    /// The address is in use or not ours.
    #[error("cannot listen on {address} (path {path})")]
    Bind {
        /// Which path.
        path: PathName,
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A certificate file is missing or not PEM.
    #[error("cannot use {path}: {why}")]
    TlsFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The key file is missing or open to others.
    #[error("cannot use the key")]
    Key(#[source] PkiError),
    /// Our own certificate is not one that peers would accept.
    #[error("{path} is not this host's certificate: {why}")]
    OwnCertificate {
        /// Its file.
        path: PathBuf,
        /// The rule broken.
        why: String,
    },
    /// Key and certificate do not fit together, or TLS refuses them.
    #[error("TLS refuses the certificate files")]
    Tls(#[source] rustls::Error),
    /// What was to be sent is too long, or the answer was not understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// No answer in time. What was asked may yet be done.
    #[error("{member} at {to} did not answer within {within:?}")]
    Silent {
        /// Who was asked.
        member: MemberId,
        /// Where.
        to: SocketAddr,
        /// The time allowed.
        within: Duration,
    },
    /// The connection was lost after the request was sent. What was asked may yet be done.
    #[error("the connection to {member} at {to} was lost: {why}")]
    Lost {
        /// Who was asked.
        member: MemberId,
        /// Where.
        to: SocketAddr,
        /// Why.
        why: String,
    },
    /// No such path is configured.
    #[error("there is no path {path} here")]
    UnknownPath {
        /// Which.
        path: PathName,
    },
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// Connections accepted by both sides.
    pub connections: u64,
    /// Connections refused by either side.
    pub refusals: u64,
    /// Dials that led to none, for whatever reason.
    pub failed_dials: u64,
    /// Datagrams dropped because there was no connection in time.
    pub unsent_datagrams: u64,
    /// Datagrams dropped because the shell was too busy to take them.
    pub overrun_datagrams: u64,
    /// Messages dropped because they could not be delivered in time.
    pub dropped_messages: u64,
}

type Links = BTreeMap<(usize, Wanted), Arc<Link>>;

/// What all tasks share.
#[derive(Debug)]
struct Shared {
    settings: TransportSettings,
    me: MemberId,
    incarnation: AtomicU64,
    paths: Vec<PathEndpoint>,
    client: Mutex<quinn::ClientConfig>,
    links: Mutex<Links>,
    events: mpsc::Sender<TransportEvent>,
    counters: Counters,
    quieter: Quieter,
    stop: watch::Sender<bool>,
    runtime: Handle,
}

/// A lock whose holder panicked still guards what it guarded: no invariant spans two fields here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn endpoint(&self, path: usize) -> &Endpoint {
        &self.paths[path].endpoint
    }
    fn address(&self, path: usize) -> SocketAddr {
        self.paths[path].address
    }
    fn path(&self, path: usize) -> &PathName {
        &self.paths[path].path
    }
    fn client(&self) -> quinn::ClientConfig {
        lock(&self.client).clone()
    }
    fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Relaxed))
    }

    fn find_path(&self, path: &PathName) -> Result<usize, TransportError> {
        let found = self.paths.iter().position(|endpoint| endpoint.path == *path);
        found.ok_or_else(|| TransportError::UnknownPath { path: path.clone() })
    }

    /// Does something with a peer's link, which is made if need be. The map stays locked meanwhile, so that the link is not
    /// forgotten between being found and being given work.
    fn with_link<T>(
        self: &Arc<Self>,
        path: usize,
        wanted: Wanted,
        to: SocketAddr,
        act: impl FnOnce(&Arc<Link>) -> T,
    ) -> T {
        let mut links = lock(&self.links);
        let link = links.entry((path, wanted)).or_insert_with(|| {
            let link = Link::new(path, wanted, to);
            self.runtime.spawn(link::drive(Arc::clone(self), Arc::clone(&link)));
            link
        });
        act(link)
    }

    /// The link of the member that is connected at this address, if there is one.
    fn connected_at(&self, path: usize, address: SocketAddr) -> Option<(MemberId, Peer)> {
        lock(&self.links).values().find_map(|link| {
            let live = link.current().filter(|_| link.is_on(path))?;
            let there = live.peer.address == address || live.connection.remote_address() == address;
            there.then(|| (MemberId::of(&live.peer.host), live.peer))
        })
    }

    /// Forgets a link without work. `false`: it has some after all.
    fn forget(&self, path: usize, wanted: Wanted, link: &Arc<Link>) -> bool {
        let mut links = lock(&self.links);
        let unused = link.is_unused();
        if unused {
            links.remove(&(path, wanted));
        }
        unused
    }

    fn drop_message(&self, to: SocketAddr, why: &str) {
        count(&self.counters.dropped_messages);
        self.quieter.dropped(to, why);
    }

    fn complain(&self, peer: SocketAddr, error: &Unconnected) {
        let refusal = match error {
            Unconnected::Refused(refusal) => {
                self.quieter.refused(peer, &refusal.to_string());
                true
            }
            Unconnected::Connection(error) => self.quieter.unaccepted(peer, error),
            Unconnected::Ourselves | Unconnected::Dial(_) | Unconnected::Silent => {
                tracing::debug!(%peer, %error, "not connected");
                false
            }
        };
        if refusal {
            count(&self.counters.refusals);
        }
    }
}

/// Ends everything when the last [`Transport`] is dropped.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop.send_replace(true);
        for path in &self.0.paths {
            path.endpoint.close(close::STOPPING, b"");
        }
    }
}

/// Connections to all peers. Cheap to clone; everything ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Transport {
    owner: Arc<Owner>,
}

impl Transport {
    /// Listens on every path. What happens comes through `events`, whose capacity bounds what the shell may be behind: when
    /// it is full, datagrams are dropped, and messages and requests wait on their senders' side.
    ///
    /// # Errors
    /// [`TransportError`] if an address cannot be bound, or if the certificate files are not this host's.
    #[expect(clippy::unused_async, reason = "it must be called within the runtime that is to run it")]
    pub async fn start(
        settings: TransportSettings,
        events: mpsc::Sender<TransportEvent>,
    ) -> Result<Self, TransportError> {
        let tls = tls::load(&settings)?;
        Self::run(settings, tls, events)
    }

    fn run(
        settings: TransportSettings,
        tls: tls::Tls,
        events: mpsc::Sender<TransportEvent>,
    ) -> Result<Self, TransportError> {
        let paths = endpoint::bind(&settings, &tls.server)?;
        if paths.is_empty() {
            return Err(TransportError::NoPath);
        }
        let shared = Arc::new(Shared {
            me: MemberId::of(&settings.host),
            incarnation: AtomicU64::new(settings.incarnation.0),
            settings,
            paths,
            client: Mutex::new(tls.client),
            links: Mutex::default(),
            events,
            counters: Counters::default(),
            quieter: Quieter::default(),
            stop: watch::Sender::new(false),
            runtime: Handle::current(),
        });
        for path in 0..shared.paths.len() {
            tokio::spawn(serve::accept_all(Arc::clone(&shared), path));
        }
        Ok(Self { owner: Arc::new(Owner(shared)) })
    }

    /// Sends a SWIM packet to that member, dialling `to` if there is no connection. Never blocks; may lose it.
    pub fn send_datagram(&self, to: SocketAddr, member: MemberId, path: PathName, bytes: Vec<u8>) {
        let shared = self.shared();
        if bytes.len() > DATAGRAM_BYTES_MAX {
            warn!(bytes = bytes.len(), bound = DATAGRAM_BYTES_MAX, "a SWIM packet is too long to be sent");
            return count(&shared.counters.unsent_datagrams);
        }
        match shared.find_path(&path) {
            Ok(path) => shared.with_link(path, Wanted::Member(member), to, |link| {
                link.readdress(to);
                link.send_datagram(shared, bytes);
            }),
            Err(error) => warn!(%error, "a SWIM packet cannot be sent"),
        }
    }

    /// Sends a message to that member, or, without one, to whoever of our cluster is at `to`. Never blocks; what waits for
    /// a peer is bounded, and the oldest goes first, with a warning.
    pub fn send_message(&self, to: SocketAddr, member: Option<MemberId>, path: PathName, message: Message) {
        let shared = self.shared();
        let prepared = shared.find_path(&path).and_then(|path| Ok((path, encode(&message, MESSAGE_BYTES_MAX)?)));
        let (path, bytes) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return shared.drop_message(to, &error.to_string()),
        };
        let member = member.or_else(|| shared.connected_at(path, to).map(|(member, _)| member));
        let wanted = member.map_or(Wanted::AnyoneAt(to), Wanted::Member);
        shared.with_link(path, wanted, to, |link| {
            link.readdress(to);
            link.send_message(shared, bytes);
        });
    }

    /// Asks that member and waits for its answer. Sent once, on the first path.
    ///
    /// # Errors
    /// [`TransportError::Silent`] or [`TransportError::Lost`]: what was asked may yet be done. [`TransportError::Codec`] if
    /// the request is too long.
    pub async fn request(
        &self,
        to: SocketAddr,
        member: MemberId,
        request: Request,
        within: Duration,
    ) -> Result<Reply, TransportError> {
        let shared = self.shared();
        let bytes = encode(&request, REQUEST_BYTES_MAX)?;
        let lost = |why: String| TransportError::Lost { member, to, why };
        let ask = async {
            let waiting = shared.with_link(0, Wanted::Member(member), to, |link| {
                link.readdress(to);
                link.wait()
            });
            let connection = waiting.connection().await;
            drop(waiting);
            let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
            send.write_all(&bytes).await.map_err(|error| lost(error.to_string()))?;
            send.finish().map_err(|error| lost(error.to_string()))?;
            let reply = receive.read_to_end(REQUEST_BYTES_MAX).await.map_err(|error| lost(error.to_string()))?;
            Ok(decode(&reply, REQUEST_BYTES_MAX)?)
        };
        tokio::time::timeout(within, ask).await.unwrap_or(Err(TransportError::Silent { member, to, within }))
    }

    /// Resolves `host:port` and dials it; [`TransportEvent::Connected`] follows if somebody of our cluster answers, also if
    /// we are connected already.
    pub fn dial(&self, seed: String) {
        let shared = Arc::clone(self.shared());
        self.shared().runtime.spawn(async move {
            let resolved = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(&seed)).await;
            let addresses: Vec<SocketAddr> = match resolved {
                Ok(Ok(addresses)) => addresses.take(SEED_ADDRESSES_MAX).collect(),
                Ok(Err(error)) => return warn!(seed, %error, "a seed cannot be resolved"),
                Err(_) => return warn!(seed, within = ?RESOLVE_WITHIN, "a seed cannot be resolved in time"),
            };
            for to in addresses {
                if to == shared.address(0) || to.is_ipv4() != shared.address(0).is_ipv4() {
                    continue;
                }
                if let Some((_, peer)) = shared.connected_at(0, to) {
                    // If nobody listens any more, nobody needs to know.
                    let _ = shared.events.send(TransportEvent::Connected(peer)).await;
                } else {
                    shared.with_link(0, Wanted::AnyoneAt(to), to, |link| link.dial());
                }
            }
        });
    }

    /// Reads the certificate files again. New connections use the new ones; present ones are replaced as soon as there is
    /// something to send, and closed after two seconds.
    ///
    /// # Errors
    /// [`TransportError`] if they cannot be used: then the old ones stay in use.
    pub fn reload_tls(&self) -> Result<(), TransportError> {
        let shared = self.shared();
        let tls = tls::load(&shared.settings)?;
        for path in &shared.paths {
            path.endpoint.set_server_config(Some(tls.server.clone()));
        }
        *lock(&shared.client) = tls.client;
        let _runtime = shared.runtime.enter();
        lock(&shared.links).values().for_each(|link| link.retire_current());
        Ok(())
    }

    /// Says this life number in later hellos.
    pub fn set_incarnation(&self, incarnation: Incarnation) {
        self.shared().incarnation.store(incarnation.0, Ordering::Relaxed);
    }

    /// Closes the connections to a member, and forgets what waits for it.
    pub fn drop_peer(&self, member: MemberId) {
        for (_, link) in lock(&self.shared().links).iter().filter(|((_, wanted), _)| *wanted == Wanted::Member(member))
        {
            link.close(close::DROPPED);
        }
    }

    /// Where the first path listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared().address(0)
    }

    /// Where each path listens.
    pub fn local_addrs(&self) -> impl Iterator<Item = (&PathName, SocketAddr)> {
        self.shared().paths.iter().map(|path| (&path.path, path.address))
    }

    /// What has been counted.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        let counters = &self.shared().counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TransportStats {
            connections: read(&counters.connections),
            refusals: read(&counters.refusals),
            failed_dials: read(&counters.failed_dials),
            unsent_datagrams: read(&counters.unsent_datagrams),
            overrun_datagrams: read(&counters.overrun_datagrams),
            dropped_messages: read(&counters.dropped_messages),
        }
    }

    /// Closes every connection and waits, for at most a second, until the peers know.
    pub async fn close(self) {
        let shared = Arc::clone(self.shared());
        shared.stop.send_replace(true);
        for path in &shared.paths {
            path.endpoint.close(close::STOPPING, b"");
        }
        let idle = futures::future::join_all(shared.paths.iter().map(|path| path.endpoint.wait_idle()));
        // Those that did not hear it find out by the idle time-out.
        let _ = tokio::time::timeout(CLOSE_WITHIN, idle).await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }
}
