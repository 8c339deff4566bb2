//! Orders: acts that change the world. Each can be built only inside this crate, only from the proofs it needs, and spends
//! the permit it is built from.
//!
//! Nothing outside can forge one, so an evacuation without a proof that its host is off does not compile:
//!
//! ```compile_fail,E0451
//! use rekindle_coordinator::order::EvacuateOrder;
//! fn forge(honest: EvacuateOrder) -> EvacuateOrder {
//!     EvacuateOrder { attempt: 1, ..honest }
//! }
//! ```
//!
//! ```compile_fail,E0624
//! use rekindle_coordinator::{fencing::FenceProof, order::EvacuateOrder, permit::Permit, recovery::CommittedIntent};
//! use rekindle_proto::id::CallId;
//! fn bypass(permit: Permit, proof: &FenceProof, intent: CommittedIntent) -> EvacuateOrder {
//!     EvacuateOrder::new(CallId(1), permit, proof, intent)
//! }
//! ```

mod aggregate;
mod delegated;
mod power;
mod service;

use std::marker::PhantomData;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::id::{CallId, ClusterName, HostName, IncidentId, LeadershipId, ServerId};
use serde::{Deserialize, Serialize};

use crate::fencing::{DeviceIdentity, FenceProof};
use crate::ledger::{Incident, Ledger, LostGuest, ServerAct, lock_reason};
use crate::mutant::{Guard, keeps};
use crate::permit::Permit;
use crate::recovery::{Arrival, CommittedIntent};
use crate::time::Moment;

pub use aggregate::{AggregateChange, AggregateOrder};
pub use delegated::LeadersGo;
pub(crate) use delegated::Question;
pub use service::{ForceDownOrder, ServiceChange, ServiceOrder};

/// What an order that never ends is given beyond its end, where a mutant gives one: longer than any story.
const LATE_MUTANT: Duration = Duration::from_secs(86_400);

/// Cut the power of a host.
pub type PowerOffOrder = PowerOrder<Off>;

/// Give a host power.
pub type PowerOnOrder = PowerOrder<On>;

/// Of a [`PowerOrder`]: off.
#[derive(Debug)]
pub enum Off {}

/// Of a [`PowerOrder`]: on.
#[derive(Debug)]
pub enum On {}

/// Switch the power of a host, by one of its devices. Which way is in the type, as each is built from proofs of its own.
#[derive(Debug)]
pub struct PowerOrder<To> {
    call: CallId,
    incident: IncidentId,
    attempt: u32,
    host: HostName,
    device: DeviceName,
    identity: DeviceIdentity,
    begin_before: Moment,
    not_after: Moment,
    to: PhantomData<To>,
}

impl PowerOffOrder {
    /// `not_after` is the moment the committed attempt ends: nothing of it is begun, or left running, beyond it.
    pub(crate) fn new(
        call: CallId,
        permit: Permit,
        incident: &Incident,
        attempt: u32,
        (device, identity): (DeviceName, DeviceIdentity),
        not_after: Moment,
    ) -> Self {
        let (begin_before, not_after) = if keeps(Guard::NotAfter) {
            (permit.begin_before().min(not_after), not_after)
        } else {
            (not_after + LATE_MUTANT, not_after + LATE_MUTANT)
        };
        let (incident, host) = (incident.id, incident.host.clone());
        Self { call, incident, attempt, host, device, identity, begin_before, not_after, to: PhantomData }
    }
}

impl<To> PowerOrder<To> {
    /// To be repeated in [`crate::io::Input::PowerOffDone`], or in [`crate::io::Input::PowerOnDone`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// For (or after) which incident, or for which rehearsal.
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
    /// Everything begun for it is killed at this moment (I5).
    #[must_use]
    pub fn not_after(&self) -> Moment {
        self.not_after
    }
}

/// Rebuild a server elsewhere.
#[derive(Debug)]
pub struct EvacuateOrder {
    call: CallId,
    incident: IncidentId,
    server: ServerId,
    attempt: u32,
    begin_before: Moment,
    stop_on_arrival: bool,
    dest: Option<HostName>,
}

impl EvacuateOrder {
    pub(crate) fn new(call: CallId, permit: Permit, proof: &FenceProof, intent: CommittedIntent) -> Self {
        let late = if keeps(Guard::CallInTime) { Duration::ZERO } else { LATE_MUTANT };
        let begin_before = permit.begin_before().min(proof.valid_until()) + late;
        let CommittedIntent { server, attempt, stop_on_arrival, dest } = intent;
        Self { call, incident: proof.incident(), server, attempt, begin_before, stop_on_arrival, dest }
    }

