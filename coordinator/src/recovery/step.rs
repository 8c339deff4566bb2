//! The next step for one server.

use std::collections::BTreeSet;

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaMigration, NovaServer, Text};
use rekindle_proto::id::{HostName, MigrationId};

use crate::ledger::{Destination, Fate, ServerRecord};

/// What is to be done with a server that has no open intent and no fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerStep {
    /// Look at the server itself before believing its records.
    ReadServer {
        /// An evacuation will follow if Nova still has it on the dead host.
        to_evacuate: bool,
    },
    /// Nova is still at work on it; look again later.
    Wait(Text),
    /// Its fate is known.
    Settle(Fate),
    /// (Another) evacuate call, once every host that may run a copy has denied it.
    Evacuate {
        /// Its newest migration record.
        newest_migration: Option<MigrationId>,
        /// Where to, by its method.
        to: Destination,
    },
    /// It has used up its tries; why the last one failed.
    GiveUp(Text),
}

impl ServerStep {
    /// The same step, to a reserved host if it is an evacuation.
    pub(crate) fn at_reserved(self, position: u8) -> Self {
        match self {
            Self::Evacuate { newest_migration, to: _ } => {
                Self::Evacuate { newest_migration, to: Destination::Reserved(position) }
            }
            other @ (Self::ReadServer { .. } | Self::Wait(_) | Self::Settle(_) | Self::GiveUp(_)) => other,
        }
    }
}

/// The next step for a server, from its record, its migrations, and the server itself if it was read just now, since its
/// last attempt ended (`Some(None)`: it was deleted).
///
/// No server is evacuated whose present host was not just read to be the dead one: it may have been moved on by somebody,
/// and Nova evacuates from whatever host it believes in. `dead_ends`: evacuations under way to a host that is proven off.
#[must_use]
pub fn next_step(
    dead: &HostName,
    record: &ServerRecord,
    migrations: &[NovaMigration],
    dead_ends: &BTreeSet<MigrationId>,
    server: Option<Option<&NovaServer>>,
    tries: u32,
) -> ServerStep {
    let newest = migrations.iter().max_by_key(|migration| migration.id);
    let newest_migration = newest.map(|migration| migration.id);
    // Other kinds of move died with their source or destination: Nova will not finish them by itself.
    let is_evacuating = |migration: &&NovaMigration| {
        let is_open = migration.kind == MigrationKind::Evacuation && !migration.status.is_final();
        is_open && !dead_ends.contains(&migration.id)
    };
    let died_there = newest_migration.is_some_and(|newest| dead_ends.contains(&newest));
    if let Some(open) = migrations.iter().find(is_evacuating) {
        // Nobody of us sent it (our intents are closed): an operator did.
        return ServerStep::Wait(Text::new(format!("evacuation {} is under way, and it is not ours", open.id)));
    }
    let evacuated = newest.is_some_and(|migration| {
        migration.kind == MigrationKind::Evacuation
            && matches!(migration.status, MigrationStatus::Done | MigrationStatus::Completed)
            && migration.source.as_ref() == Some(dead)
    });
    let server = match server {
        None => return ServerStep::ReadServer { to_evacuate: !evacuated },
        Some(None) => return ServerStep::Settle(Fate::Deleted),
        Some(Some(server)) => server,
    };
    let on_the_dead = server.host.as_ref() == Some(dead);
    match &server.task_state {
        // What Nova was doing with it when its host died will never end; what came of an evacuation (`rebuilding`,
        // `rebuild_spawning`, …) will, unless its destination is off.
        Some(task) if !on_the_dead || (record.attempts > 0 && !died_there && is_rebuild(task)) || evacuated => {
            return ServerStep::Wait(Text::new(format!("Nova is at work on it: {task}")));
        }
        Some(_) | None => {}
    }
    match &server.host {
        Some(_) if on_the_dead => evacuate_or_give_up(record, newest_migration, tries),
        Some(host) => ServerStep::Settle(arrived(host, server, record, evacuated)),
        None => ServerStep::Settle(Fate::LeftBehind { why: "Nova has it on no host".into() }),
    }
}

fn is_rebuild(task: &Text) -> bool {
    task.as_str().starts_with("rebuild")
}

/// What an arrival is worth: only a move that Nova calls done, of a server that is not broken by it, is a recovery.
fn arrived(host: &HostName, server: &NovaServer, record: &ServerRecord, evacuated: bool) -> Fate {
    let broken = server.vm_state.as_str() == "error" && record.vm_state.as_str() != "error";
    if evacuated && !broken {
        return Fate::Recovered { to: host.clone() };
    }
    let record = if evacuated { "its evacuation done" } else { "though no evacuation of it is done" };
    let why = format!("Nova has it on {host}, {}, {record}: look at it", server.vm_state);
    Fate::LeftBehind { why: Text::new(why) }
}

