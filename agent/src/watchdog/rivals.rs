//! Who else would feed the watchdog: a host must not be kept alive by somebody who knows nothing of leases.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Node, WatchdogError};

/// There is such a directory where systemd is process 1 (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// How long PID 1 may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// What systemd feeds while it runs, and while it shuts down (its default is ten minutes: longer than our proof waits); the
/// third is the second one's name before systemd 247.
const SETTINGS: [&str; 4] = ["RuntimeWatchdogUSec", "RebootWatchdogUSec", "ShutdownWatchdogUSec", "KExecWatchdogUSec"];

/// Whether systemd leaves that watchdog to us. Where it does not run there is nothing to ask.
///
/// # Errors
/// [`WatchdogError`] if it would feed it, or does not say.
pub async fn is_left_to_us(node: Node) -> Result<(), WatchdogError> {
    if !Path::new(SYSTEMD).exists() {
        return Ok(());
    }
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property", &SETTINGS.join(","), "--property", "WatchdogDevice"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
    let silent = |why: String| WatchdogError::SystemdSilent { node, why };
    match tokio::time::timeout(WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => judge(&String::from_utf8_lossy(&output.stdout), node),
        Ok(Ok(output)) => Err(silent(format!("systemctl: {}", output.status))),
        Ok(Err(error)) => Err(silent(format!("systemctl: {error}"))),
        Err(_) => Err(silent(format!("no answer within {} s", WITHIN.as_secs()))),
    }
}

/// What `systemctl show` tells of the manager.
pub(super) fn judge(told: &str, node: Node) -> Result<(), WatchdogError> {
    let properties: Vec<(&str, &str)> = told.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| properties.iter().find(|(known, _)| *known == name).map(|(_, value)| value.trim());
    // Its default, "" or "/dev/watchdog", is the first one, whichever that is.
    let other = value("WatchdogDevice").and_then(Node::parse).is_some_and(|device| device != node);
    if other {
        return Ok(());
    }
    for setting in SETTINGS {
        if let Some(value) = value(setting).filter(|value| *value != "0") {
            return Err(WatchdogError::Systemd { node, setting: setting.to_owned(), value: value.to_owned() });
        }
    }
    match (value("RuntimeWatchdogUSec"), value("RebootWatchdogUSec").or(value("ShutdownWatchdogUSec"))) {
        (Some(_), Some(_)) => Ok(()),
        (_, _) => Err(WatchdogError::SystemdSilent { node, why: "it knows no such setting".to_owned() }),
    }
}

/// Which processes have it open, by name and number, as far as we may see them. For `--check`: it looks through all of `/proc`.
#[must_use]
pub fn holders(node: Node) -> Vec<String> {
    let wanted = [node.path(), Path::new(super::DEV_DIR).join("watchdog")];
    let mut found = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds =
            files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| wanted.contains(&path)));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    found
}
