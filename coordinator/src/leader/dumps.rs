//! A host whose kernel has crashed, and writes its memory to a disk (kdump): it is dead, and is left to it for a while.
//!
//! Whoever switches it off at once never learns why it crashed. So where the site says so (`kdump_wait`), the first off order
//! waits for the word that `fence_kdump_send` sends from the crash kernel, and where one comes, until the words have stopped or
//! `kdump_longest` is over. Nothing else rests on them: they come as plain UDP, which anybody on that network can send. They
//! prove nothing, and make an order wait. But what a kernel answers while they come is no sign of life (`life.rs`): a forged one
//! can so end the doubt about a host of which only a kernel answers. `docs/fencing.md` tells operators.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, PowerState, Text};
use rekindle_proto::id::HostName;

use super::Leader;
use crate::context::Context;
use crate::ledger::Incident;
use crate::mutant::{Guard, keeps};
use crate::policy::KdumpPolicy;
use crate::time::Moment;

/// Whose words have stopped for so long has finished: `fence_kdump_send` repeats them every 10 s, and one may be lost.
const OVER_AFTER: Duration = Duration::from_secs(25);

/// Hosts of which such words are kept. More at once is no crash of hosts.
const DUMPS_MAX: usize = 64;

/// Which silent hosts say that they dump.
#[derive(Debug, Default)]
pub(super) struct Dumps {
    /// The first and the last word of each.
    words: BTreeMap<HostName, (Moment, Moment)>,
    /// Since when each waits for its first off order.
    waiting: BTreeMap<HostName, Moment>,
}

impl Dumps {
    fn note(&mut self, now: Moment, host: &HostName) {
        if let Some((_, last)) = self.words.get_mut(host) {
            *last = now;
        } else if self.words.len() < DUMPS_MAX {
            self.words.insert(host.clone(), (now, now));
        }
    }

    /// Until when the first off order waits, and whether for the end of a dump; `None`: for nothing.
    fn wait(&mut self, now: Moment, host: &HostName, policy: KdumpPolicy) -> Option<(Moment, bool)> {
        let since = *self.waiting.entry(host.clone()).or_insert(now);
        let (until, dumps) = match self.words.get(host) {
            None => (since + policy.wait, false),
            Some((first, last)) => ((*last + OVER_AFTER).min(*first + policy.longest), true),
        };
        (now < until).then_some((until, dumps))
    }

    /// What is said of a host that is neither silent nor dead is over.
    fn forget(&mut self, is_gone: impl Fn(&HostName) -> bool) {
        self.words.retain(|host, _| is_gone(host));
        self.waiting.retain(|host, _| is_gone(host));
    }
}

impl Leader {
    /// A voter heard a silent host's crash kernel.
    pub(crate) fn dumping(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let is_silent = self.suspects.contains_key(host) || cx.ledger.open_incident(host).is_some();
        if cx.setup.policy.kdump.is_on() && is_silent {
            self.dumps.note(cx.now.mono, host);
            self.touch();
        }
    }

    /// Whether its crash kernel was heard a moment ago: what a kernel answers there is no sign that the host lives.
    pub(super) fn is_dumping(&self, now: Moment, host: &HostName) -> bool {
        self.dumps.words.get(host).is_some_and(|(_, last)| now.since(*last) < OVER_AFTER)
    }

