//! The handle to a voter's Raft.
//!
//! # The silence after a start
//!
//! For one maximum election timeout after its start a voter grants no vote and does not stand (I3): the leader it may have
//! sworn to before the restart still counts on it. A *fresh* store keeps silent too. It is what a first formation looks like,
//! but also what a voter looks like whose disk was replaced, and that one may have forgotten an oath of a second ago; the
//! price is some seconds once in a cluster's life. Only a single voter has nobody to wait for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError};
use rekindle_coordinator::io::{Input, ProposeError};
use rekindle_coordinator::ledger::{Entry, Outcome};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName, Term};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::error::LedgerError;
use super::leadership::{candidacy, tell_leadership};
use super::log::Log;
use super::machine::Machine;
use super::network::{Acquaintance, Network};
use super::proposals::{self, Job};
use super::rpc::{Answer, Call, Electorate, Latest, Letter};
use super::store::{Identity, Store};
use super::types::{Proposal, Raft, Snapshot, Timing, number_of};
use super::{LedgerSettings, Peers};

/// Numbers of voters that make sense: an even one tolerates no more failures than the odd one below it.
const VOTERS_COUNTS: [usize; 4] = [1, 3, 5, 7];

/// Checks under way at once. Each act needs one; a host has a handful.
const CHECKS_MAX: usize = 64;

/// A voter's Raft. Clones are handles to the same one; when the last is dropped, it stops.
#[derive(Clone)]
pub struct LedgerAdapter {
    inner: Arc<Inner>,
}

