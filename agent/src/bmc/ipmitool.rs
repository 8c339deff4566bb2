//! The driver `ipmi-tool`: IPMI 2.0 over LAN (RMCP+) through the program of that name.
//!
//! Its exit status is 1 for every kind of failure, so failures are told apart by their texts, and only for people: no
//! decision rests on which of the errors it was. `-N 1 -R 2`: one second per try, two repeats, as the shell around us
//! has its own repeats; more of them make a slow BMC carry out the same command several times. `-v`: without it a wrong
//! password and an unplugged cable have the same words; what it adds goes to standard error and holds no key.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, OrderError, PowerState, Text};
use rekindle_proto::id::HostName;

use super::driver::FenceDriver;
use super::left;
use super::process::{self, Feed, Output, Running};
use super::scrub::Scrub;
use super::secret::{SecretError, SecretSource};
use super::settings::{Endpoint, IPMI_PASSWORD_BYTES_MAX, IpmiToolSettings};
use crate::clock;

/// What to do where the program is not there.
pub(super) const MISSING: &str = "ipmitool is not on PATH: install the package ipmitool";

/// The program.
pub(super) const PROGRAM: &str = "ipmitool";

/// For so long an order goes by the GUID that was told last: a permit's next try comes a second later.
const KNOWN_FOR: Duration = Duration::from_secs(3);

/// The driver of one device.
#[derive(Debug)]
pub(super) struct IpmiTool {
    endpoint: Endpoint,
    username: String,
    password: SecretSource,
    cipher_suite: u8,
    /// What it last told of its machine, and when.
    told: Mutex<Option<(Moment, DeviceGuid)>>,
}

impl IpmiTool {
    /// For the device of that host. Nothing is sent.
    pub(super) fn new(settings: &IpmiToolSettings, host: &HostName) -> Self {
        Self {
            endpoint: settings.endpoint.of(host),
            username: settings.username.clone(),
            password: settings.password.of(host),
            cipher_suite: settings.cipher_suite,
            told: Mutex::default(),
        }
    }

    async fn ask(&self, ask: Ask, end: Moment) -> Result<Output, DeviceError> {
        self.prepare(ask)?.start()?.ended(left(end)).await
    }

    /// The moment is looked at right before the program is started. Once it was, it may have sent the order: its words for
    /// what failed do not tell before or after.
    async fn switch(
        &self,
        (ask, promise): (Ask, &str),
        identity: &DeviceIdentity,
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), OrderError> {
        let command = self.prepare(ask).map_err(OrderError::NotSent)?;
        self.is_the_one(identity, end).await.map_err(OrderError::NotSent)?;
        if clock::moment() >= begin_before.min(end) {
            return Err(OrderError::TooLate);
        }
        // What comes of the order is not known by whom it was before.
        self.told().take();
        let output = command.start().map_err(OrderError::NotSent)?.ended(left(end)).await;
        output.and_then(|output| accepted(&output, promise)).map_err(OrderError::MaybeSent)
    }

    /// Whether the device is the one that is meant, by what it tells now, or told within [`KNOWN_FOR`]. Each command has a
    /// session of its own, which takes a BMC longer than a permit lasts: so an order that came too late for that is given again,
    /// and then goes out at once. Of one that tells no GUID no program is run to hear that again; its readings are asked.
    async fn is_the_one(&self, identity: &DeviceIdentity, end: Moment) -> Result<(), DeviceError> {
        if *identity == DeviceIdentity::Untold {
            return Ok(());
        }
        let known = self.told().filter(|(at, _)| clock::moment().since(*at) < KNOWN_FOR);
        let told = match known {
            Some((_, guid)) => Ok(guid),
            None => self.guid(end).await,
        };
        identity.judge(&told)
    }

    fn told(&self) -> MutexGuard<'_, Option<(Moment, DeviceGuid)>> {
        // What is behind it is written in one step.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that can fail before anything is sent.
    fn prepare(&self, ask: Ask) -> Result<Prepared, DeviceError> {
        let unusable = |why: String| DeviceError::Unusable(Text::new(why));
        let program = process::find(PROGRAM).ok_or_else(|| unusable(MISSING.to_owned()))?;
        let secret = |error: SecretError| unusable(format!("password: {error}"));
        let password = self.password.read(IPMI_PASSWORD_BYTES_MAX).map_err(secret)?;
        // ipmitool reads the same file itself: it takes no password in a way that its neighbours do not see.
        let file = self.password.path().map_err(secret)?;
        let file = file.to_str().ok_or_else(|| unusable(format!("{}: is not UTF-8", file.display())))?;
        let (port, suite) = (self.endpoint.port().to_string(), self.cipher_suite.to_string());
        let enter = ["-v", "-I", "lanplus", "-H", self.endpoint.host(), "-p", &port, "-U", &self.username, "-f", file];
        let how = ["-C", &suite, "-L", "OPERATOR", "-N", "1", "-R", "2"];
        let words = enter.iter().chain(&how).chain(ask.words());
        let arguments = words.map(|&word| word.to_owned()).collect();
        Ok(Prepared { program, arguments, scrub: Scrub::of([&password], Some(&self.username)) })
    }
}

