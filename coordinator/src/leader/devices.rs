//! Readings of fence devices: for a fence, for a lease, for their own health, for `fence-test`. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::executor::ExecutorWord;
use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, PowerState, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId};
use rekindle_proto::message::Message;
use rekindle_proto::status::FenceTestLine;

use super::Leader;
use crate::context::Context;
use crate::fencing::{Binding, DeviceEntry, DeviceIdentity, ReadSpan};
use crate::io::Output;
use crate::ledger::Rehearsal;
use crate::time::Moment;

/// Status readings of every device, to find a broken one before it is needed.
const HEALTH_EVERY: Duration = Duration::from_secs(600);

/// Part of [`HEALTH_EVERY`] by which devices are spread, so that they are not all read at once.
const SPREAD_STEP: Duration = Duration::from_millis(137);

/// A device that is not bound is read again this soon: its host may only now have said its UUID.
const UNBOUND_EVERY: Duration = Duration::from_secs(20);

/// Device time-outs after which a reading that was not answered is given up: two commands, and a queue before each.
const READING_LOST_AFTER: u32 = 4;

/// For the way to the voter that reads for us, and back, and for a queue there.
const ASKED_GRACE: Duration = Duration::from_secs(2);

/// Health readings under way at once.
const HEALTH_AT_ONCE: usize = 8;

/// What a reading is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadFor {
    /// Its own health, or an operator's test.
    Health,
    /// A suspicion: is there power at all?
    Suspect,
    /// An incident that needs to know whose it is.
    Binding(IncidentId),
    /// A running attempt.
    Fence(IncidentId, u32),
    /// The lease of a proof.
    Lease(IncidentId),
    /// A rehearsal.
    Rehearsal(IncidentId),
}

#[derive(Debug)]
pub(super) struct DeviceCalls {
    calls: BTreeMap<CallId, DeviceCall>,
    due: BTreeMap<DeviceName, Moment>,
    started: Moment,
    tests: Vec<FenceTest>,
}

#[derive(Debug)]
struct DeviceCall {
    device: DeviceName,
    read_for: ReadFor,
    /// Whose it must be.
    identity: Option<DeviceIdentity>,
    asked: Moment,
    /// The voter that reads it for us.
    by: Option<HostName>,
}

/// An operator's `fence-test`, waiting for its readings.
#[derive(Debug)]
pub(crate) struct FenceTest {
    pub(crate) query: CallId,
    pub(crate) host: Option<HostName>,
    since: Moment,
    until: Moment,
}

impl DeviceCalls {
    pub(super) fn new(now: Moment) -> Self {
        Self { calls: BTreeMap::new(), due: BTreeMap::new(), started: now, tests: Vec::new() }
    }
}

impl Leader {
    /// Whether a reading of it is under way. One whose answer is long overdue is not waited for.
    pub(super) fn is_reading(&self, cx: &Context<'_>, device: &DeviceName) -> bool {
        let lost_after = READING_LOST_AFTER * cx.setup.policy.device_timeout;
        let waiting = |call: &DeviceCall| call.device == *device && cx.now.mono.since(call.asked) < lost_after;
        self.device_calls.calls.values().any(waiting)
    }

    pub(super) fn read_device(
        &mut self,
        cx: &mut Context<'_>,
        host: &HostName,
        device: &DeviceName,
        read_for: ReadFor,
    ) {
        self.read_device_by(cx, None, host, device, read_for);
    }

    /// Reads a device, or has another voter read it (`by`).
    pub(super) fn read_device_by(
        &mut self,
        cx: &mut Context<'_>,
        by: Option<&HostName>,
        host: &HostName,
        device: &DeviceName,
        read_for: ReadFor,
    ) {
        let call = cx.out.call();
        let asked = cx.now.mono;
        let identity = self.held_to(cx, host, device, &read_for);
        let (name, by) = (device.clone(), by.filter(|by| **by != cx.setup.host).cloned());
        let within = cx.setup.policy.device_timeout;
        match &by {
            None => {
                let (host, device) = (host.clone(), device.clone());
                cx.out.push(Output::ReadDevice { call, host, device, guid: true, within });
            }
            Some(by) => {
                let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                let (host, device) = (host.clone(), device.clone());
                cx.send(by, Message::Executor(ExecutorWord::Read { call, host, device, within_ms }));
                self.wake_at(asked + answered_within(cx));
            }
        }
        self.device_calls.calls.insert(call, DeviceCall { device: name, read_for, identity, asked, by });
    }

    /// A voter's answer: only that of the one who was asked. It is dated by our own clock: read no earlier than we asked, and no
    /// later than now.
    pub(super) fn is_read_by(&self, call: CallId, from: &HostName) -> bool {
        self.device_calls.calls.get(&call).is_some_and(|asked| asked.by.as_ref() == Some(from))
    }

