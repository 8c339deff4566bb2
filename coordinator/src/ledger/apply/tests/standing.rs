//! Who counts, who said goodbye, who comes and goes, who rebooted; and what ends by itself.

use rekindle_proto::fact::{DiskPlacement, StopReason};
use rekindle_proto::id::Incarnation;

use super::*;
use crate::ledger::{LedgerTime, RebootPhase, STARTS_AT_ONCE};

const MINUTE: u32 = 60_000;

fn second() -> BootId {
    BootId(Uuid::from_u128(2))
}

fn enroll(name: &str, role: MemberRole) -> OperatorCommand {
    OperatorCommand::Enroll { entry: RosterEntry { host: host(name), role, domain: None } }
}

fn forget(name: &str) -> OperatorCommand {
    OperatorCommand::Forget { host: host(name) }
}

fn release(name: &str) -> OperatorCommand {
    OperatorCommand::Release { host: host(name) }
}

impl Log {
    fn elapse(&mut self, minutes: u32) {
        for _ in 0..minutes {
            self.leader(LeaderCommand::Elapse { ms: MINUTE }).expect("a minute passes");
        }
    }

    fn says(&mut self, name: &str, boot: BootId, running: &[u128]) {
        self.says_of(name, boot, running, &[]);
    }

    fn says_of(&mut self, name: &str, boot: BootId, running: &[u128], died: &[u128]) {
        let guest = |number: &u128, died: bool| Guest {
            server: server(*number),
            running: !died,
            disks: DiskPlacement::Shared,
            died,
        };
        let guests =
            running.iter().map(|number| guest(number, false)).chain(died.iter().map(|number| guest(number, true)));
        let guests = GuestList { complete: true, guests: guests.collect() };
        let statement = MemberStatement::Pulse { system_uuid: None, guests };
        self.entry(Statement::Member { host: host(name), boot, statement }).expect("a pulse");
    }

    /// x ran three guests, and speaks in another boot.
    fn rebooted() -> Self {
        let mut log = Self::armed();
        log.says("x", boot(), &[1, 2, 3]);
        log.says("x", second(), &[]);
        log
    }

    fn reboot(&self) -> &crate::ledger::Reboot {
        self.ledger.reboots.values().next_back().expect("one")
    }
}

#[test]
fn the_roster_table() {
    let one = |command: OperatorCommand| vec![command];
    let quarantined = || {
        let mut log = Log::at_phase(Phase::Evacuating);
        for number in [1, 2] {
            log.leader(settle(number)).expect("settled");
        }
        log.leader(LeaderCommand::Close { incident: ONE, owes_hooks: false }).expect("closed");
        log
    };
    let voterless = |count: usize| {
        let mut log = Log::armed();
        for name in ["a", "b", "c", "d", "w"].iter().take(count) {
            log.order(forget(name)).expect("forgotten");
        }
        log
    };
    let rows: Vec<(&str, Log, Vec<OperatorCommand>, &str)> = vec![
        (
            "before the first roster",
            Log { ledger: Ledger::new(ClusterName::new("zrh1").expect("legal")), at: 0 },
            one(enroll("y", MemberRole::Member)),
            "there is no roster yet: rekindle init",
        ),
        (
            "twice",
            Log::armed(),
            vec![enroll("y", MemberRole::Member), enroll("y", MemberRole::Member)],
            "y is enrolled already",
        ),
        ("who counts", Log::armed(), one(enroll("x", MemberRole::Member)), "x is enrolled already"),
        (
            "under a count",
            Log::at_phase(Phase::Unclean),
            one(enroll("y", MemberRole::Member)),
            "incident 1 is open: the roster is not changed under a count that is under way",
        ),
        (
            "forget under a count",
            Log::at_phase(Phase::Stuck),
            one(forget("a")),
            "incident 1 is open: the roster is not changed under a count that is under way",
        ),
        (
            "during a reboot",
            Log::rebooted(),
            one(forget("a")),
            "incident 1 is open: the roster is not changed under a count that is under way",
        ),
        ("a stranger", Log::armed(), one(forget("y")), "y is not enrolled"),
        (
            "quarantined",
            quarantined(),
            one(forget("x")),
            "x is quarantined since incident 1: `rekindle release x` first",
        ),
        (
            "the last hypervisor",
            voterless(4),
            one(forget("x")),
            "a roster has at least two members that count, one of them a hypervisor: nothing would be left to protect",
        ),
        (
            "the last but one",
            voterless(4),
            one(forget("w")),
            "a roster has at least two members that count, one of them a hypervisor: nothing would be left to protect",
        ),
    ];
    for (name, mut log, mut commands, expected) in rows {
        let last = commands.pop().expect("one");
        for command in commands {
            log.order(command).expect(name);
        }
        assert_eq!(refusal(log.order(last)), expected, "{name}");
    }
}

