//! What operators and members may not say, and what is not understood.

use super::*;

#[test]
fn what_an_operator_may_not_do() {
    let release = || OperatorCommand::Release { host: host("x") };
    let resume = || OperatorCommand::Resume { incident: ONE };
    let rows: Vec<(&str, Log, OperatorCommand, &str)> = vec![
        ("a second roster", Log::armed(), init(&["a", "b"], ""), "the roster was given already"),
        ("resume what works", Log::at_phase(Phase::Fencing), resume(), "incident 1 is fencing, not stuck"),
        ("resume nothing", Log::armed(), resume(), "no incident 1"),
        ("release what works", Log::at_phase(Phase::Fenced), release(), "x has an open incident, 1: fenced"),
        ("release a healthy one", Log::armed(), release(), "x is not quarantined"),
        ("release a stuck one too early", Log::at_phase(Phase::Stuck), release(), UNSETTLED),
        (
            "maintain a witness",
            Log::armed(),
            OperatorCommand::Maintenance { host: host("w"), on: true },
            "w is not a hypervisor of the roster",
        ),
    ];
    for (name, mut log, command, expected) in rows {
        assert_eq!(refusal(log.order(command)), expected, "{name}");
    }
}

#[test]
fn a_host_is_released_once_no_order_can_reach_it() {
    let mut log = Log::at_phase(Phase::Evacuating);
    for command in [settle(1), settle(2), LeaderCommand::Close { incident: ONE, owes_hooks: false }] {
        log.leader(command).expect("closed");
    }
    assert_eq!(refusal(log.leader(open("x"))), "x is quarantined since incident 1");
    let release = OperatorCommand::Release { host: host("x") };
    // Whatever the wall clock says: only a leader that has waited can tell.
    log.at += 1_000_000_000;
    assert_eq!(refusal(log.order(release.clone())), UNSETTLED);
    let settled = |attempt| LeaderCommand::OffSettled { incident: ONE, attempt };
    assert_eq!(refusal(log.leader(settled(2))), "attempt 2 is not the last: its successor is waited for");
    log.leader(settled(1)).expect("settled, though the incident is closed");
    log.order(release).expect("released");
    log.leader(open("x")).expect("protected again");

    // A later attempt has its own time.
    let mut again = Log::at_phase(Phase::Fencing);
    again.leader(settled(1)).expect("settled");
    again.leader(fence_failed(1)).expect("failed");
    again.leader(fence(2)).expect("a second attempt");
    assert_eq!(refusal(again.leader(settled(1))), "attempt 1 is not the last: its successor is waited for");
    assert!(!again.ledger.incidents[&ONE].is_off_settled());

    let mut stuck = Log::at_phase(Phase::Evacuating);
    stuck.leader(intend(1, 1)).expect("an intent");
    stuck.leader(LeaderCommand::Stick { incident: ONE, why: "a reason".into() }).expect("stuck");
    stuck.at += 1_000_000;
    let why = refusal(stuck.order(OperatorCommand::Release { host: host("x") }));
    assert!(why.contains("may still be under way (I11)"), "{why}");
    stuck.order(OperatorCommand::Resume { incident: ONE }).expect("resumed");
    assert!(stuck.ledger.incidents[&ONE].servers[&server(1)].intent.is_some(), "it stays open");
}

