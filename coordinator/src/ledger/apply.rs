//! stub
use rekindle_proto::fact::Text;
use rekindle_proto::id::{IncidentId, LogIndex, Term};
use serde::{Deserialize, Serialize};

use super::{Entry, Ledger};

/// Where an entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its index.
    pub index: LogIndex,
    /// The term in which it was committed.
    pub term: Term,
}

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It changed the ledger.
    Applied {
        /// The incident it opened, if it opened one.
        incident: Option<IncidentId>,
        /// What it did, in words.
        text: Text,
    },
    /// The rules forbid it; nothing was changed.
    Refused {
        /// Which rule, with its figures.
        why: Text,
    },
}

impl Outcome {
    pub(super) fn refused(why: impl Into<Text>) -> Self {
        Self::Refused { why: why.into() }
    }
    pub(super) fn done(text: impl Into<Text>) -> Self {
        Self::Applied { incident: None, text: text.into() }
    }
}

impl Ledger {
    /// Applies one committed entry. Deterministic: the same entries give the same state on every voter.
    pub fn apply(&mut self, position: Position, _entry: &Entry) -> Outcome {
        self.applied = position.index;
        Outcome::done("")
    }
}
