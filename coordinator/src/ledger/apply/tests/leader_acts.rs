//! What a leader may not write: fences, moves, and anything while a brake holds.

use super::*;

#[test]
fn what_a_leader_may_not_fence() {
    use Phase::{Evacuating, Fenced, Fencing, Stuck, Unclean};
    check(vec![
        ("a second incident", Unclean, vec![], open("x"), "incident 1 of x is open"),
        ("a skipped attempt", Unclean, vec![], fence(2), "fence attempt 2 does not follow 0"),
        ("a running attempt", Fencing, vec![], fence(2), "fence attempt 1 is not over"),
        ("a repeated attempt", Fencing, vec![fence_failed(1)], fence(1), "fence attempt 1 does not follow 1"),
        ("no device", Unclean, vec![], fence_by(1, &[]), "a fence attempt without a device, or with one twice"),
        ("a fenced host", Fenced, vec![], fence(2), "fence attempt 1 is not over"),
        ("a stuck one", Stuck, vec![], fence(2), "incident is stuck; no fence attempt now"),
        ("a failure twice", Fencing, vec![fence_failed(1)], fence_failed(1), "attempt 1 is over"),
        ("a failure of another", Fencing, vec![], fence_failed(2), "attempt 2 is not the last"),
        ("a failure before", Unclean, vec![], fence_failed(1), "incident 1 is unclean, not fencing"),
        ("a proof of no attempt", Unclean, vec![], confirm(1, &[("bmc", 1_000)]), "incident 1 is unclean, not fencing"),
        (
            "a proof of a failed attempt",
            Fencing,
            vec![fence_failed(1)],
            confirm(1, &[("bmc", 1_000)]),
            "attempt 1 is not the running one of term 3",
        ),
        (
            "reads too close",
            Fencing,
            vec![],
            confirm(1, &[("bmc", 999)]),
            "0 of the 1 devices of level 1 were read off twice, at least 1000 ms apart",
        ),
        (
            "another device",
            Fencing,
            vec![],
            confirm(1, &[("pdu", 1_000)]),
            "0 of the 1 devices of level 1 were read off twice, at least 1000 ms apart",
        ),
        (
            "one of two devices",
            Unclean,
            vec![fence_by(1, &["bmc", "pdu"])],
            confirm(1, &[("bmc", 1_000)]),
            "1 of the 2 devices of level 1 were read off twice, at least 1000 ms apart",
        ),
        (
            "one too many",
            Fencing,
            vec![],
            confirm(1, &[("bmc", 1_000), ("pdu", 1_000)]),
            "1 of the 1 devices of level 1 were read off twice, at least 1000 ms apart",
        ),
        ("nothing to void", Fencing, vec![], void(), "there is no proof to void"),
        (
            "heard after a second order",
            Fencing,
            vec![fence_failed(1), fence(2)],
            refute(),
            "an off order may have been given: the fence is finished (I6)",
        ),
        ("heard after the proof", Fenced, vec![], refute(), "incident 1 is fenced: refuted may not follow"),
        ("heard while moving", Evacuating, vec![], refute(), "incident 1 is evacuating: refuted may not follow"),
        (
            "heard after a voided proof",
            Evacuating,
            vec![intend(1, 1), LeaderCommand::VoidProof { incident: ONE, why: "on".into() }],
            refute(),
            "an off order may have been given: the fence is finished (I6)",
        ),
        ("heard while stuck", Stuck, vec![], refute(), "an off order may have been given: the fence is finished (I6)"),
    ]);
}

