//! A log that only a majority of voters can extend, with leaders that come and go: Raft as the coordinator meets it
//! through its port. An isolated leader goes on believing in itself, and can neither commit nor be confirmed.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::ledger::{Entry, Ledger, Outcome, Position};
use rekindle_proto::id::{HostName, LogIndex, Term};

/// The replicated log.
#[derive(Debug)]
pub struct Raft {
    voters: BTreeSet<HostName>,
    term: Term,
    leader: Option<HostName>,
    log: Vec<(Position, Entry)>,
    ledger: Ledger,
    applied: BTreeMap<HostName, usize>,
}

impl Raft {
    /// A log that begins with a given ledger.
    #[must_use]
    pub fn new(voters: BTreeSet<HostName>, ledger: Ledger) -> Self {
        Self { voters, term: Term(0), leader: None, log: Vec::new(), ledger, applied: BTreeMap::new() }
    }

    /// The agreed state.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
    /// The agreed state, to be arranged before anything has happened.
    pub(crate) fn first_ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
    /// The present leader, by the majority's mind.
    #[must_use]
    pub fn leader(&self) -> Option<&HostName> {
        self.leader.as_ref()
    }
    /// The present term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }
    /// Who votes.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<HostName> {
        &self.voters
    }

    /// Whether this voter reaches a majority, itself included.
    pub fn has_majority(&self, host: &HostName, connected: impl Fn(&HostName, &HostName) -> bool) -> bool {
        let reached = self.voters.iter().filter(|other| *other == host || connected(host, other)).count();
        self.voters.contains(host) && 2 * reached > self.voters.len()
    }

    /// A new leader with a new term; `None`: nobody reaches a majority.
    pub fn elect(&mut self, leader: Option<HostName>) {
        if leader.is_some() {
            self.term = Term(self.term.0 + 1);
        }
        self.leader = leader;
    }

    /// Commits an entry of the present leader.
    pub fn commit(&mut self, entry: Entry) -> Outcome {
        let index = LogIndex(u64::try_from(self.log.len()).unwrap_or(0) + 1);
        let position = Position { index, term: self.term };
        let outcome = self.ledger.apply(position, &entry);
        self.log.push((position, entry));
        outcome
    }

    /// Entries a voter has not seen yet; it is then up to date.
    pub fn catch_up(&mut self, voter: &HostName) -> Vec<(Position, Entry)> {
        let seen = self.applied.entry(voter.clone()).or_default();
        let news = self.log[*seen..].to_vec();
        *seen = self.log.len();
        news
    }

    /// A voter's process started anew: it gets the whole log again, after the first ledger.
    pub fn forget(&mut self, voter: &HostName) {
        self.applied.remove(voter);
    }
}
