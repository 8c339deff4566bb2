//! The function that applies an entry. Every rule here is a guard of last resort: what it refuses cannot happen,
//! whichever leader decided it.
//!
//! | module | applies what |
//! |---|---|
//! | `gate` | a member may say of its boot gate |
//! | `leader` | the leader of the entry's term may write: incidents, intents, proofs, moves |
//! | `member` | a member may say of itself: its pulse, its failed guests |
//! | `epoch` | begin and age of epochs, brakes lifted |
//! | `clock` | time that has passed: what ends by itself |
//! | `roster`, `absence`, `flap`, `reboot` | who counts, who said goodbye, who comes and goes, who came back in another boot |
//! | `rehearsal` | an operator has signed about rehearsals of fencing, and the leader may write of them |
//! | `readmission` | the leader may write of a fenced host that comes back |
//! | `aggregates` | the leader may write of aggregates that reserved hosts join |
//! | `reserve` | the leader may write of reserved hosts, and of servers that turn to them |
//! | `power_on` | the leader may write of hosts that are powered on after their recovery |
//! | `unread` | the leader may write of orders that may lie unread in queues |
//! | `restore` | the leader may write of servers' states: locks, resets, stops, starts |
//! | `voters` | the leader may write of the voters, and what an operator has signed about them |
//! | `process` | a member may say of its processes, and the leader write of those that are down for good |
//! | `segments` | an operator has signed about segments and their hosts |
//! | `operator` | an operator has signed: roster, arming, maintenance, resumption, release |

mod absence;
mod aggregates;
mod clock;
mod epoch;
mod evidence_words;
mod fence;
mod flap;
mod gate;
mod hook;
mod leader;
mod life;
mod member;
mod operator;
mod power_on;
mod process;
mod readmission;
mod reboot;
mod rehearsal;
mod reserve;
mod restore;
mod roster;
mod segments;
mod servers;
#[cfg(test)]
mod tests;
mod unread;
mod voters;
mod watchdog;

use std::collections::BTreeSet;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, IncidentId, LogIndex, ServerId, Term, WallTime};
use rekindle_proto::status::Phase;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Statement};
use super::incident::{Incident, ServerRecord};
use super::state::Ledger;
use super::{CLOSED_INCIDENTS_MAX, LEDGER_FORMAT};
use crate::mutant::{Guard, keeps};

/// Where an entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its index.
    pub index: LogIndex,
    /// The term in which it was committed.
    pub term: Term,
}

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It changed the ledger.
    Applied {
        /// The incident it opened, if it opened one.
        incident: Option<IncidentId>,
        /// What it did, in words.
        text: Text,
    },
    /// The rules forbid it; nothing was changed.
    Refused {
        /// Which rule, with its figures.
        why: Text,
    },
}

impl Outcome {
    pub(super) fn refused(why: impl Into<Text>) -> Self {
        Self::Refused { why: why.into() }
    }

    fn done(text: impl Into<Text>) -> Self {
        Self::Applied { incident: None, text: text.into() }
    }

    /// Whether it changed the ledger.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied { .. })
    }
}

/// Either way an outcome: `Err` is a refusal, so that `?` ends a function at the first rule that forbids.
type Applied = Result<Outcome, Outcome>;

/// Under which circumstances an entry is applied.
#[derive(Debug, Clone, Copy)]
struct When<'a> {
    /// In which term it was committed.
    term: Term,
    /// When it was proposed, for the story.
    at: WallTime,
    /// Who led, if a leader says it.
    leader: Option<&'a HostName>,
}

