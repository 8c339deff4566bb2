//! Brakes (I4): what holds an act although everything else speaks for it. Each is judged here, by pure figures, for the
//! leader, for the ledger's own refusals, for `rekindle why` and for `rekindle brake` alike.
//!
//! | brake | held by | lifted by an operator |
//! |---|---|---|
//! | disarmed, maintenance | ledger | no: `arm`, `maintenance off` |
//! | segment disabled | ledger | no: `segment set --enabled true` |
//! | cold start | ledger ([`crate::ledger::Epoch`]) | yes |
//! | mass-failure stop | roll call, ledger | yes |
//! | domain event | leader, since it saw the silence | yes |
//! | per-domain cap | ledger | yes |
//! | fence rate | ledger ([`crate::ledger::FenceRate`]) | yes |

mod event;

use std::fmt;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{DomainName, HostName, IncidentId};
use rekindle_proto::segment::SegmentWord;
use rekindle_proto::status::Phase;

use crate::ledger::{COLD_FOR, Epoch, Ledger, RateClaim, UNSEEN_FOR};
use crate::mutant::{Guard, keeps};
use crate::verdict::brake_needs;

pub use event::{EVENT_HOLD, EVENT_HOLD_OFF, EVENT_HOSTS_MIN, EVENT_SHARE, EVENT_WINDOW, Silence, event_hold, events};

/// One in this many hosts of a labelled domain may be recovered at once, and always one.
pub const DOMAIN_SHARE: usize = 10;

/// A brake that holds, with its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brake {
    /// The cluster only watches.
    Disarmed {
        /// Why.
        reason: Text,
    },
    /// The host is taken out of protection.
    Maintenance {
        /// Which host.
        host: HostName,
        /// By whom and why.
        reason: Text,
    },
    /// The host's segment is disabled.
    SegmentDisabled {
        /// Which host.
        host: HostName,
        /// Which segment.
        segment: SegmentWord,
        /// By whom and why.
        reason: Text,
    },
    /// The epoch is young, and most of the roster was not seen yet.
    ColdStart {
        /// How much of it has passed.
        elapsed: Duration,
        /// Roster members seen.
        seen: usize,
        /// How many end it early.
        needed: usize,
    },
    /// This host was not seen in the epoch.
    Unseen {
        /// Which host.
        host: HostName,
        /// How much of the epoch has passed.
        elapsed: Duration,
    },
    /// The host was never heard since it was enrolled.
    NeverHeard {
        /// Which host.
        host: HostName,
    },
    /// Fewer than 51 % answered.
    MassFailure {
        /// How many answered.
        present: usize,
        /// Roster size.
        roster: usize,
        /// How many must.
        needed: usize,
    },
    /// Several fell silent together.
    DomainEvent {
        /// How many.
        hosts: usize,
        /// Roster size.
        roster: usize,
        /// How many of them their BMCs read off.
        off: usize,
        /// How much longer.
        left: Duration,
    },
    /// BMCs of one domain are silent together.
    SilentDevices {
        /// Which domain.
        domain: DomainName,
        /// How many hosts' devices are silent.
        silent: usize,
        /// Of how many that were asked.
        asked: usize,
        /// How much longer.
        left: Duration,
    },
    /// Enough of the domain is being recovered.
    DomainCap {
        /// Which domain.
        domain: DomainName,
        /// How many are.
        open: usize,
        /// How many may.
        cap: usize,
        /// Its hypervisors.
        size: usize,
    },
    /// Enough hosts were fenced lately.
    FenceRate {
        /// In this storm.
        fenced: u32,
        /// How much longer.
        left: Duration,
    },
}

