//! What has to be read beyond Nova's list of servers, once per incident. For what the selection needs a server waits, visibly,
//! while it cannot be read; for what is only told of a server nobody does (see `server_groups`).

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{HostName, IncidentId, ServerId};

use super::Leader;
use super::backoff::Backoff;
use super::evacuation::Ask;
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead};
use crate::ledger::{Fate, Incident, ServerRecord};
use crate::recovery::{Choice, Looked, Lookup, choose};
use crate::time::Moment;

/// Lookups under way at once, per incident: as many as servers are read one by one.
const LOOKUPS_AT_ONCE: usize = 8;

/// Before a server is read again of which Nova left something out: mostly a matter of its policy, that a person must mend.
const UNTOLD_AGAIN: Duration = Duration::from_secs(60);

/// What one incident has looked up. A new leader looks it up again.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub(super) looked: Looked,
    /// What could not be read, when it is tried again, and why it failed.
    failed: BTreeMap<Lookup, (Backoff, Text)>,
    /// When a server of which Nova left something out is read again.
    untold: BTreeMap<ServerId, Moment>,
    under_way: usize,
}

/// How far a lookup is.
pub(super) enum Glance {
    /// It was read.
    Known,
    /// It is being read, or will be when others have been.
    UnderWay,
    /// It could not be read, and is tried again when somebody asks after that moment.
    Failed(Text, Moment),
}

impl Leader {
    /// Whether a server that was planned as undecided still is, or was just left behind. If not, it goes its way.
    pub(super) fn is_undecided(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        record: &ServerRecord,
    ) -> bool {
        let (id, now) = (incident.id, cx.now.mono);
        if record.undecided.is_none() || record.attempts > 0 {
            return false;
        }
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return true };
        // However old: none of it changes by itself. Nobody has read it yet: that is the next step of any server.
        let Some(known) = evacuation.server_reads.get(&server).and_then(|read| read.server.as_ref()) else {
            return false;
        };
        let (lookup, why) = match choose(&cx.setup.policy.select, known, &evacuation.lookups.looked) {
            Choice::Recover => return false,
            Choice::LeaveBehind(why) => {
                self.settle(cx, id, server, Fate::LeftBehind { why });
                return true;
            }
            Choice::Undecided { lookup, why } => (lookup, why),
        };
        let text = match &lookup {
            None => {
                let again = *evacuation.lookups.untold.entry(server).or_insert(now + UNTOLD_AGAIN);
                if again <= now {
                    evacuation.lookups.untold.remove(&server);
                    evacuation.server_reads.remove(&server);
                    return false;
                }
                self.wake_at(again);
                why
            }
            Some(lookup) => self.look_up(cx, id, &incident.host, lookup, why),
        };
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.waits.insert(server, (now, text));
        }
        true
    }

    /// Asks, unless it is being asked, or has just failed. Gives back what to say meanwhile.
    fn look_up(&mut self, cx: &mut Context<'_>, id: IncidentId, host: &HostName, lookup: &Lookup, why: Text) -> Text {
        match self.glance(cx, id, host, lookup) {
            Glance::Known | Glance::UnderWay => why,
            Glance::Failed(error, until) => {
                if cx.now.mono < until {
                    self.wake_at(until);
                }
                Text::new(format!("{why}, which cannot be read: {error}"))
            }
        }
    }

    /// Asks, unless it is known, is being asked, or has just failed.
    pub(super) fn glance(&mut self, cx: &mut Context<'_>, id: IncidentId, host: &HostName, lookup: &Lookup) -> Glance {
        let Some(lookups) = self.evacuations.get(&id).map(|evacuation| &evacuation.lookups) else {
            return Glance::UnderWay;
        };
        if lookups.looked.has(lookup) {
            return Glance::Known;
        }
        let failed = lookups.failed.get(lookup).map(|(backoff, error)| (error.clone(), backoff.until));
        let is_due = failed.as_ref().is_none_or(|(_, until)| *until <= cx.now.mono);
        if is_due && lookups.under_way < LOOKUPS_AT_ONCE {
            self.ask_lookup(cx, id, host, lookup);
        }
        failed.map_or(Glance::UnderWay, |(error, until)| Glance::Failed(error, until))
    }

    fn ask_lookup(&mut self, cx: &mut Context<'_>, id: IncidentId, host: &HostName, lookup: &Lookup) {
        let ask = Ask::Look(lookup.clone());
        if self.ask_nova(cx, id, ask, NovaRead::Look { host: host.clone(), lookup: lookup.clone() })
            && let Some(evacuation) = self.evacuations.get_mut(&id)
        {
            evacuation.lookups.under_way += 1;
        }
    }

    /// An answer to a lookup. Its failure holds only the servers whose selection needs it.
    pub(super) fn take_lookup(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        lookup: Lookup,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let lookups = &mut evacuation.lookups;
        lookups.under_way = lookups.under_way.saturating_sub(1);
        match lookups.looked.take(&lookup, result) {
            Ok(is_there) => {
                lookups.failed.remove(&lookup);
                if !is_there && is_for_rules(&lookup) {
                    cx.out
                        .warn(None, format!("incident {id}: {lookup}: there is none any more; no rule about it fits"));
                }
            }
            Err(error) => {
                let before = lookups.failed.get(&lookup).map(|(backoff, _)| *backoff);
                // The first of the groups says it for all: they fail together.
                let is_first = lookups.failed.keys().all(|other| is_for_rules(other) != is_for_rules(&lookup));
                if before.is_none() && (is_for_rules(&lookup) || is_first) {
                    cx.out.warn(None, format!("incident {id} needs {lookup}, which cannot be read: {error}"));
                }
                let backoff = Backoff::after(before, now, cx.setup.seed ^ id.0);
                lookups.failed.insert(lookup, (backoff, Text::new(error.to_string())));
                self.wake_at(backoff.until);
            }
        }
    }
}

/// Whether a server's fate may depend on it. Of a group, and of its members, it is only told.
fn is_for_rules(lookup: &Lookup) -> bool {
    match lookup {
        Lookup::Image(_) | Lookup::Project(_) | Lookup::Aggregates => true,
        Lookup::Group(_) | Lookup::Member(_) => false,
    }
}

impl Looked {
    /// Takes in what was read. Gives back whether it is there at all.
    fn take(&mut self, lookup: &Lookup, result: Result<NovaAnswer, NovaError>) -> Result<bool, NovaError> {
        match (lookup, result?) {
            (Lookup::Image(id), NovaAnswer::Image(properties)) => {
                let is_there = properties.is_some();
                self.images.insert(id.clone(), properties);
                Ok(is_there)
            }
            (Lookup::Project(id), NovaAnswer::Project(name)) => {
                let is_there = name.is_some();
                self.projects.insert(id.clone(), name);
                Ok(is_there)
            }
            (Lookup::Aggregates, NovaAnswer::Aggregates(aggregates)) => {
                self.aggregates = Some(aggregates);
                Ok(true)
            }
            (Lookup::Group(id), NovaAnswer::ServerGroup(group)) => {
                let is_there = group.is_some();
                self.groups.insert(*id, group);
                Ok(is_there)
            }
            (Lookup::Member(id), NovaAnswer::Server(member)) => {
                let is_there = member.is_some();
                self.members.insert(*id, member.map(|member| (member.name, member.host)));
                Ok(is_there)
            }
            (Lookup::Image(_) | Lookup::Project(_) | Lookup::Aggregates | Lookup::Group(_) | Lookup::Member(_), _) => {
                Err(NovaError::Malformed("an answer to another question".into()))
            }
        }
    }
}
