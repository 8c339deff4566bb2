//! Who reaches a host's devices: the leader, or another voter (BMC networks differ).

use std::collections::BTreeMap;

use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading};
use rekindle_proto::id::HostName;

/// What came of the last reading of one device by one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It told its power.
    Told,
    /// It answered, and did not tell it: no other way to it would help.
    Refused,
    /// It was silent to that reader.
    Silent,
}

/// What readings of one host's devices, beside those of an attempt, have shown of the ways to them. `None` is the leader. At most
/// a word for each voter and each device of the host and of the neighbours that were looked at.
#[derive(Debug, Default)]
pub struct Reach(BTreeMap<(DeviceName, Option<HostName>), Word>);

impl Reach {
    /// A reading came back to whoever asked.
    pub fn note(&mut self, by: Option<&HostName>, device: &DeviceName, reading: &DeviceReading) {
        let word = match &reading.power {
            Ok(_) => Word::Told,
            Err(DeviceError::Silent(_)) => Word::Silent,
            Err(_) => Word::Refused,
        };
        self.0.insert((device.clone(), by.cloned()), word);
    }

    /// An attempt begins, or a wait: what was before says nothing of what comes.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Who was told the power of all of these: the leader (`Some(None)`), or the first voter in their turn. Nobody else where a
    /// device has answered the leader without telling it: that is no matter of the way to it.
    #[must_use]
    pub fn of(&self, devices: &[DeviceName], voters: &[HostName]) -> Option<Option<HostName>> {
        let said = |device: &DeviceName, by: Option<&HostName>| self.0.get(&(device.clone(), by.cloned())).copied();
        let all_told = |by: Option<&HostName>| devices.iter().all(|device| said(device, by) == Some(Word::Told));
        if devices.is_empty() || devices.iter().any(|device| said(device, None) == Some(Word::Refused)) {
            return None;
        }
        if all_told(None) {
            return Some(None);
        }
        voters.iter().find(|voter| all_told(Some(voter))).cloned().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use rekindle_proto::fact::PowerState;

    use super::*;

    #[test]
    fn the_table_of_ways() {
        // (readings: who, of which device, what came of it; who reaches "a" and "b")
        let rows = [
            ("", None),
            ("leader:a:on leader:b:off", Some("leader")),
            ("leader:a:on", None),
            ("leader:a:silent leader:b:silent v1:a:on v1:b:on", Some("v1")),
            ("leader:a:silent leader:b:on v2:a:on v2:b:on", Some("v2")),
            ("v2:a:on v2:b:on v1:a:on v1:b:on", Some("v1")),
            // Each of them one: nobody executes half of an attempt.
            ("v1:a:on v2:b:on leader:a:silent", None),
            ("v1:a:on v1:b:silent", None),
            ("v1:a:on v1:b:on v1:a:silent", None),
            ("leader:a:silent leader:a:on leader:b:on v1:a:on v1:b:on", Some("leader")),
            // It refused us: another would only be refused once more.
            ("leader:a:refused leader:b:silent v1:a:on v1:b:on", None),
            ("v1:a:refused v1:b:on v2:a:on v2:b:on", Some("v2")),
            // One that does not vote any more, or is not heard.
            ("v3:a:on v3:b:on", None),
        ];
        let host = |name: &str| HostName::new(name).expect("legal");
        let device = |name: &str| DeviceName(name.to_owned());
        for (readings, expected) in rows {
            let mut reach = Reach::default();
            for words in readings.split_whitespace().map(|words| words.split(':').collect::<Vec<_>>()) {
                let power = match words[2] {
                    "on" => Ok(PowerState::On),
                    "off" => Ok(PowerState::Off),
                    "silent" => Err(DeviceError::Silent("".into())),
                    _ => Err(DeviceError::Credentials("".into())),
                };
                let by = (words[0] != "leader").then(|| host(words[0]));
                reach.note(by.as_ref(), &device(words[1]), &DeviceReading { power, guid: None });
            }
            let by = reach.of(&[device("a"), device("b")], &[host("v1"), host("v2")]);
            let name = by.as_ref().map(|by| by.as_ref().map_or("leader", HostName::as_str));
            assert_eq!(name, expected, "{readings}");
            reach.forget();
            assert_eq!(reach.of(&[device("a")], &[host("v1")]), None);
        }
        assert_eq!(Reach::default().of(&[], &[host("v1")]), None);
    }
}
