//! The file of `rekindle init --roster`: who belongs to the cluster.

use std::collections::BTreeSet;
use std::path::Path;

use rekindle_coordinator::ledger::ROSTER_MAX;
use rekindle_proto::fact::RosterEntry;
use serde::Deserialize;

use super::{Exit, Failure};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterFile {
    host: Vec<RosterEntry>,
}

/// Reads and checks a roster.
///
/// # Errors
/// [`Failure`] naming the file, the entry and the rule.
pub(super) fn read(path: &Path) -> Result<Vec<RosterEntry>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| refused(path, &format!("cannot be read: {error}")))?;
    parse(&text).map_err(|rule| refused(path, &rule))
}

fn parse(text: &str) -> Result<Vec<RosterEntry>, String> {
    let file: RosterFile = toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    if file.host.is_empty() || file.host.len() > ROSTER_MAX {
        return Err(format!("names {} hosts; it must be 1 to {ROSTER_MAX}", file.host.len()));
    }
    let mut seen = BTreeSet::new();
    for entry in &file.host {
        if !seen.insert(&entry.host) {
            return Err(format!("names {} twice; a host counts once", entry.host));
        }
    }
    Ok(file.host)
}

fn refused(path: &Path, rule: &str) -> Failure {
    Failure::new(Exit::Refused, format!("{}: {rule}", path.display()))
}

#[cfg(test)]
mod tests {
    use rekindle_proto::fact::MemberRole;

    use super::*;

    #[test]
    fn a_roster_is_read() {
        let text = "[[host]]\nhost = \"cmp-01\"\ndomain = \"rack-1\"\n[[host]]\nhost = \"wit-1\"\nrole = \"witness\"\n";
        let roster = parse(text).expect("taken");
        assert_eq!(roster[0].role, MemberRole::Member);
        assert_eq!(roster[0].domain.as_ref().map(ToString::to_string).as_deref(), Some("rack-1"));
        assert_eq!(roster[1].role, MemberRole::Witness);
    }

    #[test]
    fn a_wrong_roster_is_refused() {
        for (text, says) in [
            ("", "missing field"),
            ("host = []", "names 0 hosts"),
            ("[[host]]\nhost = \"a\"\n[[host]]\nhost = \"a\"", "names a twice"),
            ("[[host]]\nhost = \"a\"\nrack = \"b\"", "line 3: unknown field"),
            ("[[host]]\nhost = \"a b\"", "line 2: host name"),
            ("[[host]]\nhost = \"a\"\nrole = \"voter\"", "unknown variant"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
