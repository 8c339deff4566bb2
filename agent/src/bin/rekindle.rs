//! The command `rekindle`.

use std::process::ExitCode;

fn main() -> ExitCode {
    die_quietly_on_a_closed_pipe();
    rekindle_agent::cli::main(std::env::args_os())
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
