//! Which host has begun an evacuation whose record names none.
//!
//! Nova writes the destination into the record when that host has claimed its resources. A host that dies between taking the
//! order out of its queue and the claim leaves a record that names nobody and never ends. Nova's actions of the server tell who
//! took it: the event `compute_rebuild_instance` is written, with its host, before anything else is done (nova/compute/utils.py,
//! `EventReporter`). If that host is proven off, the evacuation is over.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{MigrationKind, NovaMigration};
use rekindle_proto::id::{HostName, IncidentId, MigrationId, ServerId};
use rekindle_proto::status::Phase;

use super::Leader;
use super::evacuation::{Ask, MigrationList};
use crate::context::Context;
use crate::io::NovaRead;
use crate::ledger::Incident;
use crate::time::Moment;

/// Until a record without a destination is asked about: a claim takes a second or two.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// Between two questions about the same record: its order may still be on its way to a host.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Records without a destination, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// When each is asked about next.
    due: BTreeMap<MigrationId, Moment>,
    /// Who has begun them, by Nova's word.
    by: BTreeMap<MigrationId, HostName>,
}

impl Begun {
    /// Whether its host has taken the order out of its queue.
    pub(super) fn has(&self, id: MigrationId) -> bool {
        self.by.contains_key(&id)
    }

    /// Writes the host where Nova has not.
    pub(super) fn complete(&self, record: &mut NovaMigration) {
        if record.dest.is_none() {
            record.dest = self.by.get(&record.id).cloned();
        }
    }
}

impl MigrationList {
    /// Servers whose newest evacuation is under way to nobody knows where.
    pub(super) fn undirected(&self) -> impl Iterator<Item = (ServerId, MigrationId)> {
        self.of.iter().filter_map(|(server, records)| {
            let newest = records.iter().filter(|record| record.kind == MigrationKind::Evacuation);
            let newest = newest.max_by_key(|record| record.id)?;
            (newest.dest.is_none() && !newest.status.is_final()).then_some((*server, newest.id))
        })
    }

    /// Takes in who has begun an evacuation; `None`: nobody yet.
    pub(super) fn begun_by(&mut self, id: MigrationId, host: Option<HostName>) {
        let Some(host) = host else { return };
        self.begun.by.insert(id, host);
        for record in self.of.values_mut().flatten() {
            self.begun.complete(record);
        }
    }
}

impl Leader {
    /// Asks who has begun what, while a host is off that may have died with it.
    pub(super) fn ask_who_began(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let (id, now) = (incident.id, cx.now.mono);
        let others = cx.ledger.open_incidents().filter(|other| other.id != id);
        if !others.map(|other| &other.host).any(|host| self.is_proven_off(cx, host)) {
            return;
        }
        let is_unsettled = |server: &ServerId| incident.servers.get(server).is_some_and(|record| record.fate.is_none());
        let Some(list) = self.evacuations.get_mut(&id).and_then(|evacuation| evacuation.migrations.as_mut()) else {
            return;
        };
        let undirected: Vec<_> = list.undirected().filter(|(server, _)| is_unsettled(server)).collect();
        list.begun.due.retain(|known, _| undirected.iter().any(|(_, migration)| migration == known));
        let mut next = None;
        let mut wake = None;
        for (server, migration) in undirected {
            let due = *list.begun.due.entry(migration).or_insert(now + ASK_AFTER);
            if due <= now && next.is_none() {
                next = Some((server, migration));
            }
            wake = Some(wake.map_or(due, |wake: Moment| wake.min(due)));
        }
        if let Some((server, migration)) = next {
            // One at a time: each is three calls of Nova, and there is no haste.
            if self.ask_nova(cx, id, Ask::Begun(server, migration), NovaRead::Begun { server, migration })
                && let Some(list) = self.evacuations.get_mut(&id).and_then(|evacuation| evacuation.migrations.as_mut())
            {
                list.begun.due.insert(migration, now + ASK_AGAIN);
            }
        } else if let Some(wake) = wake {
            self.wake_at(wake);
        }
    }

    /// Another incident, if any, with an evacuation that may have gone to any host: that one is needed as long as it is off.
    pub(super) fn undirected_elsewhere(&self, cx: &Context<'_>, id: IncidentId) -> Option<IncidentId> {
        let evacuates = |other: &IncidentId| {
            let other = cx.ledger.incidents.get(other).filter(|other| other.phase == Phase::Evacuating);
            other.map(|other| &other.servers)
        };
        let mut others = self.evacuations.iter().filter(|(other, _)| **other != id);
        others.find_map(|(other, evacuation)| {
            let servers = evacuates(other)?;
            let list = evacuation.migrations.as_ref()?;
            let is_open = |server: &ServerId| servers.get(server).is_some_and(|record| record.fate.is_none());
            list.undirected().any(|(server, _)| is_open(&server)).then_some(*other)
        })
    }
}

#[cfg(test)]
mod tests {
    use rekindle_proto::fact::MigrationStatus::{self, Done, UnderWay};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_newest_evacuation_counts_and_who_began_it_is_kept() {
        let host = |name: &str| HostName::new(name).expect("legal");
        let server = |number| ServerId(Uuid::from_u128(number));
        let record = |id: u64, kind, status: MigrationStatus, dest: Option<&str>| NovaMigration {
            id: MigrationId(id),
            server: server(1),
            kind,
            status,
            status_text: "accepted".into(),
            source: Some(host("a")),
            dest: dest.map(host),
        };
        use MigrationKind::{Evacuation, LiveMigration};
        for (records, expected) in [
            (vec![record(4, Evacuation, UnderWay, None)], Some(4)),
            (vec![record(4, Evacuation, UnderWay, Some("b"))], None),
            (vec![record(4, Evacuation, Done, None)], None),
            (vec![record(4, LiveMigration, UnderWay, None)], None),
            (vec![record(4, Evacuation, UnderWay, None), record(5, Evacuation, UnderWay, Some("b"))], None),
            (vec![record(5, Evacuation, UnderWay, None), record(4, Evacuation, Done, Some("b"))], Some(5)),
        ] {
            let of = BTreeMap::from([(server(1), records.clone())]);
            let mut list = MigrationList { asked: Moment::ZERO, news: None, of, begun: Begun::default() };
            let found: Vec<_> = list.undirected().collect();
            assert_eq!(
                found,
                expected.map(|id| (server(1), MigrationId(id))).into_iter().collect::<Vec<_>>(),
                "{records:?}"
            );
            if let Some(id) = expected {
                list.begun_by(MigrationId(id), None);
                assert_eq!(list.undirected().count(), 1, "nobody yet");
                list.begun_by(MigrationId(id), Some(host("c")));
                assert_eq!(list.undirected().count(), 0);
                assert!(list.begun.has(MigrationId(id)));
            }
        }
    }
}
