//! What boot gates are for: somebody powers a fenced host on while its servers are being built elsewhere, and a failed
//! rebuild has left a copy where Nova does not look. Without a gate the host starts its guests beside it.
#![expect(clippy::disallowed_methods, reason = "how many seeds is asked for")]

use rekindle_sim::oracle::Violation;
use rekindle_sim::scenario;

/// Seeds of an ordinary run. `REKINDLE_SIM_SEEDS` asks for more, `REKINDLE_SIM_FIRST` where to begin.
const SEEDS: u64 = 40;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn broken(gates: bool) -> Vec<(u64, Violation)> {
    let (first, seeds) = (number("REKINDLE_SIM_FIRST", 0), number("REKINDLE_SIM_SEEDS", SEEDS));
    let report = |seed| scenario::meddled(seed, gates).violation.map(|violation| (seed, violation));
    (first..first + seeds).filter_map(report).collect()
}

#[test]
fn behind_gates_no_vm_runs_twice_whoever_presses_the_button() {
    let broken = broken(true);
    assert!(broken.is_empty(), "{} broken promises: {broken:?}", broken.len());
}

#[test]
fn without_gates_it_does() {
    let twice = broken(false).iter().filter(|(_, violation)| matches!(violation, Violation::RunsTwice { .. })).count();
    println!("{twice} double runs without gates");
    assert!(twice > 0, "a simulation that cannot fail proves nothing");
}
