//! Fence devices.
//!
//! The adapter runs one command of one device at a time and reports what the device said. It never concludes: a power
//! state is reported only in the driver's exact words for it, and everything else is an error that says nothing about
//! the machine's power.

mod agent;
mod driver;
mod inspect;
pub mod ipmi;
mod ipmitool;
pub(crate) mod process;
mod redfish;
mod scrub;
mod secret;
mod settings;
mod setup;
mod storage;

#[cfg(test)]
mod real_agents;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::order::{PowerOffOrder, PowerOnOrder};
use rekindle_coordinator::policy::{DeviceRule, rules_for};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, OrderError, Text};
use rekindle_proto::id::{HostName, IncidentId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

pub use self::agent::SHOWS_SECRETS;
pub(crate) use self::agent::{WHOLE, arrives_whole};
pub use self::redfish::RedfishTrial;
pub(crate) use self::redfish::is_system;
pub use self::secret::{SecretError, SecretSource};
pub use self::settings::{
    AgentSettings, DeviceAccess, DeviceSettings, Endpoint, IpmiSettings, IpmiToolSettings, Privilege, RedfishAuth,
    RedfishSettings, RedfishTrust, StorageSettings,
};
pub use self::setup::BmcSetupError;

use self::driver::Driver;
use crate::clock;

/// Readings under way at once, over all devices. Each is a process of a few megabytes that mostly waits.
const READS_AT_ONCE: usize = 16;

/// Power-offs under way at once. More than the fence rate ever lets through, and apart from the readings, so that a
/// health check of a thousand hosts is never in the way of a fence.
const OFFS_AT_ONCE: usize = 8;

/// What a driver is given beyond its end before it is dropped: it keeps its own time, and ends in its own words.
const OVERTIME: Duration = process::KILL_GRACE.saturating_mul(2);

/// All fence devices.
#[derive(Debug)]
pub struct Bmc {
    devices: Vec<DeviceAccess>,
    rules: Vec<DeviceRule>,
    lanes: Mutex<BTreeMap<DeviceName, Arc<Lane>>>,
    reads: Semaphore,
    offs: Semaphore,
}

/// One device: one command at a time, and a power-off goes before everything else.
#[derive(Debug)]
struct Lane {
    host: HostName,
    driver: Driver,
    busy: tokio::sync::Mutex<()>,
    offs_waiting: AtomicUsize,
    off_wanted: Notify,
}

impl Bmc {
    /// Checks every rule. Nothing is sent.
    ///
    /// # Errors
    /// [`BmcSetupError`] names the thing, its value, and the rule.
    pub fn open(devices: Vec<DeviceAccess>) -> Result<Self, BmcSetupError> {
        for device in &devices {
            setup::check(device)?;
        }
        Ok(Self {
            rules: devices.iter().map(|device| device.rule.clone()).collect(),
            devices,
            lanes: Mutex::default(),
            reads: Semaphore::new(READS_AT_ONCE),
            offs: Semaphore::new(OFFS_AT_ONCE),
        })
    }

    /// Reads the GUID, if asked, and then power of the same device. Done `within` that time, whatever the device does.
    pub async fn read(&self, host: &HostName, device: &DeviceName, guid: bool, within: Duration) -> DeviceReading {
        let end = clock::moment() + within;
        let failed = |error: DeviceError| DeviceReading { guid: guid.then(|| Err(error.clone())), power: Err(error) };
        let lane = match self.lane(host, device) {
            Ok(lane) => lane,
            Err(error) => return failed(error),
        };
        if guid {
            let both = async { Ok(lane.driver.reading(end).await) };
            return self.ask(&lane, both, end).await.unwrap_or_else(failed);
        }
        DeviceReading { power: self.ask(&lane, lane.driver.power_state(end), end).await, guid: None }
    }

    /// Cuts the power, once, of a device that says that it is the one that is meant. `Ok`: the device said that it would;
    /// whether it did is to be read.
    ///
    /// The order is checked right before the command is started. At its not-after time, or after `within`, the command
    /// and all its children are killed.
    ///
    /// # Errors
    /// [`OrderError::MaybeSent`]: the device may or may not have cut the power. Any other: nothing was sent.
    pub async fn power_off(&self, order: &PowerOffOrder, within: Duration) -> Result<(), OrderError> {
        let times = Times { begin_before: order.begin_before(), not_after: order.not_after(), within };
        self.send_off(order.host(), order.device(), (Some(order.incident()), order.identity()), times).await
    }

    /// Gives power, once. `Ok`: the device said that it would; whether it did is to be read.
    ///
    /// The same rules as for [`Self::power_off`], and it never overtakes one.
    ///
    /// # Errors
    /// [`OrderError::MaybeSent`]: the device may or may not have given power. Any other: nothing was sent.
    pub async fn power_on(&self, order: &PowerOnOrder, within: Duration) -> Result<(), OrderError> {
        let times = Times { begin_before: order.begin_before(), not_after: order.not_after(), within };
        self.send_on(order.host(), order.device(), order.identity(), times).await
    }

    async fn send_off(
        &self,
        host: &HostName,
        device: &DeviceName,
        (incident, identity): (Option<IncidentId>, &DeviceIdentity),
        times: Times,
    ) -> Result<(), OrderError> {
        let lane = self.lane(host, device).map_err(OrderError::NotSent)?;
        let end = times.end();
        let waiting = Waiting::new(&lane);
        let slot = async { (self.offs.acquire().await, lane.busy.lock().await) };
        let Ok(_slot) = timeout(left(end.min(times.begin_before)), slot).await else {
            return Err(OrderError::TooLate);
        };
        drop(waiting);
        ended(end, lane.driver.power_off((incident, identity), times.begin_before.min(end), end)).await
    }

    /// Switches on, once. It never overtakes a power-off.
    async fn send_on(
        &self,
        host: &HostName,
        device: &DeviceName,
        identity: &DeviceIdentity,
        times: Times,
    ) -> Result<(), OrderError> {
        let lane = self.lane(host, device).map_err(OrderError::NotSent)?;
        let end = times.end();
        let slot = async { (self.offs.acquire().await, lane.busy.lock().await) };
        let Ok(_slot) = timeout(left(end.min(times.begin_before)), slot).await else {
            return Err(OrderError::TooLate);
        };
        if lane.offs_waiting.load(Ordering::SeqCst) > 0 {
            return Err(OrderError::TooLate);
        }
        ended(end, lane.driver.power_on(identity, times.begin_before.min(end), end)).await
    }

    /// Makes a reading when the device is free; gives way to a power-off, waiting or running.
    async fn ask<T>(
        &self,
        lane: &Lane,
        reading: impl Future<Output = Result<T, DeviceError>>,
        end: Moment,
    ) -> Result<T, DeviceError> {
        let turn = async {
            let _permit = self.reads.acquire().await;
            let _busy = lane.busy.lock().await;
            let wanted = lane.off_wanted.notified();
            if lane.offs_waiting.load(Ordering::SeqCst) > 0 {
                return Err(gave_way());
            }
            if left(end).is_zero() {
                return Err(busy());
            }
            tokio::select! {
                () = wanted => Err(gave_way()),
                told = reading => told,
            }
        };
        // The driver keeps its own time; this one is for the wait before it.
        timeout(left(end) + OVERTIME, turn).await.unwrap_or_else(|_| Err(busy()))
    }

    /// The lane of a device, with its driver, made at its first use. Lanes are as many as the rules give devices.
    fn lane(&self, host: &HostName, device: &DeviceName) -> Result<Arc<Lane>, DeviceError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(device) {
            // The configuration is refused where two hosts would share a device; this is the second lock on that door.
            let other = || unusable(format!("{device} is the device of {}, not of {host}", lane.host));
            return if lane.host == *host { Ok(Arc::clone(lane)) } else { Err(other()) };
        }
        let lane = Arc::new(Lane {
            host: host.clone(),
            driver: setup::driver(self.access(host, device)?, host)?,
            busy: tokio::sync::Mutex::default(),
            offs_waiting: AtomicUsize::new(0),
            off_wanted: Notify::new(),
        });
        lanes.insert(device.clone(), Arc::clone(&lane));
        Ok(lane)
    }

    /// The entry that gives a host this device.
    fn access(&self, host: &HostName, device: &DeviceName) -> Result<&DeviceAccess, DeviceError> {
        let rule = rules_for(&self.rules, host).into_iter().find(|rule| rule.device(host) == *device);
        let access = rule.and_then(|rule| self.devices.iter().find(|access| access.rule == *rule));
        access.ok_or_else(|| unusable(format!("no rule gives host {host} the device {device}")))
    }
}

