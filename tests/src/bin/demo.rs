//! `make demo`: a host dies, it is fenced, its servers run elsewhere. Real daemons, real mutual TLS, real IPMI; a
//! simulated Nova.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The daemons of the demo are this very executable.
    rekindle_tests::harness::dispatch().unwrap_or_else(rekindle_tests::demo::main)
}
