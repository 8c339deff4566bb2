//! Where the members were last heard. Raft calls its peers by name; a restarted member finds its cluster by it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rekindle_proto::id::{HostName, MemberId};
use rekindle_proto::message::{Reply, Request};

use crate::ledger::{PeerError, Peers};
use crate::state_dir::{StateDir, StateDirError};
use crate::transport::Transport;

/// Addresses kept: the largest roster.
const ADDRESSES_MAX: usize = 4_096;

type Addresses = Arc<RwLock<BTreeMap<HostName, SocketAddr>>>;

/// Names and addresses.
#[derive(Debug)]
pub(super) struct AddressBook {
    addresses: Addresses,
    state: Arc<StateDir>,
    changed: bool,
}

impl AddressBook {
    pub(super) fn load(state: Arc<StateDir>) -> Result<Self, StateDirError> {
        let addresses = state.load_peers()?.into_iter().collect();
        Ok(Self { addresses: Arc::new(RwLock::new(addresses)), state, changed: false })
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        addresses.values().copied().collect::<Vec<_>>().into_iter()
    }

    pub(super) fn learn(&mut self, host: &HostName, address: SocketAddr) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = addresses.get(host) != Some(&address);
        if is_news && (addresses.len() < ADDRESSES_MAX || addresses.contains_key(host)) {
            addresses.insert(host.clone(), address);
            self.changed = true;
        }
    }

    /// Writes the book if it changed. It is a convenience for the next start: a failure is only told.
    pub(super) fn store(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        let peers: Vec<(HostName, SocketAddr)> =
            addresses.iter().map(|(host, address)| (host.clone(), *address)).collect();
        drop(addresses);
        if let Err(error) = self.state.store_peers(&peers) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the address book was not written");
        }
    }

    /// The way of Raft calls to other voters.
    pub(super) fn peers(&self, transport: Transport) -> RaftPeers {
        RaftPeers { addresses: Arc::clone(&self.addresses), transport }
    }
}

/// Raft calls over the transport.
#[derive(Debug)]
pub(super) struct RaftPeers {
    addresses: Addresses,
    transport: Transport,
}

impl Peers for RaftPeers {
    async fn call(&self, voter: &HostName, bytes: Vec<u8>, within: Duration) -> Result<Vec<u8>, PeerError> {
        let address = self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(voter).copied();
        let unreachable = |why: String| PeerError::Unreachable { voter: voter.clone(), why };
        let Some(address) = address else {
            return Err(unreachable("its address is not known yet: it has not been heard".to_owned()));
        };
        match self.transport.request(address, MemberId::of(voter), Request::Raft(bytes), within).await {
            Ok(Reply::Raft(bytes)) => Ok(bytes),
            Ok(Reply::Refused(why)) => Err(unreachable(why.to_string())),
            Ok(Reply::Admin(_)) => Err(unreachable("its answer is not Raft's".to_owned())),
            Err(error) => Err(unreachable(error.to_string())),
        }
    }
}
