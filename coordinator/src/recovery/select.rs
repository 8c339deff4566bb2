//! Which servers of a dead host are recovered: the operator's rules, and the words of each server's owner.
//!
//! The first of these that says anything decides, and each *left behind* names what decided:
//!
//! 1. the server's own metadata `rekindle:exclude`;
//! 2. its state, if servers in `error` are to be left;
//! 3. the operator's rules, in their order: the first that fits includes or excludes it;
//! 4. the mode: everything, or only what is marked.
//!
//! What a rule needs and nobody has read yet makes a server *undecided*: it waits, and is never taken for "not excluded".

use std::collections::BTreeSet;
use std::fmt;

use rekindle_proto::fact::{NovaAggregate, NovaServer, Text};
use serde::{Deserialize, Serialize};

use super::glob;
use super::look::{Looked, Lookup};

/// Metadata key by which the owner of a server keeps it from being recovered.
pub const EXCLUDE_KEY: &str = "rekindle:exclude";

/// Metadata key that marks a server, if nothing else is configured: Masakari's `ha_enabled_instance_metadata_key`.
pub const MARK_DEFAULT: &str = "HA_Enabled";

/// Most rules: the first that fits decides, and so many can still be read by a person at night.
pub const RULES_MAX: usize = 64;

/// Most conditions of one rule, each pattern counted: an OpenStack object seldom has more properties.
pub const CONDITIONS_MAX: usize = 32;

/// Longest key or pattern, in characters: Nova's and Glance's own limit on metadata.
pub const WORD_CHARS_MAX: usize = 255;

/// `[recovery.select]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectPolicy {
    /// The metadata key that marks a server.
    pub mark: String,
    /// What becomes of a server about which no rule says anything.
    pub mode: SelectMode,
    /// Whether a server in `error` is recovered too.
    pub error_servers: bool,
    /// The first that fits decides. At most [`RULES_MAX`].
    pub rules: Vec<SelectRule>,
}

impl Default for SelectPolicy {
    fn default() -> Self {
        Self { mark: MARK_DEFAULT.to_owned(), mode: SelectMode::All, error_servers: true, rules: Vec::new() }
    }
}

/// What becomes of a server about which no rule says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectMode {
    /// It is recovered.
    All,
    /// It is recovered if it is marked.
    OnlyMarked,
}

/// One of the operator's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectRule {
    /// What it says about the servers it fits.
    pub action: SelectAction,
    /// Why there is such a rule, in the operator's words; may be empty.
    pub reason: String,
    /// It fits a server if all of these hold. Never empty; at most [`CONDITIONS_MAX`].
    pub conditions: Vec<Condition>,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectAction {
    /// Recover it.
    Include,
    /// Leave it behind.
    Exclude,
}

/// One condition: what it looks at fits one of the patterns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it looks at.
    pub about: About,
    /// Patterns with `*` and `?`; letter case is ignored. Any of them.
    pub patterns: Vec<String>,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum About {
    /// The server's name.
    ServerName,
    /// The id of its project.
    ProjectId,
    /// The name of its project, from Keystone.
    ProjectName,
    /// The name of its flavor.
    Flavor,
    /// One key of its metadata.
    Metadata(String),
    /// One extra spec of its flavor.
    ExtraSpec(String),
    /// One property of the image it was made from, from Glance.
    ImageProperty(String),
    /// The name of an aggregate that the dead host is in.
    Aggregate,
    /// One key of the metadata of such an aggregate.
    AggregateMetadata(String),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerName => f.write_str("server_name"),
            Self::ProjectId => f.write_str("project_id"),
            Self::ProjectName => f.write_str("project_name"),
            Self::Flavor => f.write_str("flavor"),
            Self::Metadata(key) => write!(f, "metadata {key:?}"),
            Self::ExtraSpec(key) => write!(f, "extra_spec {key:?}"),
            Self::ImageProperty(key) => write!(f, "image_property {key:?}"),
            Self::Aggregate => f.write_str("aggregate"),
            Self::AggregateMetadata(key) => write!(f, "aggregate_metadata {key:?}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} like {:?}", self.about, self.patterns.join("\" or \""))
    }
}

