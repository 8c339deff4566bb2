//! As much of libtest as these tests need, two at a time, and beside them one of those that only wait: each has a cluster
//! with addresses, files and a packet filter of its own.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rekindle_tests::harness::{Isolated, closing, isolate};

/// No test comes near it; it only ends one that hangs.
const TEST_WITHIN: Duration = Duration::from_secs(300);
/// Tests at a time unless `--test-threads=N` says otherwise: ten daemons, enough to keep two cores busy. A failure under more
/// may be that of a machine with more daemons than it can run in time.
const AT_A_TIME: usize = 2;

type Run = for<'a> fn(&'a Isolated) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// Its cluster waits most of the time: it takes no place of another.
    pub(crate) waits: bool,
    pub(crate) run: Run,
}

/// The test that this path names.
macro_rules! test {
    ($module:ident::$name:ident) => {
        $crate::runner::test!($module::$name, waits: false)
    };
    ($module:ident::$name:ident, waits: $waits:literal) => {
        $crate::runner::Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            waits: $waits,
            run: |isolated| Box::pin($crate::$module::$name(isolated)),
        }
    };
}
pub(crate) use test;

/// Runs what the arguments choose, and tells it as libtest does.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |test: &&Test| {
        let names =
            |filter: &&&String| if is_given("--exact") { test.name == **filter } else { test.name.contains(**filter) };
        // There are no ignored ones: asked for those alone, there are none.
        !is_given("--ignored") && (filters.is_empty() || filters.iter().any(|filter| names(&filter)))
    };
    let chosen: Vec<&Test> = tests.iter().filter(chosen).collect();
    if is_given("--list") {
        for test in chosen {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let isolated = match isolate() {
        Ok(isolated) => isolated,
        Err(error) => {
            eprintln!("daemon tests: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let at_a_time = arguments.iter().find_map(|argument| argument.strip_prefix("--test-threads="));
    let at_a_time = at_a_time.and_then(|number| number.parse().ok()).unwrap_or(AT_A_TIME).max(1);
    let began = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let failures = all(&chosen, at_a_time, &isolated);
    closing(&failures, chosen.len(), tests.len(), began.elapsed())
}

/// The names of those that failed.
fn all(chosen: &[&Test], at_a_time: usize, isolated: &Isolated) -> Vec<&'static str> {
    let (waiting, busy): (Vec<&Test>, Vec<&Test>) = chosen.iter().partition(|test| test.waits);
    let failures = Mutex::new(Vec::new());
    let work = |tests: &[&Test], next: &AtomicUsize| {
        while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (began, result) = (Instant::now(), one(test, isolated));
            let took = began.elapsed().as_secs_f64();
            match result {
                Ok(()) => println!("test {} ... ok <{took:.1}s>", test.name),
                Err(error) => {
                    println!("test {} ... FAILED <{took:.1}s>\n  {error:#}\n", test.name);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(test.name);
                }
            }
        }
    };
    let (next, next_waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        if at_a_time > 1 {
            scope.spawn(|| work(&waiting, &next_waiting));
        }
        for _ in 0..at_a_time {
            scope.spawn(|| work(&busy, &next));
        }
    });
    // Nothing is left of them unless one at a time was asked for.
    work(&waiting, &next_waiting);
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(test: &Test, isolated: &Isolated) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")?;
    let run = AssertUnwindSafe(|| {
        runtime.block_on(async {
            let ended = tokio::time::timeout(TEST_WITHIN, (test.run)(isolated)).await;
            ended.unwrap_or_else(|_| Err(anyhow!("it did not end within {} s", TEST_WITHIN.as_secs())))
        })
    });
    let result = catch_unwind(run).unwrap_or_else(|_| Err(anyhow!("it panicked")));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}
