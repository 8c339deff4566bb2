//! Segments and reserved hosts, as an operator has made them before the world begins.

use rekindle_coordinator::ledger::{Segment, SegmentHost};
use rekindle_coordinator::order::{AggregateOrder, ServiceChange};
use rekindle_proto::id::{SegmentHostId, SegmentId};
use rekindle_proto::segment::{SERVICE_TYPE_DEFAULT, SegmentWord};

use super::plan::PlannedSegment;
use super::*;

/// Writes them into the ledger.
///
/// # Panics
/// If a constant word of its own were malformed.
pub(super) fn put(ledger: &mut Ledger, planned: &[PlannedSegment]) {
    let word = || SegmentWord::new(SERVICE_TYPE_DEFAULT).expect("a constant");
    let mut places = 0_u128;
    for (number, plan) in planned.iter().enumerate() {
        let id = SegmentId(Uuid::from_u128(0x5e9_0000 + number as u128));
        let segment = Segment {
            name: plan.name.clone(),
            method: plan.recovery_method,
            service_type: word(),
            description: Text::default(),
            disabled: None,
        };
        ledger.segments.segments.insert(id, segment);
        let hosts = plan.hosts.iter().map(|host| (host, false));
        for (host, reserved) in hosts.chain(plan.reserved.iter().map(|host| (host, true))) {
            places += 1;
            let place = SegmentHost {
                id: SegmentHostId(Uuid::from_u128(0x5e9_8000 + places)),
                segment: id,
                reserved,
                kind: word(),
                control_attributes: Text::default(),
            };
            ledger.segments.hosts.insert(host.clone(), place);
        }
    }
}

impl World {
    /// Nova's part of it. Gives back whether the host is reserved.
    pub(super) fn reserve(&mut self, host: &HostName, plan: &Plan) -> bool {
        let segment = plan.segments.iter().find(|segment| segment.reserved.contains(host));
        let room = segment.map_or(plan.room, |segment| segment.room);
        if let Some(room) = room {
            self.nova.set_room(host, room);
        }
        if segment.is_some() {
            let change = ServiceChange::Disable { reason: "reserved".into() };
            // Nothing has happened yet: the answer is to nobody.
            let _ = self.nova.set_service(host, &change, self.now);
        }
        segment.is_some()
    }

    /// An order about a membership reaches Nova; its answer may be lost on the way back.
    pub(super) fn set_aggregate(&mut self, ix: Ix, start: u32, order: &AggregateOrder) {
        if !self.in_time(ix, start, order.call(), order.begin_before()) {
            return;
        }
        let mut result = match self.nova_refuses(ix) {
            Some(error) => Err(error),
            None => self.nova.set_membership(order.aggregate(), order.host(), order.change()),
        };
        let (host, aggregate, change) = (order.host(), order.aggregate(), order.change());
        self.tell(format!("aggregate {aggregate}, {host}: {change:?}: {result:?}"));
        self.count("memberships changed");
        if result.is_ok() && self.percent(self.weather.lost_answers_percent) {
            self.count("lost answers");
            result = Err(NovaError::Unknown("the answer was lost".into()));
        }
        self.later(ix, start, Duration::from_millis(10), Input::Nova { call: order.call(), result });
    }
}
