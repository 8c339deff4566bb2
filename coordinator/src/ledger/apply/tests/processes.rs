//! Processes: what a member may say, and when a leader may take a compute service for its own.

use rekindle_proto::id::ProcessName;
use rekindle_proto::process::{PROCESSES_MAX, ProcessReport, ProcessStanding, ProcessState};

use super::*;

fn compute() -> ProcessName {
    ProcessName::new("nova-compute").expect("legal")
}

fn word(standing: ProcessStanding, disables: bool) -> MemberStatement {
    let state = ProcessState { name: compute(), disables, standing, text: "why".into() };
    MemberStatement::Processes { report: ProcessReport { processes: vec![state] } }
}

fn open_process() -> LeaderCommand {
    LeaderCommand::OpenProcess { host: host("x"), process: compute() }
}

fn end(incident: IncidentId, recovered: bool) -> LeaderCommand {
    LeaderCommand::EndProcess { incident, recovered, why: "why".into() }
}

/// A host that says that its process is down for good.
fn down() -> Log {
    let mut log = Log::armed();
    log.says("x", boot(), &[1]);
    log.member("x", word(ProcessStanding::Down, true)).expect("taken");
    log
}

#[test]
fn a_service_is_taken_only_for_a_process_that_is_said_to_be_down() {
    let says_not = "x does not say that nova-compute is down for good";
    for (standing, disables) in [
        (ProcessStanding::Running, true),
        (ProcessStanding::Settling, true),
        (ProcessStanding::Troubled, true),
        (ProcessStanding::Unknown, true),
        (ProcessStanding::Down, false),
    ] {
        let mut log = Log::armed();
        log.member("x", word(standing, disables)).expect("taken");
        assert_eq!(refusal(log.leader(open_process())), says_not, "{standing}");
    }
    assert_eq!(refusal(Log::armed().leader(open_process())), says_not);
    let mut log = down();
    log.leader(open_process()).expect("opened");
    assert!(log.ledger.processes[&ONE].is_open());
    assert_eq!(refusal(log.leader(open_process())), "incident 1 about a process of x is open");
    log.leader(LeaderCommand::ServiceDisabled { incident: ONE }).expect("seen");
    log.leader(end(ONE, true)).expect("over");
    assert_eq!(refusal(log.leader(end(ONE, true))), "incident 1 is closed");
    assert_eq!(refusal(log.leader(LeaderCommand::ServiceDisabled { incident: ONE })), "incident 1 is closed");
}

#[test]
fn whatever_is_wrong_with_the_host_itself_comes_first() {
    let mut log = down();
    log.leader(open("x")).expect("opened");
    assert_eq!(refusal(log.leader(open_process())), "incident 1 of x is open");
    let mut log = down();
    log.ledger.hosts.entry(host("x")).or_default().quarantine = Some(IncidentId(7));
    assert_eq!(refusal(log.leader(open_process())), "x is quarantined since incident 7");
    let mut log = down();
    log.ledger.hosts.entry(host("x")).or_default().forced_down = Some(IncidentId(7));
    assert_eq!(refusal(log.leader(open_process())), "its compute service is forced down since incident 7");
    let mut log = down();
    log.order(OperatorCommand::Arm(false)).expect("disarmed");
    log.leader(open_process()).expect_err("a brake");
    let mut log = down();
    log.order(OperatorCommand::Maintenance { host: host("x"), on: true }).expect("in");
    log.leader(open_process()).expect_err("a brake");
    // The host's own failure is opened beside it, whatever its processes do.
    let mut log = down();
    log.leader(open_process()).expect("opened");
    log.leader(open("x")).expect("opened, too");
    log.member("x", word(ProcessStanding::Unknown, true)).expect("taken, though its host has an open incident");
}

#[test]
fn what_somebody_else_took_over_is_left_alone_until_all_was_well() {
    let mut log = down();
    log.leader(open_process()).expect("opened");
    log.leader(end(ONE, false)).expect("over");
    assert_eq!(refusal(log.leader(open_process())), "somebody else has taken the compute service of x over");
    log.member("x", word(ProcessStanding::Running, true)).expect("taken");
    log.member("x", word(ProcessStanding::Down, true)).expect("taken");
    log.leader(open_process()).expect("opened anew");
    let told: Vec<usize> = log.ledger.processes.values().map(|incident| incident.turns.len()).collect();
    assert_eq!(told, [2, 1]);
}

#[test]
fn a_word_has_a_bound_and_a_boot() {
    let state = ProcessState { name: compute(), disables: true, standing: ProcessStanding::Down, text: "".into() };
    let report = ProcessReport { processes: vec![state; PROCESSES_MAX + 1] };
    let mut log = Log::armed();
    assert_eq!(refusal(log.member("x", MemberStatement::Processes { report })), "17 processes; at most 16 are watched");
    // What was said in another boot says nothing of this one.
    let mut log = down();
    log.says("x", BootId(Uuid::from_u128(2)), &[1]);
    assert!(log.ledger.process_word(&host("x")).is_none());
}

#[test]
fn hooks_are_owed_from_the_close_until_they_are_over() {
    let mut log = Log::at_phase(Phase::Evacuating);
    let over = LeaderCommand::HooksOver { incident: ONE };
    assert_eq!(refusal(log.leader(over.clone())), "incident 1 owes no hooks");
    for command in [settle(1), settle(2), LeaderCommand::Close { incident: ONE, owes_hooks: true }] {
        log.leader(command).expect("closed");
    }
    assert!(log.ledger.incidents[&ONE].owes_hooks);
    log.leader(over.clone()).expect("over");
    assert_eq!(refusal(log.leader(over)), "incident 1 owes no hooks");
}
