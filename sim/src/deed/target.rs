//! Whom a deed befalls: hosts by name, or by what they are at that moment.

use std::fmt;
use std::str::FromStr;

use rekindle_proto::id::HostName;
use serde::{Deserialize, Serialize};

/// Whom a deed befalls. Said as one string or as a list of strings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Targets(pub Vec<Target>);

/// One string or several.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a target such as \"cmp-05\", or a list of them")]
enum OneOrMany {
    One(Target),
    Many(Vec<Target>),
}

/// One word for hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// `cmp-05` or `wit-1`, or a member's own name: that one.
    Host(String),
    /// `cmp-01..cmp-20`: these, both ends included.
    Range(String, String),
    /// `rack-2`: every host of that failure domain.
    Domain(u16),
    /// `leader`: who leads at that moment; nobody if nobody does.
    Leader,
    /// `follower`: the first voter that does not lead and lives.
    Follower,
    /// `followers`: every voter that does not lead.
    Followers,
    /// `voters`: every voter.
    Voters,
    /// `hosts`: every hypervisor.
    Hosts,
    /// `witnesses`: every witness.
    Witnesses,
    /// `all`: every hypervisor and witness.
    All,
    /// `it`: the host whose incident reached the phase that the event waits for.
    It,
    /// `destination`: the first host on which a server of `it` is being rebuilt.
    Destination,
    /// `healthy`: the first hypervisor that lives, neither leads nor votes, and has no incident.
    Healthy,
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names nobody: a host (\"cmp-05\", \"wit-1\"), a range (\"cmp-01..cmp-20\"), a domain (\"rack-2\"), or one of leader, \
     follower, followers, voters, hosts, witnesses, all, it, destination, healthy"
)]
pub struct TargetError(String);

impl Targets {
    /// Whether any of them is about the host of a phase.
    #[must_use]
    pub fn needs_it(&self) -> bool {
        self.0.iter().any(|target| matches!(target, Target::It | Target::Destination))
    }

    /// One host by name.
    #[must_use]
    pub fn host(name: impl Into<String>) -> Self {
        Self(vec![Target::Host(name.into())])
    }

    /// One word.
    #[must_use]
    pub fn one(target: Target) -> Self {
        Self(vec![target])
    }

    /// Maps hypervisors beyond the end of a smaller cluster into it.
    pub(crate) fn confine(&mut self, hosts: usize) {
        let inside = |name: &str| match number(name, "cmp-") {
            Some(number) if number > hosts => format!("cmp-{:02}", 1 + (number - 1) % hosts),
            _ => name.to_owned(),
        };
        for target in &mut self.0 {
            match target {
                Target::Host(name) => *name = inside(name),
                Target::Range(first, last) => {
                    if let Some(end) = number(last, "cmp-").filter(|number| *number > hosts) {
                        let start = number(first, "cmp-").unwrap_or(1);
                        *first = format!("cmp-{:02}", start.saturating_sub(end - hosts).max(1));
                        *last = format!("cmp-{hosts:02}");
                    }
                }
                Target::Domain(_)
                | Target::Leader
                | Target::Follower
                | Target::Followers
                | Target::Voters
                | Target::Hosts
                | Target::Witnesses
                | Target::All
                | Target::It
                | Target::Destination
                | Target::Healthy => {}
            }
        }
    }

    /// Words in it that name nobody, given who there is and how many domains there are.
    #[must_use]
    pub fn strangers(&self, known: impl Fn(&str) -> bool, domains: usize) -> Vec<String> {
        let mut strangers = Vec::new();
        for target in &self.0 {
            match target {
                Target::Host(name) if !known(name) => strangers.push(name.clone()),
                Target::Range(first, last) => {
                    strangers.extend([first, last].into_iter().filter(|name| !known(name)).cloned());
                }
                Target::Domain(number) if *number == 0 || usize::from(*number) > domains => {
                    strangers.push(format!("rack-{number}"));
                }
                Target::Host(_)
                | Target::Domain(_)
                | Target::Leader
                | Target::Follower
                | Target::Followers
                | Target::Voters
                | Target::Hosts
                | Target::Witnesses
                | Target::All
                | Target::It
                | Target::Destination
                | Target::Healthy => {}
            }
        }
        strangers
    }
}

