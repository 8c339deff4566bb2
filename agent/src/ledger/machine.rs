//! The ledger as openraft's state machine: it applies committed entries and tells the coordinator of each.

use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, ErrorSubject, ErrorVerb, RaftSnapshotBuilder, StorageIOError};
use rekindle_coordinator::io::Input;
use rekindle_coordinator::ledger::{Ledger, Position};
use rekindle_proto::id::{ClusterName, LogIndex, Term};
use tokio::sync::mpsc;

use super::error::{FormatError, LedgerError};
use super::log::failed;
use super::store::Store;
use super::types::{
    Applied, LogEntry, LogId, Membership, Proposal, RaftStorageError, Snapshot, SnapshotMeta, Types, pack, unpack,
};

/// Entries read at once when replaying.
const REPLAY_CHUNK: u64 = 64;

/// The state that the entries made.
#[derive(Debug)]
pub(super) struct Machine {
    store: Arc<Store>,
    inputs: mpsc::Sender<Input>,
    ledger: Ledger,
    last: Option<LogId>,
    membership: Membership,
}

impl Machine {
    /// The state as far as it is known to be committed: the snapshot, and the entries after it.
    pub(super) async fn restore(
        store: Arc<Store>,
        cluster: &ClusterName,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self, LedgerError> {
        let committed = store.run(Store::committed).await?;
        Self::restore_to(store, cluster, inputs, committed).await
    }

    /// The same, up to an entry.
    pub(super) async fn restore_to(
        store: Arc<Store>,
        cluster: &ClusterName,
        inputs: mpsc::Sender<Input>,
        last: Option<LogId>,
    ) -> Result<Self, LedgerError> {
        let ledger = Ledger::new(cluster.clone());
        let mut machine = Self { store, inputs, ledger, last: None, membership: Membership::default() };
        if let Some((meta, data)) = machine.store.run(Store::snapshot).await? {
            machine.ledger = unpack(&data, cluster).map_err(|source| {
                let index = LogIndex(meta.last_log_id.map_or(0, |id| id.index));
                LedgerError::Format { index, source }
            })?;
            machine.last = meta.last_log_id;
            machine.membership = meta.last_membership;
        }
        machine.replay(last).await?;
        Ok(machine)
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The last entry applied.
    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    /// The voters' numbers, as far as is known to be committed.
    pub(super) fn voters(&self) -> Vec<u64> {
        self.membership.voter_ids().collect()
    }

    async fn replay(&mut self, last: Option<LogId>) -> Result<(), LedgerError> {
        let Some(committed) = last else { return Ok(()) };
        let mut next = self.last.map_or(0, |id| id.index + 1);
        while next <= committed.index {
            let end = (next + REPLAY_CHUNK).min(committed.index + 1);
            let entries = self.store.run(move |store| store.entries(next..end, usize::MAX)).await?;
            for entry in &entries {
                if entry.log_id.index != next {
                    break;
                }
                self.take(entry).map_err(|(index, source)| LedgerError::Format { index, source })?;
                next += 1;
            }
            if next < end {
                let path = self.store.path().to_owned();
                return Err(super::error::StoreError::Hole { path, index: LogIndex(next) }.into());
            }
        }
        Ok(())
    }

    /// Applies one entry.
    fn take(&mut self, entry: &LogEntry) -> Result<(Applied, Option<Input>), (LogIndex, FormatError)> {
        let done = match &entry.payload {
            EntryPayload::Blank => (Applied::Own, None),
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership.clone());
                (Applied::Own, None)
            }
            EntryPayload::Normal(proposal) => self.take_proposal(entry.log_id, proposal)?,
        };
        self.last = Some(entry.log_id);
        Ok(done)
    }

