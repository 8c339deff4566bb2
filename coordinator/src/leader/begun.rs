//! Which host has the order of an evacuation whose record does not tell.
//!
//! Nova writes the destination into the record when that host has claimed its resources. A host that dies before that leaves a
//! record that names nobody and never ends. Two other words of Nova tell who has the order:
//!
//! * The server's actions: the event `compute_rebuild_instance` is written, with its host, before anything else is done there
//!   (nova/compute/utils.py, `EventReporter`). If that host is proven off, the evacuation is over.
//! * Placement, once nova-conductor has ended its event `rebuild_server` well: by then the scheduler has claimed for the chosen
//!   host, and the order is in that host's queue. If that host is proven off, *and* its boot gate keeps the queue unread, the
//!   evacuation is over too ([`Leader::dead_ends_of`]). No two clocks are compared: what is read of Placement was asked for
//!   after that event had ended.
//!
//! A lost order leaves its record `accepted` for good, and nova-conductor hands the *oldest* such record to the destination of
//! the next call (nova/db/main/api.py, `migration_get_by_instance_and_status`): that one ends, and the call's own never does.
//! So the end of a call is read from its action as well, and what an attempt ended with is kept in the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaMigration};
use rekindle_proto::id::{HostName, IncidentId, MigrationId, ServerId};
use rekindle_proto::status::Phase;

use super::Leader;
use super::evacuation::{Ask, Evacuation, MigrationList};
use super::retries::has_gate;
use crate::context::Context;
use crate::io::{NovaRead, Trail};
use crate::ledger::{Incident, IntentEnd};
use crate::time::Moment;

/// Until a record that nobody has claimed is asked about: a claim takes a second or two.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// The same while no host is off that may have died with it. Its call may have been carried by an older record.
const ASK_LATE: Duration = Duration::from_secs(60);

/// Between two questions about the same record: its order may still be on its way to a host.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Nova's word for an evacuation that no destination has claimed.
const ACCEPTED: &str = "accepted";

/// Records that nobody has claimed, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Since when each is known, and when it was last asked about.
    seen: BTreeMap<MigrationId, (Moment, Option<Moment>)>,
    /// What has become of them.
    by: BTreeMap<MigrationId, Known>,
}

/// What has become of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It was sent to that host, which has not taken it out of its queue.
    Queued(HostName),
    /// That host has taken it out of its queue.
    Taken(HostName),
    /// An attempt has ended with it: that host was proven off, and it could not be carried out.
    Lost(HostName),
    /// That host has built the server, or failed to.
    Ended { host: HostName, done: bool },
    /// Nova's scheduler found no host.
    NoHost,
}

impl Known {
    /// By what the ledger says of an ended attempt.
    fn recalled(end: &IntentEnd) -> Option<(MigrationId, Self)> {
        match end {
            IntentEnd::DestinationOff { id, dest } => Some((*id, Self::Lost(dest.clone()))),
            IntentEnd::Migration { id, no_host: true, .. } => Some((*id, Self::NoHost)),
            IntentEnd::Migration { id, status, dest: Some(host), no_host: false } => {
                let done = matches!(status, MigrationStatus::Done | MigrationStatus::Completed);
                Some((*id, Self::Ended { host: host.clone(), done }))
            }
            IntentEnd::Migration { dest: None, .. }
            | IntentEnd::NotSent(_)
            | IntentEnd::Refused(_)
            | IntentEnd::NoneAppeared => None,
        }
    }
}

impl Begun {
    /// Whether its order is in nobody's queue any more, or was judged to be lost there.
    pub(super) fn has(&self, id: MigrationId) -> bool {
        matches!(self.by.get(&id), Some(Known::Taken(_) | Known::Lost(_)))
    }

