//! Segments, their hosts, and what they hold.

use rekindle_proto::id::{SegmentHostId, SegmentId};
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};

use super::*;
use crate::ledger::{SEGMENTS_MAX, SegmentFields, SegmentHostFields, SegmentOrder};

fn id(number: u128) -> SegmentId {
    SegmentId(Uuid::from_u128(number))
}

fn word(text: &str) -> SegmentWord {
    SegmentWord::new(text).expect("legal")
}

fn create(number: u128, name: &str) -> SegmentOrder {
    SegmentOrder::Create { id: id(number), name: word(name), fields: SegmentFields::default() }
}

fn set(number: u128, fields: SegmentFields) -> SegmentOrder {
    SegmentOrder::Set { id: id(number), name: None, fields }
}

fn rename(number: u128, name: &str) -> SegmentOrder {
    SegmentOrder::Set { id: id(number), name: Some(word(name)), fields: SegmentFields::default() }
}

fn enable(number: u128, enabled: bool) -> SegmentOrder {
    set(number, SegmentFields { enabled: Some(enabled), ..SegmentFields::default() })
}

fn delete(number: u128, with_hosts: bool) -> SegmentOrder {
    SegmentOrder::Delete { id: id(number), with_hosts }
}

fn add_as(place: u128, name: &str, segment: u128) -> SegmentOrder {
    let fields = SegmentHostFields::default();
    SegmentOrder::AddHost { host: host(name), id: SegmentHostId(Uuid::from_u128(place)), segment: id(segment), fields }
}

fn add(name: &str, segment: u128) -> SegmentOrder {
    add_as(u128::from(name.as_bytes()[0]), name, segment)
}

fn move_to(name: &str, segment: u128) -> SegmentOrder {
    let fields = SegmentHostFields::default();
    SegmentOrder::SetHost { host: host(name), segment: Some(id(segment)), fields }
}

fn reserve(name: &str) -> SegmentOrder {
    let fields = SegmentHostFields { reserved: Some(true), ..SegmentHostFields::default() };
    SegmentOrder::SetHost { host: host(name), segment: None, fields }
}

fn remove(name: &str) -> SegmentOrder {
    SegmentOrder::RemoveHost { host: host(name) }
}

impl Log {
    fn segment(&mut self, order: SegmentOrder) -> Applied {
        self.order(OperatorCommand::Segment(order))
    }

    /// Segment 1, `rack-1`, holds x and b; segment 2, `rack-2`, holds c.
    fn segmented(mut self) -> Self {
        for order in [create(1, "rack-1"), create(2, "rack-2"), add("x", 1), add("b", 1), add("c", 2)] {
            self.segment(order).expect("a legal order");
        }
        self
    }
}

#[test]
fn the_segment_table() {
    let segmented = || Log::armed().segmented();
    let rows: Vec<(&str, SegmentOrder, &str)> = vec![
        ("an id twice", create(1, "rack-3"), "there is a segment 00000000-0000-0000-0000-000000000001 already"),
        ("a name twice", create(3, "rack-1"), "there is a segment rack-1 already"),
        ("another's name", rename(2, "rack-1"), "there is a segment rack-1 already"),
        ("of none", rename(3, "x"), "there is no segment 00000000-0000-0000-0000-000000000003"),
        ("no change", set(1, SegmentFields::default()), "nothing is changed"),
        (
            "with hosts",
            delete(1, false),
            "segment rack-1 has 2 hosts: take them out first, or remove it with its hosts",
        ),
        ("into none", add("a", 3), "there is no segment 00000000-0000-0000-0000-000000000003"),
        ("in two", add("x", 2), "x is in segment rack-1 already"),
        ("in one twice", add("x", 1), "x is in segment rack-1 already"),
        ("a witness", add("w", 1), "w is not an enrolled hypervisor: rekindle host enroll w"),
        ("a stranger", add("y", 1), "y is not an enrolled hypervisor: rekindle host enroll y"),
        (
            "a place twice",
            add_as(u128::from(b'x'), "a", 1),
            "there is a host 00000000-0000-0000-0000-000000000078 already",
        ),
        ("of no segment", reserve("a"), "a is in no segment"),
        ("moved to none", move_to("x", 3), "there is no segment 00000000-0000-0000-0000-000000000003"),
        ("out of none", remove("a"), "a is in no segment"),
    ];
    for (name, order, expected) in rows {
        assert_eq!(refusal(segmented().segment(order)), expected, "{name}");
    }
    let mut log = Log { ledger: Ledger::new(ClusterName::new("zrh1").expect("legal")), at: 1_000_000 };
    assert_eq!(refusal(log.segment(create(1, "rack-1"))), "there is no roster yet: rekindle init");
    let mut log = segmented();
    for number in 3..=SEGMENTS_MAX as u128 {
        log.segment(create(number, &format!("rack-{number}"))).expect("room");
    }
    let full = SEGMENTS_MAX as u128 + 1;
    assert_eq!(refusal(log.segment(create(full, "one more"))), "there are 512 segments; more are not kept");
}

