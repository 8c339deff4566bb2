//! The whole picture.

use std::collections::BTreeMap;

use rekindle_proto::fact::{DeviceReading, MemberRole, Text};
use rekindle_proto::id::{HostName, PathName, ServerId};
use rekindle_proto::status::{HostLine, MemberLine, MembersDoc, PathLine, Phase, StatusDoc};

use super::incident::incident_doc;
use super::standing::{self, reboot_doc, strangers};
use crate::context::Context;
use crate::fencing::{Binding, DeviceEntry};
use crate::leader::{Leader, SuspectView};
use crate::ledger::{GUEST_RESTARTS_MAX, GUEST_WINDOW_MS};
use crate::life::Life;
use crate::member::Member;
use crate::membership::{MemberState, MemberView, Membership};
use crate::paths::{PathAction, hears_nobody};
use crate::verdict::brake_needs;

pub(crate) fn members(cx: &Context<'_>) -> MembersDoc {
    let line = |view: &MemberView| MemberLine {
        host: cx.heard.name(view.member).cloned(),
        address: view.address.to_string(),
        state: state_word(view.state).into(),
        incarnation: view.incarnation,
        for_ms: millis(cx, view),
    };
    let mut members: Vec<MemberLine> = cx.membership.members().map(line).collect();
    members.push(MemberLine {
        host: Some(cx.setup.host.clone()),
        address: cx.setup.listen[0].1.to_string(),
        state: "alive".into(),
        incarnation: cx.membership.incarnation(),
        for_ms: 0,
    });
    members.sort_by(|a, b| a.host.cmp(&b.host));
    MembersDoc { told_by: cx.setup.host.clone(), members }
}

pub(crate) fn status(cx: &Context<'_>, member: &Member, leader: Option<&Leader>) -> StatusDoc {
    let roster = cx.ledger.roster.len();
    let alive = cx.ledger.roster.keys().filter(|host| cx.is_alive(host)).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let dead = cx.ledger.open_incidents().map(|incident| incident_doc(cx.ledger, leader, incident));
    let incidents = dead.chain(cx.ledger.open_reboots().map(|reboot| reboot_doc(leader, reboot))).collect();
    let mut hosts: Vec<HostLine> =
        cx.ledger.enrolled().map(|entry| host_line(cx, member, leader, &entry.host)).collect();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    StatusDoc {
        cluster: cx.setup.cluster.clone(),
        told_by: cx.setup.host.clone(),
        at: cx.now.wall,
        leader: member.leader(cx.now.mono).cloned(),
        term: leader.map_or_else(|| member.term(), Leader::term),
        armed: (roster > 0).then_some(cx.ledger.arming.armed),
        armed_reason: (roster > 0).then(|| match &cx.ledger.arming.by {
            Some(by) => Text::new(format!("{by}: {}", cx.ledger.arming.reason)),
            None => cx.ledger.arming.reason.clone(),
        }),
        alive: count(alive),
        roster: count(roster),
        needed: count(brake_needs(roster)),
        voters: cx.voters(),
        hosts,
        incidents,
        alarms: alarms(cx, leader),
        strangers: strangers(cx),
        armed_again_in_ms: cx.ledger.armed_again_in_ms(),
        capacity: leader.and_then(Leader::capacity_summary),
        unfenceable: super::fences::unfenceable(cx, leader),
        ledger_format: cx.ledger.format,
    }
}

