//! Several silent BMCs of one failure domain are one matter of its network or its power, before they are that many dead
//! hosts. Never proof, in one way or the other: it only holds, and is shown.

use std::collections::BTreeMap;

use rekindle_proto::fact::{DeviceError, RosterEntry};
use rekindle_proto::id::{DomainName, HostName};

use super::devices::{DeviceBook, DeviceEntry};
use crate::time::Moment;

/// Silent BMCs of one domain that are more than a broken one.
pub const SILENT_MIN: usize = 2;

/// What a host's fence devices say, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Not read since.
    Unread,
    /// At least one of them has answered, whatever it said.
    Answers,
    /// None has, and each of them was asked.
    Silent,
    /// None has for long, or there is none: that is another matter.
    Broken,
}

/// What the voices of a domain amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Not all have been heard, and it may yet be so.
    Unknown,
    /// The one is alone in its silence.
    Alone,
    /// So many of so many are silent.
    Silent {
        /// How many.
        silent: usize,
        /// Of how many that were asked.
        asked: usize,
    },
}

/// What the voices of a silent host's neighbours make of its silence.
#[must_use]
pub fn together(neighbours: impl Iterator<Item = Voice>) -> Together {
    // The host itself.
    let (mut silent, mut asked, mut unread) = (1, 1, 0);
    for voice in neighbours {
        match voice {
            Voice::Unread => unread += 1,
            Voice::Answers => asked += 1,
            Voice::Silent => (silent, asked) = (silent + 1, asked + 1),
            Voice::Broken => {}
        }
    }
    match (silent >= SILENT_MIN, unread) {
        (true, _) => Together::Silent { silent, asked },
        (false, 0) => Together::Alone,
        (false, _) => Together::Unknown,
    }
}

impl DeviceBook {
    /// What a host's devices say since `since`; one that had not answered before `broken` either is broken.
    #[must_use]
    pub fn voice(&self, host: &HostName, since: Moment, broken: Moment) -> Voice {
        let entries = self.of(host);
        let is_read = |entry: &&&DeviceEntry| entry.last.as_ref().is_some_and(|(at, _)| *at >= since);
        if entries.is_empty() || entries.iter().any(|entry| entry.silent_since.is_some_and(|silent| silent < broken)) {
            return Voice::Broken;
        }
        if entries.iter().filter(is_read).any(|entry| !is_silent(entry)) {
            return Voice::Answers;
        }
        if entries.iter().all(|entry| is_read(&entry)) { Voice::Silent } else { Voice::Unread }
    }

    /// Domains with several hosts of which no device answered when it was last read: how many, of how many.
    #[must_use]
    pub fn silent_domains(&self, roster: &BTreeMap<HostName, RosterEntry>) -> BTreeMap<DomainName, (usize, usize)> {
        let mut domains: BTreeMap<DomainName, (usize, usize)> = BTreeMap::new();
        for entry in roster.values() {
            let (Some(domain), devices) = (&entry.domain, self.of(&entry.host)) else { continue };
            if devices.is_empty() {
                continue;
            }
            let figures = domains.entry(domain.clone()).or_default();
            figures.1 += 1;
            figures.0 += usize::from(devices.iter().all(|entry| is_silent(entry)));
        }
        domains.retain(|_, (silent, _)| *silent >= SILENT_MIN);
        domains
    }
}

fn is_silent(entry: &DeviceEntry) -> bool {
    entry.last.as_ref().is_some_and(|(_, reading)| matches!(reading.power, Err(DeviceError::Silent(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_neighbours() {
        use Voice::{Answers, Broken, Silent, Unread};
        let rows: [(&[Voice], Together); 9] = [
            (&[], Together::Alone),
            (&[Answers, Answers], Together::Alone),
            (&[Broken, Broken], Together::Alone),
            (&[Unread, Answers], Together::Unknown),
            (&[Silent], Together::Silent { silent: 2, asked: 2 }),
            (&[Silent, Answers, Answers], Together::Silent { silent: 2, asked: 4 }),
            (&[Silent, Unread], Together::Silent { silent: 2, asked: 2 }),
            (&[Silent, Silent, Broken], Together::Silent { silent: 3, asked: 3 }),
            (&[Unread, Broken], Together::Unknown),
        ];
        for (voices, expected) in rows {
            assert_eq!(together(voices.iter().copied()), expected, "{voices:?}");
        }
    }
}
