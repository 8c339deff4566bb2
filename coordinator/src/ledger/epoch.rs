//! The epoch: one life of the cluster between two losses of (most of) its power. Committed, so that a change of leader or
//! a restarted daemon neither begins it anew nor forgets it.
//!
//! Its age is never read from a wall clock. A leader measures on its own monotonic clock since it first saw the epoch
//! applied, on top of the last committed mark, and commits a mark now and then ([`super::LeaderCommand::MarkEpoch`]).
//! What holds is judged by the marks alone, the same on every voter. A new leader counts from the last mark at its own
//! election: an epoch can only seem younger than it is, never older.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, WallTime};
use serde::{Deserialize, Serialize};

/// A voter that booted less than this ago may have lost its power with all the others.
pub const YOUNG_BOOT: Duration = Duration::from_secs(300);

/// How long after its begin nobody is a target, unless most of the roster was seen: a rack in POST is not dead.
pub const COLD_FOR: Duration = Duration::from_secs(300);

/// How long a host that was not yet seen alive in this epoch is no target: the slowest servers take that long to boot.
pub const UNSEEN_FOR: Duration = Duration::from_secs(600);

/// Part of the roster, in percent, that must have been seen alive before an epoch is warm ahead of [`COLD_FOR`].
pub const SEEN_PERCENT: usize = 80;

/// The present epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1; 0: none has begun, the cluster has never had a leader with a roster.
    pub number: u64,
    /// When it was begun, on the then leader's wall clock. For the story only.
    pub began: WallTime,
    /// Why, for people.
    pub why: Text,
    /// That much of it has certainly passed, in milliseconds: the last committed mark.
    pub elapsed_ms: u64,
    /// Roster members heard alive in it by a leader.
    pub seen: BTreeSet<HostName>,
    /// The boots of voters that belong to it: the same boots begin no second epoch.
    pub boots: BTreeMap<HostName, BootId>,
}

/// A voter's word about its boot, as the leader heard it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterBoot {
    /// Which voter.
    pub host: HostName,
    /// In which boot.
    pub boot: BootId,
    /// How long ago its machine booted, in milliseconds, by its own monotonic clock.
    pub age_ms: u64,
}

/// Whether the voters' boots say that power was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Most of the quorum booted lately, in boots that belong to no epoch yet.
    Yes,
    /// Whoever else answers, it was not.
    No,
    /// Not enough voters have answered.
    Unknown,
}

impl Epoch {
    /// How much of it has certainly passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms)
    }

    /// Whether this boot of this voter speaks for a loss of power after which no epoch has begun.
    #[must_use]
    pub fn is_fresh(&self, voter: &VoterBoot) -> bool {
        Duration::from_millis(voter.age_ms) < YOUNG_BOOT && self.boots.get(&voter.host) != Some(&voter.boot)
    }

    /// Counts the voters' words. `waited`: those who have not answered were given their time.
    #[must_use]
    pub fn power_loss(&self, voters: usize, answered: &[VoterBoot], waited: bool) -> PowerLoss {
        let fresh = answered.iter().filter(|voter| self.is_fresh(voter)).count();
        let silent = voters.saturating_sub(answered.len());
        if 2 * fresh > voters {
            PowerLoss::Yes
        } else if 2 * (fresh + silent) <= voters {
            PowerLoss::No
        } else if waited && 2 * answered.len() > voters {
            if 2 * fresh > answered.len() { PowerLoss::Yes } else { PowerLoss::No }
        } else {
            PowerLoss::Unknown
        }
    }

    /// How many of a roster of that size must have been seen to end the cold start early.
    #[must_use]
    pub fn seen_needed(roster: usize) -> usize {
        (roster * SEEN_PERCENT).div_ceil(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn boot(number: u128) -> BootId {
        BootId(Uuid::from_u128(number))
    }

    /// `a:10` booted 10 s ago. Boots of a and b in number 1 belong to the present epoch.
    fn voters(text: &str, boot_number: u128) -> Vec<VoterBoot> {
        let voter = |word: &str| {
            let (host, age_s) = word.split_once(':').expect("host:age");
            let age_s: u64 = age_s.parse().expect("seconds");
            VoterBoot { host: HostName::new(host).expect("legal"), boot: boot(boot_number), age_ms: age_s * 1_000 }
        };
        text.split_whitespace().map(voter).collect()
    }

    #[test]
    fn the_power_loss_table() {
        use PowerLoss::{No, Unknown, Yes};
        let boots = ["a", "b"].map(|host| (HostName::new(host).expect("legal"), boot(1)));
        let epoch = Epoch { number: 1, boots: BTreeMap::from(boots), ..Epoch::default() };
        // Of how many voters; who answered, booted how long ago; whether the others were waited for; the same boots as the
        // epoch's, or later ones.
        let rows = [
            (3, "", true, 2, Unknown),
            (3, "a:10", true, 2, Unknown),
            (3, "a:10 b:20", false, 2, Yes),
            (3, "a:10 b:299", false, 2, Yes),
            (3, "a:10 b:300", false, 2, Unknown),
            (3, "a:10 b:300", true, 2, No),
            (3, "a:9000 b:9000", false, 2, No),
            (3, "a:9000 b:9000 c:10", true, 2, No),
            (3, "a:10 b:10", false, 1, No),
            (3, "a:10 b:10 c:10", true, 1, No),
            (5, "a:10 b:10 c:10", false, 2, Yes),
            (5, "a:10 b:10 c:9000", false, 2, Unknown),
            (5, "a:10 b:10 c:9000", true, 2, Yes),
            (5, "a:10 b:9000 c:9000", false, 2, Unknown),
            (5, "a:10 b:9000 c:9000", true, 2, No),
            (5, "b:9000 c:9000 d:9000", false, 2, No),
            (1, "a:10", false, 2, Yes),
        ];
        for (count, answered, waited, number, expected) in rows {
            let said = epoch.power_loss(count, &voters(answered, number), waited);
            assert_eq!(said, expected, "{count} voters, {answered:?}, waited {waited}, boot {number}");
        }
    }
}