fn host_line(cx: &Context<'_>, member: &Member, leader: Option<&Leader>, host: &HostName) -> HostLine {
    let entry = cx.ledger.entry_of(host);
    let record = cx.ledger.host(host);
    let view = cx.member(host);
    let us = *host == cx.setup.host;
    let suspect = leader.and_then(|leader| leader.suspects().find(|suspect| suspect.host == host));
    let incident = cx.ledger.open_incident(host);
    let quarantined = record.and_then(|record| record.quarantine).is_some();
    let state: Text = match (incident, &suspect, quarantined, view) {
        (Some(incident), ..) => Text::new(incident.phase.to_string()),
        (None, Some(suspect), ..) if matches!(suspect.life, Life::Alive(_)) => "agent-down".into(),
        (None, Some(_), ..) => Text::new(Phase::Suspect.to_string()),
        (None, None, ..) if cx.goodbye(host).is_some() => "absent".into(),
        (None, None, true, _) => "quarantined".into(),
        (None, None, false, Some(view)) => state_word(view.state).into(),
        (None, None, false, None) => if us { "alive" } else { "unseen" }.into(),
    };
    let mut notes = Vec::new();
    if member.leader(cx.now.mono) == Some(host) {
        notes.push("leader".into());
    }
    notes.extend(standing::notes(cx, leader, host));
    notes.extend(suspect.as_ref().and_then(|suspect| suspect.hold.cloned()));
    notes.extend(leader.and_then(|leader| leader.return_text(host)).map(|why| Text::new(format!("not back: {why}"))));
    notes.extend(leader.and_then(|leader| leader.power_on_text(host)).cloned());
    let signs = suspect.as_ref().map(|suspect| suspect.book.tell(cx.now.mono)).unwrap_or_default();
    notes.extend(super::rehearsal::note(cx.ledger, leader, host));
    notes.extend(super::gate::note(cx.ledger, host));
    notes.extend(super::processes::notes(cx.ledger, host));
    notes.extend(super::self_fence::note(cx, host));
    let pulse = record.and_then(|record| record.pulse.as_ref());
    let line = HostLine {
        host: host.clone(),
        role: entry.map_or(MemberRole::Member, |entry| entry.role),
        domain: entry.and_then(|entry| entry.domain.clone()),
        state,
        for_ms: suspect
            .map(|suspect| cx.now.mono.since(suspect.began))
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
            .or_else(|| view.map(|view| millis(cx, view))),
        incarnation: if us { Some(cx.membership.incarnation()) } else { view.map(|view| view.incarnation) },
        boot: cx.heard.get(host).map(|heard| heard.boot).or(pulse.map(|pulse| pulse.boot)),
        maintenance: record.is_some_and(|record| record.maintenance.is_some()),
        devices: devices_word(leader.map(|leader| leader.device_book().of(host)).unwrap_or_default()),
        guests: pulse.map(|pulse| {
            u32::try_from(pulse.guests.guests.iter().filter(|guest| guest.running).count()).unwrap_or(u32::MAX)
        }),
        notes,
        paths: if us { own_path_lines(cx) } else { path_lines(cx, leader, host) },
        signs,
        gate: super::gate::report(cx.ledger, host).cloned(),
        segment: super::segments::name_of(cx.ledger, host),
        processes: super::processes::report(cx.ledger, host),
    };
    standing::mark_probation(cx, line)
}

fn path_lines(cx: &Context<'_>, leader: Option<&Leader>, host: &HostName) -> Vec<PathLine> {
    let line = |(path, state): (&PathName, Option<MemberState>)| PathLine {
        path: path.clone(),
        state: state.map_or("unseen", state_word).into(),
        lost: leader.is_some_and(|leader| leader.says_lost(cx.now.mono, host, path)),
    };
    cx.path_states(host).map(line).collect()
}

/// Ourselves: whether others answer us there.
fn own_path_lines(cx: &Context<'_>) -> Vec<PathLine> {
    let line = |gossip: &Membership| PathLine {
        path: gossip.path().clone(),
        state: "alive".into(),
        lost: hears_nobody(gossip),
    };
    cx.gossips().map(line).collect()
}

/// Networks that fail while others carry, by the matrix: told, never acted upon unless it says so.
fn path_alarms(cx: &Context<'_>, leader: &Leader) -> Vec<Text> {
    let mut alarms = Vec::new();
    for gossip in cx.further.iter().filter(|gossip| hears_nobody(gossip)) {
        let path = gossip.path();
        alarms
            .push(Text::new(format!("path {path}: this leader itself hears nobody there: look at its network first")));
    }
    for host in cx.ledger.roster.keys().filter(|host| **host != cx.setup.host) {
        let first = cx.member(host).is_some_and(|view| view.state == MemberState::Down) && cx.is_heard_further(host);
        let main = cx.main_path();
        let mut down = cx.paths_down(host);
        down.extend(first.then_some(&main));
        let is_heard = cx.path_states(host).any(|(_, state)| state == Some(MemberState::Alive));
        let seen = cx.path_states(host).filter_map(|(path, state)| Some((path, state? == MemberState::Down)));
        if down.is_empty() || !is_heard || cx.setup.policy.paths.decide(seen) == PathAction::None {
            continue;
        }
        for path in down {
            let own = if leader.says_lost(cx.now.mono, host, path) { "; it hears nobody there either" } else { "" };
            alarms.push(Text::new(format!("path {path}: {host} does not answer there, and does elsewhere{own}")));
        }
    }
    alarms
}

/// Hosts whose daemon is dead and which live: nobody protects them.
fn agent_alarms(leader: &Leader) -> Vec<Text> {
    let is_down = |suspect: &SuspectView<'_>| matches!(suspect.life, Life::Alive(_));
    let text = |suspect: SuspectView<'_>| {
        Text::new(format!("{}: {}", suspect.host, suspect.hold.map_or("agent down, host alive", Text::as_str)))
    };
    leader.suspects().filter(is_down).map(text).collect()
}

fn devices_word(entries: Vec<&DeviceEntry>) -> Text {
    let word = |entry: &&DeviceEntry| {
        let driver = entry.plan.name.0.split('@').next().unwrap_or_default();
        let power = match &entry.last {
            None => "not read".to_owned(),
            Some((_, DeviceReading { power: Ok(power), .. })) => power.to_string(),
            Some((_, DeviceReading { power: Err(_), .. })) => "fails".to_owned(),
        };
        let bound = match &entry.binding {
            Binding::Bound => "bound",
            Binding::Rehearsed(_) => "rehearsed",
            Binding::Unverified => "UNVERIFIED",
            Binding::Unknown(_) => "not bound",
            Binding::Refused(_) => "REFUSED",
        };
        format!("{driver} {power}, {bound}")
    };
    Text::new(entries.iter().map(word).collect::<Vec<_>>().join("; "))
}

