//! Attempts that another voter executes for the leader: BMC networks differ, and what a leader does not reach another may.
//!
//! The leader decides as ever: which attempt, whether now, what counts as proof. The voter is its hand. An order of it rests on a
//! permit of this leader that was granted upon the voter's own question, and what is read there counts from when it was asked
//! for, or until it was answered here, whichever is the safer.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::executor::ExecutorWord;
use rekindle_proto::fact::{DeviceError, DeviceName};
use rekindle_proto::id::{CallId, HostName, IncidentId};
use rekindle_proto::message::Message;

use super::Leader;
use super::devices::ReadFor;
use crate::context::Context;
use crate::fencing::{Candidate, executor, in_turn};
use crate::ledger::{FORMAT_WITHOUT_EXECUTORS, FenceAttempt, Incident};
use crate::permit::{CHECK_AGE_MAX, Permit};
use crate::time::Moment;

/// Between two tellings of a task that no question has come of: its voter may not have applied the attempt yet, which takes a
/// Raft heartbeat. Within an attempt that is some hundred words at most.
const TASK_AGAIN: Duration = Duration::from_millis(300);

/// After an attempt's end, until an order that was never answered counts as one that may have been carried out.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

/// What is being agreed with the voter that executes an attempt.
#[derive(Debug, Default)]
pub(super) struct Delegation {
    tasks: BTreeMap<DeviceName, Task>,
    /// Orders it was told to begin, and has not answered: who, and when the attempt ends.
    granted: BTreeMap<CallId, (HostName, Moment)>,
    /// Why it did nothing, by its last word.
    refused: Option<(u32, String)>,
}

#[derive(Debug)]
struct Task {
    call: CallId,
    attempt: u32,
    told: Moment,
    /// "May I?", and when it came.
    question: Option<(CallId, Moment)>,
}

impl Delegation {
    /// Why nothing was done by it, for people; empty if that is not known.
    pub(super) fn text(&self) -> String {
        self.refused.as_ref().map(|(_, why)| format!("; it said: {why}")).unwrap_or_default()
    }
}

impl Leader {
    /// Voters that could talk to a host's devices in our stead, in turn. Nobody, as long as the ledger's format has no word for it:
    /// a daemon of before understands neither the ledger that names it nor what we would ask of it.
    pub(super) fn other_voters(&self, cx: &Context<'_>, host: &HostName) -> Vec<HostName> {
        if cx.ledger.format == FORMAT_WITHOUT_EXECUTORS {
            return Vec::new();
        }
        let us = &cx.setup.host;
        let domain = |host: &HostName| cx.ledger.roster.get(host).and_then(|entry| entry.domain.clone());
        let others = cx.voters().into_iter().filter(|voter| voter != us && voter != host && cx.is_alive(voter));
        let candidates = others.map(|host| Candidate { domain: domain(&host), host }).collect();
        in_turn(domain(us).as_ref(), candidates)
    }

    /// Who executes the next attempt, at that level and with these devices; `None`: we do.
    pub(super) fn next_executor(
        &self,
        cx: &Context<'_>,
        incident: &Incident,
        level: u8,
        devices: &[DeviceName],
    ) -> Option<HostName> {
        let of_level = |attempt: &&FenceAttempt| attempt.level == level;
        let is_ours = |attempt: &&FenceAttempt| attempt.author == self.author;
        let last = incident.last_attempt().filter(of_level).filter(is_ours).map(|last| last.attempt);
        let fence = self.fences.get(&incident.id)?;
        let before = fence.before.filter(|(attempt, _)| Some(*attempt) == last).map(|(_, before)| before);
        let of_incident = (incident.id, 0)..=(incident.id, u32::MAX);
        let delegated = cx.ledger.executors.range(of_incident).count();
        let others = self.other_voters(cx, &incident.host);
        executor(before, delegated, &others, fence.reach.of(devices, &others).flatten())
    }

