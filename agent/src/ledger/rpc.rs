//! What voters say to each other, and what a voter is allowed to say. openraft trusts its peers; it sees nothing that was
//! not checked here first.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use rekindle_coordinator::ledger::{STANDBYS_MAX, VOTERS_MAX};
use rekindle_proto::id::{ClusterName, HostName, StoreId};
use serde::{Deserialize, Serialize};

use super::lives::Lives;
use super::types::{ENTRY_BYTES_MAX, LogEntry, LogId, SnapshotMeta, Types, Vote, Voter, number_of, unpack};

/// Highest term and log index believed. No cluster gets there by itself; a voter that was made to believe the highest number
/// there is could never count on.
const NUMBER_MAX: u64 = 1 << 62;

/// A call or an answer, with the store in whose name it is made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter<B> {
    /// Of voters: another is not spoken with.
    pub(super) generation: u64,
    pub(super) store: StoreId,
    /// Where that store comes from.
    pub(super) lives: Lives,
    pub(super) body: B,
}

/// A call. Variants are never reordered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        data: Vec<u8>,
    },
    /// Do you belong to a cluster already? Asked by whoever is to form one.
    Who,
    /// I have a new store, and want to be sent everything.
    Join,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(SnapshotResponse<u64>),
    Who { formed: bool },
    Noted,
}

/// Who may speak, and what must hold of what they say.
#[derive(Debug, Clone)]
pub(super) struct Electorate {
    pub(super) cluster: ClusterName,
    /// Hosts that may keep a ledger, by configuration. Which of them votes, with which store, Raft's membership says.
    pub(super) keepers: BTreeSet<HostName>,
    /// The first voters.
    pub(super) first: BTreeSet<HostName>,
}

impl Electorate {
    pub(super) fn has(&self, host: &HostName) -> bool {
        self.keepers.contains(host)
    }

    /// The vote by which a call claims to lead.
    pub(super) fn claim(call: &Call) -> Option<&Vote> {
        match call {
            Call::Append(request) => Some(&request.vote),
            Call::Snapshot { vote, .. } => Some(vote),
            Call::Vote(_) | Call::Who | Call::Join => None,
        }
    }

    /// Whether this store may make this call; else which rule it breaks. `present` is our own vote now.
    pub(super) fn may_call(&self, from: StoreId, call: &Call, present: &Vote) -> Result<(), String> {
        match call {
            Call::Append(request) => {
                leads(from, &request.vote, present)?;
                may_append(request)
            }
            Call::Vote(request) => {
                in_own_name(from, &request.vote)?;
                rule(!request.vote.committed, "a candidate has no quorum yet")
            }
            Call::Snapshot { vote, meta, data } => {
                leads(from, vote, present)?;
                let last = meta.last_log_id.ok_or("an empty snapshot")?;
                rule(
                    last.index <= NUMBER_MAX && last.leader_id.term <= vote.leader_id.term,
                    "a snapshot from the future",
                )?;
                may_be(meta.last_membership.membership())?;
                unpack(data, &self.cluster).map(|_| ()).map_err(|error| format!("its snapshot is {error}"))
            }
            Call::Who | Call::Join => Ok(()),
        }
    }

    /// Whether openraft may see this answer to our append: what it would take for a bug of its own, it answers by a panic.
    pub(super) fn may_answer_append(
        ours: &Vote,
        previous: Option<LogId>,
        answer: &AppendEntriesResponse<u64>,
    ) -> Result<(), String> {
        match answer {
            AppendEntriesResponse::Success => Ok(()),
            AppendEntriesResponse::PartialSuccess(_) => rule(false, "a partial success is never given"),
            AppendEntriesResponse::Conflict => rule(previous.is_some(), "a conflict before the first entry"),
            AppendEntriesResponse::HigherVote(vote) => may_outvote(ours, vote),
        }
    }

    /// The same for a vote.
    pub(super) fn may_answer_vote(answer: &VoteResponse<u64>) -> Result<(), String> {
        rule(answer.vote.leader_id.term <= NUMBER_MAX, "a term beyond all counting")
    }

    /// The same for a snapshot, which is answered with the voter's present vote.
    pub(super) fn may_answer_snapshot(ours: &Vote, vote: &Vote) -> Result<(), String> {
        if vote.leader_id == ours.leader_id { Ok(()) } else { may_outvote(ours, vote) }
    }
}

