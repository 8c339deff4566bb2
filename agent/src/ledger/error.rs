//! What can go wrong between the ledger, its disk and the other voters.

use std::path::PathBuf;

use rekindle_proto::id::{HostName, LogIndex};
use rekindle_proto::message::CodecError;

/// Why a Raft call to another voter has no answer. Whether it took effect there is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no connection to it.
    #[error("{voter} cannot be reached: {why}")]
    Unreachable {
        /// Who.
        voter: HostName,
        /// The transport's words.
        why: String,
    },
    /// It did not answer in time.
    #[error("{voter} did not answer in time")]
    TimedOut {
        /// Who.
        voter: HostName,
    },
    /// It answered, and refused.
    #[error("{voter} refused: {why}")]
    Refused {
        /// Who.
        voter: HostName,
        /// Its words.
        why: String,
    },
}

/// Why the file of the ledger could not be read or written. Whatever was being written may or may not be on disk; Raft
/// stops, and starts again from what is there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file (full, failing, damaged). Its source has the words of the operating system.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Box<redb::Error>,
    },
    /// The directory could not be made or synchronised.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process (or another part of this one) has the file open.
    #[error("{}: already in use: is another rekindled running on this host?", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Something in the file was not understood.
    #[error("{}: {what} cannot be read: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: String,
        /// Why.
        source: CodecError,
    },
    /// The log lacks an entry that was said to be in it.
    #[error("{}: entry {index} is missing", path.display())]
    Hole {
        /// The file.
        path: PathBuf,
        /// Which.
        index: LogIndex,
    },
    /// The adapter was shut down.
    #[error("{}: closed", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

/// Why an entry is not logged, or a committed one or a snapshot cannot be applied. Guessing would let voters disagree (I9,
/// I5): this voter stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It is written in a later format: this daemon is too old for this ledger.
    #[error("written in ledger format {format}; this daemon understands up to {known}")]
    Later {
        /// Its format.
        format: u32,
        /// Ours.
        known: u32,
    },
    /// It says one format outside and another inside.
    #[error("marked as ledger format {outer}, but written in {inner}")]
    Mismatch {
        /// On the outside.
        outer: u32,
        /// On the inside.
        inner: u32,
    },
    /// It belongs to another cluster.
    #[error("belongs to cluster {0}")]
    Cluster(String),
    /// It cannot be encoded.
    #[error("cannot be written in ledger format {format}: {source}")]
    Unwritable {
        /// The format.
        format: u32,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// What is read is not what was written.
    #[error("in ledger format {format} it reads as another entry")]
    Altered {
        /// The format.
        format: u32,
    },
    /// It cannot be decoded.
    #[error("of ledger format {format}: {source}")]
    Undecodable {
        /// The format it claims.
        format: u32,
        /// Why.
        source: CodecError,
    },
}

/// Why the ledger did not start, or did not take a call. Nothing was changed unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The configured voters cannot be voters.
    #[error("cluster.voters = {voters:?}: {rule}")]
    Voters {
        /// As configured.
        voters: Vec<HostName>,
        /// Which rule.
        rule: String,
    },
    /// The store was begun by another host, or for another cluster: a copied disk.
    #[error("{}: was begun by {found}, but this is {expected}; a store is never moved or copied", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// `host of cluster` in the file.
        found: String,
        /// `host of cluster` here.
        expected: String,
    },
    /// The store is of an earlier generation of voters: its quorum was lost and recovered without it.
    #[error(
        "{}: is of generation {store}; generation {known} of the voters was begun without it, and it can never rejoin: move \
         the directory away, and this host joins as a standby",
        path.display()
    )]
    Superseded {
        /// The file.
        path: PathBuf,
        /// Its generation.
        store: u64,
        /// The latest known.
        known: u64,
    },
    /// Another generation of voters.
    #[error("{from} speaks for generation {theirs} of the voters; this is generation {ours}")]
    Generation {
        /// Who.
        from: HostName,
        /// Its generation.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// The quorum cannot be recovered here.
    #[error("the quorum cannot be recovered: {0}")]
    Recovery(String),
    /// The file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed entry, or the snapshot, cannot be applied.
    #[error("ledger entry {index} {source}; this voter stops: it must not guess")]
    Format {
        /// Which entry (of a snapshot: its last).
        index: LogIndex,
        /// Why.
        source: FormatError,
    },
    /// Raft refused the timing.
    #[error("raft configuration: {0}")]
    Timing(String),
    /// Raft has stopped: the log has the reason. Starting the daemon again is safe.
    #[error("the ledger has stopped: {0}")]
    Stopped(String),
    /// The caller is no voter.
    #[error("{from} is no voter")]
    NotAVoter {
        /// Who called.
        from: HostName,
    },
    /// The call's bytes were not understood.
    #[error("raft call from {from} was not understood: {source}")]
    Malformed {
        /// Who called.
        from: HostName,
        /// Why.
        source: CodecError,
    },
    /// The call says what its sender may not say, or contradicts itself.
    #[error("raft call from {from} was refused: {why}")]
    Refused {
        /// Who called.
        from: HostName,
        /// Which rule.
        why: String,
    },
    /// A vote was asked for too soon after our start (I3).
    #[error("{host} has just started and grants no vote yet")]
    TooYoung {
        /// We.
        host: HostName,
    },
    /// Somebody else answers in that voter's place: its store is gone.
    #[error("{voter} answers with another store: the one that votes is gone from that host")]
    OtherStore {
        /// Who.
        voter: HostName,
    },
    /// The voter speaks from an older copy of its store: what it voted for and acknowledged may be forgotten.
    #[error("{voter} speaks from an older copy of its ledger file, and is not heard: start its daemon again")]
    OlderStore {
        /// Who.
        voter: HostName,
    },
    /// Our answer could not be encoded.
    #[error("raft answer: {0}")]
    Answer(CodecError),
    /// The shell no longer takes inputs.
    #[error("nobody listens to the ledger any more")]
    Deaf,
}
