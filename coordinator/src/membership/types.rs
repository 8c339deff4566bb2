//! What a path's membership is told, and what it says.

use std::net::SocketAddr;
use std::time::Duration;

use rekindle_proto::id::{Incarnation, MemberId, PathName};

use super::MEMBERS_MAX;
use super::helpers::Errand;
use crate::time::Moment;

/// What a path's gossip needs to know.
#[derive(Debug, Clone)]
pub struct MembershipSettings {
    /// Who we are.
    pub member: MemberId,
    /// Our life number, already raised and persisted.
    pub incarnation: Incarnation,
    /// Where we listen on this path.
    pub address: SocketAddr,
    /// The path.
    pub path: PathName,
    /// One member is probed each. At least 10 ms; less is taken as that.
    pub probe_period: Duration,
    /// How long a direct probe may take before others are asked to probe. At most half a period; more is taken as that.
    pub probe_ack: Duration,
    /// Members asked to probe in our stead, and gossiped to at once with urgent news. At least one; zero is taken as that.
    pub indirect_probes: u8,
    /// Suspicion lasts `suspicion_factor · log10(N) · probe_period`, at least one period.
    pub suspicion_factor: u32,
    /// Seed of every random choice. Ourselves and the path are mixed in, so that one seed serves a whole cluster.
    pub seed: u64,
}

/// What gossip says of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// It answers, or nobody complains.
    Alive,
    /// A probe of it failed somewhere, and it has not refuted yet. Not counted as alive by any brake.
    Suspect,
    /// It did not refute in time. A new life of its ends this, or our finding that it was we who had been cut off.
    Down,
}

/// A member, as gossip has it on this path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub member: MemberId,
    /// Where it listens on this path, by its own word.
    pub address: SocketAddr,
    /// Its life number. A new one does not mean a reboot: a healed partition raises it too.
    pub incarnation: Incarnation,
    /// Its state.
    pub state: MemberState,
    /// Since when, by our clock, it has been in this state in this life.
    pub since: Moment,
}

/// What the caller must do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipOutput {
    /// Send this SWIM packet. May be lost.
    Datagram {
        /// To where.
        to: SocketAddr,
        /// Who must be there.
        member: MemberId,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// We began a new life: write its number to disk before any later datagram is sent.
    PersistIncarnation(Incarnation),
    /// A member appeared, or its state, life number or address changed. Forgetting one (a day after it went down) is silent.
    Changed(MemberView),
    /// Our own full probe cycle of this member, direct, through others and on a stream, failed: first-hand.
    ProbeFailed {
        /// Who did not answer.
        member: MemberId,
    },
    /// It did not answer a probe by datagram: ask it on a stream, and say so by [`super::Membership::asked_on_stream`].
    AskOnStream {
        /// Whom.
        member: MemberId,
    },
    /// Send it [`super::Membership::full_state`], and ask for its own.
    PushPull {
        /// Whom.
        member: MemberId,
    },
    /// Tell who asked us to probe another that we got no answer: [`super::Membership::nacked`] there.
    Nack(Errand),
}

/// Why a packet or a state was refused. Unless said otherwise, nothing was changed.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MembershipError {
    /// Above the bound of its kind.
    #[error("{bytes} bytes; at most {bound} are allowed")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The bound.
        bound: usize,
    },
    /// Not a SWIM packet, or not a membership state.
    #[error("cannot be understood: {0}")]
    Malformed(String),
    /// The sender speaks in another's name.
    #[error("member {from} sent a packet in the name of {claimed}")]
    Source {
        /// Who sent it, by its certificate.
        from: MemberId,
        /// In whose name.
        claimed: MemberId,
    },
    /// Meant for another member.
    #[error("member {from} sent us a packet meant for {destination}")]
    Misdirected {
        /// Who sent it.
        from: MemberId,
        /// For whom.
        destination: MemberId,
    },
    /// We shall send something on to a member which we do not know there.
    #[error("member {from} asks us to reach {target}, of which we do not know at that address")]
    UnknownTarget {
        /// Who asks.
        from: MemberId,
        /// Whom to reach.
        target: MemberId,
    },
    /// We know as many members as we may, and this is another one.
    #[error("member {from} is one more than the {MEMBERS_MAX} members we may know")]
    Full {
        /// Who sent it.
        from: MemberId,
    },
    /// Foca refused it. What the packet said of members may have been taken over.
    #[error("SWIM refuses it: {0}")]
    Swim(#[source] foca::Error),
}
