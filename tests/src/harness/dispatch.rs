//! The daemon and the command, run from this very executable: what is under test is always what was just built.

use std::ffi::OsString;
use std::process::ExitCode;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::namespace::{own_mounts, run};

/// Set for children of a harness: its process id. They do not outlive it.
pub(super) const PARENT_VARIABLE: &str = "REKINDLE_HARNESS";

/// This executable, by what it is and not by where it lay: a rebuild during the run does not change it.
pub(super) const THIS_EXECUTABLE: &str = "/proc/self/exe";

/// Set for a daemon whose host boots: a file with the boot id that it is to find. Without it, it finds this machine's.
pub(super) const BOOT_VARIABLE: &str = "REKINDLE_HARNESS_BOOT";

/// Where Linux tells the boot id.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

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
        DAEMON => Some(match die_with_the_harness().and_then(|()| boot()) {
            Ok(()) => rekindle_agent::daemon::main(arguments.into_iter()),
            Err(code) => code,
        }),
        COMMAND => Some(rekindle_agent::cli::main(arguments.into_iter())),
        _ => None,
    }
}

/// Puts a boot id of its own where the daemon reads it, in mounts that nobody else sees.
fn boot() -> Result<(), ExitCode> {
    let Some(file) = std::env::var_os(BOOT_VARIABLE) else { return Ok(()) };
    let mounted = own_mounts().and_then(|()| run("mount", &["--bind", &file.to_string_lossy(), BOOT_ID], None));
    mounted.map_err(|error| {
        eprintln!("rekindled: no boot id of its own: {error:#}");
        ExitCode::FAILURE
    })
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
