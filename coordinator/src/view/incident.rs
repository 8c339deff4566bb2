//! The story of one failure.

use rekindle_proto::admin::{AdminErrorKind, AdminReply};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{IncidentId, ServerId};
use rekindle_proto::status::{IncidentDoc, IncidentLine, Phase, ServerLine};

use super::fences::fences;
use super::processes::{process_doc, process_line};
use super::progress::progress;
use super::rehearsal::{rehearsal_doc, rehearsal_line};
use super::standing::{reboot_doc, reboot_line};
use crate::context::Context;
use crate::leader::Leader;
use crate::ledger::{Fate, GuestIncident, Incident, Ledger, ServerRecord};
use crate::recovery::in_order;

pub(crate) fn incidents(cx: &Context<'_>) -> Vec<IncidentLine> {
    let hosts = cx.ledger.incidents.values().map(incident_line);
    let guests = cx.ledger.guest_incidents.values().map(guest_line);
    let reboots = cx.ledger.reboots.values().map(reboot_line);
    let processes = cx.ledger.processes.values().map(process_line);
    let rehearsals = cx.ledger.rehearsals.values().map(rehearsal_line);
    let all = hosts.chain(guests).chain(reboots).chain(processes).chain(rehearsals);
    let mut lines: Vec<IncidentLine> = all.collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.id));
    lines
}

pub(crate) fn incident(cx: &Context<'_>, leader: &Leader, id: IncidentId) -> AdminReply {
    match document(Some(leader), cx.ledger, id) {
        Some(doc) => AdminReply::Incident { incident: Box::new(doc) },
        None => {
            AdminReply::Error { kind: AdminErrorKind::NotFound, text: Text::new(format!("there is no incident {id}")) }
        }
    }
}

/// The story as the ledger alone tells it: what only a leader knows, such as what is waited for, is missing.
pub(crate) fn story(ledger: &Ledger, id: IncidentId) -> Option<IncidentDoc> {
    document(None, ledger, id)
}

fn document(leader: Option<&Leader>, ledger: &Ledger, id: IncidentId) -> Option<IncidentDoc> {
    if let Some(incident) = ledger.incidents.get(&id) {
        return Some(incident_doc(ledger, leader, incident));
    }
    if let Some(guest) = ledger.guest_incidents.get(&id) {
        let held_by = leader.and_then(|leader| leader.holds(id)).into_iter().cloned().collect();
        let story = guest.story.clone();
        let (line, servers) = (guest_line(guest), Vec::new());
        return Some(IncidentDoc { line, story, servers, held_by, progress: None, reserve: None, fences: Vec::new() });
    }
    if let Some(process) = ledger.processes.get(&id) {
        return Some(process_doc(leader, process));
    }
    if let Some(rehearsal) = ledger.rehearsals.get(&id) {
        return Some(rehearsal_doc(leader, rehearsal));
    }
    ledger.reboots.get(&id).map(|reboot| reboot_doc(leader, reboot))
}

pub(super) fn incident_doc(ledger: &Ledger, leader: Option<&Leader>, incident: &Incident) -> IncidentDoc {
    let servers = in_order(incident).into_iter().filter_map(|id| Some((id, incident.servers.get(&id)?)));
    let servers = servers.map(|(id, record)| server_line(leader, incident, id, record)).collect();
    let held_by = leader.and_then(|leader| leader.holds(incident.id)).into_iter().cloned().collect();
    let progress = progress(leader, incident);
    let (line, story, reserve) = (incident_line(incident), incident.story.clone(), super::segments::reserve(incident));
    let fences = fences(incident.attempts.iter(), |attempt| ledger.executors.get(&(incident.id, attempt)));
    IncidentDoc { line, story, servers, held_by, progress, reserve, fences }
}

fn incident_line(incident: &Incident) -> IncidentLine {
    let count = |test: fn(&Fate) -> bool| {
        let fates = incident.servers.values().filter_map(|record| record.fate.as_ref());
        u32::try_from(fates.filter(|fate| test(fate)).count()).unwrap_or(u32::MAX)
    };
    IncidentLine {
        id: incident.id,
        host: incident.host.clone(),
        server: None,
        phase: incident.phase,
        began: incident.began,
        ended: incident.ended,
        recovered: count(|fate| matches!(fate, Fate::Recovered { .. })),
        left_behind: count(|fate| matches!(fate, Fate::LeftBehind { .. })),
        servers: u32::try_from(incident.servers.len()).unwrap_or(u32::MAX),
        rebooted: false,
        process: None,
        rehearsal: false,
    }
}

fn guest_line(guest: &GuestIncident) -> IncidentLine {
    let phase = match guest.recovered {
        None => Phase::Evacuating,
        Some(true) => Phase::Recovered,
        Some(false) => Phase::Stuck,
    };
    IncidentLine {
        id: guest.id,
        host: guest.host.clone(),
        server: Some(guest.server),
        phase,
        began: guest.began,
        ended: guest.ended,
        recovered: u32::from(guest.recovered == Some(true)),
        left_behind: u32::from(guest.recovered == Some(false)),
        servers: 1,
        rebooted: false,
        process: None,
        rehearsal: false,
    }
}

fn server_line(leader: Option<&Leader>, incident: &Incident, id: ServerId, record: &ServerRecord) -> ServerLine {
    let wait = leader.and_then(|leader| leader.server_wait(incident.id, id)).cloned();
    let has_arrived = leader.is_some_and(|leader| leader.has_arrived(incident, id));
    let waits = if has_arrived { "arrived" } else { "waiting" };
    let (state, to, reason) = match (&record.fate, &record.intent) {
        (Some(Fate::Recovered { to }), _) => ("recovered", Some(to.clone()), None),
        (Some(Fate::LeftBehind { why }), _) => ("left-behind", None, Some(why.clone())),
        (Some(Fate::Deleted), _) => ("deleted", None, None),
        (None, Some(_)) => ("evacuating", None, wait.or_else(|| record.last_failure.clone())),
        (None, None) => match record.restore.act {
            Some(open) => (waits, None, Some(Text::new(format!("is being {}", open.act.words())))),
            None => (waits, None, wait.or_else(|| record.last_failure.clone())),
        },
    };
    ServerLine {
        server: id,
        name: record.name.clone(),
        state: state.into(),
        to,
        attempts: record.attempts,
        reason,
        priority: Some(record.priority),
    }
}
