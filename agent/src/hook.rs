//! The site's hooks: a program with a JSON document on its standard input, bounded in time and words.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rekindle_coordinator::hook::{HookOrder, HookRule};
use rekindle_proto::fact::{DeviceError, Text};

use crate::bmc::process::{Feed, Output, PATH, run_fed};

/// One hook of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// What is decided about.
    pub rule: HookRule,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Runs what an order names.
///
/// # Errors
/// In words: its exit code or signal with the beginning of what it wrote, that it did not end in time and was killed with
/// all its process group, or why it could not be run.
pub async fn run(hooks: &[HookSettings], order: &HookOrder) -> Result<Text, Text> {
    let Some(hook) = hooks.get(order.hook()) else { return Err("this member's configuration has no such hook".into()) };
    let input = serde_json::to_vec(order.document()).map_err(|error| Text::new(error.to_string()))?;
    let feed = Feed { input: input.into(), path: PATH, ..Feed::default() };
    match run_fed(&hook.program, &hook.arguments, feed, order.timeout()).await {
        Ok(output) if output.status.success() => Ok(Text::new(words(&output))),
        Ok(output) => Err(Text::new(format!("{}{}", ending(output.status), said(&words(&output))))),
        Err(DeviceError::Silent(_)) => {
            let seconds = order.timeout().as_secs_f32();
            Err(Text::new(format!("not ended within {seconds:.1} s; it was killed with all its processes")))
        }
        Err(error) => Err(Text::new(error.to_string())),
    }
}

/// Whether the program may be run, and by whom it could be altered; for `rekindled --check`.
///
/// # Errors
/// What is wrong with it.
pub fn look_at(program: &Path) -> Result<String, String> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let found = std::fs::metadata(program).map_err(|error| error.to_string())?;
    let mode = found.permissions().mode();
    let ours = nix::unistd::geteuid().as_raw();
    if !found.is_file() {
        return Err("is not a file".to_owned());
    }
    if mode & 0o022 != 0 {
        return Err(format!("mode {:04o}: others than its owner may change what the leader runs", mode & 0o7777));
    }
    if found.uid() != 0 && found.uid() != ours {
        return Err(format!("belongs to uid {}; it must be root's or the daemon's", found.uid()));
    }
    if nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_err() {
        return Err(format!("mode {:04o}: the daemon may not run it", mode & 0o7777));
    }
    Ok(format!("mode {:04o}, uid {}", mode & 0o7777, found.uid()))
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// What it wrote, errors first, as one line without what could steer a terminal.
fn words(output: &Output) -> String {
    let all = format!("{} {}", output.stderr, output.stdout);
    crate::telemetry::plain(&all.split_whitespace().collect::<Vec<_>>().join(" "))
}
