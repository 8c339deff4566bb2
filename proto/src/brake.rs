//! The document behind `rekindle brake`: what holds recovery back, with its figures. Field names are an interface: they
//! are added to, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fact::Text;
use crate::id::{HostName, IncidentId};

/// Every brake, as the leader judges it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakesDoc {
    /// Who made this document.
    pub told_by: HostName,
    /// Each brake; the cap once a labelled domain.
    pub brakes: Vec<BrakeLine>,
    /// Who is held by what, and whose brakes are lifted.
    pub held: Vec<HeldLine>,
}

/// One brake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeLine {
    /// `armed`, `maintenance`, `segment`, `cold-start`, `mass-failure`, `domain-event`, `domain-cap`, `fence-rate`.
    pub brake: Text,
    /// Whether it would hold a host now (maintenance, segment and events: whether it holds any).
    pub holds: bool,
    /// Whether `rekindle brake lift` lifts it for one incident.
    pub liftable: bool,
    /// Its figures, in words.
    pub text: Text,
    /// The same as numbers; times in seconds (`…_s`).
    pub figures: BTreeMap<Text, u64>,
}

/// One host that is held, or whose brakes are lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLine {
    /// Which host.
    pub host: HostName,
    /// Its incident; `None`: a verdict that is held.
    pub incident: Option<IncidentId>,
    /// By which brake, if any holds it.
    pub brake: Option<Text>,
    /// Its figures, or nothing.
    pub text: Text,
    /// Lifted by whom and why.
    pub lifted: Option<Text>,
}
