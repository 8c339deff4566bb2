//! After recovery: a fenced host is powered on again, where the operator's configuration says so. The rules are the ledger's
//! ([`crate::ledger::Ledger::may_power_on`]); here its devices are read, and the orders given.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, OrderError, PowerState, Text};
use rekindle_proto::id::{CallId, HostName, WallTime};

use super::fence::PREREAD_AGE_MAX;
use super::proposals::Key;
use super::{HOLD_RETRY, Leader};
use crate::context::Context;
use crate::fencing::{Due, Given};
use crate::io::Output;
use crate::ledger::{HostRecord, LeaderCommand, OFF_SETTLE_MS, ON_TRIES_MAX, PowerOn, PowerOnCommand};
use crate::order::PowerOnOrder;
use crate::policy::AfterRecovery;
use crate::time::Moment;

/// How long an order to power on may take, beyond a device's own time-out: a permit, and a place in its queue.
pub(super) const ON_SLACK: Duration = Duration::from_secs(5);

/// Between two readings of the devices of a host that waits for its power.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Hosts that are powered on, as this leader follows them.
#[derive(Debug, Default)]
pub(super) struct PowerDesk {
    cases: BTreeMap<HostName, PowerCase>,
    calls: BTreeMap<CallId, (HostName, DeviceName)>,
}

#[derive(Debug, Default)]
struct PowerCase {
    /// The last order, and since when this leader sees it: nobody's wall clock says when it is over.
    seen: Option<(u32, Moment)>,
    given: BTreeMap<DeviceName, Given>,
    read: Option<Moment>,
    error: Option<Text>,
    /// What is waited for, for people.
    text: Text,
}

impl Leader {
    /// Whether an order is due; wakes when it will be.
    pub(super) fn is_to_be_given(&mut self, now: Moment, due: Due) -> bool {
        match due {
            Due::Now => true,
            Due::At(again) if now < again => {
                self.wake_at(again);
                false
            }
            Due::At(_) => true,
            Due::Never => false,
        }
    }

    pub(super) fn drive_power_on(&mut self, cx: &mut Context<'_>) {
        let policy = cx.setup.policy.after_recovery;
        let wanted = |record: &HostRecord| {
            let ordered = record.power_on.as_ref().filter(|on| Some(on.incident) == record.quarantine);
            record.quarantine.is_some() && (policy != AfterRecovery::LeaveOff || ordered.is_some_and(|on| !on.settled))
        };
        let hosts: Vec<HostName> =
            cx.ledger.hosts.iter().filter(|(_, record)| wanted(record)).map(|(host, _)| host.clone()).collect();
        self.power.cases.retain(|host, _| hosts.contains(host));
        for host in hosts {
            self.power_on_host(cx, &host, policy);
        }
    }

    /// Why a fenced host is not powered on, or what is done about it, for people.
    pub(crate) fn power_on_text(&self, host: &HostName) -> Option<&Text> {
        self.power.cases.get(host).map(|case| &case.text).filter(|text| !text.as_str().is_empty())
    }

    fn power_on_host(&mut self, cx: &mut Context<'_>, host: &HostName, policy: AfterRecovery) {
        let now = cx.now.mono;
        let Some(record) = cx.ledger.host(host) else { return };
        let on = record.power_on.as_ref().filter(|on| Some(on.incident) == record.quarantine);
        let case = self.power.cases.entry(host.clone()).or_default();
        if let Some(on) = on.filter(|on| case.seen.is_none_or(|(attempt, _)| attempt != on.attempt)) {
            *case = PowerCase { seen: Some((on.attempt, now)), ..PowerCase::default() };
        }
        let seen = case.seen.map_or(now, |(_, seen)| seen);
        if let Some(on) = on.filter(|on| !on.settled) {
            return self.follow_power_on(cx, host, on, seen);
        }
        if cx.is_alive(host) {
            return self.say_of_power(host, "");
        }
        let hold = match policy {
            AfterRecovery::LeaveOff => return,
            AfterRecovery::PowerOn => false,
            AfterRecovery::PowerOnQuarantine => true,
        };
        let devices = match cx.ledger.may_power_on(host) {
            Ok((_, devices)) => devices,
            Err(why) => {
                self.say_of_power(host, &format!("it is left off: {why}"));
                return self.wake_at(now + READ_EVERY);
            }
        };
        match self.power_read(cx, host, &devices) {
            None => self.say_of_power(host, "its fence devices are being read"),
            // Somebody was faster, or it is on its way.
            Some(true) => self.say_of_power(host, "it has power, and is not heard yet"),
            Some(false) if on.is_some_and(|on| on.attempt >= ON_TRIES_MAX) => {
                let why = self.power.cases.get(host).and_then(|case| case.error.clone());
                let why = why.unwrap_or_else(|| "its fence devices still read off".into());
                self.power_command(cx, host, PowerOnCommand::GiveUp { host: host.clone(), why });
            }
            Some(false) => self.intend_on(cx, host, on.map_or(0, |on| on.attempt) + 1, hold),
        }
    }

