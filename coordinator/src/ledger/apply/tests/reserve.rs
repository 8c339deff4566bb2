//! Reserved hosts: who may be taken, once for each server, and what becomes of them.

use rekindle_proto::id::{SegmentHostId, SegmentId};
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};

use super::*;
use crate::ledger::{ReserveCommand, SegmentFields, SegmentHostFields, SegmentOrder, TakenEnd};

const RACK: SegmentId = SegmentId(Uuid::from_u128(1));

pub(super) fn take(name: &str, number: u128) -> LeaderCommand {
    let host = host(name);
    LeaderCommand::Reserve(ReserveCommand::Take { incident: ONE, host, server: server(number), enables: true })
}

pub(super) fn give_back(name: &str) -> LeaderCommand {
    LeaderCommand::Reserve(ReserveCommand::Return { incident: ONE, host: host(name) })
}

pub(super) fn lose(name: &str) -> LeaderCommand {
    LeaderCommand::Reserve(ReserveCommand::Lose { incident: ONE, host: host(name), why: "it died".into() })
}

fn turn(number: u128) -> LeaderCommand {
    LeaderCommand::Reserve(ReserveCommand::Turn { incident: ONE, server: server(number), why: "no host".into() })
}

pub(super) fn intend_to(number: u128, attempt: u32, to: Option<u8>) -> LeaderCommand {
    let (server, to) = (server(number), to.map_or(Destination::Anywhere, Destination::Reserved));
    LeaderCommand::EvacuateIntent { incident: ONE, server, attempt, author: US, newest_migration: None, to }
}

fn no_room() -> IntentEnd {
    IntentEnd::Migration { id: MigrationId(4), status: MigrationStatus::Failed, dest: Some(host("b")), no_host: true }
}

pub(super) fn done() -> IntentEnd {
    IntentEnd::Migration { id: MigrationId(5), status: MigrationStatus::Done, dest: Some(host("b")), no_host: false }
}

/// The dead host is x, with servers 1 and 2; b and c are reserved in its segment, a is not, d is in another.
pub(super) fn evacuating(method: RecoveryMethod) -> Log {
    let mut log = Log::armed();
    let mut segment = |order| log.order(OperatorCommand::Segment(order)).expect("ordered");
    let fields = SegmentFields { method: Some(method), ..SegmentFields::default() };
    let name = SegmentWord::new("rack").expect("legal");
    segment(SegmentOrder::Create { id: RACK, name, fields });
    for (number, (name, reserved)) in [("a", false), ("b", true), ("c", true), ("x", false)].iter().enumerate() {
        let fields = SegmentHostFields { reserved: Some(*reserved), ..SegmentHostFields::default() };
        let id = SegmentHostId(Uuid::from_u128(number as u128 + 10));
        segment(SegmentOrder::AddHost { host: host(name), id, segment: RACK, fields });
    }
    for command in [open("x"), fence(1), confirm(1, &[("bmc", 1_000)]), begin(&[1, 2])] {
        log.leader(command).expect("led to the evacuation");
    }
    log
}

#[test]
fn who_may_be_taken() {
    let method = RecoveryMethod::ReservedHost;
    let log = |before: Vec<LeaderCommand>| {
        let mut log = evacuating(method);
        for command in before {
            log.leader(command).expect("before");
        }
        log
    };
    let mut maintained = evacuating(method);
    maintained.order(OperatorCommand::Maintenance { host: host("b"), on: true }).expect("in maintenance");
    let rows: Vec<(Log, LeaderCommand, &str)> = vec![
        (evacuating(RecoveryMethod::Auto), take("b", 1), "recovers by auto"),
        (log(vec![]), take("a", 1), "a is no reserved host of the segment of x"),
        (log(vec![]), take("d", 1), "d is no reserved host"),
        (log(vec![]), take("x", 1), "x is no reserved host"),
        (maintained, take("b", 1), "in maintenance"),
        (log(vec![open("b")]), take("b", 1), "incident 2 of it is open"),
        (log(vec![]), take("b", 9), "no unsettled server"),
        (log(vec![void()]), take("b", 1), "is fencing, not evacuating"),
        (log(vec![take("b", 1)]), take("b", 2), "b is no reserved host"),
        (log(vec![take("b", 1)]), take("c", 2), "b was taken, and has not refused"),
        // Server 1 has caused b to be taken, and finds no room there: it takes no other.
        (log(vec![take("b", 1), intend_to(1, 1, Some(0)), end(1, 1, no_room())]), take("c", 1), "one server takes one"),
        (log(vec![]), intend_to(1, 1, Some(0)), "no reserved host of this incident"),
        (log(vec![take("b", 1), lose("b")]), intend_to(1, 1, Some(0)), "no reserved host of this incident"),
        (log(vec![]), give_back("b"), "does not hold b"),
        (log(vec![take("b", 1), intend_to(1, 1, Some(0))]), give_back("b"), "or may get one"),
        (log(vec![take("b", 1), intend_to(1, 1, Some(0)), end(1, 1, done())]), give_back("b"), "has servers"),
        (log(vec![]), turn(1), "has no other half"),
    ];
    for (mut log, command, expected) in rows {
        let text = format!("{command:?}");
        let why = refusal(log.leader(command));
        assert!(why.contains(expected), "{text}: {why:?}, wanted {expected:?}");
    }
}

#[test]
fn a_taken_host_is_not_reserved_until_it_is_given_back() {
    let mut log = evacuating(RecoveryMethod::ReservedHost);
    let reserved = |log: &Log, name: &str| log.ledger.segments.hosts[&host(name)].reserved;
    log.leader(take("b", 1)).expect("taken");
    assert!(!reserved(&log, "b") && log.ledger.incidents[&ONE].holds_reserved());
    log.leader(give_back("b")).expect("given back");
    assert!(reserved(&log, "b") && !log.ledger.incidents[&ONE].holds_reserved());
    log.leader(take("b", 2)).expect("for another server");
    log.leader(lose("b")).expect("lost");
    assert!(!reserved(&log, "b"), "a person looks at it first");
    assert!(matches!(log.ledger.incidents[&ONE].reserve.taken[1].end, Some(TakenEnd::Lost(_))));
    // What died was no fault of the server's.
    log.leader(take("c", 2)).expect("another for it");
}

#[test]
fn a_server_turns_once_and_with_all_its_tries() {
    let mut log = evacuating(RecoveryMethod::AutoPriority);
    log.leader(intend_to(1, 1, None)).expect("an attempt");
    assert!(refusal(log.leader(turn(1))).contains("its attempt is open"));
    log.leader(end(1, 1, no_room())).expect("no host");
    let record = |log: &Log| log.ledger.incidents[&ONE].servers[&server(1)].clone();
    assert!(record(&log).leg.no_host && record(&log).attempts_excused == 0);
    log.leader(turn(1)).expect("turned");
    assert!(record(&log).leg.turned && record(&log).attempts_excused == 1);
    assert!(refusal(log.leader(turn(1))).contains("has turned already"));
    log.leader(take("b", 1)).expect("taken");
    log.leader(intend_to(1, 2, Some(0))).expect("to it");
    log.leader(end(1, 2, no_room())).expect("no room");
    assert_eq!((record(&log).leg.refused_by, record(&log).attempts_excused), (vec![0], 2), "no room is no try");
}
