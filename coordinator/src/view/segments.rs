//! Segments as operators see them.

use rekindle_proto::brake::BrakeLine;
use rekindle_proto::id::{HostName, SegmentId};
use rekindle_proto::segment::{RecoveryMethod, SegmentDoc, SegmentHostDoc, SegmentWord, SegmentsDoc};
use rekindle_proto::status::GuardLine;

use crate::brake;
use crate::context::Context;
use crate::ledger::{Ledger, Segment};

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

/// What `why` says of it.
pub(super) fn guard(ledger: &Ledger, host: &HostName) -> GuardLine {
    let hold = brake::segment_disabled(ledger, host);
    let text = match (&hold, ledger.segments.of(host)) {
        (Some(brake), _) => brake.to_string(),
        (None, None) => "in none: recovered as with auto".to_owned(),
        (None, Some(segment)) => format!("{}, {}", segment.name, method_words(segment.method)),
    };
    GuardLine { guard: "segment".into(), passes: hold.is_none(), text: text.into() }
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

/// Said where a method would otherwise promise what is not done.
fn method_words(method: RecoveryMethod) -> String {
    match method {
        RecoveryMethod::Auto => "auto: Nova's scheduler chooses where its servers go".to_owned(),
        RecoveryMethod::ReservedHost | RecoveryMethod::AutoPriority | RecoveryMethod::RhPriority => {
            format!("{method}: kept, and not followed yet: reserved hosts are not enabled, Nova's scheduler chooses")
        }
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
