//! Any sequence of entries, most of them illegal.

use super::super::super::power_on::PowerOnCommand;
use super::super::super::rehearsal::{Finding, RehearsalEnd, RehearseCommand, RehearsedDevice, SILENT_MS};
use super::super::super::unread::QueueCommand;
use super::*;

fn any_command(rng: &mut StdRng) -> LeaderCommand {
    let incident = IncidentId(rng.random_range(1..4));
    let (number, attempt) = (rng.random_range(1..4u128), rng.random_range(1..4));
    match rng.random_range(0..21) {
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
            let reads = OffReads {
                device: device("bmc"),
                seen_going_off: true,
                apart_ms: 1_000,
                after_ms: 0,
                unverified: false,
            };
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
        13 => LeaderCommand::Close { incident, owes_hooks: false },
        14..=16 => LeaderCommand::Rehearse(any_rehearse(rng, incident)),
        17 => any_power_on(rng),
        18 => LeaderCommand::CloseIntent {
            incident,
            server: server(number),
            attempt,
            end: IntentEnd::DestinationOff { id: MigrationId(7), dest: host(["a", "b", "x"][rng.random_range(0..3)]) },
        },
        19 => any_queue(rng),
        _ => LeaderCommand::Stick { incident, why: "a reason".into() },
    }
}

fn any_rehearse(rng: &mut StdRng, id: IncidentId) -> RehearseCommand {
    let (author, not_after) = (US, WallTime(0));
    let why = Text::from("a reason");
    match rng.random_range(0..10) {
        0 => RehearseCommand::Refuse { id, why },
        1 | 2 => {
            let devices = vec![RehearsedDevice { name: device("bmc"), guid: None }];
            RehearseCommand::Off { id, author, boot: boot(), level: 1, devices, not_after }
        }
        3 | 4 => {
            let reads = OffReads {
                device: device("bmc"),
                seen_going_off: true,
                apart_ms: 1_000,
                after_ms: 0,
                unverified: false,
            };
            let proof = ProofRecord { level: 1, devices: vec![reads] };
            let finding = match rng.random_range(0..3) {
                0 => Finding::Lies { why },
                1 => Finding::Nothing { why },
                _ => Finding::Dark { proof, silent_ms: SILENT_MS },
            };
            RehearseCommand::Found { id, finding }
        }
        5 | 6 => RehearseCommand::OffSettled { id },
        7 => RehearseCommand::On { id, attempt: rng.random_range(1..4), author, not_after },
        8 => {
            let end = [RehearsalEnd::Passed, RehearsalEnd::Failed, RehearsalEnd::Stuck][rng.random_range(0..3)];
            RehearseCommand::End { id, end, why }
        }
        _ => RehearseCommand::Unbind { host: host("b"), device: device("bmc"), why },
    }
}

fn any_queue(rng: &mut StdRng) -> LeaderCommand {
    let host = host(["a", "b", "x"][rng.random_range(0..3)]);
    LeaderCommand::Queue(match rng.random() {
        true => QueueCommand::Let { host, boot: BootId(Uuid::from_u128(rng.random_range(1..3))) },
        false => QueueCommand::Over { host, read: rng.random() },
    })
}

fn any_power_on(rng: &mut StdRng) -> LeaderCommand {
    let (host, attempt) = (host(["a", "b", "x"][rng.random_range(0..3)]), rng.random_range(1..4));
    LeaderCommand::PowerOn(match rng.random_range(0..3) {
        0 => PowerOnCommand::Settled { host, attempt },
        1 => PowerOnCommand::GiveUp { host, why: "a reason".into() },
        _ => PowerOnCommand::Intent { host, attempt, author: US, not_after: WallTime(0), hold: rng.random() },
    })
}

/// Orders of operators, and what the rehearsed host says meanwhile: empty, and in this boot or another.
fn any_order(log: &mut Log, rng: &mut StdRng) {
    let of = |name: &str| host(name);
    let _outcome = match rng.random_range(0..5) {
        0 => log.order(OperatorCommand::Resume { incident: IncidentId(rng.random_range(1..4)) }),
        1 => log.order(OperatorCommand::Rehearse { host: of("b"), level: None }),
        2 => log.order(OperatorCommand::Maintenance { host: of("b"), on: rng.random() }),
        3 => log.order(OperatorCommand::Release { host: of("x") }),
        _ => {
            let guests = GuestList { complete: true, guests: Vec::new() };
            let boot = BootId(Uuid::from_u128(rng.random_range(1..3)));
            let statement = MemberStatement::Pulse { system_uuid: None, guests };
            log.entry(Statement::Member { host: of("b"), boot, statement })
        }
    };
}

/// Random commands, most of them illegal: every refusal changes nothing (see [`Log::entry`]), the same entries give equal
/// ledgers, and the rules hold in every state that is reached.
#[test]
fn any_sequence_is_deterministic_and_keeps_the_rules() {
    for seed in 0..300 {
        let (mut log, mut rng) = (Log::armed(), StdRng::seed_from_u64(seed));
        ["a", "b"].into_iter().for_each(|name| has_gate(&mut log, name));
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
                any_order(&mut log, &mut rng);
                assert_rules(&log.ledger, seed);
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
    let open = ledger.rehearsals.values().filter(|rehearsal| rehearsal.is_open());
    assert!(open.count() <= 1, "seed {seed}: one rehearsal at a time");
    for rehearsal in ledger.rehearsals.values() {
        assert!(rehearsal.on.is_none() || rehearsal.off_settled, "seed {seed}: power before the off order was over");
        let is_kept = ledger.hosts[&rehearsal.host].maintenance.is_some();
        assert!(!rehearsal.is_open() || is_kept, "seed {seed}: rehearsed out of maintenance");
        assert!(
            !rehearsal.explains_silence() || ledger.open_incident(&rehearsal.host).is_none(),
            "seed {seed}: an incident of a host that is rehearsed"
        );
    }
    for (server, queues) in &ledger.unread {
        let is_known = queues.reader.as_ref().is_none_or(|reader| queues.hosts.contains(&reader.host));
        assert!(is_known && !queues.hosts.is_empty(), "seed {seed}: {server} {queues:?}");
        let evacuates = |record: &ServerRecord| record.intent.is_some() && queues.reader.is_some();
        let of_server = ledger.incidents.values().filter_map(|incident| incident.servers.get(server));
        assert!(
            !of_server.into_iter().any(evacuates),
            "seed {seed}: {server} is evacuated while an order of it is read"
        );
    }
    for incident in ledger.incidents.values().filter(|incident| !incident.is_open()) {
        assert!(incident.servers.values().all(|record| record.intent.is_none()), "seed {seed}: closed, an intent open");
    }
}
