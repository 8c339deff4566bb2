//! Epochs, the fence rate, the cap and lifts, as the ledger holds them.

use rekindle_proto::id::DomainName;

use super::super::super::epoch::VoterBoot;
use super::super::super::lift::LiftTarget;
use super::*;

fn voter(name: &str, boot_number: u128, age_s: u64) -> VoterBoot {
    VoterBoot { host: host(name), boot: BootId(Uuid::from_u128(boot_number)), age_ms: age_s * 1_000 }
}

fn begin_epoch(number: u64, voters: Vec<VoterBoot>) -> LeaderCommand {
    LeaderCommand::BeginEpoch { number, why: "power was lost".into(), voters }
}

fn mark(number: u64, elapsed_s: u64, seen: &[&str]) -> LeaderCommand {
    let seen = seen.iter().map(|name| (host(name), ([127, 0, 0, 1], 7946).into())).collect();
    LeaderCommand::MarkEpoch { number, elapsed_ms: elapsed_s * 1_000, seen, voters: Vec::new() }
}

fn lift(target: LiftTarget) -> OperatorCommand {
    OperatorCommand::LiftBrake { target }
}

/// A first off order of an incident, after `waited_s` since fence number `after`.
fn order(incident: u64, after: u64, waited_s: u64) -> LeaderCommand {
    LeaderCommand::FenceIntent {
        incident: IncidentId(incident),
        attempt: 1,
        author: US,
        level: 1,
        devices: vec![device(&format!("bmc-{incident}"))],
        not_after: WallTime(0),
        rate: RateClaim { after, waited_ms: waited_s * 1_000 },
    }
}

#[test]
fn an_epoch_begins_by_the_voters_boots_only() {
    let mut log = Log::armed();
    let young = || vec![voter("a", 1, 20), voter("b", 2, 299)];
    assert_eq!(refusal(log.leader(begin_epoch(2, young()))), "epoch 2 does not follow 0");
    log.leader(begin_epoch(1, Vec::new())).expect("the first needs no voters");
    let rows = [
        (vec![], "0 of 0 voters booted lately: no loss of power"),
        (vec![voter("a", 1, 20), voter("b", 2, 300)], "1 of 2 voters booted lately: no loss of power"),
        (vec![voter("a", 1, 20), voter("a", 1, 20)], "2 voters, or one of them twice"),
    ];
    for (voters, expected) in rows {
        assert_eq!(refusal(log.leader(begin_epoch(2, voters))), expected);
    }
    log.leader(begin_epoch(2, young())).expect("most of them booted lately");
    // The same boots, met by the next leader, are the same loss of power.
    assert_eq!(refusal(log.leader(begin_epoch(3, young()))), "0 of 2 voters booted lately: no loss of power");
    log.leader(LeaderCommand::MarkEpoch { number: 2, elapsed_ms: 0, seen: vec![], voters: vec![voter("c", 3, 9)] })
        .expect("a voter that came up later");
    assert_eq!(
        refusal(log.leader(begin_epoch(3, vec![voter("a", 1, 60), voter("c", 3, 60)]))),
        "0 of 2 voters booted lately: no loss of power"
    );
    log.leader(begin_epoch(3, vec![voter("a", 11, 60), voter("b", 12, 60)])).expect("other boots: lost again");
}

#[test]
fn marks_only_grow_and_strangers_are_not_seen() {
    let mut log = Log::armed();
    log.leader(begin_epoch(1, Vec::new())).expect("begun");
    log.leader(mark(1, 40, &["a", "stranger"])).expect("marked");
    log.leader(mark(1, 25, &["b"])).expect("marked by a leader that knew less");
    let epoch = &log.ledger.epoch;
    assert_eq!((epoch.elapsed_ms, epoch.seen.len()), (40_000, 2));
    assert_eq!(refusal(log.leader(mark(2, 50, &[]))), "this is epoch 1, not 2");
}

