//! One random scenario, told: `cargo run -p rekindle-sim --example one -- SEED`.
#![expect(clippy::disallowed_methods, reason = "a command has arguments; what it calls has none")]

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let report = rekindle_sim::scenario::random(seed);
    for line in &report.log {
        println!("{line}");
    }
    println!("seed {} hosts {} faults {:?} violation {:?}", report.seed, report.hosts, report.faults, report.violation);
}
