//! Segments: groups of hosts with a recovery method, as Masakari has them. The words of orders, and the document behind
//! `rekindle segment`. Field names of the document are Masakari's where it has one; they are added to, never renamed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::fact::{TEXT_BYTES_MAX, Text};
use crate::id::{AggregateId, HostName, IncidentId, SegmentHostId, SegmentId};

/// Longest name, in characters: Masakari's own.
pub const SEGMENT_WORD_CHARS_MAX: usize = 255;

/// What a segment's or a host's `type` is if nobody says: Masakari's convention, which nothing reads.
pub const SERVICE_TYPE_DEFAULT: &str = "COMPUTE";

/// A segment's name, or its service type: 1 to 255 printable characters without a blank at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentWord(String);

/// Why a word of a segment is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentWordError {
    /// Nothing there.
    #[error("it must not be empty")]
    Empty,
    /// Too long.
    #[error("it has {length}; at most {max} are allowed")]
    TooLong {
        /// Its length, with its unit.
        length: String,
        /// The bound, in the same unit.
        max: usize,
    },
    /// Tabs, line ends, escapes.
    #[error("it may hold printable characters only")]
    Unprintable,
    /// Invisible, and two names that look the same.
    #[error("it must neither begin nor end with a blank")]
    Blank,
    /// None of the four.
    #[error("{word:?} is none of auto, reserved_host, auto_priority, rh_priority")]
    Method {
        /// What was said.
        word: String,
    },
}

impl SegmentWord {
    /// Takes a name.
    ///
    /// # Errors
    /// [`SegmentWordError`] naming the rule broken.
    pub fn new(word: &str) -> Result<Self, SegmentWordError> {
        let chars = word.chars().count();
        if chars == 0 {
            return Err(SegmentWordError::Empty);
        }
        if chars > SEGMENT_WORD_CHARS_MAX {
            return Err(SegmentWordError::TooLong {
                length: format!("{chars} characters"),
                max: SEGMENT_WORD_CHARS_MAX,
            });
        }
        if word.chars().any(char::is_control) {
            return Err(SegmentWordError::Unprintable);
        }
        if word.trim() != word {
            return Err(SegmentWordError::Blank);
        }
        Ok(Self(word.to_owned()))
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SegmentWord {
    type Error = SegmentWordError;
    fn try_from(word: String) -> Result<Self, SegmentWordError> {
        Self::new(&word)
    }
}

impl From<SegmentWord> for String {
    fn from(word: SegmentWord) -> Self {
        word.0
    }
}

impl FromStr for SegmentWord {
    type Err = SegmentWordError;
    fn from_str(word: &str) -> Result<Self, SegmentWordError> {
        Self::new(word)
    }
}

impl fmt::Display for SegmentWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Free words about a segment or a host; may be empty, and may have several lines. Refused where a [`Text`] would be cut:
/// what is kept must be what was said.
///
/// # Errors
/// [`SegmentWordError`] naming the rule broken.
pub fn free_words(words: &str) -> Result<Text, SegmentWordError> {
    if words.len() > TEXT_BYTES_MAX {
        return Err(SegmentWordError::TooLong { length: format!("{} bytes", words.len()), max: TEXT_BYTES_MAX });
    }
    if words.chars().any(|c| c.is_control() && c != '\n') {
        return Err(SegmentWordError::Unprintable);
    }
    Ok(Text::new(words))
}

/// Where the servers of a failed host go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMethod {
    /// Nova's scheduler chooses.
    #[default]
    Auto,
    /// To a reserved host of the segment.
    ReservedHost,
    /// As [`RecoveryMethod::Auto`]; if that fails, to a reserved host.
    AutoPriority,
    /// To a reserved host; if that fails, as [`RecoveryMethod::Auto`].
    RhPriority,
}

impl RecoveryMethod {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::ReservedHost, Self::AutoPriority, Self::RhPriority];

    /// Masakari's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ReservedHost => "reserved_host",
            Self::AutoPriority => "auto_priority",
            Self::RhPriority => "rh_priority",
        }
    }
}

impl fmt::Display for RecoveryMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RecoveryMethod {
    type Err = SegmentWordError;
    fn from_str(word: &str) -> Result<Self, SegmentWordError> {
        let known = Self::ALL.into_iter().find(|method| method.as_str() == word);
        known.ok_or_else(|| SegmentWordError::Method { word: word.to_owned() })
    }
}

