//! Rehearsals, and hosts that are powered on after their recovery: who may be switched, when, and what that proves.

use rekindle_proto::fact::{DeviceGuid, DiskPlacement};

use super::super::super::power_on::PowerOnCommand;
use super::super::super::rehearsal::{
    Finding, ON_TRIES_MAX, RehearsalEnd, RehearsalStage, RehearseCommand, RehearsedDevice, SILENT_MS,
};
use super::*;

fn other_boot() -> BootId {
    BootId(Uuid::from_u128(2))
}

fn says(log: &mut Log, boot: BootId, complete: bool, guests: usize) -> Applied {
    let guest = |number| Guest {
        server: server(number as u128 + 1),
        running: number == 0,
        disks: DiskPlacement::Shared,
        died: false,
    };
    let guests = GuestList { complete, guests: (0..guests).map(guest).collect() };
    let statement = MemberStatement::Pulse { system_uuid: None, guests };
    log.entry(Statement::Member { host: host("x"), boot, statement })
}

fn order(level: Option<u8>) -> OperatorCommand {
    OperatorCommand::Rehearse { host: host("x"), level }
}

fn maintenance(on: bool) -> OperatorCommand {
    OperatorCommand::Maintenance { host: host("x"), on }
}

/// Empty, in maintenance.
fn ready() -> Log {
    let mut log = Log::armed();
    says(&mut log, boot(), true, 0).expect("its word");
    log.order(maintenance(true)).expect("in maintenance");
    log
}

fn asked() -> Log {
    let mut log = ready();
    log.order(order(None)).expect("ordered");
    log
}

fn rehearse(command: RehearseCommand) -> LeaderCommand {
    LeaderCommand::Rehearse(command)
}

fn off_by(devices: &[&str], boot: BootId) -> LeaderCommand {
    let devices = devices.iter().map(|name| RehearsedDevice { name: device(name), guid: None }).collect();
    rehearse(RehearseCommand::Off { id: ONE, author: US, boot, level: 1, devices, not_after: WallTime(1_025_000) })
}

fn off() -> LeaderCommand {
    off_by(&["bmc"], boot())
}

fn dark(reads: &[(&str, u64)], silent_ms: u64) -> LeaderCommand {
    let LeaderCommand::ConfirmFence { proof, .. } = confirm(1, reads) else { return off() };
    rehearse(RehearseCommand::Found { id: ONE, finding: Finding::Dark { proof, silent_ms } })
}

fn found_dark() -> LeaderCommand {
    dark(&[("bmc", 1_000)], SILENT_MS)
}

fn lies() -> LeaderCommand {
    rehearse(RehearseCommand::Found { id: ONE, finding: Finding::Lies { why: "x was heard".into() } })
}

fn nothing() -> LeaderCommand {
    rehearse(RehearseCommand::Found { id: ONE, finding: Finding::Nothing { why: "silent".into() } })
}

fn settled() -> LeaderCommand {
    rehearse(RehearseCommand::OffSettled { id: ONE })
}

fn on(attempt: u32) -> LeaderCommand {
    rehearse(RehearseCommand::On { id: ONE, attempt, author: US, not_after: WallTime(1_100_000) })
}

fn over(end: RehearsalEnd) -> LeaderCommand {
    rehearse(RehearseCommand::End { id: ONE, end, why: "said so".into() })
}

fn go(log: &mut Log, steps: &[LeaderCommand]) {
    for step in steps {
        log.leader(step.clone()).unwrap_or_else(|why| panic!("{step:?}: {why:?}"));
    }
}