#[test]
fn a_verdict_is_counted_again() {
    let rows = [
        ("an unknown host", "z", verdict(5, 3, "a b c", 5), "z is not a hypervisor of the roster"),
        ("a witness", "w", verdict(5, 3, "a b c", 5), "w is not a hypervisor of the roster"),
        ("too few", "x", verdict(5, 3, "a b", 5), "2 members of the roster testify; 3 are needed, never fewer than 2"),
        (
            "the same twice",
            "x",
            verdict(5, 3, "a b b", 5),
            "2 members of the roster testify; 3 are needed, never fewer than 2",
        ),
        (
            "the target",
            "x",
            verdict(5, 3, "a b x", 5),
            "2 members of the roster testify; 3 are needed, never fewer than 2",
        ),
        (
            "strangers",
            "x",
            verdict(5, 3, "a y z", 5),
            "1 members of the roster testify; 3 are needed, never fewer than 2",
        ),
        (
            "a lowered bar",
            "x",
            verdict(5, 1, "a", 5),
            "1 members of the roster testify; 3 are needed, never fewer than 2",
        ),
        ("alone", "x", verdict(1, 1, "a", 5), "1 members of the roster testify; 1 are needed, never fewer than 2"),
        ("half", "x", verdict(5, 3, "a b c", 3), "mass-failure stop: 3 of 6 answered the roll call; 4 are needed"),
    ];
    for (name, target, verdict, expected) in rows {
        assert_eq!(refusal(Log::armed().leader(open_by(target, verdict))), expected, "{name}");
    }
    Log::armed().leader(open_by("x", verdict(2, 2, "a w", 4))).expect("two of two, one a witness");
}

#[test]
fn brakes_hold_every_act() {
    let maintenance = OperatorCommand::Maintenance { host: host("x"), on: true };
    let rows =
        [(OperatorCommand::Arm(false), "disarmed: a reason"), (maintenance, "x is in maintenance: alice: a reason")];
    for (brake, expected) in rows {
        let mut fresh = Log::armed();
        fresh.order(brake.clone()).expect("braked");
        assert_eq!(refusal(fresh.leader(open("x"))), expected);
        for (phase, command) in
            [(Phase::Unclean, fence(1)), (Phase::Fenced, begin(&[1])), (Phase::Evacuating, intend(1, 1))]
        {
            let mut log = Log::at_phase(phase);
            log.order(brake.clone()).expect("braked");
            assert_eq!(refusal(log.leader(command)), expected, "{phase}");
        }
    }
    let mut log = Log::armed();
    log.member("x", failed(1)).expect("opened");
    log.order(OperatorCommand::Arm(false)).expect("disarmed");
    let start = LeaderCommand::GuestIntent { incident: ONE, power: GuestPower::Start };
    assert_eq!(refusal(log.leader(start)), "disarmed: a reason");
}

#[test]
fn another_terms_leader_is_refused() {
    let mut log = Log::at_phase(Phase::Fencing);
    assert_eq!(refusal(log.in_term(Term(2), fence_failed(1))), "a led term 2; this is term 3");
    assert_eq!(refusal(log.in_term(Term(4), fence_failed(1))), "a led term 4; this is term 3");
    log.ledger.incidents.get_mut(&ONE).expect("open").attempts[0].term = Term(2);
    let why = refusal(log.leader(confirm(1, &[("bmc", 1_000)])));
    assert_eq!(why, "attempt 1 is not the running one of term 3", "nobody proves another term's attempt");
    assert_eq!(refusal(log.leader(refute())), "an off order may have been given: the fence is finished (I6)");
}