    fn take_proposal(
        &mut self,
        id: LogId,
        proposal: &Proposal,
    ) -> Result<(Applied, Option<Input>), (LogIndex, FormatError)> {
        let (index, term) = (LogIndex(id.index), Term(id.leader_id.term));
        let entry = proposal.open().map_err(|source| {
            tracing::error!(
                index = index.0,
                format = proposal.format,
                error = %source,
                "a committed ledger entry cannot be understood: this voter stops and does not guess; upgrade rekindled here"
            );
            (index, source)
        })?;
        let outcome = self.ledger.apply(Position { index, term }, &entry);
        Ok((Applied::Entry(outcome), Some(Input::Committed { index, term, entry })))
    }

    async fn say(&self, input: Input) -> Result<(), RaftStorageError> {
        self.inputs.send(input).await.map_err(|_| wrong(ErrorSubject::StateMachine, LedgerError::Deaf))
    }
}

fn wrong(subject: ErrorSubject<u64>, error: impl std::error::Error + 'static) -> RaftStorageError {
    StorageIOError::new(subject, ErrorVerb::Write, AnyError::new(&error)).into()
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), RaftStorageError> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, RaftStorageError>
    where
        I: IntoIterator<Item = LogEntry> + Send,
        I::IntoIter: Send,
    {
        let mut applied = Vec::new();
        for entry in entries {
            let (outcome, input) =
                self.take(&entry).map_err(|(_, source)| wrong(ErrorSubject::Apply(entry.log_id), source))?;
            // Waits for room: a coordinator that is slow sees every entry late, never one too few.
            if let Some(input) = input {
                self.say(input).await?;
            }
            applied.push(outcome);
        }
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            store: Arc::clone(&self.store),
            ledger: self.ledger.clone(),
            last: self.last,
            membership: self.membership.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, RaftStorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), RaftStorageError> {
        let ledger = unpack(&snapshot, &self.ledger.cluster).map_err(|source| {
            tracing::error!(error = %source, "a ledger snapshot cannot be understood: this voter stops");
            wrong(ErrorSubject::Snapshot(Some(meta.signature())), source)
        })?;
        let kept = meta.clone();
        self.store
            .run(move |store| store.set_snapshot(&kept, &snapshot))
            .await
            .map_err(|error| failed(ErrorSubject::Snapshot(Some(meta.signature())), ErrorVerb::Write, &error))?;
        self.ledger = ledger;
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.say(Input::Restored { ledger: Box::new(self.ledger.clone()) }).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, RaftStorageError> {
        current(&self.store).await
    }
}

async fn current(store: &Arc<Store>) -> Result<Option<Snapshot>, RaftStorageError> {
    let read = store.run(Store::snapshot).await;
    let found = read.map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))?;
    Ok(found.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(data) }))
}

/// The state at one moment, to be kept.
#[derive(Debug)]
pub(super) struct Builder {
    store: Arc<Store>,
    ledger: Ledger,
    last: Option<LogId>,
    membership: Membership,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, RaftStorageError> {
        let data = match pack(&self.ledger) {
            Ok(data) => data,
            Err(error) => return self.without(error).await,
        };
        let snapshot_id =
            self.last.map_or_else(|| "empty".to_owned(), |id| format!("{}-{}", id.leader_id.term, id.index));
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone(), snapshot_id };
        let (kept, bytes) = (meta.clone(), data.clone());
        self.store
            .run(move |store| store.set_snapshot(&kept, &bytes))
            .await
            .map_err(|error| failed(ErrorSubject::Snapshot(Some(meta.signature())), ErrorVerb::Write, &error))?;
        Ok(Snapshot { meta, snapshot: Box::new(data) })
    }
}

impl Builder {
    /// A ledger too large for a snapshot would be so on every voter at once: to stop would stop them all. The log grows
    /// instead, and a person is told.
    async fn without(&self, error: rekindle_proto::message::CodecError) -> Result<Snapshot, RaftStorageError> {
        tracing::error!(%error, "the ledger is too large for a snapshot: its log grows, and a voter far behind cannot catch up");
        let previous = current(&self.store).await?;
        Ok(previous.unwrap_or_else(|| Snapshot { meta: SnapshotMeta::default(), snapshot: Box::default() }))
    }
}
