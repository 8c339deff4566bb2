//! Proofs that no device gives, and the watchdogs that one of them rests on.

use rekindle_proto::fact::Watchdog;
use rekindle_proto::id::{CallId, Incarnation};

use super::super::super::evidence::{Evidence, WatchdogEvidence};
use super::super::super::watchdog::Stamp;
use super::*;

fn stamp(life: u64, call: u64) -> Stamp {
    Stamp { life: Incarnation(life), call: CallId(call) }
}

fn arm(life: u64, call: u64) -> MemberStatement {
    arm_as(stamp(life, call), false, 10_000, true)
}

fn arm_as(stamp: Stamp, soft: bool, timeout_ms: u64, running: bool) -> MemberStatement {
    let watchdog = Watchdog { device: "iTCO_wdt".into(), soft, timeout_ms, running };
    MemberStatement::ArmWatchdog { stamp, watchdog }
}

/// It is meant to be fed, and was not yet.
fn intend(life: u64, call: u64) -> MemberStatement {
    arm_as(stamp(life, call), false, 10_000, false)
}

fn withdraw(life: u64, call: u64) -> MemberStatement {
    MemberStatement::WithdrawWatchdog { stamp: stamp(life, call) }
}

fn by_watchdog(boot: BootId, waited_ms: u64) -> LeaderCommand {
    let evidence = WatchdogEvidence { boot, device: "iTCO_wdt".into(), waited_ms };
    LeaderCommand::ConfirmWatchdog { incident: ONE, evidence }
}

/// `x`, last heard in `heard`, has an open incident whose only attempt has failed.
fn failing(mut log: Log, heard: Option<BootId>) -> Log {
    let LeaderCommand::OpenIncident { host, suspected_at, verdict, .. } = open("x") else { return log };
    log.leader(LeaderCommand::OpenIncident { host, boot: heard, suspected_at, verdict, needed_by: None })
        .expect("opened");
    log.leader(fence(1)).expect("an attempt");
    log.leader(fence_failed(1)).expect("failed");
    log
}

fn off() -> OperatorCommand {
    OperatorCommand::ConfirmOff { incident: ONE, checked: "the plug is in my hand".into() }
}

#[test]
fn which_watchdog_proves_what() {
    let other = BootId(Uuid::from_u128(2));
    let not_armed = "no watchdog of x is armed in the boot it was last heard in";
    // (said of the watchdog before, heard in which boot, the boot of the evidence, waited, refusal)
    let rows = [
        (vec![arm(1, 1)], Some(boot()), boot(), 60_000, ""),
        (vec![arm(1, 1)], Some(boot()), boot(), 59_999, "waited 59999 ms; 60000 are needed"),
        (vec![], Some(boot()), boot(), 60_000, not_armed),
        (vec![arm(1, 1), withdraw(1, 2)], Some(boot()), boot(), 60_000, not_armed),
        // Before the first feed, and when a new daemon has not fed it yet: nobody knows whether it runs.
        (vec![intend(1, 1)], Some(boot()), boot(), 60_000, not_armed),
        (vec![intend(1, 1), arm(1, 2)], Some(boot()), boot(), 60_000, ""),
        (vec![arm(1, 1), intend(2, 1)], Some(boot()), boot(), 60_000, not_armed),
        (vec![arm(1, 1)], Some(other), boot(), 60_000, not_armed),
        (vec![arm(1, 1)], Some(other), other, 60_000, not_armed),
        (vec![arm(1, 1)], None, boot(), 60_000, not_armed),
    ];
    for (said, heard, boot, waited_ms, expected) in rows {
        let mut log = Log::armed();
        for statement in &said {
            log.member("x", statement.clone()).expect("taken");
        }
        let mut log = failing(log, heard);
        let result = log.leader(by_watchdog(boot, waited_ms));
        if expected.is_empty() {
            result.expect("proven");
            assert_eq!(log.ledger.incidents[&ONE].phase, Phase::Fenced);
        } else {
            assert_eq!(refusal(result), expected, "{said:?} {heard:?} {boot}");
        }
    }
}

#[test]
fn a_watchdog_is_armed_only_if_it_could_prove_something() {
    let mut log = Log::armed();
    let soft = refusal(log.member("x", arm_as(stamp(1, 1), true, 10_000, true)));
    assert_eq!(soft, "iTCO_wdt: a software watchdog dies with its kernel");
    let slow = refusal(log.member("x", arm_as(stamp(1, 1), false, 28_000, true)));
    assert!(slow.contains("more than the 60000 ms"), "{slow}");
    log.member("x", arm(1, 5)).expect("armed");
    log.member("x", withdraw(1, 6)).expect("withdrawn");
    // A question that was under way when it was disarmed must not arm it again, in the ledger alone.
    assert_eq!(refusal(log.member("x", arm(1, 5))), "x has said something later of its watchdog");
    log.member("x", arm(2, 1)).expect("armed again, in a later life of the daemon");
    let mut log = failing(log, Some(boot()));
    assert_eq!(refusal(log.member("x", arm(2, 2))), "x itself has an open incident, 1");
}

#[test]
fn a_contradicted_watchdog_proves_nothing_more() {
    let mut log = Log::armed();
    log.member("x", arm(1, 1)).expect("armed");
    let mut log = failing(log, Some(boot()));
    log.leader(by_watchdog(boot(), 60_000)).expect("proven");
    log.leader(void()).expect("heard");
    let why = refusal(log.leader(by_watchdog(boot(), 60_000)));
    assert_eq!(why, "no watchdog of x is armed in the boot it was last heard in");
}

#[test]
fn an_operators_word_is_a_proof_that_says_so() {
    for phase in [Phase::Unclean, Phase::Fencing, Phase::Stuck] {
        let mut log = Log::at_phase(phase);
        log.order(off()).unwrap_or_else(|why| panic!("{phase}: {why:?}"));
        let incident = &log.ledger.incidents[&ONE];
        assert_eq!(incident.phase, Phase::Fenced, "{phase}");
        let evidence = incident.proof.as_ref().map(|proof| &proof.evidence);
        let Some(Evidence::Statement(word)) = evidence else { panic!("{phase}: {evidence:?}") };
        assert_eq!((word.operator.as_str(), word.checked.as_str()), ("alice", "the plug is in my hand"));
        assert!(incident.story.iter().any(|line| line.operator.is_some()), "{phase}: it is told who said it");
        // The attempt that was running is over, and never followed again.
        assert!(incident.attempts.iter().all(|attempt| attempt.failed.is_some()), "{phase}");
        log.leader(void()).expect("contradicted like any other");
    }
    for (phase, expected) in [
        (Phase::Fenced, "incident 1 is fenced: it is proven off already"),
        (Phase::Evacuating, "incident 1 is evacuating: it is proven off already"),
    ] {
        assert_eq!(refusal(Log::at_phase(phase).order(off())), expected);
    }
    assert_eq!(refusal(Log::armed().order(off())), "no incident 1");
    let silent = OperatorCommand::ConfirmOff { incident: ONE, checked: " ".into() };
    assert_eq!(refusal(Log::at_phase(Phase::Stuck).order(silent)), "it must be said what was checked");
}
