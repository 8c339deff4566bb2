//! Many seeds on several threads, and the report.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rekindle_sim::report::Report;
use rekindle_sim::{random, scenario, shrink};

use super::super::run::write;
use super::super::{Exit, Failure};
use super::commit;

/// What was asked for.
pub(super) struct Asked<'a> {
    pub(super) seeds: u64,
    pub(super) first: u64,
    pub(super) hosts: &'a RangeInclusive<usize>,
    pub(super) threads: u8,
}

pub(super) fn run(asked: &Asked<'_>, json: Option<&Path>, out: &mut impl Write) -> Result<Exit, Failure> {
    // Before the work: a report that cannot be written is better known at once.
    let file = json.map(std::fs::File::create).transpose().map_err(|error| {
        Failure::new(Exit::Refused, format!("{}: {error}", json.unwrap_or(Path::new("")).display()))
    })?;
    let began = crate::clock::moment();
    let commit = commit();
    let total = Mutex::new(Report::new(asked.first, &commit));
    // Seeds are taken one by one: their clusters are of very different sizes.
    let next = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..asked.threads {
            threads.spawn(|| {
                let mut part = Report::new(asked.first, &commit);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= asked.seeds {
                        break;
                    }
                    one(asked.first + index, asked.hosts, &mut part);
                }
                if let Ok(mut total) = total.lock() {
                    total.merge(part);
                }
            });
        }
    });
    let mut report = total.into_inner().map_err(|_| Failure::new(Exit::Refused, "a simulation panicked"))?;
    report.wall_seconds = crate::clock::moment().since(began).as_secs_f64();
    if let Some(mut file) = file {
        serde_json::to_writer_pretty(&mut file, &report).map_err(|error| Failure::here(&error))?;
        file.write_all(b"\n").map_err(|error| Failure::here(&error))?;
    }
    write(out, &text(&report))?;
    Ok(if report.violations.is_empty() { Exit::Done } else { Exit::Refused })
}

fn one(seed: u64, hosts: &RangeInclusive<usize>, report: &mut Report) {
    let scenario = random::scenario(seed, hosts);
    let outcome = scenario::run(&scenario, seed);
    report.add(&outcome, || {
        let shortest = shrink::shrink(&scenario, seed, shrink::RUNS_MAX).map_or(scenario, |shrunk| shrunk.scenario);
        shortest.to_toml().unwrap_or_else(|error| format!("# {error}\n"))
    });
}

fn text(report: &Report) -> String {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        let words: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        words.join(", ")
    };
    let mut text = format!(
        "{} seeds from {}: {:.1} simulated hours, {:.0} host-hours in {:.0} s ({:.0} host-hours a second)\nfaults: {}\nphases: {}\n",
        report.seeds,
        report.first_seed,
        report.simulated_seconds / 3_600.0,
        report.host_hours,
        report.wall_seconds,
        report.host_hours / report.wall_seconds.max(0.001),
        counts(&report.faults),
        counts(&report.phases),
    );
    for broken in &report.violations {
        text.push_str(&format!(
            "BROKEN {} by seed {} at {:.3} s, {}: {}\n# the shortest scenario that still breaks it:\n{}\n",
            broken.invariant, broken.seed, broken.at, report.commit, broken.text, broken.scenario
        ));
    }
    text.push_str(&format!("{} promises broken\n", report.violations.len()));
    text
}
