//! The driver `ipmi-tool`: IPMI 2.0 over LAN (RMCP+) through the program of that name.
//!
//! Its exit status is 1 for every kind of failure, so failures are told apart by their texts, and only for people: no
//! decision rests on which of the errors it was. `-N 1 -R 2`: one second per try, two repeats, as the shell around us
//! has its own repeats; more of them make a slow BMC carry out the same command several times. `-v`: without it a wrong
//! password and an unplugged cable have the same words; what it adds goes to standard error and holds no key.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState, Text};
use secrecy::{ExposeSecret, SecretString};

use super::driver::FenceDriver;
use super::left;
use super::process::{self, Output};
use crate::clock;

/// What to do where the program is not there.
pub(super) const MISSING: &str = "ipmitool is not on PATH: install the package ipmitool";

/// Longest IPMI 2.0 password.
pub(super) const PASSWORD_BYTES_MAX: usize = 20;

/// Where the program is looked for besides PATH: a service's PATH may be short.
const USUAL_PLACES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// RMCP+ port (IANA: asf-rmcp).
const PORT: u16 = 623;

/// One device and how to enter it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) username: String,
    pub(super) password_file: PathBuf,
    pub(super) cipher_suite: u8,
}

/// The driver of one device.
#[derive(Debug)]
pub(super) struct IpmiTool {
    target: Target,
}

impl IpmiTool {
    /// For that device. Nothing is sent.
    pub(super) fn new(target: Target) -> Self {
        Self { target }
    }

    async fn ask(&self, ask: Ask, end: Moment) -> Result<Output, DeviceError> {
        prepare(&self.target, ask)?.run(left(end)).await
    }

    /// The moment is looked at right before the program is started.
    async fn switch(&self, ask: Ask, begin_before: Moment, end: Moment) -> Result<(), DeviceError> {
        let command = prepare(&self.target, ask)?;
        if clock::moment() >= begin_before.min(end) {
            return Err(DeviceError::TooLate);
        }
        accepted(&command.run(left(end)).await?, ask)
    }
}

impl FenceDriver for IpmiTool {
    async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        power_state(&self.ask(Ask::Power, end).await?)
    }

    async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        guid(&self.ask(Ask::Guid, end).await?)
    }

    async fn power_off(&self, begin_before: Moment, end: Moment) -> Result<(), DeviceError> {
        self.switch(Ask::Off, begin_before, end).await
    }

    async fn power_on(&self, begin_before: Moment, end: Moment) -> Result<(), DeviceError> {
        self.switch(Ask::On, begin_before, end).await
    }
}

/// What to ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Get Chassis Status.
    Power,
    /// Chassis Control: power down, at once.
    Off,
    /// Chassis Control: power up.
    On,
    /// Get System GUID (`IPMI` 2.0, section 22.14), bytes as they come over the wire.
    Guid,
}

/// A command ready to be started.
pub(super) struct Prepared {
    program: PathBuf,
    arguments: Vec<String>,
    password: SecretString,
}

/// Everything that can fail before anything is sent.
pub(super) fn prepare(target: &Target, ask: Ask) -> Result<Prepared, DeviceError> {
    let program = find().ok_or_else(|| DeviceError::Unusable(Text::from(MISSING)))?;
    let file = &target.password_file;
    let unusable = |why: String| DeviceError::Unusable(Text::new(format!("password file {}: {why}", file.display())));
    let password = password(file).map_err(|error| unusable(error.to_string()))?;
    let password = password.ok_or_else(|| unusable("is empty".to_owned()))?;
    let port = target.port.to_string();
    let suite = target.cipher_suite.to_string();
    let file = file.to_str().ok_or_else(|| unusable("its name is not UTF-8".to_owned()))?;
    let mut arguments: Vec<String> = [
        "-v",
        "-I",
        "lanplus",
        "-H",
        &target.address,
        "-p",
        &port,
        "-U",
        &target.username,
        "-f",
        file,
        "-C",
        &suite,
        "-L",
        "OPERATOR",
        "-N",
        "1",
        "-R",
        "2",
    ]
    .map(str::to_owned)
    .into();
    let words: &[&str] = match ask {
        Ask::Power => &["chassis", "power", "status"],
        Ask::Off => &["chassis", "power", "off"],
        Ask::On => &["chassis", "power", "on"],
        Ask::Guid => &["raw", "0x06", "0x37"],
    };
    arguments.extend(words.iter().map(|&word| word.to_owned()));
    Ok(Prepared { program, arguments, password: SecretString::from(password) })
}

impl Prepared {
    /// Runs it, and tells a failure in its own words, without the password.
    pub(super) async fn run(self, within: Duration) -> Result<Output, DeviceError> {
        let mut output = process::run(&self.program, &self.arguments, within).await?;
        output.stdout = scrubbed(&output.stdout, self.password.expose_secret());
        output.stderr = scrubbed(&output.stderr, self.password.expose_secret());
        if output.status.success() { Ok(output) } else { Err(failure(&output)) }
    }
}