impl Ledger {
    /// Applies one committed entry. Deterministic: the same entries give the same state on every voter. A refused entry
    /// changes nothing but [`Ledger::applied`], and [`Ledger::format`]: whoever does not read it has stopped.
    pub fn apply(&mut self, position: Position, entry: &Entry) -> Outcome {
        self.applied = position.index;
        if entry.format > LEDGER_FORMAT {
            return Outcome::refused(format!("entry format {} is newer than {LEDGER_FORMAT}", entry.format));
        }
        self.format = self.format.max(entry.format);
        let leader = match &entry.statement {
            Statement::Leader { host, .. } => Some(host),
            Statement::Member { .. } | Statement::Operator(_) => None,
        };
        let when = When { term: position.term, at: entry.at, leader };
        let result = match &entry.statement {
            Statement::Leader { term, host, .. } if *term != when.term => {
                Err(Outcome::refused(format!("{host} led term {term}; this is term {}", when.term)))
            }
            Statement::Leader { command, .. } => self.apply_leader(when, command),
            Statement::Member { host, boot, statement } => self.apply_member(when.at, host, *boot, statement),
            Statement::Operator(order) => self.apply_operator(when.at, order),
        };
        if result.is_ok() {
            self.forget_closed();
        }
        result.unwrap_or_else(|refusal| refusal)
    }

    /// The ledger's own brakes on a host: disarmed, maintenance, its segment disabled.
    #[must_use]
    pub fn brakes_of(&self, host: &HostName) -> Option<Text> {
        crate::brake::standing(self, host).map(|brake| Text::new(brake.to_string()))
    }

    fn incident_mut(&mut self, id: IncidentId) -> Result<&mut Incident, Outcome> {
        match self.incidents.get_mut(&id) {
            None => Err(Outcome::refused(format!("no incident {id}"))),
            Some(incident) if !incident.is_open() && keeps(Guard::ClosedStays) => {
                Err(Outcome::refused(format!("incident {id} is closed")))
            }
            Some(incident) => Ok(incident),
        }
    }

    fn next_incident(&self) -> IncidentId {
        IncidentId(self.last_incident.0.saturating_add(1))
    }

    fn forget_old_incidents(&mut self) {
        let closed: Vec<IncidentId> =
            self.incidents.values().filter(|incident| !incident.is_open()).map(|incident| incident.id).collect();
        let quarantines: BTreeSet<IncidentId> =
            self.hosts.values().flat_map(|host| [host.quarantine, host.forced_down]).flatten().collect();
        let surplus = closed.len().saturating_sub(CLOSED_INCIDENTS_MAX);
        let holds_lock = |id: &IncidentId| self.locks.iter().any(|(of, _)| of == id);
        let holds_host = |id: &IncidentId| self.incidents.get(id).is_some_and(Incident::holds_reserved);
        let kept = |id: &&IncidentId| !quarantines.contains(*id) && !holds_lock(id) && !holds_host(id);
        let forgotten: Vec<IncidentId> = closed.iter().filter(kept).take(surplus).copied().collect();
        for id in &forgotten {
            self.incidents.remove(id);
        }
        self.executors.retain(|(id, _), _| self.incidents.contains_key(id));
        let settled: Vec<IncidentId> =
            self.guest_incidents.values().filter(|guest| guest.recovered.is_some()).map(|guest| guest.id).collect();
        for id in settled.iter().take(settled.len().saturating_sub(CLOSED_INCIDENTS_MAX)) {
            self.guest_incidents.remove(id);
        }
        self.forget_old_reboots();
    }
}

impl Incident {
    fn must_be(&self, phase: Phase) -> Result<(), Outcome> {
        if self.phase == phase || !keeps(Guard::PhaseRules) {
            return Ok(());
        }
        Err(Outcome::refused(format!("incident {} is {}, not {phase}", self.id, self.phase)))
    }

    fn unsettled_mut(&mut self, server: ServerId) -> Result<&mut ServerRecord, Outcome> {
        match self.servers.get_mut(&server) {
            None => Err(Outcome::refused(format!("{server} is not a server of this incident"))),
            Some(record) if record.fate.is_some() => Err(Outcome::refused(format!("{server} is settled"))),
            Some(record) => Ok(record),
        }
    }
}
