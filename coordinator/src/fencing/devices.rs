//! What is known of every fence device: its last reading, and whether it is bound to its host.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceName, DeviceReading, PowerState, Text};
use rekindle_proto::id::{BootId, HostName, SystemUuid};

use super::binding::guid_names;
use super::identity::{DeviceIdentity, hex};
use crate::ledger::{Ledger, RehearsalMark};
use crate::policy::{DevicePlan, DeviceRule, Unverified, ladder, rules_for};
use crate::time::Moment;

/// Whether a device is known to be its host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Not read yet, or never answered with a GUID.
    Unknown(Text),
    /// Its GUID is the host's own system UUID.
    Bound,
    /// It cannot say so by a GUID, and has passed a rehearsal: by whom ordered, and which.
    Rehearsed(Text),
    /// Nothing can be read of it, and the operator takes its word (`unverified = "accept"`).
    Unverified,
    /// It names another machine, or read off while the host was heard: it must not be used.
    Refused(Text),
}

impl Binding {
    /// Whether what the device reads counts as the host's power.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self {
            Self::Bound | Self::Rehearsed(_) | Self::Unverified => true,
            Self::Unknown(_) | Self::Refused(_) => false,
        }
    }

    /// Why it does not; `None`: it does.
    #[must_use]
    pub fn objection(&self) -> Option<&Text> {
        match self {
            Self::Bound | Self::Rehearsed(_) | Self::Unverified => None,
            Self::Unknown(why) | Self::Refused(why) => Some(why),
        }
    }
}

/// One device.
#[derive(Debug, Clone)]
pub struct DeviceEntry {
    /// Whose.
    pub host: HostName,
    /// Its place in the ladder.
    pub plan: DevicePlan,
    /// What an off is worth that cannot be read back.
    unverified: Unverified,
    /// Whether it is the host's.
    pub binding: Binding,
    /// Its last reading.
    pub last: Option<(Moment, DeviceReading)>,
    /// Since when it has not answered any more.
    pub silent_since: Option<Moment>,
    /// It read off at that moment, though its host was up in that boot just before: if that boot speaks on, it lies.
    off_while_up: Option<(Moment, BootId)>,
    /// It was caught so. Only a reading *on* mends that, not its GUID; and a rehearsal that it had passed not even that.
    contradicted: Option<Text>,
    /// What its GUIDs alone make of its binding.
    by_guid: Binding,
    /// The last GUID that it told.
    pub told: Option<DeviceGuid>,
    /// All devices of its level, itself too.
    level_mates: Vec<DeviceName>,
    /// What the last rehearsal has shown of it, by the ledger.
    mark: Option<RehearsalMark>,
    /// It was caught in a contradiction since.
    caught: Option<Text>,
}