#[test]
fn a_voter_is_not_forgotten() {
    let mut log = Log::armed();
    let store = rekindle_proto::id::StoreId(Uuid::from_u128(7));
    log.ledger.voters.voters.insert(host("a"), store);
    let seat = crate::ledger::Seat { host: host("b"), store };
    let change = crate::ledger::VoterChange { out: None, into: vec![seat], why: "a test".into(), by: None };
    log.ledger.voters.changing = Some(change);
    for name in ["a", "b"] {
        let why = refusal(log.order(forget(name)));
        assert!(why.starts_with(&format!("{name} votes")), "{why}");
    }
    log.order(forget("c")).expect("it does not vote");
}

#[test]
fn a_gate_knows_who_is_on_probation() {
    let mut log = Log::armed();
    let open = |log: &Log| {
        matches!(crate::ledger::gate_of(&log.ledger, &host("y"), boot()), crate::ledger::GateAnswer::Open { .. })
    };
    assert!(!open(&log), "a stranger");
    log.order(enroll("y", MemberRole::Member)).expect("enrolled");
    assert!(open(&log));
}

#[test]
fn probation_is_neither_target_nor_counted() {
    let mut log = Log::armed();
    let needed = log.ledger.quorum_needed();
    for name in ["n1", "n2", "n3", "n4"] {
        log.order(enroll(name, MemberRole::Member)).expect("enrolled");
    }
    assert_eq!((log.ledger.counted().count(), log.ledger.quorum_needed()), (6, needed));
    assert!(!log.ledger.targets().any(|name| *name == host("n1")));
    assert_eq!(refusal(log.leader(open("n1"))), "n1 is not a hypervisor of the roster");
    // It may speak; its word on others weighs nothing.
    log.says("n1", boot(), &[9]);
    let why = refusal(log.leader(open_by("x", verdict(5, 3, "n1 n2 n3", 5))));
    assert!(why.starts_with("0 members of the roster testify"), "{why}");
    log.leader(LeaderCommand::EndProbation { host: host("n1") }).expect("over");
    assert_eq!((log.ledger.counted().count(), log.ledger.quorum_needed()), (7, 4));
    assert_eq!(refusal(log.leader(LeaderCommand::EndProbation { host: host("n1") })), "n1 is not on probation");
    log.leader(open("x")).expect("opened");
    let why = refusal(log.leader(LeaderCommand::EndProbation { host: host("n2") }));
    assert!(why.starts_with("incident 1 is open"), "{why}");
    // Counted at the opening, whatever the leader wrote.
    assert_eq!((log.ledger.incidents[&ONE].verdict.roster, log.ledger.counts_against(&host("x"))), (7, 7));
}

#[test]
fn a_disarm_ends_by_the_ledgers_own_time() {
    let mut log = Log::armed();
    for (ms, ok) in [(0, false), (7 * 86_400_000 + 1, false), (7 * 86_400_000, true)] {
        assert_eq!(log.order(OperatorCommand::DisarmFor { ms }).is_ok(), ok, "{ms}");
    }
    log.order(OperatorCommand::DisarmFor { ms: 30 * u64::from(MINUTE) }).expect("disarmed");
    // A wall clock that jumps a year changes nothing.
    log.at += 365 * 86_400_000;
    log.elapse(29);
    assert_eq!((log.ledger.arming.armed, log.ledger.armed_again_in_ms()), (false, Some(u64::from(MINUTE))));
    assert!(refusal(log.leader(open("x"))).starts_with("disarmed"));
    log.elapse(1);
    assert!(log.ledger.arming.armed);
    assert_eq!(log.ledger.arming.reason.as_str(), "the disarm ended by itself; it was: a reason");
    // One without an end, after one with an end, has none.
    log.order(OperatorCommand::DisarmFor { ms: u64::from(MINUTE) }).expect("disarmed");
    log.order(OperatorCommand::Arm(false)).expect("disarmed");
    log.elapse(100);
    assert_eq!((log.ledger.arming.armed, log.ledger.armed_again_in_ms()), (false, None));
    for ms in [0, MINUTE + 1] {
        assert!(refusal(log.leader(LeaderCommand::Elapse { ms })).contains("an entry says 1 to 60000"), "{ms}");
    }
}

