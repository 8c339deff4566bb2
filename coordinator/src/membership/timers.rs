//! Foca's timers, and our own, as data.
//!
//! Foca asks for timers and never takes one back: it tells a void one by a token of 8 bits when it comes due. A peer that
//! makes us flap could pile up void timers, and after 256 flaps an old token would be valid again. So there is one slot per
//! purpose, and a later timer takes the slot of an earlier, which is void or says the same (each case is told at [`slot`]).

use std::collections::BTreeMap;
use std::time::Duration;

use foca::Timer;
use rekindle_proto::id::MemberId;

use super::helpers::Errand;
use super::identity::Identity;
use crate::time::Moment;

/// What is to be done when a timer comes due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Foca's own business; `holds` is how often it was put off because we doubted ourselves.
    Swim { timer: Timer<Identity>, holds: u32 },
    /// Announce ourselves to some of those we believe down.
    AnnounceToDown,
    /// Exchange all we know with somebody.
    PushPull,
    /// Say that we got no answer.
    Nack(Errand),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    IndirectProbe,
    Probe,
    Announce,
    Gossip,
    SwimAnnounceToDown,
    AnnounceToDown,
    PushPull,
    Suspicion(MemberId),
    Forget(MemberId),
    Nack(MemberId),
}

/// Why each slot holds one timer only.
fn slot(task: &Task) -> Slot {
    let timer = match task {
        Task::AnnounceToDown => return Slot::AnnounceToDown,
        Task::PushPull => return Slot::PushPull,
        // A member has one probe at a time: its next request says that it no longer waits for the last.
        Task::Nack(errand) => return Slot::Nack(errand.origin),
        Task::Swim { timer, .. } => timer,
    };
    match timer {
        // One probe at a time: the next is begun when the last has ended, or under a new token that voids the old one.
        Timer::SendIndirectProbe { .. } => Slot::IndirectProbe,
        Timer::ProbeRandomMember(_) => Slot::Probe,
        // Each asks for its successor when it comes due; a second chain begins only under a new token.
        Timer::PeriodicAnnounce(_) => Slot::Announce,
        Timer::PeriodicGossip(_) => Slot::Gossip,
        Timer::PeriodicAnnounceDown(_) => Slot::SwimAnnounceToDown,
        // A later suspicion of the same member is of a later life or SWIM incarnation (the earlier was refuted) or bears a
        // new token; if it is the very same, the earlier deadline stands (see `Timers::set`).
        Timer::ChangeSuspectToDown { member_id, .. } => Slot::Suspicion(member_id.member),
        // Forgetting an earlier life does nothing once foca knows a later one.
        Timer::RemoveDown(identity) => Slot::Forget(identity.member),
    }
}

/// All timers of one path, ordered by deadline; those of one moment in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Moment, u64), Task>,
    slots: BTreeMap<Slot, (Moment, u64)>,
    next_serial: u64,
}

impl Timers {
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.queue.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Sets a timer, in place of the one that holds its slot.
    pub(super) fn set(&mut self, deadline: Moment, task: Task) {
        let slot = slot(&task);
        if let Some(held) = self.slots.get(&slot).copied() {
            if matches!(slot, Slot::Suspicion(_)) && self.queue.get(&held).is_some_and(|pending| same(pending, &task)) {
                return;
            }
            self.queue.remove(&held);
        }
        self.put(slot, deadline, task);
    }

    /// Takes the first timer due at `now`, with the moment it was due at.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, Task)> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((deadline, _), task) = entry.remove_entry();
        self.slots.remove(&slot(&task));
        Some((deadline, task))
    }

    /// There was an answer.
    pub(super) fn drop_nack(&mut self, errand: &Errand) {
        let slot = Slot::Nack(errand.origin);
        let held = self.slots.get(&slot).copied();
        let is_it = |held: &(Moment, u64)| matches!(self.queue.get(held), Some(Task::Nack(due)) if due == errand);
        if let Some(held) = held.filter(is_it) {
            self.queue.remove(&held);
            self.slots.remove(&slot);
        }
    }

    /// How late the latest of the timers is on which an accusation rests (our probe, a suspicion).
    pub(super) fn probing_late_by(&self, now: Moment) -> Duration {
        let first = self.probing().map(|(_, (deadline, _))| deadline).min();
        first.map_or(Duration::ZERO, |deadline| now.since(deadline))
    }

    /// Puts off all timers on which an accusation rests, keeping their order.
    pub(super) fn put_off_probing(&mut self, by: Duration) {
        let moved: Vec<_> = self.probing().collect();
        for (slot, held) in moved {
            if let Some(task) = self.queue.remove(&held) {
                self.queue.insert((held.0 + by, held.1), task);
                self.slots.insert(slot, (held.0 + by, held.1));
            }
        }
    }

    fn probing(&self) -> impl Iterator<Item = (Slot, (Moment, u64))> {
        // Those to forget, a day's, are most of them: they come after, and are not gone through.
        let suspicions = Slot::Suspicion(MemberId([0; 16]))..=Slot::Suspicion(MemberId([u8::MAX; 16]));
        let probes = self.slots.range(Slot::IndirectProbe..=Slot::Probe);
        probes.chain(self.slots.range(suspicions)).map(|(slot, held)| (*slot, *held))
    }

    fn put(&mut self, slot: Slot, deadline: Moment, task: Task) {
        let key = (deadline, self.next_serial);
        self.next_serial += 1;
        self.slots.insert(slot, key);
        self.queue.insert(key, task);
    }
}

fn same(a: &Task, b: &Task) -> bool {
    match (a, b) {
        (Task::Swim { timer: a, .. }, Task::Swim { timer: b, .. }) => a == b,
        (Task::AnnounceToDown, Task::AnnounceToDown) | (Task::PushPull, Task::PushPull) => true,
        (Task::Nack(a), Task::Nack(b)) => a == b,
        (Task::Swim { .. } | Task::AnnounceToDown | Task::PushPull | Task::Nack(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timers {
        pub(in super::super) fn len(&self) -> usize {
            assert_eq!(self.queue.len(), self.slots.len());
            self.queue.len()
        }
    }

    fn swim(timer: Timer<Identity>) -> Task {
        Task::Swim { timer, holds: 0 }
    }

    #[test]
    fn timers_of_one_moment_run_in_the_order_in_which_they_were_set() {
        let mut timers = Timers::default();
        let at = Moment::from_micros(5);
        let tasks = [Task::AnnounceToDown, swim(Timer::PeriodicGossip(1)), swim(Timer::ProbeRandomMember(1))];
        tasks.iter().for_each(|task| timers.set(at, task.clone()));
        timers.set(Moment::from_micros(4), swim(Timer::PeriodicAnnounce(1)));
        assert_eq!(timers.next_deadline(), Some(Moment::from_micros(4)));
        assert_eq!(timers.pop_due(Moment::from_micros(3)), None);
        assert_eq!(timers.pop_due(at), Some((Moment::from_micros(4), swim(Timer::PeriodicAnnounce(1)))));
        for task in tasks {
            assert_eq!(timers.pop_due(at), Some((at, task)));
        }
        assert_eq!(timers.pop_due(at), None);
    }

    #[test]
    fn a_later_timer_takes_the_slot_of_a_void_one() {
        let mut timers = Timers::default();
        timers.set(Moment::from_micros(5), swim(Timer::ProbeRandomMember(1)));
        timers.set(Moment::from_micros(9), swim(Timer::ProbeRandomMember(2)));
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.next_deadline(), Some(Moment::from_micros(9)));
    }
}