#[test]
fn what_a_leader_may_not_move() {
    use Phase::{Evacuating, Fenced, Fencing, Stuck};
    let done = || end(1, 1, migration(MigrationStatus::Done));
    check(vec![
        ("not proven off", Fencing, vec![], begin(&[1]), "incident 1 is fencing, not fenced"),
        ("planned already", Evacuating, vec![], begin(&[1]), "incident 1 is evacuating, not fenced"),
        ("before the plan", Fenced, vec![], intend(1, 1), "incident 1 is fenced, not evacuating"),
        ("a voided proof", Evacuating, vec![void()], intend(1, 1), "incident 1 is fencing, not evacuating"),
        ("stuck", Stuck, vec![], intend(1, 1), "incident 1 is stuck, not evacuating"),
        ("an open intent", Evacuating, vec![intend(1, 1)], intend(1, 2), "attempt 1 of that server is open (I11)"),
        ("a skipped attempt", Evacuating, vec![], intend(1, 2), "attempt 2 does not follow 0"),
        ("a repeated attempt", Evacuating, vec![intend(1, 1), done()], intend(1, 1), "attempt 1 does not follow 1"),
        (
            "a settled server",
            Evacuating,
            vec![intend(1, 1), done(), settle(1)],
            intend(1, 2),
            "00000000-0000-0000-0000-000000000001 is settled",
        ),
        (
            "a stranger",
            Evacuating,
            vec![],
            intend(9, 1),
            "00000000-0000-0000-0000-000000000009 is not a server of this incident",
        ),
        ("an intent never opened", Evacuating, vec![], done(), "attempt 1 of that server is not open"),
        (
            "a late end of an earlier intent",
            Evacuating,
            vec![intend(1, 1), done(), intend(1, 2)],
            end(1, 1, IntentEnd::NoneAppeared),
            "attempt 1 of that server is not open",
        ),
        (
            "an end by a migration under way",
            Evacuating,
            vec![intend(1, 1)],
            end(1, 1, migration(MigrationStatus::UnderWay)),
            "migration 4 is under way: the intent stays open",
        ),
        ("settled too early", Evacuating, vec![intend(1, 1)], settle(1), "its evacuate intent is still open"),
        ("settled while stuck", Stuck, vec![], settle(1), "incident 1 is stuck, not evacuating"),
        (
            "closed with unsettled",
            Evacuating,
            vec![settle(1)],
            LeaderCommand::Close { incident: ONE, owes_hooks: false },
            "server 00000000-0000-0000-0000-000000000002 is not settled",
        ),
        (
            "anything once closed",
            Evacuating,
            vec![settle(1), settle(2), LeaderCommand::Close { incident: ONE, owes_hooks: false }],
            intend(1, 1),
            "incident 1 is closed",
        ),
        ("an unknown incident", Evacuating, vec![], intend_in(IncidentId(9), 1, 1), "no incident 9"),
    ]);
}

#[test]
fn a_server_has_one_open_intent_over_all_incidents() {
    let mut log = Log::at_phase(Phase::Evacuating);
    log.leader(intend(1, 1)).expect("an intent");
    let mut other = log.ledger.incidents[&ONE].clone();
    (other.id, other.host) = (IncidentId(2), host("b"));
    other.servers.values_mut().for_each(|record| (record.intent, record.attempts) = (None, 0));
    log.ledger.incidents.insert(IncidentId(2), other);
    let why = refusal(log.leader(intend_in(IncidentId(2), 1, 1)));
    assert_eq!(why, "incident 1 has an open intent for that server (I11)");
    log.leader(intend_in(IncidentId(2), 2, 1)).expect("another server");
}

#[test]
fn an_intent_ends_by_its_destinations_death_only_when_that_is_proven() {
    let mut log = Log::at_phase(Phase::Evacuating);
    log.leader(intend(1, 1)).expect("an intent");
    let gone = || end(1, 1, IntentEnd::DestinationOff { id: MigrationId(7), dest: host("b") });
    let why = "b is not proven off: the intent stays open (I11)";
    assert_eq!(refusal(log.leader(gone())), why, "b has no incident");
    let mut other = log.ledger.incidents[&ONE].clone();
    (other.id, other.host, other.phase) = (IncidentId(2), host("b"), Phase::Fencing);
    let proof = other.proof.take();
    log.ledger.incidents.insert(IncidentId(2), other);
    assert_eq!(refusal(log.leader(gone())), why, "its incident has no proof");
    log.ledger.incidents.get_mut(&IncidentId(2)).expect("just inserted").proof = proof;
    log.leader(gone()).expect("proven off");
    let record = &log.ledger.incidents[&ONE].servers[&server(1)];
    assert_eq!((&record.intent, record.attempts - record.attempts_excused), (&None, 0), "no try was used up");
    assert_eq!(record.leg.unfit, [host("b")], "it is not named for this server any more");
    assert_eq!(record.leg.queued_on, [host("b")], "and its gate waits for this server");
}

#[test]
fn what_was_not_sent_is_no_try() {
    let mut log = Log::at_phase(Phase::Evacuating);
    for attempt in 1..=5 {
        log.leader(intend(1, attempt)).expect("an intent");
        log.leader(end(1, attempt, IntentEnd::NotSent("no token".into()))).expect("closed");
    }
    let incident = &log.ledger.incidents[&ONE];
    let record = &incident.servers[&server(1)];
    assert_eq!((record.attempts, record.attempts_excused), (5, 5));
    let lines = incident.story.iter().filter(|line| line.text.as_str().contains("no token")).count();
    assert_eq!(lines, 1, "the story says it once");
}
