//! The end of a program that runs tests without libtest.

use std::process::ExitCode;
use std::time::Duration;

/// Names what failed, and says libtest's own closing line, which `scripts/test.sh` counts by. `all`: how many tests there are,
/// chosen or not.
#[must_use]
pub fn closing(failures: &[&str], chosen: usize, all: usize, took: Duration) -> ExitCode {
    if !failures.is_empty() {
        println!("\nfailures:\n    {}", failures.join("\n    "));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        chosen - failures.len(),
        failures.len(),
        all - chosen,
        took.as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
