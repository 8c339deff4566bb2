//! Every rule by its refusal, and that the same entries give the same ledger.

mod proofs;
mod standing;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::fact::{
    DeviceName, GUESTS_MAX, Guest, GuestEvent, GuestList, MemberRole, MigrationStatus, RosterEntry,
};
use rekindle_proto::id::{BootId, ClusterName, LeadershipId, MigrationId, OperatorName};
use uuid::Uuid;

mod epoch;

use super::super::authority::VerifiedOrder;
use super::super::entry::{
    Fate, IntentEnd, LeaderCommand, MemberStatement, OffReads, OperatorCommand, OperatorOrder, PlannedServer,
    ProofRecord, TestimonyRecord, VerdictRecord,
};
use super::super::rate::RateClaim;
use super::*;
use crate::order::GuestPower;

const TERM: Term = Term(3);
const US: LeadershipId = LeadershipId(7);
const ONE: IncidentId = IncidentId(1);

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn server(number: u128) -> ServerId {
    ServerId(Uuid::from_u128(number))
}

fn device(name: &str) -> DeviceName {
    DeviceName(name.to_owned())
}

fn boot() -> BootId {
    BootId(Uuid::from_u128(1))
}

const UNSETTLED: &str = "an off order of incident 1 may still be under way: its leader waits for it, a minute and a half at most; again after a change of leader (I5)";

/// A ledger under test: entries are a second apart.
#[derive(Clone)]
struct Log {
    ledger: Ledger,
    at: i64,
}

impl Log {
    /// Five hypervisors and a witness, armed.
    fn armed() -> Self {
        let mut log = Self { ledger: Ledger::new(ClusterName::new("zrh1").expect("legal")), at: 1_000_000 };
        log.order(init(&["a", "b", "c", "d", "x"], "w")).expect("the first roster");
        log.order(OperatorCommand::Arm(true)).expect("armed");
        log
    }

    fn leader(&mut self, command: LeaderCommand) -> Applied {
        self.in_term(TERM, command)
    }

    fn in_term(&mut self, term: Term, command: LeaderCommand) -> Applied {
        self.entry(Statement::Leader { host: host("a"), term, command })
    }

    fn member(&mut self, name: &str, statement: MemberStatement) -> Applied {
        self.entry(Statement::Member { host: host(name), boot: boot(), statement })
    }

    fn entry(&mut self, statement: Statement) -> Applied {
        self.at += 1_000;
        let before = self.ledger.clone();
        let position = Position { index: LogIndex(self.ledger.applied.0 + 1), term: TERM };
        let outcome = self.ledger.apply(position, &Entry::new(WallTime(self.at), statement));
        if outcome.is_applied() {
            return Ok(outcome);
        }
        assert_eq!(Ledger { applied: before.applied, ..self.ledger.clone() }, before, "a refusal changes nothing");
        Err(outcome)
    }

    fn order(&mut self, command: OperatorCommand) -> Applied {
        let nonce = u128::try_from(self.at).unwrap_or(0).to_be_bytes();
        self.signed(nonce, self.at + 1_000, command)
    }

    /// An order whose signature was checked: signatures have their own tests.
    fn signed(&mut self, nonce: [u8; 16], signed_at: i64, command: OperatorCommand) -> Applied {
        self.at += 1_000;
        let before = self.ledger.clone();
        let order = OperatorOrder {
            cluster: self.ledger.cluster.clone(),
            nonce,
            signed_at: WallTime(signed_at),
            reason: "a reason".into(),
            command,
        };
        let operator = OperatorName::new("alice").expect("legal");
        let result = self.ledger.apply_verified(WallTime(self.at), &VerifiedOrder { operator, order });
        if result.is_err() {
            assert_eq!(self.ledger, before, "a refusal changes nothing");
        }
        result
    }

    /// Brings incident 1 of host x to a phase.
    fn at_phase(phase: Phase) -> Self {
        let mut log = Self::armed();
        let steps: [(Phase, LeaderCommand); 4] = [
            (Phase::Unclean, open("x")),
            (Phase::Fencing, fence(1)),
            (Phase::Fenced, confirm(1, &[("bmc", 1_000)])),
            (Phase::Evacuating, begin(&[1, 2])),
        ];
        for (reached, command) in steps {
            log.leader(command).expect("a legal step");
            if reached == phase {
                return log;
            }
        }
        log.leader(LeaderCommand::Stick { incident: ONE, why: "a reason".into() }).expect("stuck");
        log
    }
}

fn refusal(result: Applied) -> String {
    match result {
        Ok(outcome) => panic!("applied: {outcome:?}"),
        Err(Outcome::Refused { why }) => why.to_string(),
        Err(outcome) => panic!("{outcome:?}"),
    }
}

fn roster(members: &[&str], witness: &str) -> Vec<RosterEntry> {
    let entry = |name: &str, role| RosterEntry { host: host(name), role, domain: None };
    let members = members.iter().map(|name| entry(name, MemberRole::Member));
    members.chain((!witness.is_empty()).then(|| entry(witness, MemberRole::Witness))).collect()
}

