//! Orders that may lie unread in queues: who may read them, one at a time.

use super::super::super::unread::{QueueCommand, Queues, UNREAD_MAX};
use super::*;

fn let_read(name: &str) -> LeaderCommand {
    LeaderCommand::Queue(QueueCommand::Let { host: host(name), boot: boot() })
}

fn over(name: &str, read: bool) -> LeaderCommand {
    LeaderCommand::Queue(QueueCommand::Over { host: host(name), read })
}

fn queues(names: &[&str]) -> Queues {
    Queues { hosts: names.iter().map(|name| host(name)).collect(), reader: None }
}

/// Server 1 runs on d. Orders to build it may lie in the queues of b and c, both let back, each behind a gate.
fn two_queues() -> Log {
    let mut log = Log::armed();
    log.ledger.unread.insert(server(1), queues(&["b", "c"]));
    has_gate(&mut log, "b");
    has_gate(&mut log, "c");
    log
}

#[test]
fn an_order_of_a_dead_destination_is_remembered_if_a_gate_keeps_it() {
    for (gated, expected) in [(true, Some(queues(&["b"]))), (false, None)] {
        let mut log = Log::at_phase(Phase::Evacuating);
        log.leader(intend(1, 1)).expect("an intent");
        if gated {
            has_gate(&mut log, "b");
        }
        let mut other = log.ledger.incidents[&ONE].clone();
        (other.id, other.host, other.servers) = (IncidentId(2), host("b"), Default::default());
        log.ledger.incidents.insert(IncidentId(2), other);
        let gone = || end(1, 1, IntentEnd::DestinationOff { id: MigrationId(7), dest: host("b") });
        if gated {
            let mut full = log.clone();
            full.ledger.unread = (10..).take(UNREAD_MAX).map(|number| (server(number), queues(&["c"]))).collect();
            assert!(refusal(full.leader(gone())).starts_with("10000 unread orders are remembered"));
        }
        log.leader(gone()).expect("proven off");
        assert_eq!(log.ledger.unread.get(&server(1)), expected.as_ref(), "{gated}");
        // What an operator resumes is planned anew; what lies in a queue lies there.
        log.leader(LeaderCommand::Stick { incident: ONE, why: "a reason".into() }).expect("stuck");
        log.order(OperatorCommand::Resume { incident: ONE }).expect("resumed");
        assert_eq!(log.ledger.unread.get(&server(1)), expected.as_ref(), "{gated}");
    }
}

#[test]
fn one_queue_at_a_time_is_read() {
    let mut log = two_queues();
    log.leader(let_read("b")).expect("nobody reads");
    assert_eq!(log.ledger.queue_hold(&host("b"), boot()), None);
    let later = BootId(Uuid::from_u128(9));
    assert!(log.ledger.queue_hold(&host("b"), later).is_some(), "asked anew in another boot");
    let held = log.ledger.queue_hold(&host("c"), boot()).expect("held").to_string();
    assert!(held.contains("and in that of b, which reads its own first"), "{held}");
    assert!(refusal(log.leader(let_read("c"))).starts_with("b may be reading an order to build"));
    assert_eq!(refusal(log.leader(over("c", true))), "c reads no such order");
    assert_eq!(refusal(log.leader(over("b", false))), "b is not kept from reading its queue");
    log.leader(over("b", true)).expect("it has read");
    assert_eq!(log.ledger.unread[&server(1)], queues(&["c"]));
    log.leader(let_read("c")).expect("nobody reads");
    log.leader(over("c", true)).expect("it has read");
    assert!(log.ledger.unread.is_empty());
}

#[test]
fn a_reader_that_died_leaves_its_order_where_it_was() {
    let mut log = two_queues();
    log.leader(let_read("b")).expect("nobody reads");
    let dead = |phase| {
        let mut incident = Log::at_phase(Phase::Fenced).ledger.incidents[&ONE].clone();
        (incident.host, incident.phase) = (host("b"), phase);
        incident.proof = incident.proof.filter(|_| phase == Phase::Fenced);
        incident
    };
    log.ledger.incidents.insert(ONE, dead(Phase::Fencing));
    assert_eq!(refusal(log.leader(over("b", true))), "incident 1 of b is open");
    assert_eq!(refusal(log.leader(over("b", false))), "incident 1 of b has no proof");
    log.ledger.incidents.insert(ONE, dead(Phase::Fenced));
    log.leader(over("b", false)).expect("it is off");
    assert_eq!(log.ledger.unread[&server(1)], queues(&["b", "c"]));
    log.leader(let_read("c")).expect("nobody reads");
}

#[test]
fn who_may_not_read() {
    let unsettled = Log::at_phase(Phase::Evacuating).ledger.incidents[&ONE].clone();
    type Change = fn(&mut Log, &Incident);
    let rows: [(&str, Change, &str); 4] = [
        (
            "quarantined",
            |log, _| log.ledger.hosts.entry(host("b")).or_default().quarantine = Some(IncidentId(9)),
            "b is quarantined since incident 9, and not let back in this boot",
        ),
        (
            "its gate has not spoken in this boot",
            |log, _| log.ledger.hosts.entry(host("b")).or_default().gate = None,
            "it has not said what its boot gate does in this boot",
        ),
        ("forgotten", |log, _| drop(log.ledger.hosts.remove(&host("b"))), "b is not enrolled"),
        (
            "the server is being moved",
            |log, open| drop(log.ledger.incidents.insert(ONE, open.clone())),
            "vm-1 of incident 1 was being moved to b when it died, and is not settled elsewhere yet",
        ),
    ];
    for (name, change, expected) in rows {
        let mut log = two_queues();
        change(&mut log, &unsettled);
        assert_eq!(refusal(log.leader(let_read("b"))), expected, "{name}");
    }
}

#[test]
fn what_may_be_read_is_not_evacuated_meanwhile() {
    let mut log = Log::at_phase(Phase::Evacuating);
    log.ledger.unread.insert(server(1), queues(&["b"]));
    has_gate(&mut log, "b");
    let open = log.ledger.incidents.remove(&ONE).expect("there");
    log.leader(let_read("b")).expect("nobody reads");
    log.ledger.incidents.insert(ONE, open);
    assert_eq!(refusal(log.leader(intend(1, 1))), "b may be reading an order to build it (I11)");
    log.leader(intend(2, 1)).expect("another server");
    log.leader(over("b", true)).expect("it has read");
    log.leader(intend(1, 1)).expect("nobody reads");
}

#[test]
fn a_forgotten_host_takes_its_queue_along() {
    let mut log = two_queues();
    log.order(OperatorCommand::Forget { host: host("b") }).expect("nothing is open");
    assert_eq!(log.ledger.unread[&server(1)], queues(&["c"]));
}
