//! Processes of hosts, in words.

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::process::{ProcessStanding, ProcessState};
use rekindle_proto::status::{GuardLine, IncidentDoc, IncidentLine};

use crate::context::Context;
use crate::leader::Leader;
use crate::ledger::{Ledger, ProcessIncident};

/// A host's processes by its own last word.
pub(super) fn report(ledger: &Ledger, host: &HostName) -> Vec<ProcessState> {
    ledger.process_word(host).map(|word| word.processes.clone()).unwrap_or_default()
}

/// Remarks for a host's line: what does not run as it should, and what became of its compute service.
pub(super) fn notes(ledger: &Ledger, host: &HostName) -> Vec<Text> {
    let is_ill = |process: &&ProcessState| match process.standing {
        ProcessStanding::Troubled | ProcessStanding::Down => true,
        ProcessStanding::Running | ProcessStanding::Settling | ProcessStanding::Unknown => false,
    };
    let processes = ledger.process_word(host).map(|word| word.processes.as_slice()).unwrap_or_default();
    let mut notes: Vec<Text> = processes
        .iter()
        .filter(is_ill)
        .map(|process| Text::new(format!("{} is {}", process.name, process.standing)))
        .collect();
    if let Some(open) = ledger.open_process(host).filter(|open| open.disabled) {
        notes.push(Text::new(format!("its compute service is disabled: see incident {}", open.id)));
    }
    notes
}

/// What an operator should know: a process that is down for good, and what is done about it.
pub(super) fn alarms(cx: &Context<'_>, leader: &Leader) -> Vec<Text> {
    let mut alarms = Vec::new();
    for entry in cx.ledger.enrolled() {
        let host = &entry.host;
        let processes = cx.ledger.process_word(host).map(|word| word.processes.as_slice()).unwrap_or_default();
        for process in processes.iter().filter(|process| process.standing == ProcessStanding::Down) {
            let done = match cx.ledger.open_process(host) {
                _ if !process.disables => "no service is disabled for it".to_owned(),
                Some(open) if open.disabled => {
                    format!("its compute service is disabled (incident {}), and enabled again when it is back", open.id)
                }
                Some(_) | None => match leader.service_text(host) {
                    Some(why) => why.to_string(),
                    None => "its compute service is being disabled".to_owned(),
                },
            };
            alarms.push(Text::new(format!("{host}: {} is down for good: {}; {done}", process.name, process.text)));
        }
    }
    alarms
}

/// For `why`: no brake. A host whose processes are down is recovered like any other when it dies.
pub(super) fn guard(cx: &Context<'_>, leader: &Leader, host: &HostName) -> GuardLine {
    let processes = report(cx.ledger, host);
    let words = |process: &ProcessState| format!("{} {}", process.name, process.standing);
    let mut text = match processes.as_slice() {
        [] => "none is watched".to_owned(),
        all => all.iter().map(words).collect::<Vec<_>>().join(", "),
    };
    if let Some(open) = cx.ledger.open_process(host) {
        text.push_str(&format!("; incident {} about {} is open", open.id, open.process));
    }
    if let Some(why) = leader.service_text(host) {
        text.push_str(&format!("; {why}"));
    }
    GuardLine { guard: "processes".into(), passes: true, text: Text::new(text) }
}

pub(super) fn process_line(incident: &ProcessIncident) -> IncidentLine {
    IncidentLine {
        id: incident.id,
        host: incident.host.clone(),
        server: None,
        phase: incident.phase,
        began: incident.began,
        ended: incident.ended,
        recovered: 0,
        left_behind: 0,
        servers: 0,
        rebooted: false,
        process: Some(incident.process.clone()),
        rehearsal: false,
    }
}

pub(super) fn process_doc(leader: Option<&Leader>, incident: &ProcessIncident) -> IncidentDoc {
    let waits = leader.and_then(|leader| leader.service_text(&incident.host)).filter(|_| incident.is_open());
    IncidentDoc {
        line: process_line(incident),
        story: incident.story.clone(),
        servers: Vec::new(),
        held_by: waits.into_iter().cloned().collect(),
        progress: None,
        reserve: None,
        fences: Vec::new(),
    }
}
