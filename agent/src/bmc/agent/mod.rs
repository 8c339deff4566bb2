//! The driver `agent:NAME`: any fence agent of ClusterLabs' kind, by its interface on standard input
//! (FenceAgentAPI.md of fence-agents): lines `name=value`, an exit code, and words for people.
//!
//! Nothing is handed over on a command line or in the environment. An agent says `Status: OFF` *and* ends with 2 where the
//! machine is off; either alone is no reading, as Python ends with 2 when it finds no program, and old agents when they do
//! not like their arguments. What an agent does with a secret after it has it is the agent's own: some hand it to another
//! program on its command line ([`SHOWS_SECRETS`]).

mod answer;
mod metadata;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, OrderError, PowerState};
use rekindle_proto::id::HostName;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::driver::FenceDriver;
use super::process::{self, Feed, Output, Running};
use super::scrub::Scrub;
use super::secret::SecretSource;
use super::settings::{AgentSettings, SECRET_BYTES_MAX};
use super::{left, unusable};
use crate::clock;

/// Longest metadata that is read. The longest of fence-agents 4.12 has 30 KiB.
const METADATA_BYTES_MAX: usize = 256 * 1024;

/// How long an agent may take to describe itself: Python starts, and imports a cloud's library.
pub(super) const METADATA_WITHIN: Duration = Duration::from_secs(10);

/// Agents that hand a password to another program (`ipmitool`, `snmpget`, `vmware_helper`) on its command line, where every
/// user of the machine can read it. Read in fence-agents 4.12.1.
pub const SHOWS_SECRETS: [&str; 18] = [
    "fence_ipmilan",
    "fence_ipmilanplus",
    "fence_ilo3",
    "fence_ilo4",
    "fence_ilo5",
    "fence_imm",
    "fence_idrac",
    "fence_apc_snmp",
    "fence_cisco_mds",
    "fence_eaton_snmp",
    "fence_emerson",
    "fence_ibmblade",
    "fence_ifmib",
    "fence_intelmodular",
    "fence_ipdu",
    "fence_lindypdu",
    "fence_tripplite_snmp",
    "fence_vmware",
];

/// What an agent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Is the machine on?
    Status,
    /// Off, at once.
    Off,
    /// On.
    On,
    /// What options does it know?
    Metadata,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Off => "off",
            Self::On => "on",
            Self::Metadata => "metadata",
        }
    }
}

/// The agent of one device.
#[derive(Debug)]
pub(super) struct FenceAgent {
    name: String,
    options: Vec<(String, String)>,
    secrets: Vec<(String, SecretSource)>,
}

impl FenceAgent {
    /// For the device of that host. Nothing is run.
    pub(super) fn new(settings: &AgentSettings, host: &HostName, address: &str) -> Self {
        let filled = |value: &String| value.replace("{host}", host.as_str()).replace("{address}", address);
        Self {
            name: settings.name.clone(),
            options: settings.options.iter().map(|(name, value)| (name.clone(), filled(value))).collect(),
            secrets: settings.secrets.iter().map(|(name, source)| (name.clone(), source.of(host))).collect(),
        }
    }

    /// Everything that can fail before anything is sent.
    fn prepare(&self, action: Action) -> Result<Prepared, DeviceError> {
        let program = program(&self.name).ok_or_else(|| unusable(missing(&self.name)))?;
        let mut secrets = Vec::new();
        for (name, source) in &self.secrets {
            let secret = source.read(SECRET_BYTES_MAX).map_err(|error| unusable(error.to_string()))?;
            if !arrives_whole(secret.expose_secret()) {
                return Err(unusable(format!("the secret of option {name} {WHOLE}")));
            }
            secrets.push((name.as_str(), secret));
        }
        let mut input = Zeroizing::new(Vec::with_capacity(self.input_bytes_max()));
        let lines = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let lines = lines.chain(secrets.iter().map(|(name, secret)| (*name, secret.expose_secret())));
        for (name, value) in [("action", action.word())].into_iter().chain(lines) {
            for part in [name.as_bytes(), b"=", value.as_bytes(), b"\n"] {
                input.extend_from_slice(part);
            }
        }
        let user = ["username", "login"].iter().find_map(|key| self.option(key));
        let scrub = Scrub::of(secrets.iter().map(|(_, secret)| secret), user);
        Ok(Prepared { program, input, scrub })
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the lines may come to: a buffer that grows leaves copies behind.
    fn input_bytes_max(&self) -> usize {
        let options = self.options.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        let secrets = self.secrets.iter().map(|(name, _)| name.len() + SECRET_BYTES_MAX + 2).sum::<usize>();
        options + secrets + 64
    }

    /// The moment is looked at right before the agent is started: whatever it sends first, it sends after that. An agent
    /// that was started may have sent its order, whatever it says.
    async fn switch(&self, action: Action, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        let command = self.prepare(action).map_err(OrderError::NotSent)?;
        if clock::moment() >= begin_before.min(end) {
            return Err(OrderError::TooLate);
        }
        let output = command.start().map_err(OrderError::NotSent)?.ended(left(end)).await;
        output.and_then(|output| answer::accepted(action, &output)).map_err(OrderError::MaybeSent)
    }
}

impl FenceDriver for FenceAgent {
    async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        answer::power_state(&self.prepare(Action::Status)?.run(left(end)).await?)
    }

