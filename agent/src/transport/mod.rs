//! QUIC with mutual TLS between members.
//!
//! | module | does |
//! |---|---|
//! | `tls` | certificates, TLS 1.3, our CA only |
//! | `endpoint` | sockets and QUIC parameters, one endpoint per path |
//! | `hello` | acceptance: both sides agree who the other is |
//! | `lane` | requests apart from the rest: what a connection is for |
//! | `link`, `live` | one peer on one path and lane: queues, dialling, choosing one of two connections |
//! | `serve` | accepting, and reading what peers send |
//! | `refusals` | warnings about strangers, bounded |
//!
//! Datagrams may be lost. A message is sent again if its connection is lost before the peer's QUIC has acknowledged it, and
//! dropped after five seconds; so it may be lost, and it may come twice. A request is sent once.

mod endpoint;
mod error;
mod hello;
mod lane;
mod link;
mod live;
mod refusals;
mod serve;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rekindle_proto::id::{Incarnation, MemberId, PathName};
use rekindle_proto::message::{
    DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX, Message, REQUEST_BYTES_MAX, Reply, Request, decode, encode,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::warn;

pub use self::error::{TransportError, TransportStats};
use self::lane::Lane;
use self::live::Wanted;
use self::refusals::{Counters, Quieter, count};
pub use self::settings::{TlsFiles, TransportEvent, TransportSettings};
use self::shared::{Shared, lock};

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
            clients: Mutex::new(tls.clients),
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
            Ok(path) => shared.with_link((path, Lane::Words), Wanted::Member(member), to, |link| {
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
        shared.with_link((path, Lane::Words), wanted, to, |link| {
            link.readdress(to);
            link.send_message(shared, bytes);
        });
    }

    /// Asks that member and waits for its answer. Sent once, on the first path, on a connection for requests alone.
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
            let waiting = shared.with_link((0, Lane::Requests), Wanted::Member(member), to, |link| {
                link.readdress(to);
                link.wait()
            });
            let connection = waiting.connection(shared).await;
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
                    let path = shared.path(0).clone();
                    let _ = shared.events.send(TransportEvent::Connected { peer, path }).await;
                } else {
                    shared.with_link((0, Lane::Words), Wanted::AnyoneAt(to), to, |link| link.dial());
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
        *lock(&shared.clients) = tls.clients;
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
        for (_, link) in
            lock(&self.shared().links).iter().filter(|((_, _, wanted), _)| *wanted == Wanted::Member(member))
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
