//! The second half of a rehearsal: power again, and the host's return.

use std::time::Duration;

use rekindle_proto::fact::{DeviceName, OrderError, PowerState, Text};
use rekindle_proto::id::{BootId, CallId, WallTime};

use super::Leader;
use super::fence::attempt_lasts;
use super::power_on::on_lasts;
use crate::context::Context;
use crate::fencing::{Due, Given};
use crate::io::Output;
use crate::ledger::{Finding, OFF_SETTLE_MS, ON_TRIES_MAX, Rehearsal, RehearsalEnd, RehearseCommand};
use crate::mutant::{Guard, keeps};
use crate::order::PowerOnOrder;
use crate::time::Moment;

/// How long a host may take to come back: large servers test their memory for ten minutes before they boot.
const RETURN_MAX: Duration = Duration::from_secs(1_200);

/// A device that does not read on so long after its order is ordered again.
const ON_RETRY: Duration = Duration::from_secs(60);

/// Between two readings meanwhile.
const READ_EVERY: Duration = Duration::from_secs(5);

/// See [`OFF_SETTLE_MS`].
const SETTLE: Duration = Duration::from_millis(OFF_SETTLE_MS);

impl Leader {
    pub(super) fn rehearsal_on(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let (id, now, host) = (rehearsal.id, cx.now.mono, &rehearsal.host);
        let Some(case) = self.rehearsal.case.as_ref() else { return };
        let (since, on_seen) = (case.since, case.on_seen);
        let settled = case.off_seen.unwrap_or(now) + attempt_lasts(cx) + SETTLE;
        if !rehearsal.off_settled && keeps(Guard::OffSettled) {
            if now >= settled {
                return self.rehearse_command(cx, host, RehearseCommand::OffSettled { id });
            }
            let left = settled.since(now).as_secs();
            self.wake_at(settled);
            let text = format!("power again in {left} s, when nothing of the off order can have an effect any more");
            return self.rehearsal_waits(now, text);
        }
        if now >= since + RETURN_MAX {
            return self.end_stuck(cx, rehearsal);
        }
        self.read_rehearsed(cx, rehearsal, READ_EVERY);
        let unread = |device: &DeviceName| {
            self.devices.get(device).and_then(|entry| entry.last.as_ref()).is_none_or(|(at, _)| *at < since)
        };
        if rehearsal.devices.iter().any(|device| unread(&device.name)) {
            return self.rehearsal_waits(now, "its fence devices are being read");
        }
        let dark = self.dark_devices(rehearsal, since);
        let back = cx.heard.get(host).filter(|heard| heard.at > since && cx.is_alive(host)).map(|heard| heard.boot);
        let lacks_power = !dark.is_empty() || back.is_none();
        let may_order = on_seen.is_none_or(|(attempt, seen)| attempt < ON_TRIES_MAX && now >= seen + ON_RETRY);
        if lacks_power && may_order && (rehearsal.on.is_none() || !dark.is_empty()) {
            return self.intend_power_on(cx, rehearsal);
        }
        self.give_power(cx, rehearsal);
        let on_settled = on_seen.map_or(now, |(_, seen)| seen + on_lasts(cx) + SETTLE);
        match back {
            Some(boot) if dark.is_empty() && now >= on_settled => self.judge_return(cx, rehearsal, boot),
            Some(_) if dark.is_empty() => {
                self.wake_at(on_settled);
                let left = on_settled.since(now).as_secs();
                let text = format!("it is back; waiting {left} s more for the order to be over");
                self.rehearsal_waits(now, text);
            }
            Some(_) | None => {
                let text = self.return_words(rehearsal, &dark, (since + RETURN_MAX).since(now));
                self.rehearsal_waits(now, text);
            }
        }
    }

