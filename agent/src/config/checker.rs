//! What every rule needs: values within bounds, and refusals collected while the rest goes on being checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::refusal::{Refusal, value_at, written};

/// Collects refusals while the rest goes on being checked.
pub(super) struct Checker {
    table: toml::Table,
    pub(super) refusals: Vec<Refusal>,
    base: PathBuf,
}

impl Checker {
    /// For a file in `base`, and its table as read.
    pub(super) fn new(table: toml::Table, base: PathBuf) -> Self {
        Self { table, refusals: Vec::new(), base }
    }

    /// Notes a refusal, with the key's value as written.
    pub(super) fn refuse(&mut self, key: &str, rule: impl Into<String>, reason: impl Into<String>) {
        let value = written(&self.table, key);
        self.refusals.push(Refusal { key: key.to_owned(), value, rule: rule.into(), reason: reason.into() });
    }

    /// The same without the value: it may hold a secret.
    pub(super) fn refuse_unshown(&mut self, key: &str, rule: impl Into<String>, reason: impl Into<String>) {
        self.refusals.push(Refusal { key: key.to_owned(), value: None, rule: rule.into(), reason: reason.into() });
    }

    /// Notes that a key is not there which must be.
    pub(super) fn missing(&mut self, key: &str, reason: &str) {
        self.refuse(key, "is missing", reason);
    }

    /// The keys that stand in a table of the file.
    pub(super) fn keys(&self, table: &str) -> Vec<String> {
        let found = value_at(&self.table, table).and_then(toml::Value::as_table);
        found.into_iter().flat_map(|table| table.keys().cloned()).collect()
    }

    /// A relative path is taken from the file's own directory.
    pub(super) fn path(&mut self, key: &str, given: &str) -> PathBuf {
        if given.is_empty() {
            self.refuse(key, "must not be empty", "it names a file or directory");
        }
        self.base.join(given)
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &str, given: Option<i64>, default: u32, bounds: (u32, u32), why: &str) -> u32 {
        let Some(given) = given else { return default };
        match u32::try_from(given) {
            Ok(number) if (bounds.0..=bounds.1).contains(&number) => number,
            Ok(_) | Err(_) => {
                self.refuse(key, format!("must be {} to {}", bounds.0, bounds.1), why);
                default
            }
        }
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        given: Option<&str>,
        default: Duration,
        bounds: (Duration, Duration),
        why: &str,
    ) -> Duration {
        let Some(given) = given else { return default };
        let parsed = given.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let Some(duration) = parsed else {
            self.refuse(key, "is not a duration", "write a number and its unit: \"500ms\", \"2s\", \"1m 30s\"");
            return default;
        };
        if duration < bounds.0 || duration > bounds.1 {
            self.refuse(key, format!("must be {} to {}", shown(bounds.0), shown(bounds.1)), why);
            return default;
        }
        duration
    }

    pub(super) fn address(&mut self, key: &str, given: &str) -> Option<SocketAddr> {
        match given.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                self.refuse(key, "must have a port other than 0", "others must know where to find it");
                None
            }
            Ok(address) => Some(address),
            Err(_) => {
                self.refuse(key, "must be address:port", "\"10.20.0.15:7946\" or \"[fd00::15]:7946\"; names change");
                None
            }
        }
    }
}

/// A duration as it would be written.
pub(super) fn shown(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("\"{}s\"", duration.as_secs())
    } else {
        format!("\"{}ms\"", duration.as_millis())
    }
}
