//! What every fence driver does, and which drivers there are.

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState};
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

    /// Cuts the power, once. The command itself is put on the wire only before `begin_before`; a session may be set up
    /// first. [`DeviceError::TooLate`] only if surely nothing was sent.
    fn power_off(&self, begin_before: Moment, end: Moment) -> impl Future<Output = Result<(), DeviceError>> + Send;

    /// Switches the power on, once, by the rules of [`FenceDriver::power_off`].
    fn power_on(&self, begin_before: Moment, end: Moment) -> impl Future<Output = Result<(), DeviceError>> + Send;
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

    /// [`FenceDriver::guid`].
    pub(super) async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        match self {
            Self::Ipmi(driver) => driver.guid(end).await,
            Self::IpmiTool(driver) => driver.guid(end).await,
            Self::Redfish(driver) => driver.guid(end).await,
            Self::Agent(driver) => driver.guid(end).await,
            Self::Storage(_) => StorageFence::guid(),
        }
    }

    /// [`FenceDriver::power_off`], for that incident: a site's command is told which.
    pub(super) async fn power_off(
        &self,
        incident: Option<IncidentId>,
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), DeviceError> {
        match self {
            Self::Ipmi(driver) => driver.power_off(begin_before, end).await,
            Self::IpmiTool(driver) => driver.power_off(begin_before, end).await,
            Self::Redfish(driver) => driver.power_off(begin_before, end).await,
            Self::Agent(driver) => driver.power_off(begin_before, end).await,
            Self::Storage(driver) => driver.act(Action::Off, incident, begin_before, end).await,
        }
    }

    /// [`FenceDriver::power_on`].
    pub(super) async fn power_on(&self, begin_before: Moment, end: Moment) -> Result<(), DeviceError> {
        match self {
            Self::Ipmi(driver) => driver.power_on(begin_before, end).await,
            Self::IpmiTool(driver) => driver.power_on(begin_before, end).await,
            Self::Redfish(driver) => driver.power_on(begin_before, end).await,
            Self::Agent(driver) => driver.power_on(begin_before, end).await,
            Self::Storage(driver) => driver.act(Action::On, None, begin_before, end).await,
        }
    }
}
