//! What a cloud has seen and done, line by line: for a test's assertions.

use std::sync::Arc;

use rekindle_proto::id::{HostName, MigrationId, ServerId};

use super::fault::Endpoint;
use crate::fake::record::When;

/// One HTTP call, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// Counts from 1.
    pub number: u64,
    /// When it came.
    pub when: When,
    /// What it met.
    pub endpoint: Endpoint,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The query, raw.
    pub query: String,
    /// The compute microversion asked for, if one was.
    pub microversion: Option<String>,
    /// The status answered; `None` while under way and when the connection was cut or hangs.
    pub status: Option<u16>,
}

/// What an evacuate call came to at Nova, whether or not its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvacuateOutcome {
    /// A migration began.
    Accepted(MigrationId),
    /// Nova refused with this status.
    Refused(u16),
}

/// One evacuate call that reached Nova.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvacuateCall {
    /// When it was done, not when it was sent.
    pub when: When,
    /// Which server.
    pub server: ServerId,
    /// What came of it.
    pub outcome: EvacuateOutcome,
}

/// What a stop or start call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// `os-start`.
    Start,
    /// `os-stop`.
    Stop,
}

/// One `os-start` or `os-stop` that Nova accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerCall {
    /// When it was accepted.
    pub when: When,
    /// Which server.
    pub server: ServerId,
    /// What was asked for.
    pub action: PowerAction,
}

/// A real hypervisor behind nova-compute: it starts or stops the guest, and says why if it could not. It may take its time.
pub type PowerHook = Arc<dyn Fn(&HostName, ServerId, PowerAction) -> Result<(), String> + Send + Sync>;

/// A moment when a server began to run while it ran elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RanTwice {
    /// When the last copy began.
    pub when: When,
    /// Which server.
    pub server: ServerId,
    /// Where it ran at that moment.
    pub hosts: Vec<HostName>,
}

/// A moment when a guest began to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestStart {
    /// When.
    pub when: When,
    /// Which server.
    pub server: ServerId,
    /// Where.
    pub host: HostName,
}

/// A migration record, as Nova has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationLine {
    /// Its number.
    pub id: MigrationId,
    /// Of which server.
    pub server: ServerId,
    /// From where.
    pub source: HostName,
    /// Whither, once a host has claimed it.
    pub dest: Option<HostName>,
    /// `accepted`, `pre-migrating`, `done`, `completed`, `failed` or `error`.
    pub status: &'static str,
}
