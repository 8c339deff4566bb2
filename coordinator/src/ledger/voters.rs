//! What is agreed about the voters: the mirror of Raft's own membership, the change under way, the stores that may never
//! come back, and the generation.
//!
//! Raft's membership is the truth of the log. The mirror is what apply judges by (may this placement be armed, is it time
//! for another replacement), and what survives a loss of the quorum.

use std::collections::{BTreeMap, VecDeque};

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::{HostName, OperatorName, StoreId, WallTime};
use rekindle_proto::voters::VoterStory;
use serde::{Deserialize, Serialize};

use rekindle_proto::fact::{RosterEntry, Text};

use super::clock::LedgerTime;

/// Most voters: a commit waits for four of seven, and no site needs to survive four failures at once.
pub const VOTERS_MAX: usize = 7;

/// Most standbys. Each is sent every entry; two suffice, a few more let operators prepare a move.
pub const STANDBYS_MAX: usize = 9;

/// Stores remembered as gone. At one replacement per 10 minutes the oldest is two days old; it could not catch up either.
pub const RETIRED_MAX: usize = 256;

/// Changes of voters remembered.
pub(super) const VOTER_STORY_MAX: usize = 100;

/// Least time between two automatic replacements, in milliseconds.
pub const REPLACE_EVERY_MS: u64 = 10 * 60 * 1_000;

/// A host's store as voter or standby.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// The host.
    pub host: HostName,
    /// Its store.
    pub store: StoreId,
}

/// A committed change of voters that is not done yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterChange {
    /// The voter to go; `None`: the voters become more.
    pub out: Option<Seat>,
    /// The standbys to come.
    pub into: Vec<Seat>,
    /// Why.
    pub why: Text,
    /// By whose order; `None`: by itself.
    pub by: Option<OperatorName>,
}

/// What the leader may write about voters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VotersCommand {
    /// Raft's membership, as committed.
    Mirror {
        /// Voters.
        voters: Vec<Seat>,
        /// Standbys (Raft's learners).
        standbys: Vec<Seat>,
    },
    /// We are about to change the voters.
    Begin {
        /// The voter to go.
        out: Option<Seat>,
        /// The standbys to come.
        into: Vec<Seat>,
        /// Why.
        why: Text,
    },
    /// The change under way cannot be done.
    GiveUp {
        /// Why.
        why: Text,
    },
}

/// Everything agreed about voters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VoterBook {
    /// How many times an operator recovered the quorum. Stores of an earlier generation are refused for ever.
    pub generation: u64,
    /// How many voters there should be: the most there ever were.
    pub wanted: u32,
    /// The voters; empty until the first leader has written them down.
    pub voters: BTreeMap<HostName, StoreId>,
    /// The standbys.
    pub standbys: BTreeMap<HostName, StoreId>,
    /// The change under way, if any.
    pub changing: Option<VoterChange>,
    /// When a voter was last replaced automatically, in the ledger's own time: no clock that jumps makes it long ago.
    pub replaced_at: Option<LedgerTime>,
    /// Stores that voted once and never may again, oldest first.
    pub retired: VecDeque<StoreId>,
    /// What was changed, oldest first.
    pub story: VecDeque<VoterStory>,
    /// The order that began the present generation: it proves it to every member.
    pub recovery: Option<SignedOrder>,
}

impl VoterBook {
    pub(super) fn tell(&mut self, at: WallTime, text: impl Into<Text>) {
        self.story.push_back(VoterStory { at, text: text.into() });
        while self.story.len() > VOTER_STORY_MAX {
            self.story.pop_front();
        }
    }

    pub(super) fn retire(&mut self, store: StoreId) {
        if !self.retired.contains(&store) {
            self.retired.push_back(store);
        }
        while self.retired.len() > RETIRED_MAX {
            self.retired.pop_front();
        }
    }

    /// Until when no other voter is replaced automatically.
    #[must_use]
    pub fn rests_until(&self) -> Option<LedgerTime> {
        self.replaced_at.map(|last| last.after_ms(REPLACE_EVERY_MS))
    }

    /// Who would vote after a change.
    #[must_use]
    pub fn after(&self, out: Option<&HostName>, into: &[Seat]) -> Vec<HostName> {
        let stay = self.voters.keys().filter(|host| Some(*host) != out).cloned();
        stay.chain(into.iter().map(|seat| seat.host.clone())).collect()
    }
}

/// Whether these hosts may vote together: 1, 3, 5 or 7 of them, each once, and no labelled domain with more than a
/// minority. Unlabelled hosts are each their own domain. A single voter is a trial and has no minority to speak of.
///
/// # Errors
/// Which rule is broken, with its figures.
pub fn placement(roster: &BTreeMap<HostName, RosterEntry>, voters: &[HostName]) -> Result<(), Text> {
    let count = voters.len();
    if count > VOTERS_MAX || count.is_multiple_of(2) {
        return Err(Text::new(format!("{count} voters; there must be 1, 3, 5 or 7")));
    }
    let mut domains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut seen: Vec<&HostName> = Vec::new();
    for host in voters {
        if seen.contains(&host) {
            return Err(Text::new(format!("{host} would vote twice")));
        }
        seen.push(host);
        if let Some(domain) = roster.get(host).and_then(|entry| entry.domain.as_ref()) {
            domains.entry(domain.as_str()).or_default().push(host.as_str());
        }
    }
    let most = (count - 1) / 2;
    match domains.into_iter().find(|(_, hosts)| count > 1 && hosts.len() > most) {
        None => Ok(()),
        Some((domain, hosts)) => Err(Text::new(format!(
            "{} of {count} voters are in domain {domain} ({}): more than {most} must not be in one, or its loss is the \
             loss of the ledger",
            hosts.len(),
            hosts.join(", ")
        ))),
    }
}

/// Whether these hosts may vote in the place of those: as [`placement`] has it; or, where the voters stand badly already, if
/// as many vote and no domain that has too many of them gets more. A dead voter in a bad place is worse than a living one
/// in a place as bad: else a voter that lost its disk in a cluster of two racks could never vote again.
///
/// # Errors
/// Which rule is broken, with its figures.
pub fn exchange(roster: &BTreeMap<HostName, RosterEntry>, before: &[HostName], after: &[HostName]) -> Result<(), Text> {
    let Err(why) = placement(roster, after) else { return Ok(()) };
    let is_twice = after.iter().any(|host| after.iter().filter(|other| *other == host).count() > 1);
    let domain = |host: &HostName| roster.get(host).and_then(|entry| entry.domain.as_ref());
    let of = |voters: &[HostName], named| voters.iter().filter(|host| domain(host) == Some(named)).count();
    let most = after.len().saturating_sub(1) / 2;
    let is_worse = |named| of(after, named) > most.max(of(before, named));
    if before.len() != after.len() || is_twice || after.iter().filter_map(domain).any(is_worse) {
        return Err(why);
    }
    Ok(())
}
