//! Which level of a host's fence devices is tried next.

use std::collections::BTreeMap;

use rekindle_proto::fact::{DeviceName, Text};

use super::Leader;
use super::devices::ReadFor;
use super::fence::{BETWEEN_ATTEMPTS, PREREAD_AGE_MAX};
use crate::context::Context;
use crate::fencing::DeviceEntry;
use crate::ledger::Incident;
use crate::mutant::{Guard, keeps};

/// Readings of a device that never told its GUID, before its level is passed over.
const PREREADS_MAX: u32 = 3;

/// Leaders that may each spend their tries on one level of one incident.
const LEADERS_MAX: usize = 4;

/// What is tried next.
pub(super) enum Choice {
    Level(u8, Vec<DeviceName>),
    Reading,
    None(Text),
}

impl Leader {
    /// The lowest level with tries left whose devices are all bound. A device not read lately is read first.
    pub(super) fn choose_level(&mut self, cx: &mut Context<'_>, incident: &Incident) -> Choice {
        let entries: Vec<DeviceEntry> = self.devices.of(&incident.host).into_iter().cloned().collect();
        if entries.is_empty() {
            return Choice::None(Text::new(format!(
                "no fence device is configured for {}: see [[fence_device]]; then resume",
                incident.host
            )));
        }
        let now = cx.now.mono;
        let mut levels: BTreeMap<u8, Vec<&DeviceEntry>> = BTreeMap::new();
        for entry in &entries {
            levels.entry(entry.plan.level).or_default().push(entry);
        }
        let mut reasons: Vec<String> = Vec::new();
        for (level, devices) in levels {
            let skip = usize::try_from(incident.attempts_before_resume).unwrap_or(usize::MAX);
            let tried = || incident.attempts.iter().skip(skip).filter(|attempt| attempt.level == level);
            // Attempts that ended with their leader say nothing of the device; yet they must end somewhere.
            // Nor do those that gave a proof which was voided later: the device did its part.
            let voided = usize::try_from(incident.voided).unwrap_or(usize::MAX);
            let tries = tried().filter(|attempt| attempt.author == self.author).count().saturating_sub(voided);
            let more = self.fences.get(&incident.id).map_or(0, |fence| fence.silence.more_tries());
            let limit = if keeps(Guard::Tries) { cx.setup.policy.fence_tries.saturating_add(more) } else { 0 };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            if tries >= limit || tried().count() >= limit.saturating_mul(LEADERS_MAX) {
                let tries = tried().count();
                let last = incident.attempts.iter().rev().find(|attempt| attempt.level == level);
                let why = last.and_then(|attempt| attempt.failed.as_ref()).map_or("failed", Text::as_str);
                reasons.push(format!("level {level}: {tries} attempts, the last: {why}"));
                continue;
            }
            let fence = self.fences.entry(incident.id).or_default();
            let stale = |entry: &&&DeviceEntry| {
                let age_ok = entry.last.as_ref().is_some_and(|(at, _)| now.since(*at) < PREREAD_AGE_MAX);
                let tries = fence.prereads.get(&entry.plan.name).copied().unwrap_or(0);
                // One fresh reading per incident and device; more only while it is not known to be the host's.
                (!age_ok && tries == 0) || (!entry.binding.counts() && tries < PREREADS_MAX)
            };
            let unread: Vec<DeviceName> = devices.iter().filter(stale).map(|entry| entry.plan.name.clone()).collect();
            if !unread.is_empty() {
                self.preread(cx, incident, unread);
                return Choice::Reading;
            }
            let objection = |entry: &&DeviceEntry| {
                let why = entry.binding.objection().filter(|_| keeps(Guard::DeviceBinding))?;
                Some(format!("{}: {why}", entry.plan.name))
            };
            let unbound = devices.iter().find_map(objection);
            match unbound {
                None => return Choice::Level(level, devices.iter().map(|entry| entry.plan.name.clone()).collect()),
                Some(why) => reasons.push(format!("level {level}: not bound to this host: {why}")),
            }
        }
        Choice::None(Text::new(format!("no fence device can prove it off: {}", reasons.join("; "))))
    }

    fn preread(&mut self, cx: &mut Context<'_>, incident: &Incident, devices: Vec<DeviceName>) {
        let now = cx.now.mono;
        for device in devices {
            if self.is_reading(cx, &device) {
                continue;
            }
            let fence = self.fences.entry(incident.id).or_default();
            if let Some(due) = fence.preread_due.filter(|due| now < *due) {
                self.wake_at(due);
                continue;
            }
            let tries = fence.prereads.entry(device.clone()).or_default();
            *tries += 1;
            if *tries > 1 {
                fence.preread_due = Some(now + BETWEEN_ATTEMPTS);
            }
            let tries = *tries;
            let by = self.preread_by(cx, &incident.host, &device, tries);
            self.read_device_by(cx, by.as_ref(), &incident.host, &device, ReadFor::Binding(incident.id));
        }
    }
}