    /// Writes into a record what Nova has not.
    pub(super) fn complete(&self, record: &mut NovaMigration) {
        let ends = |record: &mut NovaMigration, status, text: &str| {
            (record.status, record.status_text) = (status, text.into());
        };
        match self.by.get(&record.id) {
            Some(Known::Queued(host) | Known::Taken(host) | Known::Lost(host)) if record.dest.is_none() => {
                record.dest = Some(host.clone());
            }
            // Claimed since: for a later call, whose own record tells of that.
            Some(_) if record.status_text.as_str() != ACCEPTED => {}
            Some(Known::Ended { host, done }) => {
                record.dest = Some(host.clone());
                match done {
                    true => ends(record, MigrationStatus::Done, "done"),
                    false => ends(record, MigrationStatus::Failed, "failed"),
                }
            }
            Some(Known::NoHost) => ends(record, MigrationStatus::Failed, "error"),
            Some(Known::Queued(_) | Known::Taken(_) | Known::Lost(_)) | None => {}
        }
    }
}

impl MigrationList {
    /// Servers whose newest evacuation is under way, and that record.
    fn under_way(&self) -> impl Iterator<Item = (ServerId, &NovaMigration)> {
        self.of.iter().filter_map(|(server, records)| {
            let newest = records.iter().filter(|record| record.kind == MigrationKind::Evacuation);
            let newest = newest.max_by_key(|record| record.id)?;
            (!newest.status.is_final()).then_some((*server, newest))
        })
    }

    /// Servers whose newest evacuation is under way to nobody knows where.
    pub(super) fn undirected(&self) -> impl Iterator<Item = (ServerId, MigrationId)> {
        self.under_way().filter(|(_, newest)| newest.dest.is_none()).map(|(server, newest)| (server, newest.id))
    }

    /// Servers whose newest evacuation nobody has claimed, by Nova's record.
    fn unclaimed(&self) -> impl Iterator<Item = (ServerId, MigrationId)> {
        let is_lost = |id| matches!(self.begun.by.get(&id), Some(Known::Lost(_)));
        let unclaimed = self.under_way().filter(|(_, newest)| newest.status_text.as_str() == ACCEPTED);
        unclaimed.map(|(server, newest)| (server, newest.id)).filter(move |(_, id)| !is_lost(*id))
    }

    /// Takes in how far an order has come. `gated`: hosts that lost an order of that server before, and whose gates keep their
    /// queues unread: wherever among them it were, it is not carried out.
    fn learn(&mut self, server: ServerId, id: MigrationId, trail: Trail, gated: &BTreeSet<HostName>) {
        let Some(records) = self.of.get_mut(&server) else { return };
        let known = match trail {
            Trail::Taken(host) => Known::Taken(host),
            Trail::Ended { host, done } => Known::Ended { host, done },
            Trail::NoHost => Known::NoHost,
            Trail::Sent { allotted } => match waits_at(records, id, &allotted, gated) {
                Some(host) => Known::Queued(host),
                None => return,
            },
        };
        self.begun.by.insert(id, known);
        records.iter_mut().for_each(|record| self.begun.complete(record));
    }

    /// Hosts that lost an order of a server, as the ledger has it.
    fn lost_by(&self, server: ServerId) -> impl Iterator<Item = &HostName> {
        self.of.get(&server).into_iter().flatten().filter_map(|record| match self.begun.by.get(&record.id) {
            Some(Known::Lost(host)) => Some(host),
            Some(Known::Queued(_) | Known::Taken(_) | Known::Ended { .. } | Known::NoHost) | None => None,
        })
    }
}

/// In whose queue a sent order lies, if that is certain. The chosen host holds something for the server in Placement, and so
/// does the source. If one host more does, which no other record under way explains, it is that one; of two nobody knows.
fn waits_at(
    records: &[NovaMigration],
    id: MigrationId,
    allotted: &BTreeSet<HostName>,
    gated: &BTreeSet<HostName>,
) -> Option<HostName> {
    let source = records.iter().find(|record| record.id == id)?.source.as_ref()?;
    let mut chosen = allotted.iter().filter(|host| *host != source && !gated.contains(*host));
    let (Some(host), None) = (chosen.next(), chosen.next()) else { return None };
    let names = |other: &NovaMigration| [&other.source, &other.dest].into_iter().flatten().any(|named| named == host);
    let is_named = records.iter().any(|other| other.id != id && !other.status.is_final() && names(other));
    (!is_named).then(|| host.clone())
}