struct Inner {
    host: HostName,
    raft: Raft,
    store: Arc<Store>,
    identity: Identity,
    acquaintance: Arc<Acquaintance>,
    electorate: Arc<Electorate>,
    latest: Latest,
    timing: Timing,
    /// Until when we grant no vote.
    silent_until: Instant,
    stands: Arc<AtomicBool>,
    inputs: mpsc::Sender<Input>,
    jobs: mpsc::Sender<Job>,
    checks: Arc<Semaphore>,
    /// Ended with the last handle.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for LedgerAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerAdapter").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl LedgerAdapter {
    /// Opens the store, restores the ledger, and joins the other voters. Sends one [`Input::Restored`] before it returns:
    /// `inputs` needs room for one.
    ///
    /// # Errors
    /// [`LedgerError`]: the voters are not a set of 1, 3, 5 or 7 with us in it, or not those of the store; the file is in
    /// use, damaged, of another host, or holds something written by a later version.
    pub async fn start<P: Peers>(
        settings: LedgerSettings,
        peers: P,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self, LedgerError> {
        Self::start_with(settings, Timing::default(), peers, inputs).await
    }

    pub(super) async fn start_with<P: Peers>(
        settings: LedgerSettings,
        timing: Timing,
        peers: P,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self, LedgerError> {
        let LedgerSettings { cluster, host, voters, dir } = settings;
        let electorate = Arc::new(Electorate { cluster: cluster.clone(), voters: numbered(&host, &voters)? });
        let config = Arc::new(timing.config(&cluster)?);
        let (store, identity) = open(&dir, &host, &electorate).await?;
        let acquaintance = Arc::new(Acquaintance::load(Arc::clone(&store)).await?);

        let machine = Machine::restore(Arc::clone(&store), &cluster, inputs.clone()).await?;
        let restored = Input::Restored { ledger: Box::new(machine.ledger().clone()) };
        inputs.send(restored).await.map_err(|_| LedgerError::Deaf)?;

        let network = Network {
            peers: Arc::new(peers),
            us: number_of(&host),
            store: identity.store,
            acquaintance: Arc::clone(&acquaintance),
            electorate: Arc::clone(&electorate),
            pause: timing.heartbeat,
        };
        let latest = Latest::new(store.run(Store::vote).await?);
        let log = Log { store: Arc::clone(&store) };
        let raft = Raft::new(number_of(&host), config, network, log, machine).await.map_err(stopped)?;

        let silence = if electorate.voters.len() == 1 { Duration::ZERO } else { timing.election_max };
        let silent_until = Instant::now() + silence;
        let stands = Arc::new(AtomicBool::new(true));
        let (jobs, waiting) = mpsc::channel(proposals::WAITING_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(candidacy(raft.clone(), Arc::clone(&electorate), timing, silent_until, Arc::clone(&stands)));
        tasks.spawn(tell_leadership(raft.clone(), Arc::clone(&electorate), inputs.clone()));
        tasks.spawn(proposals::submit(raft.clone(), waiting, inputs.clone()));
        let inner = Inner {
            host,
            raft,
            store,
            identity,
            acquaintance,
            electorate,
            latest,
            timing,
            silent_until,
            stands,
            inputs,
            jobs,
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            _tasks: tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Gives an entry to the log. [`Input::Proposed`] follows within [`super::PROPOSE_TIMEOUT`]; if it is committed,
    /// [`Input::Committed`] comes before it. Entries proposed one after another are logged in that order.
    ///
    /// `NotLeader`: certainly not committed. An entry too long for the log is `Refused`, and not logged either.
    pub fn propose(&self, call: CallId, entry: Box<Entry>) {
        let refusal = match Proposal::seal(&entry) {
            Ok(proposal) => {
                let deadline = Instant::now() + self.inner.timing.propose_within;
                match self.inner.jobs.try_send(Job { call, proposal, deadline }) {
                    Ok(()) => return,
                    Err(_full) => Err(ProposeError::Unknown),
                }
            }
            Err(error) => Ok(Outcome::Refused { why: Text::new(format!("the entry was not logged: {error}")) }),
        };
        let inputs = self.inner.inputs.clone();
        tokio::spawn(async move { proposals::answer(&inputs, call, refusal).await });
    }

    /// Asks a quorum, now, whether we lead. [`Input::Linearizable`] follows within [`super::CHECK_TIMEOUT`]: a term only if
    /// a quorum answered this very question, and everything committed before it was applied here.
    pub fn check(&self, call: CallId) {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let (result, finished) = inner.checked().await;
            let inputs = inner.inputs.clone();
            // The permit is back and the handle released before we wait for the coordinator.
            drop(inner);
            let _ended = inputs.send(Input::Linearizable { call, result, finished }).await;
        });
    }

    /// Answers a voter's Raft call. `from` is the name in the caller's certificate.
    ///
    /// # Errors
    /// [`LedgerError`] if the caller is no voter, is not the one it was, or says what it may not; if we started just now;
    /// or if our Raft has stopped. To be sent back as a refusal.
    pub async fn handle_rpc(&self, from: &HostName, bytes: &[u8]) -> Result<Vec<u8>, LedgerError> {
        let inner = &self.inner;
        if !inner.electorate.has(from) || *from == inner.host {
            return Err(LedgerError::NotAVoter { from: from.clone() });
        }
        let letter: Letter<Call> =
            decode(bytes, REQUEST_BYTES_MAX).map_err(|source| LedgerError::Malformed { from: from.clone(), source })?;
        let present = inner.raft.server_metrics().borrow().vote;
        inner
            .electorate
            .may_call(from, &letter.body, &present)
            .map_err(|why| LedgerError::Refused { from: from.clone(), why })?;
        inner.acquaintance.greet(from, letter.store).await?;
        if let Some(vote) = Electorate::claim(&letter.body) {
            inner.latest.admit(vote).map_err(|why| LedgerError::Refused { from: from.clone(), why })?;
        }
        let body = match letter.body {
            Call::Append(request) => Answer::Append(inner.raft.append_entries(request).await.map_err(stopped)?),
            Call::Vote(_) if Instant::now() < inner.silent_until => {
                return Err(LedgerError::TooYoung { host: inner.host.clone() });
            }
            Call::Vote(request) => Answer::Vote(inner.raft.vote(request).await.map_err(stopped)?),
            Call::Snapshot { vote, meta, data } => {
                let snapshot = Snapshot { meta, snapshot: Box::new(data) };
                Answer::Snapshot(inner.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?)
            }
        };
        encode(&Letter { store: inner.identity.store, body }, REQUEST_BYTES_MAX).map_err(LedgerError::Answer)
    }

    /// Whether we may lead. `false` hands leadership over: we send no heartbeats and do not stand, so the others elect one
    /// of them within an election timeout; we still vote and keep the log, and every check fails. For a polite stop, and for
    /// a voter that reaches neither Nova nor any fence device.
    pub fn stand(&self, stands: bool) {
        self.inner.stands.store(stands, Ordering::Release);
        self.inner.raft.runtime_config().heartbeat(stands);
        if !stands {
            self.inner.raft.runtime_config().elect(false);
        }
    }

    /// The voters, sorted by name.
    #[must_use]
    pub fn voters(&self) -> Vec<HostName> {
        self.inner.electorate.names()
    }

    /// Stops and closes the file. Other handles answer with errors from then on.
    pub async fn shutdown(self) {
        // It never fails in this version of openraft.
        let _joined = self.inner.raft.shutdown().await;
        let store = Arc::clone(&self.inner.store);
        let _closed = tokio::task::spawn_blocking(move || store.close()).await;
    }

    #[cfg(test)]
    pub(super) fn raft(&self) -> &Raft {
        &self.inner.raft
    }
}

impl Inner {
    async fn checked(&self) -> (Result<Term, Text>, Moment) {
        let Ok(_permit) = self.checks.try_acquire() else {
            return (Err(Text::new(format!("more than {CHECKS_MAX} checks at once"))), crate::clock::moment());
        };
        if !self.stands.load(Ordering::Acquire) {
            return (Err("handing leadership over".into()), crate::clock::moment());
        }
        let within = self.timing.check_within;
        let (begun, deadline) = (crate::clock::moment(), Instant::now() + within);
        let round = timeout_at(deadline, self.raft.get_read_log_id()).await;
        let finished = crate::clock::moment();
        let late = || Text::new(format!("no quorum answered within {} ms", within.as_millis()));
        let (read, applied) = match round {
            Err(_late) => return (Err(late()), finished),
            Ok(Err(error)) => return (Err(check_error(error)), finished),
            // Frozen (SIGSTOP, a suspended machine) while the answers lay waiting: they are older than they look.
            Ok(Ok(_)) if finished.since(begun) > within => return (Err(late()), finished),
            Ok(Ok(ids)) => ids,
        };
        // The later of the first entry of our own term and the last committed one: both are of the term we lead.
        let Some(read) = read else { return (Err("the log is empty".into()), finished) };
        if applied.is_none_or(|applied| applied.index < read.index) {
            let wait = self.raft.wait(Some(deadline.saturating_duration_since(Instant::now())));
            if wait.applied_index_at_least(Some(read.index), "check").await.is_err() {
                return (Err("what is committed was not applied here in time".into()), finished);
            }
        }
        (Ok(Term(read.leader_id.term)), finished)
    }
}

fn check_error(error: RaftError<u64, CheckIsLeaderError<u64, super::types::Voter>>) -> Text {
    match error {
        RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)) => {
            match to.leader_node.and_then(|voter| voter.host) {
                Some(leader) => Text::new(format!("not the leader: {leader} may be")),
                None => "not the leader".into(),
            }
        }
        RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(quorum)) => {
            Text::new(format!("only {} voters answered, ourselves included", quorum.got.len()))
        }
        RaftError::Fatal(fatal) => Text::new(format!("the ledger has stopped: {fatal}")),
    }
}