impl Brake {
    /// Its name in `why`, `brake` and alarms.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Disarmed { .. } => "armed",
            Self::Maintenance { .. } => "maintenance",
            Self::SegmentDisabled { .. } => "segment",
            Self::ColdStart { .. } | Self::Unseen { .. } | Self::NeverHeard { .. } => "cold-start",
            Self::MassFailure { .. } => "mass-failure",
            Self::DomainEvent { .. } | Self::SilentDevices { .. } => "domain-event",
            Self::DomainCap { .. } => "domain-cap",
            Self::FenceRate { .. } => "fence-rate",
        }
    }

    /// Whether an operator may lift it for one named incident.
    #[must_use]
    pub fn is_liftable(&self) -> bool {
        match self {
            Self::Disarmed { .. } | Self::Maintenance { .. } | Self::SegmentDisabled { .. } => false,
            Self::ColdStart { .. }
            | Self::Unseen { .. }
            | Self::NeverHeard { .. }
            | Self::MassFailure { .. }
            | Self::DomainEvent { .. }
            | Self::SilentDevices { .. }
            | Self::DomainCap { .. }
            | Self::FenceRate { .. } => true,
        }
    }
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disarmed { reason } => write!(f, "disarmed: {reason}"),
            Self::Maintenance { host, reason } => write!(f, "{host} is in maintenance: {reason}"),
            Self::SegmentDisabled { host, segment, reason } => {
                write!(f, "segment {segment} of {host} is disabled: {reason}")
            }
            Self::ColdStart { elapsed, seen, needed } => write!(
                f,
                "cold start: {} of {} have passed, and {seen} members were seen alive; {needed} end it early",
                secs(*elapsed),
                secs(COLD_FOR)
            ),
            Self::Unseen { host, elapsed } => write!(
                f,
                "cold start: {host} was not yet seen alive since; {} of {} have passed",
                secs(*elapsed),
                secs(UNSEEN_FOR)
            ),
            Self::NeverHeard { host } => {
                write!(f, "cold start: {host} has never been heard since it was enrolled")
            }
            Self::MassFailure { present, roster, needed } => {
                write!(f, "mass-failure stop: {present} of {roster} answered the roll call; {needed} are needed")
            }
            Self::DomainEvent { hosts, roster, off, left } => write!(
                f,
                "domain event: {hosts} of {roster} fell silent within {}, {off} of them read off: held for {} more",
                secs(EVENT_WINDOW),
                secs(*left)
            ),
            Self::SilentDevices { domain, silent, asked, left } => write!(
                f,
                "domain event: the fence devices of {silent} of {asked} hosts of {domain} are silent together, a matter of its \
                 network or its power: held for {} more",
                secs(*left)
            ),
            Self::DomainCap { domain, open, cap, size } => write!(
                f,
                "per-domain cap: {open} hosts of domain {domain} are being recovered; at most {cap} of its {size} at once"
            ),
            Self::FenceRate { fenced, left } => {
                write!(f, "fence rate: {fenced} hosts were fenced in this storm; the next in {}", secs(*left))
            }
        }
    }
}

/// Disarmed, the host in maintenance, or its segment disabled.
#[must_use]
pub fn standing(ledger: &Ledger, host: &HostName) -> Option<Brake> {
    if !keeps(Guard::Standing) {
        return None;
    }
    if !ledger.arming.armed {
        return Some(Brake::Disarmed { reason: ledger.arming.reason.clone() });
    }
    let maintenance = ledger.hosts.get(host).and_then(|record| record.maintenance.clone());
    let maintenance = maintenance.map(|reason| Brake::Maintenance { host: host.clone(), reason });
    maintenance.or_else(|| segment_disabled(ledger, host))
}

/// The host's segment is disabled.
#[must_use]
pub fn segment_disabled(ledger: &Ledger, host: &HostName) -> Option<Brake> {
    let segment = ledger.segments.of(host)?;
    let reason = segment.disabled.clone()?;
    Some(Brake::SegmentDisabled { host: host.clone(), segment: segment.name.clone(), reason })
}

/// The epoch's grace, as far as the ledger knows its age. Before the first epoch nothing is held here: a leader begins
/// one before it acts.
#[must_use]
pub fn cold_start(ledger: &Ledger, host: &HostName) -> Option<Brake> {
    let epoch = &ledger.epoch;
    if epoch.number == 0 || !keeps(Guard::ColdStart) {
        return None;
    }
    let elapsed = epoch.elapsed();
    if elapsed < COLD_FOR {
        let (seen, needed) = (seen_of_roster(ledger), Epoch::seen_needed(ledger.roster.len()));
        if seen < needed {
            return Some(Brake::ColdStart { elapsed, seen, needed });
        }
    }
    if elapsed < UNSEEN_FOR && !epoch.seen.contains(host) {
        return Some(Brake::Unseen { host: host.clone(), elapsed });
    }
    None
}

