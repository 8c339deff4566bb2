//! From settings to drivers, and whether what they need is there.

use rekindle_coordinator::policy::DeviceRule;
use rekindle_proto::fact::DeviceError;
use rekindle_proto::id::HostName;

use super::agent::FenceAgent;
use super::driver::Driver;
use super::ipmi::NativeIpmi;
use super::ipmitool::{self, IpmiTool};
use super::process;
use super::redfish::{self, Redfish};
use super::secret::SecretError;
use super::settings::{DeviceAccess, DeviceSettings};
use super::storage::StorageFence;

/// Why the devices could not be set up. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum BmcSetupError {
    /// A secret is not there, or not ours alone.
    #[error("fence device of {hosts:?}: its secret {key:?} cannot be used")]
    Secret {
        /// Pattern of the rule.
        hosts: String,
        /// What it opens: `password`, or an agent's option.
        key: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// By what a BMC's certificate is known cannot be used.
    #[error("fence device of {hosts:?}: {why}")]
    Trust {
        /// Pattern of the rule.
        hosts: String,
        /// Which file, and what is wrong with it.
        why: String,
    },
    /// The program is not there.
    #[error("{}", ipmitool::MISSING)]
    NoTool,
}

/// Whether a device could be used: its driver is built in, its secrets can be read. A secret of which each host has its own
/// is read for the host that the rule names, and else when it is needed.
pub(super) fn check(access: &DeviceAccess) -> Result<(), BmcSetupError> {
    let rule = &access.rule;
    let host = exact_host(rule);
    for (key, source) in access.settings.secrets() {
        let source = match &host {
            Some(host) => source.of(host),
            None if source.is_per_host() => continue,
            None => source.clone(),
        };
        let failed = |source| BmcSetupError::Secret { hosts: rule.hosts.clone(), key: key.to_owned(), source };
        source.read(access.settings.secret_bytes_max()).map_err(failed)?;
    }
    if let DeviceSettings::Redfish(settings) = &access.settings {
        let failed = |why| BmcSetupError::Trust { hosts: rule.hosts.clone(), why };
        redfish::check_trust(&settings.trust).map_err(failed)?;
    }
    Ok(())
}

/// Whether the programs that the devices need are there.
pub(super) fn check_programs(devices: &[DeviceAccess]) -> Result<(), BmcSetupError> {
    let needed = devices.iter().any(|access| matches!(access.settings, DeviceSettings::IpmiTool(_)));
    match process::find(ipmitool::PROGRAM) {
        None if needed => Err(BmcSetupError::NoTool),
        Some(_) | None => Ok(()),
    }
}

/// The driver of one host's device. Nothing is sent.
pub(super) fn driver(access: &DeviceAccess, host: &HostName) -> Result<Driver, DeviceError> {
    match &access.settings {
        DeviceSettings::Ipmi(settings) => Ok(Driver::Ipmi(NativeIpmi::new(settings, host))),
        DeviceSettings::IpmiTool(settings) => Ok(Driver::IpmiTool(IpmiTool::new(settings, host))),
        DeviceSettings::Redfish(settings) => Ok(Driver::Redfish(Redfish::new(settings, host)?)),
        DeviceSettings::Agent(settings) => {
            let address = access.rule.address.replace("{host}", host.as_str());
            Ok(Driver::Agent(FenceAgent::new(settings, host, &address)))
        }
        DeviceSettings::Storage(settings) => Ok(Driver::Storage(StorageFence::new(settings.clone(), host.clone()))),
    }
}

fn exact_host(rule: &DeviceRule) -> Option<HostName> {
    rule.is_exact().then(|| HostName::new(&rule.hosts).ok()).flatten()
}
