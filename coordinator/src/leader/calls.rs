//! Questions and orders to Nova that are under way.

use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};

use super::{evacuation, guests};

/// To whom an answer of Nova belongs.
#[derive(Debug, Clone)]
pub(super) enum NovaCall {
    Evacuation(IncidentId, evacuation::Ask),
    Guest(IncidentId, guests::Ask),
    Lost(HostName, ServerId),
    Reboot(IncidentId),
    /// An act on a server, and its number.
    Act(IncidentId, ServerId, u32),
    /// A server that may hold a lock of ours.
    Lock(IncidentId, ServerId),
    /// The heartbeat of a suspect.
    Life(HostName),
    /// A fenced host that comes back.
    Return(HostName),
    /// An operator's question.
    Forecast(CallId),
    Capacity,
    /// The compute service of a host whose process is down.
    Service(HostName),
    /// A reserved host.
    Reserve(HostName),
    /// The aggregates of one.
    Aggregate(IncidentId, HostName),
    /// How far all evacuations are.
    Moves,
    /// Servers of a host that reads off, for an attempt.
    Ahead(IncidentId, u32),
    /// Servers of a host that is to be rehearsed.
    Rehearsal(IncidentId),
    /// A server of which an order may lie unread in a queue.
    QueuedServer(ServerId),
    /// The compute service of a host that was let read its queue.
    QueueReader(HostName),
}
