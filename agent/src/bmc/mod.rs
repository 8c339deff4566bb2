//! Fence devices.
//!
//! The adapter runs one command of one device at a time and reports what the device said. It never concludes: a power
//! state is reported only in the driver's exact words for it, and everything else is an error that says nothing about
//! the machine's power.

mod driver;
mod ipmitool;
pub(crate) mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rekindle_coordinator::order::{PowerOffOrder, PowerOnOrder};
use rekindle_coordinator::policy::{DeviceRule, rules_for};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, Text};
use rekindle_proto::id::HostName;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use self::driver::{Driver, FenceDriver};
use self::ipmitool::{IpmiTool, Target};
use crate::clock;

/// The only driver there is yet.
const IPMI_TOOL: &str = "ipmi-tool";

/// Readings under way at once, over all devices. Each is a process of a few megabytes that mostly waits.
const READS_AT_ONCE: usize = 16;

/// Power-offs under way at once. More than the fence rate ever lets through, and apart from the readings, so that a
/// health check of a thousand hosts is never in the way of a fence.
const OFFS_AT_ONCE: usize = 8;

/// Longest IPMI user name (IPMI 2.0, section 22.28).
const USERNAME_BYTES_MAX: usize = 16;

/// How to reach the devices of one rule.
#[derive(Debug, Clone)]
pub struct DeviceAccess {
    /// Which hosts, which driver, which address.
    pub rule: DeviceRule,
    /// The user.
    pub username: String,
    /// A file with the password, mode 0600.
    pub password_file: PathBuf,
    /// RMCP+ cipher suite: 17 or 3.
    pub cipher_suite: u8,
}

