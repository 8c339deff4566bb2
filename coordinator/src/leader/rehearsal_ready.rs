//! Whether a host may be switched off to rehearse its fencing, now: everything that the ledger does not know.

use std::time::Duration;

use rekindle_proto::fact::{DeviceName, PowerState, Text};
use rekindle_proto::id::{BootId, HostName};

use super::Leader;
use super::devices::ReadFor;
use super::rehearsal::Empty;
use crate::context::Context;
use crate::fencing::{DeviceEntry, guid_names};
use crate::ledger::{Rehearsal, RehearsedDevice};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// What is not there a minute after the order is not waited for: an operator stands by, and may order it again.
const ASKED_MAX: Duration = Duration::from_secs(60);

/// A word of the host this young says that it lives: it is asked every second.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// Between two readings of a device that gave no answer.
const READ_EVERY: Duration = Duration::from_secs(3);

/// Whether it may begin.
pub(super) enum Readiness {
    /// It is empty, alive in that boot, and these devices, of that level, read on.
    Ready { boot: BootId, level: u8, devices: Vec<RehearsedDevice> },
    /// Not yet.
    Waits(Text),
    /// No.
    No(Text),
}

impl Leader {
    pub(super) fn readiness(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) -> Readiness {
        let late = self.rehearsal.case.as_ref().is_some_and(|case| cx.now.mono >= case.since + ASKED_MAX);
        match self.looked_at(cx, rehearsal) {
            Readiness::Waits(text) if late => Readiness::No(text),
            word @ (Readiness::Ready { .. } | Readiness::Waits(_) | Readiness::No(_)) => word,
        }
    }

    fn looked_at(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) -> Readiness {
        let host = &rehearsal.host;
        if let Err(why) = cx.ledger.may_rehearse(host).and_then(|()| can_spare(cx, host)) {
            return Readiness::No(why);
        }
        let (level, names) = match self.rehearsed_level(rehearsal) {
            Ok(level) => level,
            Err(why) => return Readiness::No(why),
        };
        let boot = match self.heard_now(cx, rehearsal) {
            Ok(boot) => boot,
            Err(text) => return Readiness::Waits(text),
        };
        let devices = match self.read_before(cx, rehearsal, &names) {
            Ok(devices) => devices,
            Err(word) => return word,
        };
        match self.rehearsal.case.as_ref().map(|case| &case.nova) {
            Some(Empty::Yes) => {}
            Some(Empty::No(_)) if !keeps(Guard::RehearsedEmpty) => {}
            Some(Empty::No(why)) => return Readiness::No(why.clone()),
            Some(Empty::Asked) | None => return Readiness::Waits("Nova is asked whether it is empty".into()),
            Some(Empty::NotAsked) => {
                self.ask_if_empty(cx, rehearsal);
                return Readiness::Waits("Nova is asked whether it is empty".into());
            }
        }
        match self.rehearsal_permit(cx, host) {
            Ok(_permit) => Readiness::Ready { boot, level, devices },
            Err(hold) => Readiness::Waits(Text::new(hold.to_string())),
        }
    }

    /// The level that was asked for, else the lowest, with its devices.
    fn rehearsed_level(&self, rehearsal: &Rehearsal) -> Result<(u8, Vec<DeviceName>), Text> {
        let entries = self.devices.of(&rehearsal.host);
        let lowest = entries.iter().map(|entry| entry.plan.level).min();
        let Some(level) = rehearsal.level.or(lowest) else {
            return Err(Text::new(format!(
                "no fence device is configured for {}: see [[fence_device]]",
                rehearsal.host
            )));
        };
        let of_level = entries.iter().filter(|entry| entry.plan.level == level);
        let names: Vec<DeviceName> = of_level.map(|entry| entry.plan.name.clone()).collect();
        if names.is_empty() {
            return Err(Text::new(format!("{} has no fence device of level {level}", rehearsal.host)));
        }
        Ok((level, names))
    }

