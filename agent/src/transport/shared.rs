//! What all tasks of a transport share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Endpoint;
use rekindle_coordinator::io::Peer;
use rekindle_proto::id::{Incarnation, MemberId, PathName};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::endpoint::PathEndpoint;
use super::hello::Unconnected;
use super::lane::{Carries, Lane};
use super::link::{Link, drive};
use super::live::{Live, Wanted};
use super::refusals::{Counters, Quieter, count};
use super::tls::Clients;
use super::{TransportError, TransportEvent, TransportSettings};

type Links = BTreeMap<(usize, Lane, Wanted), Arc<Link>>;

/// What all tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: TransportSettings,
    pub(super) me: MemberId,
    pub(super) incarnation: AtomicU64,
    pub(super) paths: Vec<PathEndpoint>,
    pub(super) clients: Mutex<Clients>,
    pub(super) links: Mutex<Links>,
    pub(super) events: mpsc::Sender<TransportEvent>,
    pub(super) counters: Counters,
    pub(super) quieter: Quieter,
    pub(super) stop: watch::Sender<bool>,
    pub(super) runtime: Handle,
}

/// A lock whose holder panicked still guards what it guarded: no invariant spans two fields here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn endpoint(&self, path: usize) -> &Endpoint {
        &self.paths[path].endpoint
    }
    pub(super) fn address(&self, path: usize) -> SocketAddr {
        self.paths[path].address
    }
    pub(super) fn path(&self, path: usize) -> &PathName {
        &self.paths[path].path
    }
    pub(super) fn client(&self, lane: Lane) -> quinn::ClientConfig {
        lock(&self.clients).of(lane).clone()
    }
    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Relaxed))
    }

    pub(super) fn find_path(&self, path: &PathName) -> Result<usize, TransportError> {
        let found = self.paths.iter().position(|endpoint| endpoint.path == *path);
        found.ok_or_else(|| TransportError::UnknownPath { path: path.clone() })
    }

    /// Does something with a peer's link, which is made if need be. The map stays locked meanwhile, so that the link is not
    /// forgotten between being found and being given work.
    pub(super) fn with_link<T>(
        self: &Arc<Self>,
        (path, lane): (usize, Lane),
        wanted: Wanted,
        to: SocketAddr,
        act: impl FnOnce(&Arc<Link>) -> T,
    ) -> T {
        let mut links = lock(&self.links);
        let link = links.entry((path, lane, wanted)).or_insert_with(|| {
            let link = Link::new((path, lane), wanted, to);
            self.runtime.spawn(drive(Arc::clone(self), Arc::clone(&link)));
            link
        });
        act(link)
    }

    /// The link of the member that is connected at this address, if there is one.
    pub(super) fn connected_at(&self, path: usize, address: SocketAddr) -> Option<(MemberId, Peer)> {
        lock(&self.links).values().find_map(|link| {
            let live = link.current().filter(|_| link.is_on(path))?;
            let there = live.peer.address == address || live.connection.remote_address() == address;
            there.then(|| (MemberId::of(&live.peer.host), live.peer))
        })
    }

    /// The connection to an older daemon, which carries requests too: what waits at the peer's link for those may go there.
    pub(super) fn for_all(&self, requests: &Link) -> Option<Live> {
        let (path, lane, wanted) = requests.key();
        if lane == Lane::Words {
            return None;
        }
        let words = lock(&self.links).get(&(path, Lane::Words, wanted)).cloned()?;
        words.current().filter(|live| live.carries == Carries::All)
    }

    /// A connection that carries everything is there: requests that wait for one of their own may go there.
    pub(super) fn tell_requests(&self, path: usize, wanted: Wanted) {
        if let Some(link) = lock(&self.links).get(&(path, Lane::Requests, wanted)) {
            link.look_again();
        }
    }

    /// Forgets a link without work. `false`: it has some after all.
    pub(super) fn forget(&self, link: &Arc<Link>) -> bool {
        let mut links = lock(&self.links);
        let unused = link.is_unused();
        if unused {
            links.remove(&link.key());
        }
        unused
    }

    pub(super) fn drop_message(&self, to: SocketAddr, why: &str) {
        count(&self.counters.dropped_messages);
        self.quieter.dropped(to, why);
    }

    pub(super) fn complain(&self, peer: SocketAddr, error: &Unconnected) {
        let refusal = match error {
            Unconnected::Refused(refusal) => {
                self.quieter.refused(peer, &refusal.to_string());
                true
            }
            Unconnected::Connection(error) => self.quieter.unaccepted(peer, error),
            Unconnected::Ourselves | Unconnected::Dial(_) | Unconnected::Silent => {
                debug!(%peer, %error, "not connected");
                false
            }
        };
        if refusal {
            count(&self.counters.refusals);
        }
    }
}
