//! The file of a voter: log, vote, snapshot, and whose they are. One redb database; every write that Raft relies on is
//! synchronised before it returns.
//!
//! Calls block; [`Store::run`] takes them off the async threads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use rekindle_proto::id::{ClusterName, HostName, LogIndex, StoreId};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::error::StoreError;
use super::lives::{LastLife, Lives};
use super::mark::Mark;
use super::types::{LogEntry, LogId, SnapshotMeta, Vote, number_of};

/// The file's name in the ledger's directory.
pub(super) const FILE_NAME: &str = "ledger.redb";

/// Where an older copy is put: one is kept.
const ASIDE: &str = "ledger.redb.older";

/// redb's page cache, in bytes: the whole log and a snapshot. redb's own default is 1 GiB.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
const PEERS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("peers");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const LIFE: &str = "life";
const SNAPSHOT_META: &str = "snapshot-meta";
const SNAPSHOT: &str = "snapshot";

/// Whose store it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) store: StoreId,
    pub(super) cluster: ClusterName,
    pub(super) host: HostName,
    /// The generation of voters in which it was begun, or by which it was recovered.
    pub(super) generation: u64,
}

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// Beside the file's directory: what tells an older copy from the store that was here last.
    mark: PathBuf,
    /// `None`: closed.
    database: RwLock<Option<Database>>,
    /// Held while one snapshot replaces another.
    replacing: Mutex<()>,
    /// Whether the failure was logged. One line is enough: after the first failure redb refuses everything.
    told: AtomicBool,
}

