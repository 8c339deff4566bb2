//! What holds a verdict back although the testimony suffices: the cluster is not in a state to judge (I4).

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;

use super::Leader;
use super::suspects::SuspectCase;
use crate::context::Context;
use crate::time::Moment;

/// How long a verdict waits for another suspicion to be settled. Beyond it the other host counts as absent, not as alive.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// Silences that begin within this time of each other may be one event: a switch, a feed, a rack.
const EVENT_WINDOW: Duration = Duration::from_secs(15);

/// Hosts that make an event, if they are also a tenth of the roster.
const EVENT_HOSTS_MIN: usize = 3;

/// One in this many hosts of a labelled domain may be recovered at once, and always one.
const DOMAIN_SHARE: usize = 10;

/// Part of the roster that must have been seen by this process before it judges anybody: a cold start is not a disaster.
const SEEN_PERCENT: usize = 80;

impl Leader {
    /// A host that was never heard in this ledger, or a process that has not yet seen most of the roster, is no ground for
    /// a verdict: everything may just be booting. (A timed grace comes with the ledger's epochs.)
    pub(super) fn cold_start(&self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        if cx.ledger.host(host).is_none_or(|record| record.pulse.is_none()) {
            return Err("cold start: it has never been heard since it was enrolled".into());
        }
        let was_seen =
            |host: &&HostName| **host == cx.setup.host || cx.heard.get(host).is_some() || cx.member(host).is_some();
        let seen = cx.ledger.roster.keys().filter(was_seen).count();
        let needed = (cx.ledger.roster.len() * SEEN_PERCENT).div_ceil(100);
        if seen < needed {
            return Err(Text::new(format!("cold start: {seen} of {needed} roster members seen by this leader")));
        }
        Ok(())
    }

    /// Others turned suspect meanwhile: wait until each is settled, so that the 51 % are counted on facts.
    pub(super) fn unsettled_others(&mut self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        let now = cx.now.mono;
        let unsettled = |(other, case): &(&HostName, &SuspectCase)| {
            *other != host
                && now < case.suspicion.began + SETTLE_WAIT
                && case.suspicion.judge(&cx.ledger.roster, &case.suspicion.heard).is_err()
        };
        let waiting: Vec<&str> = self.suspects.iter().filter(unsettled).map(|(other, _)| other.as_str()).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        Err(Text::new(format!("waiting until it is settled whether {} live", waiting.join(", "))))
    }

    /// Many hosts silent at once are one event: a network or power matter, not that many dead hosts. Until such events are
    /// judged by their own rules, nothing is done.
    pub(super) fn is_event(&self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        let Some(case) = self.suspects.get(host) else { return Ok(()) };
        let began = case.suspicion.began;
        let near = |other: Moment| other.since(began).max(began.since(other)) <= EVENT_WINDOW;
        let mut silent: BTreeSet<&HostName> = self
            .suspects
            .iter()
            .filter(|(host, other)| cx.ledger.is_hypervisor(host) && near(other.suspicion.began))
            .map(|(host, _)| host)
            .collect();
        let window_ms = u64::try_from(EVENT_WINDOW.as_millis()).unwrap_or(u64::MAX);
        let recent = cx.ledger.open_incidents().filter(|incident| {
            let began = case.suspicion.began_wall;
            began.0.abs_diff(incident.began.0) <= window_ms
        });
        silent.extend(recent.map(|incident| &incident.host));
        if silent.len() >= EVENT_HOSTS_MIN && silent.len() * 10 >= cx.ledger.roster.len() {
            let roster = cx.ledger.roster.len();
            return Err(Text::new(format!(
                "domain event: {} of {roster} fell silent within {} s: held; this version leaves such events to people",
                silent.len(),
                EVENT_WINDOW.as_secs()
            )));
        }
        Ok(())
    }
}

/// At most one host, or a tenth, of a labelled domain is recovered at once.
pub(super) fn domain_cap(cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
    let domain_of = |host: &HostName| cx.ledger.roster.get(host).and_then(|entry| entry.domain.as_ref());
    let Some(domain) = domain_of(host) else { return Ok(()) };
    let size = cx.ledger.roster.keys().filter(|other| domain_of(other) == Some(domain)).count();
    let cap = (size / DOMAIN_SHARE).max(1);
    let working = cx.ledger.open_incidents().filter(|incident| incident.phase != Phase::Stuck);
    let open = working.filter(|incident| domain_of(&incident.host) == Some(domain)).count();
    if open < cap {
        return Ok(());
    }
    Err(Text::new(format!(
        "per-domain cap: {open} hosts of domain {domain} are being recovered; at most {cap} of its {size} hosts"
    )))
}
