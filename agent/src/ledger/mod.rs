//! The Raft log: openraft on redb.

use std::path::PathBuf;

use rekindle_proto::id::{ClusterName, HostName};

/// What the ledger adapter needs to know.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// Our cluster.
    pub cluster: ClusterName,
    /// Our name. Must be among the voters.
    pub host: HostName,
    /// Who votes: 1, 3, 5 or 7.
    pub voters: Vec<HostName>,
    /// Where the log lies.
    pub dir: PathBuf,
}
