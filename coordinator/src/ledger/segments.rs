//! Segments: groups of hosts with a recovery method, by operators' orders. A host is in at most one; a host in none is
//! recovered as with [`RecoveryMethod::Auto`].
//!
//! Masakari's rule is kept: a segment one of whose hosts has an open incident is not changed, nor are its hosts
//! ([`Ledger::segment_in_use`]). A recovery under way goes by the rules by which it began. Failures of single guests do not
//! count here: a segment that is disabled holds them, and must be able to let go of them.

use std::collections::BTreeMap;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, IncidentId, SegmentHostId, SegmentId};
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};
use serde::{Deserialize, Serialize};

use super::state::Ledger;

/// Segments of a cluster: one a rack of the largest roster, and room.
pub const SEGMENTS_MAX: usize = 512;

/// All segments, and who is in them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Segments {
    /// By id; names are unique.
    pub segments: BTreeMap<SegmentId, Segment>,
    /// A host stands here once or not at all. All of them are enrolled hypervisors, so that the roster bounds them.
    pub hosts: BTreeMap<HostName, SegmentHost>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Unique.
    pub name: SegmentWord,
    /// Where the servers of its failed hosts go.
    pub method: RecoveryMethod,
    /// Kept for Masakari's clients; nothing reads it.
    pub service_type: SegmentWord,
    /// For people; may be empty.
    pub description: Text,
    /// `Some`: its hosts are not recovered; by whom and why.
    pub disabled: Option<Text>,
}

/// A host's place in its segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHost {
    /// Of this place: another if the host is taken out and put in again.
    pub id: SegmentHostId,
    /// In which segment.
    pub segment: SegmentId,
    /// Kept free for the servers of others.
    pub reserved: bool,
    /// Masakari's `type`. Nothing reads it.
    pub kind: SegmentWord,
    /// Nothing reads it.
    pub control_attributes: Text,
}

/// What an operator may order about segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentOrder {
    /// Make one.
    Create {
        /// Its id, made up by whoever orders: never used before.
        id: SegmentId,
        /// Its name.
        name: SegmentWord,
        /// The rest.
        fields: SegmentFields,
    },
    /// Change one.
    Set {
        /// Which.
        id: SegmentId,
        /// Another name.
        name: Option<SegmentWord>,
        /// What else is changed.
        fields: SegmentFields,
    },
    /// Remove one.
    Delete {
        /// Which.
        id: SegmentId,
        /// Its hosts too: they are in no segment then. Else a segment with hosts is not removed.
        with_hosts: bool,
    },
    /// Put a host that is in none into a segment.
    AddHost {
        /// Which host.
        host: HostName,
        /// The id of its place there: never used before.
        id: SegmentHostId,
        /// Into which segment.
        segment: SegmentId,
        /// The rest.
        fields: SegmentHostFields,
    },
    /// Change a host in a segment, or move it to another.
    SetHost {
        /// Which host.
        host: HostName,
        /// Another segment.
        segment: Option<SegmentId>,
        /// What else is changed.
        fields: SegmentHostFields,
    },
    /// Take a host out of its segment.
    RemoveHost {
        /// Which host.
        host: HostName,
    },
}

/// Fields of a segment; `None`: as it is, or by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentFields {
    /// By default `auto`.
    pub method: Option<RecoveryMethod>,
    /// By default `COMPUTE`.
    pub service_type: Option<SegmentWord>,
    /// By default empty.
    pub description: Option<Text>,
    /// By default true.
    pub enabled: Option<bool>,
}

/// Fields of a host in a segment; `None`: as it is, or by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentHostFields {
    /// By default false.
    pub reserved: Option<bool>,
    /// By default `COMPUTE`.
    pub kind: Option<SegmentWord>,
    /// By default empty.
    pub control_attributes: Option<Text>,
}

impl SegmentFields {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SegmentHostFields {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Segments {
    /// The hosts of a segment, sorted.
    pub fn hosts_of(&self, id: SegmentId) -> impl Iterator<Item = (&HostName, &SegmentHost)> {
        self.hosts.iter().filter(move |(_, place)| place.segment == id)
    }

    /// The segment a host is in.
    #[must_use]
    pub fn of(&self, host: &HostName) -> Option<&Segment> {
        self.hosts.get(host).and_then(|place| self.segments.get(&place.segment))
    }
}

impl Ledger {
    /// The incident of one of its hosts that forbids to change a segment.
    #[must_use]
    pub fn segment_in_use(&self, id: SegmentId) -> Option<(IncidentId, &HostName)> {
        let in_it = |host: &HostName| self.segments.hosts.get(host).is_some_and(|place| place.segment == id);
        let dead = self.open_incidents().map(|incident| (incident.id, &incident.host));
        let reboots = self.open_reboots().map(|reboot| (reboot.id, &reboot.host));
        dead.chain(reboots).filter(|(_, host)| in_it(host)).min()
    }
}
