//! In which order the servers of all dead hosts are recovered.

use std::cmp::Reverse;
use std::time::Duration;

use rekindle_proto::fact::{NovaServer, Text};
use rekindle_proto::id::ServerId;
use serde::{Deserialize, Serialize};

use crate::ledger::{Incident, PRIORITY_DEFAULT, ServerRecord};

/// Metadata key by which the owner of a server says how urgent it is: 0 to 100, higher ones first.
pub const PRIORITY_KEY: &str = "rekindle:priority";

/// The highest priority.
pub const PRIORITY_MAX: u8 = 100;

/// `[recovery.order]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPolicy {
    /// Whether a server waits until all of higher priority are settled: they run again, or are left behind.
    pub wait_for_previous: bool,
    /// How long the servers of one priority may keep lower ones waiting, from when nothing more urgent is left. One server that
    /// never ends must not hold up the rest.
    pub group_timeout: Duration,
}

impl Default for OrderPolicy {
    fn default() -> Self {
        Self { wait_for_previous: false, group_timeout: Duration::from_secs(300) }
    }
}

/// A server's priority by its metadata; [`PRIORITY_DEFAULT`] if it has none that can be read.
#[must_use]
pub fn priority_of(server: &NovaServer) -> u8 {
    server.metadata.get(PRIORITY_KEY).and_then(priority).unwrap_or(PRIORITY_DEFAULT)
}

/// A priority as it is written.
pub(super) fn priority(word: &Text) -> Option<u8> {
    word.as_str().trim().parse::<u8>().ok().filter(|priority| *priority <= PRIORITY_MAX)
}

/// How urgent a server is; the smallest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    priority: Reverse<u8>,
    marked: Reverse<bool>,
}

impl Urgency {
    /// Of a server of the ledger.
    #[must_use]
    pub fn of(record: &ServerRecord) -> Self {
        Self { priority: Reverse(record.priority), marked: Reverse(record.marked) }
    }
}

/// The place of a server among those of its incident. Over incidents, the older one is first among equally urgent ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    urgency: Urgency,
    name: (usize, &'a str),
    id: ServerId,
}

/// The servers of an incident, the most urgent first; marked ones before others of the same priority, then by name (a
/// shorter name first, so that `web-2` is before `web-10`), then by id.
#[must_use]
pub fn in_order(incident: &Incident) -> Vec<ServerId> {
    let mut places: Vec<Place<'_>> = incident
        .servers
        .iter()
        .map(|(id, record)| {
            let name = record.name.as_str();
            Place { urgency: Urgency::of(record), name: (name.len(), name), id: *id }
        })
        .collect();
    places.sort();
    places.into_iter().map(|place| place.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_table_of_priorities() {
        for (word, expected) in [
            (None, 50),
            (Some("0"), 0),
            (Some("100"), 100),
            (Some(" 90 "), 90),
            (Some("101"), 50),
            (Some("-1"), 50),
            (Some("high"), 50),
            (Some(""), 50),
            (Some("9.5"), 50),
        ] {
            let metadata = word.map(|word| (PRIORITY_KEY.to_owned(), Text::from(word))).into_iter().collect();
            let server = NovaServer {
                id: ServerId(Uuid::nil()),
                name: "web-1".into(),
                host: None,
                vm_state: "active".into(),
                task_state: None,
                metadata,
                traits: Default::default(),
                standing: Default::default(),
            };
            assert_eq!(priority_of(&server), expected, "{word:?}");
        }
    }
}