/// Whether a host has had its time to come back in this epoch, and was not seen. Gossip that began with the epoch has never
/// heard of it: nobody else would suspect it.
#[must_use]
pub fn is_overdue(ledger: &Ledger, host: &HostName) -> bool {
    let epoch = &ledger.epoch;
    epoch.number > 0
        && epoch.elapsed() >= UNSEEN_FOR
        && !epoch.seen.contains(host)
        && never_heard(ledger, host).is_none()
        && ledger.addresses.contains_key(host)
}

/// Nobody knows what ran on a host that was never heard, or where it listens.
#[must_use]
pub fn never_heard(ledger: &Ledger, host: &HostName) -> Option<Brake> {
    let unheard = ledger.host(host).is_none_or(|record| record.pulse.is_none());
    unheard.then(|| Brake::NeverHeard { host: host.clone() })
}

/// Roster members seen alive in this epoch.
#[must_use]
pub fn seen_of_roster(ledger: &Ledger) -> usize {
    ledger.roster.keys().filter(|host| ledger.epoch.seen.contains(*host)).count()
}

/// Against which roster size an incident of this host counts: at its opening, or now, whichever was larger.
#[must_use]
pub fn roster_base(ledger: &Ledger, host: &HostName) -> usize {
    let at_opening = ledger.open_incident(host).map_or(0, |open| usize::try_from(open.verdict.roster).unwrap_or(0));
    ledger.roster.len().max(at_opening)
}

/// The 51 %.
#[must_use]
pub fn mass_failure(present: usize, roster: usize) -> Option<Brake> {
    let needed = brake_needs(roster);
    (present < needed).then_some(Brake::MassFailure { present, roster, needed })
}

/// How many hypervisors a labelled domain has, how many of them are being recovered, and how many may be. Stuck ones wait
/// for a person and take nobody's place.
#[must_use]
pub fn domain_figures(ledger: &Ledger, domain: &DomainName) -> (usize, usize, usize) {
    let is_in = |host: &HostName| ledger.roster.get(host).is_some_and(|entry| entry.domain.as_ref() == Some(domain));
    let size = ledger.roster.keys().filter(|host| ledger.is_hypervisor(host) && is_in(host)).count();
    let working = ledger.open_incidents().filter(|incident| incident.phase != Phase::Stuck);
    let open = working.filter(|incident| is_in(&incident.host)).count();
    (size, open, (size / DOMAIN_SHARE).max(1))
}

/// The cap on the host's own domain. `needed_by`: an evacuation that waits until this very host is proven off; to let the
/// cap hold it would be to wait for each other for ever.
#[must_use]
pub fn domain_cap(ledger: &Ledger, host: &HostName, needed_by: Option<IncidentId>) -> Option<Brake> {
    let domain = ledger.roster.get(host)?.domain.clone()?;
    let needs = needed_by.and_then(|id| ledger.incidents.get(&id));
    if needs.is_some_and(|incident| incident.phase == Phase::Evacuating && incident.host != *host) {
        return None;
    }
    if !keeps(Guard::DomainCap) {
        return None;
    }
    let (size, open, cap) = domain_figures(ledger, &domain);
    (open >= cap).then_some(Brake::DomainCap { domain, open, cap, size })
}

/// The rate, for an incident's next off order. Only its first in an epoch is counted.
#[must_use]
pub fn fence_rate(ledger: &Ledger, incident: IncidentId, claim: RateClaim) -> Option<Brake> {
    if ledger.rate.incidents.contains(&incident) || !keeps(Guard::FenceRate) {
        return None;
    }
    let rate = &ledger.rate;
    let left = rate.wait(rate.waited(claim));
    (!left.is_zero()).then_some(Brake::FenceRate { fenced: rate.in_storm, left })
}

/// Milliseconds in words.
#[must_use]
pub(crate) fn seconds(millis: u64) -> String {
    secs(Duration::from_millis(millis))
}

/// Whole seconds, rounded up: a wait of half a second is not "0 s".
fn secs(duration: Duration) -> String {
    format!("{} s", duration.as_millis().div_ceil(1_000))
}

#[cfg(test)]
mod tests;
