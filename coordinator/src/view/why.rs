//! What would happen if this host died now; and if nothing, why not.

use rekindle_proto::admin::{AdminErrorKind, AdminReply};
use rekindle_proto::fact::{MemberRole, NovaServer, Text};
use rekindle_proto::id::{HostName, PathName};
use rekindle_proto::status::{GuardLine, WhyDoc};

use super::progress::forecast;
use super::standing;
use crate::context::Context;
use crate::fencing::{Binding, DeviceEntry};
use crate::leader::Leader;
use crate::life::Life;
use crate::membership::MemberState;
use crate::paths::PathAction;
use crate::policy::OnAgentDeath;
use crate::recovery::{self, Lists, Looked};
use crate::verdict::{brake_needs, testimonies_needed};

/// `servers`: Nova's list of them, or why there is none.
pub(crate) fn why(
    cx: &Context<'_>,
    leader: &Leader,
    host: &HostName,
    servers: Result<&[NovaServer], &str>,
) -> AdminReply {
    if cx.ledger.entry_of(host).is_none() {
        let text = Text::new(format!("{host} is not in the roster"));
        return AdminReply::Error { kind: AdminErrorKind::NotFound, text };
    }
    let mut guards = vec![
        role(cx, host),
        armed(cx),
        maintenance(cx, host),
        super::segments::guard(cx, leader, host),
        incident(cx, host),
        heard(cx, host),
        quorum(cx, host),
        testimony(cx, host),
        paths(cx, leader, host),
        signs_of_life(cx, leader, host),
        device(leader, host),
        super::rehearsal::guard(cx.ledger, host),
        super::self_fence::guard(cx, host),
        super::gate::guard(cx.ledger, host),
        leader_health(leader),
    ];
    guards.extend(super::brake::guards(cx, leader, host));
    guards.extend(standing::guards(cx, leader, host));
    guards.push(super::processes::guard(cx, leader, host));
    let protected = guards.iter().all(|guard| guard.passes);
    let plan = if protected { plan(cx, leader, host, servers) } else { Vec::new() };
    let capacity = leader.capacity_of(cx.now.mono, host);
    AdminReply::Why { why: Box::new(WhyDoc { host: host.clone(), protected, guards, plan, capacity }) }
}

fn guard(name: &str, passes: bool, text: impl Into<Text>) -> GuardLine {
    GuardLine { guard: name.into(), passes, text: text.into() }
}

fn role(cx: &Context<'_>, host: &HostName) -> GuardLine {
    let hypervisor = cx.ledger.entry_of(host).is_some_and(|entry| entry.role == MemberRole::Member);
    guard("role", hypervisor, if hypervisor { "hypervisor" } else { "a witness runs no guests and is never fenced" })
}

fn armed(cx: &Context<'_>) -> GuardLine {
    let arming = &cx.ledger.arming;
    let word = match cx.ledger.armed_again_in_ms() {
        _ if arming.armed => "armed".to_owned(),
        Some(ms) => format!("disarmed for {} min more", ms.div_ceil(60_000)),
        None => "disarmed".to_owned(),
    };
    guard("armed", arming.armed, Text::new(format!("{word}: {}", arming.reason)))
}

fn maintenance(cx: &Context<'_>, host: &HostName) -> GuardLine {
    match cx.ledger.host(host).and_then(|record| record.maintenance.as_ref()) {
        None => guard("maintenance", true, "not in maintenance"),
        Some(reason) => guard("maintenance", false, reason.clone()),
    }
}

fn incident(cx: &Context<'_>, host: &HostName) -> GuardLine {
    if let Some(open) = cx.ledger.open_incident(host) {
        let text = format!("incident {} is open, {}", open.id, open.phase);
        return guard("incident", false, Text::new(text));
    }
    match cx.ledger.host(host).and_then(|record| record.quarantine) {
        None => guard("incident", true, "none is open"),
        Some(id) => {
            let text = format!("quarantined since incident {id}: `rekindle release {host}` when it is repaired");
            guard("incident", false, Text::new(text))
        }
    }
}

fn heard(cx: &Context<'_>, host: &HostName) -> GuardLine {
    match cx.ledger.host(host).and_then(|record| record.pulse.as_ref()) {
        None => guard("heard", false, "it has never been heard since it was enrolled: no target of a cold start"),
        Some(pulse) => {
            let running = pulse.guests.guests.iter().filter(|guest| guest.running).count();
            guard("heard", true, Text::new(format!("boot {}, {running} guests running", pulse.boot)))
        }
    }
}

fn quorum(cx: &Context<'_>, host: &HostName) -> GuardLine {
    let roster = cx.ledger.roster.len();
    let others = cx.ledger.roster.keys().filter(|other| *other != host && cx.is_alive(other)).count();
    let needed = brake_needs(roster);
    let text = format!("{others} of {roster} would answer without it; {needed} are needed (51 %)");
    guard("quorum", others >= needed, Text::new(text))
}

fn testimony(cx: &Context<'_>, host: &HostName) -> GuardLine {
    let eligible = cx.ledger.roster.keys().filter(|other| *other != host && cx.is_alive(other)).count();
    match testimonies_needed(eligible) {
        Some(needed) => {
            guard("testimony", true, Text::new(format!("{needed} of {eligible} members would have to testify")))
        }
        None => guard("testimony", false, Text::new(format!("{eligible} members could testify; at least 2 must"))),
    }
}

