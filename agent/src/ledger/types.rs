//! The words of this Raft: what a voter, an entry and an outcome are to openraft, and how long things may take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use rekindle_coordinator::ledger::{Entry, FORMAT_WITHOUT_EXECUTORS, LEDGER_FORMAT, Ledger, Outcome, Seat};
use rekindle_proto::admin::ORDER_BYTES_MAX;
use rekindle_proto::id::{ClusterName, HostName, StoreId};
use rekindle_proto::message::{CodecError, REQUEST_BYTES_MAX, decode, encode};
use serde::{Deserialize, Serialize};

use super::error::{FormatError, LedgerError};

/// Largest encoded entry, in bytes: a signed order of the largest size with its certificate, or the plan of a host of
/// 4,000 servers.
pub(super) const ENTRY_BYTES_MAX: usize = 2 * ORDER_BYTES_MAX;

/// Most bytes of entries sent in one call, so that a call stays well below [`REQUEST_BYTES_MAX`] and below one heartbeat on
/// a slow network. One entry is always sent, however long.
pub(super) const APPEND_BYTES_MAX: usize = ENTRY_BYTES_MAX;

/// Most entries sent in one call: most are some hundred bytes.
pub(super) const APPEND_ENTRIES_MAX: u64 = 128;

/// Room in a call for everything that is not the snapshot itself.
pub(super) const CALL_ROOM_BYTES: usize = 64 * 1024;

/// Largest encoded snapshot, in bytes: it must fit into one call.
pub(super) const SNAPSHOT_BYTES_MAX: usize = REQUEST_BYTES_MAX - CALL_ROOM_BYTES;

/// Entries after which a snapshot is taken: a restart replays at most about as many.
const SNAPSHOT_EVERY: u64 = 500;

/// Entries kept behind a snapshot: a voter that was away for a moment is sent entries, not everything.
const KEPT_BEHIND_SNAPSHOT: u64 = 100;

/// How long a snapshot may travel: [`SNAPSHOT_BYTES_MAX`] in this time is 13 Mbit/s.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(10);

openraft::declare_raft_types!(
    /// The types that openraft is asked to replicate.
    pub(super) Types:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Voter,
        SnapshotData = Vec<u8>,
);

pub(super) type LogId = openraft::LogId<u64>;
pub(super) type LogEntry = openraft::Entry<Types>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type Membership = openraft::StoredMembership<u64, Voter>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, Voter>;
pub(super) type Snapshot = openraft::Snapshot<Types>;
pub(super) type Raft = openraft::Raft<Types>;
pub(super) type RaftStorageError = openraft::StorageError<u64>;

/// A voter as openraft knows it. `None` is openraft's default and never written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Voter {
    pub(super) host: Option<HostName>,
    pub(super) store: Option<StoreId>,
}

impl Voter {
    pub(super) fn of(seat: &Seat) -> Self {
        Self { host: Some(seat.host.clone()), store: Some(seat.store) }
    }

    pub(super) fn seat(&self) -> Option<Seat> {
        Some(Seat { host: self.host.clone()?, store: self.store? })
    }
}

/// A voter's number in Raft: its store's, not its host's. A host whose store was lost comes back as somebody else, who has
/// sworn and acknowledged nothing.
pub(super) fn number_of(store: StoreId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = store.0.into_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// An entry as it lies in the log: opaque, so that a voter can keep and pass on what it cannot yet understand. It is
/// decoded when it is applied, and not before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proposal {
    /// The ledger format of `bytes`: legible whatever they are.
    pub(super) format: u32,
    pub(super) bytes: Vec<u8>,
    /// Whether our own log took it.
    #[serde(skip)]
    pub(super) ticket: Ticket,
}

impl Proposal {
    /// An entry to be logged. It is read again first: one that cannot be read, or reads as another, would stop every voter
    /// (I9), and is refused while it is only the leader's.
    pub(super) fn seal(entry: &Entry) -> Result<Self, FormatError> {
        let format = entry.format;
        let bytes = encode(entry, ENTRY_BYTES_MAX).map_err(|source| FormatError::Unwritable { format, source })?;
        let sealed = Self { format, bytes, ticket: Ticket::default() };
        if sealed.open()? == *entry { Ok(sealed) } else { Err(FormatError::Altered { format }) }
    }

