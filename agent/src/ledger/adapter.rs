//! The handle to a voter's Raft.
//!
//! # The silence after a start
//!
//! For one maximum election timeout after its start a voter grants no vote and does not stand (I3): the leader it may have
//! sworn to before the restart still counts on it. A *fresh* store keeps silent too. It is what a first formation looks like,
//! but also what a voter looks like whose disk was replaced, and that one may have forgotten an oath of a second ago; the
//! price is some seconds once in a cluster's life. Only a single voter has nobody to wait for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError};
use rekindle_coordinator::io::{Input, ProposeError};
use rekindle_coordinator::ledger::{Entry, Outcome, Seat};
use rekindle_coordinator::time::Moment;
#[cfg(doc)]
use rekindle_coordinator::voters::CHANGE_WITHIN;
use rekindle_coordinator::voters::ChangeVotersOrder;
use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, ClusterName, HostName, Term};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::error::LedgerError;
use super::leadership::{candidacy, tell_leadership};
use super::log::Log;
use super::machine::Machine;
use super::network::{Acquaintance, Network, Speaker};
use super::opening::{Opened, open};
use super::proposals::{self, Job};
use super::rpc::{Answer, Call, Electorate, Latest, Letter};
use super::seating::{self, Joining, Seating, tell_voters};
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
    speaker: Speaker,
    joining: Joining,
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
        let LedgerSettings { cluster, host, voters, standbys, dir, generation } = settings;
        let electorate = Arc::new(electorate(&cluster, &host, &voters, &standbys)?);
        let config = Arc::new(timing.config(&cluster)?);
        let Opened { store, identity, lives, successor } = open(&dir, &host, &cluster, generation).await?;
        let us = number_of(identity.store);
        let speaker = Speaker { generation: identity.generation, store: identity.store, lives: Arc::new(lives) };
        let acquaintance = Arc::new(Acquaintance::load(Arc::clone(&store)).await?);

        let machine = Machine::restore(Arc::clone(&store), &cluster, inputs.clone()).await?;
        let restored = Input::Restored { ledger: Box::new(machine.ledger().clone()) };
        inputs.send(restored).await.map_err(|_| LedgerError::Deaf)?;

        let alone = match machine.voters().as_slice() {
            [] => electorate.first.len() == 1 && electorate.first.contains(&host) && !successor,
            [only] => *only == us,
            _ => false,
        };
        let peers = Arc::new(peers);
        let network = Network {
            peers: Arc::clone(&peers),
            us,
            speaker: speaker.clone(),
            acquaintance: Arc::clone(&acquaintance),
            pause: timing.heartbeat,
        };
        let latest = Latest::new(store.run(Store::vote).await?);
        let log = Log { store: Arc::clone(&store) };
        let raft = Raft::new(us, config, network, log, machine).await.map_err(stopped)?;

        let silence = if alone { Duration::ZERO } else { timing.election_max };
        let silent_until = Instant::now() + silence;
        let stands = Arc::new(AtomicBool::new(true));
        let (jobs, waiting) = mpsc::channel(proposals::WAITING_MAX);
        let mut tasks = JoinSet::new();
        let joining = Joining::default();
        let seating = Seating {
            raft: raft.clone(),
            peers,
            electorate: Arc::clone(&electorate),
            seat: Seat { host: host.clone(), store: identity.store },
            speaker: speaker.clone(),
            founds: !successor,
            timing,
        };
        tasks.spawn(candidacy(seating, silent_until, Arc::clone(&stands)));
        tasks.spawn(tell_voters(raft.clone(), Arc::clone(&acquaintance), joining.clone(), inputs.clone()));
        tasks.spawn(tell_leadership(raft.clone(), inputs.clone()));
        tasks.spawn(proposals::submit(raft.clone(), waiting, inputs.clone()));
        let inner = Inner {
            host,
            raft,
            store,
            identity,
            speaker,
            joining,
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
        inner.speaker.hears(from, &letter)?;
        let (present, owner) = {
            let metrics = inner.raft.server_metrics();
            let metrics = metrics.borrow();
            let seat = metrics.membership_config.membership().get_node(&number_of(letter.store)).cloned();
            (metrics.vote, seat.and_then(|voter| voter.host))
        };
        if owner.is_some_and(|owner| owner != *from) || letter.store == inner.identity.store {
            let why = "it speaks with another host's store".to_owned();
            return Err(LedgerError::Refused { from: from.clone(), why });
        }
        inner
            .electorate
            .may_call(letter.store, &letter.body, &present)
            .map_err(|why| LedgerError::Refused { from: from.clone(), why })?;
        inner.acquaintance.greet(from, letter.store, &letter.lives).await?;
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
            Call::Who => Answer::Who { formed: inner.raft.is_initialized().await.map_err(stopped)? },
            Call::Join => {
                inner.joining.note(Seat { host: from.clone(), store: letter.store });
                Answer::Noted
            }
        };
        encode(&inner.speaker.letter(body), REQUEST_BYTES_MAX).map_err(LedgerError::Answer)
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

    /// Changes Raft's membership. [`Input::VotersChanged`] follows within [`CHANGE_WITHIN`]; after a time-out the change may
    /// yet be committed, which the next [`Input::Voters`] shows.
    pub fn change_voters(&self, order: &ChangeVotersOrder) {
        let (call, act) = (order.call(), order.act().clone());
        let (raft, inputs) = (self.inner.raft.clone(), self.inner.inputs.clone());
        tokio::spawn(async move {
            let result = seating::change(&raft, act).await;
            let _ended = inputs.send(Input::VotersChanged { call, result }).await;
        });
    }

    /// A generation of voters was begun. If our store is of an earlier one it stops, for ever: true.
    pub async fn supersede(&self, generation: u64) -> bool {
        let ours = self.inner.identity.generation;
        if ours >= generation {
            return false;
        }
        tracing::error!(
            ours,
            generation,
            "an operator recovered the quorum without this voter: its ledger stops, and can never rejoin; move its \
             directory away and start rekindled again: it joins as a standby"
        );
        self.stand(false);
        let _joined = self.inner.raft.shutdown().await;
        true
    }

    /// The voters by Raft's own word, sorted by name.
    #[must_use]
    pub fn voters(&self) -> Vec<HostName> {
        let metrics = self.inner.raft.server_metrics();
        let membership = Arc::clone(&metrics.borrow().membership_config);
        let names = membership.voter_ids().filter_map(|id| membership.membership().get_node(&id)?.host.clone());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Stops and closes the file. Other handles answer with errors from then on.
    pub async fn shutdown(self) {
        // It never fails in this version of openraft.
        let _joined = self.inner.raft.shutdown().await;
        let store = Arc::clone(&self.inner.store);
        let _closed = tokio::task::spawn_blocking(move || store.close()).await;
    }

    /// Something we would say to another voter.
    #[cfg(test)]
    pub(super) fn letter_for_tests(&self) -> Vec<u8> {
        encode(&self.inner.speaker.letter(Call::Who), REQUEST_BYTES_MAX).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn seat(&self) -> Seat {
        Seat { host: self.inner.host.clone(), store: self.inner.identity.store }
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

pub(super) fn stopped(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Stopped(error.to_string())
}

/// Who may keep a ledger, if these can be the first voters.
fn electorate(
    cluster: &ClusterName,
    host: &HostName,
    voters: &[HostName],
    standbys: &[HostName],
) -> Result<Electorate, LedgerError> {
    let refuse = |rule: String| Err(LedgerError::Voters { voters: voters.to_vec(), rule });
    if !VOTERS_COUNTS.contains(&voters.len()) {
        return refuse(format!("there must be 1, 3, 5 or 7 voters, not {}", voters.len()));
    }
    let first: BTreeSet<HostName> = voters.iter().cloned().collect();
    if let Some(twice) = voters.iter().find(|voter| voters.iter().filter(|other| other == voter).count() > 1) {
        return refuse(format!("{twice} is named twice"));
    }
    let keepers: BTreeSet<HostName> = voters.iter().chain(standbys).cloned().collect();
    if !keepers.contains(host) {
        return refuse(format!("{host} is neither among them nor a standby, and nobody else keeps the ledger"));
    }
    Ok(Electorate { cluster: cluster.clone(), keepers, first })
}
