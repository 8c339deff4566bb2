//! How far a recovery is, and what would be its order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::status::{Phase, PriorityLine, ProgressDoc};

use crate::leader::Leader;
use crate::ledger::{Fate, Incident, PlannedServer};

/// Servers named in a forecast, of each kind; the rest is counted.
const NAMES_MAX: usize = 20;

/// Names of one line of the order.
const NAMES_A_LINE: usize = 8;

/// How far an incident's servers are; `None` while they are not known.
pub(super) fn progress(leader: Option<&Leader>, incident: &Incident) -> Option<ProgressDoc> {
    if incident.servers.is_empty() {
        return None;
    }
    let mut priorities: BTreeMap<Reverse<u8>, PriorityLine> = BTreeMap::new();
    for (id, record) in &incident.servers {
        let none = PriorityLine { priority: record.priority, ..PriorityLine::default() };
        let line = priorities.entry(Reverse(record.priority)).or_insert(none);
        line.servers += 1;
        match (&record.fate, &record.intent) {
            (Some(Fate::Recovered { .. }), _) => line.recovered += 1,
            (Some(Fate::LeftBehind { .. } | Fate::Deleted), _) => line.left_behind += 1,
            (None, Some(_)) => line.under_way += 1,
            (None, None) if leader.is_some_and(|leader| leader.has_arrived(incident, *id)) => line.arrived += 1,
            (None, None) => {}
        }
    }
    let priorities: Vec<PriorityLine> = priorities.into_values().collect();
    let settled = priorities.iter().map(|line| line.recovered + line.left_behind).sum();
    let is_running = incident.phase == Phase::Evacuating;
    let servers: u32 = priorities.iter().map(|line| line.servers).sum();
    // What this leader has measured itself; else what the ledger tells, whoever wrote it.
    let measured = leader.and_then(|leader| leader.each_takes(incident.id)).or_else(|| each_took(incident));
    let each_ms = measured.filter(|_| is_running).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let left = u64::from(servers.saturating_sub(settled));
    let remaining_ms = each_ms.map(|each| each.saturating_mul(left));
    let per_minute = each_ms.map(|each| u32::try_from(60_000 / each.max(1)).unwrap_or(u32::MAX));
    let at_once = leader.filter(|_| is_running).and_then(Leader::at_once);
    let at_once = at_once.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    Some(ProgressDoc { settled, servers, remaining_ms, priorities, per_minute, at_once })
}

/// How long each server took, by the times in the ledger: from the beginning of the evacuation to the last word about one.
/// `None`: none was settled yet, or the evacuation was begun more than once, with a pause of any length between.
fn each_took(incident: &Incident) -> Option<Duration> {
    let mut begun = incident.turns.iter().filter(|turn| turn.to == Phase::Evacuating);
    let (began, None) = (begun.next()?.at, begun.next()) else { return None };
    // Those that were left behind when the plan was made took no time.
    let settled = incident.servers.values().filter(|record| record.fate.is_some() && record.attempts > 0).count();
    let last = incident.story.iter().rev().find(|line| line.phase == Phase::Evacuating)?.at;
    let settled = u32::try_from(settled).ok().filter(|count| *count > 0)?;
    Some(Duration::from_millis(last.millis_since(began)) / settled)
}

/// What would become of a host's servers, in words: the order, who is left behind, who is not decided yet.
pub(super) fn forecast(planned: &[PlannedServer]) -> Vec<Text> {
    let mut groups: BTreeMap<(Reverse<u8>, Reverse<bool>), Vec<&str>> = BTreeMap::new();
    let (mut left, mut undecided) = (Vec::new(), Vec::new());
    for server in planned {
        let name = server.name.as_str();
        match (&server.left_behind, &server.undecided) {
            (Some(why), _) => left.push(format!("leave {name} behind: {why}")),
            (None, Some(why)) => undecided.push(format!("decide about {name} then: {why}")),
            (None, None) => groups.entry((Reverse(server.priority), Reverse(server.marked))).or_default().push(name),
        }
    }
    let mut lines = Vec::new();
    for ((Reverse(priority), Reverse(marked)), mut names) in groups {
        names.sort_by_key(|name| (name.len(), *name));
        let mark = if marked { ", marked" } else { "" };
        let more = match names.len().saturating_sub(NAMES_A_LINE) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        names.truncate(NAMES_A_LINE);
        lines.push(Text::new(format!("evacuate priority {priority}{mark}: {}{more}", names.join(", "))));
    }
    for (kind, what) in [(left, "left behind"), (undecided, "not decided before")] {
        let more = kind.len().saturating_sub(NAMES_MAX);
        lines.extend(kind.into_iter().take(NAMES_MAX).map(Text::new));
        if more > 0 {
            lines.push(Text::new(format!("… and {more} more {what}")));
        }
    }
    lines
}
