//! Every rule by its refusal, and that the same entries give the same ledger.

mod aggregates;
mod delegated;
mod epoch;
mod format_one;
mod hooks;
mod leader_acts;
mod processes;
mod proofs;
mod rehearsals;
mod reserve;
mod second;
mod segments;
mod sequences;
mod standing;
mod unread;
mod words;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::fact::{
    DeviceName, GUESTS_MAX, GateReport, GateState, Guest, GuestEvent, GuestList, MemberRole, MigrationStatus,
    RosterEntry,
};
use rekindle_proto::id::{BootId, ClusterName, LeadershipId, MigrationId, OperatorName};
use uuid::Uuid;

use super::super::authority::VerifiedOrder;
use super::super::destination::Destination;
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
        let entry = Entry::new(WallTime(self.at), statement);
        let outcome = self.ledger.apply(position, &entry);
        if outcome.is_applied() {
            return Ok(outcome);
        }
        let unchanged = Ledger { format: before.format.max(entry.format), ..before };
        let after = Ledger { applied: before.applied, ..self.ledger.clone() };
        assert_eq!(after, unchanged, "a refusal changes nothing but the format that it is written in");
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
        .map(|name| TestimonyRecord { accuser: host(name), findings: Vec::new(), signs: Vec::new(), after_ms: 0 })
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
    let read = |(name, apart_ms): &(&str, u64)| OffReads {
        device: device(name),
        seen_going_off: true,
        apart_ms: *apart_ms,
        after_ms: 0,
        unverified: false,
    };
    let proof = ProofRecord { level: 1, devices: reads.iter().map(read).collect() };
    LeaderCommand::ConfirmFence { incident: ONE, attempt, proof }
}

fn begin(servers: &[u128]) -> LeaderCommand {
    let planned = |number: &u128| PlannedServer {
        server: server(*number),
        name: format!("vm-{number}").into(),
        vm_state: "active".into(),
        left_behind: None,
        restore: Default::default(),
        priority: 50,
        marked: false,
        undecided: None,
    };
    let servers = servers.iter().map(planned).collect();
    LeaderCommand::BeginEvacuation { incident: ONE, heartbeat: Some("1".into()), servers, remarks: Vec::new() }
}

fn has_gate(log: &mut Log, name: &str) {
    let report = GateReport { installed: true, state: GateState::Closed { why: "it asks".into() } };
    log.member(name, MemberStatement::Gate { report }).expect("its gate");
}

fn intend_in(incident: IncidentId, number: u128, attempt: u32) -> LeaderCommand {
    let server = server(number);
    LeaderCommand::EvacuateIntent {
        incident,
        server,
        attempt,
        author: US,
        newest_migration: None,
        to: Destination::Anywhere,
    }
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
    IntentEnd::Migration { id: MigrationId(4), status, dest: Some(host("b")), no_host: false }
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
    let guest =
        Guest { server: server(1), running: true, disks: rekindle_proto::fact::DiskPlacement::Shared, died: false };
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
