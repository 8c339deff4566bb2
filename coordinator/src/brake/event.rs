//! Many hosts silent at once are one event, a matter of network or power, before they are that many dead hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::RosterEntry;
use rekindle_proto::id::{DomainName, HostName};

use super::Brake;
use crate::time::Moment;

/// Silences that begin within this time may be one event: a switch, a feed, a rack.
pub const EVENT_WINDOW: Duration = Duration::from_secs(15);

/// Hosts that make an event, if they are also one in [`EVENT_SHARE`] of the roster, or of their own labelled domain.
pub const EVENT_HOSTS_MIN: usize = 3;

/// See [`EVENT_HOSTS_MIN`].
pub const EVENT_SHARE: usize = 10;

/// How long each host of an event is held: a switch that restarts needs 90 s.
pub const EVENT_HOLD: Duration = Duration::from_secs(120);

/// The same, if most of their BMCs read off: then it was their power, and they are not coming back by themselves.
pub const EVENT_HOLD_OFF: Duration = Duration::from_secs(60);

/// One host's silence, as the leader has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// When the leader first saw it, on its own monotonic clock.
    pub since: Moment,
    /// Once part of an event it remains so, though the others come back.
    pub in_event: bool,
}

/// Which of the silent hosts fell silent together: at least [`EVENT_HOSTS_MIN`] and a tenth of the roster within
/// [`EVENT_WINDOW`], or a tenth of one labelled domain. A rack of 40 is a matter of its switch or its feed in a cluster of
/// 2,000 as in one of 128, and only its label says so there.
#[must_use]
pub fn events(silent: &BTreeMap<HostName, Silence>, roster: &BTreeMap<HostName, RosterEntry>) -> BTreeSet<HostName> {
    let all = silent.iter().map(|(host, silence)| (silence.since, host));
    let mut found = together(all.clone().collect(), roster.len());
    let domain_of = |host: &HostName| roster.get(host).and_then(|entry| entry.domain.as_ref());
    let mut by_domain: BTreeMap<&DomainName, Vec<(Moment, &HostName)>> = BTreeMap::new();
    for (since, host) in all {
        if let Some(domain) = domain_of(host) {
            by_domain.entry(domain).or_default().push((since, host));
        }
    }
    by_domain.retain(|_, hosts| hosts.len() >= EVENT_HOSTS_MIN);
    for (domain, hosts) in by_domain {
        let size = roster.values().filter(|entry| entry.domain.as_ref() == Some(domain)).count();
        found.extend(together(hosts, size));
    }
    found
}

/// Which of these hosts fell silent within [`EVENT_WINDOW`] of each other, if they are enough, also of `size`.
fn together(mut in_order: Vec<(Moment, &HostName)>, size: usize) -> BTreeSet<HostName> {
    in_order.sort();
    let mut found = BTreeSet::new();
    let mut end = 0;
    for begin in 0..in_order.len() {
        let until = in_order[begin].0 + EVENT_WINDOW;
        while end < in_order.len() && in_order[end].0 <= until {
            end += 1;
        }
        let hosts = end - begin;
        if hosts >= EVENT_HOSTS_MIN && hosts * EVENT_SHARE >= size {
            found.extend(in_order[begin..end].iter().map(|(_, host)| (*host).clone()));
        }
    }
    found
}

/// Whether the event that this host is part of still holds it. `off`: hosts whose devices, all of them, read off since
/// they fell silent.
#[must_use]
pub fn event_hold(
    silent: &BTreeMap<HostName, Silence>,
    off: &BTreeSet<HostName>,
    host: &HostName,
    roster: usize,
    now: Moment,
) -> Option<Brake> {
    let own = silent.get(host).filter(|silence| silence.in_event)?;
    let together = |other: &&HostName| {
        silent.get(*other).is_some_and(|other| {
            other.in_event && other.since <= own.since + EVENT_WINDOW && own.since <= other.since + EVENT_WINDOW
        })
    };
    let hosts: Vec<&HostName> = silent.keys().filter(together).collect();
    let off = hosts.iter().filter(|host| off.contains(**host)).count();
    let hold = if 2 * off > hosts.len() { EVENT_HOLD_OFF } else { EVENT_HOLD };
    let left = hold.saturating_sub(now.since(own.since));
    (!left.is_zero()).then_some(Brake::DomainEvent { hosts: hosts.len(), roster, off, left })
}