fn alarms(cx: &Context<'_>, leader: Option<&Leader>) -> Vec<Text> {
    let mut alarms = Vec::new();
    if cx.ledger.roster.is_empty() {
        alarms.push("there is no roster: nothing is protected until `rekindle init`".into());
        return alarms;
    }
    let Some(leader) = leader else {
        alarms.push("no leader is known here: this is one member's own view".into());
        return alarms;
    };
    if let Some(ailment) = leader.ill() {
        alarms.push(Text::new(format!(
            "{} leads, is not fit to act, and no fitter voter is there to lead: {ailment}",
            cx.setup.host
        )));
    }
    if !cx.ledger.arming.armed {
        let again = cx.ledger.armed_again_in_ms().map(|ms| format!("; armed again in {} min", ms.div_ceil(60_000)));
        alarms.push(Text::new(format!(
            "disarmed: failures are watched, nothing is done about them{}",
            again.unwrap_or_default()
        )));
    }
    alarms.extend(standing::alarms(cx, leader));
    for host in cx.ledger.targets() {
        let devices = leader.device_book().of(host);
        let broken = devices.iter().find_map(|entry| match (&entry.binding, &entry.last) {
            (Binding::Unverified, _) => None,
            (Binding::Refused(why), _) => Some(format!("{}: {why}", entry.plan.name)),
            (_, Some((_, DeviceReading { power: Err(error), .. }))) => Some(format!("{} {error}", entry.plan.name)),
            (Binding::Unknown(why), Some(_)) => Some(format!("{}: {why}", entry.plan.name)),
            (Binding::Bound | Binding::Rehearsed(_) | Binding::Unknown(_), _) => None,
        });
        if devices.is_empty() {
            alarms.push(Text::new(format!("{host} is unfenceable: no [[fence_device]] is about it")));
        } else if let Some(broken) = broken {
            alarms.push(Text::new(format!("{host} may be unfenceable: {broken}")));
        }
    }
    let silent = leader.device_book().silent_domains(&cx.ledger.roster);
    alarms.extend(silent.into_iter().map(|(domain, (silent, hosts))| {
        let what = "look at its network and its power";
        Text::new(format!("{domain}: the fence devices of {silent} of its {hosts} hosts do not answer: {what}"))
    }));
    alarms.extend(super::rehearsal::alarms(cx.ledger));
    alarms.extend(super::gate::alarms(cx.ledger));
    alarms.extend(super::processes::alarms(cx, leader));
    alarms.extend(leader.lost_alarms());
    alarms.extend(leader.queue_alarms(cx));
    alarms.extend(super::brake::alarms(leader));
    alarms.extend(agent_alarms(leader));
    alarms.extend(path_alarms(cx, leader));
    alarms.extend(leader.voters_hold().cloned());
    alarms.extend(leader.format_alarm(cx));
    alarms.extend(left_alone(cx));
    alarms
}

/// Guests that died so often that they are not restarted any more, and do not run. From the ledger, so that every leader
/// says it for as long as it is so.
fn left_alone(cx: &Context<'_>) -> Vec<Text> {
    let mut restarts: BTreeMap<(ServerId, &HostName), usize> = BTreeMap::new();
    let recent = |began| cx.now.wall.millis_since(began) < GUEST_WINDOW_MS;
    for guest in cx.ledger.guest_incidents.values().filter(|guest| guest.recovered.is_some() && recent(guest.began)) {
        *restarts.entry((guest.server, &guest.host)).or_default() += 1;
    }
    let is_off = |server: ServerId, host: &HostName| {
        let pulse = cx.ledger.host(host).and_then(|record| record.pulse.as_ref());
        pulse.is_some_and(|pulse| pulse.guests.guests.iter().any(|guest| guest.server == server && !guest.running))
    };
    let often = restarts.into_iter().filter(|(_, restarts)| *restarts >= GUEST_RESTARTS_MAX);
    let off = often.filter(|((server, host), _)| is_off(*server, host));
    off.map(|((server, host), restarts)| {
        Text::new(format!(
            "{host}: server {server} does not run; it died and was restarted {restarts} times within {} minutes and is \
             left alone: look at it",
            GUEST_WINDOW_MS / 60_000
        ))
    })
    .collect()
}

fn state_word(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Down => "down",
    }
}

fn millis(cx: &Context<'_>, view: &MemberView) -> u64 {
    u64::try_from(cx.now.mono.since(view.since).as_millis()).unwrap_or(u64::MAX)
}
