//! The file of `rekindle apply`, and what is to be ordered so that the cluster is as it says.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::ledger::{ROSTER_MAX, SEGMENTS_MAX, SegmentFields, SegmentHostFields, SegmentOrder};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, SegmentId};
use rekindle_proto::segment::{
    RecoveryMethod, SERVICE_TYPE_DEFAULT, SegmentDoc, SegmentHostDoc, SegmentWord, SegmentsDoc, free_words,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{new_place, place_of};

/// What is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Each segment.
    pub(super) segment: Vec<WantedSegment>,
    /// Remove segments, and take hosts out of segments, that the file does not name.
    #[serde(default)]
    prune: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedSegment {
    name: SegmentWord,
    #[serde(default)]
    recovery_method: RecoveryMethod,
    #[serde(default)]
    service_type: Option<SegmentWord>,
    #[serde(default)]
    description: String,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    host: Vec<WantedHost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedHost {
    name: HostName,
    #[serde(default)]
    reserved: bool,
    #[serde(default, rename = "type")]
    kind: Option<SegmentWord>,
    #[serde(default)]
    control_attributes: String,
}

/// One order, and what it changes in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) order: SegmentOrder,
    pub(super) text: String,
}

/// Reads and checks a file's text.
pub(super) fn parse(text: &str) -> Result<Wanted, String> {
    let wanted: Wanted = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    if wanted.segment.len() > SEGMENTS_MAX {
        return Err(format!("names {} segments; at most {SEGMENTS_MAX} are kept", wanted.segment.len()));
    }
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for segment in &wanted.segment {
        if !names.insert(&segment.name) {
            return Err(format!("names segment {} twice", segment.name));
        }
        free_words(&segment.description).map_err(|error| format!("{}: description: {error}", segment.name))?;
        for host in &segment.host {
            if !hosts.insert(&host.name) {
                return Err(format!("names host {} twice; a host is in one segment", host.name));
            }
            free_words(&host.control_attributes)
                .map_err(|error| format!("{}: control_attributes: {error}", host.name))?;
        }
    }
    if hosts.len() > ROSTER_MAX {
        return Err(format!("names {} hosts; a roster has at most {ROSTER_MAX}", hosts.len()));
    }
    Ok(wanted)
}

/// What is to be ordered, in an order in which each is legal: segments are made before hosts are put into them, and
/// removed after hosts were taken out.
pub(super) fn difference(wanted: &Wanted, known: &SegmentsDoc) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut ids: BTreeMap<&SegmentWord, SegmentId> =
        known.segments.iter().map(|segment| (&segment.name, segment.uuid)).collect();
    for segment in &wanted.segment {
        let found = known.segments.iter().find(|found| found.name == segment.name);
        let id = found.map_or_else(|| SegmentId(Uuid::new_v4()), |found| found.uuid);
        ids.insert(&segment.name, id);
        changes.extend(segment.change(id, found));
    }
    for segment in &wanted.segment {
        let Some(id) = ids.get(&segment.name).copied() else { continue };
        changes.extend(segment.host.iter().filter_map(|host| host.change(&segment.name, id, known)));
    }
    if wanted.prune {
        changes.extend(pruned(wanted, known));
    }
    changes
}

fn pruned(wanted: &Wanted, known: &SegmentsDoc) -> Vec<Change> {
    let hosts: BTreeSet<&HostName> =
        wanted.segment.iter().flat_map(|segment| &segment.host).map(|host| &host.name).collect();
    let kept: BTreeSet<&SegmentWord> = wanted.segment.iter().map(|segment| &segment.name).collect();
    let mut changes = Vec::new();
    for segment in &known.segments {
        for place in segment.hosts.iter().filter(|place| !hosts.contains(&place.name)) {
            let host = place.name.clone();
            let text = format!("- host {host} (in segment {})", segment.name);
            changes.push(Change { order: SegmentOrder::RemoveHost { host }, text });
        }
    }
    for segment in known.segments.iter().filter(|segment| !kept.contains(&segment.name)) {
        let order = SegmentOrder::Delete { id: segment.uuid, with_hosts: false };
        changes.push(Change { order, text: format!("- segment {}", segment.name) });
    }
    changes
}

impl WantedSegment {
    fn change(&self, id: SegmentId, found: Option<&SegmentDoc>) -> Option<Change> {
        let description = Text::new(self.description.as_str());
        let service_type = self.service_type.clone().or_else(default_word);
        let mut told = Vec::new();
        let fields = SegmentFields {
            method: differs(&mut told, "recovery_method", found.map(|was| was.recovery_method), self.recovery_method),
            service_type: service_type.and_then(|wanted| {
                differs(&mut told, "service_type", found.map(|was| was.service_type.clone()), wanted)
            }),
            description: differs(&mut told, "description", found.map(|was| was.description.clone()), description),
            enabled: differs(&mut told, "enabled", found.map(|was| was.enabled), self.enabled),
        };
        let words = told.join(", ");
        match found {
            None => Some(Change {
                order: SegmentOrder::Create { id, name: self.name.clone(), fields },
                text: format!("+ segment {}: {words}", self.name),
            }),
            Some(_) if told.is_empty() => None,
            Some(_) => Some(Change {
                order: SegmentOrder::Set { id, name: None, fields },
                text: format!("~ segment {}: {words}", self.name),
            }),
        }
    }
}