fn stopped(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Stopped(error.to_string())
}

/// The voters by number, if they can be voters.
fn numbered(host: &HostName, voters: &[HostName]) -> Result<BTreeMap<u64, HostName>, LedgerError> {
    let refuse = |rule: String| Err(LedgerError::Voters { voters: voters.to_vec(), rule });
    if !VOTERS_COUNTS.contains(&voters.len()) {
        return refuse(format!("there must be 1, 3, 5 or 7 voters, not {}", voters.len()));
    }
    if !voters.contains(host) {
        return refuse(format!("{host} is not among them, and only a voter keeps the ledger"));
    }
    let mut numbers = BTreeMap::new();
    for voter in voters {
        if let Some(other) = numbers.insert(number_of(voter), voter.clone()) {
            let rule = if other == *voter {
                format!("{voter} is named twice")
            } else {
                format!("{voter} and {other} have the same number in Raft: rename one of them")
            };
            return refuse(rule);
        }
    }
    Ok(numbers)
}

/// Opens the store, if it is ours.
async fn open(dir: &Path, host: &HostName, electorate: &Electorate) -> Result<(Arc<Store>, Identity), LedgerError> {
    let dir = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir)).await;
    let store = Arc::new(opened.map_err(stopped)??);
    let (cluster, voters) = (electorate.cluster.clone(), electorate.names());
    let identity = match store.run(Store::identity).await? {
        None => Identity { store: Store::new_id(), cluster, host: host.clone(), voters },
        Some(found) if found.cluster != cluster || found.host != *host => {
            return Err(LedgerError::Owner {
                path: store.path().to_owned(),
                found: format!("{} of {}", found.host, found.cluster),
                expected: format!("{host} of {cluster}"),
            });
        }
        Some(found) if found.voters == voters => return Ok((store, found)),
        // A list that was mended before the first election.
        Some(found) if store.run(Store::is_fresh).await? => Identity { voters, ..found },
        Some(found) => {
            let path = store.path().to_owned();
            return Err(LedgerError::OtherVoters { path, stored: found.voters, configured: voters });
        }
    };
    let written = identity.clone();
    store.run(move |store| store.set_identity(&written)).await?;
    Ok((store, identity))
}
