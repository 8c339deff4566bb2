//! What is known of every fence device: its last reading, and whether it is bound to its host.

use std::collections::BTreeMap;

use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceName, DeviceReading, PowerState, Text};
use rekindle_proto::id::{HostName, SystemUuid};

use super::binding::guid_names;
use crate::policy::{DevicePlan, DeviceRule, ladder};
use crate::time::Moment;

/// Whether a device is known to be its host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Not read yet, or never answered with a GUID.
    Unknown(Text),
    /// Its GUID is the host's own system UUID.
    Bound,
    /// It names another machine, or read off while the host was heard: it must not be used.
    Refused(Text),
}

/// One device.
#[derive(Debug, Clone)]
pub struct DeviceEntry {
    /// Whose.
    pub host: HostName,
    /// Its place in the ladder.
    pub plan: DevicePlan,
    /// Whether it is the host's.
    pub binding: Binding,
    /// Its last reading.
    pub last: Option<(Moment, DeviceReading)>,
}

/// All devices of the roster.
#[derive(Debug, Default)]
pub struct DeviceBook {
    entries: BTreeMap<DeviceName, DeviceEntry>,
}

impl DeviceBook {
    /// Brings the book in line with the roster: new hosts' devices are added, what is known of others is kept.
    pub fn enroll<'a>(&mut self, hosts: impl Iterator<Item = &'a HostName>, rules: &[DeviceRule]) {
        for host in hosts {
            for plan in ladder(rules, host) {
                self.entries.entry(plan.name.clone()).or_insert_with(|| DeviceEntry {
                    host: host.clone(),
                    plan,
                    binding: Binding::Unknown("not read yet".into()),
                    last: None,
                });
            }
        }
    }

    /// All devices, by name.
    pub fn iter(&self) -> impl Iterator<Item = &DeviceEntry> {
        self.entries.values()
    }

    /// One device.
    #[must_use]
    pub fn get(&self, device: &DeviceName) -> Option<&DeviceEntry> {
        self.entries.get(device)
    }

    /// A host's devices, by level.
    #[must_use]
    pub fn of(&self, host: &HostName) -> Vec<&DeviceEntry> {
        let mut entries: Vec<&DeviceEntry> = self.entries.values().filter(|entry| entry.host == *host).collect();
        entries.sort_by(|a, b| a.plan.cmp(&b.plan));
        entries
    }

    /// Looks again at what devices said before their host had told its system UUID.
    pub fn rebind(&mut self, machine_of: impl Fn(&HostName) -> Option<SystemUuid>) {
        for entry in self.entries.values_mut().filter(|entry| matches!(entry.binding, Binding::Unknown(_))) {
            let Some((_, DeviceReading { guid: Some(guid @ Ok(_)), .. })) = &entry.last else { continue };
            entry.binding = binding(&entry.host, &entry.binding, guid, machine_of(&entry.host));
        }
    }

    /// Takes in a reading. `heard` says that the host was heard, authenticated, after the reading had begun: an off
    /// reading of a speaking host is another machine's.
    pub fn note(
        &mut self,
        device: &DeviceName,
        reading: &DeviceReading,
        at: Moment,
        machine: Option<SystemUuid>,
        heard: bool,
    ) {
        let Some(entry) = self.entries.get_mut(device) else { return };
        if let Some(guid) = &reading.guid {
            entry.binding = binding(&entry.host, &entry.binding, guid, machine);
        }
        if heard && reading.power == Ok(PowerState::Off) {
            entry.binding = Binding::Refused(Text::new(format!("it reads off while {} is heard", entry.host)));
        }
        entry.last = Some((at, reading.clone()));
    }
}

/// What a device's word about its machine makes of its binding.
fn binding(
    host: &HostName,
    before: &Binding,
    guid: &Result<DeviceGuid, DeviceError>,
    machine: Option<SystemUuid>,
) -> Binding {
    match (guid, machine) {
        (Ok(guid), Some(machine)) if guid_names(*guid, machine) => Binding::Bound,
        (Ok(guid), Some(machine)) => {
            Binding::Refused(Text::new(format!("its GUID {} is not {host}'s system UUID {machine}", uuid_text(guid.0))))
        }
        (Ok(_), None) => Binding::Unknown(Text::new(format!("{host} has not said its system UUID"))),
        // A device that cannot say it now said it before: it has not moved to another machine by being busy.
        (Err(error), _) => match before {
            Binding::Bound => Binding::Bound,
            Binding::Unknown(_) => Binding::Unknown(Text::new(format!("no GUID: {error}"))),
            Binding::Refused(why) => Binding::Refused(why.clone()),
        },
    }
}

fn uuid_text(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn book() -> (DeviceBook, HostName, DeviceName) {
        let host = HostName::new("cmp-1").expect("legal");
        let rule = DeviceRule {
            hosts: "cmp-*".to_owned(),
            level: 1,
            driver: "ipmi-tool".to_owned(),
            address: "{host}-bmc".to_owned(),
        };
        let mut book = DeviceBook::default();
        book.enroll([&host].into_iter(), std::slice::from_ref(&rule));
        let device = rule.device(&host);
        (book, host, device)
    }

    #[test]
    fn a_device_is_bound_by_its_guid_and_unbound_by_a_contradiction() {
        let (mut book, _, device) = book();
        let machine = SystemUuid(Uuid::from_u128(7));
        let guid = DeviceGuid(*machine.0.as_bytes());
        let reading = |power: PowerState, guid: DeviceGuid| DeviceReading { power: Ok(power), guid: Some(Ok(guid)) };
        let binding = |book: &DeviceBook| book.get(&device).expect("enrolled").binding.clone();

        book.note(&device, &reading(PowerState::On, guid), Moment::ZERO, None, false);
        assert!(matches!(binding(&book), Binding::Unknown(_)), "the host has not said its UUID");
        book.note(&device, &reading(PowerState::On, guid), Moment::ZERO, Some(machine), false);
        assert_eq!(binding(&book), Binding::Bound);
        let silent = DeviceReading {
            power: Err(DeviceError::Silent("timed out".into())),
            guid: Some(Err(DeviceError::Silent("timed out".into()))),
        };
        book.note(&device, &silent, Moment::ZERO, Some(machine), false);
        assert_eq!(binding(&book), Binding::Bound, "silence does not unbind");
        book.note(&device, &reading(PowerState::Off, guid), Moment::ZERO, Some(machine), true);
        assert!(matches!(binding(&book), Binding::Refused(_)), "off while heard");
        book.note(&device, &reading(PowerState::On, DeviceGuid([9; 16])), Moment::ZERO, Some(machine), false);
        assert!(matches!(binding(&book), Binding::Refused(_)), "another machine's");
    }
}
