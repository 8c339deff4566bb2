//! How a store gets its seat, and what Raft says of all seats.
//!
//! A cluster is formed once, by the first (by name) of its configured voters, when each of the others has said that it
//! belongs to no cluster yet: all of them must be there. Whoever finds that a cluster exists, and has no seat in it, asks to
//! be let in. Whether it is, the coordinator of the leader decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::error::{ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, ServerState};
use rekindle_coordinator::io::Input;
use rekindle_coordinator::ledger::{STANDBYS_MAX, Seat, VOTERS_MAX};
use rekindle_coordinator::voters::{CHANGE_WITHIN, SeatView, VoterAct, VotersView};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, StoreId};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Peers;
use super::network::{Acquaintance, Speaker};
use super::rpc::{Answer, Call, Electorate, Letter};
use super::types::{Raft, Timing, Voter, number_of};

/// Between two looks at Raft's members.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A wish to join that was not repeated for this long is none.
const WISH_LASTS: Duration = Duration::from_secs(15);

/// Wishes kept: one a host that may keep a ledger.
const WISHES_MAX: usize = VOTERS_MAX + STANDBYS_MAX;

/// Who asked to be let in, and when last.
#[derive(Debug, Clone, Default)]
pub(super) struct Joining(Arc<Mutex<BTreeMap<HostName, (StoreId, Instant)>>>);

impl Joining {
    pub(super) fn note(&self, seat: Seat) {
        let mut wishes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.retain(|_, (_, at)| at.elapsed() < WISH_LASTS);
        if wishes.len() < WISHES_MAX || wishes.contains_key(&seat.host) {
            wishes.insert(seat.host, (seat.store, Instant::now()));
        }
    }

    fn now(&self) -> Vec<Seat> {
        let wishes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = wishes.iter().filter(|(_, (_, at))| at.elapsed() < WISH_LASTS);
        fresh.map(|(host, (store, _))| Seat { host: host.clone(), store: *store }).collect()
    }
}

/// What a store needs to get its seat.
pub(super) struct Seating<P> {
    pub(super) raft: Raft,
    pub(super) peers: Arc<P>,
    pub(super) electorate: Arc<Electorate>,
    pub(super) seat: Seat,
    pub(super) speaker: Speaker,
    /// Whether we may form a cluster: nothing was here before us.
    pub(super) founds: bool,
    pub(super) timing: Timing,
}

impl<P: Peers> Seating<P> {
    /// Forms the cluster, or asks to be let in, until we are; and again if we are put out.
    pub(super) async fn be_seated(self) {
        let mut told = false;
        loop {
            let membership = Arc::clone(&self.raft.server_metrics().borrow().membership_config);
            let seated = membership.membership().get_node(&number_of(self.seat.store)).is_some();
            if !seated {
                let Ok(formed) = self.raft.is_initialized().await else { return };
                if formed || !self.form().await {
                    self.ask_to_join().await;
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(store = %self.seat.store, "this ledger store has no seat yet: it asks to be let in");
                    }
                }
            }
            tokio::time::sleep(self.timing.election_max / 2).await;
        }
    }

    /// Whether the cluster is formed by us, now.
    async fn form(&self) -> bool {
        if !self.founds || self.speaker.generation > 0 || self.electorate.first.first() != Some(&self.seat.host) {
            return false;
        }
        let mut nodes = BTreeMap::from([(number_of(self.seat.store), Voter::of(&self.seat))]);
        for host in self.electorate.first.iter().filter(|host| **host != self.seat.host) {
            let Some(letter) = self.ask(host, Call::Who).await else { return false };
            if !matches!(letter.body, Answer::Who { formed: false }) {
                return false;
            }
            nodes.insert(number_of(letter.store), Voter::of(&Seat { host: host.clone(), store: letter.store }));
        }
        match self.raft.initialize(nodes).await {
            Ok(()) => true,
            Err(RaftError::APIError(InitializeError::NotAllowed(_)) | RaftError::Fatal(_)) => false,
            Err(error @ RaftError::APIError(InitializeError::NotInMembers(_))) => {
                tracing::error!(%error, "the voters could not be named to Raft");
                false
            }
        }
    }

    async fn ask_to_join(&self) {
        for host in self.electorate.keepers.iter().filter(|host| **host != self.seat.host) {
            // Only the leader acts on it; who cannot be reached is asked again.
            let _noted = self.ask(host, Call::Join).await;
        }
    }

    async fn ask(&self, host: &HostName, call: Call) -> Option<Letter<Answer>> {
        let within = self.timing.check_within;
        let bytes = encode(&self.speaker.letter(call), REQUEST_BYTES_MAX).ok()?;
        let answer = tokio::time::timeout(within, self.peers.call(host, bytes, within)).await.ok()?;
        let answer = answer.inspect_err(|error| tracing::debug!(%host, %error, "no answer")).ok()?;
        let letter: Letter<Answer> = decode(&answer, REQUEST_BYTES_MAX).ok()?;
        self.speaker.hears(host, &letter).ok()?;
        Some(letter)
    }
}