impl Evacuation {
    /// Recalls from the ledger how attempts ended: their records may never tell.
    pub(super) fn recall(&mut self, incident: &Incident) {
        let Some(list) = &mut self.migrations else { return };
        for (server, record) in incident.servers.iter().filter(|(_, record)| record.fate.is_none()) {
            for (id, known) in record.leg.ended.iter().filter_map(Known::recalled) {
                if list.begun.by.get(&id) == Some(&known) {
                    continue;
                }
                list.begun.by.insert(id, known);
                let records = list.of.get_mut(server).into_iter().flatten();
                records.filter(|record| record.id == id).for_each(|record| list.begun.complete(record));
            }
        }
    }
}

impl Leader {
    /// Asks who has what: soon, while a host is off that may have died with it.
    pub(super) fn ask_who_began(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let (id, now) = (incident.id, cx.now.mono);
        let mut others = cx.ledger.open_incidents().filter(|other| other.id != id).map(|other| &other.host);
        let after = if others.any(|host| self.is_proven_off(cx, host)) { ASK_AFTER } else { ASK_LATE };
        let is_unsettled = |server: &ServerId| incident.servers.get(server).is_some_and(|record| record.fate.is_none());
        let Some(list) = self.evacuations.get_mut(&id).and_then(|evacuation| evacuation.migrations.as_mut()) else {
            return;
        };
        let unclaimed: Vec<_> = list.unclaimed().filter(|(server, _)| is_unsettled(server)).collect();
        list.begun.seen.retain(|known, _| unclaimed.iter().any(|(_, migration)| migration == known));
        let mut next = None;
        let mut wake = None;
        for (server, migration) in unclaimed {
            let (since, asked) = *list.begun.seen.entry(migration).or_insert((now, None));
            let due = asked.map_or(since + after, |asked| asked + after.max(ASK_AGAIN));
            if due <= now && next.is_none() {
                next = Some((server, migration));
            }
            wake = Some(wake.map_or(due, |wake: Moment| wake.min(due)));
        }
        if let Some((server, migration)) = next {
            // One at a time: each is some calls of Nova and Placement, and there is no haste.
            if self.ask_nova(cx, id, Ask::Begun(server, migration), NovaRead::Begun { server, migration })
                && let Some(list) = self.evacuations.get_mut(&id).and_then(|evacuation| evacuation.migrations.as_mut())
            {
                list.begun.seen.entry(migration).and_modify(|(_, asked)| *asked = Some(now));
            }
        } else if let Some(wake) = wake {
            self.wake_at(wake);
        }
    }