    /// What was asked of a voter that has not answered in time, or is silent itself, is not waited for. It says nothing of the
    /// device's health, only that this voter reads nothing.
    pub(super) fn drive_asked_readings(&mut self, cx: &mut Context<'_>) {
        let (now, within) = (cx.now.mono, answered_within(cx));
        let calls = &self.device_calls.calls;
        let asked = calls.iter().filter_map(|(call, asked)| Some((*call, asked.asked, asked.by.as_ref()?)));
        let is_lost = |asked: Moment, by: &HostName| now >= asked + within || !cx.is_alive(by);
        let (lost, waiting): (Vec<_>, Vec<_>) = asked.partition(|(_, asked, by)| is_lost(*asked, by));
        let next = waiting.iter().map(|(_, asked, _)| *asked + within).min();
        let lost: Vec<CallId> = lost.iter().map(|(call, ..)| *call).collect();
        if let Some(next) = next {
            self.wake_at(next);
        }
        for call in lost {
            let Some(DeviceCall { device, read_for, asked, by: Some(by), .. }) = self.device_calls.calls.remove(&call)
            else {
                continue;
            };
            let why = DeviceError::Silent(Text::new(format!("{by}, which was asked to read it, does not answer")));
            let reading = DeviceReading { power: Err(why), guid: None };
            let span = ReadSpan { asked, finished: now };
            match read_for {
                ReadFor::Fence(incident, attempt) => self.fence_read(incident, attempt, &device, &reading, span),
                ReadFor::Lease(incident) => self.lease_read(cx, incident, &device, &reading, span, Some(&by)),
                ReadFor::Health | ReadFor::Suspect | ReadFor::Binding(_) | ReadFor::Rehearsal(_) => {}
            }
        }
    }

    /// Whose a reading must be. One that only looks whose it is, is anybody's.
    fn held_to(
        &self,
        cx: &Context<'_>,
        host: &HostName,
        device: &DeviceName,
        read_for: &ReadFor,
    ) -> Option<DeviceIdentity> {
        match read_for {
            ReadFor::Health | ReadFor::Suspect | ReadFor::Binding(_) => None,
            ReadFor::Fence(id, _) => Some(self.identity_in(*id, device)),
            ReadFor::Lease(_) => self.devices.get(device).map(|entry| entry.identity(super::system_uuid(cx, host))),
            ReadFor::Rehearsal(id) => cx.ledger.rehearsals.get(id).and_then(|rehearsal| rehearsal.identity(device)),
        }
    }

    /// Gives back what the reading was for, if it was ours.
    pub(super) fn take_device_reading(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        reading: &DeviceReading,
        finished: Moment,
    ) -> Option<ReadFor> {
        let DeviceCall { device, read_for, identity, asked, by } = self.device_calls.calls.remove(&call)?;
        let span = ReadSpan { asked, finished };
        let host = self.devices.get(&device).map(|entry| entry.host.clone())?;
        let machine = super::system_uuid(cx, &host);
        // In an incident the host's voice is weighed against the proof, not against the device; in a rehearsal likewise.
        let is_weighed = cx.ledger.open_incident(&host).is_some()
            || cx.ledger.rehearsal_of(&host).is_some_and(Rehearsal::explains_silence);
        let up = cx.heard.get(&host).map(|heard| heard.boot).filter(|_| !is_weighed);
        let reading = &identity.map_or_else(|| reading.clone(), |identity| identity.sift(reading));
        self.devices.note(&device, reading, finished, machine, up);
        let is_bound = self.devices.get(&device).is_some_and(|entry| entry.binding.counts());
        if let Some(due) = self.device_calls.due.get_mut(&device).filter(|_| !is_bound) {
            *due = (*due).min(finished + UNBOUND_EVERY);
        }
        match read_for {
            ReadFor::Health | ReadFor::Suspect => {}
            ReadFor::Binding(incident) => {
                if let Some(fence) = self.fences.get_mut(&incident) {
                    fence.reach.note(by.as_ref(), &device, reading);
                }
            }
            ReadFor::Fence(incident, attempt) => self.fence_read(incident, attempt, &device, reading, span),
            ReadFor::Lease(incident) => self.lease_read(cx, incident, &device, reading, span, by.as_ref()),
            ReadFor::Rehearsal(rehearsal) => self.rehearsal_read(rehearsal, &device, reading, span),
        }
        Some(read_for)
    }

    /// The host was heard against what its devices last said, maybe before it came back: they are asked again at once.
    pub(super) fn read_again(&mut self, now: Moment, host: &HostName) {
        for entry in self.devices.of(host) {
            self.device_calls.due.insert(entry.plan.name.clone(), now);
        }
        self.touch();
    }

    /// Begins an operator's test: every device concerned is read afresh.
    pub(crate) fn fence_test(&mut self, cx: &mut Context<'_>, query: CallId, host: Option<HostName>) {
        let now = cx.now.mono;
        let until = now + READING_LOST_AFTER * cx.setup.policy.device_timeout;
        for entry in self.devices.iter().filter(|entry| host.as_ref().is_none_or(|host| entry.host == *host)) {
            self.device_calls.due.insert(entry.plan.name.clone(), now);
        }
        self.device_calls.tests.push(FenceTest { query, host, since: now, until });
        self.touch();
    }