#[test]
fn a_goodbye_holds_until_a_later_life() {
    let mut log = Log::armed();
    let absent = |life| MemberStatement::Absent { life: Incarnation(life), why: StopReason::Reboot };
    let returned = |life| MemberStatement::Returned { life: Incarnation(life) };
    assert_eq!(refusal(log.member("x", returned(7))), "x is not absent");
    log.member("x", absent(5)).expect("absent");
    assert_eq!(refusal(log.member("x", absent(5))), "x said goodbye already");
    assert_eq!(refusal(log.member("x", absent(4))), "x said goodbye already");
    assert_eq!(refusal(log.member("x", returned(5))), "x said goodbye in life 5, not before");
    assert!(log.ledger.absence(&host("x")).is_some());
    assert_eq!(log.ledger.next_end(Some(600_000)), Some(LedgerTime(120_000)));
    log.elapse(2);
    assert_eq!(log.ledger.next_end(Some(600_000)), Some(LedgerTime(600_000)));
    assert_eq!(log.ledger.next_end(None), None, "nothing is waited for");
    log.member("x", returned(6)).expect("back");
    assert_eq!((log.ledger.absence(&host("x")), log.ledger.next_end(Some(600_000))), (None, None));
}

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
            for command in [
                open("x"),
                fence(1),
                confirm(1, &[("bmc", 1_000)]),
                begin(&[]),
                LeaderCommand::Close { incident: ONE, owes_hooks: false },
            ] {
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

#[test]
fn flapping_hosts_are_quarantined_longer_each_time() {
    let mut log = Log::armed();
    let mut number = 10;
    let mut flap = |log: &mut Log| {
        for _ in 0..2 {
            number += 1;
            log.says("x", BootId(Uuid::from_u128(number)), &[1]);
            log.elapse(10);
            if let Some(open) = log.ledger.open_reboot(&host("x")).map(|reboot| reboot.id)
                && log.reboot().phase == RebootPhase::Waiting
            {
                log.leader(LeaderCommand::BeginReboot { incident: open, servers: vec![] }).expect("begun");
                log.leader(LeaderCommand::CloseReboot { incident: open }).expect("closed");
            }
        }
    };
    log.says("x", boot(), &[1]);
    flap(&mut log);
    let hold = log.ledger.flap_hold(&host("x")).expect("flapping");
    assert!(hold.as_str().contains("quarantined for 110 min more (quarantine 1)"), "{hold}");
    assert_eq!(log.reboot().phase, RebootPhase::Stuck);
    assert!(log.reboot().story.last().expect("a line").text.as_str().contains("flapping"));
    // Neither forgotten nor readmitted while it lasts; recovered if it dies.
    log.order(release("x")).expect("released");
    assert_eq!(log.ledger.flap_hold(&host("x")), None);
    assert_eq!(log.ledger.flap(&host("x")).expect("known").quarantines, 0, "somebody has looked");
    // Ended by time, not by a person: the next is longer.
    flap(&mut log);
    log.order(OperatorCommand::Resume { incident: log.reboot().id }).expect("resumed");
    let id = log.reboot().id;
    log.leader(LeaderCommand::BeginReboot { incident: id, servers: vec![] }).expect("begun");
    log.leader(LeaderCommand::CloseReboot { incident: id }).expect("closed");
    log.elapse(109);
    assert!(log.ledger.flap_hold(&host("x")).is_some());
    assert!(refusal(log.order(forget("x"))).starts_with("flapping"));
    log.elapse(1);
    assert_eq!(log.ledger.flap_hold(&host("x")), None);
    flap(&mut log);
    let hold = log.ledger.flap_hold(&host("x")).expect("flapping");
    assert!(hold.as_str().contains("quarantined for 230 min more (quarantine 2)"), "{hold}");
    log.leader(open("x")).expect("no brake");
}
