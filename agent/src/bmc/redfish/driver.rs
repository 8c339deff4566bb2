//! What the daemon asks of a Redfish device.

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceReading, OrderError, PowerState};

use super::document::Want;
use super::{Look, Redfish};
use crate::bmc::driver::{FenceDriver, lost};

impl FenceDriver for Redfish {
    async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        self.look(end).await.and_then(|look| look.system.power()).map_err(|error| self.entry.clean(error))
    }

    async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        let look = self.look(end).await.map_err(|error| self.entry.clean(error))?;
        look.system.guid().map_err(|error| self.entry.clean(error))
    }

    /// Both stand in one document.
    async fn reading(&self, end: Moment) -> DeviceReading {
        let clean = |error: DeviceError| self.entry.clean(error);
        match self.look(end).await {
            Err(error) => lost(clean(error)),
            Ok(Look { system, .. }) => {
                DeviceReading { power: system.power().map_err(clean), guid: Some(system.guid().map_err(clean)) }
            }
        }
    }

    async fn power_off(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.switch(Want::Off, Some(identity), begin_before, end).await
    }

    async fn power_on(&self, identity: &DeviceIdentity, begin_before: Moment, end: Moment) -> Result<(), OrderError> {
        self.switch(Want::On, Some(identity), begin_before, end).await
    }
}
