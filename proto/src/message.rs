//! What members say to each other. The version is the ALPN's ([`ALPN`] and its kin); within it no variant is ever reordered.
//!
//! SWIM packets travel as QUIC datagrams (opaque here, see [`DATAGRAM_BYTES_MAX`]). Everything that must arrive travels on
//! streams: a [`Message`] alone on a one-way stream, or a [`Request`] and its [`Reply`] on a two-way stream. Who speaks is
//! never a field: it is the name in the sender's certificate.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::executor::ExecutorWord;
use crate::fact::{GateReport, GuestEvent, GuestList, LifeSign, PathFinding, StopReason, Text, Watchdog};
use crate::id::{
    BootId, CallId, ClusterName, HostName, Incarnation, IncidentId, MemberId, PathName, ServerId, SystemUuid, Term,
};

/// TLS application protocol, name and version of this vocabulary: everything on one connection. So spoke all daemons before
/// [`ALPN_WORDS`]; a newer one takes it where the other side knows nothing else, as in an upgrade.
pub const ALPN: &[u8] = b"rekindle/1";

/// The same vocabulary, on a connection for all but [`Request`]s. The peer is then one that takes those on another.
pub const ALPN_WORDS: &[u8] = b"rekindle-words/1";

/// The same vocabulary, on a connection for [`Request`]s, which may be long: what decides who lives does not wait behind them.
pub const ALPN_REQUESTS: &[u8] = b"rekindle-requests/1";

/// Largest SWIM datagram, in bytes: below quinn's smallest datagram limit (1162 before path MTU discovery), the same on
/// every member.
pub const DATAGRAM_BYTES_MAX: usize = 1100;

/// Largest encoded [`Message`], in bytes: a guest list of [`crate::fact::GUESTS_MAX`] with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Largest encoded [`Request`] or [`Reply`], in bytes: a Raft snapshot of the ledger of 2,000 hosts fits.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Members named in one [`Message::Gone`]: a rack. More are told in further ones.
pub const GONE_MAX: usize = 64;

/// First thing said on a connection, by both sides, on the dialler's first two-way stream. Until it is answered nobody has
/// been accepted: in TLS 1.3 a client "connects" before the server has looked at its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must equal the listener's own, and the one in the certificate.
    pub cluster: ClusterName,
    /// Must equal the name in the certificate.
    pub host: HostName,
    /// The speaker's present boot.
    pub boot: BootId,
    /// The speaker's present life number.
    pub incarnation: Incarnation,
    /// Where the speaker listens.
    pub listen: SocketAddr,
}