    /// Has the voter switch a device off: tells it, and answers its question. Whether it was told to begin.
    pub(super) fn have_ordered_off(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        attempt: u32,
        (executor, device): (&HostName, &DeviceName),
    ) -> bool {
        let (id, now) = (incident.id, cx.now.mono);
        let delegation = &mut self.fences.entry(id).or_default().delegation;
        delegation.refused.take_if(|(of, _)| *of != attempt);
        let task = delegation.tasks.get_mut(device).filter(|task| task.attempt == attempt);
        let asked = task.as_ref().and_then(|task| Some((task.call, task.question?)));
        if let Some((task, (question, at))) = asked
            && now < at + CHECK_AGE_MAX
        {
            return self.answer_executor(cx, incident, attempt, (executor, device), (task, question, at));
        }
        let next = task.map_or(now, |task| task.told + TASK_AGAIN);
        if next <= now {
            let call = cx.out.call();
            let word = ExecutorWord::Task { call, incident: id, attempt, device: device.clone() };
            cx.send(executor, Message::Executor(word));
            delegation.tasks.insert(device.clone(), Task { call, attempt, told: now, question: None });
        }
        let text = format!("waiting for {executor}, which executes attempt {attempt}{}", delegation.text());
        self.hold(now, id, text);
        self.wake_at(next.max(now) + TASK_AGAIN);
        false
    }

    /// "May I?": with a permit that rests on a check begun since. Else what is missing for one has been asked for, and the
    /// question waits, as long as an answer could still be of use.
    fn answer_executor(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        attempt: u32,
        (executor, device): (&HostName, &DeviceName),
        (task, question, at): (CallId, CallId, Moment),
    ) -> bool {
        let (id, now) = (incident.id, cx.now.mono);
        self.wake_at(at + CHECK_AGE_MAX);
        if !self.is_confirmed_since(at, now, CHECK_AGE_MAX) {
            self.want_check(cx);
            return false;
        }
        let permit = match self.permit(cx, &incident.host) {
            Ok(permit) => permit,
            Err(hold) => {
                self.hold(now, id, hold.to_string());
                return false;
            }
        };
        let Some(deadline) = self.proven_run(id).map(crate::fencing::FenceRun::deadline) else { return false };
        let identity = self.identity_in(id, device).into();
        let (begin_within_ms, kill_within_ms) = left(&permit, deadline, now);
        let word = ExecutorWord::Go { question, begin_within_ms, kill_within_ms, identity };
        cx.send(executor, Message::Executor(word));
        let delegation = &mut self.fences.entry(id).or_default().delegation;
        if let Some(told) = delegation.tasks.get_mut(device) {
            told.question = None;
        }
        delegation.granted.insert(task, (executor.clone(), deadline));
        self.was_ordered(id, task, attempt, device, now);
        true
    }

    /// Orders that an executor was told to begin, and never answered: after their attempt they may have been carried out.
    pub(super) fn give_up_delegated(&mut self, cx: &Context<'_>, id: IncidentId) {
        let now = cx.now.mono;
        let Some(fence) = self.fences.get_mut(&id) else { return };
        let over = |deadline: Moment| now >= deadline + ANSWER_GRACE;
        let lost: Vec<CallId> =
            fence.delegation.granted.iter().filter(|(_, (_, end))| over(*end)).map(|(call, _)| *call).collect();
        for call in lost {
            fence.delegation.granted.remove(&call);
            fence.ordered |= fence.orders.remove(&call).is_some();
        }
        if let Some(next) = fence.delegation.granted.values().map(|(_, end)| *end + ANSWER_GRACE).min() {
            self.wake_at(next);
        }
    }

