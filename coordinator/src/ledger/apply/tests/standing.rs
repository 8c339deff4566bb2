//! Who counts, who said goodbye, who comes and goes, who rebooted; and what ends by itself.

mod reboots;

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
        log.leader(LeaderCommand::Close { incident: ONE }).expect("closed");
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
