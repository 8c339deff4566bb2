//! Orders that switch a host on again. Switching off is beside them, in [`super::PowerOffOrder`].

use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::{CallId, HostName, IncidentId, LeadershipId};

use super::PowerOffOrder;
use crate::fencing::DeviceIdentity;
use crate::ledger::{Ledger, Rehearsal, RehearsalStage, unsettled};
use crate::permit::{Permit, RehearsalPermit};
use crate::time::Moment;

/// Give a host power.
#[derive(Debug)]
pub struct PowerOnOrder {
    call: CallId,
    incident: IncidentId,
    attempt: u32,
    host: HostName,
    device: DeviceName,
    identity: DeviceIdentity,
    begin_before: Moment,
    not_after: Moment,
}

impl PowerOnOrder {
    /// After a rehearsal. `None`: the ledger has no such order of this leadership, or something of the off order may still
    /// have an effect (I5).
    pub(crate) fn rehearsed(
        call: CallId,
        permit: RehearsalPermit,
        rehearsal: &Rehearsal,
        author: LeadershipId,
        device: DeviceName,
        not_after: Moment,
    ) -> Option<Self> {
        let attempt = rehearsal.on.map(|on| on.attempt)?;
        let identity = rehearsal.identity(&device)?;
        let begin_before = permit.permit.begin_before().min(not_after);
        let (incident, host) = (rehearsal.id, rehearsal.host.clone());
        rehearsal.may_power_on(author).then_some(Self {
            call,
            incident,
            attempt,
            host,
            device,
            identity,
            begin_before,
            not_after,
        })
    }

    /// After a recovery. `None`: the ledger has no such order of this leadership, or the host's failure is not settled (I7), or
    /// something of an off order may still have an effect (I5).
    pub(crate) fn after_recovery(
        call: CallId,
        permit: Permit,
        ledger: &Ledger,
        host: &HostName,
        author: LeadershipId,
        (device, identity): (DeviceName, DeviceIdentity),
        not_after: Moment,
    ) -> Option<Self> {
        let record = ledger.host(host)?;
        let on = record.power_on.as_ref().filter(|on| on.author == author && Some(on.incident) == record.quarantine)?;
        let incident = ledger.incidents.get(&on.incident)?;
        let is_its_own = incident.last_attempt().is_some_and(|attempt| attempt.devices.contains(&device));
        let may = is_its_own && !on.settled && incident.is_off_settled() && unsettled(ledger, host).is_none();
        let begin_before = permit.begin_before().min(not_after);
        let (incident, attempt, host) = (on.incident, on.attempt, host.clone());
        may.then_some(Self { call, incident, attempt, host, device, identity, begin_before, not_after })
    }

    /// To be repeated in [`crate::io::Input::PowerOnDone`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// For which rehearsal, or after which incident.
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
    /// Whose the device must say that it is, in the very session of the order. Else nothing is sent.
    #[must_use]
    pub fn identity(&self) -> &DeviceIdentity {
        &self.identity
    }
    /// Not to be begun at or after this moment: the check that we lead is stale by then (I3).
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
    /// Everything begun for it is killed at this moment.
    #[must_use]
    pub fn not_after(&self) -> Moment {
        self.not_after
    }
}

impl PowerOffOrder {
    /// For a rehearsal. `None`: the ledger has no such order of this leadership.
    pub(crate) fn rehearsed(
        call: CallId,
        permit: RehearsalPermit,
        rehearsal: &Rehearsal,
        author: LeadershipId,
        device: DeviceName,
        not_after: Moment,
    ) -> Option<Self> {
        let off = rehearsal.off.as_ref().filter(|off| off.author == author && off.devices.contains(&device))?;
        let begin_before = permit.permit.begin_before().min(not_after);
        let identity = rehearsal.identity(&device)?;
        let (incident, attempt, host) = (rehearsal.id, off.attempt, rehearsal.host.clone());
        (rehearsal.stage == RehearsalStage::Off).then_some(Self {
            call,
            incident,
            attempt,
            host,
            device,
            identity,
            begin_before,
            not_after,
        })
    }
}
