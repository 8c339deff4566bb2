//! What a host says of the processes that make it useful: nova-compute, libvirtd, whatever a site names.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fact::Text;
use crate::id::ProcessName;

/// Most processes watched on one host. A hypervisor has a handful; each word about them goes into the ledger.
pub const PROCESSES_MAX: usize = 16;

/// A host's own word about its processes, in the order of its configuration; at most [`PROCESSES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Each of them; none: none is watched.
    pub processes: Vec<ProcessState>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Its name, as configured.
    pub name: ProcessName,
    /// Whether the host's compute service is to be disabled while it is down for good.
    pub disables: bool,
    /// How it stands.
    pub standing: ProcessStanding,
    /// Why, in words. Changes seldom: each change is an entry of the ledger.
    pub text: Text,
}

/// How a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessStanding {
    /// It runs, and has done so for a while.
    Running,
    /// It runs since a moment ago.
    Settling,
    /// It does not run, and may yet come back: by itself, by its init system, or by a restart of ours.
    Troubled,
    /// It is down for good: a person is needed.
    Down,
    /// It could not be looked at, or something else keeps it from running on purpose.
    Unknown,
}

impl fmt::Display for ProcessStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Settling => "settling",
            Self::Troubled => "troubled",
            Self::Down => "down for good",
            Self::Unknown => "unknown",
        })
    }
}

impl ProcessReport {
    /// The first process that is down for good and is to disable the compute service.
    #[must_use]
    pub fn down(&self) -> Option<&ProcessState> {
        self.processes.iter().find(|process| process.disables && process.standing == ProcessStanding::Down)
    }

    /// Whether all that would disable the compute service run, and have done so for a while.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.processes.iter().filter(|process| process.disables).all(|it| it.standing == ProcessStanding::Running)
    }
}