fn init(members: &[&str], witness: &str) -> OperatorCommand {
    OperatorCommand::Init { roster: roster(members, witness), ca: vec![1] }
}

fn verdict(eligible: u32, needed: u32, accusers: &str, present: u32) -> VerdictRecord {
    let testimonies = accusers
        .split_whitespace()
        .map(|name| TestimonyRecord { accuser: host(name), findings: Vec::new(), signs: Vec::new() })
        .collect();
    VerdictRecord { eligible, needed, testimonies, present, roster: 6, path: None }
}

fn open_by(name: &str, verdict: VerdictRecord) -> LeaderCommand {
    LeaderCommand::OpenIncident { host: host(name), boot: None, suspected_at: WallTime(0), verdict, needed_by: None }
}

fn open(name: &str) -> LeaderCommand {
    let accusers = if name == "a" { "b c d" } else { "a w c" };
    open_by(name, verdict(5, 3, accusers, 5))
}

fn fence(attempt: u32) -> LeaderCommand {
    fence_by(attempt, &["bmc"])
}

fn fence_by(attempt: u32, devices: &[&str]) -> LeaderCommand {
    let devices = devices.iter().map(|name| device(name)).collect();
    LeaderCommand::FenceIntent {
        incident: ONE,
        attempt,
        author: US,
        level: 1,
        devices,
        not_after: WallTime(1_025_000),
        rate: RateClaim::default(),
    }
}

fn fence_failed(attempt: u32) -> LeaderCommand {
    LeaderCommand::FenceFailed { incident: ONE, attempt, why: "silent".into() }
}

fn confirm(attempt: u32, reads: &[(&str, u64)]) -> LeaderCommand {
    let read =
        |(name, apart_ms): &(&str, u64)| OffReads { device: device(name), seen_going_off: true, apart_ms: *apart_ms };
    let proof = ProofRecord { level: 1, devices: reads.iter().map(read).collect() };
    LeaderCommand::ConfirmFence { incident: ONE, attempt, proof }
}

fn begin(servers: &[u128]) -> LeaderCommand {
    let planned = |number: &u128| PlannedServer {
        server: server(*number),
        name: format!("vm-{number}").into(),
        vm_state: "active".into(),
        left_behind: None,
    };
    let servers = servers.iter().map(planned).collect();
    LeaderCommand::BeginEvacuation { incident: ONE, heartbeat: Some("1".into()), servers, remarks: Vec::new() }
}

fn intend_in(incident: IncidentId, number: u128, attempt: u32) -> LeaderCommand {
    let server = server(number);
    LeaderCommand::EvacuateIntent { incident, server, attempt, author: US, newest_migration: None }
}

fn intend(number: u128, attempt: u32) -> LeaderCommand {
    intend_in(ONE, number, attempt)
}

fn end(number: u128, attempt: u32, end: IntentEnd) -> LeaderCommand {
    LeaderCommand::CloseIntent { incident: ONE, server: server(number), attempt, end }
}

fn settle(number: u128) -> LeaderCommand {
    let fate = Fate::Recovered { to: host("b") };
    LeaderCommand::Settle { incident: ONE, server: server(number), fate }
}

fn migration(status: MigrationStatus) -> IntentEnd {
    IntentEnd::Migration { id: MigrationId(4), status, dest: Some(host("b")) }
}

fn void() -> LeaderCommand {
    LeaderCommand::VoidProof { incident: ONE, why: "bmc reads on".into() }
}

fn refute() -> LeaderCommand {
    LeaderCommand::Refute { incident: ONE, why: "heard".into() }
}

fn failed(number: u128) -> MemberStatement {
    MemberStatement::GuestFailed { server: server(number), event: GuestEvent::Failed }
}

fn guests(number: usize) -> MemberStatement {
    let guest = Guest { server: server(1), running: true, disks: rekindle_proto::fact::DiskPlacement::Shared };
    MemberStatement::Pulse { system_uuid: None, guests: GuestList { complete: true, guests: vec![guest; number] } }
}

/// One row: where the incident stands, what happens first, what is then refused, and why.
type Row = (&'static str, Phase, Vec<LeaderCommand>, LeaderCommand, &'static str);

