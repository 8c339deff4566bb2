//! What each guest did last: so that a failure is told once, and one that was missed is found.
//!
//! Pure. Events and lists may overtake each other (an event waits in the queue while a newer list is read); both lead
//! to the same end, and neither tells a failure twice.

use std::collections::BTreeMap;

use rekindle_proto::fact::GuestEvent;
use rekindle_proto::id::ServerId;

use super::lifecycle::{Lifecycle, State};

/// What we last knew of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A process runs it.
    Running,
    /// A process waits for it to migrate here; it runs at the source.
    Incoming,
    /// It failed, and that was told.
    Failed,
    /// It is off.
    Off,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    phase: Phase,
    /// Its definition was removed while it ran: it is gone as soon as it stops.
    undefined: bool,
}

/// The last known phase of every guest of this host. As large as the hypervisor's own list.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    guests: BTreeMap<ServerId, Known>,
    /// Whether a list was read before: the first one is news in itself, and says nothing of the past.
    listed: bool,
}

impl Tracker {
    /// Takes an event. What to tell of it, in order; mostly nothing or one thing.
    pub(super) fn observe(&mut self, server: ServerId, what: Lifecycle) -> Vec<GuestEvent> {
        let before = self.guests.get(&server).copied();
        match what {
            // QEMU's processors are told to go before libvirt calls the guest started: one start is both.
            Lifecycle::Started | Lifecycle::Resumed => self.runs(server, Phase::Running),
            Lifecycle::Incoming => self.runs(server, Phase::Incoming),
            Lifecycle::Suspended(_) => {
                // A guest that was paused at the source arrives by being suspended here.
                if before.is_some_and(|known| known.phase == Phase::Incoming) {
                    self.set_phase(server, Phase::Running);
                }
                vec![]
            }
            Lifecycle::Panicked => match before.map(|known| known.phase) {
                Some(Phase::Failed) => vec![],
                Some(Phase::Running | Phase::Incoming | Phase::Off) | None => {
                    self.set_phase(server, Phase::Failed);
                    vec![GuestEvent::Failed]
                }
            },
            Lifecycle::Died(_) => match before.map(|known| known.phase) {
                Some(Phase::Failed) => self.off(server, Phase::Failed, None),
                // The guest lives on at the source; only its place here is gone.
                Some(Phase::Incoming) => self.off(server, Phase::Off, Some(GuestEvent::Stopped)),
                // It never ran: a start that failed, which whoever started it is told.
                Some(Phase::Off) => vec![],
                Some(Phase::Running) | None => self.off(server, Phase::Failed, Some(GuestEvent::Failed)),
            },
            Lifecycle::Ended(_) => self.off(server, Phase::Off, Some(GuestEvent::Stopped)),
            Lifecycle::Undefined => match before.map(|known| known.phase) {
                Some(Phase::Running | Phase::Incoming) => {
                    self.guests.entry(server).and_modify(|known| known.undefined = true);
                    vec![]
                }
                Some(Phase::Failed | Phase::Off) | None => {
                    self.guests.remove(&server);
                    vec![GuestEvent::Undefined]
                }
            },
            Lifecycle::Other => vec![],
        }
    }

    /// Takes a whole list: what happened that no event told. `complete` = nothing is missing from it.
    pub(super) fn reconcile(
        &mut self,
        list: &BTreeMap<ServerId, State>,
        complete: bool,
    ) -> Vec<(ServerId, GuestEvent)> {
        let mut missed = Vec::new();
        for (server, state) in list {
            let before = self.guests.get(server).map(|known| known.phase);
            let (phase, event) = step(before, *state, self.listed);
            let undefined = self.guests.get(server).is_some_and(|known| known.undefined);
            self.guests.insert(*server, Known { phase, undefined });
            missed.extend(event.map(|event| (*server, event)));
        }
        if complete {
            self.guests.retain(|server, _| {
                let stays = list.contains_key(server);
                if !stays {
                    missed.push((*server, GuestEvent::Undefined));
                }
                stays
            });
            self.listed = true;
        }
        missed
    }

