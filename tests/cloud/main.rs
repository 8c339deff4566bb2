//! The real cloud test: hosts die under a real Nova, are fenced by a real BMC simulator, and their servers run elsewhere.
//!
//! Nothing here is ours but the daemons under test: Keystone, Placement, Glance, Nova, libvirtd and OpenIPMI as released
//! (`README.md` beside this file). What happened is read from *their* records: Nova's API, the BMC's power log, the domains
//! in each host's libvirtd.
//!
//! One cloud is brought up for all cases; each kills a host, and brings it back. Arguments: names of cases (or parts of
//! them), `--long` for all, `--list`.

mod cases;
mod cloud;
mod daemons;
mod relay;
mod rig;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use cases::{CASES, Case, Size};
use rekindle_tests::harness::closing;
use rig::Rig;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let chosen = |case: &&Case| {
        let named = names.iter().any(|name| case.name.contains(name.as_str()));
        // There are no ignored ones: asked for those alone, there are none.
        !is_given("--ignored") && if names.is_empty() { !case.long || is_given("--long") } else { named }
    };
    let chosen: Vec<&Case> = CASES.iter().filter(chosen).collect();
    if is_given("--list") {
        for case in chosen {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let mut failures = Vec::new();
    for size in [Size::Small, Size::Large] {
        let of_size: Vec<&&Case> = chosen.iter().filter(|case| case.size == size).collect();
        if !of_size.is_empty() {
            failures.extend(on_one_cloud(size, &of_size));
        }
    }
    closing(&failures, chosen.len(), CASES.len(), began.elapsed())
}

/// The names of those that failed. After one the cloud is mended; where that fails too, the rest have not passed either.
fn on_one_cloud(size: Size, cases: &[&&Case]) -> Vec<&'static str> {
    let began = Instant::now();
    let Some(rig) = passed(|| Rig::up(size.hosts())) else {
        return cases.iter().map(|case| case.name).collect();
    };
    println!("cloud and cluster are up after {:.1} s", began.elapsed().as_secs_f64());
    let (mut failures, mut mended) = (Vec::new(), true);
    for case in cases {
        let began = Instant::now();
        println!("case {}", case.name);
        let is_ok = mended && passed(|| (case.run)(&rig)).is_some();
        println!(
            "test {} ... {} <{:.1}s>",
            case.name,
            if is_ok { "ok" } else { "FAILED" },
            began.elapsed().as_secs_f64()
        );
        if !is_ok {
            failures.push(case.name);
            mended = mended && passed(|| rig.mend()).is_some();
        }
    }
    failures
}

/// What panics has told why.
fn passed<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