#[test]
fn nobody_is_a_target_of_a_cold_start() {
    let mut log = Log::armed();
    log.leader(open("x")).expect("before any epoch");
    log.leader(begin_epoch(1, Vec::new())).expect("begun");
    log.leader(mark(1, 10, &["a", "b", "c"])).expect("marked");
    let cold = "cold start: 10 s of 300 s have passed, and 3 members were seen alive; 5 end it early";
    assert_eq!(refusal(log.leader(open("d"))), cold);
    assert_eq!(refusal(log.leader(fence(1))), cold, "an incident of before, too");
    log.leader(mark(1, 10, &["d", "w"])).expect("marked");
    log.leader(open("d")).expect("80 % were seen, and it among them");
    assert_eq!(refusal(log.leader(fence(1))), "cold start: x was not yet seen alive since; 10 s of 600 s have passed");
    log.leader(mark(1, 600, &[])).expect("marked");
    log.leader(fence(1)).expect("it had its time to boot");
}

#[test]
fn a_loss_of_power_voids_proofs_and_leaves_intents_to_nobody() {
    let mut log = Log::at_phase(Phase::Evacuating);
    log.leader(intend(1, 1)).expect("an intent");
    log.leader(begin_epoch(1, Vec::new())).expect("begun");
    let incident = &log.ledger.incidents[&ONE];
    assert_eq!(incident.phase, Phase::Fencing);
    assert_eq!((incident.proof.clone(), incident.heartbeat.clone(), incident.voided), (None, None, 0));
    assert_eq!(incident.servers.len(), 2, "what was planned and moved stays so");
    let open = incident.servers[&server(1)].intent.as_ref().expect("open under I11");
    assert_ne!(open.author, US, "nobody's to call");
    let last = incident.story.last().map(|line| line.text.to_string());
    assert_eq!(last.as_deref(), Some("epoch 1 begins: power was lost"));
    assert!(log.leader(intend(2, 1)).is_err(), "no evacuation before it is proven again");
    // A running attempt is over, and does not count against its level.
    let mut log = Log::at_phase(Phase::Fencing);
    log.leader(begin_epoch(1, Vec::new())).expect("begun");
    let incident = &log.ledger.incidents[&ONE];
    assert!(incident.attempts[0].failed.is_some() && incident.attempts_before_resume == 1);
    assert!(refusal(log.leader(confirm(1, &[("bmc", 1_000)]))).contains("not the running one"));
}

/// Twelve hosts, the first ten in one rack; six incidents may be opened.
fn rack() -> Log {
    let names: Vec<String> = (0..12).map(|number| format!("h{number:02}")).collect();
    let roster = names.iter().enumerate().map(|(number, name)| RosterEntry {
        host: host(name),
        role: MemberRole::Member,
        domain: (number < 10).then(|| DomainName::new("r1").expect("legal")),
    });
    let mut log = Log { ledger: Ledger::new(ClusterName::new("zrh1").expect("legal")), at: 0 };
    log.order(OperatorCommand::Init { roster: roster.collect(), ca: vec![1] }).expect("the first roster");
    log.order(OperatorCommand::Arm(true)).expect("armed");
    log
}

fn rack_verdict(present: u32) -> VerdictRecord {
    let accuser =
        |name: &str| TestimonyRecord { accuser: host(name), findings: Vec::new(), signs: Vec::new(), after_ms: 0 };
    let testimonies = ["h07", "h08", "h09"].into_iter().map(accuser).collect();
    VerdictRecord { eligible: 3, needed: 3, testimonies, present, roster: 12, path: None }
}

fn open_of(name: &str, present: u32, needed_by: Option<IncidentId>) -> LeaderCommand {
    let verdict = rack_verdict(present);
    LeaderCommand::OpenIncident { host: host(name), boot: Some(boot()), suspected_at: WallTime(0), verdict, needed_by }
}

#[test]
fn the_cap_is_held_by_the_ledger() {
    let mut log = rack();
    log.leader(open_of("h00", 11, None)).expect("one of the rack");
    let cap = "per-domain cap: 1 hosts of domain r1 are being recovered; at most 1 of its 10 at once";
    assert_eq!(refusal(log.leader(open_of("h01", 11, None))), cap);
    assert_eq!(refusal(log.leader(open_of("h01", 11, Some(IncidentId(1))))), cap, "it does not evacuate yet");
    log.leader(open_of("h10", 11, None)).expect("no label, no cap");
    log.leader(LeaderCommand::Stick { incident: IncidentId(1), why: "a reason".into() }).expect("stuck");
    log.leader(open_of("h01", 11, None)).expect("the stuck one waits for a person, the rack does not");
}

