//! What can go wrong, and what is counted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rekindle_proto::id::{MemberId, PathName};
use rekindle_proto::message::CodecError;

use crate::pki::PkiError;

/// Why something could not be sent, or the transport not be started.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// There must be a first path.
    #[error("no address to listen on")]
    NoPath,
    /// The address is in use or not ours.
    #[error("cannot listen on {address} (path {path})")]
    Bind {
        /// Which path.
        path: PathName,
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A certificate file is missing or not PEM.
    #[error("cannot use {path}: {why}")]
    TlsFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The key file is missing or open to others.
    #[error("cannot use the key")]
    Key(#[source] PkiError),
    /// Our own certificate is not one that peers would accept.
    #[error("{path} is not this host's certificate: {why}")]
    OwnCertificate {
        /// Its file.
        path: PathBuf,
        /// The rule broken.
        why: String,
    },
    /// Key and certificate do not fit together, or TLS refuses them.
    #[error("TLS refuses the certificate files")]
    Tls(#[source] rustls::Error),
    /// What was to be sent is too long, or the answer was not understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// No answer in time. What was asked may yet be done.
    #[error("{member} at {to} did not answer within {within:?}")]
    Silent {
        /// Who was asked.
        member: MemberId,
        /// Where.
        to: SocketAddr,
        /// The time allowed.
        within: Duration,
    },
    /// The connection was lost after the request was sent. What was asked may yet be done.
    #[error("the connection to {member} at {to} was lost: {why}")]
    Lost {
        /// Who was asked.
        member: MemberId,
        /// Where.
        to: SocketAddr,
        /// Why.
        why: String,
    },
    /// No such path is configured.
    #[error("there is no path {path} here")]
    UnknownPath {
        /// Which.
        path: PathName,
    },
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// Connections accepted by both sides.
    pub connections: u64,
    /// Connections refused by either side.
    pub refusals: u64,
    /// Dials that led to none, for whatever reason.
    pub failed_dials: u64,
    /// Datagrams dropped because there was no connection in time.
    pub unsent_datagrams: u64,
    /// Datagrams dropped because the shell was too busy to take them.
    pub overrun_datagrams: u64,
    /// Messages dropped because they could not be delivered in time.
    pub dropped_messages: u64,
}
