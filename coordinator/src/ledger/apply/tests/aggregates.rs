//! Aggregates that a reserved host joins: written down first, ours alone to leave, and left before it goes back.

use rekindle_proto::id::AggregateId;
use rekindle_proto::segment::RecoveryMethod;

use super::reserve::{done, evacuating, give_back, intend_to, lose, take};
use super::*;
use crate::ledger::{JOINS_MAX, JoinState, JoinStep, ReserveCommand, TakenEnd};

const TWO: IncidentId = IncidentId(2);

fn step(step: JoinStep) -> LeaderCommand {
    LeaderCommand::Reserve(ReserveCommand::Aggregate { incident: ONE, host: host("b"), step })
}

fn intend(id: u64) -> LeaderCommand {
    step(JoinStep::Intend { aggregate: AggregateId(id), name: format!("agg-{id}").into() })
}

fn end_as(id: u64, state: JoinState) -> LeaderCommand {
    step(JoinStep::End { aggregate: AggregateId(id), state })
}

fn joined(id: u64) -> LeaderCommand {
    end_as(id, JoinState::Joined)
}

fn left(id: u64) -> LeaderCommand {
    end_as(id, JoinState::Left)
}

fn give_up() -> LeaderCommand {
    step(JoinStep::GiveUp { why: "403".into() })
}

/// Reserved host b is taken for x, and what else comes before.
fn log(before: Vec<LeaderCommand>) -> Log {
    let mut log = evacuating(RecoveryMethod::ReservedHost);
    log.leader(take("b", 1)).expect("taken");
    for command in before {
        let text = format!("{command:?}");
        let outcome = log.leader(command);
        assert!(outcome.is_ok(), "{text}: {outcome:?}");
    }
    log
}

#[test]
fn what_may_be_written_of_a_membership() {
    let refused = || JoinState::Refused("409".into());
    let to_b = || intend_to(1, 1, Some(0));
    let all = || (1..=JOINS_MAX as u64).flat_map(|id| [intend(id), joined(id)]).collect();
    let rows: Vec<(Log, LeaderCommand, &str)> = vec![
        (evacuating(RecoveryMethod::ReservedHost), intend(7), "does not hold b"),
        (log(vec![lose("b")]), intend(7), "does not hold b"),
        (log(vec![void()]), intend(7), "is fencing, not evacuating"),
        (log(vec![intend(7)]), intend(7), "agg-7 is to be joined already"),
        (log(vec![intend(7), joined(7)]), intend(7), "agg-7 is joined already"),
        (log(vec![intend(7), end_as(7, JoinState::NotOurs)]), intend(7), "joined by somebody else already"),
        (log(vec![give_up()]), intend(7), "b joins no more: 403"),
        (log(all()), intend(99), "has joined 32 aggregates"),
        // What was not written down is not ours: neither to have joined, nor to leave.
        (log(vec![]), joined(7), "was never written down"),
        (log(vec![]), left(7), "was never written down"),
        (log(vec![intend(7)]), end_as(7, JoinState::Intended), "to be joined after to be joined"),
        (log(vec![intend(7), end_as(7, JoinState::NotOurs)]), left(7), "left after joined by somebody else"),
        (log(vec![intend(7), end_as(7, refused())]), left(7), "left after refused"),
        (log(vec![intend(7), joined(7)]), end_as(7, refused()), "refused after joined"),
        (log(vec![intend(7), joined(7), left(7)]), left(7), "left after left"),
        // A host that is used, or may yet be, stays where it is.
        (log(vec![intend(7), joined(7), to_b()]), left(7), "or may get one"),
        (log(vec![intend(7), joined(7), to_b(), end(1, 1, done())]), left(7), "has servers of incident 1"),
        // And it does not go back while it is in one by us, or may be.
        (log(vec![intend(7)]), give_back("b"), "in aggregate agg-7 by us"),
        (log(vec![intend(7), joined(7)]), give_back("b"), "in aggregate agg-7 by us"),
        (log(vec![give_up()]), give_up(), "joins no more already"),
    ];
    for (mut log, command, expected) in rows {
        let text = format!("{command:?}");
        let why = refusal(log.leader(command));
        assert!(why.contains(expected), "{text}: {why:?}, wanted {expected:?}");
    }
}

#[test]
fn it_goes_back_when_it_has_left_what_was_ours() {
    let refused = || JoinState::Refused("409".into());
    let stays = || JoinState::Stays("409".into());
    let ends: [Vec<LeaderCommand>; 5] = [
        vec![intend(7), joined(7), left(7)],
        vec![intend(7), left(7)],
        vec![intend(7), joined(7), end_as(7, stays())],
        vec![intend(7), end_as(7, JoinState::NotOurs), intend(8), end_as(8, refused())],
        vec![intend(7), joined(7), left(7), intend(7), joined(7), left(7), give_up()],
    ];
    for before in ends {
        let text = format!("{before:?}");
        let mut log = log(before);
        log.leader(give_back("b")).expect(&text);
        assert_eq!(log.ledger.incidents[&ONE].reserve.taken[0].end, Some(TakenEnd::Returned));
    }
    let mut log = log(vec![intend(7), joined(7)]);
    log.leader(lose("b")).expect("lost");
    let told = log.ledger.incidents[&ONE].story.last().expect("told").text.to_string();
    assert!(told.ends_with("it stays in what it joined: agg-7"), "{told}");
}

/// Two incidents share b. What the first has joined, the second leaves when it is done with it.
#[test]
fn a_shared_host_takes_what_it_joined_along() {
    let mut log = log(vec![intend(7), joined(7), intend(8), intend(9), end_as(9, JoinState::NotOurs)]);
    let mut other = log.ledger.incidents[&ONE].clone();
    (other.id, other.host) = (TWO, host("a"));
    let joins = &mut other.reserve.taken[0].joins;
    joins.memberships.truncate(1);
    joins.memberships[0].state = JoinState::NotOurs;
    log.ledger.incidents.insert(TWO, other);
    log.leader(give_back("b")).expect("left to the other incident, as it is");
    let joins = &log.ledger.incidents[&TWO].reserve.taken[0].joins;
    let ours: Vec<u64> = joins.ours().map(|membership| membership.id.0).collect();
    assert_eq!(ours, [7, 8], "what the other found there was the first one's doing");
    let back = ReserveCommand::Return { incident: TWO, host: host("b") };
    assert!(refusal(log.leader(LeaderCommand::Reserve(back))).contains("by us"));
}
