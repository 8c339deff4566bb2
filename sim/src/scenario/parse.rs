//! From a file's text to a scenario, or to a refusal that says which thing, which value, and which rule.

use serde::{Deserialize, Deserializer};

use super::{Event, Expect, Scenario, Trigger, WhenPhase};
use crate::deed::{Deed, Span};

/// Longest scenario text, in bytes: a thousand events with long words.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// A text that is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not of this format.
    #[error("{0}")]
    Text(String),
    /// Well-formed, and against a rule.
    #[error("{thing} = {value}: {rule}")]
    Rule {
        /// Which thing.
        thing: String,
        /// Its value.
        value: String,
        /// The rule, and what to write instead.
        rule: String,
    },
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] about the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ScenarioError::Rule {
                thing: "length of the file".to_owned(),
                value: format!("{} bytes", text.len()),
                rule: format!("a scenario has at most {TEXT_BYTES_MAX}"),
            });
        }
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::Text(error.to_string().trim_end().to_owned()))?;
        scenario.validate()?;
        Ok(scenario)
    }

    /// Writes it as a file. What is read back is equal.
    ///
    /// # Errors
    /// [`ScenarioError::Text`] for a scenario that TOML cannot say; none that was read or generated is such.
    pub fn to_toml(&self) -> Result<String, ScenarioError> {
        toml::to_string_pretty(self).map_err(|error| ScenarioError::Text(error.to_string()))
    }
}

/// Events: the time and the deed share one table, and an unknown key is refused in either.
pub(super) fn events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Event>, D::Error> {
    let tables = Vec::<toml::Table>::deserialize(deserializer)?;
    let numbered = tables.into_iter().enumerate();
    numbered
        .map(|(index, table)| {
            let word = table.get("do").map_or_else(String::new, |word| format!(" ({word})"));
            event(table)
                .map_err(|error| serde::de::Error::custom(format!("event {}{word}: {}", index + 1, error.trim_end())))
        })
        .collect()
}

/// Claims, each refused by its number.
pub(super) fn expects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Expect>, D::Error> {
    let tables = Vec::<toml::Table>::deserialize(deserializer)?;
    let numbered = tables.into_iter().enumerate();
    numbered
        .map(|(index, table)| {
            Expect::deserialize(table).map_err(|error| {
                serde::de::Error::custom(format!("expect {}: {}", index + 1, error.to_string().trim_end()))
            })
        })
        .collect()
}

fn event(mut table: toml::Table) -> Result<Event, String> {
    let text = |error: toml::de::Error| error.to_string();
    let lasts = table.remove("for").map(Span::deserialize).transpose().map_err(|error| format!("for: {error}"))?;
    let at = table.remove("at");
    let mut phase = toml::Table::new();
    for key in ["when", "of", "after", "every"] {
        if let Some(value) = table.remove(key) {
            phase.insert(key.to_owned(), value);
        }
    }
    let trigger = match (at, phase.is_empty()) {
        (Some(at), true) => Trigger::At { at: Span::deserialize(at).map_err(|error| format!("at: {error}"))? },
        (None, false) => Trigger::When(WhenPhase::deserialize(phase).map_err(text)?),
        (Some(_), false) => {
            return Err("it has both `at` and `when` (or `of`, `after`, `every`): one of them".to_owned());
        }
        (None, true) => return Err("it has no time: `at = \"30s\"`, or `when = \"fencing\"`".to_owned()),
    };
    let deed = Deed::deserialize(table).map_err(text)?;
    Ok(Event { trigger, lasts, deed })
}