#[test]
fn who_may_be_rehearsed() {
    type Before = fn(&mut Log);
    let rows: [(&str, Before, &str); 9] = [
        ("not in maintenance", |log| drop(log.order(maintenance(false))), "x is not in maintenance"),
        ("disarmed", |log| drop(log.order(OperatorCommand::Arm(false))), "disarmed: a reason"),
        (
            "a guest that runs",
            |log| drop(says(log, boot(), true, 1)),
            "x is not empty: 1 guests by its own last list, 1 of",
        ),
        (
            "one that does not",
            |log| drop(says(log, boot(), true, 2)),
            "x is not empty: 2 guests by its own last list, 1 of",
        ),
        (
            "not a whole list",
            |log| drop(says(log, other_boot(), false, 0)),
            "its hypervisor has not said what runs on x",
        ),
        ("a second one", |log| drop(log.order(order(None))), "rehearsal 1 of x is under way: one at a time"),
        (
            "an open incident",
            |log| {
                drop(log.order(maintenance(false)));
                log.leader(open("x")).expect("opened");
                drop(log.order(maintenance(true)));
            },
            "incident 1 of x is open",
        ),
        (
            "a quarantine",
            |log| log.ledger.hosts.entry(host("x")).or_default().quarantine = Some(ONE),
            "x is quarantined",
        ),
        (
            "never heard",
            |log| log.ledger.hosts.entry(host("x")).or_default().pulse = None,
            "x has never said what runs",
        ),
    ];
    for (name, before, expected) in rows {
        let mut log = ready();
        before(&mut log);
        let why = refusal(log.order(order(None)));
        assert!(why.starts_with(expected), "{name}: {why}");
    }
    let witness = OperatorCommand::Rehearse { host: host("w"), level: None };
    assert_eq!(refusal(ready().order(witness)), "w is not a hypervisor of the roster");
    ready().order(order(Some(2))).expect("empty, and in maintenance");
}

#[test]
fn what_a_leader_may_not_write_of_a_rehearsal() {
    let stage = |stage: &str, needed: &str| format!("rehearsal 1 is {stage}, not {needed}");
    let under_way = "the off order of rehearsal 1 may still be under way (I5)".to_owned();
    let rows: Vec<(&str, Vec<LeaderCommand>, LeaderCommand, String)> = vec![
        ("found before off", vec![], found_dark(), stage("Asked", "Off")),
        ("on before off", vec![], on(1), stage("Asked", "On")),
        ("off twice", vec![off()], off(), stage("Off", "Asked")),
        (
            "refused too late",
            vec![off()],
            rehearse(RehearseCommand::Refuse { id: ONE, why: "late".into() }),
            stage("Off", "Asked"),
        ),
        (
            "off by nothing",
            vec![],
            off_by(&[], boot()),
            "0 different devices of 0; a rehearsal switches each of 1 to 16 once".into(),
        ),
        (
            "off by one twice",
            vec![],
            off_by(&["bmc", "bmc"], boot()),
            "1 different devices of 2; a rehearsal switches each of 1 to 16 once".into(),
        ),
        (
            "off in another boot",
            vec![],
            off_by(&["bmc"], other_boot()),
            format!("x has not said in boot {} that it is empty", other_boot()),
        ),
        (
            "read too close",
            vec![off()],
            dark(&[("bmc", 999)], SILENT_MS),
            "0 of its 1 devices were read off twice".into(),
        ),
        (
            "one of two",
            vec![off_by(&["bmc", "pdu"], boot())],
            found_dark(),
            "1 of its 2 devices were read off twice".into(),
        ),
        (
            "heard too soon",
            vec![off()],
            dark(&[("bmc", 1_000)], SILENT_MS - 1),
            format!("silent for {} ms; {SILENT_MS} are needed", SILENT_MS - 1),
        ),
        ("on too soon", vec![off(), found_dark()], on(1), under_way.clone()),
        (
            "passed too soon",
            vec![off(), found_dark()],
            over(RehearsalEnd::Passed),
            "x has not spoken in another boot: it has not passed".into(),
        ),
        ("failed too soon", vec![off(), nothing()], over(RehearsalEnd::Failed), under_way),
        (
            "a skipped try",
            vec![off(), found_dark(), settled()],
            on(2),
            format!("attempt 2 to power on does not follow 0, or is beyond {ON_TRIES_MAX}"),
        ),
        (
            "passed in the same boot",
            vec![off(), found_dark(), settled(), on(1)],
            over(RehearsalEnd::Passed),
            "x has not spoken in another boot: it has not passed".into(),
        ),
        (
            "passed by a lie",
            vec![off(), lies(), settled(), on(1)],
            over(RehearsalEnd::Passed),
            "its silence was not shown: it has not passed".into(),
        ),
        (
            "passed by nothing",
            vec![off(), nothing(), settled()],
            over(RehearsalEnd::Passed),
            "its silence was not shown: it has not passed".into(),
        ),
        ("after its end", vec![off(), nothing(), over(RehearsalEnd::Stuck)], settled(), stage("Over", "On")),
    ];
    for (name, before, command, expected) in rows {
        let mut log = asked();
        go(&mut log, &before);
        assert_eq!(refusal(log.leader(command)), expected, "{name}");
    }
    let mut log = asked();
    go(&mut log, &[off()]);
    let mut late = log.clone();
    if let Some(attempt) = late.ledger.rehearsals.get_mut(&ONE).and_then(|rehearsal| rehearsal.off.as_mut()) {
        attempt.term = Term(2);
    }
    assert_eq!(refusal(late.leader(found_dark())), "its off order is of term 2, not 3");
    assert_eq!(refusal(log.order(maintenance(false))), "rehearsal 1 of x is under way: it stays in maintenance");
    assert_eq!(refusal(log.leader(open("x"))), "x is in maintenance: alice: a reason");
    go(&mut log, &[found_dark(), settled()]);
    log.order(OperatorCommand::Arm(false)).expect("disarmed");
    assert_eq!(refusal(log.leader(on(1))), "disarmed: a reason");
}

