//! The store as openraft's log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, EntryPayload, ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError};

use super::error::StoreError;
use super::store::Store;
use super::types::{APPEND_BYTES_MAX, LogEntry, LogId, RaftStorageError, Types, Vote};

/// openraft's way to the log.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) store: Arc<Store>,
}

/// What openraft stops with.
pub(super) fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &StoreError) -> RaftStorageError {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, RaftStorageError> {
        self.read((range.start_bound().cloned(), range.end_bound().cloned()), usize::MAX).await
    }

    /// Fewer entries than asked for where they are long: one call must not outgrow a heartbeat.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, RaftStorageError> {
        self.read((Bound::Included(start), Bound::Excluded(end)), APPEND_BYTES_MAX).await
    }
}

impl Log {
    async fn read(&self, range: (Bound<u64>, Bound<u64>), bytes_max: usize) -> Result<Vec<LogEntry>, RaftStorageError> {
        let read = self.store.run(move |store| store.entries(range, bytes_max)).await;
        read.map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, RaftStorageError> {
        let (last_purged_log_id, last_log_id) = self
            .store
            .run(Store::log_state)
            .await
            .map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))?;
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), RaftStorageError> {
        let vote = *vote;
        let saved = self.store.run(move |store| store.set_vote(&vote)).await;
        saved.map_err(|error| failed(ErrorSubject::Vote, ErrorVerb::Write, &error))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, RaftStorageError> {
        let read = self.store.run(Store::vote).await;
        read.map_err(|error| failed(ErrorSubject::Vote, ErrorVerb::Read, &error))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), RaftStorageError> {
        let saved = self.store.run(move |store| store.set_committed(committed)).await;
        saved.map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Write, &error))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, RaftStorageError> {
        let read = self.store.run(Store::committed).await;
        read.map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Read, &error))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), RaftStorageError>
    where
        I: IntoIterator<Item = LogEntry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        for entry in &entries {
            if let EntryPayload::Normal(proposal) = &entry.payload {
                proposal.ticket.stamp();
            }
        }
        match self.store.run(move |store| store.append(&entries)).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let told = failed(ErrorSubject::Logs, ErrorVerb::Write, &error);
                callback.log_io_completed(Err(io::Error::other(error.to_string())));
                Err(told)
            }
        }
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), RaftStorageError> {
        let done = self.store.run(move |store| store.truncate(since.index)).await;
        done.map_err(|error| failed(ErrorSubject::Log(since), ErrorVerb::Delete, &error))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), RaftStorageError> {
        let done = self.store.run(move |store| store.purge(upto)).await;
        done.map_err(|error| failed(ErrorSubject::Log(upto), ErrorVerb::Delete, &error))
    }
}