    /// The boot in which it answered a moment ago, if that is the one in which it said that it is empty.
    fn heard_now(&self, cx: &Context<'_>, rehearsal: &Rehearsal) -> Result<BootId, Text> {
        let (host, now) = (&rehearsal.host, cx.now.mono);
        let since = self.rehearsal.case.as_ref().map_or(now, |case| case.since);
        let heard = cx.heard.get(host).filter(|heard| heard.at > since && now.since(heard.at) < HEARD_WITHIN);
        let Some(heard) = heard.filter(|_| cx.is_alive(host)) else { return Err("waiting to hear it".into()) };
        let said = cx.ledger.host(host).and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot);
        if said != Some(heard.boot) {
            return Err("waiting for its own word what runs there, in its present boot".into());
        }
        Ok(heard.boot)
    }

    /// Each device was read since the order, says on, and does not say that it is another host's.
    fn read_before(
        &mut self,
        cx: &mut Context<'_>,
        rehearsal: &Rehearsal,
        names: &[DeviceName],
    ) -> Result<Vec<RehearsedDevice>, Readiness> {
        let now = cx.now.mono;
        let since = self.rehearsal.case.as_ref().map_or(now, |case| case.since);
        let fresh = |entry: &&DeviceEntry| entry.last.as_ref().is_some_and(|(at, _)| *at >= since);
        let mut devices = Vec::new();
        let mut lacks: Vec<(DeviceName, Text)> = Vec::new();
        for name in names {
            let entry = self.devices.get(name);
            match entry.filter(fresh).and_then(|entry| Some((entry, &entry.last.as_ref()?.1.power))) {
                Some((entry, Ok(PowerState::On))) => {
                    if let Some(other) = names_another(cx, entry) {
                        return Err(Readiness::No(Text::new(format!("{name} is {other}'s, by its GUID"))));
                    }
                    // What it tells now: it may have been exchanged for one that tells none.
                    let told = entry.last.as_ref().and_then(|(_, reading)| reading.guid.clone());
                    let guid = told.map_or(entry.told, Result::ok);
                    devices.push(RehearsedDevice { name: name.clone(), guid });
                }
                Some((_, Ok(PowerState::Off))) => {
                    let text =
                        format!("{name} reads off while {} is heard: it lies, or is another machine's", rehearsal.host);
                    return Err(Readiness::No(Text::new(text)));
                }
                Some((_, Err(error))) => lacks.push((name.clone(), Text::new(format!("{name} {error}")))),
                None => lacks.push((name.clone(), Text::new(format!("{name} is being read")))),
            }
        }
        let Some((_, text)) = lacks.first().cloned() else { return Ok(devices) };
        self.read_lacking(cx, rehearsal, lacks.into_iter().map(|(name, _)| name).collect(), now);
        Err(Readiness::Waits(text))
    }

    fn read_lacking(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal, names: Vec<DeviceName>, now: Moment) {
        let Some(case) = self.rehearsal.case.as_mut() else { return };
        if case.read.is_some_and(|read| now < read + READ_EVERY) {
            return;
        }
        case.read = Some(now);
        for name in names {
            if !self.is_reading(cx, &name) {
                self.read_device(cx, &rehearsal.host, &name, ReadFor::Rehearsal(rehearsal.id));
            }
        }
    }
}

/// Whether the cluster can do without this host for some minutes.
fn can_spare(cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
    if *host == cx.setup.host {
        let text = format!("{host} leads: restart its rekindled, so that another one does, and order it again");
        return Err(Text::new(text));
    }
    let voters = cx.voters();
    let left = voters.iter().filter(|voter| *voter != host && cx.is_alive(voter)).count();
    if voters.contains(host) && left * 2 <= voters.len() {
        return Err(Text::new(format!("{host} votes, and only {left} of {} voters would be left", voters.len())));
    }
    Ok(())
}

/// Another host of the roster whose machine the device names.
fn names_another(cx: &Context<'_>, entry: &DeviceEntry) -> Option<HostName> {
    let guid = entry.told?;
    let names = |host: &&HostName| super::system_uuid(cx, host).is_some_and(|machine| guid_names(guid, machine));
    cx.ledger.roster.keys().filter(|host| **host != entry.host).find(names).cloned()
}
