//! Raft calls to the other voters.

use std::collections::BTreeMap;
use std::future::Future;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use rekindle_proto::id::{HostName, StoreId};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};
use serde::Serialize;

use super::Peers;
use super::error::{LedgerError, PeerError};
use super::lives::{LastLife, Lives};
use super::rpc::{Answer, Call, Electorate, Letter};
use super::store::Store;
use super::types::{Snapshot, Types, Vote, Voter, number_of};

/// Stores known at once: seven voters and nine standbys, replaced a hundred times over.
const PEERS_MAX: usize = 1_600;

/// In which life each store was last heard. One that does not descend from that life is an older copy, and is not heard.
#[derive(Debug)]
pub(super) struct Acquaintance {
    store: Arc<Store>,
    known: Mutex<BTreeMap<StoreId, LastLife>>,
    told: Mutex<BTreeMap<StoreId, LastLife>>,
    /// When each store last answered us.
    answered: Mutex<BTreeMap<StoreId, Instant>>,
}

impl Acquaintance {
    pub(super) async fn load(store: Arc<Store>) -> Result<Self, LedgerError> {
        let known = Mutex::new(store.run(Store::peers).await?);
        Ok(Self { store, known, told: Mutex::default(), answered: Mutex::default() })
    }

    /// It answered us just now.
    fn note_answer(&self, id: StoreId) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() >= PEERS_MAX {
            answered.clear();
        }
        answered.insert(id, Instant::now());
    }

    /// When it last answered us.
    pub(super) fn answered(&self, id: StoreId) -> Option<Instant> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Whether this is the store we know, and not an older copy of it. Remembers a later life, on disk, before its word
    /// counts.
    pub(super) async fn greet(&self, voter: &HostName, id: StoreId, lives: &Lives) -> Result<(), LedgerError> {
        let refuse = |why: &str| Err(LedgerError::Refused { from: voter.clone(), why: why.to_owned() });
        let Some(present) = lives.last() else { return refuse("a store that never lived") };
        let (known, count) = {
            let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            (all.get(&id).copied(), all.len())
        };
        match known {
            Some(known) if known == present => return Ok(()),
            Some(known) if !lives.descends_from(known) => {
                let error = LedgerError::OlderStore { voter: voter.clone() };
                let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(id, present);
                if told != Some(present) {
                    tracing::error!(%voter, %error, "a voter's store is an older copy");
                }
                return Err(error);
            }
            None if count >= PEERS_MAX => return refuse("too many stores were known here"),
            Some(_) | None => {}
        }
        self.store.run(move |store| store.set_peer(id, present)).await?;
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = all.entry(id).or_insert(present);
        *latest = (*latest).max(present);
        Ok(())
    }
}

/// In whose name we speak.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    pub(super) generation: u64,
    pub(super) store: StoreId,
    pub(super) lives: Arc<Lives>,
}

impl Speaker {
    pub(super) fn letter<B>(&self, body: B) -> Letter<B> {
        Letter { generation: self.generation, store: self.store, lives: Lives::clone(&self.lives), body }
    }

    /// Whether we speak with whoever wrote this: voters of another generation are no voters. A later one is not believed on
    /// a letter's word; the operator's order that began it is ([`rekindle_coordinator::proven_generation`]).
    pub(super) fn hears<B>(&self, from: &HostName, letter: &Letter<B>) -> Result<(), LedgerError> {
        if letter.generation == self.generation {
            return Ok(());
        }
        let (theirs, ours) = (letter.generation, self.generation);
        Err(LedgerError::Generation { from: from.clone(), theirs, ours })
    }
}

/// Makes [`Line`]s.
pub(super) struct Network<P> {
    pub(super) peers: Arc<P>,
    /// Our number.
    pub(super) us: u64,
    pub(super) speaker: Speaker,
    pub(super) acquaintance: Arc<Acquaintance>,
    /// Between two tries to reach a voter that cannot be reached.
    pub(super) pause: Duration,
}

impl<P: Peers> RaftNetworkFactory<Types> for Network<P> {
    type Network = Line<P>;

    async fn new_client(&mut self, target: u64, node: &Voter) -> Line<P> {
        Line {
            peers: Arc::clone(&self.peers),
            us: self.us,
            target,
            speaker: self.speaker.clone(),
            acquaintance: Arc::clone(&self.acquaintance),
            voter: node.host.clone(),
            pause: self.pause,
        }
    }
}

