//! What the transport needs to know, and what it tells.

use std::net::SocketAddr;
use std::path::PathBuf;

use rekindle_coordinator::io::Peer;
use rekindle_proto::id::{BootId, ClusterName, HostName, Incarnation, PathName};
use rekindle_proto::message::{Message, Reply, Request};
use tokio::sync::oneshot;

/// Where the certificate files are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The cluster's CA (PEM).
    pub ca: PathBuf,
    /// This host's certificate (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM, mode 0600).
    pub key: PathBuf,
}

/// What the transport needs to know.
#[derive(Debug, Clone)]
pub struct TransportSettings {
    /// Our cluster.
    pub cluster: ClusterName,
    /// Our name.
    pub host: HostName,
    /// This boot.
    pub boot: BootId,
    /// Our life number at start.
    pub incarnation: Incarnation,
    /// Where to listen, per path, `management` first. Streams use the first.
    pub listen: Vec<(PathName, SocketAddr)>,
    /// Certificates.
    pub tls: TlsFiles,
    /// Persisted key of stateless resets (RFC 9000, section 10.3): peers of a restarted daemon notice at once.
    pub reset_key: [u8; 64],
}

/// What the transport tells the shell.
#[derive(Debug)]
pub enum TransportEvent {
    /// Accepted by both sides.
    Connected {
        /// Who, and where it listens on that network.
        peer: Peer,
        /// On which network.
        path: PathName,
    },
    /// A SWIM packet.
    Datagram {
        /// From whom.
        from: Peer,
        /// On which network.
        path: PathName,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// A message.
    Message {
        /// From whom.
        from: Peer,
        /// On which network.
        path: PathName,
        /// What.
        message: Message,
    },
    /// A question; the answer goes back through `reply`. Dropping it refuses.
    Request {
        /// From whom.
        from: Peer,
        /// What.
        request: Request,
        /// Whither the answer.
        reply: oneshot::Sender<Reply>,
    },
}
