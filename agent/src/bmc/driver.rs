//! What every fence driver does, and which drivers there are.

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceReading, OrderError, PowerState};
use rekindle_proto::id::IncidentId;

use super::agent::FenceAgent;
use super::ipmi::NativeIpmi;
use super::ipmitool::IpmiTool;
use super::redfish::Redfish;
use super::storage::{Action, StorageFence};

/// One fence device. Every call ends by `end`, whatever the device does.
///
/// The lane in [`super::Bmc`] makes one call at a time. A call may be dropped at any await (a reading gives way to a
/// power-off, an order runs out): nothing of it may go on after that, and the next call must find the driver usable.
pub(super) trait FenceDriver {
    /// Power as the device tells it, in its exact words for on and off; everything else is an error that says nothing
    /// about power.
    fn power_state(&self, end: Moment) -> impl Future<Output = Result<PowerState, DeviceError>> + Send;

    /// The machine's system UUID as the device tells it: 16 bytes in the order in which they came.
    fn guid(&self, end: Moment) -> impl Future<Output = Result<DeviceGuid, DeviceError>> + Send;

    /// The GUID, and then power, of one and the same device: in one session, or one document, where there is such a thing. The
    /// GUID first: a state counts as one host's only if the machine that tells it was known before it told.
    fn reading(&self, end: Moment) -> impl Future<Output = DeviceReading> + Send
    where
        Self: Sync,
    {
        async move {
            match self.guid(end).await {
                // Asked again, it would be as silent, or lock our account.
                Err(error @ (DeviceError::Silent(_) | DeviceError::Credentials(_))) => lost(error),
                told => DeviceReading { power: self.power_state(end).await, guid: Some(told) },
            }
        }
    }

    /// Cuts the power, once, if the device has told that it is this one's, in the session of the order or right before.
    /// The command itself is put on the wire only before `begin_before`; a session may be set up
    /// first. [`OrderError::TooLate`] and [`OrderError::NotSent`] only if surely nothing was sent: a proof rests on it (I2).
    fn power_off(
        &self,
        identity: &DeviceIdentity,
        begin_before: Moment,
        end: Moment,
    ) -> impl Future<Output = Result<(), OrderError>> + Send;

    /// Switches the power on, once, by the rules of [`FenceDriver::power_off`].
    fn power_on(
        &self,
        identity: &DeviceIdentity,
        begin_before: Moment,
        end: Moment,
    ) -> impl Future<Output = Result<(), OrderError>> + Send;
}

/// A reading of a device that tells nothing.
pub(super) fn lost(error: DeviceError) -> DeviceReading {
    DeviceReading { guid: Some(Err(error.clone())), power: Err(error) }
}

/// The driver of one device, made once and kept: it may hold a session.
#[derive(Debug)]
pub(super) enum Driver {
    /// IPMI, spoken by ourselves.
    Ipmi(NativeIpmi),
    /// IPMI through the program ipmitool.
    IpmiTool(IpmiTool),
    /// Redfish.
    Redfish(Redfish),
    /// Any fence agent.
    Agent(FenceAgent),
    /// A command of the site.
    Storage(StorageFence),
}

impl Driver {
    /// [`FenceDriver::power_state`].
    pub(super) async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        match self {
            Self::Ipmi(driver) => driver.power_state(end).await,
            Self::IpmiTool(driver) => driver.power_state(end).await,
            Self::Redfish(driver) => driver.power_state(end).await,
            Self::Agent(driver) => driver.power_state(end).await,
            Self::Storage(_) => StorageFence::power_state(),
        }
    }

    /// [`FenceDriver::reading`].
    pub(super) async fn reading(&self, end: Moment) -> DeviceReading {
        match self {
            Self::Ipmi(driver) => driver.reading(end).await,
            Self::IpmiTool(driver) => driver.reading(end).await,
            Self::Redfish(driver) => driver.reading(end).await,
            Self::Agent(driver) => driver.reading(end).await,
            Self::Storage(_) => DeviceReading { power: StorageFence::power_state(), guid: Some(StorageFence::guid()) },
        }
    }

    /// [`FenceDriver::power_off`], for that incident: a site's command is told which.
    pub(super) async fn power_off(
        &self,
        (incident, identity): (Option<IncidentId>, &DeviceIdentity),
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), OrderError> {
        match self {
            Self::Ipmi(driver) => FenceDriver::power_off(driver, identity, begin_before, end).await,
            Self::IpmiTool(driver) => driver.power_off(identity, begin_before, end).await,
            Self::Redfish(driver) => driver.power_off(identity, begin_before, end).await,
            Self::Agent(driver) => driver.power_off(identity, begin_before, end).await,
            Self::Storage(driver) => {
                identity.judge(&StorageFence::guid()).map_err(OrderError::NotSent)?;
                driver.act(Action::Off, incident, begin_before, end).await
            }
        }
    }

    /// [`FenceDriver::power_on`].
    pub(super) async fn power_on(
        &self,
        identity: &DeviceIdentity,
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), OrderError> {
        match self {
            Self::Ipmi(driver) => FenceDriver::power_on(driver, identity, begin_before, end).await,
            Self::IpmiTool(driver) => driver.power_on(identity, begin_before, end).await,
            Self::Redfish(driver) => driver.power_on(identity, begin_before, end).await,
            Self::Agent(driver) => driver.power_on(identity, begin_before, end).await,
            Self::Storage(driver) => {
                identity.judge(&StorageFence::guid()).map_err(OrderError::NotSent)?;
                driver.act(Action::On, None, begin_before, end).await
            }
        }
    }
}
