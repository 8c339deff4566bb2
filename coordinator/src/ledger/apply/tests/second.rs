//! Hosts that the leader names: which may be, and what an attempt there counts.

use rekindle_proto::fact::StopReason;
use rekindle_proto::id::{Incarnation, SegmentHostId, SegmentId};
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};

use super::*;
use crate::ledger::{ReserveCommand, SegmentFields, SegmentHostFields, SegmentOrder};

fn intend_named(number: u128, attempt: u32, name: &str) -> LeaderCommand {
    let (server, to) = (server(number), Destination::Named(host(name)));
    LeaderCommand::EvacuateIntent { incident: ONE, server, attempt, author: US, newest_migration: None, to }
}

fn intend_reserved(number: u128, attempt: u32, position: u8) -> LeaderCommand {
    let (server, to) = (server(number), Destination::Reserved(position));
    LeaderCommand::EvacuateIntent { incident: ONE, server, attempt, author: US, newest_migration: None, to }
}

fn ended(name: &str, status: MigrationStatus, no_host: bool) -> IntentEnd {
    IntentEnd::Migration { id: MigrationId(4), status, dest: Some(host(name)), no_host }
}

fn failed_on(name: &str) -> IntentEnd {
    ended(name, MigrationStatus::Failed, false)
}

fn no_room_on(name: &str) -> IntentEnd {
    ended(name, MigrationStatus::Failed, true)
}

/// The dead host is x, with servers 1 and 2. In its segment: a and b, and c, which is reserved; d is in another.
fn evacuating(method: RecoveryMethod) -> Log {
    let mut log = Log::armed();
    let mut segment = |order| log.order(OperatorCommand::Segment(order)).expect("ordered");
    for (id, name) in [(1, "rack"), (2, "other")] {
        let (id, name) = (SegmentId(Uuid::from_u128(id)), SegmentWord::new(name).expect("legal"));
        let fields = SegmentFields { method: Some(method), ..SegmentFields::default() };
        segment(SegmentOrder::Create { id, name, fields });
    }
    for (number, (name, of, reserved)) in
        [("a", 1, false), ("b", 1, false), ("c", 1, true), ("d", 2, false), ("x", 1, false)].iter().enumerate()
    {
        let fields = SegmentHostFields { reserved: Some(*reserved), ..SegmentHostFields::default() };
        let id = SegmentHostId(Uuid::from_u128(number as u128 + 10));
        segment(SegmentOrder::AddHost { host: host(name), id, segment: SegmentId(Uuid::from_u128(*of)), fields });
    }
    for command in [open("x"), fence(1), confirm(1, &[("bmc", 1_000)]), begin(&[1, 2])] {
        log.leader(command).expect("led to the evacuation");
    }
    log
}

#[test]
fn who_cannot_be_named() {
    let log = || evacuating(RecoveryMethod::RhPriority);
    let mut maintained = log();
    maintained.order(OperatorCommand::Maintenance { host: host("b"), on: true }).expect("in maintenance");
    let mut taken = log();
    let take = ReserveCommand::Take { incident: ONE, host: host("c"), server: server(1), enables: true };
    taken.leader(LeaderCommand::Reserve(take)).expect("taken");
    let mut second = log();
    second.leader(open("b")).expect("a second incident");
    let mut absent = log();
    let goodbye = MemberStatement::Absent { life: Incarnation(1), why: StopReason::Reboot };
    absent.member("b", goodbye).expect("a goodbye");
    let rows: Vec<(&str, Log, &str, &str)> = vec![
        ("the dead one", log(), "x", "the dead host itself"),
        ("not enrolled", log(), "z", "no counted hypervisor of the roster"),
        ("a witness", log(), "w", "no counted hypervisor of the roster"),
        ("an incident of its own", second, "b", "incident 2 of it is open"),
        ("in maintenance", maintained, "b", "in maintenance"),
        ("said goodbye", absent, "b", "it said goodbye"),
        ("another segment", log(), "d", "not in the segment of x"),
        ("reserved", log(), "c", "it is reserved"),
        ("taken as a reserved host", taken, "c", "incident 1 has taken it as a reserved host"),
    ];
    for (name, mut log, to, expected) in rows {
        let why = refusal(log.leader(intend_named(1, 1, to)));
        assert!(why.starts_with(&format!("{to} cannot be named: ")) && why.contains(expected), "{name}: {why:?}");
    }
    log().leader(intend_named(1, 1, "b")).expect("a living host of the same segment");
}

#[test]
fn hosts_that_are_in_no_segment_are_named_for_each_other() {
    let mut log = Log::at_phase(Phase::Evacuating);
    log.leader(intend_named(1, 1, "b")).expect("neither is in a segment");
    let story = &log.ledger.incidents[&ONE].story;
    let last = story.last().map(|line| line.text.to_string()).unwrap_or_default();
    assert!(last.starts_with("vm-1 (") && last.ends_with("attempt 1: to b, if Nova's scheduler lets it"), "{last}");
}