fn may_append(request: &AppendEntriesRequest<Types>) -> Result<(), String> {
    let mut before: Option<LogId> = request.prev_log_id;
    for entry in &request.entries {
        let next = before.map_or(0, |id| id.index.saturating_add(1));
        rule(entry.log_id.index == next, "entries are not consecutive")?;
        rule(before.is_none_or(|id| id.leader_id <= entry.log_id.leader_id), "terms go backwards")?;
        rule(
            entry.log_id.leader_id.term <= request.vote.leader_id.term,
            "an entry is of a later term than its leader",
        )?;
        may_hold(entry)?;
        before = Some(entry.log_id);
    }
    Ok(())
}

fn may_hold(entry: &LogEntry) -> Result<(), String> {
    match &entry.payload {
        EntryPayload::Blank => Ok(()),
        EntryPayload::Normal(proposal) => rule(proposal.bytes.len() <= ENTRY_BYTES_MAX, "an entry is too long"),
        EntryPayload::Membership(membership) => may_be(membership),
    }
}

/// Whether voters can be these: one set, or two while they change; each with a host and a store whose number it bears.
fn may_be(membership: &openraft::Membership<u64, Voter>) -> Result<(), String> {
    let configs = membership.get_joint_config();
    rule((1..=2).contains(&configs.len()), "voters in no or in more than two sets")?;
    for config in configs {
        rule((1..=VOTERS_MAX).contains(&config.len()), "no voters, or too many")?;
        rule(config.iter().all(|number| membership.get_node(number).is_some()), "a voter without a name")?;
    }
    rule(membership.nodes().count() <= 2 * VOTERS_MAX + STANDBYS_MAX, "too many standbys")?;
    let named = |number: &u64, voter: &Voter| voter.seat().is_some_and(|seat| number_of(seat.store) == *number);
    rule(
        membership.nodes().all(|(number, voter)| named(number, voter)),
        "a voter without a store, or with another's number",
    )
}

/// The latest leader we let speak. Two of one term would each have a quorum, which honest voters cannot give; openraft
/// panics when it meets the second, and its metrics may not yet show the first when the second calls.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Vote>);

impl Latest {
    /// Begins with what is on disk.
    pub(super) fn new(vote: Option<Vote>) -> Self {
        Self(Mutex::new(vote.filter(|vote| vote.committed).unwrap_or_default()))
    }

    /// Lets a leader speak, unless its term already has another.
    pub(super) fn admit(&self, vote: &Vote) -> Result<(), String> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        not_rivals(&latest, vote)?;
        if vote.leader_id.term > latest.leader_id.term {
            *latest = *vote;
        }
        Ok(())
    }
}

/// Two leaders of one term cannot both have a quorum, and openraft panics when it compares them. And were we told that we
/// lead a later term than we know of, openraft would believe it: but then our own file is an old copy.
fn may_outvote(ours: &Vote, vote: &Vote) -> Result<(), String> {
    let us = vote.committed && vote.leader_id.voted_for == ours.leader_id.voted_for;
    rule(!us, "it knows us as leader of a later term: is our ledger file an old copy?")?;
    rule(vote.leader_id.term <= NUMBER_MAX, "a term beyond all counting")?;
    rule(vote.leader_id.term > ours.leader_id.term, "it refuses for a vote that is not higher")
}

fn leads(from: StoreId, vote: &Vote, present: &Vote) -> Result<(), String> {
    in_own_name(from, vote)?;
    rule(vote.committed, "a leader has a quorum")?;
    not_rivals(present, vote)
}

fn not_rivals(present: &Vote, vote: &Vote) -> Result<(), String> {
    let rivals = present.committed
        && present.leader_id.term == vote.leader_id.term
        && present.leader_id.voted_for != vote.leader_id.voted_for;
    rule(!rivals, "that term has another leader: two voters contradict each other")
}

fn in_own_name(from: StoreId, vote: &Vote) -> Result<(), String> {
    rule(vote.leader_id.term <= NUMBER_MAX, "a term beyond all counting")?;
    rule(vote.leader_id.voted_for == Some(number_of(from)), "it speaks in another's name")
}

fn rule(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
