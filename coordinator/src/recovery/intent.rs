//! One evacuate call at a time per server, and how it ends (I11). Nova accepts a second evacuate of the same server at any
//! task state, and then both copies run: the only guard is the intent in our ledger.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaMigration};
use rekindle_proto::id::{HostName, IncidentId, LeadershipId, MigrationId, ServerId};

use crate::ledger::{Destination, IntentEnd, Ledger, OpenIntent};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// A committed intent of this very leadership: the only key, beside a proof, to an evacuate call.
#[derive(Debug)]
pub struct CommittedIntent {
    /// Which server.
    pub(crate) server: ServerId,
    /// Which attempt.
    pub(crate) attempt: u32,
    /// Whether Nova is to leave it stopped where it arrives.
    pub(crate) stop_on_arrival: bool,
    /// The host it is to be built on, reserved or named; `None`: where Nova's scheduler wants.
    pub(crate) dest: Option<HostName>,
}

impl CommittedIntent {
    /// Finds the open intent of that server, if this very leadership wrote it. Another's is never acted upon, not even
    /// one of the same term by the process before a restart: its call may be on the way. Nor is one to a host that may not
    /// be used any more since.
    #[must_use]
    pub fn find(ledger: &Ledger, incident: IncidentId, server: ServerId, author: LeadershipId) -> Option<Self> {
        let incident = ledger.incidents.get(&incident).filter(|incident| incident.is_open())?;
        let record = incident.servers.get(&server)?;
        let open = record.intent.as_ref().filter(|open| open.author == author || !keeps(Guard::IntentAuthor))?;
        let dest = match &open.to {
            Destination::Anywhere => None,
            Destination::Reserved(to) => {
                Some(incident.reserve.at(*to).filter(|taken| taken.end.is_none())?.host.clone())
            }
            Destination::Named(host) => {
                ledger.may_be_named(&incident.host, host).ok()?;
                Some(host.clone())
            }
        };
        Some(Self { server, attempt: open.attempt, stop_on_arrival: record.restore.plan.stop_on_arrival, dest })
    }
}

/// What this leader knows of an open intent.
#[derive(Debug, Clone, Copy)]
pub struct IntentView {
    /// When this leader first saw it, or sent its call: the settling time runs from the later of the two.
    pub since: Moment,
    /// This leader has its call under way.
    pub calling: bool,
    /// Nova accepted this leader's call: it is not on its way any more.
    pub accepted: bool,
    /// When the migration records were listed; `None`: not since the intent.
    pub listed: Option<Moment>,
}

/// Whether an open intent is final.
///
/// It is, when every newer evacuation record of its server is final; or when none has appeared in a list made a full
/// settling time after the call. While the call is under way it is not. An unknown answer changes nothing: only records
/// count. And as long as the call itself may still be on its way, a *failed* record does not end the intent: it may be
/// somebody else's (an operator's, or a proxy's repetition), and another call would meet ours.
///
/// `dead_ends`: records under way to a host that is proven off. They never become final, and are taken for failed.
#[must_use]
pub fn intent_end(
    intent: &OpenIntent,
    view: &IntentView,
    migrations: &[NovaMigration],
    dead_ends: &BTreeSet<MigrationId>,
    settle: Duration,
) -> Option<IntentEnd> {
    if view.calling {
        return None;
    }
    let is_newer = |migration: &&NovaMigration| {
        migration.kind == MigrationKind::Evacuation && Some(migration.id) > intent.newest_migration
    };
    let settle = if keeps(Guard::IntentSettles) { settle } else { Duration::ZERO };
    let settled = view.listed.is_some_and(|listed| listed >= view.since + settle);
    let newer: Vec<&NovaMigration> = migrations.iter().filter(is_newer).collect();
    if newer.iter().any(|migration| !migration.status.is_final() && !dead_ends.contains(&migration.id)) {
        return None;
    }
    match newer.iter().max_by_key(|migration| migration.id) {
        Some(migration) => {
            let (id, status, dest) = (migration.id, migration.status, migration.dest.clone());
            let failed = status == MigrationStatus::Failed || !status.is_final();
            let end = match dest {
                Some(dest) if !status.is_final() => IntentEnd::DestinationOff { id, dest },
                dest => IntentEnd::Migration { id, status, dest, no_host: found_no_host(migration) },
            };
            (!failed || view.accepted || settled).then_some(end)
        }
        None => settled.then_some(IntentEnd::NoneAppeared),
    }
}