/// A statement to another member, on a one-way stream of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Full membership state (foca members, postcard), at join and for repair.
    PushPull {
        /// Whether the receiver should answer with its own.
        answer: bool,
        /// The encoded members.
        state: Vec<u8>,
    },
    /// To the leader: my own probe cycle of this host failed. A rumour with a first-hand source, nothing more.
    Suspicion {
        /// Who does not answer.
        target: HostName,
    },
    /// Leader to member: probe this host yourself, now, on these paths, and say what you found.
    AskTestimony {
        /// To be repeated in the answer.
        call: CallId,
        /// Whom to probe.
        target: HostName,
        /// Where it listens, per path.
        addresses: Vec<(PathName, SocketAddr)>,
        /// The leader knows of the target's goodbye, and asks nevertheless. If not, who heard a goodbye says nothing: the
        /// silence is explained.
        knows_goodbye: bool,
    },
    /// The answer to [`Message::AskTestimony`].
    Testimony {
        /// From the question.
        call: CallId,
        /// Who was probed.
        target: HostName,
        /// What was found, per path.
        findings: Vec<PathFinding>,
        /// What lives there although the daemon does not answer; at most [`crate::fact::LIFE_SIGNS_MAX`].
        signs: Vec<LifeSign>,
    },
    /// A direct probe on the named path.
    Probe {
        /// To be repeated.
        call: CallId,
        /// The network it was sent on.
        path: PathName,
    },
    /// "I hear you", with the speaker's boot.
    ProbeAck {
        /// From the probe.
        call: CallId,
        /// From the probe.
        path: PathName,
        /// The speaker's boot.
        boot: BootId,
    },
    /// Leader to all: who is there?
    RollCall {
        /// To be repeated.
        call: CallId,
    },
    /// The answer to [`Message::RollCall`].
    Present {
        /// From the question.
        call: CallId,
        /// How long ago the speaker's machine booted, in milliseconds, on its monotonic clock.
        boot_age_ms: u64,
    },
    /// Leader to member: which of these guests run on you, by your hypervisor's own word?
    AskGuests {
        /// To be repeated.
        call: CallId,
        /// Which servers.
        servers: Vec<ServerId>,
    },
    /// The answer to [`Message::AskGuests`].
    GuestsAnswer {
        /// From the question.
        call: CallId,
        /// Those of the asked ones that run here; `None` if the hypervisor did not answer.
        running: Option<Vec<ServerId>>,
    },
    /// Member to leader, when it changes and every minute: who I am and what runs here.
    Statement {
        /// My machine's SMBIOS UUID (or the configured one), against which fence devices are bound.
        system_uuid: Option<SystemUuid>,
        /// My guests.
        guests: GuestList,
    },
    /// Member to leader: something happened to a guest of mine.
    GuestChanged {
        /// To which.
        server: ServerId,
        /// What.
        event: GuestEvent,
    },
    /// Receipt for [`Message::GuestChanged`]: committed, need not be repeated.
    GuestChangeNoted {
        /// Which server.
        server: ServerId,
    },
    /// Leader to all, when elected and every few seconds: members that do not vote learn from it whom to tell. A hint.
    Leading {
        /// In which term.
        term: Term,
    },
    /// To all, on the speaker's own connection: my daemon stops because it was told to. My silence is no failure.
    Goodbye {
        /// Why.
        why: StopReason,
    },
    /// Voter to voters, when it changes and several times a minute: whether I would be fit to lead. A hint: it moves who
    /// stands for election, never who wins it.
    Fitness {
        /// Nova and the fence devices answer me, and my own loop is on time.
        fit: bool,
    },
    /// Member to leader: may I go on feeding my watchdog? Whether it is armed is thereby asked too, and told whether it runs.
    LeaseAsk {
        /// To be repeated. Grows with every question of one life.
        call: CallId,
        /// Which watchdog.
        watchdog: Watchdog,
    },
    /// Leader to member: a quorum has confirmed me after you asked, and the ledger knows your watchdog as armed.
    LeaseGrant {
        /// From the question.
        call: CallId,
    },
    /// Member to leader: I want to disarm my watchdog. It is fed until this is answered.
    LeaseWithdraw {
        /// To be repeated.
        call: CallId,
    },
    /// Leader to member: the ledger no longer counts on your watchdog.
    LeaseWithdrawn {
        /// From the question.
        call: CallId,
    },
    /// As [`Message::PushPull`], for a further path. Members meet on the first one.
    PathState {
        /// Which network's members these are.
        path: PathName,
        /// Whether the receiver should answer with its own.
        answer: bool,
        /// The encoded members.
        state: Vec<u8>,
    },
    /// Member to leader, while it is so and once when it ends: I myself hear nobody on these networks.
    PathsLost {
        /// Which; none: all carry again.
        paths: Vec<PathName>,
    },
    /// Member to leader, when it changes and every minute: my boot gate.
    Gate {
        /// What it is and does.
        report: GateReport,
    },
    /// Leader to member, at once after its [`Message::GuestsAnswer`]: this guest of yours runs elsewhere, by the ledger and by
    /// Nova; destroy it.
    DestroyGuest {
        /// The question that was answered.
        question: CallId,
        /// Which incident moved it.
        incident: IncidentId,
        /// Which guest.
        server: ServerId,
    },
    /// To every member met, once the quorum was ever recovered: the operator's order that began the present generation of
    /// voters. It proves itself; whoever keeps a store of an earlier generation stops.
    Generation {
        /// The signed order.
        order: Box<crate::admin::SignedOrder>,
    },
    /// Member to leader, when it changes and every minute: the processes that are watched here.
    Processes {
        /// How each of them stands.
        report: crate::process::ProcessReport,
    },
    /// Leader to all, once a quorum's testimony has it: these members are gone, in these lives. What gossip spreads by and by
    /// is known to everybody at once; who lives after all refutes it by a new life, as ever.
    Gone {
        /// Who, and in which life; at most [`GONE_MAX`].
        members: Vec<(MemberId, Incarnation)>,
    },
    /// Helper to who asked it, by SWIM datagram, to probe another: I got no answer. Says nothing of the target.
    ProbeNack {
        /// On which path.
        path: PathName,
        /// Who did not answer.
        target: MemberId,
        /// The number of the asker's probe.
        number: u8,
    },
    /// Voter to leader: a word came from this host's address, as its crash kernel sends it while it writes a dump.
    Dumping {
        /// Whose address.
        target: HostName,
    },
    /// Between a leader and the voter that executes one of its attempts to power a host off.
    Executor(ExecutorWord),
    /// Voter to leader, several times a minute while the ledger is written in an older format than that: what my daemon reads.
    LedgerFormat {
        /// The newest format it reads.
        reads: u32,
    },
}