/// Why the devices could not be set up. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum BmcSetupError {
    /// A driver this version does not have.
    #[error("fence device of {hosts:?}: driver = {driver:?} is not known; it must be \"ipmi-tool\"")]
    Driver {
        /// Pattern of the rule.
        hosts: String,
        /// The refused value.
        driver: String,
    },
    /// An address that cannot be one.
    #[error("fence device of {hosts:?}: address = {address:?} {rule}")]
    Address {
        /// Pattern of the rule.
        hosts: String,
        /// The refused value.
        address: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A user name no BMC can have.
    #[error(
        "fence device of {hosts:?}: username = {username:?} must have 1 to 16 printable ASCII characters and not begin with '-' (IPMI 2.0)"
    )]
    Username {
        /// Pattern of the rule.
        hosts: String,
        /// The refused value.
        username: String,
    },
    /// A cipher suite that does not protect, or that no driver speaks.
    #[error(
        "fence device of {hosts:?}: cipher_suite = {suite} must be 17 (SHA-256) or 3 (SHA-1): the others encrypt or authenticate nothing, or are not spoken by BMCs"
    )]
    CipherSuite {
        /// Pattern of the rule.
        hosts: String,
        /// The refused value.
        suite: u8,
    },
    /// The password file cannot be read.
    #[error("fence device of {hosts:?}: password_file = {path:?} cannot be read: {source}")]
    PasswordFile {
        /// Pattern of the rule.
        hosts: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The password file is open to others.
    #[error(
        "fence device of {hosts:?}: password_file = {path:?} has mode {mode:04o} and must be readable by its owner only (0600): it opens the power switch of a host"
    )]
    PasswordMode {
        /// Pattern of the rule.
        hosts: String,
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The password file holds no password a BMC could have.
    #[error(
        "fence device of {hosts:?}: password_file = {path:?} must hold a password of 1 to 20 bytes in its first line (IPMI 2.0); it has {bytes}"
    )]
    Password {
        /// Pattern of the rule.
        hosts: String,
        /// Which file.
        path: PathBuf,
        /// Length of its first line.
        bytes: usize,
    },
    /// The program is not there.
    #[error("{}", ipmitool::MISSING)]
    NoTool,
}

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
            check_access(device)?;
        }
        Ok(Self {
            rules: devices.iter().map(|device| device.rule.clone()).collect(),
            devices,
            lanes: Mutex::default(),
            reads: Semaphore::new(READS_AT_ONCE),
            offs: Semaphore::new(OFFS_AT_ONCE),
        })
    }

    /// Reads the GUID, if asked, and then power. Done `within` that time, whatever the device does.
    ///
    /// The GUID first: a state counts as one host's only if the machine that tells it was known before it told.
    pub async fn read(&self, host: &HostName, device: &DeviceName, guid: bool, within: Duration) -> DeviceReading {
        let end = clock::moment() + within;
        let failed = |error: DeviceError| DeviceReading { guid: guid.then(|| Err(error.clone())), power: Err(error) };
        let lane = match self.lane(host, device) {
            Ok(lane) => lane,
            Err(error) => return failed(error),
        };
        let guid = match guid {
            false => None,
            true => match self.ask(&lane, lane.driver.guid(end), end).await {
                // Asked again, it would be as silent, or lock our account.
                Err(error @ (DeviceError::Silent(_) | DeviceError::Credentials(_))) => return failed(error),
                told => Some(told),
            },
        };
        DeviceReading { power: self.ask(&lane, lane.driver.power_state(end), end).await, guid }
    }

    /// Cuts the power, once. `Ok`: the device said that it would; whether it did is to be read.
    ///
    /// The order is checked right before the command is started. At its not-after time, or after `within`, the command
    /// and all its children are killed.
    ///
    /// # Errors
    /// [`DeviceError::TooLate`]: nothing was sent. Any other: the device may or may not have cut the power.
    pub async fn power_off(&self, order: &PowerOffOrder, within: Duration) -> Result<(), DeviceError> {
        let times = Times { begin_before: order.begin_before(), not_after: order.not_after(), within };
        self.send_off(order.host(), order.device(), times).await
    }

    /// Gives power, once. `Ok`: the device said that it would; whether it did is to be read.
    ///
    /// The same rules as for [`Self::power_off`], and it never overtakes one.
    ///
    /// # Errors
    /// [`DeviceError::TooLate`]: nothing was sent. Any other: the device may or may not have given power.
    pub async fn power_on(&self, order: &PowerOnOrder, within: Duration) -> Result<(), DeviceError> {
        let times = Times { begin_before: order.begin_before(), not_after: order.not_after(), within };
        self.send_on(order.host(), order.device(), times).await
    }

    /// For `rekindled --check`: whether the program and every password file can be used.
    ///
    /// # Errors
    /// The first thing that is wrong, with what to do about it.
    pub fn check(&self) -> Result<String, BmcSetupError> {
        if self.devices.is_empty() {
            return Ok("no fence device configured: nothing can be fenced".to_owned());
        }
        let tool = ipmitool::find().ok_or(BmcSetupError::NoTool)?;
        for device in &self.devices {
            check_access(device)?;
        }
        Ok(format!(
            "{} is there; {} rule(s) for fence devices, password files readable by us alone",
            tool.display(),
            self.devices.len()
        ))
    }

    async fn send_off(&self, host: &HostName, device: &DeviceName, times: Times) -> Result<(), DeviceError> {
        let lane = self.lane(host, device)?;
        let end = times.end();
        let waiting = Waiting::new(&lane);
        let slot = async { (self.offs.acquire().await, lane.busy.lock().await) };
        let Ok(_slot) = timeout(left(end.min(times.begin_before)), slot).await else {
            return Err(DeviceError::TooLate);
        };
        drop(waiting);
        lane.driver.power_off(times.begin_before.min(end), end).await
    }

    /// Switches on, once. It never overtakes a power-off.
    async fn send_on(&self, host: &HostName, device: &DeviceName, times: Times) -> Result<(), DeviceError> {
        let lane = self.lane(host, device)?;
        let end = times.end();
        let slot = async { (self.offs.acquire().await, lane.busy.lock().await) };
        let Ok(_slot) = timeout(left(end.min(times.begin_before)), slot).await else {
            return Err(DeviceError::TooLate);
        };
        if lane.offs_waiting.load(Ordering::SeqCst) > 0 {
            return Err(DeviceError::TooLate);
        }
        lane.driver.power_on(times.begin_before.min(end), end).await
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
        timeout(left(end) + process::KILL_GRACE * 2, turn).await.unwrap_or_else(|_| Err(busy()))
    }

    /// The lane of a device, with its driver, made at its first use. Lanes are as many as the rules give devices.
    fn lane(&self, host: &HostName, device: &DeviceName) -> Result<Arc<Lane>, DeviceError> {
        let unusable = |text: String| DeviceError::Unusable(Text::new(text));
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(device) {
            // The configuration is refused where two hosts would share a device; this is the second lock on that door.
            let ours = lane.host == *host;
            let other = || unusable(format!("{device} is the device of {}, not of {host}", lane.host));
            return if ours { Ok(Arc::clone(lane)) } else { Err(other()) };
        }
        let rule = rules_for(&self.rules, host).into_iter().find(|rule| rule.device(host) == *device);
        let access = rule.and_then(|rule| self.devices.iter().find(|access| access.rule == *rule));
        let access = access.ok_or_else(|| unusable(format!("no rule gives host {host} the device {device}")))?;
        let lane = Arc::new(Lane {
            host: host.clone(),
            driver: driver(access, host)?,
            busy: tokio::sync::Mutex::default(),
            offs_waiting: AtomicUsize::new(0),
            off_wanted: Notify::new(),
        });
        lanes.insert(device.clone(), Arc::clone(&lane));
        Ok(lane)
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

fn gave_way() -> DeviceError {
    DeviceError::Unusable(Text::from("not read: a power-off of this device goes first"))
}

fn busy() -> DeviceError {
    DeviceError::Unusable(Text::from("not read: earlier commands took all the time"))
}

fn left(end: Moment) -> Duration {
    end.since(clock::moment())
}

fn driver(access: &DeviceAccess, host: &HostName) -> Result<Driver, DeviceError> {
    let unusable = |text: String| DeviceError::Unusable(Text::new(text));
    let address = access.rule.address.replace("{host}", host.as_str());
    let (address, port) =
        ipmitool::parse_address(&address).map_err(|rule| unusable(format!("address {address:?} {rule}")))?;
    Ok(Driver::IpmiTool(IpmiTool::new(Target {
        address,
        port,
        username: access.username.clone(),
        password_file: access.password_file.clone(),
        cipher_suite: access.cipher_suite,
    })))
}

fn check_access(device: &DeviceAccess) -> Result<(), BmcSetupError> {
    let hosts = || device.rule.hosts.clone();
    if device.rule.driver != IPMI_TOOL {
        return Err(BmcSetupError::Driver { hosts: hosts(), driver: device.rule.driver.clone() });
    }
    let address = device.rule.address.replace("{host}", "h");
    if let Err(rule) = ipmitool::parse_address(&address) {
        return Err(BmcSetupError::Address { hosts: hosts(), address: device.rule.address.clone(), rule });
    }
    let username = &device.username;
    let printable = username.bytes().all(|byte| byte.is_ascii_graphic());
    if username.is_empty() || username.len() > USERNAME_BYTES_MAX || !printable || username.starts_with('-') {
        return Err(BmcSetupError::Username { hosts: hosts(), username: username.clone() });
    }
    if !matches!(device.cipher_suite, 17 | 3) {
        return Err(BmcSetupError::CipherSuite { hosts: hosts(), suite: device.cipher_suite });
    }
    check_password(&device.password_file, hosts())
}

fn check_password(path: &Path, hosts: String) -> Result<(), BmcSetupError> {
    let failed = |source| BmcSetupError::PasswordFile { hosts: hosts.clone(), path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(BmcSetupError::PasswordMode { hosts, path: path.to_owned(), mode });
    }
    let bytes = ipmitool::password(path).map_err(failed)?.map_or(0, |password| password.len());
    if !(1..=ipmitool::PASSWORD_BYTES_MAX).contains(&bytes) {
        return Err(BmcSetupError::Password { hosts, path: path.to_owned(), bytes });
    }
    Ok(())
}
