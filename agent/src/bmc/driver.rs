//! What every fence driver does, and which drivers there are.

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState};

use super::ipmitool::IpmiTool;

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
    /// IPMI through the program ipmitool.
    IpmiTool(IpmiTool),
}

impl FenceDriver for Driver {
    async fn power_state(&self, end: Moment) -> Result<PowerState, DeviceError> {
        match self {
            Self::IpmiTool(driver) => driver.power_state(end).await,
        }
    }

    async fn guid(&self, end: Moment) -> Result<DeviceGuid, DeviceError> {
        match self {
            Self::IpmiTool(driver) => driver.guid(end).await,
        }
    }

    async fn power_off(&self, begin_before: Moment, end: Moment) -> Result<(), DeviceError> {
        match self {
            Self::IpmiTool(driver) => driver.power_off(begin_before, end).await,
        }
    }

    async fn power_on(&self, begin_before: Moment, end: Moment) -> Result<(), DeviceError> {
        match self {
            Self::IpmiTool(driver) => driver.power_on(begin_before, end).await,
        }
    }
}