    /// A voter's word about what it executes for us. One that was not asked for is no word.
    pub(crate) fn executor_word(&mut self, cx: &mut Context<'_>, from: &HostName, word: ExecutorWord) {
        match word {
            ExecutorWord::MayI { question, task } => {
                let now = cx.now.mono;
                if let Some(told) = self.task_of(cx, from, task) {
                    told.question = Some((question, now));
                    self.touch();
                }
            }
            ExecutorWord::Refused { task, why } => {
                let told = self.task_of(cx, from, task).map(|told| told.attempt);
                let Some(attempt) = told else { return };
                let holds = |fence: &&mut super::Fence| fence.delegation.tasks.values().any(|told| told.call == task);
                if let Some(fence) = self.fences.values_mut().find(holds) {
                    fence.delegation.refused = Some((attempt, why.to_string()));
                }
            }
            ExecutorWord::Done { task, result } => {
                let granted = self.fences.values_mut().find_map(|fence| {
                    let granted = &mut fence.delegation.granted;
                    granted.get(&task).filter(|(executor, _)| executor == from)?;
                    granted.remove(&task)
                });
                if granted.is_some() {
                    self.power_off_done(task, result);
                }
            }
            ExecutorWord::Reading { call, reading } => {
                if self.is_read_by(call, from) {
                    let now = cx.now.mono;
                    self.device_read(cx, call, &reading, now);
                }
            }
            // A leader's words, to a voter.
            ExecutorWord::Task { .. } | ExecutorWord::Go { .. } | ExecutorWord::Read { .. } => {}
        }
    }

    /// What a voter was told to do last, if it was that voter.
    fn task_of(&mut self, cx: &Context<'_>, from: &HostName, call: CallId) -> Option<&mut Task> {
        self.fences.iter_mut().find_map(|(id, fence)| {
            let told = fence.delegation.tasks.values_mut().find(|told| told.call == call)?;
            (cx.ledger.executors.get(&(*id, told.attempt)) == Some(from)).then_some(told)
        })
    }

    /// Who renews a proof by reading: whoever executed the proving attempt, then we, then the other voters. `None`: we.
    pub(super) fn lease_readers(&self, cx: &Context<'_>, incident: &Incident) -> Vec<Option<HostName>> {
        let others = self.other_voters(cx, &incident.host);
        let proving = incident.proof.as_ref().and_then(|proof| cx.ledger.executors.get(&(incident.id, proof.attempt)));
        let first = proving.filter(|host| others.contains(host));
        let rest = others.iter().filter(|host| Some(*host) != first).cloned().map(Some);
        first.cloned().map(Some).into_iter().chain([None]).chain(rest).collect()
    }

    /// Who reads a device that nobody has told us the owner of, for the `tries`th time: we first, and where it is silent to us
    /// another voter every other time.
    pub(super) fn preread_by(
        &self,
        cx: &Context<'_>,
        host: &HostName,
        device: &DeviceName,
        tries: u32,
    ) -> Option<HostName> {
        let last = self.devices.get(device).and_then(|entry| entry.last.as_ref());
        let is_silent = last.is_some_and(|(_, reading)| matches!(reading.power, Err(DeviceError::Silent(_))));
        self.reader(cx, host, tries).filter(|_| is_silent)
    }

    /// Who reads silent devices of a host for the `turn`th time; `None`: we, and so the first time. Every other time it is
    /// another voter, each in its turn.
    pub(super) fn reader(&self, cx: &Context<'_>, host: &HostName, turn: u32) -> Option<HostName> {
        let place = usize::try_from(turn / 2).ok()?.checked_sub(1).filter(|_| turn.is_multiple_of(2))?;
        let others = self.other_voters(cx, host);
        others.get(place.checked_rem(others.len())?).cloned()
    }

    /// Has a reader look at all devices of these hosts, for an incident. Whether it was asked: none of them may be waited for.
    pub(super) fn look(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        hosts: &[HostName],
        by: Option<&HostName>,
    ) -> bool {
        let of_host = |host: &HostName| -> Vec<(HostName, DeviceName)> {
            self.devices.of(host).iter().map(|entry| (host.clone(), entry.plan.name.clone())).collect()
        };
        let devices: Vec<(HostName, DeviceName)> = hosts.iter().flat_map(of_host).collect();
        if devices.iter().any(|(_, device)| self.is_reading(cx, device)) {
            return false;
        }
        for (host, device) in devices {
            self.read_device_by(cx, by, &host, &device, ReadFor::Binding(id));
        }
        true
    }
}

/// What is left of a permit and of the attempt, in milliseconds, rounded down.
fn left(permit: &Permit, deadline: Moment, now: Moment) -> (u32, u32) {
    let millis = |until: Moment| u32::try_from(until.since(now).as_millis()).unwrap_or(u32::MAX);
    (millis(permit.begin_before().min(deadline)), millis(deadline))
}
