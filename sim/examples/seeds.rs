//! Random seeds without shrinking, a line each: `cargo run -p rekindle-sim --example seeds -- FIRST SEEDS [MOST-HOSTS] [story]`.
#![expect(clippy::disallowed_methods, reason = "a command has arguments; what it calls has none")]

use std::collections::BTreeMap;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let (first, seeds, most) = (number(0, 0), number(1, 10), number(2, 64) as usize);
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut hours = 0.0;
    for seed in first..first + seeds {
        let scenario = rekindle_sim::random::scenario(seed, &(5..=most));
        let outcome = rekindle_sim::scenario::run(&scenario, seed);
        hours += outcome.simulated.as_secs_f64() / 3_600.0 * outcome.members as f64;
        if let Some(broken) = &outcome.broken {
            println!("seed {seed} {} members: {broken:?}", outcome.members);
            *kinds.entry(format!("{:?}", broken).chars().take(60).collect()).or_default() += 1;
        }
        if args.iter().any(|arg| arg == "story") {
            println!("{}\n{}", scenario.to_toml().unwrap_or_default(), outcome.story.join("\n"));
        }
    }
    println!("{seeds} seeds, {hours:.0} host-hours, {kinds:#?}");
}
