//! What an operator may order, and what of it is signed.

use rekindle_proto::fact::{RosterEntry, Text};
use rekindle_proto::id::{ClusterName, HostName, IncidentId, WallTime};
use serde::{Deserialize, Serialize};

use crate::ledger::lift::LiftTarget;
use crate::ledger::segments::SegmentOrder;
use crate::ledger::voters::Seat;

/// What an operator signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorOrder {
    /// For this cluster only.
    pub cluster: ClusterName,
    /// Random: the same order is not applied twice.
    pub nonce: [u8; 16],
    /// When it was signed, on the operator's wall clock.
    pub signed_at: WallTime,
    /// Why. Never empty.
    pub reason: Text,
    /// What.
    pub command: OperatorCommand,
}

/// What an operator may order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorCommand {
    /// The first roster. Once.
    Init {
        /// Hosts and witnesses.
        roster: Vec<RosterEntry>,
        /// The CA (DER) whose operator certificates the ledger accepts from now on.
        ca: Vec<u8>,
    },
    /// Act (`true`) or only watch (`false`).
    Arm(bool),
    /// Take a host out of, or back under, protection.
    Maintenance {
        /// Which host.
        host: HostName,
        /// In or out.
        on: bool,
    },
    /// Try a stuck incident again.
    Resume {
        /// Which.
        incident: IncidentId,
    },
    /// Let a recovered incident's host back: the operator has seen that Nova cleaned up, or that the host is empty.
    Release {
        /// Which host.
        host: HostName,
    },
    /// Put a standby in a voter's place.
    ReplaceVoter {
        /// The voter.
        old: HostName,
        /// The standby.
        new: HostName,
    },
    /// One survivor goes on alone: too many voters were lost for a quorum.
    RecoverQuorum(QuorumRecovery),
    /// Let no brake but disarmed and maintenance hold one incident.
    LiftBrake {
        /// Whose.
        target: LiftTarget,
    },
    /// Only watch, for a time; then act again.
    DisarmFor {
        /// How long, in milliseconds of the ledger's time.
        ms: u64,
    },
    /// Enrol a host or witness. It is on probation first.
    Enroll {
        /// Who, as what, where.
        entry: RosterEntry,
    },
    /// Take a host or witness off the roster.
    Forget {
        /// Which.
        host: HostName,
    },
    /// I have seen that this incident's host is off. It stands in the place of a fence device's word.
    ConfirmOff {
        /// Of which incident.
        incident: IncidentId,
        /// What I looked at. Never empty.
        checked: Text,
    },
    /// About segments, and who is in them.
    Segment(SegmentOrder),
    /// Switch an empty host in maintenance off and on again by its fence devices, to see that they are its own.
    Rehearse {
        /// Which host.
        host: HostName,
        /// By which level; `None`: the lowest.
        level: Option<u8>,
    },
    /// Every voter's daemon reads that ledger format: write it from now on. The order itself is the first entry in it.
    RaiseFormat {
        /// Which; later than the present one.
        to: u32,
    },
}

/// What is signed to recover a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumRecovery {
    /// The generation it begins: one more than the present.
    pub generation: u64,
    /// Who goes on, with which store.
    pub survivor: Seat,
    /// Voters that the operator has seen to be off.
    pub stated_off: Vec<HostName>,
}