fn evacuate_or_give_up(record: &ServerRecord, newest_migration: Option<MigrationId>, tries: u32) -> ServerStep {
    if record.attempts.saturating_sub(record.attempts_excused) < tries {
        return ServerStep::Evacuate { newest_migration, to: Destination::Anywhere };
    }
    let last = record.last_failure.as_ref().map_or("no reason given", Text::as_str);
    ServerStep::GiveUp(Text::new(format!("{tries} attempts failed; the last: {last}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::id::ServerId;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    #[test]
    fn the_step_table() {
        let record = |attempts: u32| ServerRecord {
            name: "web-1".into(),
            vm_state: "active".into(),
            attempts,
            attempts_excused: 0,
            intent: None,
            last_failure: Some("migration 4 to b failed".into()),
            fate: None,
            restore: Default::default(),
            priority: 50,
            marked: false,
            undecided: None,
            leg: Default::default(),
            unplaced: None,
        };
        let migration = |id: u64, kind, status| NovaMigration {
            id: MigrationId(id),
            server: ServerId(Uuid::nil()),
            kind,
            status,
            status_text: "".into(),
            source: Some(host("dead")),
            dest: Some(host("b")),
        };
        let server = |at: &str, task: Option<&str>| NovaServer {
            id: ServerId(Uuid::nil()),
            name: "web-1".into(),
            host: Some(host(at)),
            vm_state: "active".into(),
            task_state: task.map(Text::from),
            metadata: BTreeMap::new(),
            standing: Default::default(),
            traits: Default::default(),
        };
        use MigrationKind::{Evacuation, LiveMigration};
        use MigrationStatus::{Done, Failed, UnderWay};
        type Row = (&'static str, u32, Vec<NovaMigration>, Option<Option<NovaServer>>, &'static str);
        let rows: Vec<Row> = vec![
            ("fresh: look first", 0, vec![], None, "read"),
            ("fresh", 0, vec![], Some(Some(server("dead", None))), "evacuate"),
            (
                "fresh, its task died with the host",
                0,
                vec![],
                Some(Some(server("dead", Some("rebooting")))),
                "evacuate",
            ),
            (
                "failed once, its task died with the host",
                1,
                vec![migration(4, Evacuation, Failed)],
                Some(Some(server("dead", Some("rebooting")))),
                "evacuate",
            ),
            ("fresh, but somebody moved it", 0, vec![], Some(Some(server("b", None))), "left behind"),
            ("fresh, but somebody moves it", 0, vec![], Some(Some(server("b", Some("migrating")))), "wait"),
            ("fresh, and deleted", 0, vec![], Some(None), "deleted"),
            ("a stranger's evacuation runs", 0, vec![migration(3, Evacuation, UnderWay)], None, "wait"),
            (
                "a live migration died with the host",
                0,
                vec![migration(3, LiveMigration, UnderWay)],
                Some(Some(server("dead", None))),
                "evacuate",
            ),
            (
                "a dead live migration does not hide an evacuation under way",
                1,
                vec![migration(3, LiveMigration, UnderWay), migration(4, Evacuation, UnderWay)],
                Some(Some(server("dead", None))),
                "wait",
            ),
            (
                "nor one that is done",
                1,
                vec![migration(3, LiveMigration, UnderWay), migration(4, Evacuation, Done)],
                Some(Some(server("b", None))),
                "recovered on b",
            ),
            ("done: look first", 1, vec![migration(4, Evacuation, Done)], None, "read"),
            ("done by somebody else: look first", 0, vec![migration(4, Evacuation, Done)], None, "read"),
            ("its destination is off: look first", 1, vec![migration(4, Evacuation, UnderWay)], None, "read"),
            (
                "its destination is off, its task will never end",
                1,
                vec![migration(4, Evacuation, UnderWay)],
                Some(Some(server("dead", Some("rebuilding")))),
                "evacuate",
            ),
            (
                "an older destination is off, and a newer one lives",
                2,
                vec![migration(4, Evacuation, UnderWay), migration(5, Evacuation, UnderWay)],
                Some(Some(server("dead", Some("rebuilding")))),
                "wait",
            ),
            (
                "its destination is off, the next try failed, Nova is at work",
                2,
                vec![migration(4, Evacuation, UnderWay), migration(5, Evacuation, Failed)],
                Some(Some(server("dead", Some("rebuilding")))),
                "wait",
            ),
            (
                "done and moved",
                1,
                vec![migration(4, Evacuation, Done)],
                Some(Some(server("b", None))),
                "recovered on b",
            ),
            (
                "done, still at work",
                1,
                vec![migration(4, Evacuation, Done)],
                Some(Some(server("b", Some("rebuilding")))),
                "wait",
            ),
            (
                "done, but Nova still names the dead host",
                1,
                vec![migration(4, Evacuation, Done)],
                Some(Some(server("dead", None))),
                "evacuate",
            ),
            ("deleted", 1, vec![migration(4, Evacuation, Done)], Some(None), "deleted"),
            ("failed once", 1, vec![migration(4, Evacuation, Failed)], Some(Some(server("dead", None))), "evacuate"),
            ("failed thrice", 3, vec![migration(6, Evacuation, Failed)], Some(Some(server("dead", None))), "given up"),
            (
                "moved, but its record failed",
                1,
                vec![migration(4, Evacuation, Failed)],
                Some(Some(server("b", None))),
                "left behind",
            ),
        ];
        for (name, attempts, migrations, read, expected) in rows {
            let read = read.as_ref().map(Option::as_ref);
            let dead_ends = if name.contains("off") { [MigrationId(4)].into() } else { BTreeSet::new() };
            let said = match next_step(&host("dead"), &record(attempts), &migrations, &dead_ends, read, 3) {
                ServerStep::ReadServer { .. } => "read".to_owned(),
                ServerStep::Wait(_) => "wait".to_owned(),
                ServerStep::Evacuate { .. } => "evacuate".to_owned(),
                ServerStep::Settle(Fate::Recovered { to }) => format!("recovered on {to}"),
                ServerStep::Settle(Fate::LeftBehind { .. }) => "left behind".to_owned(),
                ServerStep::Settle(Fate::Deleted) => "deleted".to_owned(),
                ServerStep::GiveUp(_) => "given up".to_owned(),
            };
            assert_eq!(said, expected, "{name}");
        }
    }
}
