//! The daemon and the command, run from this very executable: what is under test is always what was just built.

use std::ffi::OsString;
use std::process::ExitCode;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Set for children of a harness: its process id. They do not outlive it.
pub(super) const PARENT_VARIABLE: &str = "REKINDLE_HARNESS";

/// This executable, by what it is and not by where it lay: a rebuild during the run does not change it.
pub(super) const THIS_EXECUTABLE: &str = "/proc/self/exe";

/// The first argument that means the daemon, and the one that means the command.
pub(super) const DAEMON: &str = "rekindled";
const COMMAND: &str = "rekindle";

/// Runs `rekindled …` or `rekindle …` if the arguments ask for one of them, and then gives its exit code; `None`: they
/// do not, go on. Call it first thing in `main`, before any thread.
#[must_use]
pub fn dispatch() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let program = arguments.first()?.to_str()?;
    match program {
        DAEMON => Some(match die_with_the_harness() {
            Ok(()) => rekindle_agent::daemon::main(arguments.into_iter()),
            Err(code) => code,
        }),
        COMMAND => Some(rekindle_agent::cli::main(arguments.into_iter())),
        _ => None,
    }
}

/// A daemon must not be left over, however its harness ended.
fn die_with_the_harness() -> Result<(), ExitCode> {
    let Some(parent) = std::env::var(PARENT_VARIABLE).ok().and_then(|text| text.parse::<i32>().ok()) else {
        return Ok(());
    };
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        eprintln!("rekindled: cannot be tied to the life of its harness: {error}");
        return Err(ExitCode::FAILURE);
    }
    // It may have died before that call.
    if getppid().as_raw() == parent { Ok(()) } else { Err(ExitCode::FAILURE) }
}