#[test]
fn only_what_is_said_is_changed() {
    let mut log = Log::armed().segmented();
    let fields = SegmentFields {
        method: Some(RecoveryMethod::RhPriority),
        description: Some("feed A".into()),
        ..SegmentFields::default()
    };
    log.segment(set(1, fields)).expect("changed");
    log.segment(rename(1, "row-1")).expect("renamed");
    log.segment(rename(1, "row-1")).expect("its own name is no other's");
    let segment = log.ledger.segments.of(&host("x")).expect("there");
    assert_eq!((segment.name.as_str(), segment.method), ("row-1", RecoveryMethod::RhPriority));
    assert_eq!((segment.description.as_str(), segment.service_type.as_str()), ("feed A", "COMPUTE"));
    log.segment(reserve("b")).expect("reserved");
    log.segment(move_to("b", 2)).expect("moved");
    let place = &log.ledger.segments.hosts[&host("b")];
    assert!(place.reserved && place.segment == id(2), "{place:?}");
    log.segment(remove("b")).expect("taken out");
    log.segment(add("b", 1)).expect("put in");
    assert!(!log.ledger.segments.hosts[&host("b")].reserved, "a new place has nothing of the old one");
    log.segment(delete(1, true)).expect("with its hosts");
    assert!(log.ledger.segments.of(&host("x")).is_none() && log.ledger.segments.hosts.len() == 1, "only c is left");
    log.order(OperatorCommand::Forget { host: host("c") }).expect("forgotten");
    assert!(log.ledger.segments.hosts.is_empty(), "a host that is forgotten is in no segment");
    log.segment(delete(2, false)).expect("it is empty");
}

#[test]
fn a_segment_in_use_is_not_changed() {
    let in_use = "segment rack-1 is in use: incident 1 of its host x is open, and goes by the rules it began by";
    let mut log = Log::armed().segmented();
    log.leader(open("x")).expect("opened");
    for order in
        [enable(1, false), rename(1, "y"), delete(1, true), reserve("x"), reserve("b"), remove("b"), move_to("c", 1)]
    {
        assert_eq!(refusal(log.segment(order.clone())), in_use, "{order:?}");
    }
    log.segment(reserve("c")).expect("another segment's");
    log.segment(add("a", 1)).expect("a host may come: a reserved one may be what is missing");
    log.leader(refute()).expect("over");
    log.segment(enable(1, false)).expect("it is free again");

    let mut log = Log::armed();
    log.segment(create(1, "rack-1")).expect("made");
    log.leader(open("x")).expect("opened");
    let own = "incident 1 of x is open: it goes by the rules it began by";
    assert_eq!(refusal(log.segment(add("x", 1))), own);

    // A reboot is an incident too.
    let mut log = Log::armed().segmented();
    log.member("x", guests(1)).expect("a pulse");
    let second = BootId(Uuid::from_u128(2));
    let none = GuestList { complete: true, guests: Vec::new() };
    let pulse = MemberStatement::Pulse { system_uuid: None, guests: none };
    log.entry(Statement::Member { host: host("x"), boot: second, statement: pulse }).expect("rebooted");
    assert_eq!(refusal(log.segment(enable(1, false))), in_use);
}

#[test]
fn a_disabled_segment_holds_its_hosts() {
    let held = |name: &str| format!("segment rack-1 of {name} is disabled: alice: a reason");
    let mut log = Log::armed().segmented();
    log.segment(enable(1, false)).expect("disabled");
    assert_eq!(refusal(log.leader(open("x"))), held("x"));
    log.clone().leader(open_by("c", verdict(5, 3, "a w d", 5))).expect("another segment's");
    log.clone().leader(open("d")).expect("in none");
    // A guest's failure waits, and does not keep the segment from being enabled.
    log.member("b", failed(1)).expect("noted");
    let start = LeaderCommand::GuestIntent { incident: ONE, power: GuestPower::Start };
    assert_eq!(refusal(log.leader(start.clone())), held("b"));
    // Neither does a reboot.
    log.member("x", guests(1)).expect("a pulse");
    let pulse = MemberStatement::Pulse { system_uuid: None, guests: GuestList { complete: true, guests: Vec::new() } };
    let second = BootId(Uuid::from_u128(2));
    log.entry(Statement::Member { host: host("x"), boot: second, statement: pulse }).expect("rebooted");
    assert!(log.ledger.reboots.is_empty(), "nothing is begun there");
    log.segment(enable(1, true)).expect("enabled");
    log.leader(start).expect("goes on");
    log.leader(open("x")).expect("recovered like any other");
    // Taking a host out is another way out.
    let mut log = Log::armed().segmented();
    log.segment(enable(1, false)).expect("disabled");
    log.segment(remove("x")).expect("taken out");
    log.leader(open("x")).expect("in none");
}
