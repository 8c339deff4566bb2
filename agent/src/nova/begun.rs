//! Which host has begun an evacuation, by the actions that Nova keeps of its server.
//!
//! A compute service writes the event `compute_rebuild_instance`, with its host, as soon as it has taken the order out of its
//! queue (nova/compute/utils.py, `EventReporter`), and its name into the migration record only with the claim. An action says
//! nothing of its record, so they are matched by their order: the newest evacuate action, begun when the newest evacuation
//! record was made or before. Whatever could be matched otherwise is not matched at all.

use osauth::ApiVersion;
use rekindle_proto::fact::{MigrationKind, NovaError, Text};
use rekindle_proto::id::{HostName, MigrationId, ServerId};
use serde::Deserialize;
use serde_json::Value;

use super::wire::{Get, Wire};
use super::{answer, listing};

/// 2.62 is the first that tells the host of an event (Rocky), to an administrator.
const ACTIONS: ApiVersion = ApiVersion(2, 62);

/// The event of the order's arrival.
const EVENT: &str = "compute_rebuild_instance";

/// Asks who has begun it; `None`: nobody yet, or not certainly this one.
///
/// # Errors
/// [`NovaError`]; nothing was changed.
pub(super) async fn begun(
    wire: &Wire,
    server: ServerId,
    migration: MigrationId,
) -> Result<Option<HostName>, NovaError> {
    let id = server.to_string();
    let path = ["servers", id.as_str(), "os-instance-actions"];
    let actions: Actions = parse(wire.get(Get { version: ACTIONS, path: &path, query: &[] }).await?)?;
    // After the actions: whoever has called meanwhile has left a newer record, and then nothing is concluded.
    let records = listing::rows_of(wire, server).await?;
    let Some(made) = made(&records, migration)? else { return Ok(None) };
    let Some(request) = request(&actions.actions, &made) else { return Ok(None) };
    let path = ["servers", id.as_str(), "os-instance-actions", request];
    let shown: Shown = parse(wire.get(Get { version: ACTIONS, path: &path, query: &[] }).await?)?;
    let host = shown.action.events.iter().find(|event| event.event == EVENT).and_then(|event| event.host.as_deref());
    host.map(|host| HostName::new(host).map_err(|error| malformed(&error.to_string()))).transpose()
}

/// When the record was made, if it is the newest evacuation of its server.
fn made(rows: &[Value], migration: MigrationId) -> Result<Option<String>, NovaError> {
    let mut newest: Option<(MigrationId, &Value)> = None;
    for row in rows {
        let Some(record) = answer::migration_row(row)? else { continue };
        if record.kind == MigrationKind::Evacuation && newest.is_none_or(|(id, _)| id < record.id) {
            newest = Some((record.id, row));
        }
    }
    let row = newest.filter(|(id, _)| *id == migration).map(|(_, row)| row);
    Ok(row.and_then(|row| row.get("created_at")?.as_str()).map(str::to_owned))
}

/// The request of the newest evacuate action, if it is the only one that began then, and no later than the record.
fn request<'a>(actions: &'a [Action], made: &str) -> Option<&'a str> {
    let evacuations = || actions.iter().filter(|action| action.action == "evacuate");
    let newest = evacuations().max_by(|a, b| a.start_time.cmp(&b.start_time))?;
    let is_only = evacuations().filter(|action| action.start_time == newest.start_time).count() == 1;
    // Nova writes both in one form, so that they compare as texts; any other form is not compared.
    let is_same_form = newest.start_time.len() == made.len();
    (is_only && is_same_form && newest.start_time.as_str() <= made).then_some(newest.request_id.as_str())
}

#[derive(Debug, Deserialize)]
struct Actions {
    #[serde(rename = "instanceActions")]
    actions: Vec<Action>,
}

#[derive(Debug, Deserialize)]
struct Action {
    action: String,
    request_id: String,
    start_time: String,
}

#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(rename = "instanceAction")]
    action: Events,
}

#[derive(Debug, Deserialize)]
struct Events {
    /// Left out for those who may not see them.
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    host: Option<String>,
}

fn parse<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, NovaError> {
    serde_json::from_value(body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(why: &str) -> NovaError {
    NovaError::Malformed(Text::new(format!("os-instance-actions: {why}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_action_made_the_record() {
        let action = |action: &str, request: &str, start: &str| Action {
            action: action.to_owned(),
            request_id: request.to_owned(),
            start_time: format!("2026-11-21T10:00:{start}.000000"),
        };
        let made = |second: &str| format!("2026-11-21T10:00:{second}.000000");
        let ours = || action("evacuate", "req-2", "20");
        for (what, actions, made, expected) in [
            ("none", vec![], made("20"), None),
            ("the only one, in the same second", vec![ours()], made("20"), Some("req-2")),
            ("and one of long ago", vec![ours(), action("evacuate", "req-1", "05")], made("21"), Some("req-2")),
            ("others do not count", vec![ours(), action("stop", "req-3", "30")], made("21"), Some("req-2")),
            ("begun after the record", vec![ours()], made("19"), None),
            (
                "a later one whose record was not seen",
                vec![ours(), action("evacuate", "req-3", "40")],
                made("21"),
                None,
            ),
            ("two at once", vec![ours(), action("evacuate", "req-3", "20")], made("21"), None),
            ("another form", vec![ours()], "2026-11-21 10:00:21".to_owned(), None),
        ] {
            assert_eq!(request(&actions, &made), expected, "{what}");
        }
    }

    #[test]
    fn only_the_newest_evacuation_is_looked_at() {
        let row = |id: u64, kind: &str| {
            json!({"id": id, "uuid": "6b4f1a1e-0000-4000-8000-000000000001", "status": "accepted",
                "migration_type": kind, "instance_uuid": "6b4f1a1e-0000-4000-8000-000000000002",
                "source_compute": "a", "dest_compute": null, "created_at": format!("made-{id}")})
        };
        let rows = [row(4, "evacuation"), row(5, "evacuation"), row(6, "live-migration")];
        assert_eq!(made(&rows, MigrationId(5)).expect("rows"), Some("made-5".to_owned()));
        assert_eq!(made(&rows, MigrationId(4)).expect("rows"), None, "another followed");
        assert_eq!(made(&[], MigrationId(5)).expect("rows"), None);
    }
}