    pub(super) fn open(&self) -> Result<Entry, FormatError> {
        if self.format > LEDGER_FORMAT {
            return Err(FormatError::Later { format: self.format, known: LEDGER_FORMAT });
        }
        let entry: Entry = decode(&self.bytes, ENTRY_BYTES_MAX)
            .map_err(|source| FormatError::Undecodable { format: self.format, source })?;
        if entry.format != self.format {
            return Err(FormatError::Mismatch { outer: self.format, inner: entry.format });
        }
        Ok(entry)
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proposal of {} bytes, format {}", self.bytes.len(), self.format)
    }
}

/// Tells the proposer whether its entry reached the leader's own log. An entry that did may be committed by a later leader,
/// even after openraft says "forward to the leader"; one that did not, never.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    pub(super) fn stamp(&self) {
        self.0.store(true, Ordering::Release);
    }
    pub(super) fn is_stamped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// It is no part of the entry.
impl PartialEq for Ticket {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}
impl Eq for Ticket {}

/// What applying an entry came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Applied {
    /// Raft's own entry.
    Own,
    /// One of ours.
    Entry(Outcome),
}

/// A ledger as snapshot, in its own format.
pub(super) fn pack(ledger: &Ledger) -> Result<Vec<u8>, CodecError> {
    let mut inner = encode(ledger, SNAPSHOT_BYTES_MAX)?;
    if ledger.format == FORMAT_WITHOUT_EXECUTORS {
        // It ends before the executors: an empty map, which is one zero.
        inner.pop();
    }
    encode(&(ledger.format, inner), SNAPSHOT_BYTES_MAX)
}

/// A ledger from a snapshot.
pub(super) fn unpack(bytes: &[u8], cluster: &ClusterName) -> Result<Ledger, FormatError> {
    let undecodable = |format| move |source| FormatError::Undecodable { format, source };
    let (format, inner): (u32, Vec<u8>) = decode(bytes, SNAPSHOT_BYTES_MAX).map_err(undecodable(0))?;
    if format > LEDGER_FORMAT {
        return Err(FormatError::Later { format, known: LEDGER_FORMAT });
    }
    let mut inner = inner;
    if format == FORMAT_WITHOUT_EXECUTORS {
        // Its only difference: it ends before the executors. An empty map is one zero.
        inner.push(0);
    }
    let ledger: Ledger = decode(&inner, SNAPSHOT_BYTES_MAX).map_err(undecodable(format))?;
    if ledger.format != format {
        return Err(FormatError::Mismatch { outer: format, inner: ledger.format });
    }
    if ledger.cluster != *cluster {
        return Err(FormatError::Cluster(ledger.cluster.to_string()));
    }
    Ok(ledger)
}

/// How long Raft waits. Only tests have other values than [`Timing::default`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Between two heartbeats. openraft sends one every 1.5 of these, and gives each call one of these to return.
    pub(super) heartbeat: Duration,
    /// Longest silence of a leader before a voter stands for election, and how long a voter grants no vote after its start.
    ///
    /// Shortest is three quarters of it: openraft adds a random 1/4 to 1/2 to a lease of 1/2 of it.
    pub(super) election_max: Duration,
    /// How long [`super::LedgerAdapter::propose`] waits.
    pub(super) propose_within: Duration,
    /// How long [`super::LedgerAdapter::check`] waits.
    pub(super) check_within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_max: Duration::from_secs(3),
            propose_within: super::PROPOSE_TIMEOUT,
            check_within: super::CHECK_TIMEOUT,
        }
    }
}

impl Timing {
    /// openraft's own tick.
    pub(super) fn tick(&self) -> Duration {
        self.heartbeat * 3 / 2
    }

