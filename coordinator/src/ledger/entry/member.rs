//! What a member may say of itself.

use rekindle_proto::fact::{GateReport, GuestEvent, GuestList, StopReason, Watchdog};
use rekindle_proto::id::{Incarnation, ServerId, SystemUuid};
use rekindle_proto::process::ProcessReport;
use serde::{Deserialize, Serialize};

use super::super::watchdog::Stamp;

/// What a member may say of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberStatement {
    /// Who I am and what runs here.
    Pulse {
        /// My machine's UUID.
        system_uuid: Option<SystemUuid>,
        /// My guests.
        guests: GuestList,
    },
    /// A guest of mine failed.
    GuestFailed {
        /// Which.
        server: ServerId,
        /// How.
        event: GuestEvent,
    },
    /// My daemon stops, and says why. My silence is no failure.
    Absent {
        /// In this life.
        life: Incarnation,
        /// Why.
        why: StopReason,
    },
    /// I am back, in a later life than the one that said goodbye.
    Returned {
        /// In this life.
        life: Incarnation,
    },
    /// From now on my watchdog resets me unless I feed it under a lease. Committed before the first feed.
    ArmWatchdog {
        /// When I asked.
        stamp: Stamp,
        /// Which.
        watchdog: Watchdog,
    },
    /// I am about to disarm it. Committed before I do.
    WithdrawWatchdog {
        /// When I asked.
        stamp: Stamp,
    },
    /// My boot gate. Also taken while I have an open incident: it says nothing of my guests.
    Gate {
        /// What it is and does.
        report: GateReport,
    },
    /// My processes. Also taken while I have an open incident: it says nothing of my guests.
    Processes {
        /// How each of them stands.
        report: ProcessReport,
    },
}
