//! Hosts that fall silent together: nothing is evacuated while Nova would still choose one of the others.
//!
//! Nova's scheduler takes a dead host for a living one until it is forced down, or `service_down_time` (60 s by default) has
//! passed. Where a rack or a pair of hosts dies, the first to be proven off would be evacuated to those that are proven a
//! moment later: the order lies in a dead host's queue, and its server waits for that host (`begun.rs`). So the calls wait
//! until every host that is silent is forced down too, or is heard again, but not for long: whose device does not answer
//! keeps nobody's servers down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;

use super::Leader;
use crate::context::Context;
use crate::ledger::Incident;
use crate::time::Moment;

/// For how long a silent host keeps the others' servers waiting: from the first failed probe to the force-down a host whose
/// device answers takes five seconds.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A host that was heard again and falls silent again within this has had its time: a flapping one holds nobody again and
/// again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Since when each host has been silent and perhaps alive to Nova.
#[derive(Debug, Default)]
pub(super) struct Together {
    since: BTreeMap<HostName, Moment>,
    /// Of these, those that are so now and have time left.
    silent: BTreeMap<HostName, Moment>,
}

impl Together {
    /// Takes in who is silent. Those that have time left are waited for.
    fn note(&mut self, now: Moment, silent: BTreeSet<HostName>) {
        self.since.retain(|host, since| silent.contains(host) || now.since(*since) < REMEMBERED);
        self.silent.clear();
        for host in silent {
            let until = *self.since.entry(host.clone()).or_insert(now) + WAIT_MAX;
            if now < until {
                self.silent.insert(host, until);
            }
        }
    }

    /// The host for whose sake servers of this one wait, and until when at most.
    fn awaited(&self, by: &HostName) -> Option<(&HostName, Moment)> {
        let (host, until) = self.silent.iter().find(|(host, _)| *host != by)?;
        Some((host, *until))
    }
}

impl Leader {
    /// Looks who is silent, and not forced down yet.
    pub(super) fn watch_silent(&mut self, cx: &Context<'_>) {
        let open = cx.ledger.open_incidents().filter(|incident| self.may_be_chosen(incident));
        let silent = self.suspects.keys().chain(open.map(|incident| &incident.host)).cloned().collect();
        self.together.note(cx.now.mono, silent);
        if let Some(first) = self.together.silent.values().min().copied() {
            self.wake_at(first);
        }
    }

    /// Why servers of this incident are not evacuated yet; `None`: nobody else fell silent lately.
    pub(super) fn silent_wait(&self, now: Moment, incident: &Incident) -> Option<Text> {
        let (host, until) = self.together.awaited(&incident.host)?;
        let left = until.since(now).as_secs();
        Some(Text::new(format!("{host} fell silent too: waits until Nova chooses it no more (at most {left} s more)")))
    }

    /// Whether Nova may choose its host, for all that this leader knows, and soon will not.
    fn may_be_chosen(&self, incident: &Incident) -> bool {
        match incident.phase {
            Phase::Unclean | Phase::Fencing => true,
            Phase::Fenced => self.evacuations.get(&incident.id).is_none_or(|evacuation| evacuation.service.is_none()),
            Phase::Suspect | Phase::Evacuating | Phase::Recovered | Phase::Refuted | Phase::Stuck => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_host_is_waited_for_once_and_not_for_long() {
        let host = |name: &str| HostName::new(name).expect("a name");
        let (a, b) = (host("cmp-01"), host("cmp-02"));
        let mut together = Together::default();
        // Seconds; who is silent then; whether servers of the first wait for the second.
        let table: [(u64, &[&HostName], bool); 9] = [
            (0, &[&a], false),
            (1, &[&a, &b], true),
            (10, &[&a, &b], true),
            (11, &[&a, &b], false),
            // Forced down, or heard again: nobody waits; silent again soon after, it has had its time.
            (12, &[&a], false),
            (13, &[&a, &b], false),
            (60, &[&a], false),
            (61, &[&a], false),
            (62, &[&a, &b], true),
        ];
        for (at, silent, waits) in table {
            let now = Moment::ZERO + Duration::from_secs(at);
            together.note(now, silent.iter().map(|host| (*host).clone()).collect());
            assert_eq!(together.awaited(&a).map(|(host, _)| host), waits.then_some(&b), "at {at} s");
        }
    }
}