    /// openraft's configuration. A follower there stands for election after `election_timeout_max` (the lease) *plus* its
    /// random `election_timeout`: the two together must not exceed [`Timing::election_max`].
    pub(super) fn config(&self, cluster: &ClusterName) -> Result<Config, LedgerError> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: cluster.to_string(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_max / 4),
            election_timeout_max: millis(self.election_max / 2),
            install_snapshot_timeout: millis(SNAPSHOT_WITHIN),
            max_payload_entries: APPEND_ENTRIES_MAX,
            // A voter further behind than a snapshot interval and what is kept gets the snapshot.
            replication_lag_threshold: SNAPSHOT_EVERY + KEPT_BEHIND_SNAPSHOT,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT,
            // Candidacy is opened by us, after the silence that follows a start.
            enable_elect: false,
            ..Config::default()
        }
        .validate()
        .map_err(|error| LedgerError::Timing(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silence_before_an_election_is_that_of_the_design() {
        let timing = Timing::default();
        let config = timing.config(&ClusterName::new("test").expect("legal")).expect("valid");
        let (lease, random) = (config.election_timeout_max, config.election_timeout_min..config.election_timeout_max);
        assert!(lease + random.start >= 1_500, "a busy hypervisor is given time");
        assert!(lease + random.end <= 3_000, "and no more than the silence after a start");
        assert_eq!(config.heartbeat_interval, 250);
        // At least three heartbeats may be lost in the shortest silence.
        assert!(timing.tick() * 3 < Duration::from_millis(lease + random.start));
    }

    #[test]
    fn a_snapshot_of_another_cluster_or_a_later_format_is_refused() {
        use rekindle_proto::id::IncidentId;
        let [ours, theirs] = ["ours", "theirs"].map(|name| ClusterName::new(name).expect("legal"));
        let mut ledger = Ledger::new(ours.clone());
        let bytes = pack(&ledger).expect("fits");
        assert_eq!(unpack(&bytes, &ours), Ok(ledger.clone()));
        assert_eq!(unpack(&bytes, &theirs), Err(FormatError::Cluster("ours".to_owned())));
        assert!(matches!(unpack(&bytes[1..], &ours), Err(FormatError::Undecodable { .. })));
        // Nothing in it that a daemon of the format before could not read: it ends before the executors, which are an empty map.
        let (format, inner): (u32, Vec<u8>) = decode(&bytes, SNAPSHOT_BYTES_MAX).expect("ours");
        let whole = encode(&ledger, SNAPSHOT_BYTES_MAX).expect("fits");
        assert_eq!((format, [&inner[..], &[0]].concat()), (FORMAT_WITHOUT_EXECUTORS, whole));
        ledger.format = LEDGER_FORMAT;
        let executor = HostName::new("cmp-02").expect("legal");
        ledger.executors.insert((IncidentId(7), 1), executor);
        let bytes = pack(&ledger).expect("fits");
        let (format, _): (u32, Vec<u8>) = decode(&bytes, SNAPSHOT_BYTES_MAX).expect("ours");
        assert_eq!((format, unpack(&bytes, &ours)), (LEDGER_FORMAT, Ok(ledger.clone())));
        ledger.format = LEDGER_FORMAT + 1;
        let later = unpack(&pack(&ledger).expect("fits"), &ours);
        assert_eq!(later, Err(FormatError::Later { format: LEDGER_FORMAT + 1, known: LEDGER_FORMAT }));
    }

    #[test]
    fn an_entry_of_either_format_is_sealed_and_opened() {
        use rekindle_coordinator::ledger::Statement;
        use rekindle_proto::admin::SignedOrder;
        use rekindle_proto::id::WallTime;
        let order = SignedOrder { certificate: vec![], order: vec![], signature: vec![] };
        for format in [FORMAT_WITHOUT_EXECUTORS, LEDGER_FORMAT] {
            let entry = Entry { format, ..Entry::new(WallTime(1), Statement::Operator(order.clone())) };
            let sealed = Proposal::seal(&entry).expect("it can be read");
            assert_eq!((sealed.format, sealed.open()), (format, Ok(entry)));
        }
    }

    #[test]
    fn an_entry_that_is_too_long_is_not_sealed() {
        use rekindle_coordinator::ledger::Statement;
        use rekindle_proto::admin::SignedOrder;
        use rekindle_proto::id::WallTime;
        let short = SignedOrder { certificate: vec![], order: vec![], signature: vec![] };
        let order = SignedOrder { order: vec![0; ENTRY_BYTES_MAX], ..short.clone() };
        let mut entry = Entry::new(WallTime(1), Statement::Operator(order));
        assert!(matches!(
            Proposal::seal(&entry),
            Err(FormatError::Unwritable { source: CodecError::TooLong { .. }, .. })
        ));
        entry = Entry { format: LEDGER_FORMAT + 1, ..Entry::new(WallTime(1), Statement::Operator(short)) };
        assert!(matches!(Proposal::seal(&entry), Err(FormatError::Later { .. })), "nobody here could read it");
    }
}
