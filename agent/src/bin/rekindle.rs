//! The command `rekindle`.

use std::process::ExitCode;

use clap::Parser;
use rekindle_agent::cli::{Cli, run};

fn main() -> ExitCode {
    die_quietly_on_a_closed_pipe();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rekindle: no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&cli, &mut std::io::stdout())) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            eprintln!("rekindle: {failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

/// `rekindle status | head` ends as any other command does. Rust's runtime ignores SIGPIPE, and would make it an error.
#[allow(unsafe_code)]
fn die_quietly_on_a_closed_pipe() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is installed, the default action is restored, and no other thread exists yet.
    if let Err(error) = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) } {
        eprintln!("rekindle: SIGPIPE stays ignored: {error}");
    }
}