/// A host's word, this long after an off reading, cannot have been sent before the power went.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// All devices of the roster.
#[derive(Debug, Default)]
pub struct DeviceBook {
    entries: BTreeMap<DeviceName, DeviceEntry>,
    /// The devices of each host, by level. A host without any is here too: it was looked at.
    of: BTreeMap<HostName, Vec<DeviceName>>,
    /// As of which change what rehearsals have shown was taken in.
    rehearsed: Option<u64>,
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
                let rule = rules_for(rules, host).into_iter().find(|rule| rule.device(host) == plan.name);
                let unverified = rule.map_or(Unverified::Refuse, |rule| rule.unverified);
                place.insert(DeviceEntry {
                    host: host.clone(),
                    plan,
                    unverified,
                    binding: Binding::Unknown("not read yet".into()),
                    last: None,
                    silent_since: None,
                    off_while_up: None,
                    contradicted: None,
                    by_guid: Binding::Unknown("not read yet".into()),
                    told: None,
                    level_mates: Vec::new(),
                    mark: None,
                    caught: None,
                });
            }
            for name in &own {
                let level = self.entries.get(name).map(|entry| entry.plan.level);
                let is_mate = |other: &&DeviceName| self.entries.get(*other).map(|entry| entry.plan.level) == level;
                let mates: Vec<DeviceName> = own.iter().filter(is_mate).cloned().collect();
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.level_mates = mates;
                }
            }
            self.of.insert(host.clone(), own);
            self.rehearsed = None;
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

    /// Whether one level of a host's devices could prove it off, by what was last read: each of them counts, and answers. One
    /// that was not read yet is not held against it.
    #[must_use]
    pub fn is_fenceable(&self, host: &HostName) -> bool {
        let devices = self.of(host);
        let is_fit = |entry: &&DeviceEntry| match &entry.last {
            None => true,
            Some((_, reading)) => {
                entry.binding.counts() && (reading.power.is_ok() || entry.binding == Binding::Unverified)
            }
        };
        let level_is_fit = |level: u8| devices.iter().filter(|entry| entry.plan.level == level).all(is_fit);
        devices.iter().any(|entry| level_is_fit(entry.plan.level))
    }

    /// Whether every device of one level, each bound to this host, has read off since then.
    #[must_use]
    pub fn reads_off_since(&self, host: &HostName, began: Moment) -> bool {
        let devices = self.of(host);
        let is_off = |entry: &&DeviceEntry| {
            let last = entry.last.as_ref().filter(|(at, _)| *at >= began);
            entry.binding.counts() && last.is_some_and(|(_, reading)| reading.power == Ok(PowerState::Off))
        };
        let level_is_off = |level: u8| devices.iter().filter(|entry| entry.plan.level == level).all(is_off);
        devices.iter().any(|entry| level_is_off(entry.plan.level))
    }

    /// Looks again at what devices said before their host had told its system UUID.
    pub fn rebind(&mut self, machine_of: impl Fn(&HostName) -> Option<SystemUuid>) {
        for entry in self.entries.values_mut().filter(|entry| matches!(entry.by_guid, Binding::Unknown(_))) {
            let Some((_, DeviceReading { guid: Some(guid @ Ok(_)), .. })) = &entry.last else { continue };
            entry.by_guid = binding(&entry.host, &entry.by_guid, guid, machine_of(&entry.host));
            entry.conclude();
        }
    }

    /// Takes in what rehearsals have shown, by the ledger. Asked at every step of a leader: only what is new is touched.
    pub fn take_rehearsals(&mut self, ledger: &Ledger) {
        if self.rehearsed.replace(ledger.rehearsed_changes) == Some(ledger.rehearsed_changes) {
            return;
        }
        for (name, entry) in &mut self.entries {
            let mark = ledger.host(&entry.host).and_then(|record| record.rehearsed.get(name));
            if entry.mark.as_ref() != mark {
                (entry.mark, entry.caught) = (mark.cloned(), None);
                entry.conclude();
            }
        }
    }

    /// Devices that count only by a rehearsal, and were caught in a contradiction since: the ledger is yet to be told.
    pub fn caught_after_rehearsal(&self) -> impl Iterator<Item = (&DeviceEntry, &Text)> {
        let rests_on_it = |entry: &&DeviceEntry| {
            entry.by_guid != Binding::Bound && entry.mark.as_ref().is_some_and(|mark| mark.lies.is_none())
        };
        self.entries.values().filter(rests_on_it).filter_map(|entry| Some((entry, entry.caught.as_ref()?)))
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
            entry.by_guid = binding(&entry.host, &entry.by_guid, guid, machine);
            entry.told = guid.as_ref().ok().copied().or(entry.told);
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
        entry.silent_since = match &reading.power {
            Err(DeviceError::Silent(_)) => entry.silent_since.or(Some(at)),
            Ok(_) | Err(_) => None,
        };
        entry.last = Some((at, reading.clone()));
        entry.conclude();
    }

    /// It said, when it was to be ordered, that it is another machine's. It is not the host's until it says so again.
    pub fn disown(&mut self, device: &DeviceName, why: &Text) {
        let Some(entry) = self.entries.get_mut(device) else { return };
        entry.by_guid = Binding::Refused(why.clone());
        entry.conclude();
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
            entry.caught = entry.mark.is_some().then(|| why.clone());
            entry.contradicted = Some(why);
            entry.conclude();
            caught = true;
        }
        caught
    }
}

