//! What a connection is for. Gossip does not wait behind what is long.
//!
//! A connection whose window is full sends nothing before something is acknowledged, and after a cut tries again only when its
//! timer, doubled each time, has run out. A gossip packet that waited so behind a snapshot would cost a probe.
//!
//! The handshake agrees on it (ALPN). A daemon of before knows one connection for everything: it takes that from what we
//! offer and offers nothing else, so each connection says by itself what the peer understands, and nothing is remembered.

use quinn::Connection;
use quinn::crypto::rustls::HandshakeData;
use rekindle_proto::message::{ALPN, ALPN_REQUESTS, ALPN_WORDS};

/// What something to be sent waits for. Two members have up to one connection for each on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Gossip and messages: small, and soon.
    Words,
    /// Requests: Raft's, with snapshots among them, and operators' in passing.
    Requests,
}

/// What goes over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// All but requests.
    Words,
    /// Requests alone.
    Requests,
    /// Everything: the peer is an older daemon.
    All,
}

/// What we say we speak, by ALPN.
#[derive(Debug)]
pub(super) struct Protocols {
    /// Accepted by us; of several that are offered, the first.
    pub(super) accepted: Vec<Vec<u8>>,
    /// Offered when we dial for words.
    pub(super) words: Vec<Vec<u8>>,
    /// Offered when we dial for requests.
    pub(super) requests: Vec<Vec<u8>>,
}

impl Protocols {
    pub(super) fn ours() -> Self {
        let list = |protocols: &[&[u8]]| protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self {
            accepted: list(&[ALPN_WORDS, ALPN_REQUESTS, ALPN]),
            words: list(&[ALPN_WORDS, ALPN]),
            requests: list(&[ALPN_REQUESTS, ALPN]),
        }
    }
}

impl Carries {
    /// What dialler and listener agreed upon in their handshake.
    pub(super) fn of(connection: &Connection) -> Self {
        let agreed = connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
        match agreed.and_then(|agreed| agreed.protocol) {
            Some(protocol) if protocol == ALPN_WORDS => Self::Words,
            Some(protocol) if protocol == ALPN_REQUESTS => Self::Requests,
            // rustls lets no QUIC connection come about without one of those above or `ALPN`.
            Some(_) | None => Self::All,
        }
    }

    /// Where it is kept. One for everything is in the words' place: they are what it must be kept alive for.
    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Words | Self::All => Lane::Words,
            Self::Requests => Lane::Requests,
        }
    }

    pub(super) fn words(self) -> bool {
        match self {
            Self::Words | Self::All => true,
            Self::Requests => false,
        }
    }

    pub(super) fn requests(self) -> bool {
        match self {
            Self::Requests | Self::All => true,
            Self::Words => false,
        }
    }
}
