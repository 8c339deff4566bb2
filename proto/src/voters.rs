//! The document behind `rekindle voters`. Field names are an interface: they are added to, never renamed.

use serde::{Deserialize, Serialize};

use crate::fact::Text;
use crate::id::{DomainName, HostName, StoreId, WallTime};

/// Who keeps the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VotersDoc {
    /// Who made this document.
    pub told_by: HostName,
    /// How many times the quorum was recovered by an operator ([`VotersDoc::voters`] of an earlier generation are refused).
    pub generation: u64,
    /// How many voters there should be.
    pub wanted: u32,
    /// Voters and standbys, voters first, sorted by name.
    pub voters: Vec<VoterLine>,
    /// What is being changed, or why nothing is changed though something should be.
    pub change: Option<Text>,
    /// Why this placement must not be armed, if it must not.
    pub placement: Option<Text>,
    /// What was changed before, oldest first.
    pub story: Vec<VoterStory>,
}

/// One voter or standby.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterLine {
    /// The host.
    pub host: HostName,
    /// Its store.
    pub store: StoreId,
    /// `voter` or `standby`.
    pub role: Text,
    /// Its failure domain.
    pub domain: Option<DomainName>,
    /// Entries it lacks, as far as the leader knows.
    pub lag: Option<u64>,
    /// Milliseconds since it last answered the leader; 0 for the leader itself.
    pub silent_ms: Option<u64>,
    /// Of a voter: why it would not be replaced now, or that it would be. Of a standby: why it could not replace one.
    pub text: Text,
}

/// One change of voters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterStory {
    /// When, on the then leader's wall clock.
    pub at: WallTime,
    /// What, by whom and why.
    pub text: Text,
}
