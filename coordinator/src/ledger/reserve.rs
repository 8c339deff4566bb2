//! Reserved hosts: kept free by an operator for the servers of others of their segment, and taken by an incident whose
//! segment's method wants one.
//!
//! A host is taken for one server, and serves all of that incident's: one server causes one host to be taken, never a
//! second ([`Reserve::caused_by`]). One that has received nothing when its incident ends goes back to the pool; one that
//! has died meanwhile does not.

use rekindle_proto::fact::{MigrationStatus, Text};
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::segment::RecoveryMethod;
use serde::{Deserialize, Serialize};

use super::aggregates::{JoinStep, Joins};
use super::destination::Destination;
use super::entry::{Fate, IntentEnd};
use super::incident::{Incident, OpenIntent};
use super::state::Ledger;

/// Reserved hosts that one incident may take: more than a segment keeps, and few enough for a server to remember each.
pub const TAKEN_MAX: usize = 64;

/// Hosts that a server remembers as unfit for it, and ends of its attempts, the last ones: more than its tries in both halves of a method, at the most
/// that can be configured, together with as many that were named in vain.
const UNFIT_MAX: usize = 64;

/// How an incident's servers find their hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reserve {
    /// By the segment of its host, from the begin of its evacuation.
    pub method: RecoveryMethod,
    /// Reserved hosts taken for it, oldest first; at most [`TAKEN_MAX`]. Positions in it are kept by intents.
    pub taken: Vec<Taken>,
}

/// A reserved host that an incident has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Which.
    pub host: HostName,
    /// For which server first.
    pub server: ServerId,
    /// Its compute service was disabled: we enable it, and disable it again if it is given back.
    pub enables: bool,
    /// Another incident had taken it before: two hosts of a segment may die at once. It costs the pool nothing.
    pub shared: bool,
    /// Evacuations to it that are done.
    pub received: u32,
    /// An operator resumed the incident since: it counts no more against its server.
    pub excused: bool,
    /// `Some`: it is not to be used by this incident any more.
    pub end: Option<TakenEnd>,
    /// Aggregates that it has joined for this incident.
    #[serde(default)]
    pub joins: Joins,
}

/// How the use of a reserved host ended, where it did not simply receive servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TakenEnd {
    /// It has received nothing, and is reserved again.
    Returned,
    /// It died, or its compute service did. It is not reserved any more: a person looks at it first.
    Lost(Text),
}

/// Where one server stands between the two halves of its method.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leg {
    /// The first half of a priority method is over for it.
    pub turned: bool,
    /// Nova's scheduler found no host for it, in the half that lets it choose.
    pub no_host: bool,
    /// Positions of taken hosts on which Nova's scheduler found no room for it.
    pub refused_by: Vec<u8>,
    /// Hosts that are not named for it any more: its evacuation failed there, or Nova would not have it there. Each once.
    #[serde(default)]
    pub unfit: Vec<HostName>,
    /// Its last try failed on the host where it was built: where Nova's scheduler would choose, the next one names another.
    #[serde(default)]
    pub elsewhere: bool,
    /// Hosts that were proven off while Nova had given it to them: the order may still be in their queues. Each once.
    #[serde(default)]
    pub queued_on: Vec<HostName>,
    /// How its attempts ended, of those that had a record of Nova's, the last ones: that record may be `accepted` for ever.
    #[serde(default)]
    pub ended: Vec<IntentEnd>,
}

/// What the leader writes of reserved hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReserveCommand {
    /// A reserved host is taken. Only then its service is enabled, and servers are evacuated to it.
    Take {
        /// For which incident.
        incident: IncidentId,
        /// Which host.
        host: HostName,
        /// For which server first.
        server: ServerId,
        /// Nova has its service disabled.
        enables: bool,
    },
    /// It has received nothing, its service is as it was: it is reserved again.
    Return {
        /// Of which incident.
        incident: IncidentId,
        /// Which host.
        host: HostName,
    },
    /// It died, or its service did, before it was done.
    Lose {
        /// Of which incident.
        incident: IncidentId,
        /// Which host.
        host: HostName,
        /// What happened.
        why: Text,
    },
    /// The first half of a priority method is over for a server.
    Turn {
        /// Of which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// Why.
        why: Text,
    },
    /// About an aggregate that a taken host joins, or leaves.
    Aggregate {
        /// Of which incident.
        incident: IncidentId,
        /// Which host.
        host: HostName,
        /// What.
        step: JoinStep,
    },
}

