//! What voters say to each other, and what a voter is allowed to say. openraft trusts its peers; it sees nothing that was
//! not checked here first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use rekindle_proto::id::{ClusterName, HostName};
use serde::{Deserialize, Serialize};

use super::store::StoreId;
use super::types::{ENTRY_BYTES_MAX, LogEntry, LogId, SnapshotMeta, Types, Vote, Voter, number_of, unpack};

/// Highest term and log index believed. No cluster gets there by itself; a voter that was made to believe the highest number
/// there is could never count on.
const NUMBER_MAX: u64 = 1 << 62;

/// A call or an answer, with the store in whose name it is made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter<B> {
    pub(super) store: StoreId,
    pub(super) body: B,
}

/// A call. Variants are never reordered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot { vote: Vote, meta: SnapshotMeta, data: Vec<u8> },
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(SnapshotResponse<u64>),
}

/// The voters, and what must hold of what they say.
#[derive(Debug, Clone)]
pub(super) struct Electorate {
    pub(super) cluster: ClusterName,
    /// By number.
    pub(super) voters: BTreeMap<u64, HostName>,
}

impl Electorate {
    pub(super) fn has(&self, host: &HostName) -> bool {
        self.voters.get(&number_of(host)) == Some(host)
    }

    pub(super) fn names(&self) -> Vec<HostName> {
        let sorted: BTreeSet<HostName> = self.voters.values().cloned().collect();
        sorted.into_iter().collect()
    }

    pub(super) fn nodes(&self) -> BTreeMap<u64, Voter> {
        self.voters.iter().map(|(number, host)| (*number, Voter { host: Some(host.clone()) })).collect()
    }

    /// The vote by which a call claims to lead.
    pub(super) fn claim(call: &Call) -> Option<&Vote> {
        match call {
            Call::Append(request) => Some(&request.vote),
            Call::Snapshot { vote, .. } => Some(vote),
            Call::Vote(_) => None,
        }
    }

    /// Whether this voter may make this call; else which rule it breaks. `present` is our own vote now.
    pub(super) fn may_call(&self, from: &HostName, call: &Call, present: &Vote) -> Result<(), String> {
        match call {
            Call::Append(request) => {
                leads(from, &request.vote, present)?;
                self.may_append(request)
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
                self.is_ours(meta.last_membership.membership())?;
                unpack(data, &self.cluster).map(|_| ()).map_err(|error| format!("its snapshot is {error}"))
            }
        }
    }

    fn may_append(&self, request: &AppendEntriesRequest<Types>) -> Result<(), String> {
        let mut before: Option<LogId> = request.prev_log_id;
        for entry in &request.entries {
            let next = before.map_or(0, |id| id.index.saturating_add(1));
            rule(entry.log_id.index == next, "entries are not consecutive")?;
            rule(before.is_none_or(|id| id.leader_id <= entry.log_id.leader_id), "terms go backwards")?;
            rule(
                entry.log_id.leader_id.term <= request.vote.leader_id.term,
                "an entry is of a later term than its leader",
            )?;
            self.may_hold(entry)?;
            before = Some(entry.log_id);
        }
        Ok(())
    }

    fn may_hold(&self, entry: &LogEntry) -> Result<(), String> {
        match &entry.payload {
            EntryPayload::Blank => Ok(()),
            EntryPayload::Normal(proposal) => rule(proposal.bytes.len() <= ENTRY_BYTES_MAX, "an entry is too long"),
            EntryPayload::Membership(membership) => self.is_ours(membership),
        }
    }

    /// Voters do not change yet: another list than the configured one comes from a voter that is configured otherwise.
    fn is_ours(&self, membership: &openraft::Membership<u64, Voter>) -> Result<(), String> {
        let ours: BTreeSet<u64> = self.voters.keys().copied().collect();
        let nodes = self.nodes();
        let same = membership.get_joint_config().as_slice() == [ours]
            && membership.nodes().count() == nodes.len()
            && membership.nodes().all(|(number, voter)| nodes.get(number) == Some(voter));
        rule(same, "it names other voters than are configured here")
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

fn leads(from: &HostName, vote: &Vote, present: &Vote) -> Result<(), String> {
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

fn in_own_name(from: &HostName, vote: &Vote) -> Result<(), String> {
    rule(vote.leader_id.term <= NUMBER_MAX, "a term beyond all counting")?;
    rule(vote.leader_id.voted_for == Some(number_of(from)), "it speaks in another's name")
}

fn rule(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
