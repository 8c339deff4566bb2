//! What must never happen, each checked against the ground truth, whatever the coordinators believe.

use std::collections::BTreeSet;

use rekindle_proto::id::{HostName, ServerId};
use rekindle_proto::status::Phase;

use crate::nova::Nova;
use crate::raft::Raft;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The headline: a VM with two running copies (design, section 3).
    #[error("server {server} runs on {hosts:?} at once")]
    RunsTwice {
        /// Which.
        server: ServerId,
        /// Where.
        hosts: BTreeSet<HostName>,
    },
    /// I1: an evacuate call reached Nova for a host that has power.
    #[error("server {server} was evacuated from {host}, which has power")]
    EvacuatedFromPowered {
        /// Which.
        server: ServerId,
        /// From where.
        host: HostName,
    },
    /// I11: Nova was asked more often than intents were committed.
    #[error("server {server} was evacuated {calls} times on {intents} committed intents")]
    CalledTwice {
        /// Which.
        server: ServerId,
        /// Calls that Nova accepted.
        calls: usize,
        /// Intents in the ledger.
        intents: usize,
    },
    /// Liveness: an incident is neither recovered, refuted nor stuck after everything healed.
    #[error("an incident of {host} is still {phase} long after everything healed")]
    NeverEnds {
        /// Whose.
        host: HostName,
        /// Its phase.
        phase: Phase,
    },
    /// Liveness: a host died for good and nothing came of it.
    #[error("{host} died, and there is no incident of it")]
    NeverNoticed {
        /// Which.
        host: HostName,
    },
    /// Liveness: a recovered incident left a server that does not run, without a reason.
    #[error("server {server} runs nowhere, and no incident says why")]
    Lost {
        /// Which.
        server: ServerId,
    },
    /// I3: a host was powered off by a member outside the majority, or of a healthy cluster.
    #[error("{host} was powered off without an open incident")]
    FencedWithoutIncident {
        /// Which.
        host: HostName,
    },
}

/// No VM ever has two running copies.
///
/// # Errors
/// [`Violation::RunsTwice`].
pub fn never_twice(nova: &Nova) -> Result<(), Violation> {
    match nova.doubles().next() {
        None => Ok(()),
        Some((server, hosts)) => Err(Violation::RunsTwice { server: *server, hosts: hosts.clone() }),
    }
}

/// No committed intent is called twice.
///
/// # Errors
/// [`Violation::CalledTwice`].
pub fn once_per_intent(nova: &Nova, raft: &Raft) -> Result<(), Violation> {
    let Some((server, _)) = nova.accepted.last() else { return Ok(()) };
    let calls = nova.accepted.iter().filter(|(called, _)| called == server).count();
    let records = raft.ledger().incidents.values().filter_map(|incident| incident.servers.get(server));
    let intents = records.map(|record| usize::try_from(record.attempts).unwrap_or(0)).sum();
    if calls <= intents { Ok(()) } else { Err(Violation::CalledTwice { server: *server, calls, intents }) }
}

/// Every incident ends in recovered, refuted, or stuck with a reason.
///
/// # Errors
/// [`Violation::NeverEnds`].
pub fn all_end(raft: &Raft) -> Result<(), Violation> {
    let open = raft.ledger().open_incidents().find(|incident| incident.phase != Phase::Stuck);
    match open {
        None => Ok(()),
        Some(incident) => Err(Violation::NeverEnds { host: incident.host.clone(), phase: incident.phase }),
    }
}

/// Every server runs, or an incident says why it does not.
///
/// # Errors
/// [`Violation::Lost`].
pub fn none_lost(nova: &Nova, raft: &Raft) -> Result<(), Violation> {
    let excused = |server: ServerId| {
        raft.ledger().incidents.values().any(|incident| {
            incident.phase == Phase::Stuck
                || incident.servers.get(&server).is_some_and(|record| {
                    matches!(record.fate, Some(rekindle_coordinator::ledger::Fate::LeftBehind { .. }))
                })
        })
    };
    let lost = nova.servers().find(|server| nova.copies(server.id) == 0 && !excused(server.id));
    lost.map_or(Ok(()), |server| Err(Violation::Lost { server: server.id }))
}