    /// Tests whose readings are all in, or whose time is over.
    pub(crate) fn finished_fence_tests(&mut self, now: Moment) -> Vec<(CallId, Vec<FenceTestLine>)> {
        let tests = std::mem::take(&mut self.device_calls.tests);
        let (done, waiting): (Vec<FenceTest>, Vec<FenceTest>) = tests.into_iter().partition(|test| {
            let concerned = |entry: &&DeviceEntry| test.host.as_ref().is_none_or(|host| entry.host == *host);
            let is_read = |entry: &DeviceEntry| entry.last.as_ref().is_some_and(|(at, _)| *at >= test.since);
            now >= test.until || self.devices.iter().filter(concerned).all(is_read)
        });
        for test in &waiting {
            self.wake_at(test.until);
        }
        self.device_calls.tests = waiting;
        done.into_iter().map(|test| (test.query, self.fence_test_lines(test.host.as_ref(), test.since))).collect()
    }

    fn fence_test_lines(&self, host: Option<&HostName>, since: Moment) -> Vec<FenceTestLine> {
        let concerned = |entry: &&DeviceEntry| host.is_none_or(|host| entry.host == *host);
        self.devices.iter().filter(concerned).map(|entry| fence_test_line(entry, since)).collect()
    }

    pub(super) fn drive_devices(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let lost_after = 2 * READING_LOST_AFTER * cx.setup.policy.device_timeout;
        self.device_calls.calls.retain(|_, call| now.since(call.asked) < lost_after);
        let health = |call: &&DeviceCall| call.read_for == ReadFor::Health;
        let mut under_way = self.device_calls.calls.values().filter(health).count();
        let reading: BTreeSet<DeviceName> = self.device_calls.calls.values().map(|call| call.device.clone()).collect();
        let rehearsed = cx.ledger.open_rehearsal().map(|rehearsal| &rehearsal.host);
        let recovering: BTreeSet<&HostName> =
            cx.ledger.open_incidents().map(|incident| &incident.host).chain(rehearsed).collect();
        let mut next: Option<Moment> = None;
        let mut chosen = Vec::new();
        for (position, entry) in self.devices.iter().enumerate() {
            let first = self.device_calls.started + SPREAD_STEP * u32::try_from(position).unwrap_or(u32::MAX);
            let due = match self.device_calls.due.get(&entry.plan.name) {
                Some(due) => *due,
                None => *self.device_calls.due.entry(entry.plan.name.clone()).or_insert(first),
            };
            // A host under recovery is read by its own incident, one that is rehearsed by its rehearsal.
            if reading.contains(&entry.plan.name) || recovering.contains(&entry.host) {
                continue;
            }
            if due <= now && under_way < HEALTH_AT_ONCE {
                under_way += 1;
                chosen.push((entry.host.clone(), entry.plan.name.clone(), entry.binding.counts()));
            } else if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        for (host, device, bound) in chosen {
            let every = if bound { HEALTH_EVERY } else { UNBOUND_EVERY };
            self.device_calls.due.insert(device.clone(), now + every);
            let by = self.event_reader(cx, &host);
            self.read_device_by(cx, by.as_ref(), &host, &device, ReadFor::Health);
        }
        if let Some(next) = next {
            self.wake_at(next);
        }
    }
}

fn fence_test_line(entry: &DeviceEntry, since: Moment) -> FenceTestLine {
    let reading = entry.last.as_ref().filter(|(at, _)| *at >= since).map(|(_, reading)| reading);
    let power: Option<PowerState> = reading.and_then(|reading| reading.power.as_ref().ok().copied());
    let text = match (reading.map(|reading| &reading.power), &entry.binding) {
        (None, _) => Text::from("no reading in time"),
        (Some(_), Binding::Unverified) => "nothing can be read of it: its word is taken, unverified".into(),
        (Some(Err(error)), _) => Text::new(error.to_string()),
        (Some(Ok(_)), Binding::Bound) => "".into(),
        (Some(Ok(_)), Binding::Rehearsed(by)) => Text::new(format!("bound by a rehearsal: {by}")),
        (Some(Ok(_)), Binding::Unknown(why) | Binding::Refused(why)) => why.clone(),
    };
    FenceTestLine {
        host: entry.host.clone(),
        level: entry.plan.level,
        device: entry.plan.name.to_string(),
        power,
        bound: entry.binding.counts(),
        text,
    }
}

/// How long a voter that reads for us is waited for: two commands of the device, and the way. With the default time-out the
/// lease of a proof outlasts two such waits, so that another can be asked; a voter that gossip has lost is not waited for.
fn answered_within(cx: &Context<'_>) -> Duration {
    2 * cx.setup.policy.device_timeout + ASKED_GRACE
}
