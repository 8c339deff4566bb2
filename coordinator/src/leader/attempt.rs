//! A committed attempt under way: orders and readings, by the leader itself or by the voter that executes it.

use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, OrderError, PowerState, Text};
use rekindle_proto::id::{CallId, IncidentId};

use super::Leader;
use super::devices::ReadFor;
use super::fence::{PREREAD_AGE_MAX, attempt_lasts};
use super::proposals::Key;
use crate::context::Context;
use crate::fencing::{Before, DeviceIdentity, FenceRun, ReadSpan, RunStep};
use crate::io::Output;
use crate::ledger::{FenceAttempt, Incident, LeaderCommand};
use crate::mutant::{Guard, keeps};
use crate::order::PowerOffOrder;
use crate::time::Moment;

impl Leader {
    pub(super) fn follow_attempt(&mut self, cx: &mut Context<'_>, incident: &Incident, attempt: &FenceAttempt) {
        let id = incident.id;
        let now = cx.now.mono;
        let deadline = now + attempt_lasts(cx);
        let devices = &self.devices;
        let seen_on = |device: &DeviceName| {
            let last = devices.get(device).and_then(|entry| entry.last.as_ref());
            let fresh = last.filter(|(at, _)| now.since(*at) < PREREAD_AGE_MAX);
            fresh.is_some_and(|(_, reading)| reading.power == Ok(PowerState::On))
        };
        let fence = self.fences.entry(id).or_default();
        if fence.run.as_ref().is_none_or(|run| run.attempt() != attempt.attempt) {
            let machine = super::system_uuid(cx, &incident.host);
            let whose =
                |device: &DeviceName| devices.get(device).map(|entry| entry.identity(machine)).unwrap_or_default();
            let accepts = |device: &DeviceName| devices.get(device).is_some_and(|entry| entry.takes_its_word());
            fence.reach.forget();
            fence.run = Some(FenceRun::new(attempt, now, deadline, seen_on).accepting(accepts).held_to(whose));
        }
        let executor = cx.ledger.executors.get(&(id, attempt.attempt)).cloned();
        loop {
            let Some(run) = self.fences.get(&id).and_then(|fence| fence.run.as_ref()) else { return };
            let deadline = run.deadline();
            match run.next_step(now) {
                RunStep::Order(device) => {
                    let was_given = match &executor {
                        None => self.order_off(cx, incident, attempt.attempt, &device, deadline),
                        Some(executor) => self.have_ordered_off(cx, incident, attempt.attempt, (executor, &device)),
                    };
                    if !was_given {
                        self.wake_at(deadline);
                        return;
                    }
                }
                RunStep::Read(device) => {
                    if let Some(run) = self.fences.entry(id).or_default().run.as_mut() {
                        run.reading(&device);
                    }
                    let read_for = ReadFor::Fence(id, attempt.attempt);
                    self.read_device_by(cx, executor.as_ref(), &incident.host, &device, read_for);
                }
                RunStep::Wait(until) => {
                    self.holds.remove(&id);
                    self.wake_at(until.max(now + Duration::from_millis(1)));
                    return;
                }
                RunStep::Proven(proof) => {
                    let command = LeaderCommand::ConfirmFence { incident: id, attempt: attempt.attempt, proof };
                    self.command(cx, Key::Incident(id), command);
                    return;
                }
                RunStep::Failed(why) => {
                    let (unheard, unreached) = (run.is_unheard(), run.is_unreached());
                    let fence = self.fences.entry(id).or_default();
                    fence.silence.attempt_failed(unheard);
                    fence.before = Some((attempt.attempt, Before { delegated: executor.is_some(), unreached }));
                    let why = match &executor {
                        Some(executor) => {
                            Text::new(format!("{executor} executed it: {why}{}", fence.delegation.text()))
                        }
                        None => why,
                    };
                    let command = LeaderCommand::FenceFailed { incident: id, attempt: attempt.attempt, why };
                    self.command(cx, Key::Incident(id), command);
                    return;
                }
            }
        }
    }

    /// Gives an order of our own. Whether it was given; if not, why is held.
    fn order_off(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        attempt: u32,
        device: &DeviceName,
        deadline: Moment,
    ) -> bool {
        let (id, now) = (incident.id, cx.now.mono);
        let permit = match self.permit(cx, &incident.host) {
            Ok(permit) => permit,
            Err(hold) => {
                self.hold(now, id, hold.to_string());
                return false;
            }
        };
        let call = cx.out.call();
        let to = (device.clone(), self.identity_in(id, device));
        cx.out.push(Output::PowerOff(PowerOffOrder::new(call, permit, incident, attempt, to, deadline)));
        self.was_ordered(id, call, attempt, device, now);
        true
    }

    /// An order has been handed to whoever executes it.
    pub(super) fn was_ordered(&mut self, id: IncidentId, call: CallId, attempt: u32, device: &DeviceName, now: Moment) {
        let fence = self.fences.entry(id).or_default();
        fence.orders.insert(call, (attempt, device.clone()));
        if let Some(run) = fence.run.as_mut() {
            run.ordered(device, now);
        }
    }

    pub(crate) fn power_off_done(&mut self, call: CallId, result: Result<(), OrderError>) {
        if self.rehearsal_off_done(call, &result) {
            return self.touch();
        }
        for fence in self.fences.values_mut() {
            if let Some((attempt, device)) = fence.orders.remove(&call) {
                fence.ordered |= !result.as_ref().is_err_and(OrderError::is_unsent) || !keeps(Guard::OrderSent);
                if let Err(
                    OrderError::NotSent(DeviceError::Foreign(why)) | OrderError::MaybeSent(DeviceError::Foreign(why)),
                ) = &result
                {
                    self.devices.disown(&device, why);
                }
                // A late answer to an earlier attempt says nothing of this one's order.
                if let Some(run) = fence.run.as_mut().filter(|run| run.attempt() == attempt) {
                    run.answered(&device, result);
                }
                break;
            }
        }
        self.touch();
    }

    /// Whose a device must say that it is, in the attempt under way.
    pub(super) fn identity_in(&self, id: IncidentId, device: &DeviceName) -> DeviceIdentity {
        self.proven_run(id).map(|run| run.identity(device)).unwrap_or_default()
    }

    pub(super) fn fence_read(
        &mut self,
        id: IncidentId,
        attempt: u32,
        device: &DeviceName,
        reading: &DeviceReading,
        span: ReadSpan,
    ) {
        let run = self.fences.get_mut(&id).and_then(|fence| fence.run.as_mut());
        if let Some(run) = run.filter(|run| run.attempt() == attempt) {
            run.read(device, reading, span);
        }
    }

    /// The run that led to the committed proof, if it was this leader's.
    pub(super) fn proven_run(&self, id: IncidentId) -> Option<&FenceRun> {
        self.fences.get(&id).and_then(|fence| fence.run.as_ref())
    }
}
