//! What members believe of each other, change by change, for those who measure it. Nobody in the world looks at it.

use super::*;

/// A member's belief about another changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Belief {
    /// When.
    pub at: Moment,
    /// Whose belief: its place in [`World::host_names`].
    pub by: usize,
    /// About whom, likewise.
    pub of: usize,
    /// What it now believes.
    pub state: Believed,
}

/// What a member believes of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Believed {
    /// It is alive.
    Alive,
    /// It may be down.
    Suspect,
    /// It is down.
    Down,
}

/// The changes since they were last taken; none are kept before somebody wants them.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    places: BTreeMap<MemberId, usize>,
    beliefs: Vec<Belief>,
}

impl World {
    /// From now on beliefs are written down.
    pub fn watch_beliefs(&mut self) {
        self.watcher.places = self.hosts.iter().enumerate().map(|(ix, host)| (host.member, ix)).collect();
    }

    /// What changed since this was last asked, in order.
    pub fn take_beliefs(&mut self) -> Vec<Belief> {
        std::mem::take(&mut self.watcher.beliefs)
    }

    /// The moment of a time in the ledger, to the millisecond, while no wall clock has been tampered with.
    #[must_use]
    pub fn moment_of(&self, wall: WallTime) -> Moment {
        Moment::from_micros(wall.millis_since(WallTime(WALL_BEGINS)).saturating_mul(1_000))
    }

    pub(super) fn note_belief(&mut self, by: Ix, of: MemberId, state: &str) {
        let Some(of) = self.watcher.places.get(&of).copied() else { return };
        let state = match state {
            "alive" => Believed::Alive,
            "suspect" => Believed::Suspect,
            _ => Believed::Down,
        };
        self.watcher.beliefs.push(Belief { at: self.now, by, of, state });
    }
}
