//! `rekindle incident`, the list and the story.

use rekindle_proto::segment::ReserveDoc;
use rekindle_proto::status::{FenceLine, IncidentDoc, IncidentLine, Phase, ProgressDoc};

use super::table::{Cell, table};
use super::{Paint, Tone, ago, date, date_time, state_tone, time_of_day};
use crate::telemetry::plain;

/// What a reboot is, where an operator may look for a fence and an evacuation.
pub(super) const REBOOTED: &str = "it rebooted by itself: no fence, no evacuation; its guests are started in place";

/// What a process incident is.
pub(super) const PROCESS: &str =
    "nothing is fenced or moved; its compute service is disabled while it is down for good";

/// What a rehearsal is.
const REHEARSAL: &str = "nothing failed: its fencing is rehearsed; nobody is moved";

/// The list.
#[must_use]
pub fn incidents(lines: &[IncidentLine], paint: Paint) -> String {
    if lines.is_empty() {
        return "no incidents\n".to_owned();
    }
    let rows = lines.iter().map(|line| {
        let phase = phase_word(line, line.phase);
        vec![
            Cell::right(&line.id.to_string()),
            Cell::new(line.host.as_str()),
            Cell::toned(&phase, state_tone(&phase)),
            Cell::new(&date_time(line.began)),
            Cell::right(&line.ended.map_or_else(|| "open".to_owned(), |end| ago(end.millis_since(line.began)))),
            Cell::right(&format!("{} of {}", line.recovered, line.servers)),
            Cell::right(&line.left_behind.to_string()),
            Cell::new(&remark(line)),
        ]
    });
    table(&["ID", "HOST", "PHASE", "BEGAN", "LASTED", "RECOVERED", "LEFT BEHIND", ""], rows, paint)
}

/// The story of one.
#[must_use]
pub fn incident(document: &IncidentDoc, paint: Paint) -> String {
    let line = &document.line;
    let mut text = title(line, paint);
    if let Some(server) = line.server {
        text.push_str(&format!("  server {server}"));
    }
    if line.rebooted {
        text.push_str(&format!("\n{REBOOTED}"));
    }
    if let Some(process) = &line.process {
        text.push_str(&format!("\n{process} of a host that lives: {PROCESS}"));
    }
    if line.rehearsal {
        text.push_str(&format!("\n{REHEARSAL}"));
    }
    text.push_str(&format!("\nbegan {}", date_time(line.began)));
    if let Some(ended) = line.ended {
        text.push_str(&format!(", ended {}, after {}", date_time(ended), ago(ended.millis_since(line.began))));
    }
    text.push_str("\n\n");
    text.push_str(&story(document, paint));
    text.push_str(&held(document, paint));
    text.push_str(&fences(&document.fences));
    if let Some(progress) = &document.progress {
        text.push_str(&self::progress(progress, line.ended.is_none()));
    }
    if let Some(reserve) = &document.reserve {
        text.push_str(&self::reserve(reserve));
    }
    if !document.servers.is_empty() {
        let rows = document.servers.iter().map(|server| {
            vec![
                Cell::new(&server.server.to_string()),
                Cell::new(server.name.as_str()),
                Cell::toned(server.state.as_str(), state_tone(server.state.as_str())),
                Cell::new(server.to.as_ref().map_or("-", |host| host.as_str())),
                Cell::right(&server.attempts.to_string()),
                Cell::new(server.reason.as_ref().map_or("", |reason| reason.as_str())),
            ]
        });
        text.push('\n');
        text.push_str(&table(&["SERVER", "NAME", "STATE", "TO", "ATTEMPTS", ""], rows, paint));
    }
    text
}

/// Every order to power it off: who, when, by what, and each read-back.
fn fences(fences: &[FenceLine]) -> String {
    let mut text = String::new();
    for fence in fences {
        let at = fence.at.map_or_else(|| "?".to_owned(), time_of_day);
        let by = fence.by.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
        let by = fence.executor.as_ref().map_or_else(|| by.clone(), |host| format!("{host} for {by}"));
        let devices = plain(&fence.devices.join(" and "));
        text.push_str(&format!(
            "\nfence {}  {at}  by {by}, term {}  level {}: {devices}  {}, nothing begun after {}\n",
            fence.attempt,
            fence.term,
            fence.level,
            fence.result,
            time_of_day(fence.not_after)
        ));
        for reading in &fence.readings {
            text.push_str(&format!("  {}\n", plain(reading.as_str())));
        }
    }
    text
}