#[test]
fn what_passes_is_remembered_and_what_lies_too() {
    let back = |log: &mut Log| drop(says(log, other_boot(), true, 0).expect("its word"));
    let mut log = asked();
    go(&mut log, &[off(), found_dark(), settled(), on(1)]);
    back(&mut log);
    go(&mut log, &[over(RehearsalEnd::Passed)]);
    let mark = log.ledger.hosts[&host("x")].rehearsed[&device("bmc")].clone();
    assert_eq!((mark.rehearsal, mark.by.as_str(), mark.lies, mark.guid), (ONE, "alice", None, None::<DeviceGuid>));
    assert_eq!(log.ledger.rehearsals[&ONE].stage, RehearsalStage::Over);
    assert!(log.ledger.incidents.is_empty() && log.ledger.reboots.is_empty(), "it is no failure of the host");
    log.order(maintenance(false)).expect("over");
    // It is caught in a contradiction later.
    let unbind = |name: &str| {
        rehearse(RehearseCommand::Unbind { host: host("x"), device: device(name), why: "off while heard".into() })
    };
    assert_eq!(refusal(log.leader(unbind("pdu"))), "pdu of x has passed no rehearsal");
    go(&mut log, &[unbind("bmc")]);
    assert_eq!(refusal(log.leader(unbind("bmc"))), "bmc of x has passed no rehearsal");
    assert!(log.ledger.hosts[&host("x")].rehearsed[&device("bmc")].lies.is_some());

    let ends: [(&[LeaderCommand], RehearsalEnd, Option<bool>); 4] = [
        (&[off(), lies(), settled(), on(1)], RehearsalEnd::Failed, Some(true)),
        // Dark, and back in the same boot.
        (&[off(), found_dark(), settled(), on(1)], RehearsalEnd::Failed, Some(true)),
        (&[off(), nothing(), settled(), on(1)], RehearsalEnd::Failed, None),
        (&[off(), found_dark(), settled(), on(1)], RehearsalEnd::Stuck, None),
    ];
    for (steps, end, lies) in ends {
        let mut log = asked();
        go(&mut log, steps);
        go(&mut log, &[over(end)]);
        let mark = log.ledger.hosts[&host("x")].rehearsed.get(&device("bmc"));
        assert_eq!(mark.map(|mark| mark.lies.is_some()), lies, "{steps:?}");
        log.order(order(None)).expect("again");
    }
}

fn gate(installed: bool) -> MemberStatement {
    MemberStatement::Gate { report: GateReport { installed, state: GateState::OpenedByLedger } }
}

/// Recovered, quarantined, its off order over.
fn recovered() -> Log {
    let mut log = Log::armed();
    log.member("x", gate(true)).expect("its gate");
    let close = LeaderCommand::Close { incident: ONE, owes_hooks: false };
    let steps = [open("x"), fence(1), confirm(1, &[("bmc", 1_000)]), begin(&[1]), settle(1), close];
    go(&mut log, &steps);
    log
}

