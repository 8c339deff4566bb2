//! The Raft log behind the coordinator's ledger: openraft on redb.
//!
//! The coordinator owns what the entries mean ([`rekindle_coordinator::ledger::Ledger::apply`]); this owns that every voter
//! has the same ones, in the same order, on disk. [`LedgerAdapter`] is the handle; the other voters are reached through
//! [`Peers`].
//!
//! What holds:
//! - Every committed entry becomes one [`Input::Committed`], in order, after one [`Input::Restored`] that has everything
//!   before it. The channel waits for room; nothing is dropped.
//! - [`Input::Proposed`] with `NotLeader` means *certainly not committed*. Anything doubtful is `Unknown`.
//! - [`Input::Linearizable`] with a term comes from a quorum round of this very call. Metrics say "leader" for as long as an
//!   isolated leader lives; nothing here that permits an act reads them.
//! - A voter that has just started grants no vote and does not stand for one maximum election timeout (`adapter.rs`).
//! - A voter is its store, not its host: one that lost its file has forgotten for whom it voted and what it acknowledged,
//!   and comes back as somebody else, who is let in as a standby (`seating.rs`). So does an older copy of a file: the mark
//!   beside it (`mark.rs`) and the other voters (`network.rs`) know better.
//! - Voters of an earlier generation than the one known here are not heard (`recovery.rs`).
//! - A committed entry that cannot be understood, and any failure of the disk, stop this voter's Raft and nothing else.
//!   A restart recovers what was on disk, which is all that was acknowledged.

mod adapter;
mod error;
mod leadership;
mod lives;
mod log;
mod machine;
mod mark;
mod network;
mod opening;
mod proposals;
mod recovery;
mod rpc;
mod seating;
mod store;
#[cfg(test)]
mod tests;
mod types;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(doc)]
use rekindle_coordinator::io::Input;
use rekindle_proto::id::{ClusterName, HostName};

pub use adapter::LedgerAdapter;
pub use error::{FormatError, LedgerError, PeerError, StoreError};
pub use recovery::{Remains, recover_quorum, remains};

/// How long a proposal may take before its outcome is unknown: four failed heartbeats and a slow disk.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a quorum round may take: four heartbeats. A check that takes longer is not worth an act.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How Raft reaches another voter. The transport implements it ([`rekindle_proto::message::Request::Raft`]); the other
/// voter's shell gives the bytes to [`LedgerAdapter::handle_rpc`] and sends back what comes out.
pub trait Peers: Send + Sync + 'static {
    /// Carries a call to a voter and returns its answer. The future is dropped when `within` is over.
    ///
    /// # Errors
    /// [`PeerError`] if there is no answer; the call may have arrived nevertheless.
    fn call(
        &self,
        voter: &HostName,
        bytes: Vec<u8>,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, PeerError>> + Send;
}

/// What the ledger adapter needs to know.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// Our cluster.
    pub cluster: ClusterName,
    /// Our name. Must be among the voters or the standbys.
    pub host: HostName,
    /// The first voters: 1, 3, 5 or 7. Once the cluster is formed, the ledger says who votes.
    pub voters: Vec<HostName>,
    /// Who may take a voter's place.
    pub standbys: Vec<HostName>,
    /// Where the log lies.
    pub dir: PathBuf,
    /// The latest generation of voters this member knows of.
    pub generation: u64,
}
