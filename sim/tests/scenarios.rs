//! Every file of `sim/scenarios`, and what a file may not say.

use rekindle_sim::scenario::{Scenario, library, run};

/// Runs every scenario with all its seeds, or only those whose name has `REKINDLE_SIM_ONLY` in it.
#[test]
#[expect(clippy::disallowed_methods, reason = "whoever works on one scenario asks for that one")]
fn every_scenario_ends_as_its_file_says() {
    let only = std::env::var("REKINDLE_SIM_ONLY").unwrap_or_default();
    let mut failures = Vec::new();
    let (mut scenarios, mut runs) = (0, 0);
    for (file, text) in library().iter().filter(|(file, _)| file.contains(&only)) {
        scenarios += 1;
        let scenario = match Scenario::parse(text) {
            Ok(scenario) => scenario,
            Err(error) => {
                failures.push(format!("{file}: {error}"));
                continue;
            }
        };
        for seed in scenario.first_seed..scenario.first_seed + scenario.seeds {
            runs += 1;
            let outcome = run(&scenario, seed);
            if let Some(broken) = &outcome.broken {
                failures.push(format!("{file}, seed {seed}: {} at {}: {}", broken.invariant, broken.at, broken.text));
            }
            failures.extend(outcome.missed.iter().map(|missed| format!("{file}, seed {seed}: {missed}")));
        }
    }
    println!("{scenarios} scenarios, {runs} runs");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
