//! The daemon's local socket: one JSON [`AdminRequest`] a line, one JSON [`AdminReply`] a line. Any member takes any
//! request; what only the leader knows is carried to it.

use serde::{Deserialize, Serialize};

use crate::brake::BrakesDoc;
use crate::capacity::CapacityDoc;
use crate::fact::Text;
use crate::id::{BootId, HostName, IncidentId};
use crate::segment::SegmentsDoc;
use crate::status::{FenceTestLine, GateDoc, IncidentDoc, IncidentLine, MembersDoc, StatusDoc, WhyDoc};
use crate::voters::VotersDoc;

/// Longest request or reply line on the socket, in bytes: the status of 2,000 hosts.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What an operator may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum AdminRequest {
    /// The whole picture.
    Status,
    /// Gossip as this very member sees it: never carried to the leader.
    Members,
    /// All incidents, newest first.
    Incidents,
    /// The story of one.
    Incident {
        /// Which.
        id: IncidentId,
    },
    /// What would happen if this host died now.
    Why {
        /// Which host.
        host: HostName,
    },
    /// Read the fence devices of one host, or of all. Reads only.
    FenceTest {
        /// `None`: all hosts.
        host: Option<HostName>,
    },
    /// Change the ledger. The order is signed by the operator; whoever carries it cannot alter it.
    Submit {
        /// The signed order.
        order: SignedOrder,
    },
    /// May guests start on this host, in this boot (I7)? Asked by the boot gate of its own daemon; answered by the leader
    /// after a quorum has confirmed it, never from one member's own copy of the ledger.
    Gate {
        /// `None`: the host of the daemon that is asked. Filled in before it is carried to the leader.
        host: Option<HostName>,
        /// `None`: that daemon's present boot.
        boot: Option<BootId>,
    },
    /// Every brake, and who is held.
    Brakes,
    /// Who keeps the ledger, and who could.
    Voters,
    /// Would the servers of lost hosts find room on the others?
    Capacity {
        /// How many hosts are lost at once; at least 1, at most [`crate::capacity::LOSE_MAX`].
        lose: u8,
        /// One of them; `None`: any.
        host: Option<HostName>,
    },
    /// All segments, with their hosts.
    Segments,
}

/// An operator's order with the means to check it, as kept in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrder {
    /// The operator's X.509 certificate (DER), role `operator`, issued by the cluster's CA.
    pub certificate: Vec<u8>,
    /// The order: postcard, as the coordinator defines it.
    pub order: Vec<u8>,
    /// ECDSA P-256 with SHA-256 over `order`, DER.
    pub signature: Vec<u8>,
}

/// Largest encoded order we look at, in bytes: a roster of 2,000 hosts.
pub const ORDER_BYTES_MAX: usize = 1024 * 1024;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum AdminReply {
    /// To [`AdminRequest::Status`].
    Status {
        /// The picture.
        status: Box<StatusDoc>,
    },
    /// To [`AdminRequest::Members`].
    Members {
        /// Gossip.
        members: MembersDoc,
    },
    /// To [`AdminRequest::Incidents`].
    Incidents {
        /// Newest first.
        incidents: Vec<IncidentLine>,
    },
    /// To [`AdminRequest::Incident`].
    Incident {
        /// The story.
        incident: Box<IncidentDoc>,
    },
    /// To [`AdminRequest::Why`].
    Why {
        /// The explanation.
        why: Box<WhyDoc>,
    },
    /// To [`AdminRequest::FenceTest`].
    FenceTest {
        /// One line a device.
        devices: Vec<FenceTestLine>,
    },
    /// To [`AdminRequest::Submit`]: committed and applied.
    Committed {
        /// What it did, in words.
        text: Text,
    },
    /// To [`AdminRequest::Gate`].
    Gate {
        /// Whether guests may start, and why.
        gate: GateDoc,
    },
    /// To [`AdminRequest::Voters`].
    Voters {
        /// Voters and standbys.
        voters: VotersDoc,
    },
    /// Refused or failed.
    Error {
        /// Which kind.
        kind: AdminErrorKind,
        /// What happened and what to do, in words.
        text: Text,
    },
    /// To [`AdminRequest::Brakes`].
    Brakes {
        /// Each with its figures.
        brakes: Box<BrakesDoc>,
    },
    /// To [`AdminRequest::Capacity`].
    Capacity {
        /// The estimate.
        capacity: Box<CapacityDoc>,
    },
    /// To [`AdminRequest::Segments`].
    Segments {
        /// Each with its hosts.
        segments: Box<SegmentsDoc>,
    },
}

/// Kinds of refusal, so that a script need not read words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminErrorKind {
    /// There is no leader to ask now; nothing was done.
    NoLeader,
    /// The request was understood and refused; nothing was done.
    Refused,
    /// No such host or incident.
    NotFound,
    /// The request was not understood; nothing was done.
    Malformed,
    /// The order was given to the ledger and no answer came: it may yet be committed. Look at `status` before repeating it.
    Unknown,
}