impl Reserve {
    /// The hosts that may still be used, and their positions.
    pub fn active(&self) -> impl Iterator<Item = (u8, &Taken)> {
        let taken = self.taken.iter().enumerate().filter(|(_, taken)| taken.end.is_none());
        taken.filter_map(|(at, taken)| Some((u8::try_from(at).ok()?, taken)))
    }

    /// How many hosts were taken for that server. One that died is none of its doing.
    #[must_use]
    pub fn caused_by(&self, server: ServerId) -> usize {
        let counts = |taken: &&Taken| {
            taken.server == server && !taken.shared && !taken.excused && !matches!(taken.end, Some(TakenEnd::Lost(_)))
        };
        self.taken.iter().filter(counts).count()
    }

    /// Another incident leaves a shared host to this one, and with it that its service was disabled before, and what it joined.
    pub(super) fn inherit(&mut self, left: &Taken) {
        for taken in self.taken.iter_mut().filter(|taken| taken.host == left.host && taken.end.is_none()) {
            taken.enables |= left.enables;
            taken.joins.inherit(&left.joins);
        }
    }

    /// An operator resumes the incident.
    pub(super) fn resume(&mut self) {
        self.taken.iter_mut().for_each(|taken| taken.excused = true);
    }

    /// The taken host at that position.
    #[must_use]
    pub fn at(&self, position: u8) -> Option<&Taken> {
        self.taken.get(usize::from(position))
    }
}

impl Leg {
    /// An attempt is over. Gives back whether it is no try of the server's: where we wanted it, it could not be had.
    pub(super) fn closed(&mut self, open: &OpenIntent, end: &IntentEnd) -> bool {
        let no_host = matches!(end, IntentEnd::Migration { no_host: true, .. });
        self.note_place(end);
        match &open.to {
            Destination::Reserved(position) if no_host => {
                self.refused_by.push(*position);
                true
            }
            Destination::Reserved(_) => false,
            Destination::Anywhere => {
                self.no_host |= no_host;
                false
            }
            // What Nova did not begin there was our own bad choice: the next try is its scheduler's, and none is lost. That it
            // found no host says nothing of the others.
            Destination::Named(host) => {
                let not_begun = no_host || matches!(end, IntentEnd::Refused(_) | IntentEnd::NoneAppeared);
                if not_begun {
                    self.is_unfit(host);
                    self.elsewhere = false;
                }
                not_begun
            }
        }
    }

    /// Where it was built in vain; whether the next attempt is to name another host.
    fn note_place(&mut self, end: &IntentEnd) {
        if matches!(end, IntentEnd::Migration { .. } | IntentEnd::DestinationOff { .. }) {
            note_once(&mut self.ended, end);
        }
        match end {
            IntentEnd::Migration { status: MigrationStatus::Failed, dest: Some(dest), no_host: false, .. } => {
                self.is_unfit(dest);
                self.elsewhere = true;
            }
            IntentEnd::Migration { .. } => self.elsewhere = false,
            IntentEnd::DestinationOff { dest, .. } => {
                self.is_unfit(dest);
                note_once(&mut self.queued_on, dest);
            }
            IntentEnd::NotSent(_) | IntentEnd::Refused(_) | IntentEnd::NoneAppeared => {}
        }
    }

    fn is_unfit(&mut self, host: &HostName) {
        note_once(&mut self.unfit, host);
    }
}

/// At most [`UNFIT_MAX`], the newest.
fn note_once<T: Clone + PartialEq>(list: &mut Vec<T>, item: &T) {
    if list.contains(item) {
        return;
    }
    if list.len() >= UNFIT_MAX {
        list.remove(0);
    }
    list.push(item.clone());
}