/// The method of its segment, and the reserved hosts taken.
fn reserve(reserve: &ReserveDoc) -> String {
    let mut text = format!("\nrecovered by {}\n", reserve.recovery_method);
    for taken in &reserve.hosts {
        let enabled = if taken.enabled_by_us { ", enabled by us" } else { "" };
        let (host, state, received) = (&taken.host, &taken.state, taken.received);
        text.push_str(&format!("  reserved host {host}: {state}{enabled}, {received} servers received"));
        if !taken.text.as_str().is_empty() {
            text.push_str(&format!(": {}", plain(taken.text.as_str())));
        }
        text.push('\n');
        for aggregate in &taken.aggregates {
            let (name, state) = (plain(aggregate.name.as_str()), plain(aggregate.state.as_str()));
            text.push_str(&format!("    aggregate {name}: {state}"));
            if !aggregate.text.as_str().is_empty() {
                text.push_str(&format!(": {}", plain(aggregate.text.as_str())));
            }
            text.push('\n');
        }
    }
    text
}

/// How far its servers are: all of them, and by priority where there is more than one.
fn progress(progress: &ProgressDoc, is_open: bool) -> String {
    let rest = match progress.remaining_ms {
        Some(ms) => {
            let rate = progress.per_minute.map_or_else(String::new, |rate| format!(" at {rate} a minute"));
            format!(", about {} to go{rate} by the pace so far", ago(ms))
        }
        None if is_open && progress.settled < progress.servers => ", no pace to estimate from yet".to_owned(),
        None => String::new(),
    };
    let at_once = progress.at_once.filter(|_| is_open);
    let at_once = at_once.map_or_else(String::new, |count| format!("; up to {count} evacuations at once"));
    let mut text = format!("\n{} of {} servers settled{rest}{at_once}\n", progress.settled, progress.servers);
    for line in progress.priorities.iter().filter(|_| progress.priorities.len() > 1) {
        let waiting = line.servers.saturating_sub(line.recovered + line.left_behind + line.under_way + line.arrived);
        text.push_str(&format!(
            "  priority {:>3}: {} of {} recovered, {} left behind, {} under way, {} arrived, {waiting} waiting\n",
            line.priority, line.recovered, line.servers, line.left_behind, line.under_way, line.arrived
        ));
    }
    text
}

/// Number, host and phase.
pub(super) fn title(line: &IncidentLine, paint: Paint) -> String {
    let phase = phase_word(line, line.phase);
    let title = paint.paint(Tone::Strong, &format!("INCIDENT {}  {}", line.id, line.host));
    format!("{title}  {}", paint.paint(state_tone(&phase), &phase))
}

/// The phase in words that are true of a reboot too: nothing is moved away from a host that came back by itself, and what
/// ended without us was no false alarm.
fn phase_word(line: &IncidentLine, phase: Phase) -> String {
    if line.rehearsal {
        return match phase {
            Phase::Suspect | Phase::Unclean => "asked",
            Phase::Fencing => "off",
            Phase::Fenced | Phase::Evacuating => "on",
            Phase::Recovered => "passed",
            Phase::Refuted => "failed",
            Phase::Stuck => "stuck",
        }
        .to_owned();
    }
    match (line.rebooted, line.process.is_some(), phase) {
        (true, _, Phase::Evacuating) => "starting".to_owned(),
        (true, _, Phase::Refuted) => "ended".to_owned(),
        (_, true, Phase::Unclean) => "disabled".to_owned(),
        (_, true, Phase::Recovered) => "back".to_owned(),
        (_, true, Phase::Refuted) => "left".to_owned(),
        (_, _, phase) => phase.to_string(),
    }
}

fn remark(line: &IncidentLine) -> String {
    if line.rehearsal {
        return "rehearsal".to_owned();
    }
    match (line.rebooted, line.server, &line.process) {
        (true, _, _) => "rebooted".to_owned(),
        (false, Some(server), _) => format!("server {server}"),
        (false, None, Some(process)) => format!("process {process}"),
        (false, None, None) => String::new(),
    }
}

/// What happened, in order; the date is told where it changes.
pub(super) fn story(document: &IncidentDoc, paint: Paint) -> String {
    story_from(document, 0, paint)
}

/// The same, without so many lines that were told before.
#[must_use]
pub fn story_from(document: &IncidentDoc, told: usize, paint: Paint) -> String {
    let mut text = String::new();
    let mut day =
        date(told.checked_sub(1).and_then(|last| document.story.get(last)).map_or(document.line.began, |line| line.at));
    for line in document.story.iter().skip(told) {
        let today = date(line.at);
        if today != day {
            text.push_str(&format!("  {today}\n"));
            day = today;
        }
        let phase = phase_word(&document.line, line.phase);
        let padding = " ".repeat(10_usize.saturating_sub(phase.len()));
        let phase = paint.paint(state_tone(&phase), &phase);
        let by = line.operator.as_ref().map_or_else(String::new, |operator| format!(" (by {operator})"));
        text.push_str(&format!("  {}  {phase}{padding}  {}{by}\n", time_of_day(line.at), plain(line.text.as_str())));
    }
    text
}

/// What it waits for.
pub(super) fn held(document: &IncidentDoc, paint: Paint) -> String {
    let lines = document.held_by.iter().map(|held| {
        let line = format!("held: {}", plain(held.as_str()));
        format!("  {}\n", paint.paint(Tone::Bad, &line))
    });
    lines.collect()
}