impl WantedHost {
    fn change(&self, segment: &SegmentWord, id: SegmentId, known: &SegmentsDoc) -> Option<Change> {
        let place = place_of(known, &self.name);
        let found: Option<&SegmentHostDoc> = place.map(|(_, found)| found);
        let from = place.map(|(from, _)| from).filter(|from| from.uuid != id);
        let attributes = Text::new(self.control_attributes.as_str());
        let kind = self.kind.clone().or_else(default_word);
        let mut told = Vec::new();
        if let Some(from) = from {
            told.push(format!("segment {} -> {segment}", from.name));
        }
        let fields = SegmentHostFields {
            reserved: differs(&mut told, "reserved", found.map(|was| was.reserved), self.reserved),
            kind: kind.and_then(|wanted| differs(&mut told, "type", found.map(|was| was.kind.clone()), wanted)),
            control_attributes: differs(
                &mut told,
                "control_attributes",
                found.map(|was| was.control_attributes.clone()),
                attributes,
            ),
        };
        let words = told.join(", ");
        let host = self.name.clone();
        match found {
            None => Some(Change {
                text: format!("+ host {host} (in segment {segment}): {words}"),
                order: SegmentOrder::AddHost { host, id: new_place(), segment: id, fields },
            }),
            Some(_) if told.is_empty() => None,
            Some(_) => Some(Change {
                text: format!("~ host {host}: {words}"),
                order: SegmentOrder::SetHost { host, segment: from.map(|_| id), fields },
            }),
        }
    }
}

/// What is wanted, if it is not so; and says so. Of something new everything is said.
fn differs<T: PartialEq + std::fmt::Display>(
    told: &mut Vec<String>,
    name: &str,
    was: Option<T>,
    wanted: T,
) -> Option<T> {
    match was {
        Some(was) if was == wanted => None,
        Some(was) => {
            told.push(format!("{name} {:?} -> {:?}", was.to_string(), wanted.to_string()));
            Some(wanted)
        }
        None => {
            told.push(format!("{name} {:?}", wanted.to_string()));
            Some(wanted)
        }
    }
}

fn default_word() -> Option<SegmentWord> {
    SegmentWord::new(SERVICE_TYPE_DEFAULT).ok()
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    const SAME: &str = r#"
[[segment]]
name = "rack-1"
recovery_method = "rh_priority"
description = "feed A"
host = [{ name = "cmp-04", control_attributes = "SSH" }, { name = "cmp-05", control_attributes = "SSH", reserved = true }]
"#;

    fn changes(text: &str) -> Vec<String> {
        let wanted = parse(text).expect("taken");
        difference(&wanted, &samples::segments()).into_iter().map(|change| change.text).collect()
    }

    #[test]
    fn what_is_so_is_not_ordered() {
        assert_eq!(changes(SAME), Vec::<String>::new());
        assert_eq!(changes(&format!("prune = true\n{SAME}")), Vec::<String>::new());
        assert_eq!(changes("segment = []"), Vec::<String>::new(), "what is not named is left alone");
    }

    #[test]
    fn what_differs_is_told_and_in_a_legal_order() {
        let edit = |from: &str, to: &str| changes(&SAME.replace(from, to));
        assert_eq!(edit("feed A", "feed B"), ["~ segment rack-1: description \"feed A\" -> \"feed B\""]);
        assert_eq!(edit("reserved = true", "reserved = false"), ["~ host cmp-05: reserved \"true\" -> \"false\""]);
        assert_eq!(edit("cmp-04", "cmp-09").len(), 1, "cmp-04 is left where it is");
        let moved = changes("prune = true\n[[segment]]\nname = \"rack-2\"\n[[segment.host]]\nname = \"cmp-04\"\n");
        let begins =
            ["+ segment rack-2: ", "~ host cmp-04: segment rack-1 -> rack-2", "- host cmp-05", "- segment rack-1"];
        assert_eq!(moved.len(), begins.len(), "{moved:?}");
        for (told, begin) in moved.iter().zip(begins) {
            assert!(told.starts_with(begin), "{told:?}, wanted {begin:?}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused() {
        let segment = "[[segment]]\nname = \"a\"\n";
        for (text, says) in [
            ("".to_owned(), "missing field `segment`"),
            (format!("{segment}{segment}"), "names segment a twice"),
            (
                format!("{segment}[[segment.host]]\nname = \"x\"\n").repeat(2).replacen("\"a\"", "\"b\"", 1),
                "names host x twice",
            ),
            (format!("{segment}method = \"auto\""), "line 3: unknown field `method`"),
            (format!("{segment}recovery_method = \"AUTO\""), "line 3: unknown variant `AUTO`"),
            ("[[segment]]\nname = \" a\"".to_owned(), "line 2: it must neither begin nor end with a blank"),
            (
                format!("{segment}description = \"{}\"", "x".repeat(513)),
                "a: description: it has 513 bytes; at most 512",
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