impl Incident {
    /// An attempt is over: if it was done, its host has received a server.
    pub(super) fn count_arrival(&mut self, open: &OpenIntent, end: &IntentEnd) {
        let IntentEnd::Migration { status: MigrationStatus::Done | MigrationStatus::Completed, .. } = end else {
            return;
        };
        let position = open.to.reserved().map(usize::from);
        if let Some(taken) = position.and_then(|position| self.reserve.taken.get_mut(position)) {
            taken.received = taken.received.saturating_add(1);
        }
    }

    /// Whether a host taken for it has still to be given back.
    #[must_use]
    pub fn holds_reserved(&self) -> bool {
        self.reserve.active().any(|(position, _)| !self.is_used(position))
    }

    /// Whether a taken host has a server of this incident, or may yet get one.
    #[must_use]
    pub fn is_used(&self, position: u8) -> bool {
        let Some(taken) = self.reserve.at(position) else { return false };
        let comes = |intent: &OpenIntent| intent.to.reserved() == Some(position);
        taken.received > 0
            || self.servers.values().any(|record| {
                record.intent.as_ref().is_some_and(comes)
                    || matches!(&record.fate, Some(Fate::Recovered { to }) if *to == taken.host)
            })
    }
}

impl Ledger {
    /// The hosts that may be taken for a dead host's servers, and for each why it must not be, as far as the ledger knows:
    /// first those of its segment that another open incident has taken already, then those that are reserved; by name.
    pub fn reserved_for<'a>(&'a self, dead: &'a HostName) -> impl Iterator<Item = (&'a HostName, Result<(), Text>)> {
        let segment = self.segments.hosts.get(dead).map(|place| place.segment);
        let own = self.open_incident(dead);
        let holds = |incident: &Incident, host: &HostName| incident.reserve.active().any(|(_, of)| of.host == *host);
        let is_own = move |host: &HostName| own.is_some_and(|own| holds(own, host));
        let is_shared = move |host: &HostName| self.open_incidents().any(|other| holds(other, host));
        let places = move || {
            let places = self.segments.hosts.iter().filter(move |(_, place)| Some(place.segment) == segment);
            places.filter(move |(host, _)| *host != dead && !is_own(host))
        };
        let shared = places().filter(move |(host, place)| !place.reserved && is_shared(host));
        let reserved = places().filter(|(_, place)| place.reserved);
        shared.chain(reserved).map(|(host, _)| (host, self.may_receive(host)))
    }

    /// The incident, other than this one, that holds a taken host and uses it, or may yet.
    #[must_use]
    pub fn held_elsewhere(&self, host: &HostName, but: IncidentId) -> Option<IncidentId> {
        let holds = |incident: &&Incident| {
            let mut active = incident.reserve.active();
            active.any(|(at, taken)| taken.host == *host && (incident.is_open() || incident.is_used(at)))
        };
        let mut others = self.incidents.values().filter(|incident| incident.id != but);
        others.find(holds).map(|incident| incident.id)
    }

    /// Whether a reserved host may receive servers.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_receive(&self, host: &HostName) -> Result<(), Text> {
        self.is_usable(host)?;
        if let Some(reboot) = self.open_reboot(host) {
            return Err(Text::new(format!("it rebooted, incident {}", reboot.id)));
        }
        match self.host(host).and_then(|record| record.absence.as_ref()) {
            Some(_) => Err("it said goodbye".into()),
            None => Ok(()),
        }
    }

    /// Whether a host that was taken may go on being used. A goodbye or a reboot is waited for; this is not.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn is_usable(&self, host: &HostName) -> Result<(), Text> {
        let no = |why: String| Err(Text::new(why));
        if !self.is_hypervisor(host) {
            return no("it is no counted hypervisor of the roster".to_owned());
        }
        if let Some(open) = self.open_incident(host) {
            return no(format!("incident {} of it is open", open.id));
        }
        let Some(record) = self.host(host) else { return Ok(()) };
        if let Some(why) = &record.maintenance {
            return no(format!("in maintenance: {why}"));
        }
        match record.quarantine.or(record.forced_down) {
            Some(id) => no(format!("fenced by incident {id}, and not back")),
            None => Ok(()),
        }
    }
}
