//! What ran on a host, by its last word: what a reboot, a death of a guest and our own stop make of it.

use super::*;
use crate::ledger::EndState;

#[test]
fn another_boot_is_a_failure_with_what_ran_before() {
    let log = Log::rebooted();
    let reboot = log.reboot();
    assert_eq!((reboot.before, reboot.after, reboot.phase), (boot(), second(), RebootPhase::Waiting));
    assert_eq!(reboot.ran, [server(1), server(2), server(3)]);
    assert!(log.ledger.incidents.is_empty(), "nothing that could be fenced or evacuated");
    // By name: when a changed boot is none of its own.
    type Before = fn(&mut Log);
    let rows: [(&str, Before); 5] = [
        ("nothing ran", |log| log.says("x", boot(), &[])),
        ("in maintenance", |log| {
            log.order(OperatorCommand::Maintenance { host: host("x"), on: true }).expect("in");
        }),
        ("never heard before", |log| {
            log.ledger.hosts.entry(host("x")).or_default().pulse = None;
        }),
        ("recovered elsewhere, and released", |log| {
            for command in
                [open("x"), fence(1), confirm(1, &[("bmc", 1_000)]), begin(&[]), LeaderCommand::Close { incident: ONE }]
            {
                log.leader(command).expect("a legal step");
            }
            log.leader(LeaderCommand::OffSettled { incident: ONE, attempt: 1 }).expect("waited for");
            log.order(release("x")).expect("released");
        }),
        ("stuck, and ended by an operator", |log| {
            for command in [open("x"), LeaderCommand::Stick { incident: ONE, why: "no device".into() }] {
                log.leader(command).expect("a legal step");
            }
            log.order(release("x")).expect("released");
        }),
    ];
    for (name, before) in rows {
        let mut log = Log::armed();
        log.says("x", boot(), &[1, 2, 3]);
        before(&mut log);
        log.says("x", second(), &[]);
        assert!(log.ledger.reboots.is_empty(), "{name}");
    }
    // Heard in another boot before any off order: refuted, and then it is one.
    let mut log = Log::armed();
    log.says("x", boot(), &[1]);
    log.leader(open("x")).expect("opened");
    log.leader(refute()).expect("refuted");
    log.says("x", second(), &[]);
    assert_eq!(log.reboot().ran, [server(1)]);
    assert_eq!(log.ledger.flap_hold(&host("x")), None, "one down and up, not two");
}

/// Found by the simulator: a host that reboots, and dies before its hypervisor has said anything, must not have its guests
/// left behind as of unknown disks.
#[test]
fn what_is_known_of_disks_outlives_a_reboot() {
    let mut log = Log::rebooted();
    let held = |log: &Log| -> Vec<(bool, DiskPlacement)> {
        let pulse = log.ledger.hosts[&host("x")].pulse.as_ref().expect("one");
        pulse.guests.guests.iter().map(|guest| (guest.running, guest.disks)).collect()
    };
    assert_eq!(held(&log), [(false, DiskPlacement::Shared); 3]);
    log.says("x", second(), &[2]);
    let mut running: Vec<bool> = held(&log).into_iter().map(|(running, _)| running).collect();
    running.sort_unstable();
    assert_eq!(running, [false, false, true]);
    // Once it is over, its own list is the whole truth again.
    log.leader(LeaderCommand::BeginReboot { incident: ONE, servers: vec![] }).expect("begun");
    log.leader(LeaderCommand::CloseReboot { incident: ONE }).expect("closed");
    log.says("x", second(), &[2]);
    assert_eq!(held(&log), [(true, DiskPlacement::Shared)]);
}

/// A daemon that ended before its report was noted says it by its next list; and what was reported is not said twice.
#[test]
fn a_guest_that_died_unreported_is_known_by_the_list() {
    let opened = |log: &Log| log.ledger.guest_incidents.values().map(|guest| guest.server).collect::<Vec<_>>();
    let report = |log: &mut Log, number| {
        let statement = failed(number);
        log.entry(Statement::Member { host: host("x"), boot: boot(), statement })
    };
    let mut log = Log::armed();
    log.says_of("x", boot(), &[1, 2], &[9]);
    assert_eq!(opened(&log), [], "9 was dead when it was first heard of: long ago for all we know");
    log.says_of("x", boot(), &[1], &[2, 9]);
    assert_eq!(opened(&log), [server(2)]);
    refusal(report(&mut log, 2));
    log.says_of("x", boot(), &[1], &[2, 9]);
    assert_eq!(opened(&log).len(), 1, "told once");

    let mut log = Log::armed();
    log.says_of("x", boot(), &[1, 2], &[]);
    report(&mut log, 1).expect("noted");
    log.leader(LeaderCommand::SettleGuest { incident: ONE, recovered: false, why: "in vain".into() }).expect("settled");
    log.says_of("x", boot(), &[2], &[1]);
    assert_eq!(opened(&log), [server(1)], "the list behind the report is no second one");
    log.says_of("x", boot(), &[1, 2], &[]);
    log.says_of("x", boot(), &[2], &[1]);
    assert_eq!(opened(&log), [server(1), server(1)], "it ran in between");

    let mut log = Log::armed();
    log.says_of("x", boot(), &[1, 2], &[]);
    log.says_of("x", second(), &[], &[2]);
    assert_eq!(opened(&log), [], "in another boot all of them have died: that is the reboot's matter");
}