/// By which method an incident's servers find their hosts, and the reserved hosts taken for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReserveDoc {
    /// By its host's segment.
    pub recovery_method: RecoveryMethod,
    /// Those taken, oldest first.
    pub hosts: Vec<ReservedHostDoc>,
}

/// A reserved host that an incident has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedHostDoc {
    /// Which.
    pub host: HostName,
    /// `taken`, `returned` (it received nothing, and is reserved again), `lost` (it died, or its compute service did).
    pub state: Text,
    /// Servers that have arrived there.
    pub received: u32,
    /// Whether its compute service was enabled by us.
    pub enabled_by_us: bool,
    /// Why it was lost; else empty.
    pub text: Text,
    /// Aggregates of the dead host that it was to join; empty, unless that is configured.
    #[serde(default)]
    pub aggregates: Vec<JoinedAggregateDoc>,
}

/// An aggregate of Nova that a reserved host was to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedAggregateDoc {
    /// Nova's number of it.
    pub id: AggregateId,
    /// Its name then.
    pub name: Text,
    /// `adding`, `added`, `not ours` (somebody else had added it by then), `refused`, `left`, `stays` (Nova did not take it out).
    pub state: Text,
    /// Why it was refused, or stays; else empty.
    pub text: Text,
}

/// All segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsDoc {
    /// Who made this document.
    pub told_by: HostName,
    /// Sorted by name.
    pub segments: Vec<SegmentDoc>,
    /// Hypervisors in no segment, sorted: they are recovered as with `auto`.
    pub unassigned: Vec<HostName>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDoc {
    /// Never reused.
    pub uuid: SegmentId,
    /// Unique.
    pub name: SegmentWord,
    /// Where servers go.
    pub recovery_method: RecoveryMethod,
    /// Kept for Masakari's clients; nothing reads it.
    pub service_type: SegmentWord,
    /// For people; may be empty.
    pub description: Text,
    /// Whether its hosts are recovered at all.
    pub enabled: bool,
    /// The incident of one of its hosts that forbids to change it now.
    pub in_use_by: Option<IncidentId>,
    /// Sorted by name.
    pub hosts: Vec<SegmentHostDoc>,
}

/// One host of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHostDoc {
    /// Of this host in this segment: another after it was taken out and put in again.
    pub uuid: SegmentHostId,
    /// As Nova names its service host.
    pub name: HostName,
    /// Kept for Masakari's clients; nothing reads it.
    #[serde(rename = "type")]
    pub kind: SegmentWord,
    /// Kept for Masakari's clients; nothing reads it, and it is no place for a password.
    pub control_attributes: Text,
    /// Kept free for the servers of others.
    pub reserved: bool,
    /// In maintenance: never acted upon.
    pub on_maintenance: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_refused_with_the_rule() {
        for (word, says) in [
            ("", "must not be empty"),
            (" a", "neither begin nor end"),
            ("a ", "neither begin nor end"),
            ("a\nb", "printable"),
            ("a\u{1b}[2Jb", "printable"),
            (&"x".repeat(256), "it has 256 characters; at most 255"),
        ] {
            let refusal = SegmentWord::new(word).expect_err(word).to_string();
            assert!(refusal.contains(says), "{word:?}: {refusal}");
            assert!(serde_json::from_value::<SegmentWord>(word.into()).is_err(), "a decoder refuses it too: {word:?}");
        }
        assert_eq!(SegmentWord::new(&"ü".repeat(255)).expect("255 characters").as_str().len(), 510);
        assert_eq!(free_words("two\nlines").expect("taken").as_str(), "two\nlines");
        assert!(free_words(&"x".repeat(TEXT_BYTES_MAX)).is_ok());
        assert!(free_words(&"x".repeat(TEXT_BYTES_MAX + 1)).is_err(), "it would be cut");
        assert!(free_words("\u{1b}").is_err());
    }

    #[test]
    fn methods_have_masakaris_words() {
        for method in RecoveryMethod::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
            assert_eq!(serde_json::to_value(method).expect("encodes"), method.as_str());
        }
        assert!("AUTO".parse::<RecoveryMethod>().is_err());
    }
}
