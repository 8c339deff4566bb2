//! `rekindle segment list|show`, `rekindle host show`.

use rekindle_proto::segment::{SegmentDoc, SegmentHostDoc, SegmentsDoc};
use rekindle_proto::status::HostLine;

use super::table::{Cell, table};
use super::{Paint, Tone, state_tone};
use crate::telemetry::plain;

/// All segments, and hosts that are in none.
#[must_use]
pub fn segments(document: &SegmentsDoc, paint: Paint) -> String {
    let row = |segment: &SegmentDoc| {
        let reserved = segment.hosts.iter().filter(|host| host.reserved).count();
        vec![
            Cell::new(segment.name.as_str()),
            Cell::new(segment.recovery_method.as_str()),
            enabled(segment),
            Cell::right(&segment.hosts.len().to_string()),
            Cell::right(&reserved.to_string()),
            Cell::new(&segment.uuid.to_string()),
            Cell::new(segment.description.as_str()),
        ]
    };
    let header = ["SEGMENT", "METHOD", "ENABLED", "HOSTS", "RESERVED", "UUID", ""];
    let mut text = table(&header, document.segments.iter().map(row), paint);
    if !document.unassigned.is_empty() {
        let names: Vec<&str> = document.unassigned.iter().map(|host| host.as_str()).collect();
        text.push_str(&format!("in none, recovered as with auto: {}\n", names.join(" ")));
    }
    text
}

/// One segment with its hosts.
#[must_use]
pub fn segment(segment: &SegmentDoc, paint: Paint) -> String {
    let mut fields = vec![
        vec![Cell::new("segment"), Cell::new(segment.name.as_str())],
        vec![Cell::new("uuid"), Cell::new(&segment.uuid.to_string())],
        vec![Cell::new("recovery method"), Cell::new(segment.recovery_method.as_str())],
        vec![Cell::new("service type"), Cell::new(segment.service_type.as_str())],
        vec![Cell::new("enabled"), enabled(segment)],
        vec![Cell::new("description"), Cell::new(segment.description.as_str())],
    ];
    if let Some(incident) = segment.in_use_by {
        fields.push(vec![
            Cell::new("in use"),
            Cell::toned(&format!("by incident {incident}: not changed now"), Tone::Uneasy),
        ]);
    }
    let mut text = table(&["", ""], fields.into_iter(), paint).trim_start_matches('\n').to_owned();
    let row = |host: &SegmentHostDoc| {
        vec![
            Cell::new(host.name.as_str()),
            Cell::new(yes_no(host.reserved)),
            Cell::new(yes_no(host.on_maintenance)),
            Cell::new(host.kind.as_str()),
            Cell::new(&host.uuid.to_string()),
            Cell::new(host.control_attributes.as_str()),
        ]
    };
    let header = ["HOST", "RESERVED", "MAINTENANCE", "TYPE", "UUID", ""];
    text.push('\n');
    text.push_str(&table(&header, segment.hosts.iter().map(row), paint));
    text
}

/// One host with its segment.
#[must_use]
pub fn host(line: &HostLine, place: Option<(&SegmentDoc, &SegmentHostDoc)>, paint: Paint) -> String {
    let domain = line.domain.as_ref().map_or("-", |domain| domain.as_str());
    let mut fields = vec![
        vec![Cell::new("host"), Cell::new(line.host.as_str())],
        vec![Cell::new("state"), Cell::toned(line.state.as_str(), state_tone(line.state.as_str()))],
        vec![Cell::new("domain"), Cell::new(domain)],
        vec![Cell::new("maintenance"), Cell::new(yes_no(line.maintenance))],
    ];
    match place {
        None => fields.push(vec![Cell::new("segment"), Cell::new("none: recovered as with auto")]),
        Some((segment, place)) => fields.extend([
            vec![Cell::new("segment"), Cell::new(segment.name.as_str())],
            vec![Cell::new("uuid"), Cell::new(&place.uuid.to_string())],
            vec![Cell::new("reserved"), Cell::new(yes_no(place.reserved))],
            vec![Cell::new("type"), Cell::new(place.kind.as_str())],
            vec![Cell::new("control attributes"), Cell::new(place.control_attributes.as_str())],
        ]),
    }
    let notes: Vec<String> = line.notes.iter().map(|note| plain(note.as_str())).collect();
    fields.push(vec![Cell::new("notes"), Cell::new(&notes.join(", "))]);
    table(&["", ""], fields.into_iter(), paint).trim_start_matches('\n').to_owned()
}

fn enabled(segment: &SegmentDoc) -> Cell {
    if segment.enabled { Cell::toned("yes", Tone::Good) } else { Cell::toned("NO", Tone::Uneasy) }
}

fn yes_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
