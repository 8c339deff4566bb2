//! What happened when, bounded.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

/// Records kept by one fake before the oldest are dropped: an hour of a busy test, a few tens of MiB at most.
pub(super) const RECORDS_MAX: usize = 200_000;

/// A moment on both clocks: the first orders, the second is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct When {
    /// Monotonic: compare these.
    pub at: Instant,
    /// Wall clock: show these.
    pub wall: SystemTime,
}

impl When {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }
}

/// A log that forgets its oldest lines.
#[derive(Debug)]
pub(super) struct Records<T>(VecDeque<T>);

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Records<T> {
    pub(super) fn push(&mut self, record: T) {
        if self.0.len() >= RECORDS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    pub(super) fn all(&self) -> Vec<T> {
        self.0.iter().cloned().collect()
    }

    /// The latest record for which this holds.
    pub(super) fn latest_mut(&mut self, holds: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.0.iter_mut().rev().find(|record| holds(record))
    }
}