/// The keys that the selection, and rekindle's own words, look at: nothing else of a server's metadata, of a flavor's extra
/// specs, of an image's or an aggregate's properties is carried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectKeys {
    /// Of metadata, beside `rekindle:…`.
    pub metadata: BTreeSet<String>,
    /// Of extra specs.
    pub extra_specs: BTreeSet<String>,
    /// Of image properties.
    pub image: BTreeSet<String>,
    /// Of aggregates' metadata.
    pub aggregate: BTreeSet<String>,
}

impl SelectPolicy {
    /// The keys it looks at.
    #[must_use]
    pub fn keys(&self) -> SelectKeys {
        let mut keys = SelectKeys { metadata: [self.mark.clone()].into(), ..SelectKeys::default() };
        for condition in self.rules.iter().flat_map(|rule| &rule.conditions) {
            let (set, key) = match &condition.about {
                About::Metadata(key) => (&mut keys.metadata, key),
                About::ExtraSpec(key) => (&mut keys.extra_specs, key),
                About::ImageProperty(key) => (&mut keys.image, key),
                About::AggregateMetadata(key) => (&mut keys.aggregate, key),
                About::ServerName | About::ProjectId | About::ProjectName | About::Flavor | About::Aggregate => {
                    continue;
                }
            };
            set.insert(key.clone());
        }
        keys
    }

    /// Whether a server bears the mark.
    #[must_use]
    pub fn is_marked(&self, server: &NovaServer) -> bool {
        server.metadata.get(&self.mark).and_then(|word| truth(word.as_str())) == Some(true)
    }
}

/// What is to become of a server, as far as it is a matter of choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// It is recovered, if it can be.
    Recover,
    /// It is left behind, for this reason.
    LeaveBehind(Text),
    /// A rule cannot be tried yet.
    Undecided {
        /// What must be read; `None`: Nova's own list left it out.
        lookup: Option<Lookup>,
        /// Which rule, and what it lacks.
        why: Text,
    },
}

/// Chooses.
#[must_use]
pub fn choose(policy: &SelectPolicy, server: &NovaServer, looked: &Looked) -> Choice {
    if let Some(word) = server.metadata.get(EXCLUDE_KEY).filter(|word| truth(word.as_str()) == Some(true)) {
        return Choice::LeaveBehind(Text::new(format!("its own metadata {EXCLUDE_KEY} = {word}")));
    }
    if !policy.error_servers && server.vm_state.as_str() == "error" {
        return Choice::LeaveBehind("vm_state error: recovery.select.error_servers = \"leave\"".into());
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        let number = index + 1;
        match fits(rule, server, looked) {
            Fit::No => {}
            Fit::Yes => {
                return match rule.action {
                    SelectAction::Include => Choice::Recover,
                    SelectAction::Exclude => Choice::LeaveBehind(excluded_text(number, rule)),
                };
            }
            Fit::Untold(about) => {
                let why = format!("rule {number} of recovery.select needs {about}, and Nova does not tell it");
                return Choice::Undecided { lookup: None, why: Text::new(why) };
            }
            Fit::Unread(lookup) => {
                let why = Text::new(format!("rule {number} of recovery.select needs {lookup}"));
                return Choice::Undecided { lookup: Some(lookup), why };
            }
        }
    }
    match policy.mode {
        SelectMode::OnlyMarked if !policy.is_marked(server) => Choice::LeaveBehind(Text::new(format!(
            "not marked: recovery.select.mode = \"only-marked\", its metadata {} is not true, and no rule includes it",
            policy.mark
        ))),
        SelectMode::OnlyMarked | SelectMode::All => Choice::Recover,
    }
}

fn excluded_text(number: usize, rule: &SelectRule) -> Text {
    let conditions: Vec<String> = rule.conditions.iter().map(ToString::to_string).collect();
    let reason = if rule.reason.is_empty() { String::new() } else { format!(" ({})", rule.reason) };
    Text::new(format!("excluded by rule {number} of recovery.select{reason}: {}", conditions.join(", ")))
}