    /// It speaks, and all its devices read on.
    fn judge_return(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal, boot: BootId) {
        let (id, now, host) = (rehearsal.id, cx.now.mono, &rehearsal.host);
        let is_new = Some(boot) != rehearsal.boot;
        let (end, why) = match &rehearsal.finding {
            Some(Finding::Dark { .. }) if is_new || !keeps(Guard::RehearsedSilence) => {
                let said = cx.ledger.host(host).and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot);
                if said != Some(boot) {
                    return self.rehearsal_waits(now, "it is back; waiting for its own word in its new boot");
                }
                (RehearsalEnd::Passed, format!("passed: {host} is back in boot {boot}; its fence devices are its own"))
            }
            Some(Finding::Dark { .. }) => {
                let why = format!("{host} speaks again in the same boot: what read off was not its power");
                (RehearsalEnd::Failed, why)
            }
            Some(Finding::Lies { why }) => (RehearsalEnd::Failed, format!("FAILED, power is on again: {why}")),
            Some(Finding::Nothing { why }) => (RehearsalEnd::Failed, format!("not shown, it has power again: {why}")),
            None => (RehearsalEnd::Failed, "not shown".to_owned()),
        };
        if end == RehearsalEnd::Failed {
            self.warn_of_rehearsal(cx, rehearsal, format!("its rehearsal {id}: {why}"));
        }
        self.rehearse_command(cx, host, RehearseCommand::End { id, end, why: Text::new(why) });
    }

    fn end_stuck(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let (id, host) = (rehearsal.id, &rehearsal.host);
        let since = self.rehearsal.case.as_ref().map_or(cx.now.mono, |case| case.since);
        let dark = self.dark_devices(rehearsal, since);
        let words = self.return_words(rehearsal, &dark, Duration::ZERO);
        let minutes = RETURN_MAX.as_secs() / 60;
        let is_back = cx.is_alive(host) && cx.heard.get(host).is_some_and(|heard| heard.at > since);
        let (end, why) = if is_back {
            let why = "is heard, and its fence devices do not say that power is on: what is behind them may be off";
            (RehearsalEnd::Failed, format!("{host} {why}. After {minutes} minutes: {words}"))
        } else {
            let what = "look at its console, and at its power; it stays in maintenance";
            (RehearsalEnd::Stuck, format!("{host} was not back within {minutes} minutes: {what}. Last: {words}"))
        };
        self.warn_of_rehearsal(cx, rehearsal, format!("its rehearsal {id}: {why}"));
        self.rehearse_command(cx, host, RehearseCommand::End { id, end, why: Text::new(why) });
    }

    /// Its devices that have not read on since power was to come back.
    fn dark_devices(&self, rehearsal: &Rehearsal, since: Moment) -> Vec<DeviceName> {
        let reads_on = |name: &DeviceName| {
            let last = self.devices.get(name).and_then(|entry| entry.last.as_ref());
            last.is_some_and(|(at, reading)| *at >= since && reading.power == Ok(PowerState::On))
        };
        let names = rehearsal.devices.iter().map(|device| &device.name);
        names.filter(|name| !reads_on(name)).cloned().collect()
    }

    fn return_words(&self, rehearsal: &Rehearsal, dark: &[DeviceName], left: Duration) -> String {
        let errors = self.rehearsal.case.iter().flat_map(|case| &case.on_errors);
        let errors: Vec<String> = errors.map(|(device, error)| format!("{device} {error}")).collect();
        let errors = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
        let names: Vec<&str> = dark.iter().map(|name| name.0.as_str()).collect();
        match (names.is_empty(), rehearsal.on) {
            (true, _) => format!("power is on, waiting for its return, {} s more", left.as_secs()),
            (false, None) => format!("to be powered on: {}", names.join(" and ")),
            (false, Some(on)) => {
                format!("attempt {} to power on: {} does not read on yet{errors}", on.attempt, names.join(" and "))
            }
        }
    }

    fn intend_power_on(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let (now, host) = (cx.now.mono, &rehearsal.host);
        // An attempt that could not order anything would be a try wasted.
        if let Err(hold) = self.rehearsal_permit(cx, host) {
            return self.rehearsal_waits(now, hold.to_string());
        }
        let lasts = i64::try_from(on_lasts(cx).as_millis()).unwrap_or(i64::MAX);
        let command = RehearseCommand::On {
            id: rehearsal.id,
            attempt: rehearsal.on.map_or(0, |on| on.attempt) + 1,
            author: self.author,
            not_after: WallTime(cx.now.wall.0.saturating_add(lasts)),
        };
        self.rehearse_command(cx, host, command);
    }

    /// Gives the orders of the committed attempt, each once (and again if it was surely not sent), as long as its time is not
    /// over.
    fn give_power(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let Some((_, seen)) = self.rehearsal.case.as_ref().and_then(|case| case.on_seen) else { return };
        let deadline = seen + on_lasts(cx);
        let now = cx.now.mono;
        if !rehearsal.may_power_on(self.author) || now >= deadline {
            return;
        }
        for device in rehearsal.devices.iter().map(|device| device.name.clone()) {
            let Some(case) = self.rehearsal.case.as_ref() else { return };
            let due = case.on_given.get(&device).map_or(Due::Now, Given::due);
            if !self.is_to_be_given(now, due) {
                continue;
            }
            let Ok(permit) = self.rehearsal_permit(cx, &rehearsal.host) else { return };
            let call = cx.out.call();
            let order = PowerOnOrder::rehearsed(call, permit, rehearsal, self.author, device.clone(), deadline);
            let (Some(order), Some(case)) = (order, self.rehearsal.case.as_mut()) else { return };
            case.on_given.entry(device.clone()).or_default().give(now);
            case.ons.insert(call, device);
            cx.out.push(Output::PowerOn(order));
        }
    }

    /// A device answered an order to power on.
    pub(crate) fn power_on_done(&mut self, call: CallId, result: Result<(), OrderError>) {
        if self.recovered_on_done(call, &result) {
            return self.touch();
        }
        if let Some(case) = self.rehearsal.case.as_mut()
            && let Some(device) = case.ons.remove(&call)
        {
            if let Some(given) = case.on_given.get_mut(&device) {
                given.answered(result.clone());
            }
            match result {
                Err(OrderError::TooLate) => {}
                Err(error @ (OrderError::NotSent(_) | OrderError::MaybeSent(_))) => {
                    case.on_errors.insert(device, error);
                }
                Ok(()) => {
                    case.on_errors.remove(&device);
                }
            }
        }
        self.touch();
    }
}