/// Whether Nova's scheduler ended it: the conductor writes `error` where it finds no host, and the record of a wished-for host
/// names that host all the same (nova/compute/api.py, `evacuate`); a compute service that fails writes `failed`.
fn found_no_host(migration: &NovaMigration) -> bool {
    migration.status == MigrationStatus::Failed
        && (migration.dest.is_none() || migration.status_text.as_str() == "error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn migration(id: u64, kind: MigrationKind, status: MigrationStatus) -> NovaMigration {
        NovaMigration {
            id: MigrationId(id),
            server: ServerId(Uuid::nil()),
            kind,
            status,
            status_text: "".into(),
            source: None,
            dest: None,
        }
    }

    #[test]
    fn the_intent_table() {
        let at = Moment::from_micros;
        let second = 1_000_000;
        let settle = Duration::from_secs(120);
        let to = Destination::Anywhere;
        let intent = OpenIntent { attempt: 1, author: LeadershipId(4), newest_migration: Some(MigrationId(7)), to };
        let evacuation = |id, status| vec![migration(id, MigrationKind::Evacuation, status)];
        let evacuation_to = |id, status| {
            let dest = Some(HostName::new("b").expect("legal"));
            vec![NovaMigration { dest, ..migration(id, MigrationKind::Evacuation, status) }]
        };
        let rows = [
            ("nothing listed yet", false, None, vec![], "open"),
            ("listed at once, none newer", false, Some(at(10 * second)), evacuation(7, MigrationStatus::Done), "open"),
            ("under way", false, Some(at(300 * second)), evacuation(8, MigrationStatus::UnderWay), "open"),
            ("done", false, Some(at(10 * second)), evacuation(8, MigrationStatus::Done), "Done"),
            ("failed", false, Some(at(10 * second)), evacuation(8, MigrationStatus::Failed), "Failed"),
            (
                "our call is still under way",
                true,
                Some(at(10 * second)),
                evacuation(8, MigrationStatus::Failed),
                "open",
            ),
            ("none appeared, 119 s after the call", false, Some(at(124 * second)), vec![], "open"),
            ("none appeared, 120 s after the call", false, Some(at(125 * second)), vec![], "none appeared"),
            (
                "another kind of move is not ours",
                false,
                Some(at(10 * second)),
                vec![migration(8, MigrationKind::LiveMigration, MigrationStatus::Failed)],
                "open",
            ),
            (
                "two newer, the newest under way",
                false,
                Some(at(10 * second)),
                [evacuation(8, MigrationStatus::Failed), evacuation(9, MigrationStatus::UnderWay)].concat(),
                "open",
            ),
            (
                "two newer, the older under way",
                false,
                Some(at(10 * second)),
                [evacuation(8, MigrationStatus::UnderWay), evacuation(9, MigrationStatus::Failed)].concat(),
                "open",
            ),
            (
                "unknown answer, failed: our call may be another",
                false,
                Some(at(124 * second)),
                evacuation(8, MigrationStatus::Failed),
                "open",
            ),
            (
                "unknown answer, failed, settled",
                false,
                Some(at(125 * second)),
                evacuation(8, MigrationStatus::Failed),
                "Failed",
            ),
            (
                "under way, its destination is off",
                false,
                Some(at(10 * second)),
                evacuation_to(8, MigrationStatus::UnderWay),
                "off",
            ),
            (
                "unknown answer, its destination is off: our call may be another",
                false,
                Some(at(124 * second)),
                evacuation_to(8, MigrationStatus::UnderWay),
                "open",
            ),
            (
                "its destination is off, and a newer one is under way",
                false,
                Some(at(10 * second)),
                [evacuation_to(8, MigrationStatus::UnderWay), evacuation(9, MigrationStatus::UnderWay)].concat(),
                "open",
            ),
            (
                "our call is still under way, its destination is off",
                true,
                Some(at(10 * second)),
                evacuation_to(8, MigrationStatus::UnderWay),
                "open",
            ),
            ("unknown answer, done", false, Some(at(10 * second)), evacuation(8, MigrationStatus::Done), "Done"),
        ];
        for (name, calling, listed, migrations, expected) in rows {
            let view = IntentView { since: at(5 * second), calling, accepted: !name.starts_with("unknown"), listed };
            let dead_ends =
                if name.contains("its destination is off") { [MigrationId(8)].into() } else { BTreeSet::new() };
            let said = match intent_end(&intent, &view, &migrations, &dead_ends, settle) {
                None => "open".to_owned(),
                Some(IntentEnd::Migration { status, .. }) => format!("{status:?}"),
                Some(IntentEnd::NoneAppeared) => "none appeared".to_owned(),
                Some(IntentEnd::DestinationOff { .. }) => "off".to_owned(),
                Some(other) => format!("{other:?}"),
            };
            assert_eq!(said, expected, "{name}");
        }
    }
}