/// The first line of a password file. `None`: it is empty.
pub(super) fn password(path: &Path) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    // Longer than any password, so that a wrong file is not read whole.
    BufReader::new(std::fs::File::open(path)?.take(4096)).read_until(b'\n', &mut line)?;
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    let text = String::from_utf8(line).map_err(|_| io::Error::other("the password is not UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Where the program is.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(USUAL_PLACES.iter().map(PathBuf::from));
    places
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("ipmitool"))
        .find(|file| std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}

/// `host`, `host:port` or `[v6]:port`.
pub(super) fn parse_address(text: &str) -> Result<(String, u16), &'static str> {
    const RULE: &str = "must be host, host:port or [IPv6 address]:port";
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(RULE)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| RULE)?;
            (host, port)
        }
        None => {
            let at = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at(at);
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            // What begins with '-' would be read as an option.
            if !host.starts_with(|c: char| c.is_ascii_alphanumeric()) || !host.chars().all(legal) {
                return Err(RULE);
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => PORT,
        None => return Err(RULE),
        Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or("must have a port from 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

/// The power state, from exactly the words for it and nothing else.
pub(super) fn power_state(output: &Output) -> Result<PowerState, DeviceError> {
    match output.stdout.trim_end() {
        "Chassis Power is off" => Ok(PowerState::Off),
        "Chassis Power is on" => Ok(PowerState::On),
        _ => Err(DeviceError::Unusable(told("an answer that is no power state", output))),
    }
}

/// Whether it said that it would do what was asked.
pub(super) fn accepted(output: &Output, ask: Ask) -> Result<(), DeviceError> {
    let words = match ask {
        Ask::Off => "Chassis Power Control: Down/Off",
        Ask::On => "Chassis Power Control: Up/On",
        Ask::Power | Ask::Guid => return Ok(()),
    };
    if output.stdout.trim_end() == words {
        Ok(())
    } else {
        Err(DeviceError::Unusable(told("an answer that is no acceptance", output)))
    }
}

/// Exactly sixteen bytes.
pub(super) fn guid(output: &Output) -> Result<DeviceGuid, DeviceError> {
    let unusable = || DeviceError::Unusable(told("an answer that is no GUID", output));
    let bytes: Option<Vec<u8>> = output
        .stdout
        .split_whitespace()
        .map(|word| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok()).flatten())
        .collect();
    bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(DeviceGuid).ok_or_else(unusable)
}

/// What kind of failure its words mean. The words are ipmitool's (`lib/ipmi_lanplus…`, 1.8.18 and 1.8.19).
fn failure(output: &Output) -> DeviceError {
    const CREDENTIALS: [&str; 10] = [
        "RAKP 2 HMAC is invalid",
        "RAKP 2 message indicates an error",
        "RAKP 4 message",
        "unauthorized name",
        "invalid authentication algorithm",
        "invalid integrity algorithm",
        "no matching cipher suite",
        "no cipher suite match",
        "Set Session Privilege Level",
        "Insufficient privilege level",
    ];
    const REFUSED: [&str; 6] = [
        "Error in open session response",
        "failed: ",
        "Unable to send RAW command",
        "Unable to get Chassis Power Status",
        "Unable to set Chassis Power Control",
        "rsp=0x",
    ];
    const SILENT: [&str; 5] =
        ["Unable to establish", "Address lookup", "Could not open socket", "timed out", "No response"];
    let lines = said(output);
    let says = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    let text = told("", output);
    if says(&CREDENTIALS) {
        DeviceError::Credentials(text)
    } else if says(&SILENT) && !says(&["Error in open session response"]) {
        DeviceError::Silent(text)
    } else if says(&REFUSED) {
        DeviceError::Refused(text)
    } else {
        DeviceError::Unusable(text)
    }
}

/// What it said, without the chatter about itself that comes with every session.
fn said(output: &Output) -> Vec<&str> {
    const CHATTER: [&str; 6] =
        ["Loading IANA", "HPM.x", "Running Get VSO", "Invalid completion code received", "Discovered IPMB", "RAW R"];
    let lines = output.stderr.lines().chain(output.stdout.lines()).map(str::trim);
    lines.filter(|line| !line.is_empty() && !CHATTER.iter().any(|chatter| line.contains(chatter))).collect()
}

/// What it said, on one line.
fn told(what: &str, output: &Output) -> Text {
    let words = said(output);
    let words = if words.is_empty() { output.status.to_string() } else { words.join("; ") };
    Text::new(if what.is_empty() { words } else { format!("{what}: {words:?}") })
}

fn scrubbed(text: &str, password: &str) -> String {
    if text.contains(password) { text.replace(password, "***") } else { text.to_owned() }
}