#[test]
fn guests_are_started_in_order_and_a_few_at_once() {
    let mut log = Log::armed();
    let many: Vec<u128> = (1..=20).collect();
    log.says("x", boot(), &many);
    log.says("x", second(), &[]);
    let id = log.reboot().id;
    let begin = |servers: Vec<(ServerId, u8)>| LeaderCommand::BeginReboot { incident: id, servers };
    let start = |number: u128| LeaderCommand::StartInPlace { incident: id, server: server(number) };
    let why = refusal(log.leader(begin(vec![(server(99), 50)])));
    assert!(why.ends_with("did not run before the reboot"), "{why}");
    assert!(log.leader(start(1)).is_err(), "not before it is known what runs");
    log.leader(begin((2..=20).map(|number| (server(number), if number == 20 { 90 } else { 50 })).collect()))
        .expect("begun");
    assert_eq!(log.reboot().next_starts()[..2], [server(20), server(2)]);
    let next = log.reboot().next_starts();
    for server in next.iter().take(STARTS_AT_ONCE) {
        log.leader(LeaderCommand::StartInPlace { incident: id, server: *server }).expect("started");
    }
    let why = refusal(log.leader(LeaderCommand::StartInPlace { incident: id, server: next[STARTS_AT_ONCE] }));
    assert!(why.starts_with("8 guests of reboot"), "{why}");
    assert!(log.leader(LeaderCommand::CloseReboot { incident: id }).is_err(), "not settled");
    loop {
        let open: Vec<IncidentId> = log.ledger.open_guest_incidents().map(|guest| guest.id).collect();
        for incident in open {
            log.leader(LeaderCommand::SettleGuest { incident, recovered: true, why: "runs".into() }).expect("settled");
        }
        let Some(server) = log.reboot().next_starts().first().copied() else { break };
        log.leader(LeaderCommand::StartInPlace { incident: id, server }).expect("started");
    }
    for guest in log.ledger.guest_incidents.values() {
        assert_ne!(guest.recovered, None);
    }
    log.leader(LeaderCommand::CloseReboot { incident: id }).expect("closed");
    assert_eq!(log.reboot().phase, RebootPhase::Recovered);
}

#[test]
fn a_reboot_is_stuck_with_its_reasons_and_can_be_resumed_or_ended() {
    let mut log = Log::rebooted();
    let id = log.reboot().id;
    log.leader(LeaderCommand::BeginReboot { incident: id, servers: vec![(server(1), 50)] }).expect("begun");
    log.leader(LeaderCommand::StartInPlace { incident: id, server: server(1) }).expect("started");
    let guest = *log.ledger.guest_incidents.keys().next().expect("one");
    let why = "vm_state error: left alone";
    log.leader(LeaderCommand::SettleGuest { incident: guest, recovered: false, why: why.into() }).expect("settled");
    log.leader(LeaderCommand::CloseReboot { incident: id }).expect("closed");
    assert_eq!(log.reboot().phase, RebootPhase::Stuck);
    assert!(log.reboot().story.iter().any(|line| line.text.as_str().contains(why)));
    let mut ended = log.clone();
    log.order(OperatorCommand::Resume { incident: id }).expect("resumed");
    assert_eq!(log.reboot().phase, RebootPhase::Waiting);
    assert_eq!(refusal(log.order(OperatorCommand::Resume { incident: id })), "reboot 1 is Waiting, not Stuck");
    ended.order(release("x")).expect("released");
    assert_eq!(ended.reboot().phase, RebootPhase::Ended);
    // The host fails again: recovered as a whole, by an incident that may be opened.
    log.leader(open("x")).expect("opened");
    assert_eq!(log.reboot().phase, RebootPhase::Ended);
    assert!(log.ledger.open_incident(&host("x")).is_some());
}

/// A server that a recovery stopped where it arrived, on a host that dies before its next list, was stopped.
#[test]
fn a_server_left_stopped_is_known_before_the_host_says_so() {
    for end in [EndState::Running, EndState::Stopped, EndState::Error { running: false }] {
        let mut log = Log::at_phase(Phase::Fenced);
        log.says("b", boot(), &[1, 2]);
        let LeaderCommand::BeginEvacuation { incident, heartbeat, mut servers, remarks } = begin(&[1]) else {
            unreachable!("it begins")
        };
        servers[0].restore.end = end;
        log.leader(LeaderCommand::BeginEvacuation { incident, heartbeat, servers, remarks }).expect("begun");
        log.leader(settle(1)).expect("settled on b");
        let runs = |log: &Log, number| {
            let pulse = log.ledger.hosts[&host("b")].pulse.clone().expect("it spoke");
            pulse.guests.guests.iter().any(|guest| guest.server == server(number) && guest.running)
        };
        assert_eq!(runs(&log, 1), end.runs(), "{end:?}");
        assert!(runs(&log, 2), "{end:?}: nothing was done to the other");
        // Its own next word counts, whatever we did.
        log.says("b", boot(), &[1, 2]);
        assert!(runs(&log, 1), "{end:?}");
    }
}
