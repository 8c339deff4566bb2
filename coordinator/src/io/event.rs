//! What is told to people as it happens.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, IncidentId, MemberId, ServerId, Term};
use rekindle_proto::status::Phase;

/// A change worth a log line and a metric. One per change of phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An incident (or a suspicion) changed phase.
    Phase {
        /// Its number, once the ledger has given one.
        incident: Option<IncidentId>,
        /// Which change of it, from 1; 0 before the ledger knows of it.
        number: u32,
        /// The host.
        host: HostName,
        /// The phase it is in now.
        phase: Phase,
        /// The evidence, or the reason.
        text: Text,
    },
    /// A member's state in gossip changed.
    Member {
        /// Its name, if known.
        host: Option<HostName>,
        /// Its id.
        member: MemberId,
        /// `alive`, `suspect`, `down`.
        state: &'static str,
    },
    /// We gained or lost leadership.
    Leader {
        /// The term.
        term: Term,
        /// Who leads.
        leader: Option<HostName>,
        /// Whether it is us.
        us: bool,
    },
    /// A server moved, was given up, or an attempt failed.
    Server {
        /// The incident.
        incident: IncidentId,
        /// Which.
        server: ServerId,
        /// What.
        text: Text,
        /// Whether a person should look.
        bad: bool,
    },
    /// A margin shrinks: something is refused, late, or held back.
    Warning {
        /// About which host, if one.
        host: Option<HostName>,
        /// What.
        text: Text,
    },
}
