//! The truth table.

use rekindle_proto::id::{ServiceId, WallTime};
use rekindle_proto::status::Phase;
use uuid::Uuid;

use super::*;

fn host() -> HostName {
    HostName::new("cmp-04").expect("legal")
}

fn compute() -> ProcessName {
    ProcessName::new("nova-compute").expect("legal")
}

fn incident(disabled: bool) -> ProcessIncident {
    ProcessIncident {
        id: IncidentId(17),
        host: host(),
        process: compute(),
        began: WallTime(0),
        ended: None,
        phase: Phase::Unclean,
        disabled,
        story: Vec::new(),
        turns: Vec::new(),
        told: 0,
    }
}

const OURS: &str = "rekindle: nova-compute is down for good on cmp-04 (17)";

/// `None`: enabled. `Some`: disabled, with that reason.
fn service(disabled: Option<&str>, forced_down: bool) -> NovaService {
    NovaService {
        id: ServiceId(Uuid::nil()),
        host: host(),
        up: !forced_down,
        enabled: disabled.is_none(),
        forced_down,
        heartbeat: None,
        disabled_reason: disabled.map(Text::from),
    }
}

fn word(step: &Step) -> &'static str {
    match step {
        Step::Wait(_) => "wait",
        Step::Open(_) => "open",
        Step::Disable => "disable",
        Step::NoteDisabled => "note",
        Step::Enable => "enable",
        Step::End { recovered: true, .. } => "end",
        Step::End { recovered: false, .. } => "leave",
    }
}

#[test]
fn the_table_of_services() {
    let name = compute();
    let person = Some("kernel upgrade, anna");
    // Incident (seen disabled), down, well, overruled, late; the service: disabled, forced down.
    type Row = (Option<bool>, [u8; 4], Option<(Option<&'static str>, bool)>, &'static str);
    let up: Option<(Option<&'static str>, bool)> = Some((None, false));
    let ours: Option<(Option<&'static str>, bool)> = Some((Some(OURS), false));
    let theirs = Some((person, false));
    let rows: [Row; 24] = [
        // Nothing is open.
        (None, [1, 0, 0, 0], up, "open"),
        (None, [1, 0, 0, 1], up, "open"),
        (None, [0, 0, 0, 0], up, "wait"),
        (None, [1, 0, 1, 0], up, "wait"),
        (None, [1, 0, 0, 0], theirs, "wait"),
        // Our reason without an incident: that of another, long over. A person may have set it.
        (None, [1, 0, 0, 0], ours, "wait"),
        (None, [1, 0, 0, 0], Some((None, true)), "wait"),
        (None, [1, 0, 0, 0], None, "wait"),
        // The intent is written down; whether it was carried out, Nova tells.
        (Some(false), [1, 0, 0, 0], up, "disable"),
        (Some(false), [1, 0, 0, 1], up, "disable"),
        (Some(false), [0, 0, 0, 0], up, "wait"),
        (Some(false), [0, 1, 0, 1], up, "wait"),
        (Some(false), [0, 1, 0, 0], up, "end"),
        (Some(false), [1, 0, 0, 0], ours, "note"),
        (Some(false), [0, 1, 0, 0], ours, "note"),
        (Some(false), [1, 0, 0, 0], theirs, "leave"),
        (Some(false), [1, 0, 0, 0], None, "leave"),
        // It was.
        (Some(true), [1, 0, 0, 0], ours, "wait"),
        (Some(true), [0, 0, 0, 0], ours, "wait"),
        (Some(true), [0, 1, 0, 1], ours, "wait"),
        (Some(true), [0, 1, 0, 0], ours, "enable"),
        (Some(true), [0, 1, 0, 0], theirs, "leave"),
        (Some(true), [0, 1, 0, 0], up, "end"),
        // Somebody enables it although the process is down: we do not quarrel.
        (Some(true), [1, 0, 0, 0], up, "leave"),
    ];
    for (seen_disabled, [down, well, overruled, late], read, expected) in rows {
        let incident = seen_disabled.map(incident);
        let down = (down == 1).then_some(&name);
        let known = Known { down, well: well == 1, overruled: overruled == 1, late: late == 1 };
        let read = read.map(|(disabled, forced_down)| service(disabled, forced_down));
        let said = step(incident.as_ref(), known, read.as_ref());
        assert_eq!(word(&said), expected, "{seen_disabled:?} {known:?} {read:?}: {said:?}");
    }
}

#[test]
fn a_reason_fits_into_novas_column() {
    assert_eq!(incident(false).reason(), Text::from(OURS));
    let long = "h".repeat(250);
    let long = ProcessIncident { host: HostName::new(&long).expect("legal"), ..incident(false) };
    assert_eq!(long.reason(), Text::from("rekindle: a process is down for good (17)"));
}
