//! A brake lifted by an operator, for one host's incident.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, IncidentId, OperatorName, WallTime};
use serde::{Deserialize, Serialize};

/// For whom the brakes are lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LiftTarget {
    /// An open incident.
    Incident(IncidentId),
    /// A silent host whose verdict is held: its next incident.
    Host(HostName),
}

/// Cold start, mass-failure stop, domain event, cap and rate do not hold this host's incident. Disarmed, maintenance and
/// everything about proofs hold it as ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lift {
    /// By whom.
    pub by: OperatorName,
    /// Why.
    pub reason: Text,
    /// When, on the then leader's wall clock.
    pub at: WallTime,
    /// For which incident; `None`: it is not open yet. It ends with the incident, or when the host is heard alive.
    pub incident: Option<IncidentId>,
}
