//! The daemon `rekindled`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rekindle_agent::daemon::main(std::env::args_os())
}
