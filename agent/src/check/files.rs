//! What a voter holds: credentials of BMCs and Nova, and the program that speaks to BMCs.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rekindle_coordinator::policy::ladder;
use rekindle_proto::fact::MemberRole;

use super::{CheckLine, Verdict};
use crate::bmc::{DeviceAccess, DeviceSettings, SHOWS_SECRETS, SecretSource};
use crate::config::Config;
use crate::hypervisor::HypervisorSettings;

/// A file that must be there, and ours alone.
pub(super) struct Secret<'a> {
    pub(super) what: &'a str,
    pub(super) path: &'a Path,
    pub(super) missing: &'a str,
}

/// Looks at a secret's file without looking into it.
pub(super) fn secret(secret: Secret<'_>) -> CheckLine {
    let (what, path) = (secret.what, secret.path.display());
    match std::fs::metadata(secret.path) {
        Err(error) => CheckLine::fail(what, format!("{path}: {error}"), secret.missing),
        Ok(found) if !found.is_file() => CheckLine::fail(what, format!("{path}: is not a file"), secret.missing),
        Ok(found) if found.len() == 0 => CheckLine::fail(what, format!("{path}: is empty"), secret.missing),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let figure = format!("{path}: mode {:04o}, others may read it", found.permissions().mode() & 0o7777);
            CheckLine::fail(what, figure, format!("chmod 0600 {path}"))
        }
        Ok(found) => match std::fs::File::open(secret.path) {
            Ok(_) => CheckLine::fine(what, format!("{path}: mode 0600 or less, uid {}", found.uid())),
            Err(error) => CheckLine::fail(what, format!("{path}: {error}"), "its owner must be the daemon's user"),
        },
    }
}

/// What a voter needs because it may lead.
pub(super) fn voter(config: &Config) -> Vec<CheckLine> {
    let mut lines = vec![fenceable(config)];
    if !config.is_voter() {
        return lines;
    }
    if config.nova.is_none() {
        let mend = "a voter may lead: without [nova] it is not fit to, and nothing is fenced or recovered";
        lines.push(CheckLine::fail("nova", "not configured", mend));
    }
    if config.devices.is_empty() {
        let mend = "a voter may lead: without [[fence_device]] nothing can be fenced, so nothing is recovered";
        lines.push(CheckLine::fail("fence devices", "none configured", mend));
    } else {
        if config.devices.iter().any(|device| matches!(device.settings, DeviceSettings::IpmiTool(_))) {
            lines.push(program("ipmitool"));
        }
        lines.extend(config.devices.iter().filter_map(shows_secrets));
    }
    if config.hypervisor != HypervisorSettings::Off {
        let mend = "whoever breaks out of a guest finds BMC and Nova credentials: better let hosts without guests vote";
        lines.push(CheckLine::warn("voter beside guests", "this host votes and runs tenants' guests", mend));
    }
    lines
}

/// An agent that shows the password it is given to every user of this machine.
fn shows_secrets(device: &DeviceAccess) -> Option<CheckLine> {
    let DeviceSettings::Agent(settings) = &device.settings else { return None };
    let shows = SHOWS_SECRETS.contains(&settings.name.as_str()) && !settings.secrets.is_empty();
    let figure = format!("agent:{} hands the password to another program on its command line", settings.name);
    let mend = "every user of this machine can read it there; use ipmi, ipmi-tool or redfish if the device speaks them";
    shows.then(|| CheckLine::warn(format!("fence device of {}", device.rule.hosts), figure, mend))
}

/// Whether this very host could be fenced.
fn fenceable(config: &Config) -> CheckLine {
    const WHAT: &str = "own fence devices";
    if config.member.role == MemberRole::Witness {
        return CheckLine::fine(WHAT, "none needed: a witness is never fenced");
    }
    let devices = ladder(&config.device_rules(), &config.member.host);
    if devices.is_empty() {
        let figure = format!("no [[fence_device]] matches {}", config.member.host);
        return CheckLine::warn(WHAT, figure, "unless the voters' file has one, this host is never recovered");
    }
    let names: Vec<String> = devices.iter().map(|plan| format!("level {} {}", plan.level, plan.name)).collect();
    CheckLine::fine(WHAT, names.join(", "))
}

