//! Who belongs, who said goodbye, who comes and goes, who rebooted: what operators see of it.

use rekindle_proto::fact::{StopReason, Text};
use rekindle_proto::id::{HostName, ServerId};
use rekindle_proto::status::{GuardLine, HostLine, IncidentDoc, IncidentLine, ServerLine};

use crate::context::Context;
use crate::leader::Leader;
use crate::ledger::{OnShutdown, Reboot, RebootServer};
use crate::membership::MemberState;

/// Members alive in gossip whom nobody has enrolled.
pub(super) fn strangers(cx: &Context<'_>) -> Vec<HostName> {
    if cx.ledger.roster.is_empty() {
        return Vec::new();
    }
    let alive = cx.membership.members().filter(|view| view.state == MemberState::Alive);
    let names = alive.filter_map(|view| cx.heard.name(view.member));
    let mut strangers: Vec<HostName> = names.filter(|host| cx.ledger.entry_of(host).is_none()).cloned().collect();
    strangers.sort();
    strangers
}

/// What goes without a host's own line.
pub(super) fn alarms(cx: &Context<'_>, leader: &Leader) -> Vec<Text> {
    let mut alarms: Vec<Text> = Vec::new();
    for host in strangers(cx) {
        alarms.push(Text::new(format!(
            "{host} is heard and not enrolled: it is not protected. `rekindle host enroll {host}`, or stop its daemon"
        )));
    }
    for entry in cx.ledger.enrolled() {
        let host = &entry.host;
        if cx.ledger.open_incident(host).is_none() {
            alarms.extend(absence_alarm(cx, host));
        }
        alarms.extend(cx.ledger.flap_hold(host));
    }
    alarms.extend(leader.long_gone(cx));
    alarms
}

fn absence_alarm(cx: &Context<'_>, host: &HostName) -> Option<Text> {
    let (why, life) = cx.goodbye(host)?;
    let absence = cx.ledger.absence(host).filter(|absence| absence.life == life)?;
    if cx.ledger.time < absence.alarm_at() {
        return None;
    }
    let then = match (why, cx.setup.policy.on_shutdown) {
        (StopReason::Daemon, _) => "it is not protected: start its daemon again".to_owned(),
        (StopReason::Reboot | StopReason::PowerOff, OnShutdown::Wait(wait)) => {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let left_ms = absence.since.after_ms(wait_ms).millis_since(cx.ledger.time);
            format!("recovered as a failed host in {} s, unless it returns", left_ms.div_ceil(1_000))
        }
        (StopReason::Reboot | StopReason::PowerOff, OnShutdown::Recover) => "recovered as a failed host".to_owned(),
        (StopReason::Reboot | StopReason::PowerOff, OnShutdown::Ignore) => {
            "nothing is done about it (on_shutdown = \"ignore\")".to_owned()
        }
    };
    Some(Text::new(format!("{host} is absent, {why}: {then}")))
}

/// Remarks for a host's line.
pub(super) fn notes(cx: &Context<'_>, leader: Option<&Leader>, host: &HostName) -> Vec<Text> {
    let mut notes = Vec::new();
    if let Some((why, _)) = cx.goodbye(host) {
        notes.push(Text::new(why.to_string()));
    }
    if cx.ledger.probation.contains_key(host) {
        let left = leader.and_then(|leader| leader.probation_left(host, cx.now.mono));
        notes.push(Text::new(match left {
            Some(left) => format!("on probation for {} s more: neither counted nor protected", left.as_secs()),
            None => "on probation, and not heard: neither counted nor protected".to_owned(),
        }));
    }
    if let Some(reboot) = cx.ledger.open_reboot(host) {
        notes.push(Text::new(format!("rebooted: see incident {}", reboot.id)));
    }
    notes.extend(cx.ledger.flap_hold(host));
    notes
}

/// A host on probation has a line of its own kind.
pub(super) fn mark_probation(cx: &Context<'_>, line: HostLine) -> HostLine {
    if cx.ledger.probation.contains_key(&line.host) { HostLine { state: "probation".into(), ..line } } else { line }
}

/// Guards of `why`: probation, a goodbye, hosts that come and go, and one that rebooted.
pub(super) fn guards(cx: &Context<'_>, leader: &Leader, host: &HostName) -> Vec<GuardLine> {
    let guard =
        |name: &str, passes: bool, text: String| GuardLine { guard: name.into(), passes, text: Text::new(text) };
    let probation = if cx.ledger.probation.contains_key(host) {
        let text = match leader.probation_left(host, cx.now.mono) {
            Some(left) => format!("on probation for {} s more, while it is heard", left.as_secs()),
            None => "on probation: it counts once it was heard for 10 minutes".to_owned(),
        };
        guard("probation", false, text)
    } else {
        guard("probation", true, "it counts".to_owned())
    };
    let goodbye = match cx.goodbye(host) {
        None => guard("goodbye", true, "it has not said goodbye".to_owned()),
        Some((why, _)) => guard("goodbye", false, format!("absent, {why}; nothing is done about its silence")),
    };
    let flapping = match cx.ledger.flap_hold(host) {
        None => guard("flapping", true, "it does not come and go".to_owned()),
        // No brake: a flapping host that dies is recovered. It is only not let back by itself.
        Some(why) => GuardLine { guard: "flapping".into(), passes: true, text: why },
    };
    let reboot = match cx.ledger.open_reboot(host) {
        None => guard("reboot", true, "no reboot of its own is open".to_owned()),
        // No brake either: what fails while it is being put right is the whole host.
        Some(reboot) => guard(
            "reboot",
            true,
            format!(
                "it rebooted: incident {} starts its guests in place; if it fails before that is done, it is recovered as a whole",
                reboot.id
            ),
        ),
    };
    vec![probation, goodbye, flapping, reboot]
}

pub(super) fn reboot_line(reboot: &Reboot) -> IncidentLine {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let failed = reboot.servers.values().filter(|server| matches!(server.fate, Some((false, _)))).count();
    let open = reboot.servers.values().filter(|server| server.fate.is_none()).count();
    let done = if reboot.servers.is_empty() && reboot.is_open() { 0 } else { reboot.ran.len() - failed - open };
    IncidentLine {
        id: reboot.id,
        host: reboot.host.clone(),
        server: None,
        phase: reboot.shown(),
        began: reboot.began,
        ended: reboot.ended,
        recovered: count(done),
        left_behind: count(failed),
        servers: count(reboot.ran.len()),
        rebooted: true,
        process: None,
        rehearsal: false,
    }
}

pub(super) fn reboot_doc(leader: Option<&Leader>, reboot: &Reboot) -> IncidentDoc {
    let line = |(id, server): (&ServerId, &RebootServer)| ServerLine {
        server: *id,
        name: Text::default(),
        state: match (&server.fate, server.guest) {
            (Some((true, _)), _) => "recovered",
            (Some((false, _)), _) => "left-behind",
            (None, Some(_)) => "starting",
            (None, None) => "waiting",
        }
        .into(),
        to: matches!(server.fate, Some((true, _))).then(|| reboot.host.clone()),
        attempts: u32::from(server.guest.is_some()),
        reason: server.fate.as_ref().filter(|(runs, _)| !runs).map(|(_, why)| why.clone()),
        priority: Some(server.priority),
    };
    IncidentDoc {
        line: reboot_line(reboot),
        story: reboot.story.clone(),
        servers: reboot.servers.iter().map(line).collect(),
        held_by: leader.and_then(|leader| leader.holds(reboot.id)).into_iter().cloned().collect(),
        progress: None,
        reserve: None,
        fences: Vec::new(),
    }
}
