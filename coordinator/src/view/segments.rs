//! Segments as operators see them.

use rekindle_proto::brake::BrakeLine;
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, SegmentId};
use rekindle_proto::segment::{
    JoinedAggregateDoc, RecoveryMethod, ReserveDoc, ReservedHostDoc, SegmentDoc, SegmentHostDoc, SegmentWord,
    SegmentsDoc,
};
use rekindle_proto::status::GuardLine;

use crate::brake;
use crate::context::Context;
use crate::leader::Leader;
use crate::ledger::{Incident, JoinState, Ledger, Membership, Segment, Taken, TakenEnd};
use crate::recovery::Spare;

pub(crate) fn segments(cx: &Context<'_>) -> SegmentsDoc {
    let ledger = cx.ledger;
    let mut segments: Vec<SegmentDoc> =
        ledger.segments.segments.iter().map(|(id, segment)| document(ledger, *id, segment)).collect();
    segments.sort_by(|a, b| a.name.cmp(&b.name));
    let mut unassigned: Vec<HostName> = hypervisors(ledger).filter(|host| ledger.segments.of(host).is_none()).collect();
    unassigned.sort();
    SegmentsDoc { told_by: cx.setup.host.clone(), segments, unassigned }
}

/// The name of a host's segment.
pub(super) fn name_of(ledger: &Ledger, host: &HostName) -> Option<SegmentWord> {
    ledger.segments.of(host).map(|segment| segment.name.clone())
}

/// What `why` says of it: the method, and the reserved host that would be taken.
pub(super) fn guard(cx: &Context<'_>, leader: &Leader, host: &HostName) -> GuardLine {
    let ledger = cx.ledger;
    let guard = |passes: bool, text: String| GuardLine { guard: "segment".into(), passes, text: Text::new(text) };
    if let Some(brake) = brake::segment_disabled(ledger, host) {
        return guard(false, brake.to_string());
    }
    let Some(segment) = ledger.segments.of(host) else {
        return guard(true, "in none: recovered as with auto".to_owned());
    };
    let (name, method) = (&segment.name, segment.method);
    let reserved = match leader.would_take(cx, host) {
        Spare::Free(host, _) => Ok(format!("{host} is taken for it")),
        Spare::Reading(why) | Spare::Later(why) | Spare::None(why) => Err(why),
    };
    match (method, reserved) {
        (RecoveryMethod::Auto, _) => {
            guard(true, format!("{name}, {method}: Nova's scheduler chooses where its servers go"))
        }
        (RecoveryMethod::ReservedHost, Ok(taken)) => {
            guard(true, format!("{name}, {method}: {taken}, and nothing else"))
        }
        (RecoveryMethod::ReservedHost, Err(why)) => {
            guard(false, format!("{name}, {method}: {why}: its servers would be left behind"))
        }
        (RecoveryMethod::AutoPriority, Ok(taken)) => {
            guard(true, format!("{name}, {method}: Nova's scheduler chooses; for what it finds no host for, {taken}"))
        }
        (RecoveryMethod::AutoPriority, Err(why)) => {
            guard(true, format!("{name}, {method}: Nova's scheduler chooses, and there is nothing else: {why}"))
        }
        (RecoveryMethod::RhPriority, Ok(taken)) => {
            guard(true, format!("{name}, {method}: {taken}; for what has no room there, Nova's scheduler chooses"))
        }
        (RecoveryMethod::RhPriority, Err(why)) => {
            guard(true, format!("{name}, {method}: {why}: Nova's scheduler chooses where its servers go"))
        }
    }
}

/// What `incident` says of it; `None`: no segment has a say.
pub(super) fn reserve(incident: &Incident) -> Option<ReserveDoc> {
    let reserve = &incident.reserve;
    if reserve.method == RecoveryMethod::Auto {
        return None;
    }
    let host = |taken: &Taken| {
        let (state, text) = match &taken.end {
            None => ("taken", Text::default()),
            Some(TakenEnd::Returned) => ("returned", Text::default()),
            Some(TakenEnd::Lost(why)) => ("lost", why.clone()),
        };
        ReservedHostDoc {
            host: taken.host.clone(),
            state: state.into(),
            received: taken.received,
            enabled_by_us: taken.enables,
            text,
            aggregates: taken.joins.memberships.iter().map(aggregate).collect(),
        }
    };
    Some(ReserveDoc { recovery_method: reserve.method, hosts: reserve.taken.iter().map(host).collect() })
}

fn aggregate(membership: &Membership) -> JoinedAggregateDoc {
    let (state, text) = match &membership.state {
        JoinState::Intended => ("adding", Text::default()),
        JoinState::Joined => ("added", Text::default()),
        JoinState::NotOurs => ("not ours", Text::default()),
        JoinState::Refused(why) => ("refused", why.clone()),
        JoinState::Left => ("left", Text::default()),
        JoinState::Stays(why) => ("stays", why.clone()),
    };
    JoinedAggregateDoc { id: membership.id, name: membership.name.clone(), state: state.into(), text }
}

/// What `brake` says of it.
pub(super) fn line(ledger: &Ledger) -> BrakeLine {
    let disabled = ledger.segments.segments.values().filter(|segment| segment.disabled.is_some());
    let names: Vec<&str> = disabled.map(|segment| segment.name.as_str()).collect();
    let held = ledger.segments.hosts.keys().filter(|host| brake::segment_disabled(ledger, host).is_some()).count();
    let text = if names.is_empty() {
        "no segment is disabled".to_owned()
    } else {
        format!("disabled: {}; {held} hosts in them", names.join(", "))
    };
    let figures = [("segments", names.len()), ("hosts", held)];
    let figures = figures.map(|(name, number)| (name.into(), u64::try_from(number).unwrap_or(u64::MAX)));
    BrakeLine {
        brake: "segment".into(),
        holds: held > 0,
        liftable: false,
        text: text.into(),
        figures: figures.into_iter().collect(),
    }
}

fn document(ledger: &Ledger, id: SegmentId, segment: &Segment) -> SegmentDoc {
    let hosts = ledger.segments.hosts_of(id).map(|(host, place)| SegmentHostDoc {
        uuid: place.id,
        name: host.clone(),
        kind: place.kind.clone(),
        control_attributes: place.control_attributes.clone(),
        reserved: place.reserved,
        on_maintenance: ledger.host(host).is_some_and(|record| record.maintenance.is_some()),
    });
    SegmentDoc {
        uuid: id,
        name: segment.name.clone(),
        recovery_method: segment.method,
        service_type: segment.service_type.clone(),
        description: segment.description.clone(),
        enabled: segment.disabled.is_none(),
        in_use_by: ledger.segment_in_use(id).map(|(incident, _)| incident),
        hosts: hosts.collect(),
    }
}

fn hypervisors(ledger: &Ledger) -> impl Iterator<Item = HostName> {
    let enrolled = ledger.enrolled().filter(|entry| entry.role == rekindle_proto::fact::MemberRole::Member);
    enrolled.map(|entry| entry.host.clone())
}
