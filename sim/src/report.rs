//! What came of many seeds, as one document. Its field names are an interface: they are added to, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scenario::Outcome;

/// The document behind `rekindle sim random --json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// The first of them.
    pub first_seed: u64,
    /// Virtual time, all runs together.
    pub simulated_seconds: f64,
    /// Real time. The simulator has no clock: whoever runs it fills this in.
    pub wall_seconds: f64,
    /// Deeds that befell somebody, by kind.
    pub faults: BTreeMap<String, u64>,
    /// How often each phase was reached.
    pub phases: BTreeMap<String, u64>,
    /// Broken promises.
    pub violations: Vec<ViolationLine>,
    /// The program that ran, as far as whoever runs it says.
    pub commit: String,
    /// Virtual time times members, in hours.
    pub host_hours: f64,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViolationLine {
    /// The seed that broke it.
    pub seed: u64,
    /// Which promise.
    pub invariant: String,
    /// When, in virtual seconds.
    pub at: f64,
    /// The shortest scenario that still breaks it, as a file.
    pub scenario: String,
    /// What was seen.
    pub text: String,
}

impl Report {
    /// A report of no runs yet.
    #[must_use]
    pub fn new(first_seed: u64, commit: &str) -> Self {
        Self { first_seed, commit: commit.to_owned(), ..Self::default() }
    }

    /// Adds one run. `scenario`: what to keep of it if it broke a promise.
    pub fn add(&mut self, outcome: &Outcome, scenario: impl FnOnce() -> String) {
        self.seeds += 1;
        self.simulated_seconds += outcome.simulated.as_secs_f64();
        let members = u32::try_from(outcome.members).unwrap_or(u32::MAX);
        self.host_hours += outcome.simulated.as_secs_f64() * f64::from(members) / 3_600.0;
        for (total, part) in [(&mut self.faults, &outcome.faults), (&mut self.phases, &outcome.phases)] {
            for (kind, count) in part {
                *total.entry(kind.clone()).or_default() += count;
            }
        }
        if let Some(broken) = &outcome.broken {
            self.violations.push(ViolationLine {
                seed: outcome.seed,
                invariant: broken.invariant.clone(),
                at: broken.at.since(rekindle_coordinator::time::Moment::ZERO).as_secs_f64(),
                scenario: scenario(),
                text: broken.text.clone(),
            });
        }
    }

    /// Takes in what another thread has run. Violations are kept in the order of their seeds.
    pub fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated_seconds += other.simulated_seconds;
        self.host_hours += other.host_hours;
        for (total, part) in [(&mut self.faults, other.faults), (&mut self.phases, other.phases)] {
            for (kind, count) in part {
                *total.entry(kind).or_default() += count;
            }
        }
        self.violations.extend(other.violations);
        self.violations.sort_by_key(|violation| violation.seed);
    }
}
