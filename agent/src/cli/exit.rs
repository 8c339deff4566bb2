//! Exit codes: for scripts and monitoring, so they never change their meaning.

use rekindle_proto::admin::AdminErrorKind;
use rekindle_proto::status::{Phase, StatusDoc};

use crate::admin::AdminClientError;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; of `status`: calm.
    Done,
    /// Refused, or the answer is no; of `status`: an incident, or a host that is not alive.
    Refused,
    /// Wrong usage; of `status`: not quorate, or stuck.
    Usage,
    /// No daemon, or no leader: nothing was done.
    NoDaemon,
    /// An order was given and no answer came: it may yet be committed.
    Unknown,
}

impl Exit {
    /// As the shell sees it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::NoDaemon => 3,
            Self::Unknown => 4,
        }
    }

    /// Of `status`.
    #[must_use]
    pub fn of_status(status: &StatusDoc) -> Self {
        let stuck = status.incidents.iter().any(|incident| incident.line.phase == Phase::Stuck);
        let uneasy = status.hosts.iter().any(|host| !host.maintenance && host.state.as_str() != "alive");
        if stuck || !is_quorate(status) {
            Self::Usage
        } else if uneasy || !status.incidents.is_empty() {
            Self::Refused
        } else {
            Self::Done
        }
    }
}

/// Whether the cluster could act, were it armed: a roster, a leader, and enough of the roster alive.
#[must_use]
pub(super) fn is_quorate(status: &StatusDoc) -> bool {
    status.armed.is_some() && status.leader.is_some() && status.alive >= status.needed
}

/// An end with its reason, for standard error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do.
    pub text: String,
}

impl Failure {
    /// A failure of that kind.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// What could not be done on this side, before anything was asked: with all its causes.
    pub fn here(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self { exit: Exit::Refused, text }
    }

    /// The daemon's refusal.
    #[must_use]
    pub fn reply(kind: AdminErrorKind, text: &str) -> Self {
        let exit = match kind {
            AdminErrorKind::NoLeader => Exit::NoDaemon,
            AdminErrorKind::Refused | AdminErrorKind::NotFound | AdminErrorKind::Malformed => Exit::Refused,
            AdminErrorKind::Unknown => Exit::Unknown,
        };
        Self { exit, text: crate::telemetry::plain(text) }
    }

    /// No reply. Whether that leaves an order's outcome open depends on whether it was sent.
    #[must_use]
    pub fn client(error: &AdminClientError, changes: bool) -> Self {
        let exit = match error {
            AdminClientError::TooLong { .. } | AdminClientError::Denied { .. } => Exit::Refused,
            AdminClientError::NoDaemon { .. } => Exit::NoDaemon,
            AdminClientError::TimedOut { .. }
            | AdminClientError::Closed { .. }
            | AdminClientError::Malformed { .. } => {
                if changes && error.was_sent() {
                    Exit::Unknown
                } else {
                    Exit::NoDaemon
                }
            }
        };
        let advice = if exit == Exit::Unknown {
            "; the order may yet be committed: look at `rekindle status` before repeating it"
        } else {
            ""
        };
        Self { exit, text: format!("{error}{advice}") }
    }
}