fn power_on(attempt: u32, hold: bool) -> LeaderCommand {
    let not_after = WallTime(2_000_000);
    LeaderCommand::PowerOn(PowerOnCommand::Intent { host: host("x"), attempt, author: US, not_after, hold })
}

fn on_over(attempt: u32) -> LeaderCommand {
    LeaderCommand::PowerOn(PowerOnCommand::Settled { host: host("x"), attempt })
}

fn give_up() -> LeaderCommand {
    LeaderCommand::PowerOn(PowerOnCommand::GiveUp { host: host("x"), why: "it stays off".into() })
}

fn off_over() -> LeaderCommand {
    LeaderCommand::OffSettled { incident: ONE, attempt: 1 }
}

#[test]
fn who_may_be_powered_on_after_recovery() {
    type Before = fn(&mut Log);
    let rows: [(&str, Before, &str); 8] = [
        ("its off order", |_| {}, "an off order of incident 1 may still be under way (I5)"),
        (
            "no gate",
            |log| {
                go(log, &[off_over()]);
                log.member("x", gate(false)).expect("its gate");
            },
            "it has no boot gate: it is left off, and a person lets it back",
        ),
        (
            "maintenance",
            |log| {
                go(log, &[off_over()]);
                log.order(maintenance(true)).expect("in maintenance");
            },
            "x is in maintenance: alice: a reason",
        ),
        (
            "released",
            |log| {
                go(log, &[off_over()]);
                log.order(OperatorCommand::Release { host: host("x") }).expect("released");
            },
            "it is not quarantined",
        ),
        (
            "by a person's word",
            |log| {
                go(log, &[off_over()]);
                log.ledger.incidents.get_mut(&ONE).expect("there").attempts[0].failed = Some("silent".into());
            },
            "it was not switched off by its fence devices: a person powers it on",
        ),
        ("under way", |log| go(log, &[off_over(), power_on(1, false)]), "an order to power x on is under way"),
        (
            "a skipped try",
            |log| go(log, &[off_over(), power_on(1, false), on_over(1), power_on(2, false), on_over(2)]),
            "attempt 1 to power x on does not follow 2",
        ),
        ("given up", |log| go(log, &[off_over(), power_on(1, false), on_over(1), give_up()]), "it stays off"),
    ];
    for (name, before, expected) in rows {
        let mut log = recovered();
        before(&mut log);
        assert_eq!(refusal(log.leader(power_on(1, false))), expected, "{name}");
    }
    let mut log = Log::at_phase(Phase::Evacuating);
    assert_eq!(refusal(log.leader(power_on(1, false))), "it is not quarantined");
    let mut log = recovered();
    go(&mut log, &[off_over(), power_on(1, false)]);
    assert_eq!(refusal(log.leader(on_over(2))), "attempt 2 to power x on is not the last");
    assert_eq!(refusal(log.leader(give_up())), "powering x on is not to be given up now");
}

#[test]
fn a_host_that_was_powered_on_comes_back_only_when_that_is_over_and_not_from_quarantine() {
    let closed = MemberStatement::Gate {
        report: GateReport { installed: true, state: GateState::Closed { why: "it asks".into() } },
    };
    let admit = || LeaderCommand::Admit { host: host("x"), boot: other_boot() };
    for hold in [false, true] {
        let mut log = recovered();
        go(&mut log, &[off_over(), power_on(1, hold)]);
        log.entry(Statement::Member { host: host("x"), boot: other_boot(), statement: closed.clone() })
            .expect("its gate");
        assert_eq!(refusal(log.leader(admit())), "an order to power it on may still be under way");
        go(&mut log, &[on_over(1)]);
        if hold {
            let why = "it was powered on to be looked at: `rekindle release x` when it is well";
            assert_eq!(refusal(log.leader(admit())), why);
            log.order(OperatorCommand::Release { host: host("x") }).expect("a person");
            assert_eq!(log.ledger.hosts[&host("x")].power_on, None);
        } else {
            go(&mut log, &[admit()]);
        }
    }
}
