//! The second ring of chaos: the very daemons, as processes, under faults drawn from a seed. The first ring, `sim/`, has
//! thousands of clusters in virtual time; this one has few, with real QUIC, Raft on a real disk, real signals, a packet
//! filter that drops, deafens and loses, a disk that fills up, and ipmitool. What is asserted on is the same: the truth of
//! the fakes, never what a daemon says ([`oracle`]).
//!
//! `REKINDLE_CHAOS_SEEDS` asks for more seeds, `REKINDLE_CHAOS_FIRST` where to begin. A failure names its seed,
//! and what was done when.

mod nuisance;
mod oracle;
mod story;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rekindle_tests::harness::{dispatch, isolate};

/// Seeds of an ordinary run, half a minute each; `make test-long` has more.
const SEEDS: u64 = 2;
/// The first of them. With it an agent that takes a late BMC at its word is caught in the second.
const FIRST: u64 = 11;

/// No seed comes near it; it only ends one that hangs.
const SEED_WITHIN: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    if let Some(code) = dispatch() {
        return code;
    }
    if std::env::args().any(|argument| argument == "--list") {
        println!("chaos: test");
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, seeds) = (number("REKINDLE_CHAOS_FIRST", FIRST), number("REKINDLE_CHAOS_SEEDS", SEEDS));
    println!("\nrunning {seeds} seeds from {first}");
    let failed = match all(first, seeds) {
        Ok(failed) => failed,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        seeds - failed,
        began.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many seeds failed.
fn all(first: u64, seeds: u64) -> Result<u64> {
    let isolated = isolate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")?;
    let mut failed = 0;
    for seed in first..first + seeds {
        let began = Instant::now();
        let result = runtime.block_on(async {
            let ended = tokio::time::timeout(SEED_WITHIN, story::run(&isolated, seed)).await;
            ended.unwrap_or_else(|_| Err(anyhow!("it did not end within {} s", SEED_WITHIN.as_secs())))
        });
        let took = began.elapsed().as_secs_f64();
        match result {
            Ok(told) => println!("test seed {seed} ... ok <{took:.1}s>: {told}"),
            Err(error) => {
                failed += 1;
                println!("test seed {seed} ... FAILED <{took:.1}s>\n  {error:#}\n");
            }
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(failed)
}
