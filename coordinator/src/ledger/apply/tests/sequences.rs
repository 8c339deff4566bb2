//! Any sequence of entries, most of them illegal.

use super::*;

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
            let reads = OffReads { device: device("bmc"), seen_going_off: true, apart_ms: 1_000, after_ms: 0 };
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
