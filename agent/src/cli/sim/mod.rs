//! `rekindle sim`: whole clusters in virtual time, on the decision code of this very program. Reads files, writes a
//! report; asks a daemon only for `what-if`, and changes nothing anywhere.

mod random;
mod what_if;

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rekindle_proto::id::HostName;
use rekindle_sim::scenario::{self, Outcome, Scenario, TEXT_BYTES_MAX};
use rekindle_sim::shrink;

use super::run::{picture, write};
use super::{Exit, Failure};

/// What to simulate.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// List the scenarios that come with the program.
    List,
    /// Run scenarios, by name or from files, and say what came of each.
    Run {
        /// Names from `rekindle sim list`, or files.
        #[arg(required = true, value_name = "NAME|FILE")]
        what: Vec<String>,
        /// Run with this one seed, instead of those the scenario asks for.
        #[arg(long)]
        seed: Option<u64>,
        /// Tell the whole story, a line an event.
        #[arg(long)]
        story: bool,
    },
    /// Run random faults in random clusters, half an hour of virtual time a seed.
    Random {
        /// How many.
        #[arg(long)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first_seed: u64,
        /// Hypervisors of a cluster, from and to.
        #[arg(long, default_value = "5..64", value_name = "A..B", value_parser = hosts)]
        hosts: RangeInclusive<usize>,
        /// Write the report there, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Threads.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
        threads: u8,
    },
    /// Take the live cluster as it stands, and tell what would happen if these hosts died now.
    WhatIf {
        /// Who dies.
        #[arg(long, required = true, num_args = 1.., value_name = "HOST")]
        kill: Vec<HostName>,
        /// Their power goes, and their BMCs with it; else their kernels stop.
        #[arg(long)]
        power: bool,
        /// Another seed, another order of events.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Does it.
///
/// # Errors
/// [`Failure`] if a file cannot be read or is refused, or there is no daemon to ask.
pub(super) async fn run(socket: &Path, command: &SimCommand, out: &mut (impl Write + Send)) -> Result<Exit, Failure> {
    match command {
        SimCommand::List => list(out),
        SimCommand::Run { what, seed, story } => run_scenarios(what, *seed, *story, out),
        SimCommand::Random { seeds, first_seed, hosts, json, threads } => random::run(
            &random::Asked { seeds: *seeds, first: *first_seed, hosts, threads: *threads },
            json.as_deref(),
            out,
        ),
        SimCommand::WhatIf { kill, power, seed } => {
            let status = picture(socket).await?;
            what_if::run(&status, kill, *power, *seed, out)
        }
    }
}

/// What this program says of itself in a report: its version, and the commit if whoever built or runs it says so.
pub(super) fn commit() -> String {
    let commit = std::env::var("REKINDLE_COMMIT").ok().or_else(|| option_env!("REKINDLE_COMMIT").map(str::to_owned));
    commit.unwrap_or_else(|| format!("version {}", env!("CARGO_PKG_VERSION")))
}

fn hosts(text: &str) -> Result<RangeInclusive<usize>, String> {
    let rule = || {
        format!("{text:?}: two numbers, \"5..64\", from 2 to {}, the first not above the second", scenario::HOSTS_MAX)
    };
    let (from, to) = text.split_once("..").ok_or_else(rule)?;
    let (from, to): (usize, usize) = (from.parse().map_err(|_| rule())?, to.parse().map_err(|_| rule())?);
    if from < 2 || to < from || to > scenario::HOSTS_MAX { Err(rule()) } else { Ok(from..=to) }
}

fn list(out: &mut impl Write) -> Result<Exit, Failure> {
    let mut text = String::new();
    for (file, content) in scenario::library() {
        let scenario = parsed(file, content)?;
        let first = scenario.about.trim().split(". ").next().unwrap_or_default().replace('\n', " ");
        text.push_str(&format!("{:<44} {}\n", file.trim_end_matches(".toml"), first.trim_end_matches('.')));
    }
    write(out, &text)
}

fn run_scenarios(what: &[String], seed: Option<u64>, story: bool, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut scenarios = Vec::new();
    for word in what {
        scenarios.push(read(word)?);
    }
    let mut exit = Exit::Done;
    for scenario in scenarios {
        let (first, count) = seed.map_or((scenario.first_seed, scenario.seeds), |seed| (seed, 1));
        let mut good = 0;
        for seed in first..first + count {
            let outcome = scenario::run(&scenario, seed);
            if story {
                write(out, &(outcome.story.join("\n") + "\n"))?;
            }
            good += u64::from(outcome.is_good());
            if !outcome.is_good() {
                exit = Exit::Refused;
                write(out, &told(&scenario, &outcome))?;
            }
        }
        let verdict = match count - good {
            0 => format!("{count} of {count} runs as promised and expected"),
            bad => format!("{bad} of {count} runs NOT as promised or expected"),
        };
        write(out, &format!("{}: {verdict}\n", scenario.name))?;
    }
    Ok(exit)
}

/// What went wrong in one run; a broken promise with the shortest scenario that still breaks it.
fn told(scenario: &Scenario, outcome: &Outcome) -> String {
    let mut text = String::new();
    for missed in &outcome.missed {
        text.push_str(&format!("{}, seed {}: {missed}\n", scenario.name, outcome.seed));
    }
    if let Some(broken) = &outcome.broken {
        text.push_str(&format!(
            "{}, seed {}, {}: BROKEN {} at {}: {}\n",
            scenario.name,
            outcome.seed,
            commit(),
            broken.invariant,
            broken.at,
            broken.text
        ));
        if let Some(shrunk) = shrink::shrink(scenario, outcome.seed, shrink::RUNS_MAX)
            && let Ok(file) = shrunk.scenario.to_toml()
        {
            text.push_str(&format!(
                "# the shortest scenario that still breaks it, after {} runs:\n{file}\n",
                shrunk.runs
            ));
        }
    }
    text
}

fn read(word: &str) -> Result<Scenario, Failure> {
    if let Some(text) = scenario::find(word) {
        return parsed(word, text);
    }
    let path = Path::new(word);
    let refused = |text: String| Failure::new(Exit::Refused, text);
    let about = std::fs::metadata(path)
        .map_err(|error| refused(format!("{word}: {error}; neither a file nor a scenario of `rekindle sim list`")))?;
    if !about.is_file() {
        return Err(refused(format!("{word}: not a regular file")));
    }
    if about.len() > TEXT_BYTES_MAX as u64 {
        return Err(refused(format!("{word}: {} bytes; a scenario has at most {TEXT_BYTES_MAX}", about.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(format!("{word}: {error}")))?;
    parsed(word, &text)
}

fn parsed(name: &str, text: &str) -> Result<Scenario, Failure> {
    Scenario::parse(text).map_err(|error| Failure::new(Exit::Refused, format!("{name}: {error}")))
}

#[cfg(test)]
mod tests;
