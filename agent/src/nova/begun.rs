//! How far the order of an evacuation has come, by the actions that Nova keeps of its server, and by Placement.
//!
//! nova-conductor writes the event `rebuild_server` around all that it does: it has a host chosen, claims for it in Placement,
//! sends the order, and only then the event has ended well. A compute service writes the event `compute_rebuild_instance`, with
//! its host, as soon as it has taken the order out of its queue (nova/compute/utils.py, `EventReporter`), and how it went when
//! it is done. It writes its name into the migration record only with the claim, and that record may be an older one than the
//! call's own. An action says nothing of its record, so they are matched by their order: the newest evacuate action, begun when
//! the newest evacuation record was made or before. Whatever could be matched otherwise is not matched at all.

use osauth::ApiVersion;
use rekindle_coordinator::io::Trail;
use rekindle_proto::fact::{MigrationKind, NovaError, Text};
use rekindle_proto::id::{HostName, MigrationId, ServerId};
use serde::Deserialize;
use serde_json::Value;

use super::wire::{Get, Wire};
use super::{allotted, answer, listing};

/// 2.62 is the first that tells the host of an event (Rocky), to an administrator.
const ACTIONS: ApiVersion = ApiVersion(2, 62);

/// The event of what the destination does, from the order's arrival on.
const AT_DEST: &str = "compute_rebuild_instance";

/// The event of what nova-conductor does, to the end of sending the order.
const AT_CONDUCTOR: &str = "rebuild_server";

/// Asks how far it has come; `None`: nobody knows, or not certainly this one.
///
/// # Errors
/// [`NovaError`]; nothing was changed.
pub(super) async fn begun(wire: &Wire, server: ServerId, migration: MigrationId) -> Result<Option<Trail>, NovaError> {
    let id = server.to_string();
    let path = ["servers", id.as_str(), "os-instance-actions"];
    let actions: Actions = parse(wire.get(Get { version: ACTIONS, path: &path, query: &[] }).await?)?;
    // After the actions: whoever has called meanwhile has left a newer record, and then nothing is concluded.
    let records = listing::rows_of(wire, server).await?;
    let Some(made) = made(&records, migration)? else { return Ok(None) };
    let Some(request) = request(&actions.actions, &made) else { return Ok(None) };
    let path = ["servers", id.as_str(), "os-instance-actions", request];
    let shown: Shown = parse(wire.get(Get { version: ACTIONS, path: &path, query: &[] }).await?)?;
    match progress(&shown.action.events, &records)? {
        Progress::Unknown => Ok(None),
        Progress::Known(trail) => Ok(Some(trail)),
        // After the event of nova-conductor had ended: its claim is among what is read.
        Progress::Sent => Ok(allotted::hosts(wire, server).await?.map(|allotted| Trail::Sent { allotted })),
    }
}

/// What the events of a call tell.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Unknown,
    /// To whom is for Placement to tell.
    Sent,
    Known(Trail),
}

fn progress(events: &[Event], records: &[Value]) -> Result<Progress, NovaError> {
    let of = |name: &str| events.iter().find(|event| event.event == name);
    if let Some(event) = of(AT_DEST) {
        let Some(host) = event.host.as_deref() else { return Ok(Progress::Unknown) };
        let host = HostName::new(host).map_err(|error| malformed(&error.to_string()))?;
        return Ok(Progress::Known(match event.end() {
            None => Trail::Taken(host),
            Some(done) => Trail::Ended { host, done },
        }));
    }
    let Some(event) = of(AT_CONDUCTOR) else { return Ok(Progress::Unknown) };
    Ok(match event.end() {
        Some(true) => Progress::Sent,
        Some(false) if found_no_host(event, records) => Progress::Known(Trail::NoHost),
        // It may have failed while it was sending.
        Some(false) | None => Progress::Unknown,
    })
}

/// Whether nova-conductor has ended a record of the server while that event was under way: it does so where its scheduler finds
/// no host, before anything is sent. The same process writes all these times, in one form, to whole seconds: equal ones are of
/// that event too, as two calls for one server are seconds apart.
fn found_no_host(event: &Event, records: &[Value]) -> bool {
    let Some(until) = event.finish_time.as_deref() else { return false };
    let word = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    records.iter().any(|row| {
        let is_failed = word(row, "status").is_some_and(|status| status == "error")
            && word(row, "migration_type").is_some_and(|kind| kind == "evacuation");
        let at = word(row, "updated_at").filter(|at| at.len() == event.start_time.len() && at.len() == until.len());
        is_failed && at.is_some_and(|at| event.start_time.as_str() <= at.as_str() && at.as_str() <= until)
    })
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
    start_time: String,
    #[serde(default)]
    finish_time: Option<String>,
    /// `Success` or `Error`, when it has ended.
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    host: Option<String>,
}

impl Event {
    /// Whether it went well; `None`: it has not ended, or in a way that we do not know.
    fn end(&self) -> Option<bool> {
        self.finish_time.as_ref()?;
        match self.result.as_deref()? {
            "Success" => Some(true),
            "Error" => Some(false),
            _ => None,
        }
    }
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
    fn what_the_events_of_a_call_tell() {
        let event = |name: &str, host: &str, result: &str| Event {
            event: name.to_owned(),
            start_time: "2026-11-21T10:00:20.000000".to_owned(),
            finish_time: (!result.is_empty()).then(|| "2026-11-21T10:00:22.000000".to_owned()),
            result: (!result.is_empty()).then(|| result.to_owned()),
            host: (!host.is_empty()).then(|| host.to_owned()),
        };
        let error = |second: &str| {
            vec![json!({"status": "error", "migration_type": "evacuation",
                "updated_at": format!("2026-11-21T10:00:{second}.000000")})]
        };
        let b = || HostName::new("b").expect("legal");
        let sent = || event(AT_CONDUCTOR, "ctl", "Success");
        for (what, events, records, expected) in [
            ("nothing yet", vec![], vec![], Progress::Unknown),
            ("nova-conductor is at it", vec![event(AT_CONDUCTOR, "ctl", "")], vec![], Progress::Unknown),
            ("sent", vec![sent()], vec![], Progress::Sent),
            ("taken", vec![sent(), event(AT_DEST, "b", "")], vec![], Progress::Known(Trail::Taken(b()))),
            ("by whom is hidden from us", vec![sent(), event(AT_DEST, "", "")], vec![], Progress::Unknown),
            (
                "built",
                vec![sent(), event(AT_DEST, "b", "Success")],
                vec![],
                Progress::Known(Trail::Ended { host: b(), done: true }),
            ),
            (
                "failed there",
                vec![sent(), event(AT_DEST, "b", "Error")],
                vec![],
                Progress::Known(Trail::Ended { host: b(), done: false }),
            ),
            ("no host", vec![event(AT_CONDUCTOR, "ctl", "Error")], error("20"), Progress::Known(Trail::NoHost)),
            ("an earlier one", vec![event(AT_CONDUCTOR, "ctl", "Error")], error("19"), Progress::Unknown),
            ("a later one", vec![event(AT_CONDUCTOR, "ctl", "Error")], error("23"), Progress::Unknown),
            ("it may have been sent", vec![event(AT_CONDUCTOR, "ctl", "Error")], vec![], Progress::Unknown),
        ] {
            assert_eq!(progress(&events, &records).expect("read"), expected, "{what}");
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
