//! Guests that die under a cluster of real daemons, on real libvirtds with real QEMU processes, and a simulated Nova that
//! really starts and stops them.
//!
//! It has a main of its own, for the reasons that the daemon tests have one.

#[expect(dead_code, reason = "what else it can do is for the tests of the watcher")]
mod host;
mod restart;
#[path = "../daemon/runner.rs"]
mod runner;

use std::process::ExitCode;

use rekindle_tests::harness::dispatch;
use runner::{Test, test};

fn tests() -> Vec<Test> {
    vec![
        test!(restart::a_guest_that_died_is_stopped_and_started_by_nova),
        test!(restart::a_guest_that_somebody_stopped_is_left_alone),
        test!(restart::a_guest_that_dies_again_and_again_is_left_alone_in_the_end),
    ]
}

fn main() -> ExitCode {
    dispatch().unwrap_or_else(|| runner::run(&tests()))
}