fn paths(cx: &Context<'_>, leader: &Leader, host: &HostName) -> GuardLine {
    let word = |(path, state): (&PathName, Option<MemberState>)| {
        let state = match state {
            None => "unseen",
            Some(MemberState::Alive) => "alive",
            Some(MemberState::Suspect) => "suspect",
            Some(MemberState::Down) => "down",
        };
        let own = if leader.says_lost(cx.now.mono, host, path) { ", lost by its own word" } else { "" };
        format!("{path} {state}{own}")
    };
    if *host == cx.setup.host {
        return guard("paths", true, "it leads, and asks on every path");
    }
    let words: Vec<String> = cx.path_states(host).map(word).collect();
    let all = cx.path_states(host).map(|(path, _)| (path, true));
    let action = cx.setup.policy.paths.decide(all);
    let rule = match action {
        PathAction::Recover => "silence on every one of them is asked about",
        PathAction::Alarm | PathAction::None => "the matrix asks for no verdict even if all are down",
    };
    guard("paths", action == PathAction::Recover, Text::new(format!("{}; {rule}", words.join(", "))))
}

fn signs_of_life(cx: &Context<'_>, leader: &Leader, host: &HostName) -> GuardLine {
    let name = "signs-of-life";
    let suspect = leader.suspects().find(|suspect| suspect.host == host);
    let signs: Vec<String> =
        suspect.iter().flat_map(|suspect| suspect.book.tell(cx.now.mono)).map(|sign| sign.to_string()).collect();
    let signs = signs.join("; ");
    match (suspect.map_or(Life::None, |suspect| suspect.life), leader.answers_for_the_dead(cx, host)) {
        (Life::Alive(_), _) => guard(name, false, Text::new(format!("agent down, host alive: {signs}"))),
        (Life::Lapsed, _) => {
            let passes = cx.setup.policy.on_agent_death == OnAgentDeath::Fence;
            guard(name, passes, Text::new(format!("agent down, only a kernel answers: {signs}")))
        }
        (Life::None, Some(dead)) => {
            let text =
                format!("a kernel's answer counts for nothing here: something answered for {dead}, which was off");
            guard(name, true, Text::new(text))
        }
        (Life::None, None) if signs.is_empty() => {
            guard(name, true, "none seen; while its daemon is heard nobody looks for any")
        }
        (Life::None, None) => guard(name, true, Text::new(format!("seen, and too little to count: {signs}"))),
    }
}

fn device(leader: &Leader, host: &HostName) -> GuardLine {
    let devices = leader.device_book().of(host);
    let Some(level) = devices.iter().map(|entry| entry.plan.level).min() else {
        return guard("fence-device", false, "none is configured: see [[fence_device]]");
    };
    let unbound = |level: u8| {
        let objection = |entry: &&DeviceEntry| Some(format!("{}: {}", entry.plan.name, entry.binding.objection()?));
        devices.iter().filter(move |entry| entry.plan.level == level).find_map(objection)
    };
    let levels: Vec<u8> = devices.iter().map(|entry| entry.plan.level).collect();
    match levels.iter().find(|level| unbound(**level).is_none()) {
        Some(level) => {
            let of_level = || devices.iter().filter(|entry| entry.plan.level == *level);
            let names: Vec<String> = of_level().map(|entry| entry.plan.name.to_string()).collect();
            let by = of_level().find_map(|entry| match &entry.binding {
                Binding::Rehearsed(by) => Some(format!("bound by a rehearsal, {by}")),
                Binding::Unverified => Some("UNVERIFIED: its word is taken, nothing can be read of it".to_owned()),
                Binding::Bound | Binding::Unknown(_) | Binding::Refused(_) => None,
            });
            let by = by.unwrap_or_else(|| "bound".to_owned());
            guard("fence-device", true, Text::new(format!("level {level}: {}, {by}", names.join(" and "))))
        }
        None => guard("fence-device", false, Text::new(unbound(level).unwrap_or_default())),
    }
}

fn leader_health(leader: &Leader) -> GuardLine {
    match leader.ill() {
        None => guard("leader-health", true, "the leader is fit to act"),
        Some(ailment) => guard("leader-health", false, Text::new(format!("the leader is not fit to act: {ailment}"))),
    }
}

fn plan(cx: &Context<'_>, leader: &Leader, host: &HostName, servers: Result<&[NovaServer], &str>) -> Vec<Text> {
    let policy = &cx.setup.policy;
    let guests = cx.ledger.host(host).and_then(|record| record.pulse.as_ref());
    let running = guests.map_or(0, |pulse| pulse.guests.guests.iter().filter(|guest| guest.running).count());
    let devices: Vec<String> = leader
        .device_book()
        .of(host)
        .iter()
        .map(|entry| format!("level {} {}", entry.plan.level, entry.plan.name))
        .collect();
    let mut lines = vec![
        Text::new(format!("suspect for {} ms, unless it refutes", cx.membership.suspicion_time().as_millis())),
        Text::new(format!("power off by {}; read off twice, a second apart", devices.join(", then "))),
        "force its compute service down in Nova".into(),
    ];
    let at_once = policy.evacuations_at_once;
    match servers {
        Ok(servers) => {
            let guests = guests.map(|pulse| &pulse.guests);
            let lists = Lists { host, servers, migrations: &[], guests };
            let (planned, _) = recovery::plan(&lists, policy, &Looked::default());
            let count = planned.iter().filter(|server| server.left_behind.is_none()).count();
            let all = planned.len();
            lines.push(Text::new(format!(
                "evacuate {count} of the {all} servers Nova has there, at most {at_once} at a time"
            )));
            if policy.order.wait_for_previous {
                let most = policy.order.group_timeout.as_secs();
                lines.push(Text::new(format!("each priority waits for the one before, at most {most} s")));
            }
            lines.extend(forecast(&planned));
        }
        Err(why) => {
            lines.push(Text::new(format!(
                "evacuate about {running} servers, at most {at_once} at a time (which ones: {why})"
            )));
        }
    }
    lines
}
