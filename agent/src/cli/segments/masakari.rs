//! `rekindle apply --from-masakari`: a running Masakari's segments as the text of a file. What is applied is what such a
//! file would apply, and what is printed can be kept, changed, and applied later.

use std::path::Path;

use rekindle_proto::segment::SERVICE_TYPE_DEFAULT;
use serde::Serialize;

use super::super::{Exit, Failure};
use crate::config::Config;
use crate::nova::{MasakariSegment, Nova};

/// Reads the Masakari of the cloud that the daemon's configuration names.
pub(super) async fn read(config: &Path) -> Result<String, Failure> {
    let config = Config::load(config).map_err(|error| Failure::here(&error))?;
    let Some(settings) = config.nova else {
        let text = "the configuration has no [nova]: it is where the cloud and its credentials are named";
        return Err(Failure::new(Exit::Refused, text));
    };
    let nova = Nova::open(settings).map_err(|error| Failure::here(&error))?;
    let segments = nova.masakari_segments().await.map_err(|error| Failure::here(&error))?;
    text(&segments).map_err(|error| Failure::here(&error))
}

#[derive(Serialize)]
struct File<'a> {
    segment: Vec<Segment<'a>>,
}

#[derive(Serialize)]
struct Segment<'a> {
    name: &'a str,
    recovery_method: &'a str,
    service_type: &'a str,
    description: &'a str,
    enabled: bool,
    host: Vec<Host<'a>>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
    reserved: bool,
    #[serde(rename = "type")]
    kind: &'a str,
    control_attributes: &'a str,
}

impl<'a> Segment<'a> {
    fn of(from: &'a MasakariSegment) -> Self {
        let host = from.hosts.iter().map(|host| Host {
            name: &host.name,
            reserved: host.reserved,
            kind: host.kind.as_deref().unwrap_or(SERVICE_TYPE_DEFAULT),
            control_attributes: host.control_attributes.as_deref().unwrap_or_default(),
        });
        Self {
            name: &from.name,
            recovery_method: &from.recovery_method,
            service_type: &from.service_type,
            description: from.description.as_deref().unwrap_or_default(),
            enabled: from.enabled,
            host: host.collect(),
        }
    }
}

/// The file. What Masakari calls under maintenance is a remark in it: Masakari sets that itself after every failure, and
/// only a person knows whether it is still meant.
fn text(segments: &[MasakariSegment]) -> Result<String, toml::ser::Error> {
    let mut sorted: Vec<&MasakariSegment> = segments.iter().collect();
    sorted.sort_by_key(|segment| &segment.name);
    let file = File { segment: sorted.iter().map(|segment| Segment::of(segment)).collect() };
    let mut text = "# From Masakari. Left out: prune = true, which would remove what is not named here.\n".to_owned();
    for host in sorted.iter().flat_map(|segment| &segment.hosts).filter(|host| host.on_maintenance) {
        let name = host.name.escape_default();
        text.push_str(&format!("# {name} is on_maintenance there; if that is meant: rekindle maintenance on {name}\n"));
    }
    text.push('\n');
    text.push_str(&toml::to_string(&file)?);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;
    use crate::cli::samples;
    use serde_json::json;

    fn rack(method: &str, reserved: bool) -> MasakariSegment {
        let mut rack: MasakariSegment = serde_json::from_value(json!({
            "id": 1, "uuid": "5fd9f925-0379-40db-a7f8-786a0b655b2a", "name": "rack-1", "service_type": "COMPUTE",
            "enabled": true, "description": "feed A", "recovery_method": method, "deleted": false,
        }))
        .expect("a segment");
        let host = |name: &str, reserved: bool, on_maintenance: bool| {
            serde_json::from_value(json!({"id": 1, "name": name, "type": "COMPUTE", "reserved": reserved,
                "control_attributes": "SSH", "on_maintenance": on_maintenance}))
            .expect("a host")
        };
        rack.hosts = vec![host("cmp-04", false, true), host("cmp-05", reserved, false)];
        rack
    }

    fn changes(segments: &[MasakariSegment]) -> Vec<String> {
        let text = text(segments).expect("a file");
        let wanted = file::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        file::difference(&wanted, &samples::segments()).into_iter().map(|change| change.text).collect()
    }

    /// The same plan as of a file that says the same.
    #[test]
    fn what_masakari_says_is_applied_like_a_file() {
        assert_eq!(changes(&[rack("rh_priority", true)]), Vec::<String>::new());
        assert_eq!(changes(&[rack("rh_priority", false)]), ["~ host cmp-05: reserved \"true\" -> \"false\""]);
        assert_eq!(changes(&[rack("auto", true)]), ["~ segment rack-1: recovery_method \"rh_priority\" -> \"auto\""]);
        let text = text(&[rack("rh_priority", true)]).expect("a file");
        assert!(text.contains("# cmp-04 is on_maintenance there"), "{text}");
    }

    /// What Masakari holds and we do not take is refused like a wrong file.
    #[test]
    fn an_unknown_method_is_refused() {
        let text = text(&[rack("by_magic", true)]).expect("a file");
        assert!(file::parse(&text).expect_err("refused").contains("by_magic"));
    }
}
