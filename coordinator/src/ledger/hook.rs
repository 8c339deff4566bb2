//! That a hook was begun, and how it ended: so that no later leader runs it again.

use rekindle_proto::fact::Text;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::LeadershipId;
use serde::{Deserialize, Serialize};

/// One hook of one incident, begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    /// When it is run.
    pub on: HookPoint,
    /// Its position in the configuration.
    pub hook: u8,
    /// Who began it, and alone may run it.
    pub author: LeadershipId,
    /// How it ended; `None`: not yet.
    pub end: Option<HookEnd>,
    /// In words.
    pub text: Text,
    /// An operator resumed the incident since: however it ended, it holds nothing.
    pub excused: bool,
}

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookEnd {
    /// Exit code 0.
    Done,
    /// Another exit code, a signal, its time-out, or it could not be run.
    Failed,
    /// Its leader is gone: it may have run, wholly, partly or not at all.
    Unknown,
}

impl HookRecord {
    /// Whether it is over, and not well.
    #[must_use]
    pub fn failed(&self) -> bool {
        match self.end {
            None | Some(HookEnd::Done) => false,
            Some(HookEnd::Failed | HookEnd::Unknown) => !self.excused,
        }
    }
}