/// A question with an answer, on a two-way stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A Raft call, opaque to everybody but the ledger adapter.
    Raft(Vec<u8>),
    /// An operator's request ([`crate::admin::AdminRequest`] as JSON, as it came over the local socket), carried to the
    /// leader by a member that is not.
    Admin(Vec<u8>),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Raft`].
    Raft(Vec<u8>),
    /// To [`Request::Admin`]: [`crate::admin::AdminReply`] as JSON.
    Admin(Vec<u8>),
    /// The receiver does not serve this (not a voter; not the leader; overloaded). Nothing was done.
    Refused(Text),
}

/// Why bytes were not understood. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Above the bound of its kind.
    #[error("{bytes} bytes; at most {bound} are allowed")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The bound.
        bound: usize,
    },
    /// Not this version's vocabulary.
    #[error("cannot be decoded: {0}")]
    Malformed(String),
    /// Cannot be encoded (a bug).
    #[error("cannot be encoded: {0}")]
    Unencodable(String),
}

/// Encodes, refusing what exceeds `bound` bytes.
///
/// # Errors
/// [`CodecError`] if it is too long.
pub fn encode<T: Serialize>(value: &T, bound: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_stdvec(value).map_err(|error| CodecError::Unencodable(error.to_string()))?;
    if bytes.len() > bound {
        return Err(CodecError::TooLong { bytes: bytes.len(), bound });
    }
    Ok(bytes)
}

/// Decodes, refusing what exceeds `bound` bytes and what has bytes left over.
///
/// # Errors
/// [`CodecError`] if it is too long or not understood.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], bound: usize) -> Result<T, CodecError> {
    if bytes.len() > bound {
        return Err(CodecError::TooLong { bytes: bytes.len(), bound });
    }
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(CodecError::Malformed(format!("{} bytes left over", rest.len())));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let message = Message::RollCall { call: CallId(7) };
        let bytes = encode(&message, MESSAGE_BYTES_MAX).expect("fits");
        assert_eq!(decode::<Message>(&bytes, MESSAGE_BYTES_MAX), Ok(message));
    }

    #[test]
    fn bounds_and_leftovers_are_refused() {
        let message = Message::PushPull { answer: true, state: vec![0; 100] };
        assert_eq!(encode(&message, 50), Err(CodecError::TooLong { bytes: 103, bound: 50 }));
        let mut bytes = encode(&message, MESSAGE_BYTES_MAX).expect("fits");
        bytes.push(0);
        assert!(matches!(decode::<Message>(&bytes, MESSAGE_BYTES_MAX), Err(CodecError::Malformed(_))));
        for end in 0..bytes.len() - 1 {
            assert!(decode::<Message>(&bytes[..end], MESSAGE_BYTES_MAX).is_err(), "cut at {end}");
        }
    }
}
