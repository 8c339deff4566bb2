//! Where else might a copy of this server run? Nova's `host` does not tell: a failed evacuation, or a live migration that
//! switched over before its source died, leaves a running guest where Nova does not look (I11).

use std::collections::BTreeSet;

use rekindle_proto::fact::{MigrationStatus, NovaMigration};
use rekindle_proto::id::{HostName, MigrationId};

/// Every host, but the dead one, that a migration record names since the server last certainly ran on the dead host. Each
/// must say that it does not run the guest, or be proven off itself, before (another) evacuate call.
#[must_use]
pub fn hosts_to_ask(dead: &HostName, migrations: &[NovaMigration]) -> BTreeSet<HostName> {
    let arrived = |migration: &&NovaMigration| {
        migration.dest.as_ref() == Some(dead)
            && matches!(migration.status, MigrationStatus::Done | MigrationStatus::Completed)
    };
    let last_arrival: Option<MigrationId> = migrations.iter().filter(arrived).map(|migration| migration.id).max();
    migrations
        .iter()
        .filter(|migration| Some(migration.id) > last_arrival)
        .flat_map(|migration| [migration.source.clone(), migration.dest.clone()])
        .flatten()
        .filter(|host| host != dead)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::fact::MigrationKind;
    use rekindle_proto::id::ServerId;
    use uuid::Uuid;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    #[test]
    fn the_table_of_other_hosts() {
        let record = |id: u64, source: &str, dest: &str, status| NovaMigration {
            id: MigrationId(id),
            server: ServerId(Uuid::nil()),
            kind: MigrationKind::Evacuation,
            status,
            status_text: "".into(),
            source: Some(host(source)),
            dest: (!dest.is_empty()).then(|| host(dest)),
        };
        use MigrationStatus::{Completed, Done, Failed, UnderWay};
        let rows: [(&str, Vec<NovaMigration>, &str); 7] = [
            ("never moved", vec![], ""),
            ("came from a long ago", vec![record(1, "a", "dead", Completed)], ""),
            ("a failed evacuation to b", vec![record(1, "a", "dead", Completed), record(2, "dead", "b", Failed)], "b"),
            ("no destination chosen", vec![record(2, "dead", "", Failed)], ""),
            ("a migration to b under way", vec![record(2, "dead", "b", UnderWay)], "b"),
            ("a failed migration from a to the dead host", vec![record(2, "a", "dead", Failed)], "a"),
            ("came back since", vec![record(1, "dead", "b", Failed), record(2, "b", "dead", Done)], ""),
        ];
        for (name, migrations, expected) in rows {
            let hosts: Vec<String> = hosts_to_ask(&host("dead"), &migrations).iter().map(ToString::to_string).collect();
            assert_eq!(hosts.join(" "), expected, "{name}");
        }
    }
}