#[test]
fn rosters_have_bounds() {
    let many: Vec<String> = (0..=crate::ledger::ROSTER_MAX).map(|number| format!("h{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let witnesses = roster(&[], "w").into_iter().chain(roster(&[], "v")).collect();
    let rows = [
        (init(&["a"], ""), "1 members; a roster has 2 to 2000"),
        (init(&many, ""), "2001 members; a roster has 2 to 2000"),
        (init(&["a", "a"], ""), "a host stands in the roster twice"),
        (OperatorCommand::Init { roster: witnesses, ca: vec![] }, "a roster without a hypervisor"),
        (OperatorCommand::Arm(true), "there is no roster yet: rekindle init"),
    ];
    for (command, expected) in rows {
        let mut log = Log { ledger: Ledger::new(ClusterName::new("zrh1").expect("legal")), at: 0 };
        assert_eq!(refusal(log.order(command)), expected);
    }
}

#[test]
fn orders_are_young_and_new() {
    let mut log = Log::armed();
    let (now, disarm) = (log.at, OperatorCommand::Arm(false));
    let why = refusal(log.signed([1; 16], now - 299_001, disarm.clone()));
    assert_eq!(why, "the order was signed 300001 ms away from the leader's clock; at most 300000");
    log.signed([1; 16], now - 298_000, disarm.clone()).expect("five minutes old");
    assert_eq!(refusal(log.signed([1; 16], now, disarm.clone())), "this very order was applied before");
    for number in 0..=crate::ledger::NONCES_MAX as u128 {
        let at = log.at;
        log.signed((number << 64).to_be_bytes(), at, disarm.clone()).expect("another");
    }
    assert_eq!(log.ledger.nonces.len(), crate::ledger::NONCES_MAX);
}

#[test]
fn what_a_member_may_not_say() {
    assert_eq!(refusal(Log::armed().member("z", failed(1))), "z is not in the roster");
    assert_eq!(refusal(Log::at_phase(Phase::Fencing).member("x", failed(1))), "x itself has an open incident, 1");
    assert_eq!(refusal(Log::at_phase(Phase::Fencing).member("x", guests(0))), "x itself has an open incident, 1");
    let why = refusal(Log::armed().member("x", guests(GUESTS_MAX + 1)));
    assert_eq!(why, "4001 guests; at most 4000");

    let mut log = Log::armed();
    for number in 1..=3 {
        log.member("x", failed(1)).expect("restarted");
        assert_eq!(refusal(log.member("x", failed(1))), format!("guest incident {number} of {} is open", server(1)));
        let settled = LeaderCommand::SettleGuest { incident: IncidentId(number), recovered: true, why: "runs".into() };
        log.leader(settled.clone()).expect("settled");
        assert_eq!(refusal(log.leader(settled)), format!("no open guest incident {number}"));
    }
    assert_eq!(refusal(log.member("x", failed(1))), format!("{} was restarted 3 times within 30 minutes", server(1)));
    log.at += 30 * 60_000;
    log.member("x", failed(1)).expect("half an hour later");

    let mut noisy = Log::armed();
    for number in 0..crate::ledger::GUEST_INCIDENTS_OPEN_MAX as u128 {
        noisy.member("x", failed(number)).expect("opened");
    }
    let why = refusal(noisy.member("x", failed(1_000)));
    assert_eq!(why, format!("64 failed guests of x are being restarted: {} is not", server(1_000)));
    noisy.member("b", failed(1_000)).expect("another host's");
    noisy.leader(open("x")).expect("its host fails");
    let start = LeaderCommand::GuestIntent { incident: ONE, power: GuestPower::Start };
    assert_eq!(refusal(noisy.leader(start)), "x itself has an open incident");
}

#[test]
fn a_later_format_is_not_guessed_at() {
    let mut ledger = Log::armed().ledger;
    let before = ledger.clone();
    let mut entry = Entry::new(WallTime(0), Statement::Leader { host: host("a"), term: TERM, command: open("x") });
    entry.format = LEDGER_FORMAT + 1;
    let outcome = ledger.apply(Position { index: LogIndex(1), term: TERM }, &entry);
    assert_eq!(refusal(Err(outcome)), "entry format 3 is newer than 2");
    assert_eq!(Ledger { applied: before.applied, ..ledger }, before);
}

/// An entry is decoded by every voter: what is encoded and cannot be decoded stops them all.
#[test]
fn a_gate_s_word_survives_the_log_and_is_taken_during_an_incident() {
    let mut log = Log::at_phase(Phase::Evacuating);
    for state in [
        GateState::NotRun,
        GateState::Closed { why: "incident 1".into() },
        GateState::OpenedByLedger,
        GateState::OpenedByHand { by: "root".into(), reason: "drill".into() },
    ] {
        let report = GateReport { installed: true, state };
        let statement = MemberStatement::Gate { report: report.clone() };
        let bytes = postcard::to_stdvec(&statement).expect("encodes");
        assert_eq!(postcard::from_bytes::<MemberStatement>(&bytes).expect("decodes"), statement);
        log.member("x", statement).expect("taken");
        assert_eq!(
            log.ledger.host(&host("x")).and_then(|record| record.gate.clone()).map(|word| word.report),
            Some(report)
        );
    }
    assert!(log.member("x", guests(1)).is_err(), "its guests stay what they were (I6)");
}