    /// Nova and Placement have said how far an order has come. The host that has it is needed off from now on.
    pub(super) fn take_trail(&mut self, cx: &Context<'_>, id: IncidentId, of: (ServerId, MigrationId), trail: Trail) {
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let Some(list) = &mut evacuation.migrations else { return };
        let gated = list.lost_by(of.0).filter(|host| has_gate(cx, host)).cloned().collect();
        list.learn(of.0, of.1, trail, &gated);
        let records = list.of.get(&of.0).into_iter().flatten();
        evacuation.named.extend(records.filter_map(|record| record.dest.clone()));
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
    use rekindle_proto::fact::MigrationStatus::{self, Done, Failed, UnderWay};
    use uuid::Uuid;

    use super::*;

    use MigrationKind::{Evacuation, LiveMigration};

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn server(number: u128) -> ServerId {
        ServerId(Uuid::from_u128(number))
    }

    fn record(id: u64, kind: MigrationKind, status: MigrationStatus, dest: Option<&str>) -> NovaMigration {
        NovaMigration {
            id: MigrationId(id),
            server: server(1),
            kind,
            status,
            status_text: if status == UnderWay { ACCEPTED } else { "over" }.into(),
            source: Some(host("a")),
            dest: dest.map(host),
        }
    }

    fn list(records: Vec<NovaMigration>) -> MigrationList {
        MigrationList {
            asked: Moment::ZERO,
            news: None,
            of: BTreeMap::from([(server(1), records)]),
            begun: Begun::default(),
        }
    }

    fn hosts(names: &str) -> BTreeSet<HostName> {
        names.split_whitespace().map(host).collect()
    }

    #[test]
    fn the_newest_evacuation_counts_and_who_began_it_is_kept() {
        for (records, expected) in [
            (vec![record(4, Evacuation, UnderWay, None)], Some(4)),
            (vec![record(4, Evacuation, UnderWay, Some("b"))], None),
            (vec![record(4, Evacuation, Done, None)], None),
            (vec![record(4, LiveMigration, UnderWay, None)], None),
            (vec![record(4, Evacuation, UnderWay, None), record(5, Evacuation, UnderWay, Some("b"))], None),
            (vec![record(5, Evacuation, UnderWay, None), record(4, Evacuation, Done, Some("b"))], Some(5)),
        ] {
            let mut list = list(records.clone());
            let found: Vec<_> = list.undirected().collect();
            assert_eq!(
                found,
                expected.map(|id| (server(1), MigrationId(id))).into_iter().collect::<Vec<_>>(),
                "{records:?}"
            );
            if let Some(id) = expected {
                list.learn(server(1), MigrationId(id), Trail::Taken(host("c")), &hosts(""));
                assert_eq!(list.undirected().count(), 0);
                assert_eq!(list.unclaimed().count(), 1, "asked again: how it ended");
                assert!(list.begun.has(MigrationId(id)));
            }
        }
    }

    /// In whose queue a sent order lies.
    #[test]
    fn the_table_of_allotted_hosts() {
        let ours = || record(9, Evacuation, UnderWay, None);
        for (what, others, allotted, gated, expected) in [
            ("source and one more", vec![], "a b", "", Some("b")),
            ("the source's was removed", vec![], "b", "", Some("b")),
            ("the source alone", vec![], "a", "", None),
            ("two more", vec![], "a b c", "", None),
            ("two more, of which one lost an order before, behind its gate", vec![], "a b c", "b", Some("c")),
            ("where it was lost before", vec![], "a b", "b", None),
            (
                "another record under way explains it",
                vec![record(8, LiveMigration, UnderWay, Some("b"))],
                "a b",
                "",
                None,
            ),
            (
                "another record that is over does not",
                vec![record(8, Evacuation, Failed, Some("b"))],
                "a b",
                "",
                Some("b"),
            ),
        ] {
            let records: Vec<_> = others.into_iter().chain([ours()]).collect();
            let found = waits_at(&records, MigrationId(9), &hosts(allotted), &hosts(gated));
            assert_eq!(found, expected.map(host), "{what}");
        }
    }

    /// What a call's own record does not tell, its action does, and later the ledger.
    #[test]
    fn how_a_call_ended_is_known_without_its_record() {
        let end = |status, dest: Option<&str>, no_host| IntentEnd::Migration {
            id: MigrationId(9),
            status,
            dest: dest.map(host),
            no_host,
        };
        for (trail, (status, text, dest), recalled) in [
            (Trail::Ended { host: host("b"), done: true }, (Done, "done", Some("b")), end(Done, Some("b"), false)),
            (
                Trail::Ended { host: host("b"), done: false },
                (Failed, "failed", Some("b")),
                end(Failed, Some("b"), false),
            ),
            (Trail::NoHost, (Failed, "error", None), end(Failed, None, true)),
        ] {
            let mut list = list(vec![record(9, Evacuation, UnderWay, None)]);
            list.learn(server(1), MigrationId(9), trail.clone(), &hosts(""));
            let ended = &list.of[&server(1)][0];
            assert_eq!(
                (ended.status, ended.status_text.as_str(), &ended.dest),
                (status, text, &dest.map(host)),
                "{trail:?}"
            );
            assert_eq!(list.unclaimed().count(), 0, "{trail:?}");
            assert_eq!(
                Known::recalled(&recalled).as_ref(),
                list.begun.by.get_key_value(&MigrationId(9)).map(|(id, known)| (*id, known.clone())).as_ref()
            );
            // Its record serves a later call: that is not undone.
            let mut later =
                NovaMigration { status_text: "pre-migrating".into(), ..record(9, Evacuation, UnderWay, Some("c")) };
            list.begun.complete(&mut later);
            assert_eq!((later.status, later.dest), (UnderWay, Some(host("c"))), "{trail:?}");
        }
        let lost = IntentEnd::DestinationOff { id: MigrationId(9), dest: host("b") };
        assert_eq!(Known::recalled(&lost), Some((MigrationId(9), Known::Lost(host("b")))));
    }
}