impl Store {
    /// Opens the file in `dir`, making both if need be.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let directory = |source| StoreError::Directory { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(directory)?;
        let path = dir.join(FILE_NAME);
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        if matches!(opened, Err(DatabaseError::DatabaseAlreadyOpen)) {
            return Err(StoreError::InUse { path });
        }
        let database = opened.map_err(|error| disk(&path, "open", error))?;
        // A new file is found again after a power cut only once its directory is on disk.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(directory)?;
        let store = Self {
            path,
            mark: Mark::path(dir),
            database: RwLock::new(Some(database)),
            replacing: Mutex::new(()),
            told: AtomicBool::new(false),
        };
        store.write("begin the tables", Durability::Immediate, |txn| {
            txn.open_table(META)?;
            txn.open_table(LOG)?;
            txn.open_table(PEERS)?;
            Ok(())
        })?;
        Ok(store)
    }

    /// Puts the file aside, beside its place, and says where: a person may want to look at it.
    pub(super) fn put_aside(dir: &Path) -> Result<PathBuf, StoreError> {
        let (from, to) = (dir.join(FILE_NAME), dir.join(ASIDE));
        let moved = fs::rename(&from, &to).and_then(|()| File::open(dir)?.sync_all());
        moved.map(|()| to).map_err(|source| StoreError::Directory { path: from, source })
    }

    /// Does something with the store on a thread that may block.
    pub(super) async fn run<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    {
        let store = Arc::clone(self);
        // A join error means that the work panicked or that the runtime is going down.
        let closed = StoreError::Closed { path: self.path.clone() };
        let result = tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(closed));
        if let Err(error) = &result {
            self.tell(error);
        }
        result
    }

    /// Closes the file, after what is being done with it. Everything later fails.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.meta(IDENTITY)
    }

    pub(super) fn set_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        self.set_meta(IDENTITY, identity, Durability::Immediate)
    }

    /// A fresh id.
    pub(super) fn new_id() -> StoreId {
        StoreId(Uuid::new_v4())
    }

    /// Whether Raft has never written to it.
    pub(super) fn is_fresh(&self) -> Result<bool, StoreError> {
        let (purged, last) = self.log_state()?;
        Ok(purged.is_none() && last.is_none() && self.vote()?.is_none() && self.snapshot_meta()?.is_none())
    }

    pub(super) fn vote(&self) -> Result<Option<Vote>, StoreError> {
        self.meta(VOTE)
    }

    /// The vote is given when both are on disk: the store's, and the mark that an older copy of the store would lack.
    pub(super) fn set_vote(&self, vote: &Vote) -> Result<(), StoreError> {
        self.set_meta(VOTE, vote, Durability::Immediate)?;
        self.write_mark()
    }

    /// How often it was opened.
    pub(super) fn life(&self) -> Result<u64, StoreError> {
        Ok(self.meta::<Lives>(LIFE)?.map_or(0, |lives| lives.life))
    }

    /// Begins its next life.
    pub(super) fn next_life(&self) -> Result<Lives, StoreError> {
        let lives = self.meta::<Lives>(LIFE)?.unwrap_or_default().next(rand::random());
        self.set_meta(LIFE, &lives, Durability::Immediate)?;
        self.write_mark()?;
        Ok(lives)
    }

    fn write_mark(&self) -> Result<(), StoreError> {
        let Some(identity) = self.identity()? else { return Ok(()) };
        let term = self.vote()?.map_or(0, |vote| vote.leader_id.term);
        let mark = Mark { store: identity.store, life: self.life()?, term };
        mark.write(&self.mark).map_err(|source| StoreError::Directory { path: self.mark.clone(), source })
    }

    /// Whether it is an older copy of what was here last.
    pub(super) fn is_older_than(&self, mark: &Mark) -> Result<bool, StoreError> {
        let Some(identity) = self.identity()? else { return Ok(false) };
        let term = self.vote()?.map_or(0, |vote| vote.leader_id.term);
        Ok(identity.store == mark.store && (self.life()? < mark.life || term < mark.term))
    }

    /// Everything at once, for the recovery of a quorum: this snapshot instead of the whole log, and this identity.
    pub(super) fn replace_all(
        &self,
        identity: &Identity,
        meta: &SnapshotMeta,
        data: &[u8],
        last: LogId,
    ) -> Result<(), StoreError> {
        let us = number_of(identity.store);
        let identity = self.encoded(IDENTITY, identity)?;
        let meta = self.encoded(SNAPSHOT_META, meta)?;
        let (purged, committed) = (self.encoded(PURGED, &last)?, self.encoded(COMMITTED, &Some(last))?);
        let vote = self.encoded(VOTE, &Vote::new(last.leader_id.term, us))?;
        self.write("begin a new generation", Durability::Immediate, |txn| {
            txn.open_table(LOG)?.retain(|_, _| false)?;
            let mut table = txn.open_table(META)?;
            table.insert(IDENTITY, identity.as_slice())?;
            table.insert(SNAPSHOT_META, meta.as_slice())?;
            table.insert(SNAPSHOT, data)?;
            table.insert(PURGED, purged.as_slice())?;
            table.insert(COMMITTED, committed.as_slice())?;
            table.insert(VOTE, vote.as_slice())?;
            Ok(())
        })?;
        self.write_mark()
    }

    pub(super) fn committed(&self) -> Result<Option<LogId>, StoreError> {
        Ok(self.meta::<Option<LogId>>(COMMITTED)?.flatten())
    }

    /// Not synchronised by itself: it goes to disk with the next entry, and costs a few replayed entries if it does not.
    pub(super) fn set_committed(&self, committed: Option<LogId>) -> Result<(), StoreError> {
        self.set_meta(COMMITTED, &committed, Durability::None)
    }

    /// The last entry removed because a snapshot has it, and the last entry.
    pub(super) fn log_state(&self) -> Result<(Option<LogId>, Option<LogId>), StoreError> {
        let purged: Option<LogId> = self.meta(PURGED)?;
        let last = self.read("read the log", |txn| {
            let log = txn.open_table(LOG)?;
            let last = log.last()?.map(|(index, bytes)| (index.value(), bytes.value().to_vec()));
            Ok(last)
        })?;
        let last = match last {
            Some((index, bytes)) => Some(self.entry(index, &bytes)?.log_id),
            None => purged,
        };
        Ok((purged, last))
    }

    /// Entries of a range, in order, at most about `bytes_max` bytes of them, but at least one.
    pub(super) fn entries(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let raw = self.read("read the log", |txn| {
            let log = txn.open_table(LOG)?;
            let mut raw: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut bytes = 0;
            for item in log.range(range)? {
                let (index, value) = item?;
                bytes += value.value().len();
                if bytes > bytes_max && !raw.is_empty() {
                    break;
                }
                raw.push((index.value(), value.value().to_vec()));
            }
            Ok(raw)
        })?;
        raw.iter().map(|(index, bytes)| self.entry(*index, bytes)).collect()
    }

    /// Adds entries; on return they are on disk.
    pub(super) fn append(&self, entries: &[LogEntry]) -> Result<(), StoreError> {
        let mut encoded = Vec::with_capacity(entries.len());
        for entry in entries {
            encoded.push((entry.log_id.index, self.encoded("entry", entry)?));
        }
        self.write("append to the log", Durability::Immediate, |txn| {
            let mut log = txn.open_table(LOG)?;
            for (index, bytes) in &encoded {
                log.insert(index, bytes.as_slice())?;
            }
            Ok(())
        })
    }

    /// Removes this entry and all later ones.
    pub(super) fn truncate(&self, since: u64) -> Result<(), StoreError> {
        self.write("truncate the log", Durability::Immediate, |txn| {
            txn.open_table(LOG)?.retain_in(since.., |_, _| false)?;
            Ok(())
        })
    }

    /// Removes this entry and all earlier ones: a snapshot has them.
    pub(super) fn purge(&self, upto: LogId) -> Result<(), StoreError> {
        let purged = self.encoded(PURGED, &upto)?;
        self.write("purge the log", Durability::Immediate, |txn| {
            txn.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
            txn.open_table(META)?.insert(PURGED, purged.as_slice())?;
            Ok(())
        })
    }

    pub(super) fn snapshot_meta(&self) -> Result<Option<SnapshotMeta>, StoreError> {
        self.meta(SNAPSHOT_META)
    }

    pub(super) fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        let found = self.read("read the snapshot", |txn| {
            let table = txn.open_table(META)?;
            let meta = table.get(SNAPSHOT_META)?.map(|bytes| bytes.value().to_vec());
            let data = table.get(SNAPSHOT)?.map(|bytes| bytes.value().to_vec());
            Ok(meta.zip(data))
        })?;
        found.map(|(meta, data)| Ok((self.decoded(SNAPSHOT_META, &meta)?, data))).transpose()
    }

    /// Keeps a snapshot instead of the one before, unless that one is newer: a snapshot that was being built while a newer
    /// one came from the leader is worthless.
    pub(super) fn set_snapshot(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), StoreError> {
        let encoded = self.encoded(SNAPSHOT_META, meta)?;
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.snapshot_meta()?.is_some_and(|present| present.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        self.write("write a snapshot", Durability::Immediate, |txn| {
            let mut table = txn.open_table(META)?;
            table.insert(SNAPSHOT_META, encoded.as_slice())?;
            table.insert(SNAPSHOT, data)?;
            Ok(())
        })
    }

    /// In which life each other store was heard last.
    pub(super) fn peers(&self) -> Result<BTreeMap<StoreId, LastLife>, StoreError> {
        let raw = self.read("read the voters' stores", |txn| {
            let table = txn.open_table(PEERS)?;
            let mut raw = Vec::new();
            for item in table.iter()? {
                let (id, life) = item?;
                raw.push((id.value().to_owned(), life.value().to_vec()));
            }
            Ok(raw)
        })?;
        let mut peers = BTreeMap::new();
        for (id, life) in raw {
            if let Ok(id) = id.parse() {
                peers.insert(id, self.decoded("a voter's store", &life)?);
            }
        }
        Ok(peers)
    }

    /// Remembers a store's life.
    pub(super) fn set_peer(&self, id: StoreId, life: LastLife) -> Result<(), StoreError> {
        let bytes = self.encoded("a voter's store", &life)?;
        self.write("write a voter's store", Durability::Immediate, |txn| {
            txn.open_table(PEERS)?.insert(id.to_string().as_str(), bytes.as_slice())?;
            Ok(())
        })
    }

    fn meta<T: DeserializeOwned>(&self, key: &'static str) -> Result<Option<T>, StoreError> {
        let bytes = self.read("read", |txn| {
            let table = txn.open_table(META)?;
            let bytes = table.get(key)?.map(|bytes| bytes.value().to_vec());
            Ok(bytes)
        })?;
        bytes.map(|bytes| self.decoded(key, &bytes)).transpose()
    }

    fn set_meta<T: Serialize>(&self, key: &'static str, value: &T, durability: Durability) -> Result<(), StoreError> {
        let bytes = self.encoded(key, value)?;
        self.write("write", durability, |txn| {
            txn.open_table(META)?.insert(key, bytes.as_slice())?;
            Ok(())
        })
    }

    fn entry(&self, index: u64, bytes: &[u8]) -> Result<LogEntry, StoreError> {
        let entry: LogEntry = self.decoded(&format!("entry {index}"), bytes)?;
        if entry.log_id.index != index {
            return Err(StoreError::Hole { path: self.path.clone(), index: LogIndex(index) });
        }
        Ok(entry)
    }

    fn encoded<T: Serialize>(&self, what: &str, value: &T) -> Result<Vec<u8>, StoreError> {
        encode(value, REQUEST_BYTES_MAX).map_err(|source| self.content(what, source))
    }

    fn decoded<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, StoreError> {
        decode(bytes, REQUEST_BYTES_MAX).map_err(|source| self.content(what, source))
    }

    fn content(&self, what: &str, source: rekindle_proto::message::CodecError) -> StoreError {
        StoreError::Content { path: self.path.clone(), what: what.to_owned(), source }
    }

    fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(doing, |database| work(&database.begin_read()?))
    }

    fn write<T>(
        &self,
        doing: &'static str,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(doing, |database| {
            let mut txn = database.begin_write()?;
            txn.set_durability(durability)?;
            let value = work(&txn)?;
            txn.commit()?;
            Ok(value)
        })
    }

    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| StoreError::Closed { path: self.path.clone() })?;
        work(database).map_err(|error| disk(&self.path, doing, error))
    }

    /// Says once what is wrong with the file.
    fn tell(&self, error: &StoreError) {
        if !matches!(error, StoreError::Closed { .. }) && !self.told.swap(true, Ordering::AcqRel) {
            tracing::error!(
                file = %self.path.display(),
                %error,
                "the ledger's file failed: this voter stops; mend the disk and start rekindled again, nothing is lost"
            );
        }
    }
}

fn disk(path: &Path, doing: &'static str, error: impl Into<redb::Error>) -> StoreError {
    StoreError::Disk { path: path.to_owned(), doing, source: Box::new(error.into()) }
}