fn check(rows: Vec<Row>) {
    for (name, phase, before, command, expected) in rows {
        let mut log = Log::at_phase(phase);
        for step in before {
            log.leader(step.clone()).unwrap_or_else(|why| panic!("{name}: {step:?}: {why:?}"));
        }
        assert_eq!(refusal(log.leader(command)), expected, "{name}");
    }
}

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
        ("heard while stuck", Stuck, vec![], refute(), "an off order may have been given: the fence is finished (I6)"),
    ]);
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
            LeaderCommand::Close { incident: ONE },
            "server 00000000-0000-0000-0000-000000000002 is not settled",
        ),
        (
            "anything once closed",
            Evacuating,
            vec![settle(1), settle(2), LeaderCommand::Close { incident: ONE }],
            intend(1, 1),
            "incident 1 is closed",
        ),
        ("an unknown incident", Evacuating, vec![], intend_in(IncidentId(9), 1, 1), "no incident 9"),
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
    for command in [settle(1), settle(2), LeaderCommand::Close { incident: ONE }] {
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
    let many: Vec<String> = (0..=super::super::ROSTER_MAX).map(|number| format!("h{number}")).collect();
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
    for number in 0..=super::super::NONCES_MAX as u128 {
        let at = log.at;
        log.signed((number << 64).to_be_bytes(), at, disarm.clone()).expect("another");
    }
    assert_eq!(log.ledger.nonces.len(), super::super::NONCES_MAX);
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
    for number in 0..super::super::GUEST_INCIDENTS_OPEN_MAX as u128 {
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
    assert_eq!(refusal(Err(outcome)), "entry format 2 is newer than 1");
    assert_eq!(Ledger { applied: before.applied, ..ledger }, before);
}

fn any_command(rng: &mut StdRng) -> LeaderCommand {
    let incident = IncidentId(rng.random_range(1..4));
    let (number, attempt) = (rng.random_range(1..4u128), rng.random_range(1..4));
    match rng.random_range(0..15) {
        0 => open(["a", "b", "x"][rng.random_range(0..3)]),
        1 => LeaderCommand::Refute { incident, why: "heard".into() },
        2 | 3 => LeaderCommand::FenceIntent {
            incident,
            attempt,
            author: US,
            level: 1,
            devices: vec![device("bmc")],
            not_after: WallTime(0),
            rate: RateClaim::default(),
        },
        4 => LeaderCommand::FenceFailed { incident, attempt, why: "silent".into() },
        5 | 6 => {
            let reads = OffReads { device: device("bmc"), seen_going_off: true, apart_ms: 1_000 };
            LeaderCommand::ConfirmFence { incident, attempt, proof: ProofRecord { level: 1, devices: vec![reads] } }
        }
        7 => LeaderCommand::VoidProof { incident, why: "on".into() },
        8 => {
            let LeaderCommand::BeginEvacuation { servers, heartbeat, remarks, .. } = begin(&[1, 2, 3]) else {
                return begin(&[]);
            };
            LeaderCommand::BeginEvacuation { incident, heartbeat, servers, remarks }
        }
        9 | 10 => intend_in(incident, number, attempt),
        11 => LeaderCommand::CloseIntent { incident, server: server(number), attempt, end: IntentEnd::NoneAppeared },
        12 => LeaderCommand::Settle { incident, server: server(number), fate: Fate::Deleted },
        13 => LeaderCommand::Close { incident },
        _ => LeaderCommand::Stick { incident, why: "a reason".into() },
    }
}

/// Random commands, most of them illegal: every refusal changes nothing (see [`Log::entry`]), the same entries give equal
/// ledgers, and the rules hold in every state that is reached.
#[test]
fn any_sequence_is_deterministic_and_keeps_the_rules() {
    for seed in 0..300 {
        let (mut log, mut rng) = (Log::armed(), StdRng::seed_from_u64(seed));
        let first = log.clone();
        let mut entries = Vec::new();
        for _ in 0..200 {
            let statement = match rng.random_range(0..10) {
                0 => Statement::Member { host: host("b"), boot: boot(), statement: failed(rng.random_range(1..4)) },
                _ => Statement::Leader { host: host("a"), term: TERM, command: any_command(&mut rng) },
            };
            entries.push(statement.clone());
            let _outcome = log.entry(statement);
            assert_rules(&log.ledger, seed);
            if rng.random_range(0..20) == 0 {
                let incident = IncidentId(rng.random_range(1..4));
                let resume = OperatorCommand::Resume { incident };
                let _outcome = log.order(resume);
            }
        }
        let (mut once, mut twice) = (first.clone(), first);
        for statement in entries {
            assert_eq!(once.entry(statement.clone()), twice.entry(statement), "seed {seed}");
        }
        assert_eq!(once.ledger, twice.ledger, "seed {seed}");
    }
}

fn assert_rules(ledger: &Ledger, seed: u64) {
    let mut hosts = BTreeSet::new();
    let mut intents = BTreeSet::new();
    for incident in ledger.open_incidents() {
        assert!(hosts.insert(&incident.host), "seed {seed}: one open incident a host");
        let is_proven = matches!(incident.phase, Phase::Fenced | Phase::Evacuating);
        assert_eq!(incident.proof.is_some(), is_proven, "seed {seed}: {}", incident.phase);
        for (server, record) in &incident.servers {
            assert!(record.fate.is_none() || record.intent.is_none(), "seed {seed}: settled with an open intent");
            assert!(record.intent.is_none() || intents.insert(*server), "seed {seed}: two open intents of one server");
        }
    }
    for incident in ledger.incidents.values().filter(|incident| !incident.is_open()) {
        assert!(incident.servers.values().all(|record| record.intent.is_none()), "seed {seed}: closed, an intent open");
    }
}