/// The way to one voter.
pub(super) struct Line<P> {
    peers: Arc<P>,
    us: u64,
    target: u64,
    speaker: Speaker,
    acquaintance: Arc<Acquaintance>,
    voter: Option<HostName>,
    pause: Duration,
}

/// What came of a call.
enum Failure {
    /// Late: a slow disk over there, perhaps. openraft tries again at once, and the other has the entries by then.
    Late(Timeout<u64>),
    /// Anything else: openraft is to wait a moment before it tries again. What it calls a network error it repeats at once.
    Other(Unreachable),
}

impl From<Failure> for RpcError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Late(late) => Self::Timeout(late),
            Failure::Other(other) => Self::Unreachable(other),
        }
    }
}

impl From<Failure> for StreamingError<Types, Fatal<u64>> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Late(late) => Self::Timeout(late),
            Failure::Other(other) => Self::Unreachable(other),
        }
    }
}

fn other(error: &(impl std::error::Error + 'static)) -> Failure {
    Failure::Other(Unreachable::new(error))
}

impl<P: Peers> Line<P> {
    async fn call<B: Serialize>(&self, action: RPCTypes, body: B, within: Duration) -> Result<Answer, Failure> {
        let Some(voter) = &self.voter else {
            return Err(self.odd("openraft named no host".to_owned()));
        };
        let bytes = encode(&self.speaker.letter(body), REQUEST_BYTES_MAX).map_err(|error| other(&error))?;
        let answer = match tokio::time::timeout(within, self.peers.call(voter, bytes, within)).await {
            Ok(Ok(answer)) => answer,
            Err(_) | Ok(Err(PeerError::TimedOut { .. })) => {
                return Err(Failure::Late(Timeout { action, id: self.us, target: self.target, timeout: within }));
            }
            Ok(Err(error @ (PeerError::Unreachable { .. } | PeerError::Refused { .. }))) => return Err(other(&error)),
        };
        let letter: Letter<Answer> = decode(&answer, REQUEST_BYTES_MAX).map_err(|error| other(&error))?;
        let heard = self.speaker.hears(voter, &letter);
        heard.map_err(|error| other(&error))?;
        if number_of(letter.store) != self.target {
            return Err(other(&LedgerError::OtherStore { voter: voter.clone() }));
        }
        self.acquaintance.greet(voter, letter.store, &letter.lives).await.map_err(|error| other(&error))?;
        self.acquaintance.note_answer(letter.store);
        Ok(letter.body)
    }

    fn odd(&self, why: String) -> Failure {
        match &self.voter {
            Some(from) => other(&LedgerError::Refused { from: from.clone(), why }),
            None => other(&LedgerError::Timing(why)),
        }
    }
}

type RpcError = RPCError<u64, Voter, RaftError<u64>>;

impl<P: Peers> RaftNetwork<Types> for Line<P> {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let (vote, previous) = (request.vote, request.prev_log_id);
        match self.call(RPCTypes::AppendEntries, Call::Append(request), option.hard_ttl()).await? {
            Answer::Append(answer) => {
                Electorate::may_answer_append(&vote, previous, &answer).map_err(|why| self.odd(why))?;
                Ok(answer)
            }
            Answer::Vote(_) | Answer::Snapshot(_) | Answer::Who { .. } | Answer::Noted => {
                Err(self.odd("it answers another question".to_owned()).into())
            }
        }
    }

    async fn vote(&mut self, request: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        match self.call(RPCTypes::Vote, Call::Vote(request), option.hard_ttl()).await? {
            Answer::Vote(answer) => {
                Electorate::may_answer_vote(&answer).map_err(|why| self.odd(why))?;
                Ok(answer)
            }
            Answer::Append(_) | Answer::Snapshot(_) | Answer::Who { .. } | Answer::Noted => {
                Err(self.odd("it answers another question".to_owned()).into())
            }
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        let call = Call::Snapshot { vote, meta: snapshot.meta, data: *snapshot.snapshot };
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = self.call(RPCTypes::InstallSnapshot, call, option.hard_ttl()) => answer?,
        };
        match answer {
            Answer::Snapshot(answer) => {
                Electorate::may_answer_snapshot(&vote, &answer.vote).map_err(|why| self.odd(why))?;
                Ok(answer)
            }
            Answer::Append(_) | Answer::Vote(_) | Answer::Who { .. } | Answer::Noted => {
                Err(self.odd("it answers another question".to_owned()).into())
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(iter::repeat(self.pause))
    }
}
