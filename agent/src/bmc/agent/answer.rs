//! What a fence agent's exit code and words mean.
//!
//! The library of fence-agents ends with 1 for every failure since 4.0, and says which on standard error; before, and in
//! agents of others, codes from 3 upwards tell them apart. Which failure it was is for people: no decision rests on it.

use rekindle_proto::fact::{DeviceError, PowerState, Text};

use crate::bmc::process::Output;

/// The machine is off; an agent without `status` has no business to say so.
const OFF: i32 = 2;

/// How an agent begins the line with the state (`fence_action` of its library).
const STATUS: &str = "Status: ";

/// The power state, from the exit code and the line together.
pub(super) fn power_state(output: &Output) -> Result<PowerState, DeviceError> {
    let mut lines = output.stdout.lines().map(str::trim_end).filter(|line| line.starts_with(STATUS.trim_end()));
    let (line, more) = (lines.next(), lines.next());
    match (output.status.code(), line, more) {
        _ if output.cut => Err(DeviceError::Unusable(told("it says more than is read", output))),
        (Some(OFF), Some("Status: OFF"), None) => Ok(PowerState::Off),
        (Some(0), None | Some("Status: ON"), None) => Ok(PowerState::On),
        (Some(0 | OFF), _, _) => Err(DeviceError::Unusable(told("an answer that is no power state", output))),
        (_, _, _) => Err(failure(output)),
    }
}

/// Whether it said that it has done, or will do, what was asked.
pub(super) fn accepted(output: &Output) -> Result<(), DeviceError> {
    match output.status.code() {
        Some(0) => Ok(()),
        Some(_) | None => Err(failure(output)),
    }
}

/// What kind of failure its code and its words mean (`fail` and `fail_usage` of fencing.py, 4.12.1).
fn failure(output: &Output) -> DeviceError {
    const CREDENTIALS: [&str; 4] =
        ["set login password", "have to set login", "does not have the correct privileges", "denied"];
    const SILENT: [&str; 4] = ["Connection timed out", "Connection lost", "Unable to connect", "No route to host"];
    let lines = said(output);
    let says = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    let text = told("", output);
    match output.status.code() {
        // LOGIN_DENIED, PASSWORD_MISSING, INVALID_PRIVILEGES; CONNECTION_LOST, TIMED_OUT.
        Some(3 | 10 | 11) => DeviceError::Credentials(text),
        Some(4 | 5) => DeviceError::Silent(text),
        _ if says(&CREDENTIALS) => DeviceError::Credentials(text),
        _ if says(&SILENT) => DeviceError::Silent(text),
        _ => DeviceError::Refused(text),
    }
}

/// What it said, errors first, without dates and blank lines.
fn said(output: &Output) -> Vec<&str> {
    let lines = output.stderr.lines().chain(output.stdout.lines()).map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.contains("Please use '-h' for usage")).collect()
}

/// What it said and how it ended, on one line.
pub(super) fn told(what: &str, output: &Output) -> Text {
    let words = said(output).join("; ");
    let what = if what.is_empty() { String::new() } else { format!("{what}: ") };
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    Text::new(crate::telemetry::plain(&format!("{what}{}{words}", output.status)))
}