impl DeviceEntry {
    /// What all that is known of it makes of its binding: what speaks against it first.
    fn conclude(&mut self) {
        let passed = self.mark.as_ref().filter(|mark| mark.lies.is_none() && self.caught.is_none());
        self.binding = match (&self.contradicted, self.mark.as_ref().and_then(|mark| Some((mark, mark.lies.as_ref()?))))
        {
            (Some(why), _) => Binding::Refused(why.clone()),
            (None, Some((mark, lies))) => {
                let text =
                    format!("it did not pass rehearsal {}, and is to be rehearsed again: {lies}", mark.rehearsal);
                Binding::Refused(Text::new(text))
            }
            (None, None) => match passed.filter(|mark| self.by_guid != Binding::Bound && self.is_as_in(mark)) {
                Some(RehearsalMark { rehearsal, by, .. }) => {
                    Binding::Rehearsed(Text::new(format!("by {by}, rehearsal {rehearsal}")))
                }
                None if self.is_without_status() => Binding::Unverified,
                None => self.by_guid.clone(),
            },
        };
    }

    /// What it is held to when it is ordered, and read for a proof. `machine` is its host's.
    #[must_use]
    pub fn identity(&self, machine: Option<SystemUuid>) -> DeviceIdentity {
        match (&self.binding, &self.mark, machine) {
            (Binding::Rehearsed(_), Some(mark), _) => DeviceIdentity::as_told(mark.guid),
            // One that has come to be refused while its host is recovered stays held to the host.
            (Binding::Bound | Binding::Refused(_), _, Some(machine)) => DeviceIdentity::Machine(machine),
            (Binding::Bound | Binding::Refused(_) | Binding::Rehearsed(_), _, _)
            | (Binding::Unknown(_) | Binding::Unverified, _, _) => DeviceIdentity::as_told(self.told),
        }
    }

    /// Whether the operator takes its word where nothing can be read of it.
    #[must_use]
    pub fn takes_its_word(&self) -> bool {
        self.unverified == Unverified::Accept
    }

    /// It was read, and cannot tell; nor does it say that it is another machine's. One that can tell is to be bound.
    fn is_without_status(&self) -> bool {
        let cannot = |reading: &DeviceReading| matches!(reading.power, Err(DeviceError::Unusable(_)));
        let is_unknown = matches!(self.by_guid, Binding::Unknown(_));
        self.takes_its_word() && is_unknown && self.last.as_ref().is_some_and(|(_, reading)| cannot(reading))
    }

    /// Whether it is the device that passed: its level is the same, and so is what it tells of its machine.
    fn is_as_in(&self, mark: &RehearsalMark) -> bool {
        let same_guid = match (mark.guid, self.told) {
            (None, None) | (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(then), Some(now)) => then == now,
        };
        same_guid && mark.with.iter().collect::<BTreeSet<_>>() == self.level_mates.iter().collect()
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
            Binding::Refused(Text::new(format!("its GUID {} is not {host}'s system UUID {machine}", hex(*guid))))
        }
        (Ok(_), None) => Binding::Unknown(Text::new(format!("{host} has not said its system UUID"))),
        // A device that cannot say it now said it before: it has not moved to another machine by being busy.
        (Err(error), _) => match before {
            Binding::Bound => Binding::Bound,
            Binding::Unknown(_) | Binding::Rehearsed(_) | Binding::Unverified => {
                Binding::Unknown(Text::new(format!("no GUID: {error}")))
            }
            Binding::Refused(why) => Binding::Refused(why.clone()),
        },
    }
}

#[cfg(test)]
mod tests;
