//! What a refusal says, and how serde's and TOML's complaints are put into the same words.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_path_to_error::Segment;

use super::file::File;

/// Why a configuration was not taken. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not ours to read.
    #[error("{}: cannot be read", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No configuration is that long.
    #[error("{}: has {bytes} bytes; at most {} are read", file.display(), super::CONFIG_BYTES_MAX)]
    TooLong {
        /// Which file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not TOML. The offending line is named, not shown: it may hold a secret.
    #[error("{}: line {line}: is not TOML: {message}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// It breaks at least one rule.
    #[error("{}", list(file, refusals))]
    Refused {
        /// Which file.
        file: PathBuf,
        /// Every broken rule.
        refusals: Vec<Refusal>,
    },
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key, in full: `detection.probe_ack`, `fence_device[2].level`.
    pub key: String,
    /// Its value as written, unless it is missing, unknown, or might be a secret.
    pub value: Option<String>,
    /// The rule, with the figures of what it is related to.
    pub rule: String,
    /// Why there is such a rule, or what to do.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " {}\n  {}", self.rule, self.reason)
    }
}

/// Reads the text into the file's shape, and into a plain table in which values can be looked up for refusals.
pub(super) fn read(text: &str, path: &Path) -> Result<(File, toml::Table), ConfigError> {
    let syntax = |error: &toml::de::Error| ConfigError::Syntax {
        file: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: error.message().to_owned(),
    };
    let table: toml::Table = text.parse().map_err(|error| syntax(&error))?;
    let deserializer = toml::Deserializer::parse(text).map_err(|error| syntax(&error))?;
    match serde_path_to_error::deserialize(deserializer) {
        Ok(file) => Ok((file, table)),
        Err(error) => {
            let refusal = translate(&table, error.path(), error.inner().message());
            Err(ConfigError::Refused { file: path.to_owned(), refusals: vec![refusal] })
        }
    }
}

/// The value at a key such as `fence_device[2].level`, as it would be written.
pub(super) fn written(table: &toml::Table, key: &str) -> Option<String> {
    value_at(table, key).filter(|value| !value.is_table()).map(ToString::to_string)
}

/// The value at such a key.
pub(super) fn value_at<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    let mut value: Option<&'a toml::Value> = None;
    for part in key.split('.') {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, Some(index.parse::<usize>().ok()?.checked_sub(1)?)),
            None => (part, None),
        };
        let found = match value {
            None => table.get(name),
            Some(inner) => inner.get(name),
        }?;
        value = Some(match index {
            Some(index) => found.get(index)?,
            None => found,
        });
    }
    value
}

/// Whether a key sounds as if its value were a secret.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "passphrase", "credential"].iter().any(|word| key.contains(word))
        && !key.ends_with("_file")
}

fn translate(table: &toml::Table, path: &serde_path_to_error::Path, message: &str) -> Refusal {
    let mut key = joined(path);
    if let Some(field) = between_backticks(message).filter(|_| message.starts_with("missing field")) {
        let key = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
        let reason = "it has no safe default; docs/configuration.md says what belongs here".to_owned();
        return Refusal { key, value: None, rule: "is missing".to_owned(), reason };
    }
    if let Some(field) = between_backticks(message).filter(|_| message.starts_with("unknown field")) {
        if !(key == field || key.ends_with(&format!(".{field}"))) {
            key = if key.is_empty() { field.to_owned() } else { format!("{key}.{field}") };
        }
        if sounds_secret(field) {
            let rule = "must not be in this file".to_owned();
            let reason = "a secret lies in a file of its own, mode 0600, which password_file (fence_device) or \
                          clouds_file (nova) names"
                .to_owned();
            return Refusal { key, value: None, rule, reason };
        }
        let known = message.split_once(", ").map_or("", |(_, known)| known).replace('`', "");
        let reason = format!("a misspelt key would leave its default in force unnoticed; {known}");
        return Refusal { key, value: None, rule: "is not a key we know".to_owned(), reason };
    }
    let value = if sounds_secret(&key) { None } else { written(table, &key) };
    let reason = "docs/configuration.md says what belongs here".to_owned();
    Refusal { key, value, rule: format!("is not understood: {}", message.replace('`', "")), reason }
}

/// `fence_device[2].level`, counting entries from 1 as people do.
fn joined(path: &serde_path_to_error::Path) -> String {
    let mut key = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => key.push_str(&format!("[{}]", index + 1)),
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                if !key.is_empty() {
                    key.push('.');
                }
                key.push_str(name);
            }
            Segment::Unknown => {}
        }
    }
    key
}

fn between_backticks(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn list(file: &Path, refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(|refusal| format!("{}: {refusal}", file.display())).collect();
    lines.join("\n")
}