/// A name; attempts with their destinations and ends; tries, whether a host is named next, unfit hosts, no host found.
type EndRow = (&'static str, Vec<(Destination, IntentEnd)>, (u32, bool, &'static str, bool));

/// What an attempt there leaves behind: tries used up, whether the next one names a host, and which hosts it does not name;
/// and that Nova's scheduler found no host is only said of attempts that were its own.
#[test]
fn what_an_end_says_of_the_next_attempt() {
    use MigrationStatus::{Done, Failed};
    let nowhere = IntentEnd::Migration { id: MigrationId(4), status: Failed, dest: None, no_host: true };
    let (refused, not_sent) = (IntentEnd::Refused("404: no such host".into()), IntentEnd::NotSent("no token".into()));
    let to = |name: &str| Destination::Named(host(name));
    let rows: Vec<EndRow> = vec![
        ("failed on b", vec![(Destination::Anywhere, failed_on("b"))], (1, true, "b", false)),
        ("no host at all", vec![(Destination::Anywhere, nowhere.clone())], (1, false, "", true)),
        ("done", vec![(Destination::Anywhere, ended("b", Done, false))], (1, false, "", false)),
        ("not sent", vec![(Destination::Anywhere, not_sent.clone())], (0, false, "", false)),
        ("nothing appeared", vec![(Destination::Anywhere, IntentEnd::NoneAppeared)], (1, false, "", false)),
        (
            "failed on b, then on the named a",
            vec![(Destination::Anywhere, failed_on("b")), (to("a"), failed_on("a"))],
            (2, true, "b a", false),
        ),
        (
            "failed on b, the named a was refused",
            vec![(Destination::Anywhere, failed_on("b")), (to("a"), no_room_on("a"))],
            (1, false, "b a", false),
        ),
        (
            "failed on b, Nova does not know the named a",
            vec![(Destination::Anywhere, failed_on("b")), (to("a"), refused)],
            (1, false, "b a", false),
        ),
        (
            "failed on b, nothing appeared for the named a",
            vec![(Destination::Anywhere, failed_on("b")), (to("a"), IntentEnd::NoneAppeared)],
            (1, false, "b a", false),
        ),
        (
            "failed on b, the call to a was not sent",
            vec![(Destination::Anywhere, failed_on("b")), (to("a"), not_sent)],
            (1, true, "b", false),
        ),
        (
            "failed on b, a was refused, failed on b again",
            vec![
                (Destination::Anywhere, failed_on("b")),
                (to("a"), no_room_on("a")),
                (Destination::Anywhere, failed_on("b")),
            ],
            (2, true, "b a", false),
        ),
        (
            "failed on b, a was refused, then no host at all",
            vec![(Destination::Anywhere, failed_on("b")), (to("a"), no_room_on("a")), (Destination::Anywhere, nowhere)],
            (2, false, "b a", true),
        ),
    ];
    for (name, attempts, expected) in rows {
        let mut log = Log::at_phase(Phase::Evacuating);
        for ((to, how), attempt) in attempts.into_iter().zip(1..) {
            let server = server(1);
            log.leader(LeaderCommand::EvacuateIntent {
                incident: ONE,
                server,
                attempt,
                author: US,
                newest_migration: None,
                to,
            })
            .unwrap_or_else(|why| panic!("{name}, attempt {attempt}: {why:?}"));
            log.leader(end(1, attempt, how)).unwrap_or_else(|why| panic!("{name}, attempt {attempt}: {why:?}"));
        }
        let record = &log.ledger.incidents[&ONE].servers[&server(1)];
        let leg = &record.leg;
        let unfit: Vec<&str> = leg.unfit.iter().map(HostName::as_str).collect();
        let was = (record.attempts - record.attempts_excused, leg.elsewhere, unfit.join(" "), leg.no_host);
        let (tries, elsewhere, unfit, no_host) = expected;
        assert_eq!(was, (tries, elsewhere, unfit.to_owned(), no_host), "{name}");
        assert!(leg.refused_by.is_empty(), "{name}: no reserved host has refused it");
    }
}

#[test]
fn a_failure_on_a_reserved_host_counts_like_any_other() {
    let mut log = evacuating(RecoveryMethod::RhPriority);
    let take = ReserveCommand::Take { incident: ONE, host: host("c"), server: server(1), enables: true };
    log.leader(LeaderCommand::Reserve(take)).expect("taken");
    log.leader(intend_reserved(1, 1, 0)).expect("to it");
    log.leader(end(1, 1, failed_on("c"))).expect("failed");
    let leg = &log.ledger.incidents[&ONE].servers[&server(1)].leg;
    assert_eq!((leg.elsewhere, leg.unfit.as_slice(), leg.refused_by.len()), (true, &[host("c")][..], 0));
}
