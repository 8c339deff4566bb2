//! Whole clusters in virtual time: random faults, then healing, then judgement. A failure names its seed; replay it with
//! `cargo run -p rekindle-sim --example one -- SEED`.
#![expect(
    clippy::disallowed_methods,
    reason = "one seed is one story whichever thread tells it; how many is asked for"
)]

use rekindle_sim::scenario;

/// Seeds of an ordinary run. `REKINDLE_SIM_SEEDS` asks for more, `REKINDLE_SIM_FIRST` where to begin.
const SEEDS: u64 = 120;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_vm_ever_runs_twice_and_every_incident_ends() {
    let (first, seeds) = (number("REKINDLE_SIM_FIRST", 0), number("REKINDLE_SIM_SEEDS", SEEDS));
    let mut faults = std::collections::BTreeMap::new();
    let (mut recovered, mut stuck, mut broken) = (0, 0, Vec::new());
    let threads: Vec<_> = (0..2)
        .map(|lane| {
            std::thread::spawn(move || {
                (first..first + seeds).filter(|seed| seed % 2 == lane).map(scenario::random).collect::<Vec<_>>()
            })
        })
        .collect();
    for report in threads.into_iter().flat_map(|thread| thread.join().expect("a scenario panicked")) {
        for fault in &report.faults {
            *faults.entry(*fault).or_insert(0) += 1;
        }
        recovered += report.recovered;
        stuck += report.stuck;
        if let Some(violation) = report.violation {
            broken.push(format!("seed {}: {violation} ({} hosts, {:?})", report.seed, report.hosts, report.faults));
        }
    }
    println!("{seeds} seeds from {first}: {recovered} recovered, {stuck} stuck, faults {faults:?}");
    assert!(broken.is_empty(), "{} broken promises:\n{}", broken.len(), broken.join("\n"));
    assert!(recovered > 0 && stuck > 0, "the scenarios must reach both ends");
}

#[test]
fn one_seed_tells_one_story() {
    let (a, b) = (scenario::random(7), scenario::random(7));
    assert_eq!(a.log, b.log);
    assert_ne!(a.log, scenario::random(8).log);
}