    async fn guid(&self, _end: Moment) -> Result<DeviceGuid, DeviceError> {
        Err(unusable("a fence agent cannot tell whose machine it switches"))
    }

    async fn power_off(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        identity.judge(&self.guid(end).await).map_err(OrderError::NotSent)?;
        self.switch(Action::Off, begin_before, end).await
    }

    async fn power_on(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        identity.judge(&self.guid(end).await).map_err(OrderError::NotSent)?;
        self.switch(Action::On, begin_before, end).await
    }
}

/// An agent ready to be started.
struct Prepared {
    program: PathBuf,
    input: Zeroizing<Vec<u8>>,
    scrub: Scrub,
}

/// One that was started.
struct Started {
    running: Running,
    scrub: Scrub,
}

impl Prepared {
    async fn run(self, within: Duration) -> Result<Output, DeviceError> {
        self.start()?.ended(within).await
    }

    fn start(self) -> Result<Started, DeviceError> {
        let feed = Feed { input: self.input, path: process::PATH, ..Feed::default() };
        Ok(Started { running: process::start(&self.program, &[], feed)?, scrub: self.scrub })
    }
}

impl Started {
    async fn ended(self, within: Duration) -> Result<Output, DeviceError> {
        let mut output = self.running.ended(within).await?;
        output.stdout = self.scrub.clean(&output.stdout, output.cut);
        output.stderr = self.scrub.clean(&output.stderr, output.cut);
        Ok(output)
    }
}

/// Asks an agent what it knows, and compares that with what it would be told. No secret is read, and no device is asked.
///
/// # Errors
/// What is wrong, all of it.
pub(super) async fn inspect(settings: &AgentSettings, within: Duration) -> Result<String, String> {
    let program = program(&settings.name).ok_or_else(|| missing(&settings.name))?;
    crate::hook::look_at(&program).map_err(|why| format!("{}: {why}", program.display()))?;
    let input = format!("action={}\n", Action::Metadata.word()).into_bytes();
    let feed = Feed { input: input.into(), path: process::PATH, keep: METADATA_BYTES_MAX };
    let output = process::run_fed(&program, &[], feed, within).await.map_err(|error| error.to_string())?;
    if !output.status.success() || output.cut {
        return Err(format!("its metadata cannot be had: {}", answer::told("", &output)));
    }
    let known = match metadata::Metadata::parse(&output.stdout) {
        Ok(known) => known,
        // Not the site's to mend: some agents write a bare & into their descriptions.
        Err(why) => return Ok(format!("{}: its options were not checked: {why}", program.display())),
    };
    let faults = known.faults(settings);
    if faults.is_empty() {
        Ok(format!("{} knows every option it is given", program.display()))
    } else {
        Err(faults.join("; "))
    }
}

/// Where an agent is.
fn program(name: &str) -> Option<PathBuf> {
    match Path::new(name).is_absolute() {
        true => Some(PathBuf::from(name)),
        false => process::find(name),
    }
}

fn missing(name: &str) -> String {
    format!("{name} is not on PATH: install the package fence-agents, or name it by its absolute path")
}

/// Why a value must not be otherwise.
pub(crate) const WHOLE: &str = "must not begin or end with a blank, nor stand in double quotes: agents strip both, and would be told another value";

/// Whether an agent reads the value as it is written: one line, whose blanks and quotes at both ends it drops.
pub(crate) fn arrives_whole(value: &str) -> bool {
    value.trim() == value
        && !(value.len() > 1 && value.starts_with('"') && value.ends_with('"'))
        && !value.contains(char::is_control)
}
