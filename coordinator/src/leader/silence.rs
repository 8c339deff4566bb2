//! A fence device that fell silent at our last order: it may answer a moment later, and then one more order is worth more
//! than a person's night.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, Text};

use super::Leader;
use crate::context::Context;
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
    /// How often it was read meanwhile.
    turn: u32,
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
        let is_new = silence.since.is_none();
        let since = *silence.since.get_or_insert(now);
        if now.since(since) >= WAIT_MAX {
            return false;
        }
        let (turn, due) = (silence.turn, silence.read.map_or(now, |read| read + READ_EVERY));
        let others = self.other_voters(cx, &incident.host);
        let devices = self.devices.of(&incident.host);
        let level = |level: u8| -> Vec<DeviceName> {
            let of_level = devices.iter().filter(|entry| entry.plan.level == level);
            of_level.map(|entry| entry.plan.name.clone()).collect()
        };
        let levels: BTreeSet<u8> = devices.iter().map(|entry| entry.plan.level).collect();
        let levels: Vec<Vec<DeviceName>> = levels.into_iter().map(level).collect();
        let fence = self.fences.entry(id).or_default();
        if is_new {
            fence.reach.forget();
        }
        if levels.iter().any(|devices| fence.reach.of(devices, &others).is_some()) {
            // The next attempt is chosen like any other, and whoever reads the device executes it; should it fail unheard again,
            // the wait begins anew.
            fence.silence.more += 1;
            fence.silence.since = None;
            fence.before = None;
            self.touch();
            return true;
        }
        if due <= now {
            let by = self.reader(cx, &incident.host, turn + 1);
            if self.look(cx, id, std::slice::from_ref(&incident.host), by.as_ref()) {
                let silence = &mut self.fences.entry(id).or_default().silence;
                (silence.read, silence.turn) = (Some(now), turn.saturating_add(1));
            }
        }
        let left = (since + WAIT_MAX).since(now).as_secs();
        self.hold(now, id, format!("waiting {left} s more for its fence device to answer: {why}"));
        true
    }
}
