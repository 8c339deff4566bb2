//! `rekindle status`.

use rekindle_proto::fact::MemberRole;
use rekindle_proto::id::PathName;
use rekindle_proto::status::{HostLine, IncidentDoc, StatusDoc};

use super::incident::{REBOOTED, held, story, title};
use super::table::{Cell, table};
use super::{Paint, Tone, ago, date_time, state_tone};
use crate::cli::exit::is_quorate;
use crate::telemetry::plain;

/// The first line: also what systemd shows as the daemon's status.
#[must_use]
pub fn headline(status: &StatusDoc) -> String {
    head(status, Paint { colours: false })
}

/// The whole screen.
#[must_use]
pub fn status(status: &StatusDoc, paint: Paint) -> String {
    let mut text = format!("{}\n", head(status, paint));
    text.push_str(&format!("told by {}, {}", status.told_by, date_time(status.at)));
    let voters: Vec<&str> = status.voters.iter().map(|voter| voter.as_str()).collect();
    text.push_str(&format!("   voters {}\n", voters.join(" ")));
    match (status.armed, &status.armed_reason) {
        (Some(false), reason) => {
            let why = reason.as_ref().map_or_else(String::new, |reason| format!(" ({})", plain(reason.as_str())));
            let again =
                status.armed_again_in_ms.map_or_else(String::new, |left| format!("; armed again in {}", ago(left)));
            let line = format!("disarmed: watching only, nothing will be fenced or evacuated{why}{again}");
            text.push_str(&format!("{}\n", paint.paint(Tone::Uneasy, &line)));
        }
        (None, _) => text.push_str("no roster yet: give it once with `rekindle init --roster FILE`\n"),
        (Some(true), _) => {}
    }
    if !status.hosts.is_empty() {
        let paths = paths(status);
        let names: Vec<String> = paths.iter().map(|path| path.as_str().to_uppercase()).collect();
        let mut header = vec!["HOST", "STATE", "FOR", "INC"];
        header.extend(names.iter().map(String::as_str));
        header.extend(["FENCE DEVICE", "GUESTS", ""]);
        text.push('\n');
        text.push_str(&table(&header, status.hosts.iter().map(|line| host(line, &paths)), paint));
    }
    for incident in &status.incidents {
        text.push_str(&open(incident, paint));
    }
    if !status.alarms.is_empty() {
        text.push_str(&format!("\n{}\n", paint.paint(Tone::Strong, "ALARMS")));
        for alarm in &status.alarms {
            text.push_str(&format!("  {}\n", plain(alarm.as_str())));
        }
    }
    text
}

/// Everybody enrolled, and those who are heard and are not.
#[must_use]
pub fn hosts(status: &StatusDoc, paint: Paint) -> String {
    let role = |host: &HostLine| match host.role {
        MemberRole::Member => "member",
        MemberRole::Witness => "witness",
    };
    let domain = |host: &HostLine| host.domain.as_ref().map_or_else(String::new, ToString::to_string);
    let row = |host: &HostLine| {
        vec![
            Cell::new(host.host.as_str()),
            Cell::new(role(host)),
            Cell::new(&domain(host)),
            Cell::new(host.segment.as_ref().map_or("", |segment| segment.as_str())),
            Cell::toned(host.state.as_str(), state_tone(host.state.as_str())),
        ]
    };
    let mut text = table(&["HOST", "ROLE", "DOMAIN", "SEGMENT", "STATE"], status.hosts.iter().map(row), paint);
    for stranger in &status.strangers {
        text.push_str(&format!("{stranger} is heard and not enrolled: `rekindle host enroll {stranger} --reason …`\n"));
    }
    text
}

fn head(status: &StatusDoc, paint: Paint) -> String {
    let figures = format!("{} of {} (need {})", status.alive, status.roster, status.needed);
    let quorum = match (status.armed, is_quorate(status)) {
        (None, _) => paint.paint(Tone::Bad, "NO ROSTER"),
        (Some(_), true) => paint.paint(Tone::Good, &format!("quorate {figures}")),
        (Some(_), false) => paint.paint(Tone::Bad, &format!("NOT QUORATE {figures}")),
    };
    let leader = status.leader.as_ref().map_or_else(
        || paint.paint(Tone::Bad, &format!("NO LEADER, term {}", status.term)),
        |leader| format!("leader {leader}, term {}", status.term),
    );
    let armed = match status.armed {
        Some(true) => paint.paint(Tone::Good, "armed"),
        Some(false) | None => paint.paint(Tone::Uneasy, "DISARMED"),
    };
    format!("{}   {quorum}   {leader}   {armed}", status.cluster)
}

/// The networks, if there are several: then each has a column. In the teller's order.
fn paths(status: &StatusDoc) -> Vec<&PathName> {
    let longest = status.hosts.iter().map(|line| &line.paths).max_by_key(|paths| paths.len());
    let paths = longest.filter(|paths| paths.len() > 1);
    paths.into_iter().flatten().map(|line| &line.path).collect()
}

/// One host on one network.
fn on_path(line: &HostLine, path: &PathName) -> Cell {
    match line.paths.iter().find(|line| line.path == *path) {
        None => Cell::new("-"),
        Some(found) => {
            let own = if found.lost { ", lost" } else { "" };
            let text = format!("{}{own}", found.state);
            Cell::toned(&text, if found.lost { Tone::Bad } else { state_tone(found.state.as_str()) })
        }
    }
}

fn host(line: &HostLine, paths: &[&PathName]) -> Vec<Cell> {
    let mut notes: Vec<String> = Vec::new();
    if line.maintenance {
        notes.push("MAINTENANCE".to_owned());
    }
    if line.role == MemberRole::Witness {
        notes.push("witness".to_owned());
    }
    notes.extend(line.domain.as_ref().map(ToString::to_string));
    notes.extend(line.segment.as_ref().map(|segment| format!("segment {segment}")));
    notes.extend(line.notes.iter().map(|note| note.as_str().to_owned()));
    let mut row = vec![
        Cell::new(line.host.as_str()),
        Cell::toned(line.state.as_str(), state_tone(line.state.as_str())),
        Cell::new(&line.for_ms.map_or_else(|| "-".to_owned(), ago)),
        Cell::right(&line.incarnation.map_or_else(|| "-".to_owned(), |number| number.to_string())),
    ];
    row.extend(paths.iter().map(|path| on_path(line, path)));
    row.extend([
        Cell::new(line.devices.as_str()),
        Cell::right(&line.guests.map_or_else(|| "-".to_owned(), |guests| guests.to_string())),
        Cell::new(&notes.join(", ")),
    ]);
    row
}

fn open(incident: &IncidentDoc, paint: Paint) -> String {
    let line = &incident.line;
    let mut text = format!("\n{}", title(line, paint));
    if line.servers > 0 {
        let (done, left) =
            if line.rebooted { ("guests run again", "not started") } else { ("servers recovered", "left behind") };
        text.push_str(&format!("   {} of {} {done}", line.recovered, line.servers));
        if line.left_behind > 0 {
            text.push_str(&paint.paint(Tone::Bad, &format!(", {} {left}", line.left_behind)));
        }
    }
    text.push('\n');
    if line.rebooted {
        text.push_str(&format!("  {REBOOTED}\n"));
    }
    text.push_str(&story(incident, paint));
    text.push_str(&held(incident, paint));
    text
}
