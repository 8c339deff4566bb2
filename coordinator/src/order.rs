//! Orders: acts that change the world, each built only from the proofs it needs.

use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};
use serde::{Deserialize, Serialize};

use crate::time::Moment;

/// Cut the power of a host.
#[derive(Debug)]
pub struct PowerOffOrder {
    pub(crate) call: CallId,
    pub(crate) incident: IncidentId,
    pub(crate) attempt: u32,
    pub(crate) host: HostName,
    pub(crate) device: DeviceName,
    pub(crate) begin_before: Moment,
    pub(crate) not_after: Moment,
}

impl PowerOffOrder {
    /// To be repeated in [`crate::io::Input::PowerOffDone`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// For which incident.
    #[must_use]
    pub fn incident(&self) -> IncidentId {
        self.incident
    }
    /// Which committed attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
    /// Whose power.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// By which device.
    #[must_use]
    pub fn device(&self) -> &DeviceName {
        &self.device
    }
    /// Not to be begun at or after this moment: the check that we lead is stale by then (I3).
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
    /// Everything begun for it is killed at this moment (I5).
    #[must_use]
    pub fn not_after(&self) -> Moment {
        self.not_after
    }
}

/// Mark a proven-off host's compute service forced-down.
#[derive(Debug)]
pub struct ForceDownOrder {
    pub(crate) call: CallId,
    pub(crate) host: HostName,
    pub(crate) begin_before: Moment,
}

impl ForceDownOrder {
    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Whose service.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}

/// Rebuild a server elsewhere.
#[derive(Debug)]
pub struct EvacuateOrder {
    pub(crate) call: CallId,
    pub(crate) incident: IncidentId,
    pub(crate) server: ServerId,
    pub(crate) attempt: u32,
    pub(crate) begin_before: Moment,
}

impl EvacuateOrder {
    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// For which incident.
    #[must_use]
    pub fn incident(&self) -> IncidentId {
        self.incident
    }
    /// Which server.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
    /// Which committed attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
    /// Not to be begun at or after this moment: the proof or the check that we lead is stale by then (I1, I3).
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}

/// What to do with a guest in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestPower {
    /// Nova `os-stop`.
    Stop,
    /// Nova `os-start`.
    Start,
}

/// Stop or start a server on the host where it is.
#[derive(Debug)]
pub struct GuestPowerOrder {
    pub(crate) call: CallId,
    pub(crate) server: ServerId,
    pub(crate) power: GuestPower,
    pub(crate) begin_before: Moment,
}

impl GuestPowerOrder {
    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Which server.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
    /// What to do.
    #[must_use]
    pub fn power(&self) -> GuestPower {
        self.power
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}
