//! Orders that switch a host on again; and how a rehearsal switches off.

use std::marker::PhantomData;

use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::{CallId, HostName, LeadershipId};

use super::{PowerOffOrder, PowerOnOrder};
use crate::fencing::DeviceIdentity;
use crate::ledger::{Ledger, Rehearsal, RehearsalStage, unsettled};
use crate::permit::{Permit, RehearsalPermit};
use crate::time::Moment;

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
            to: PhantomData,
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
        may.then_some(Self {
            call,
            incident,
            attempt,
            host,
            device,
            identity,
            begin_before,
            not_after,
            to: PhantomData,
        })
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
            to: PhantomData,
        })
    }
}