    /// The host where it is to be built, reserved or named by us; `None`: where Nova's scheduler wants.
    #[must_use]
    pub fn dest(&self) -> Option<&HostName> {
        self.dest.as_ref()
    }

    /// Whether Nova is to leave it stopped where it arrives; else it is built as it was.
    #[must_use]
    pub fn stop_on_arrival(&self) -> bool {
        self.stop_on_arrival
    }

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
    call: CallId,
    server: ServerId,
    power: GuestPower,
    begin_before: Moment,
}

impl GuestPowerOrder {
    pub(crate) fn new(call: CallId, permit: Permit, server: ServerId, power: GuestPower) -> Self {
        Self { call, server, power, begin_before: permit.begin_before() }
    }

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

/// Lock, unlock, reset, stop or start a server of an incident.
#[derive(Debug)]
pub struct ServerActOrder {
    call: CallId,
    act: CommittedAct,
    reason: Text,
    begin_before: Moment,
}

impl ServerActOrder {
    /// What comes before an evacuation: as long as its host is proven off.
    pub(crate) fn before(
        call: CallId,
        permit: Permit,
        proof: &FenceProof,
        act: CommittedAct,
        cluster: &ClusterName,
    ) -> Option<Self> {
        let begin_before = permit.begin_before().min(proof.valid_until());
        let of_it = act.act.is_before() && proof.incident() == act.incident;
        of_it.then(|| Self { call, reason: lock_reason(cluster, act.incident), act, begin_before })
    }

    /// What is done to a server where it has arrived.
    pub(crate) fn after(call: CallId, permit: Permit, arrival: &Arrival, act: CommittedAct) -> Option<Self> {
        let is_after = matches!(act.act, ServerAct::Stop | ServerAct::Start | ServerAct::Mark);
        let begin_before = permit.begin_before();
        let of_it = is_after && arrival.server() == act.server;
        of_it.then(|| Self { call, act, reason: Text::default(), begin_before })
    }

    /// Our own lock is lifted, wherever its server is.
    pub(crate) fn unlock(call: CallId, permit: Permit, act: CommittedAct) -> Option<Self> {
        let begin_before = permit.begin_before();
        (act.act == ServerAct::Unlock).then(|| Self { call, act, reason: Text::default(), begin_before })
    }

    /// To be repeated in [`crate::io::Input::Nova`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// For which incident.
    #[must_use]
    pub fn incident(&self) -> IncidentId {
        self.act.incident
    }
    /// Which server.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.act.server
    }
    /// What to do.
    #[must_use]
    pub fn act(&self) -> ServerAct {
        self.act.act
    }
    /// Which committed act on that server.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.act.number
    }
    /// The reason of a lock, by which it is known again; else empty.
    #[must_use]
    pub fn reason(&self) -> &Text {
        &self.reason
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}

/// A committed act of this very leadership.
#[derive(Debug)]
pub struct CommittedAct {
    incident: IncidentId,
    server: ServerId,
    act: ServerAct,
    number: u32,
}

impl CommittedAct {
    /// Finds the open act on that server, if this very leadership wrote it.
    #[must_use]
    pub(crate) fn find(ledger: &Ledger, incident: IncidentId, server: ServerId, author: LeadershipId) -> Option<Self> {
        let record = ledger.incidents.get(&incident)?.servers.get(&server)?;
        let open = record.restore.act.filter(|open| open.author == author)?;
        Some(Self { incident, server, act: open.act, number: open.number })
    }
}

/// End the process of a guest that this host lost, on this host.
#[derive(Debug)]
pub struct DestroyOrder {
    call: CallId,
    incident: IncidentId,
    server: ServerId,
    begin_before: Moment,
}

impl DestroyOrder {
    /// By the leader, on its own host.
    pub(crate) fn new(call: CallId, permit: Permit, lost: &LostGuest) -> Self {
        Self { call, incident: lost.incident(), server: lost.server(), begin_before: permit.begin_before() }
    }

    /// By the leader's word, which answers what this member said a moment ago.
    pub(crate) fn told(call: CallId, word: LeadersWord, begin_before: Moment) -> Self {
        Self { call, incident: word.incident, server: word.server, begin_before }
    }

    /// To be repeated in [`crate::io::Input::GuestDestroyed`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Which incident moved it away.
    #[must_use]
    pub fn incident(&self) -> IncidentId {
        self.incident
    }
    /// Which guest.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
    /// Not to be begun at or after this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }
}

/// The leader's word, from a committed fact and Nova's answer, that a guest of ours runs elsewhere.
#[derive(Debug)]
pub(crate) struct LeadersWord {
    pub(crate) incident: IncidentId,
    pub(crate) server: ServerId,
}
