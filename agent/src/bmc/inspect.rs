//! For `rekindled --check`: the devices are tried, the agents asked what they know. Nothing is switched.

use std::time::Duration;

use rekindle_coordinator::policy::Unverified;
use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::HostName;

use super::settings::{AgentSettings, DeviceSettings};
use super::{Bmc, BmcSetupError, agent, setup};

impl Bmc {
    /// Whether every program that the devices need is there. Secrets were read when this was made.
    ///
    /// # Errors
    /// The first that is not, with what to do about it.
    pub fn check_programs(&self) -> Result<(), BmcSetupError> {
        setup::check_programs(&self.devices)
    }

    /// Tries one device without switching anything, within that time.
    ///
    /// # Errors
    /// In words: why it cannot be used, or cannot be bound to its host.
    pub async fn try_device(&self, host: &HostName, device: &DeviceName, within: Duration) -> Result<String, String> {
        let access = self.access(host, device).map_err(|error| error.to_string())?;
        if let DeviceSettings::Storage(settings) = &access.settings {
            let found = crate::hook::look_at(&settings.program)?;
            return match access.rule.unverified {
                Unverified::Accept => Ok(format!("{}: {found}; it was not run", settings.program.display())),
                Unverified::Refuse => Err("its word counts for nothing: unverified = \"refuse\"".to_owned()),
            };
        }
        let reading = self.read(host, device, true, within).await;
        match (reading.power, reading.guid) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(power), Some(Ok(_))) => Ok(format!("power {power}, and it tells its GUID")),
            (Ok(power), Some(Err(error))) => Err(format!("power {power}, but no GUID ({error}): it cannot be bound")),
            (Ok(power), None) => Ok(format!("power {power}")),
        }
    }

    /// Every fence agent of the configuration, with the hosts it is for.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &AgentSettings)> {
        self.devices.iter().filter_map(|access| match &access.settings {
            DeviceSettings::Agent(settings) => Some((access.rule.hosts.as_str(), settings)),
            DeviceSettings::IpmiTool(_)
            | DeviceSettings::Ipmi(_)
            | DeviceSettings::Redfish(_)
            | DeviceSettings::Storage(_) => None,
        })
    }

    /// Compares what an agent would be told with what it says that it knows. No device is asked.
    ///
    /// # Errors
    /// In words: every option that it does not know, lacks, or would misunderstand.
    pub async fn inspect_agent(settings: &AgentSettings) -> Result<String, String> {
        agent::inspect(settings, agent::METADATA_WITHIN).await
    }
}
