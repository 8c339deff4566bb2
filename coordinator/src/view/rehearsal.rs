//! Rehearsals of fencing, in words.

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::status::{GuardLine, IncidentDoc, IncidentLine};

use super::fences::fences;
use crate::leader::Leader;
use crate::ledger::{Ledger, Rehearsal, RehearsalEnd};

pub(super) fn rehearsal_line(rehearsal: &Rehearsal) -> IncidentLine {
    IncidentLine {
        id: rehearsal.id,
        host: rehearsal.host.clone(),
        server: None,
        phase: rehearsal.shown(),
        began: rehearsal.began,
        ended: rehearsal.ended,
        recovered: 0,
        left_behind: 0,
        servers: 0,
        rebooted: false,
        process: None,
        rehearsal: true,
    }
}

pub(super) fn rehearsal_doc(leader: Option<&Leader>, rehearsal: &Rehearsal) -> IncidentDoc {
    let waits = leader.and_then(|leader| leader.rehearsal_text(rehearsal.id)).filter(|_| rehearsal.is_open());
    IncidentDoc {
        line: rehearsal_line(rehearsal),
        story: rehearsal.story.clone(),
        servers: Vec::new(),
        held_by: waits.into_iter().cloned().collect(),
        progress: None,
        reserve: None,
        fences: fences(rehearsal.off.iter(), |_| None),
    }
}

/// A remark for a host's line, while one is under way.
pub(super) fn note(ledger: &Ledger, leader: Option<&Leader>, host: &HostName) -> Option<Text> {
    let rehearsal = ledger.rehearsal_of(host)?;
    let waits = leader.and_then(|leader| leader.rehearsal_text(rehearsal.id));
    let waits = waits.map(|text| format!(": {text}")).unwrap_or_default();
    Some(Text::new(format!("its fencing is being rehearsed, see incident {}{waits}", rehearsal.id)))
}

/// What an operator should know: a host that has not come back, until it does, or is rehearsed again, or leaves maintenance.
pub(super) fn alarms(ledger: &Ledger) -> Vec<Text> {
    let is_away = |rehearsal: &&Rehearsal| {
        let record = ledger.host(&rehearsal.host);
        let boot = record.and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot);
        rehearsal.end == Some(RehearsalEnd::Stuck)
            && boot == rehearsal.boot
            && record.is_some_and(|record| record.maintenance.is_some())
            && ledger.last_rehearsal(&rehearsal.host).is_some_and(|last| last.id == rehearsal.id)
    };
    let stuck = ledger.rehearsals.values().filter(is_away);
    stuck
        .map(|rehearsal| {
            let Rehearsal { id, host, .. } = rehearsal;
            Text::new(format!("{host} has not come back from rehearsal {id}: look at its console, and at its power"))
        })
        .collect()
}

/// For `why`: what the last rehearsal has shown. No brake: whether its devices count, the guard before says.
pub(super) fn guard(ledger: &Ledger, host: &HostName) -> GuardLine {
    let text = match ledger.last_rehearsal(host) {
        None => Text::new(format!(
            "its fencing was never rehearsed: `rekindle fence-rehearse {host}`, empty and in maintenance"
        )),
        Some(rehearsal) => {
            let last = rehearsal.story.last().map(|line| line.text.to_string()).unwrap_or_default();
            Text::new(format!("rehearsal {}, ordered by {}: {last}", rehearsal.id, rehearsal.by))
        }
    };
    GuardLine { guard: "rehearsal".into(), passes: true, text }
}
