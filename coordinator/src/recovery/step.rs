//! The next step for one server.

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaMigration, NovaServer, Text};
use rekindle_proto::id::{HostName, MigrationId};

use crate::ledger::{Fate, ServerRecord};

/// What is to be done with a server that has no open intent and no fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerStep {
    /// Its last evacuation is done: look at the server itself before believing it.
    ReadServer,
    /// Nova is still at work on it; look again later.
    Wait(Text),
    /// Its fate is known.
    Settle(Fate),
    /// (Another) evacuate call, once every host that may run a copy has denied it.
    Evacuate {
        /// Its newest migration record.
        newest_migration: Option<MigrationId>,
    },
}

/// The next step for a server, from its record, its migrations, and the server itself if it was read since its last
/// attempt ended (`Some(None)`: it was deleted).
#[must_use]
pub fn next_step(
    dead: &HostName,
    record: &ServerRecord,
    migrations: &[NovaMigration],
    server: Option<Option<&NovaServer>>,
    tries: u32,
) -> ServerStep {
    let newest = migrations.iter().max_by_key(|migration| migration.id);
    let newest_migration = newest.map(|migration| migration.id);
    if let Some(open) = migrations.iter().find(|migration| !migration.status.is_final()) {
        return match open.kind {
            // Nobody of us sent it (our intents are closed): an operator, or an earlier leader's late call.
            MigrationKind::Evacuation => ServerStep::Wait(Text::new(format!("evacuation {} is under way", open.id))),
            // Its source or destination died with it under way: Nova will not finish it by itself.
            MigrationKind::LiveMigration | MigrationKind::Cold | MigrationKind::Other => {
                evacuate_or_give_up(record, newest_migration, tries)
            }
        };
    }
    let evacuated = newest.is_some_and(|migration| {
        migration.kind == MigrationKind::Evacuation
            && matches!(migration.status, MigrationStatus::Done | MigrationStatus::Completed)
            && migration.source.as_ref() == Some(dead)
    });
    if !evacuated && record.attempts == 0 {
        return evacuate_or_give_up(record, newest_migration, tries);
    }
    match server {
        None => ServerStep::ReadServer,
        Some(None) => ServerStep::Settle(Fate::Deleted),
        Some(Some(server)) => match (&server.host, &server.task_state) {
            (_, Some(task)) => ServerStep::Wait(Text::new(format!("Nova is at work on it: {task}"))),
            (Some(host), None) if host != dead => ServerStep::Settle(arrived(host, server, record, evacuated)),
            (_, None) => evacuate_or_give_up(record, newest_migration, tries),
        },
    }
}

/// What an arrival is worth: only a move that Nova calls done, of a server that is not broken by it, is a recovery.
fn arrived(host: &HostName, server: &NovaServer, record: &ServerRecord, evacuated: bool) -> Fate {
    let broken = server.vm_state.as_str() == "error" && record.vm_state.as_str() != "error";
    if evacuated && !broken {
        return Fate::Recovered { to: host.clone() };
    }
    let record = if evacuated { "done" } else { "not done" };
    let why = format!("Nova has it on {host}, {}, its evacuation {record}: look at it", server.vm_state);
    Fate::LeftBehind { why: Text::new(why) }
}

fn evacuate_or_give_up(record: &ServerRecord, newest_migration: Option<MigrationId>, tries: u32) -> ServerStep {
    if record.attempts.saturating_sub(record.attempts_before_resume) < tries {
        return ServerStep::Evacuate { newest_migration };
    }
    let last = record.last_failure.as_ref().map_or("no reason given", Text::as_str);
    ServerStep::Settle(Fate::LeftBehind { why: Text::new(format!("{tries} attempts failed; the last: {last}")) })
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
            attempts_before_resume: 0,
            intent: None,
            last_failure: Some("migration 4 to b failed".into()),
            fate: None,
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
        };
        use MigrationKind::{Evacuation, LiveMigration};
        use MigrationStatus::{Done, Failed, UnderWay};
        type Row = (&'static str, u32, Vec<NovaMigration>, Option<Option<NovaServer>>, &'static str);
        let rows: Vec<Row> = vec![
            ("fresh", 0, vec![], None, "evacuate"),
            ("a stranger's evacuation runs", 0, vec![migration(3, Evacuation, UnderWay)], None, "wait"),
            ("a live migration died with the host", 0, vec![migration(3, LiveMigration, UnderWay)], None, "evacuate"),
            ("done: look first", 1, vec![migration(4, Evacuation, Done)], None, "read"),
            ("done by somebody else: look first", 0, vec![migration(4, Evacuation, Done)], None, "read"),
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
            (
                "failed thrice",
                3,
                vec![migration(6, Evacuation, Failed)],
                Some(Some(server("dead", None))),
                "left behind",
            ),
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
            let said = match next_step(&host("dead"), &record(attempts), &migrations, read, 3) {
                ServerStep::ReadServer => "read".to_owned(),
                ServerStep::Wait(_) => "wait".to_owned(),
                ServerStep::Evacuate { .. } => "evacuate".to_owned(),
                ServerStep::Settle(Fate::Recovered { to }) => format!("recovered on {to}"),
                ServerStep::Settle(Fate::LeftBehind { .. }) => "left behind".to_owned(),
                ServerStep::Settle(Fate::Deleted) => "deleted".to_owned(),
            };
            assert_eq!(said, expected, "{name}");
        }
    }
}
