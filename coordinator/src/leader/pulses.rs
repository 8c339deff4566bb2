//! Members' words about themselves, on their way to the ledger.

use std::collections::BTreeMap;

use rekindle_proto::fact::{GUESTS_MAX, GuestList};
use rekindle_proto::id::{BootId, HostName, SystemUuid};

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::ledger::{Entry, Ledger, MemberStatement, Pulse, ROSTER_MAX, Statement};

/// The last word of each member that the ledger does not hold yet. A word that comes before the roster, or whose proposal is
/// lost, is not lost with it.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    waiting: BTreeMap<HostName, Word>,
}

#[derive(Debug)]
struct Word {
    boot: BootId,
    system_uuid: Option<SystemUuid>,
    guests: GuestList,
}

impl Word {
    /// Whether it says what the ledger holds, or less.
    fn is_known(&self, ledger: &Ledger, host: &HostName, pulse: &Pulse) -> bool {
        let same = pulse.boot == self.boot
            && pulse.system_uuid == self.system_uuid
            && pulse.guests == *ledger.guests_said(host, &self.guests);
        // An incomplete list is no reason to forget a complete one of the same boot.
        let worse = pulse.boot == self.boot && pulse.guests.complete && !self.guests.complete;
        same || worse
    }
}

impl Leader {
    /// A member's word about itself.
    pub(crate) fn pulse(
        &mut self,
        cx: &Context<'_>,
        host: &HostName,
        boot: BootId,
        system_uuid: Option<SystemUuid>,
        guests: GuestList,
    ) {
        self.note_running(cx, host, boot, &guests);
        // A longer list would be refused for ever: the sender's own adapter cuts it.
        let fits = guests.guests.len() <= GUESTS_MAX;
        let word = Word { boot, system_uuid, guests };
        // Mostly it says what is known: each of 2,000 members does so every minute, and all of them to a new leader.
        let known = cx.ledger.host(host).and_then(|record| record.pulse.as_ref());
        if known.is_some_and(|pulse| word.is_known(cx.ledger, host, pulse)) {
            self.pulses.waiting.remove(host);
            return;
        }
        if fits && (self.pulses.waiting.len() < ROSTER_MAX || self.pulses.waiting.contains_key(host)) {
            self.pulses.waiting.insert(host.clone(), word);
            self.touch();
        }
    }

    pub(super) fn drive_pulses(&mut self, cx: &mut Context<'_>) {
        let known = |host: &HostName, word: &Word| {
            let pulse = cx.ledger.host(host).and_then(|record| record.pulse.as_ref());
            pulse.is_some_and(|pulse| word.is_known(cx.ledger, host, pulse))
        };
        self.pulses.waiting.retain(|host, word| !known(host, word));
        // While a host is being recovered, the ledger keeps what was said before (I6).
        let due = |host: &&HostName| cx.ledger.host(host).is_some() && cx.ledger.open_incident(host).is_none();
        let hosts: Vec<HostName> = self.pulses.waiting.keys().filter(due).cloned().collect();
        for host in hosts {
            let Some(word) = self.pulses.waiting.get(&host) else { continue };
            let (boot, system_uuid, guests) = (word.boot, word.system_uuid, word.guests.clone());
            let statement = MemberStatement::Pulse { system_uuid, guests };
            let statement = Statement::Member { host: host.clone(), boot, statement };
            self.propose(cx, Key::Pulse(host), Entry::new(cx.now.wall, statement));
        }
    }
}

/// A host's machine, by its own last word.
pub(super) fn system_uuid(cx: &Context<'_>, host: &HostName) -> Option<SystemUuid> {
    cx.ledger.host(host).and_then(|record| record.pulse.as_ref()).and_then(|pulse| pulse.system_uuid)
}
