//! What a daemon of ledger format 1 has written is read as what it meant, byte for byte: the bytes are kept beside this. A field, or
//! a variant, that is put anywhere but at the end changes what stores hold, and what a daemon of before reads of ours.

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::Text;
use rekindle_proto::message::{decode, encode};
use rekindle_proto::process::ProcessReport;

use super::super::super::unread::{QueueCommand, Queues};
use super::*;
use crate::ledger::FORMAT_WITHOUT_EXECUTORS;

/// A name and the bytes in each line.
const KEPT: &str = include_str!("format-1.hex");

/// More than any of them has.
const BOUND: usize = 64 * 1024;

fn kept(name: &str) -> Vec<u8> {
    let hex = KEPT.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

/// The first and the last of each vocabulary, and those that a fence rests on.
fn entries() -> Vec<(&'static str, Entry)> {
    let leader = |command| Statement::Leader { host: host("a"), term: TERM, command };
    let member = |statement| Statement::Member { host: host("b"), boot: boot(), statement };
    let guests = GuestList { complete: true, guests: Vec::new() };
    let signed = SignedOrder { certificate: vec![1], order: vec![2, 3], signature: vec![4] };
    let statements = vec![
        ("open", leader(open("x"))),
        ("fence", leader(fence(1))),
        ("failed", leader(fence_failed(1))),
        ("confirm", leader(confirm(2, &[("bmc", 1_000)]))),
        ("intend", leader(intend(1, 1))),
        ("queue", leader(LeaderCommand::Queue(QueueCommand::Over { host: host("b"), read: true }))),
        ("pulse", member(MemberStatement::Pulse { system_uuid: None, guests })),
        ("processes", member(MemberStatement::Processes { report: ProcessReport::default() })),
        ("operator", Statement::Operator(signed)),
    ];
    statements.into_iter().map(|(name, statement)| (name, Entry::new(WallTime(1_000_000), statement))).collect()
}

/// The last order that a daemon of format 1 knew, as it is signed.
fn order() -> OperatorOrder {
    OperatorOrder {
        cluster: ClusterName::new("zrh1").expect("legal"),
        nonce: [7; 16],
        signed_at: WallTime(1_000_000),
        reason: Text::from("a reason"),
        command: OperatorCommand::Rehearse { host: host("x"), level: Some(1) },
    }
}

#[test]
fn entries_and_orders_of_format_1_are_read_and_written_as_ever() {
    for (name, entry) in entries() {
        assert_eq!(decode(&kept(name), BOUND), Ok(entry.clone()), "{name}");
        assert_eq!(encode(&entry, BOUND), Ok(kept(name)), "{name}");
        assert_eq!(entry.format, FORMAT_WITHOUT_EXECUTORS, "{name}");
    }
    assert_eq!((decode(&kept("order"), BOUND), encode(&order(), BOUND)), (Ok(order()), Ok(kept("order"))));
}

#[test]
fn a_ledger_of_format_1_is_read_as_it_was() {
    // It ends before the executors, of which there were none: an empty map is one zero.
    let bytes = [kept("ledger"), vec![0]].concat();
    let ledger: Ledger = decode(&bytes, BOUND).expect("it is read");
    assert_eq!(encode(&ledger, BOUND), Ok(bytes), "and nothing of it is lost");
    assert_eq!((ledger.format, ledger.cluster.as_str()), (FORMAT_WITHOUT_EXECUTORS, "zrh1"));
    assert_eq!(ledger.roster.keys().map(HostName::as_str).collect::<String>(), "abcdwx");
    let incident = &ledger.incidents[&ONE];
    assert_eq!((incident.host.as_str(), incident.phase, incident.servers.len()), ("x", Phase::Stuck, 2));
    assert_eq!(incident.attempts[0].devices, [device("bmc")]);
    assert_eq!((ledger.arming.armed, ledger.executors.len()), (true, 0));
    let queues = Queues { hosts: [host("b")].into(), reader: None };
    assert_eq!((ledger.rehearsed_changes, ledger.unread.get(&server(1))), (5, Some(&queues)), "its last fields");
}
