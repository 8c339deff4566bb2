//! How far a recovery is, and what would be its order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

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
    for record in incident.servers.values() {
        let none = PriorityLine { priority: record.priority, ..PriorityLine::default() };
        let line = priorities.entry(Reverse(record.priority)).or_insert(none);
        line.servers += 1;
        match (&record.fate, &record.intent) {
            (Some(Fate::Recovered { .. }), _) => line.recovered += 1,
            (Some(Fate::LeftBehind { .. } | Fate::Deleted), _) => line.left_behind += 1,
            (None, Some(_)) => line.under_way += 1,
            (None, None) => {}
        }
    }
    let priorities: Vec<PriorityLine> = priorities.into_values().collect();
    let settled = priorities.iter().map(|line| line.recovered + line.left_behind).sum();
    let is_running = incident.phase == Phase::Evacuating;
    let remaining = leader.filter(|_| is_running).and_then(|leader| leader.remaining(incident.id));
    let remaining_ms = remaining.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let servers = priorities.iter().map(|line| line.servers).sum();
    Some(ProgressDoc { settled, servers, remaining_ms, priorities })
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
