//! As much of libtest as these tests need, one after the other.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rekindle_tests::harness::{Isolated, isolate};

/// No test comes near it; it only ends one that hangs.
const TEST_WITHIN: Duration = Duration::from_secs(300);

type Run = for<'a> fn(&'a Isolated) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// The test that this path names.
macro_rules! test {
    ($module:ident::$name:ident) => {
        $crate::runner::Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
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
    all(&chosen, tests.len(), &isolated)
}

fn all(chosen: &[&Test], known: usize, isolated: &Isolated) -> ExitCode {
    let began = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let mut failures = Vec::new();
    for test in chosen {
        let (began, result) = (Instant::now(), one(test, isolated));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {} ... {word} <{:.1}s>", test.name, began.elapsed().as_secs_f64());
        if let Err(error) = result {
            println!("  {error:#}\n");
            failures.push(test.name);
        }
    }
    if !failures.is_empty() {
        println!("\nfailures:\n    {}", failures.join("\n    "));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failures.len(),
        failures.len(),
        known - chosen.len(),
        began.elapsed().as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