/// The number in `cmp-05`, given `cmp-`.
pub(crate) fn number(name: &str, prefix: &str) -> Option<usize> {
    let digits = name.strip_prefix(prefix)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl From<OneOrMany> for Targets {
    fn from(value: OneOrMany) -> Self {
        match value {
            OneOrMany::One(one) => Self(vec![one]),
            OneOrMany::Many(many) => Self(many),
        }
    }
}

impl From<Targets> for OneOrMany {
    fn from(targets: Targets) -> Self {
        let mut targets = targets.0;
        match (targets.len(), targets.pop()) {
            (1, Some(one)) => Self::One(one),
            (_, None) => Self::Many(targets),
            (_, Some(last)) => {
                targets.push(last);
                Self::Many(targets)
            }
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let refused = || TargetError(text.to_owned());
        Ok(match text {
            "leader" => Self::Leader,
            "follower" => Self::Follower,
            "followers" => Self::Followers,
            "voters" => Self::Voters,
            "hosts" => Self::Hosts,
            "witnesses" => Self::Witnesses,
            "all" => Self::All,
            "it" => Self::It,
            "destination" => Self::Destination,
            "healthy" => Self::Healthy,
            _ => {
                if let Some((first, last)) = text.split_once("..") {
                    let run = |prefix| Some(number(first, prefix)? <= number(last, prefix)?);
                    if !run("cmp-").or_else(|| run("wit-")).unwrap_or(false) {
                        return Err(refused());
                    }
                    Self::Range(first.to_owned(), last.to_owned())
                } else if let Some(domain) = number(text, "rack-") {
                    Self::Domain(u16::try_from(domain).map_err(|_| refused())?)
                } else {
                    HostName::new(text).map_err(|_| refused())?;
                    Self::Host(text.to_owned())
                }
            }
        })
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Range(first, last) => write!(f, "{first}..{last}"),
            Self::Domain(number) => write!(f, "rack-{number}"),
            Self::Leader => f.write_str("leader"),
            Self::Follower => f.write_str("follower"),
            Self::Followers => f.write_str("followers"),
            Self::Voters => f.write_str("voters"),
            Self::Hosts => f.write_str("hosts"),
            Self::Witnesses => f.write_str("witnesses"),
            Self::All => f.write_str("all"),
            Self::It => f.write_str("it"),
            Self::Destination => f.write_str("destination"),
            Self::Healthy => f.write_str("healthy"),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for text in ["cmp-05", "wit-1", "cmp-01..cmp-20", "cmp-99..cmp-128", "rack-2", "it", "all"] {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
        }
        for text in ["", "no body", "cmp-03..cmp-01", "cmp-01..", "cmp-01..wit-1", "a..b", "rack-99999"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn strangers_are_found() {
        let targets = |text: &[&str]| Targets(text.iter().map(|text| text.parse().expect("legal")).collect());
        let known = |name: &str| ["cmp-01", "cmp-05", "wit-1"].contains(&name);
        assert!(targets(&["cmp-05", "wit-1", "rack-2", "leader", "cmp-01..cmp-05"]).strangers(known, 2).is_empty());
        for text in ["cmp-06", "wit-2", "rack-3", "rack-0", "Leader"] {
            assert_eq!(targets(&[text]).strangers(known, 2), [text]);
        }
    }

    #[test]
    fn a_smaller_cluster_has_room_for_all() {
        for (text, hosts, inside) in [
            ("cmp-09", 3, "cmp-03"),
            ("cmp-07", 3, "cmp-01"),
            ("cmp-02", 3, "cmp-02"),
            ("cmp-05..cmp-09", 6, "cmp-02..cmp-06"),
        ] {
            let mut targets = Targets(vec![text.parse().expect("legal")]);
            targets.confine(hosts);
            assert_eq!(targets.to_string(), inside, "{text}");
        }
    }
}