/// Credential files: needed on voters, and better not there elsewhere.
pub(super) fn secrets(config: &Config) -> Vec<CheckLine> {
    let clouds = config.nova.as_ref().map(|nova| nova.clouds_file.as_path());
    if !config.is_voter() {
        let sources: BTreeSet<&SecretSource> = device_secrets(config).map(|(_, _, source)| source).collect();
        let files: Vec<PathBuf> = sources.iter().filter_map(|source| source.path().ok()).collect();
        let present = files.iter().map(PathBuf::as_path).chain(clouds).filter(|path| path.exists());
        let mend = "only voters need it: remove it, a guest that breaks out could use it";
        let line = |path: &Path| CheckLine::warn("secrets", format!("{} lies on a non-voter", path.display()), mend);
        return present.map(line).collect();
    }
    let mut seen = BTreeSet::new();
    let mut lines: Vec<CheckLine> = Vec::new();
    for (device, key, source) in device_secrets(config) {
        let source =
            if device.rule.matches(&config.member.host) { source.of(&config.member.host) } else { source.clone() };
        // Another host's own secret is read when that host is fenced.
        if !source.is_per_host() && seen.insert(source.clone()) {
            lines.push(device_secret(key, &source, device.settings.secret_bytes_max()));
        }
    }
    if let Some(nova) = &config.nova {
        let missing = "put a clouds.yaml with an application credential there, mode 0600";
        lines.push(secret(Secret { what: "clouds file", path: &nova.clouds_file, missing }));
        lines.extend(entry(&nova.clouds_file, &nova.cloud));
    }
    lines
}

/// Every secret of every device, with what it opens.
fn device_secrets(config: &Config) -> impl Iterator<Item = (&DeviceAccess, &str, &SecretSource)> {
    config
        .devices
        .iter()
        .flat_map(|device| device.settings.secrets().into_iter().map(move |(key, source)| (device, key, source)))
}

/// Reads a secret as the daemon would, and drops it.
fn device_secret(key: &str, source: &SecretSource, bytes_max: usize) -> CheckLine {
    let what = format!("fence device {key}");
    match source.read(bytes_max) {
        Ok(_) => {
            let place = source.path().map_or_else(|error| error.to_string(), |path| path.display().to_string());
            CheckLine::fine(what, format!("{place}: nobody else's to read"))
        }
        Err(error) => {
            let mend = "put the secret there, one line, mode 0600, owned by root or the daemon's user";
            CheckLine::fail(what, error.to_string(), mend)
        }
    }
}

/// What notifications need where they are told.
pub(super) fn notifications(config: &Config) -> Vec<CheckLine> {
    if config.notifications.socket.is_some() && !config.is_voter() {
        let mend = "only voters and standbys keep the ledger: read the socket of one of them";
        return vec![CheckLine::warn("socket of notifications", "nothing is ever told here", mend)];
    }
    let Some(webhook) = config.notifications.webhook.as_ref().filter(|_| config.is_voter()) else { return Vec::new() };
    let missing = "put a random secret of 16 to 1024 bytes there, mode 0600, and give it to the receiver";
    let mut lines = vec![secret(Secret { what: "webhook secret", path: &webhook.secret_file, missing })];
    if lines.iter().all(|line| line.verdict == Verdict::Fine)
        && let Err(why) = crate::notify::read_secret(&webhook.secret_file)
    {
        lines = vec![CheckLine::fail("webhook secret", why, missing)];
    }
    if webhook.url.starts_with("http://") {
        let mend = "use https:// : whoever listens reads which host failed and why";
        lines.push(CheckLine::warn("webhook", "is posted to unencrypted", mend));
    }
    lines
}

/// Programs of the site that a leader runs.
pub(super) fn hooks(config: &Config) -> Vec<CheckLine> {
    let line = |hook: &crate::hook::HookSettings| {
        let what = format!("{} hook {}", hook.rule.on, hook.program.display());
        match crate::hook::look_at(&hook.program) {
            Ok(found) => CheckLine::fine(what, found),
            Err(error) => CheckLine::fail(what, error, "the leader runs it: it must be there on every voter, and safe"),
        }
    };
    if config.is_voter() { config.hooks.iter().map(line).collect() } else { Vec::new() }
}

/// Whether the cloud is in the file. Nothing is said of a file that cannot be read: that has a line already.
fn entry(path: &Path, cloud: &str) -> Option<CheckLine> {
    let text = std::fs::read_to_string(path).ok()?;
    let found = serde_yaml::from_str::<serde_yaml::Value>(&text)
        .ok()
        .map(|file| file.get("clouds").is_some_and(|clouds| clouds.get(cloud).is_some()));
    Some(match found {
        Some(true) => CheckLine::fine("cloud", format!("{cloud} is in {}", path.display())),
        Some(false) => {
            let figure = format!("{cloud} is not under `clouds` in {}", path.display());
            CheckLine::fail("cloud", figure, "nova.cloud names an entry of that file")
        }
        // The parser's words could quote a secret.
        None => CheckLine::fail("cloud", format!("{} is not YAML", path.display()), "mend the file"),
    })
}

/// Whether a program is on the path.
fn program(name: &str) -> CheckLine {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let runs = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    match std::env::split_paths(&path).map(|dir| dir.join(name)).find(runs) {
        Some(file) => CheckLine::fine(name, file.display().to_string()),
        None => CheckLine::fail(name, "is not installed (not on PATH)", format!("install the package {name}")),
    }
}
