//! What a server waits for, in words for people.

use std::time::Duration;

use rekindle_proto::fact::{NovaMigration, Text};
use rekindle_proto::id::{HostName, IncidentId, ServerId};

use super::servers::STALLED_AFTER;
use crate::ledger::{Destination, Incident, OpenIntent};

/// What an open intent waits for, for people.
pub(super) fn waiting_text(open: &OpenIntent, migrations: &[NovaMigration], calling: bool, settle: Duration) -> Text {
    let newer = migrations.iter().filter(|migration| Some(migration.id) > open.newest_migration);
    match newer.max_by_key(|migration| migration.id) {
        Some(migration) => {
            // Nova names a destination when that host has begun: until then its call is in a queue.
            let dest = migration.dest.as_ref().map_or("a host that has not begun", HostName::as_str);
            Text::new(format!("Nova's migration {} to {dest} is {}", migration.id, migration.status_text))
        }
        None => {
            let call = match &open.to {
                Destination::Named(host) => format!("its evacuate call to {host}"),
                Destination::Anywhere | Destination::Reserved(_) => "its evacuate call".to_owned(),
            };
            if calling {
                return Text::new(format!("Nova has not answered {call} yet"));
            }
            let settle = settle.as_secs();
            Text::new(format!("{call} may be on the way: waiting for its migration record, at most {settle} s"))
        }
    }
}

pub(super) fn stalled_text(incident: &Incident, stalled: &[ServerId]) -> Text {
    let first =
        stalled.first().and_then(|server| incident.servers.get(server)).map_or("?", |record| record.name.as_str());
    Text::new(format!(
        "Nova has not finished {} evacuations, {first} first, for {} minutes: look at their migrations; a host that died \
         before it had read its queue goes on with them when nova-compute runs there again; then resume",
        stalled.len(),
        STALLED_AFTER.as_secs() / 60
    ))
}

/// Another incident's intent for this server is open: nobody may call again before that one is closed (I11).
pub(super) fn blocked_text(incident: &Incident, server: ServerId, other: IncidentId) -> Text {
    let name = incident.servers.get(&server).map_or("?", |record| record.name.as_str());
    Text::new(format!("incident {other} has an open evacuate intent for {name}: that one has to end first (resume it)"))
}
