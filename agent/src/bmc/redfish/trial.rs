//! A Redfish device by itself, without a daemon around it.

use std::path::PathBuf;
use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceReading};

use super::{Address, Auth, Pin, Redfish, RedfishTarget, SystemChoice, Trust};
use crate::bmc::driver::FenceDriver;
use crate::bmc::secret::SecretSource;
use crate::clock;

/// What the configuration says of a Redfish device, unparsed.
#[derive(Debug, Clone, Default)]
pub struct RedfishTrialSettings {
    /// `host:port`, with `https://` or `http://` before it or not.
    pub address: String,
    /// The user.
    pub username: String,
    /// The file with its password.
    pub password_file: PathBuf,
    /// Id or UUID; `None`: the only one.
    pub system: Option<String>,
    /// Whose certificate is trusted.
    pub ca_file: Option<PathBuf>,
    /// Or which.
    pub sha256_pin: Option<String>,
    /// User and password with each request, and no session.
    pub basic: bool,
    /// Consent to plain http.
    pub insecure_http: bool,
    /// A session that was not used for so long is closed; `None`: the daemon's time.
    pub session_idle: Option<Duration>,
}

/// The driver `redfish`, for tests and benches. No incident stands behind what it is told, and nothing is proven by what
/// it tells: the daemon has no use for it.
#[derive(Debug)]
pub struct RedfishTrial(Redfish);

impl RedfishTrial {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// The rule that a setting breaks.
    pub fn open(settings: RedfishTrialSettings) -> Result<Self, &'static str> {
        let address = Address::parse(&settings.address, settings.insecure_http)?;
        let pin = settings.sha256_pin.as_deref().map(Pin::parse).transpose()?;
        let trust = Trust::choose(&address, settings.ca_file, pin)?;
        let system = settings.system.as_deref().map(SystemChoice::parse).transpose()?.unwrap_or(SystemChoice::Only);
        let auth = if settings.basic { Auth::Basic } else { Auth::Session };
        let password = SecretSource::File(settings.password_file);
        let username = settings.username;
        let redfish = Redfish::new(RedfishTarget { address, username, password, system, trust, auth });
        Ok(Self(match settings.session_idle {
            Some(idle) => redfish.with_session_idle(idle),
            None => redfish,
        }))
    }

    /// Reads the GUID, if asked, and then power; done `within` that time.
    pub async fn read(&self, guid: bool, within: Duration) -> DeviceReading {
        let end = clock::moment() + within;
        let guid = if guid { Some(self.0.guid(end).await) } else { None };
        DeviceReading { power: self.0.power_state(end).await, guid }
    }

    /// Cuts the power, once: begun before `permit` is over, done `within` that time.
    ///
    /// # Errors
    /// As the daemon's driver.
    pub async fn power_off(&self, permit: Duration, within: Duration) -> Result<(), DeviceError> {
        let now = clock::moment();
        self.0.power_off(now + permit, now + within).await
    }

    /// Switches on, by the same rules.
    ///
    /// # Errors
    /// As the daemon's driver.
    pub async fn power_on(&self, permit: Duration, within: Duration) -> Result<(), DeviceError> {
        let now = clock::moment();
        self.0.power_on(now + permit, now + within).await
    }
}