    /// Why the first off order of an incident waits; `None`: it does not.
    pub(super) fn dump_holds(&mut self, cx: &Context<'_>, incident: &Incident, devices: &[DeviceName]) -> Option<Text> {
        let (now, policy) = (cx.now.mono, cx.setup.policy.kdump);
        let is_first = incident.attempts.is_empty() && incident.verdict.path.is_none();
        if !policy.is_on() || !is_first || !keeps(Guard::DumpEnds) {
            return None;
        }
        // Without power nothing dumps.
        let last = |name: &DeviceName| self.devices.get(name).and_then(|entry| entry.last.as_ref());
        if devices.iter().all(|name| last(name).is_some_and(|(_, reading)| reading.power == Ok(PowerState::Off))) {
            return None;
        }
        let (until, dumps) = self.dumps.wait(now, &incident.host, policy)?;
        self.wake_at(until);
        let left = until.since(now).as_secs();
        Some(Text::new(if dumps {
            format!(
                "its kernel has crashed and writes its dump: it is not switched off before that is over (looked at again in {left} s)"
            )
        } else {
            format!("waiting {left} s more for a word of its crash kernel (kdump_wait)")
        }))
    }

    /// Keeps what is said of silent hosts only.
    pub(super) fn watch_dumps(&mut self, cx: &Context<'_>) {
        let suspects = &self.suspects;
        self.dumps.forget(|host| suspects.contains_key(host) || cx.ledger.open_incident(host).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds: when words come, when it is looked; and how long the order waits from then, and for what.
    #[test]
    fn how_long_an_order_waits() {
        let at = |seconds: u64| Moment::ZERO + Duration::from_secs(seconds);
        let policy = KdumpPolicy { wait: Duration::from_secs(60), longest: Duration::from_secs(300) };
        let (waits, dumps, goes_on) = (|s| Some((s, false)), |s| Some((s, true)), None);
        type Row<'a> = (&'a [u64], &'a [(u64, Option<(u64, bool)>)]);
        let rows: [Row<'_>; 5] = [
            // No word: kdump_wait.
            (&[], &[(0, waits(60)), (59, waits(1)), (60, goes_on)]),
            // Words until the dump is written.
            (&[20, 30, 40], &[(0, waits(60)), (20, dumps(25)), (41, dumps(24)), (64, dumps(1)), (65, goes_on)]),
            // One is lost.
            (&[20, 40], &[(0, waits(60)), (39, dumps(6)), (44, dumps(21)), (65, goes_on)]),
            // It had begun before the verdict.
            (&[5, 15], &[(16, dumps(24)), (40, goes_on)]),
            // The first word is the last moment's.
            (&[59], &[(0, waits(60)), (59, dumps(25)), (84, goes_on)]),
        ];
        let host = HostName::new("cmp-01").expect("a name");
        for (words, looks) in rows {
            let mut dumps = Dumps::default();
            for second in 0..100 {
                if words.contains(&second) {
                    dumps.note(at(second), &host);
                }
                if let Some((_, expected)) = looks.iter().find(|(look, _)| *look == second) {
                    let found = dumps.wait(at(second), &host, policy);
                    let found = found.map(|(until, dumps)| (until.since(at(second)).as_secs(), dumps));
                    assert_eq!(found, *expected, "words at {words:?}, at {second} s");
                }
            }
        }
    }

    #[test]
    fn no_dump_is_waited_for_longer_than_the_longest() {
        let policy = KdumpPolicy { wait: Duration::from_secs(60), longest: Duration::from_secs(300) };
        let host = HostName::new("cmp-01").expect("a name");
        let mut dumps = Dumps::default();
        let holds = |seconds: &u64| {
            let now = Moment::ZERO + Duration::from_secs(*seconds);
            if seconds.is_multiple_of(10) {
                dumps.note(now, &host);
            }
            dumps.wait(now, &host, policy).is_some()
        };
        assert_eq!((0..1_000).take_while(holds).count(), 300);
    }

    #[test]
    fn words_of_many_hosts_are_bounded() {
        let mut dumps = Dumps::default();
        for number in 0..DUMPS_MAX + 10 {
            dumps.note(Moment::ZERO, &HostName::new(&format!("cmp-{number}")).expect("a name"));
        }
        assert_eq!(dumps.words.len(), DUMPS_MAX);
        dumps.forget(|host| host.as_str() == "cmp-1");
        assert_eq!(dumps.words.len(), 1);
    }
}