/// Words in a server's metadata that nobody can read, and what they were taken for.
#[must_use]
pub(super) fn misread(policy: &SelectPolicy, server: &NovaServer) -> Vec<Text> {
    let named = |key: &str, word: &Text, taken: &str| {
        Text::new(format!("{} ({}): metadata {key} = {word:?}: {taken}", server.name, server.id, word = word.as_str()))
    };
    let mut remarks = Vec::new();
    for (key, taken) in [
        (policy.mark.as_str(), "neither true nor false: taken for not marked"),
        (EXCLUDE_KEY, "neither true nor false: not excluded by it"),
    ] {
        if let Some(word) = server.metadata.get(key).filter(|word| truth(word.as_str()).is_none()) {
            remarks.push(named(key, word, taken));
        }
    }
    if let Some(word) = server.metadata.get(super::PRIORITY_KEY).filter(|word| super::order::priority(word).is_none()) {
        remarks.push(named(super::PRIORITY_KEY, word, "not a number from 0 to 100: taken for the default"));
    }
    remarks
}

/// Servers for which Nova names no image, if a rule looks at images: said once, not server by server.
#[must_use]
pub(super) fn imageless(policy: &SelectPolicy, servers: &[NovaServer]) -> Option<Text> {
    if policy.keys().image.is_empty() {
        return None;
    }
    let count = servers.iter().filter(|server| is_imageless(server)).count();
    (count > 0).then(|| {
        Text::new(format!(
            "{count} servers boot from a volume, and Nova names no image for them: rules about image properties do not fit them"
        ))
    })
}

fn is_imageless(server: &NovaServer) -> bool {
    server.traits.image.as_ref().is_some_and(|image| image.as_str().is_empty())
}

/// A word as Masakari and Nova read it (oslo.utils `bool_from_string`); `None`: neither.
fn truth(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" | "" => Some(false),
        _ => None,
    }
}

enum Fit {
    Yes,
    No,
    Untold(About),
    Unread(Lookup),
}

/// Whether all conditions hold. One that certainly does not decides, whatever has not been read for the others.
fn fits(rule: &SelectRule, server: &NovaServer, looked: &Looked) -> Fit {
    let mut unknown = None;
    for condition in &rule.conditions {
        match holds(condition, server, looked) {
            Fit::Yes => {}
            Fit::No => return Fit::No,
            fit @ (Fit::Untold(_) | Fit::Unread(_)) => unknown = unknown.or(Some(fit)),
        }
    }
    unknown.unwrap_or(Fit::Yes)
}

fn holds(condition: &Condition, server: &NovaServer, looked: &Looked) -> Fit {
    let fit = |word: &Text| condition.patterns.iter().any(|pattern| glob::fits(pattern, word.as_str()));
    let yes = |fits: bool| if fits { Fit::Yes } else { Fit::No };
    let told = |word: Option<&Text>| word.map_or_else(|| Fit::Untold(condition.about.clone()), |word| yes(fit(word)));
    let traits = &server.traits;
    match &condition.about {
        About::ServerName => yes(fit(&server.name)),
        About::Metadata(key) => yes(server.metadata.get(key).is_some_and(fit)),
        About::ProjectId => told(traits.project.as_ref()),
        About::Flavor => told(traits.flavor.as_ref()),
        About::ExtraSpec(key) => match &traits.extra_specs {
            None => Fit::Untold(condition.about.clone()),
            Some(specs) => yes(specs.get(key).is_some_and(fit)),
        },
        About::ProjectName => match &traits.project {
            None => Fit::Untold(condition.about.clone()),
            Some(id) => match looked.projects.get(id) {
                None => Fit::Unread(Lookup::Project(id.clone())),
                Some(name) => yes(name.as_ref().is_some_and(fit)),
            },
        },
        About::ImageProperty(key) => match &traits.image {
            None => Fit::Untold(condition.about.clone()),
            Some(_) if is_imageless(server) => Fit::No,
            Some(id) => match looked.images.get(id) {
                None => Fit::Unread(Lookup::Image(id.clone())),
                Some(properties) => yes(properties.as_ref().and_then(|all| all.get(key)).is_some_and(fit)),
            },
        },
        About::Aggregate => any_aggregate(looked, |aggregate| fit(&aggregate.name)),
        About::AggregateMetadata(key) => {
            any_aggregate(looked, |aggregate| aggregate.metadata.get(key).is_some_and(fit))
        }
    }
}

fn any_aggregate(looked: &Looked, fits: impl Fn(&NovaAggregate) -> bool) -> Fit {
    match &looked.aggregates {
        None => Fit::Unread(Lookup::Aggregates),
        Some(all) if all.iter().any(fits) => Fit::Yes,
        Some(_) => Fit::No,
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