/// When an order may be begun, and when it must have ended.
#[derive(Debug, Clone, Copy)]
struct Times {
    begin_before: Moment,
    not_after: Moment,
    within: Duration,
}

impl Times {
    /// When everything of it must have ended, counted from now.
    fn end(self) -> Moment {
        self.not_after.min(clock::moment() + self.within)
    }
}

/// Says, as long as it lives, that a power-off waits for the lane.
struct Waiting<'a>(&'a Lane);

impl<'a> Waiting<'a> {
    fn new(lane: &'a Lane) -> Self {
        lane.offs_waiting.fetch_add(1, Ordering::SeqCst);
        lane.off_wanted.notify_waiters();
        Self(lane)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.offs_waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A switching call, ended if the driver does not end it itself. By then something may have been sent.
async fn ended(end: Moment, call: impl Future<Output = Result<(), OrderError>>) -> Result<(), OrderError> {
    let silent = || DeviceError::Silent(Text::from("the driver did not end in time, and was dropped"));
    timeout(left(end) + OVERTIME, call).await.unwrap_or_else(|_| Err(OrderError::MaybeSent(silent())))
}

fn gave_way() -> DeviceError {
    unusable("not read: a power-off of this device goes first")
}

fn busy() -> DeviceError {
    unusable("not read: earlier commands took all the time")
}

fn unusable(why: impl Into<String>) -> DeviceError {
    DeviceError::Unusable(Text::new(why))
}

fn left(end: Moment) -> Duration {
    end.since(clock::moment())
}