/// Tells the coordinator what Raft says of its members, while we lead.
pub(super) async fn tell_voters(
    raft: Raft,
    acquaintance: Arc<Acquaintance>,
    joining: Joining,
    inputs: mpsc::Sender<Input>,
) {
    let metrics = raft.metrics();
    let us = metrics.borrow().id;
    drop(raft);
    let mut leads: Option<(u64, Instant)> = None;
    loop {
        let view = {
            let now = metrics.borrow();
            if now.state == ServerState::Leader {
                let term = now.vote.leader_id.term;
                let since = match leads {
                    Some((led, since)) if led == term => since,
                    Some(_) | None => Instant::now(),
                };
                leads = Some((term, since));
                Some(view(&now, us, since, &acquaintance, &joining))
            } else {
                leads = None;
                None
            }
        };
        if let Some(view) = view
            && inputs.send(Input::Voters { view }).await.is_err()
        {
            return;
        }
        if metrics.has_changed().is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn view(
    metrics: &openraft::RaftMetrics<u64, Voter>,
    us: u64,
    since: Instant,
    acquaintance: &Acquaintance,
    joining: &Joining,
) -> VotersView {
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index.unwrap_or(0);
    let seen = |number: u64, voter: &Voter| {
        let seat = voter.seat()?;
        let matched = metrics.replication.as_ref().and_then(|all| all.get(&number).copied().flatten());
        let answered = acquaintance.answered(seat.store).map_or(since, |at| since.max(at.into()));
        let (lag, silent) = if number == us {
            (Some(0), Duration::ZERO)
        } else {
            (matched.map(|matched| last.saturating_sub(matched.index)), answered.elapsed())
        };
        Some(SeatView { seat, lag, silent })
    };
    let votes: BTreeSet<u64> = membership.voter_ids().collect();
    let (mut voters, mut standbys) = (Vec::new(), Vec::new());
    for (number, voter) in membership.nodes() {
        let side = if votes.contains(number) { &mut voters } else { &mut standbys };
        side.extend(seen(*number, voter));
    }
    let configs = membership.get_joint_config();
    let joint = configs.last().filter(|_| configs.len() > 1).map(|target| {
        let store = |number: &u64| membership.get_node(number).and_then(|voter| voter.store);
        target.iter().filter_map(store).collect()
    });
    VotersView { voters, standbys, joining: joining.now(), joint }
}

/// Makes one change, in bounded time.
pub(super) async fn change(raft: &Raft, act: VoterAct) -> Result<(), Text> {
    let work = async {
        match act {
            VoterAct::AddStandby(seat) => {
                let nodes = BTreeMap::from([(number_of(seat.store), Voter::of(&seat))]);
                raft.change_membership(ChangeMembers::AddNodes(nodes), true).await
            }
            VoterAct::RemoveStandby(seat) => {
                raft.change_membership(ChangeMembers::RemoveNodes([number_of(seat.store)].into()), true).await
            }
            VoterAct::SetVoters(stores) => {
                let numbers: BTreeSet<u64> = stores.into_iter().map(number_of).collect();
                raft.change_membership(ChangeMembers::ReplaceAllVoters(numbers), false).await
            }
        }
    };
    match tokio::time::timeout(CHANGE_WITHIN, work).await {
        Err(_late) => Err(Text::new(format!("no answer within {} s", CHANGE_WITHIN.as_secs()))),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err("we do not lead any more".into()),
        Ok(Err(error)) => Err(Text::new(error.to_string())),
    }
}