impl FenceDriver for IpmiTool {
    async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        power_state(&self.ask(Ask::Power, end).await?)
    }

    async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        self.told().take();
        match self.ask(Ask::Guid, end).await {
            Ok(output) => {
                let guid = guid(&output)?;
                *self.told() = Some((clock::moment(), guid));
                Ok(guid)
            }
            // Said within a session: a BMC that tells its GUID to administrators only still tells its power to us.
            Err(DeviceError::Credentials(why)) if why.as_str().contains("RAW command") => {
                Err(DeviceError::Refused(why))
            }
            Err(error) => Err(error),
        }
    }

    async fn power_off(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.switch((Ask::Off, OFF_PROMISED), identity, begin_before, end).await
    }

    async fn power_on(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.switch((Ask::On, ON_PROMISED), identity, begin_before, end).await
    }
}

/// What to ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Get Chassis Status.
    Power,
    /// Chassis Control: power down, at once.
    Off,
    /// Chassis Control: power up.
    On,
    /// Get System GUID (`IPMI` 2.0, section 22.14), bytes as they come over the wire.
    Guid,
}

impl Ask {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Power => &["chassis", "power", "status"],
            Self::Off => &["chassis", "power", "off"],
            Self::On => &["chassis", "power", "on"],
            Self::Guid => &["raw", "0x06", "0x37"],
        }
    }
}

/// What it says when it has sent a command to switch.
pub(super) const OFF_PROMISED: &str = "Chassis Power Control: Down/Off";
/// The same of power up.
pub(super) const ON_PROMISED: &str = "Chassis Power Control: Up/On";

/// A command ready to be started.
struct Prepared {
    program: PathBuf,
    arguments: Vec<String>,
    scrub: Scrub,
}

/// One that was started.
struct Started {
    running: Running,
    scrub: Scrub,
}

impl Prepared {
    fn start(self) -> Result<Started, DeviceError> {
        let running = process::start(&self.program, &self.arguments, Feed::default())?;
        Ok(Started { running, scrub: self.scrub })
    }
}

impl Started {
    /// Waits for its end, and tells a failure in its own words, without the password.
    async fn ended(self, within: Duration) -> Result<Output, DeviceError> {
        let mut output = self.running.ended(within).await?;
        output.stdout = self.scrub.clean(&output.stdout, output.cut);
        output.stderr = self.scrub.clean(&output.stderr, output.cut);
        if output.status.success() { Ok(output) } else { Err(failure(&output)) }
    }
}

/// The power state, from exactly the words for it and nothing else.
pub(super) fn power_state(output: &Output) -> Result<PowerState, DeviceError> {
    match output.stdout.trim_end() {
        "Chassis Power is off" => Ok(PowerState::Off),
        "Chassis Power is on" => Ok(PowerState::On),
        _ => Err(DeviceError::Unusable(told("an answer that is no power state", output))),
    }
}

/// Whether it said, in exactly these words, that it would do what was asked.
pub(super) fn accepted(output: &Output, promise: &str) -> Result<(), DeviceError> {
    if output.stdout.trim_end() == promise {
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

#[cfg(test)]
mod tests {
    use super::super::simulator::{PASSWORD, write};
    use super::*;

    /// Cables are crossed while a cluster runs: what a device told goes for a permit's next try, and for nothing after it.
    #[tokio::test]
    async fn what_a_device_told_goes_for_some_seconds_and_for_one_order() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("password");
        write(&file, PASSWORD, 0o600);
        let settings = IpmiToolSettings {
            endpoint: Endpoint::parse("127.0.77.9:1", 623).expect("an address"),
            username: "admin".to_owned(),
            password: SecretSource::File(file),
            cipher_suite: 3,
        };
        // Nobody answers there: whoever must ask anew is told nothing.
        let tool = IpmiTool::new(&settings, &HostName::new("cmp-1").expect("legal"));
        let guid = DeviceGuid([7; 16]);
        let identity = DeviceIdentity::Told(guid);
        let soon = || clock::moment() + Duration::from_secs(1);
        let told = |before| *tool.told() = Some((clock::moment() - before, guid));
        told(Duration::ZERO);
        assert_eq!(tool.is_the_one(&identity, soon()).await, Ok(()));
        told(KNOWN_FOR);
        assert!(matches!(tool.is_the_one(&identity, soon()).await, Err(DeviceError::Silent(_))), "long ago");
        told(Duration::ZERO);
        let order = tool.power_off(&identity, soon(), soon()).await;
        assert!(matches!(order, Err(OrderError::MaybeSent(DeviceError::Silent(_)))), "{order:?}");
        assert_eq!(*tool.told(), None, "another order asks anew");
    }
}
