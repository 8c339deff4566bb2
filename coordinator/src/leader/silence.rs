//! A fence device that fell silent at our last order: it may answer a moment later, and then one more order is worth more
//! than a person's night.

use std::time::Duration;

use rekindle_proto::fact::{DeviceName, Text};

use super::Leader;
use super::devices::ReadFor;
use crate::context::Context;
use crate::fencing::DeviceEntry;
use crate::ledger::Incident;
use crate::time::Moment;

/// How long a device that did not answer the last order is waited for. A management controller restarts in one to two
/// minutes; one whose supply failed does not, and then a person must know soon.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Between two readings meanwhile.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Attempts beyond the configured tries, each given only to a device that has answered again.
const MORE_TRIES_MAX: u32 = 2;

/// What a leader knows of the silence of a host's devices.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The last attempt's order was not answered.
    unheard: bool,
    /// The tries are used up since then.
    since: Option<Moment>,
    read: Option<Moment>,
    more: u32,
}

impl Silence {
    /// An attempt of this leader has failed. `unheard`: its order was not answered.
    pub(super) fn attempt_failed(&mut self, unheard: bool) {
        self.unheard = unheard;
    }

    /// Attempts allowed beyond the configured tries.
    pub(super) fn more_tries(&self) -> u32 {
        self.more
    }
}

impl Leader {
    /// All tries are used up: whether a device that did not answer the last one is still waited for.
    pub(super) fn waits_for_device(&mut self, cx: &mut Context<'_>, incident: &Incident, why: &Text) -> bool {
        let (id, now) = (incident.id, cx.now.mono);
        let Some(silence) = self.fences.get_mut(&id).map(|fence| &mut fence.silence) else { return false };
        if !silence.unheard || silence.more >= MORE_TRIES_MAX {
            return false;
        }
        if silence.since.is_none() {
            let text =
                format!("its fence device is silent, and is waited for, at most {} s: {why}", WAIT_MAX.as_secs());
            cx.out.warn(Some(&incident.host), text);
        }
        let since = *silence.since.get_or_insert(now);
        if now.since(since) >= WAIT_MAX {
            return false;
        }
        let devices = self.devices.of(&incident.host);
        let has_answered =
            |entry: &DeviceEntry| entry.last.as_ref().is_some_and(|(at, reading)| *at > since && reading.power.is_ok());
        let of_level = |level: u8| devices.iter().filter(move |entry| entry.plan.level == level);
        let a_level_answers = devices.iter().any(|one| of_level(one.plan.level).all(|entry| has_answered(entry)));
        let names: Vec<DeviceName> = devices.iter().map(|entry| entry.plan.name.clone()).collect();
        if a_level_answers {
            let silence = &mut self.fences.entry(id).or_default().silence;
            // The next attempt is chosen like any other; should it fail unheard again, the wait begins anew.
            silence.more += 1;
            silence.since = None;
            // It was we who read it.
            self.fences.entry(id).or_default().before = None;
            self.touch();
            return true;
        }
        let silence = &mut self.fences.entry(id).or_default().silence;
        let due = silence.read.map_or(now, |read| read + READ_EVERY);
        if due <= now {
            silence.read = Some(now);
            for device in names {
                if !self.is_reading(cx, &device) {
                    self.read_device(cx, &incident.host, &device, ReadFor::Binding(id));
                }
            }
        }
        let left = (since + WAIT_MAX).since(now).as_secs();
        self.hold(now, id, format!("waiting {left} s more for its fence device to answer: {why}"));
        true
    }
}
