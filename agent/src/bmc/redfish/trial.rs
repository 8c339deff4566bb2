//! A Redfish device by itself, without a daemon around it.

use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_proto::fact::{DeviceError, DeviceReading, OrderError};
use rekindle_proto::id::HostName;

use super::{Redfish, Want};
use crate::bmc::driver::FenceDriver;
use crate::bmc::settings::RedfishSettings;
use crate::clock;

/// The driver `redfish`, for tests and benches. No incident stands behind what it is told, and nothing is proven by what
/// it tells: the daemon has no use for it.
#[derive(Debug)]
pub struct RedfishTrial(Redfish);

impl RedfishTrial {
    /// The device of this host. Nothing is sent yet.
    ///
    /// # Errors
    /// As the daemon's driver.
    pub fn open(settings: &RedfishSettings, host: &HostName) -> Result<Self, DeviceError> {
        Redfish::new(settings, host).map(Self)
    }

    /// The same with sessions that are closed when they were not used for so long.
    #[must_use]
    pub fn with_session_idle(self, idle: Duration) -> Self {
        Self(self.0.with_session_idle(idle))
    }

    /// Reads the GUID, if asked, and then power; done `within` that time.
    pub async fn read(&self, guid: bool, within: Duration) -> DeviceReading {
        let end = clock::moment() + within;
        if guid {
            return self.0.reading(end).await;
        }
        DeviceReading { power: self.0.power_state(end).await, guid: None }
    }

    /// Cuts the power, once: begun before `permit` is over, done `within` that time.
    ///
    /// # Errors
    /// As the daemon's driver.
    pub async fn power_off(&self, permit: Duration, within: Duration) -> Result<(), OrderError> {
        let now = clock::moment();
        self.0.switch(Want::Off, None, now + permit, now + within).await
    }

    /// The same, if the device tells that it is that one.
    ///
    /// # Errors
    /// As the daemon's driver.
    pub async fn power_off_of(
        &self,
        identity: &DeviceIdentity,
        permit: Duration,
        within: Duration,
    ) -> Result<(), OrderError> {
        let now = clock::moment();
        self.0.power_off(identity, now + permit, now + within).await
    }

    /// Switches on, by the same rules.
    ///
    /// # Errors
    /// As the daemon's driver.
    pub async fn power_on(&self, permit: Duration, within: Duration) -> Result<(), OrderError> {
        let now = clock::moment();
        self.0.switch(Want::On, None, now + permit, now + within).await
    }
}
