//! Hooks: begun once, ended once, on closed incidents too.

use rekindle_proto::hook::HookPoint;

use super::super::super::hook::HookEnd;
use super::*;

fn begin(on: HookPoint, hook: u8) -> LeaderCommand {
    LeaderCommand::BeginHook { incident: ONE, on, hook, program: "/usr/local/sbin/x".into(), author: US }
}

fn end(on: HookPoint, hook: u8, end: HookEnd) -> LeaderCommand {
    LeaderCommand::EndHook { incident: ONE, on, hook, end, text: "why".into() }
}

#[test]
fn a_hook_is_begun_once_and_ended_once() {
    use HookPoint::{BeforeFence, Recovered};
    let mut log = Log::at_phase(Phase::Evacuating);
    log.leader(begin(BeforeFence, 0)).expect("begun");
    assert_eq!(refusal(log.leader(begin(BeforeFence, 0))), "before-fence hook 0 of incident 1 was begun before");
    assert_eq!(
        refusal(log.leader(end(BeforeFence, 1, HookEnd::Done))),
        "before-fence hook 1 of incident 1 is not under way"
    );
    log.leader(end(BeforeFence, 0, HookEnd::Unknown)).expect("ended");
    let again = refusal(log.leader(end(BeforeFence, 0, HookEnd::Done)));
    assert_eq!(again, "before-fence hook 0 of incident 1 is not under way");
    for command in [settle(1), settle(2), LeaderCommand::Close { incident: ONE, owes_hooks: false }] {
        log.leader(command).expect("closed");
    }
    log.leader(begin(Recovered, 1)).expect("begun, though the incident is closed");
    log.leader(end(Recovered, 1, HookEnd::Failed)).expect("ended");
    let story: Vec<&str> = log.ledger.incidents[&ONE].story.iter().map(|line| line.text.as_str()).collect();
    for told in [
        "before-fence hook /usr/local/sbin/x begins",
        "before-fence hook /usr/local/sbin/x: begun, outcome unknown: why",
        "recovered hook /usr/local/sbin/x: FAILED: why",
    ] {
        assert!(story.contains(&told), "{story:#?}");
    }
    let strange =
        LeaderCommand::BeginHook { incident: IncidentId(7), on: Recovered, hook: 0, program: "/x".into(), author: US };
    assert_eq!(refusal(log.leader(strange)), "no incident 7");
}

#[test]
fn what_failed_holds_until_the_incident_is_resumed() {
    let mut log = Log::at_phase(Phase::Fencing);
    for (hook, how, fails) in [(0, HookEnd::Done, false), (1, HookEnd::Failed, true), (2, HookEnd::Unknown, true)] {
        log.leader(begin(HookPoint::BeforeFence, hook)).expect("begun");
        assert!(!log.ledger.incidents[&ONE].hooks[usize::from(hook)].failed(), "it runs");
        log.leader(end(HookPoint::BeforeFence, hook, how)).expect("ended");
        assert_eq!(log.ledger.incidents[&ONE].hooks[usize::from(hook)].failed(), fails, "{how:?}");
    }
    log.leader(LeaderCommand::Stick { incident: ONE, why: "a hook holds".into() }).expect("stuck");
    log.order(OperatorCommand::Resume { incident: ONE }).expect("resumed");
    assert!(log.ledger.incidents[&ONE].hooks.iter().all(|hook| !hook.failed()));
    assert!(refusal(log.leader(begin(HookPoint::BeforeFence, 1))).contains("was begun before"));
}

#[test]
fn changes_of_phase_are_numbered_and_what_was_told_of_them_only_grows() {
    use Phase::{Evacuating, Fenced, Fencing, Recovered, Suspect, Unclean};
    let mut log = Log::at_phase(Evacuating);
    let told = |number| LeaderCommand::Told { incident: ONE, number };
    log.leader(told(2)).expect("told");
    assert_eq!(refusal(log.leader(told(2))), "incident 1: change 2 is not after 2 and up to 4");
    assert_eq!(refusal(log.leader(told(5))), "incident 1: change 5 is not after 2 and up to 4");
    for command in [settle(1), settle(2), LeaderCommand::Close { incident: ONE, owes_hooks: false }] {
        log.leader(command).expect("closed");
    }
    log.leader(told(5)).expect("told, though the incident is closed");
    let turns: Vec<_> = log.ledger.incidents[&ONE].turns.iter().map(|turn| (turn.number, turn.from, turn.to)).collect();
    let expected = [
        (1, Suspect, Unclean),
        (2, Unclean, Fencing),
        (3, Fencing, Fenced),
        (4, Fenced, Evacuating),
        (5, Evacuating, Recovered),
    ];
    assert_eq!(turns, expected);
}