    /// Whether all devices read on; `None`: not known afresh.
    fn power_read(&mut self, cx: &mut Context<'_>, host: &HostName, devices: &[DeviceName]) -> Option<bool> {
        let now = cx.now.mono;
        let power = |name: &DeviceName| {
            let (at, reading) = self.devices.get(name)?.last.as_ref()?;
            (now.since(*at) < PREREAD_AGE_MAX).then(|| reading.power.as_ref().ok().copied()).flatten()
        };
        let read: Option<Vec<PowerState>> = devices.iter().map(power).collect();
        let case = self.power.cases.entry(host.clone()).or_default();
        if case.read.is_none_or(|read| now >= read + READ_EVERY) {
            case.read = Some(now);
            self.read_again(now, host);
        }
        self.wake_at(now + HOLD_RETRY);
        read.map(|states| states.iter().all(|state| *state == PowerState::On))
    }

    fn intend_on(&mut self, cx: &mut Context<'_>, host: &HostName, attempt: u32, hold: bool) {
        // An attempt that could not order anything would be a try wasted.
        if let Err(held) = self.permit(cx, host) {
            self.say_of_power(host, &held.to_string());
            return self.wake_at(cx.now.mono + HOLD_RETRY);
        }
        let lasts = i64::try_from(on_lasts(cx).as_millis()).unwrap_or(i64::MAX);
        let not_after = WallTime(cx.now.wall.0.saturating_add(lasts));
        let author = self.author;
        let command = PowerOnCommand::Intent { host: host.clone(), attempt, author, not_after, hold };
        self.power_command(cx, host, command);
    }

    /// An order is under way: given, each device once (and again if it was surely not sent), as long as its time is not over;
    /// and then waited out.
    fn follow_power_on(&mut self, cx: &mut Context<'_>, host: &HostName, on: &PowerOn, seen: Moment) {
        let now = cx.now.mono;
        let deadline = seen + on_lasts(cx);
        let settled = deadline + Duration::from_millis(OFF_SETTLE_MS);
        if now >= settled {
            let command = PowerOnCommand::Settled { host: host.clone(), attempt: on.attempt };
            return self.power_command(cx, host, command);
        }
        self.wake_at(settled);
        self.say_of_power(host, &format!("attempt {} to power it on is under way", on.attempt));
        if on.author != self.author || now >= deadline {
            return;
        }
        let attempt = cx.ledger.incidents.get(&on.incident).and_then(|incident| incident.last_attempt());
        for device in attempt.map(|attempt| attempt.devices.clone()).unwrap_or_default() {
            let Some(case) = self.power.cases.get(host) else { return };
            let due = case.given.get(&device).map_or(Due::Now, Given::due);
            if !self.is_to_be_given(now, due) {
                continue;
            }
            let Ok(permit) = self.permit(cx, host) else { return self.wake_at(now + HOLD_RETRY) };
            let call = cx.out.call();
            let machine = super::system_uuid(cx, host);
            let identity = self.devices.get(&device).map(|entry| entry.identity(machine)).unwrap_or_default();
            let to = (device.clone(), identity);
            let order = PowerOnOrder::after_recovery(call, permit, cx.ledger, host, self.author, to, deadline);
            let (Some(order), Some(case)) = (order, self.power.cases.get_mut(host)) else { return };
            case.given.entry(device.clone()).or_default().give(now);
            self.power.calls.insert(call, (host.clone(), device));
            cx.out.push(Output::PowerOn(order));
        }
    }

    /// A device answered an order to power on. Gives back whether it was one of these.
    pub(super) fn recovered_on_done(&mut self, call: CallId, result: &Result<(), OrderError>) -> bool {
        let Some((host, device)) = self.power.calls.remove(&call) else { return false };
        if let Some(case) = self.power.cases.get_mut(&host) {
            if let Err(error @ (OrderError::NotSent(_) | OrderError::MaybeSent(_))) = result {
                case.error = Some(Text::new(format!("{device} {error}")));
            }
            if let Some(given) = case.given.get_mut(&device) {
                given.answered(result.clone());
            }
        }
        true
    }

    fn power_command(&mut self, cx: &mut Context<'_>, host: &HostName, command: PowerOnCommand) {
        self.command(cx, Key::PowerOn(host.clone()), LeaderCommand::PowerOn(command));
    }

    fn say_of_power(&mut self, host: &HostName, text: &str) {
        if let Some(case) = self.power.cases.get_mut(host) {
            case.text = Text::new(text);
        }
    }
}

/// How long one order to power on may take.
pub(super) fn on_lasts(cx: &Context<'_>) -> Duration {
    cx.setup.policy.device_timeout + ON_SLACK
}
