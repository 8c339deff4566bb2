//! Processes that make a hypervisor useful: what is watched, what was seen, and the order to start one again.

use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, ProcessName};
use serde::{Deserialize, Serialize};

/// Most restarts of one process before it is called down for good.
pub const RESTARTS_MAX: u32 = 10;

/// How long a process must run before it counts as back. A nova-compute that cannot reach its broker, or a libvirtd that
/// cannot read its state, ends within half a minute.
pub const STAYS_FOR: Duration = Duration::from_secs(60);

/// One process, as far as it is decided about. How it is looked at and started, the adapter knows by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRule {
    /// Its name.
    pub name: ProcessName,
    /// How often it is started again, once it has failed, before it is called down for good; at most [`RESTARTS_MAX`].
    pub restarts: u32,
    /// How long is waited before the first restart; twice as long before each further one.
    pub delay: Duration,
    /// Whether the host's compute service is disabled in Nova while it is down for good.
    pub disables: bool,
}

/// What its adapter saw of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessSeen {
    /// It runs.
    Running {
        /// Another number if it was started again meanwhile; 0 where the adapter cannot tell.
        run: u64,
    },
    /// Its init system is starting it, or waits before it starts it again: no business of ours.
    Starting,
    /// It has failed, and nobody else will start it.
    Failed(Text),
    /// It does not run because somebody stopped it, as far as can be told: it is not started against their will.
    Stopped(Text),
    /// It could not be looked at.
    Unknown(Text),
}

/// Start a failed process of this very host again.
#[derive(Debug)]
pub struct RestartOrder {
    call: CallId,
    process: ProcessName,
}

impl RestartOrder {
    pub(crate) fn new(call: CallId, process: ProcessName) -> Self {
        Self { call, process }
    }

    /// To be repeated in [`crate::io::Input::ProcessRestarted`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// Which.
    #[must_use]
    pub fn process(&self) -> &ProcessName {
        &self.process
    }
}
