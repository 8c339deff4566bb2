//! What is known of every fence device: its last reading, and whether it is bound to its host.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceName, DeviceReading, PowerState, Text};
use rekindle_proto::id::{BootId, HostName, SystemUuid};

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
    /// It read off at that moment, though its host was up in that boot just before: if that boot speaks on, it lies.
    off_while_up: Option<(Moment, BootId)>,
    /// It was caught so. Only a reading *on* mends that, not its GUID.
    contradicted: Option<Text>,
}

/// A host's word, this long after an off reading, cannot have been sent before the power went.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// All devices of the roster.
#[derive(Debug, Default)]
pub struct DeviceBook {
    entries: BTreeMap<DeviceName, DeviceEntry>,
    /// The devices of each host, by level. A host without any is here too: it was looked at.
    of: BTreeMap<HostName, Vec<DeviceName>>,
}

impl DeviceBook {
    /// Brings the book in line with the roster: new hosts' devices are added, what is known of others is kept. `rules` are
    /// the same for the book's whole life. Asked at every step of a leader: that nobody of 2,000 is new is found out in one
    /// walk along both lists.
    pub fn enroll<'a>(&mut self, hosts: impl Iterator<Item = &'a HostName>, rules: &[DeviceRule]) {
        let mut known = self.of.keys().peekable();
        let mut is_new = |host: &&HostName| {
            while known.next_if(|known| *known < *host).is_some() {}
            known.next_if_eq(host).is_none()
        };
        let new: Vec<&HostName> = hosts.filter(&mut is_new).collect();
        for host in new {
            let mut own = Vec::new();
            for plan in ladder(rules, host) {
                // Two hosts, or two levels, may be told to use one device: it is the first one's.
                let Entry::Vacant(place) = self.entries.entry(plan.name.clone()) else { continue };
                own.push(plan.name.clone());
                place.insert(DeviceEntry {
                    host: host.clone(),
                    plan,
                    binding: Binding::Unknown("not read yet".into()),
                    last: None,
                    off_while_up: None,
                    contradicted: None,
                });
            }
            self.of.insert(host.clone(), own);
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
        self.of.get(host).into_iter().flatten().filter_map(|name| self.entries.get(name)).collect()
    }

    /// Looks again at what devices said before their host had told its system UUID.
    pub fn rebind(&mut self, machine_of: impl Fn(&HostName) -> Option<SystemUuid>) {
        for entry in self.entries.values_mut().filter(|entry| matches!(entry.binding, Binding::Unknown(_))) {
            let Some((_, DeviceReading { guid: Some(guid @ Ok(_)), .. })) = &entry.last else { continue };
            entry.binding = binding(&entry.host, &entry.binding, guid, machine_of(&entry.host));
        }
    }

    /// Takes in a reading. `up` is the boot in which the host was last heard, if it is not known to have gone since: an
    /// off reading is then put to the test by [`Self::heard`].
    pub fn note(
        &mut self,
        device: &DeviceName,
        reading: &DeviceReading,
        at: Moment,
        machine: Option<SystemUuid>,
        up: Option<BootId>,
    ) {
        let Some(entry) = self.entries.get_mut(device) else { return };
        if let Some(guid) = &reading.guid {
            entry.binding = binding(&entry.host, &entry.binding, guid, machine);
        }
        match reading.power {
            Ok(PowerState::Off) => {
                let first = entry.off_while_up.filter(|(_, boot)| Some(*boot) == up);
                entry.off_while_up = first.or(up.map(|boot| (at, boot)));
            }
            Ok(PowerState::On) => {
                entry.off_while_up = None;
                entry.contradicted = None;
            }
            Err(_) => {}
        }
        if let Some(why) = &entry.contradicted {
            entry.binding = Binding::Refused(why.clone());
        }
        entry.last = Some((at, reading.clone()));
    }

    /// A host was heard, authenticated: a device that said *off* of this very boot before speaks of another machine, or
    /// lies (I2). Gives back whether one was caught.
    pub fn heard(&mut self, host: &HostName, boot: BootId, now: Moment) -> bool {
        let mut caught = false;
        for device in self.of.get(host).into_iter().flatten() {
            let Some(entry) = self.entries.get_mut(device) else { continue };
            let Some((read_at, of)) = entry.off_while_up else { continue };
            if of != boot || now <= read_at + LAST_WORDS {
                continue;
            }
            let why = Text::new(format!("it reads off while {host} is heard: it lies, or is another machine's"));
            entry.off_while_up = None;
            entry.contradicted = Some(why.clone());
            entry.binding = Binding::Refused(why);
            caught = true;
        }
        caught
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
    use crate::policy::Unverified;
    use uuid::Uuid;

    fn book() -> (DeviceBook, HostName, DeviceName) {
        let host = HostName::new("cmp-1").expect("legal");
        let rule = DeviceRule {
            hosts: "cmp-*".to_owned(),
            level: 1,
            driver: "ipmi-tool".to_owned(),
            address: "{host}-bmc".to_owned(),
            unverified: Unverified::Refuse,
        };
        let mut book = DeviceBook::default();
        book.enroll([&host].into_iter(), std::slice::from_ref(&rule));
        let device = rule.device(&host);
        (book, host, device)
    }

    /// Asked at every step, with more hosts now and then; a device named twice is the first host's.
    #[test]
    fn new_hosts_are_enrolled_and_known_ones_kept() {
        let host = |name: &str| HostName::new(name).expect("legal");
        let rule = |hosts: &str, level: u8, address: &str| DeviceRule {
            hosts: hosts.to_owned(),
            level,
            driver: "ipmi-tool".to_owned(),
            address: address.to_owned(),
            unverified: Unverified::Refuse,
        };
        let rules = [rule("*", 1, "{host}-bmc"), rule("cmp-*", 2, "pdu-1")];
        let mut book = DeviceBook::default();
        let (a, b, c, w) = (host("cmp-1"), host("cmp-2"), host("cmp-3"), host("wit-1"));
        let levels =
            |book: &DeviceBook, host: &HostName| book.of(host).iter().map(|e| e.plan.level).collect::<Vec<_>>();
        book.enroll([&b, &w].into_iter(), &rules);
        let device = book.of(&b)[0].plan.name.clone();
        let reading = DeviceReading { power: Ok(PowerState::On), guid: None };
        book.note(&device, &reading, Moment::ZERO, None, None);
        book.enroll([&a, &b, &c, &w].into_iter(), &rules);
        book.enroll([&a, &c].into_iter(), &rules);
        assert_eq!([&a, &b, &c, &w].map(|host| levels(&book, host)), [vec![1], vec![1, 2], vec![1], vec![1]]);
        assert!(book.of(&b)[0].last.is_some(), "what was read is kept");
        assert_eq!(book.iter().count(), 5);
    }

    #[test]
    fn a_device_is_bound_by_its_guid_and_unbound_by_a_contradiction() {
        let (mut book, _, device) = book();
        let machine = SystemUuid(Uuid::from_u128(7));
        let guid = DeviceGuid(*machine.0.as_bytes());
        let reading = |power: PowerState, guid: DeviceGuid| DeviceReading { power: Ok(power), guid: Some(Ok(guid)) };
        let binding = |book: &DeviceBook| book.get(&device).expect("enrolled").binding.clone();

        book.note(&device, &reading(PowerState::On, guid), Moment::ZERO, None, None);
        assert!(matches!(binding(&book), Binding::Unknown(_)), "the host has not said its UUID");
        book.note(&device, &reading(PowerState::On, guid), Moment::ZERO, Some(machine), None);
        assert_eq!(binding(&book), Binding::Bound);
        let silent = DeviceReading {
            power: Err(DeviceError::Silent("timed out".into())),
            guid: Some(Err(DeviceError::Silent("timed out".into()))),
        };
        book.note(&device, &silent, Moment::ZERO, Some(machine), None);
        assert_eq!(binding(&book), Binding::Bound, "silence does not unbind");
        book.note(&device, &reading(PowerState::On, DeviceGuid([9; 16])), Moment::ZERO, Some(machine), None);
        assert!(matches!(binding(&book), Binding::Refused(_)), "another machine's");
    }

    #[test]
    fn a_device_that_says_off_of_a_speaking_host_is_refused_until_it_says_on() {
        let (mut book, host, device) = book();
        let (machine, at) = (SystemUuid(Uuid::from_u128(7)), |ms: u64| Moment::from_micros(ms * 1_000));
        let (boot, next_boot) = (BootId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)));
        let guid = Some(Ok(DeviceGuid(*machine.0.as_bytes())));
        let off = DeviceReading { power: Ok(PowerState::Off), guid: guid.clone() };
        let on = DeviceReading { power: Ok(PowerState::On), guid };
        let bound = |book: &DeviceBook| book.get(&device).expect("enrolled").binding == Binding::Bound;

        book.note(&device, &off, at(1_000), Some(machine), Some(boot));
        assert!(!book.heard(&host, boot, at(2_900)), "last words of a host that has just lost its power");
        assert!(!book.heard(&host, next_boot, at(9_000)), "it was off, and somebody started it");
        assert!(bound(&book));
        assert!(book.heard(&host, boot, at(3_001)));
        assert!(!bound(&book));
        book.note(&device, &off, at(20_000), Some(machine), Some(boot));
        assert!(!bound(&book), "its GUID does not excuse it");
        book.note(&device, &on, at(40_000), Some(machine), Some(boot));
        assert!(bound(&book));
        assert!(!book.heard(&host, boot, at(50_000)));
    }
}