#[test]
fn the_rate_is_held_by_the_ledger() {
    let mut log = rack();
    for (number, name) in ["h00", "h10", "h11"].into_iter().enumerate() {
        log.leader(open_of(name, 11, None)).expect("opened");
        let number = u64::try_from(number).expect("small");
        log.leader(order(number + 1, number, 0)).expect("three at once");
    }
    log.order(lift(LiftTarget::Host(host("h01")))).expect("lifted, for the cap's sake");
    log.leader(open_of("h01", 11, None)).expect("opened");
    log.ledger.lifts.clear();
    assert_eq!(refusal(log.leader(order(4, 3, 69))), "fence rate: 3 hosts were fenced in this storm; the next in 1 s");
    assert_eq!(
        refusal(log.leader(order(4, 2, 500))),
        "fence rate: 3 hosts were fenced in this storm; the next in 70 s",
        "another leader's wait, since another fence"
    );
    log.leader(order(4, 3, 70)).expect("one per ten seconds");
    // A retry is not counted.
    let failed = LeaderCommand::FenceFailed { incident: IncidentId(1), attempt: 1, why: "silent".into() };
    log.leader(failed).expect("failed");
    let LeaderCommand::FenceIntent { incident, author, level, devices, not_after, rate, .. } = order(1, 0, 0) else {
        panic!("an intent");
    };
    let retry = LeaderCommand::FenceIntent { incident, attempt: 2, author, level, devices, not_after, rate };
    log.leader(retry).expect("a retry");
    assert_eq!(log.ledger.rate.counted, 4);
}

#[test]
fn a_lift_is_for_one_incident_and_never_for_what_an_operator_decided() {
    let mut log = rack();
    let stopped = "mass-failure stop: 6 of 12 answered the roll call; 7 are needed";
    assert_eq!(refusal(log.leader(open_of("h00", 6, None))), stopped);
    log.order(lift(LiftTarget::Host(host("h00")))).expect("lifted");
    assert_eq!(refusal(log.leader(open_of("h01", 6, None))), stopped, "another host's");
    log.leader(open_of("h00", 6, None)).expect("opened");
    let incident = &log.ledger.incidents[&ONE];
    let line = incident.story.last().expect("a story");
    assert_eq!((line.text.as_str(), line.operator.is_some()), ("brakes lifted: a reason", true));
    assert_eq!(log.ledger.lift_of(&host("h00")).and_then(|lift| lift.incident), Some(ONE));
    assert!(log.leader(LeaderCommand::DropLift { host: host("h00") }).is_err(), "it is its incident's");
    // Testimony is needed as ever, and so is arming.
    log.order(lift(LiftTarget::Host(host("h02")))).expect("lifted");
    let LeaderCommand::OpenIncident { host: name, boot, suspected_at, mut verdict, needed_by } =
        open_of("h02", 6, None)
    else {
        panic!("an opening");
    };
    verdict.testimonies.truncate(1);
    let alone = LeaderCommand::OpenIncident { host: name, boot, suspected_at, verdict, needed_by };
    assert_eq!(refusal(log.leader(alone)), "1 members of the roster testify; 3 are needed, never fewer than 2");
    log.order(OperatorCommand::Arm(false)).expect("disarmed");
    assert_eq!(refusal(log.leader(open_of("h02", 6, None))), "disarmed: a reason");
    assert_eq!(refusal(log.leader(order(1, 0, 0))), "disarmed: a reason");
    // It ends with its incident.
    log.order(OperatorCommand::Arm(true)).expect("armed");
    log.leader(LeaderCommand::Refute { incident: ONE, why: "heard".into() }).expect("refuted");
    assert!(log.ledger.lift_of(&host("h00")).is_none() && log.ledger.lift_of(&host("h02")).is_some());
    log.leader(LeaderCommand::DropLift { host: host("h02") }).expect("it was heard");
    assert!(log.ledger.lifts.is_empty());
}

#[test]
fn nothing_unknown_is_lifted() {
    let mut log = rack();
    assert_eq!(refusal(log.order(lift(LiftTarget::Incident(ONE)))), "no incident 1");
    assert_eq!(
        refusal(log.order(lift(LiftTarget::Host(host("stranger"))))),
        "stranger is not a hypervisor of the roster"
    );
}
