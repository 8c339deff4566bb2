//! The command `rekindle`: asks the local daemon, shows its documents, signs orders.
//!
//! Nothing lasting is decided by a flag, nothing destructive happens without its own verb and a reason, and there is no
//! `--force`. `docs/commands.md` has every command and exit code.

mod args;
mod exit;
mod gate;
mod order;
mod pki;
mod rehearse;
pub mod render;
mod replay;
mod roster;
mod run;
#[cfg(test)]
pub(crate) mod samples;
mod segment_args;
mod segments;
mod sim;
mod voters;

pub use args::{Cli, Command, GateCommand, HostCommand, PkiCommand, Reason, Role, RosterRole, Switch, VotersCommand};
pub use exit::{Exit, Failure};
pub use run::run;
pub use segment_args::{Apply, HostFlags, HostSet, SegmentCommand, SegmentFlags};
pub use sim::SimCommand;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// The whole command: arguments (the first is the program's name), work, exit code. In the library, so that the tests and
/// the demo run the very command of their own build.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(arguments);
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

#[cfg(test)]
mod tests;
