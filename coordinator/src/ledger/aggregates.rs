//! Aggregates of Nova that a taken reserved host joins because the dead host is in them: the filters of Nova's scheduler
//! (tenant isolation, extra specs, availability zone) would refuse it else.
//!
//! Each is written down before Nova is asked. So whoever leads next knows which memberships are ours: those, and no others,
//! end when the host is given back.

use rekindle_proto::fact::Text;
use rekindle_proto::id::AggregateId;
use serde::{Deserialize, Serialize};

/// Aggregates that a reserved host joins for one incident: a zone, a rack, a storage, and a tenant or a flavor for each of the
/// servers of a host. A cloud that isolates more tenants on one host than this gains nothing by isolating them.
pub const JOINS_MAX: usize = 32;

/// What a taken host joined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Joins {
    /// In the order in which they were written down; at most [`JOINS_MAX`], and as many of each incident that has left the
    /// host to this one.
    pub memberships: Vec<Membership>,
    /// It joins no more; the recovery goes on without, and this is why.
    pub given_up: Option<Text>,
}

/// One aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Which.
    pub id: AggregateId,
    /// Its name then, for people.
    pub name: Text,
    /// How far.
    pub state: JoinState,
}

/// Where a membership stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinState {
    /// Nova is to be asked, or was: the host may be in it, and then by us.
    Intended,
    /// It is in it, by us.
    Joined,
    /// Somebody else had added it by the time we asked.
    NotOurs,
    /// Nova refused.
    Refused(Text),
    /// It was in it by us, and was taken out.
    Left,
    /// It was, and Nova did not take it out.
    Stays(Text),
}

/// What the leader writes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinStep {
    /// One is to be joined. Only then Nova is asked.
    Intend {
        /// Which.
        aggregate: AggregateId,
        /// Its name.
        name: Text,
    },
    /// What came of it.
    End {
        /// Of which.
        aggregate: AggregateId,
        /// Any but [`JoinState::Intended`].
        state: JoinState,
    },
    /// It joins no more.
    GiveUp {
        /// Why.
        why: Text,
    },
}

impl JoinState {
    /// Whether the membership is ours, or may be.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Intended | Self::Joined => true,
            Self::NotOurs | Self::Refused(_) | Self::Left | Self::Stays(_) => false,
        }
    }

    /// Whether that may be written after this.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Intended, Self::Joined | Self::NotOurs | Self::Refused(_) | Self::Left | Self::Stays(_))
            | (Self::Joined, Self::Left | Self::Stays(_))
            // An incident that was resumed sends servers there after all.
            | (Self::Left, Self::Intended) => true,
            (Self::Intended | Self::Left, _)
            | (Self::Joined | Self::NotOurs | Self::Refused(_) | Self::Stays(_), _) => false,
        }
    }
}

impl Joins {
    /// Where one stands; `None`: it was never written down.
    #[must_use]
    pub fn state_of(&self, id: AggregateId) -> Option<&JoinState> {
        self.memberships.iter().find(|membership| membership.id == id).map(|membership| &membership.state)
    }

    /// Those that are ours, or may be.
    pub fn ours(&self) -> impl DoubleEndedIterator<Item = &Membership> {
        self.memberships.iter().filter(|membership| membership.state.is_ours())
    }

    /// What another incident had joined is this one's to leave.
    pub(super) fn inherit(&mut self, other: &Self) {
        for ours in other.ours() {
            match self.memberships.iter_mut().find(|membership| membership.id == ours.id) {
                Some(known) if known.state == JoinState::Joined => {}
                Some(known) => known.state = ours.state.clone(),
                None => self.memberships.push(ours.clone()),
            }
        }
    }
}
