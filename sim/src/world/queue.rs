//! What is to happen, in the order of time; what is due at one moment, in the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rekindle_coordinator::time::Moment;

/// A queue of happenings. The happenings themselves stay where they are: the heap moves three numbers.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Moment, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    pub(super) fn put(&mut self, at: Moment, happening: T) {
        self.sequence += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(happening);
                slot
            }
            None => {
                self.slots.push(Some(happening));
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.heap.push(Reverse((at, self.sequence, slot)));
    }

    /// The next happening not after `until`.
    pub(super) fn next(&mut self, until: Moment) -> Option<(Moment, T)> {
        let Reverse((at, _, slot)) = *self.heap.peek()?;
        if at > until {
            return None;
        }
        self.heap.pop();
        self.free.push(slot);
        self.slots[slot as usize].take().map(|happening| (at, happening))
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

/// A host's own clocks against the world's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// Parts in a million by which the monotonic clock is fast.
    ppm: i64,
    /// Where the world stood, and what the clock showed, when that began.
    base: (u64, u64),
    /// What the wall clock is ahead by, in milliseconds.
    pub(super) wall_ahead: i64,
}

impl Clock {
    pub(super) fn show(&self, world: Moment) -> Moment {
        if self.ppm == 0 && self.base.0 == self.base.1 {
            return world;
        }
        let passed = world.as_micros().saturating_sub(self.base.0);
        let drifted = i128::from(passed) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Moment::from_micros(self.base.1 + u64::try_from(drifted).unwrap_or(0))
    }

    /// When the world's clock will stand where this clock shows `local`, not before.
    pub(super) fn when(&self, local: Moment) -> Moment {
        if self.ppm == 0 && self.base.0 == self.base.1 {
            return local;
        }
        let left = local.as_micros().saturating_sub(self.base.1);
        let stretched = i128::from(left) * 1_000_000 / i128::from(1_000_000 + self.ppm);
        Moment::from_micros(self.base.0 + u64::try_from(stretched).unwrap_or(0) + u64::from(left > 0))
    }

    pub(super) fn set_drift(&mut self, world: Moment, ppm: i32) {
        self.base = (world.as_micros(), self.show(world).as_micros());
        self.ppm = i64::from(ppm.clamp(-100_000, 100_000));
    }

    /// It stood still for so long.
    pub(super) fn lose(&mut self, world: Moment, lost: Duration) {
        let shown = (self.show(world) - lost).as_micros();
        self.base = (world.as_micros(), shown);
    }
}