    /// A process runs it: news, unless one did already.
    fn runs(&mut self, server: ServerId, phase: Phase) -> Vec<GuestEvent> {
        match self.guests.insert(server, Known { phase, undefined: false }) {
            Some(Known { phase: Phase::Running | Phase::Incoming, undefined }) => {
                self.guests.insert(server, Known { phase, undefined });
                vec![]
            }
            Some(Known { phase: Phase::Failed | Phase::Off, .. }) | None => vec![GuestEvent::Running],
        }
    }

    fn set_phase(&mut self, server: ServerId, phase: Phase) {
        self.guests.entry(server).or_insert(Known { phase, undefined: false }).phase = phase;
    }

    /// It stopped. If its definition was removed before, it is gone as well.
    fn off(&mut self, server: ServerId, phase: Phase, event: Option<GuestEvent>) -> Vec<GuestEvent> {
        let mut events: Vec<GuestEvent> = event.into_iter().collect();
        if self.guests.get(&server).is_some_and(|known| known.undefined) {
            self.guests.remove(&server);
            events.push(GuestEvent::Undefined);
        } else {
            self.set_phase(server, phase);
        }
        events
    }
}

/// From what we knew to what a list shows: the new phase, and what must have happened between.
fn step(before: Option<Phase>, state: State, listed: bool) -> (Phase, Option<GuestEvent>) {
    let ran = matches!(before, Some(Phase::Running | Phase::Incoming));
    // In the first list, everything is new and nothing has happened.
    let news = |event| if listed || before.is_some() { Some(event) } else { None };
    match state {
        State::Active if before == Some(Phase::Incoming) => (Phase::Running, None),
        State::Active => (Phase::Running, if ran { None } else { news(GuestEvent::Running) }),
        State::Incoming if before == Some(Phase::Running) => (Phase::Running, None),
        State::Incoming => (Phase::Incoming, if ran { None } else { news(GuestEvent::Running) }),
        State::Panicked if before == Some(Phase::Failed) => (Phase::Failed, None),
        State::Panicked => (Phase::Failed, news(GuestEvent::Failed)),
        State::Died(_) => match before {
            Some(Phase::Running) => (Phase::Failed, Some(GuestEvent::Failed)),
            Some(Phase::Incoming) => (Phase::Off, Some(GuestEvent::Stopped)),
            Some(Phase::Failed) => (Phase::Failed, None),
            // Died before we looked, and long ago for all we know: the list shows that it does not run.
            Some(Phase::Off) | None => (Phase::Off, None),
        },
        State::Off(_) => match before {
            Some(Phase::Running | Phase::Incoming) => (Phase::Off, Some(GuestEvent::Stopped)),
            Some(Phase::Failed) => (Phase::Failed, None),
            Some(Phase::Off) | None => (Phase::Off, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GuestEvent::{Failed, Running, Stopped, Undefined};
    use uuid::Uuid;

    fn server(number: u128) -> ServerId {
        ServerId(Uuid::from_u128(number))
    }

    fn told(events: &[Lifecycle]) -> Vec<GuestEvent> {
        let mut tracker = Tracker::default();
        events.iter().flat_map(|event| tracker.observe(server(1), *event)).collect()
    }

    #[test]
    fn each_failure_is_told_once() {
        use Lifecycle::{Died, Ended, Incoming, Other, Panicked, Resumed, Started, Suspended};
        let paused = Suspended("paused");
        let table: &[(&str, &[Lifecycle], &[GuestEvent])] = &[
            ("kill -9", &[Started, Died("failed")], &[Running, Failed]),
            ("destroy", &[Started, Other, Ended("destroyed")], &[Running, Stopped]),
            (
                "panic, preserved, then destroyed",
                &[Started, paused, Panicked, Ended("destroyed")],
                &[Running, Failed, Stopped],
            ),
            ("panic, on_crash=destroy", &[Started, paused, Panicked, Died("crashed")], &[Running, Failed]),
            ("panic, on_crash=restart", &[Started, paused, Panicked, Other, Resumed], &[Running, Failed, Running]),
            (
                "dies again after a restart",
                &[Started, Died("failed"), Started, Died("failed")],
                &[Running, Failed, Running, Failed],
            ),
            ("a start as QEMU's is told", &[Resumed, Started], &[Running]),
            ("suspend, resume", &[Started, paused, Resumed], &[Running]),
            ("migrated away", &[Started, Ended("migrated"), Lifecycle::Undefined], &[Running, Stopped, Undefined]),
            ("migrated in, then dies", &[Incoming, Resumed, Died("failed")], &[Running, Failed]),
            ("migrated in paused, then dies", &[Incoming, paused, Died("failed")], &[Running, Failed]),
            ("migration to here fails", &[Incoming, Died("failed")], &[Running, Stopped]),
            ("a start that fails", &[Started, Ended("shutdown"), Died("failed")], &[Running, Stopped]),
            ("dies, never heard of", &[Died("failed")], &[Failed]),
            (
                "undefined while it runs",
                &[Started, Lifecycle::Undefined, Ended("destroyed")],
                &[Running, Stopped, Undefined],
            ),
            (
                "undefined while it runs, dies",
                &[Started, Lifecycle::Undefined, Died("failed")],
                &[Running, Failed, Undefined],
            ),
        ];
        for (case, events, expected) in table {
            assert_eq!(told(events), *expected, "{case}");
        }
    }

    fn list(states: &[(u128, State)]) -> BTreeMap<ServerId, State> {
        states.iter().map(|(number, state)| (server(*number), *state)).collect()
    }

    #[test]
    fn a_reconnect_finds_what_was_missed() {
        let mut tracker = Tracker::default();
        let before: Vec<(u128, State)> = (1..=7).map(|number| (number, State::Active)).collect();
        let first = tracker.reconcile(
            &list(&[&before[..], &[(8, State::Off("shutdown")), (9, State::Died("failed"))]].concat()),
            true,
        );
        assert_eq!(first, [], "a first list is no news");
        let second = list(&[
            (1, State::Active),
            (2, State::Died("crashed")),
            (3, State::Died("failed")),
            (4, State::Off("destroyed")),
            (5, State::Off("unknown")),
            (6, State::Panicked),
            (8, State::Active),
            (9, State::Died("failed")),
            (10, State::Active),
        ]);
        let expected = [
            (2, Failed),
            (3, Failed),
            (4, Stopped),
            (5, Stopped),
            (6, Failed),
            (8, Running),
            (10, Running),
            (7, Undefined),
        ];
        let expected = expected.map(|(number, event)| (server(number), event));
        assert_eq!(tracker.reconcile(&second, true), expected);
        assert_eq!(tracker.reconcile(&second, true), [], "told once");
        assert_eq!(tracker.observe(server(3), Lifecycle::Died("failed")), [], "the event that waited behind the list");
    }

    #[test]
    fn what_an_incomplete_list_lacks_is_not_gone() {
        let mut tracker = Tracker::default();
        tracker.reconcile(&list(&[(1, State::Active), (2, State::Active)]), true);
        assert_eq!(tracker.reconcile(&list(&[(1, State::Died("failed"))]), false), [(server(1), Failed)]);
        assert_eq!(tracker.observe(server(2), Lifecycle::Died("failed")), [Failed], "still known to run");
    }

    #[test]
    fn an_event_before_the_list_that_shows_it_is_told_once() {
        let mut tracker = Tracker::default();
        tracker.reconcile(&list(&[(1, State::Active)]), true);
        assert_eq!(tracker.observe(server(1), Lifecycle::Died("failed")), [Failed]);
        assert_eq!(tracker.reconcile(&list(&[(1, State::Died("crashed"))]), true), []);
    }
}
