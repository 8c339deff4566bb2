//! A connection accepted by both sides, and which of two is used.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quinn::Connection;
use rekindle_coordinator::io::Peer;
use rekindle_proto::id::MemberId;

use super::close;
use super::lane::Carries;

/// A retired connection is closed after this: what was on its way has arrived, and the peer has retired it too.
const RETIRED_FOR: Duration = Duration::from_secs(2);

/// Two connections accepted within this time of each other may stem from both sides dialling at once.
const SIMULTANEOUS: Duration = Duration::from_secs(2);

/// Who must be at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    /// This member.
    Member(MemberId),
    /// Whoever of our cluster is at this address.
    AnyoneAt(SocketAddr),
}

/// A connection accepted by both sides.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) peer: Peer,
    pub(super) carries: Carries,
    dialled: bool,
    since: Instant,
}

impl Live {
    pub(super) fn new(connection: Connection, peer: Peer, dialled: bool) -> Self {
        let carries = Carries::of(&connection);
        Self { connection, peer, carries, dialled, since: Instant::now() }
    }

    /// Whether to use `newer`, accepted later, instead of this one. Both sides come to the same answer, or, where they
    /// do not (their clocks straddle a bound), both close one and dial again.
    pub(super) fn yields_to(&self, newer: &Self, me: MemberId) -> bool {
        if self.connection.close_reason().is_some() || self.is_of_former_life(newer) {
            return true;
        }
        let at_once = newer.since.saturating_duration_since(self.since) < SIMULTANEOUS;
        if !at_once || self.dialled == newer.dialled {
            return true;
        }
        let mine_wins = me < MemberId::of(&self.peer.host);
        newer.dialled == mine_wins
    }

    pub(super) fn is_of_former_life(&self, newer: &Self) -> bool {
        self.peer.boot != newer.peer.boot || self.peer.incarnation < newer.peer.incarnation
    }

    /// Stops using it. What is on its way may still arrive, unless the peer's process is another one now.
    pub(super) fn retire(self, at_once: bool) {
        if at_once {
            self.connection.close(close::REPLACED, b"");
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(RETIRED_FOR).await;
            self.connection.close(close::REPLACED, b"");
        });
    }
}
