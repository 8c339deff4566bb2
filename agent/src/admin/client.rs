//! The operator's end of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_proto::admin::{AdminReply, AdminRequest, LINE_BYTES_MAX};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Why there is no reply. [`AdminClientError::was_sent`] tells whether the daemon may have acted all the same.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// Nobody listens there.
    #[error("no daemon at {}: {source}; is rekindled running, and --socket right?", path.display())]
    NoDaemon {
        /// Which socket.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file's mode forbids it.
    #[error("{}: not allowed; be root or in the group of the socket", path.display())]
    Denied {
        /// Which socket.
        path: PathBuf,
    },
    /// The request is longer than a line may be.
    #[error("the request has {bytes} bytes; at most {LINE_BYTES_MAX} are taken")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// No whole reply in time.
    #[error("no reply within {} s", within.as_secs())]
    TimedOut {
        /// How long we waited.
        within: Duration,
    },
    /// The connection ended before a whole reply.
    #[error("the daemon closed the connection without a reply{}", detail(source.as_ref()))]
    Closed {
        /// The system's words, if any.
        source: Option<io::Error>,
    },
    /// The reply is not ours.
    #[error("the reply is not understood: {source}; are daemon and command of one version?")]
    Malformed {
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl AdminClientError {
    /// Whether the request may have reached the daemon.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Denied { .. } | Self::TooLong { .. } => false,
            Self::TimedOut { .. } | Self::Closed { .. } | Self::Malformed { .. } => true,
        }
    }
}

/// Asks the daemon behind the socket one question, on a connection of its own.
///
/// # Errors
/// [`AdminClientError`] if there is no daemon, or no reply within that time.
pub async fn ask(path: &Path, request: &AdminRequest, within: Duration) -> Result<AdminReply, AdminClientError> {
    let mut line = serde_json::to_vec(request).map_err(|source| AdminClientError::Malformed { source })?;
    line.push(b'\n');
    if line.len() > LINE_BYTES_MAX {
        return Err(AdminClientError::TooLong { bytes: line.len() });
    }
    let stream = UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            AdminClientError::Denied { path }
        } else {
            AdminClientError::NoDaemon { path, source }
        }
    })?;
    let reply = timeout(within, exchange(stream, &line)).await.map_err(|_| AdminClientError::TimedOut { within })?;
    let reply = reply.map_err(|source| AdminClientError::Closed { source: Some(source) })?;
    if reply.last() != Some(&b'\n') {
        return Err(AdminClientError::Closed { source: None });
    }
    serde_json::from_slice(&reply).map_err(|source| AdminClientError::Malformed { source })
}

async fn exchange(stream: UnixStream, line: &[u8]) -> io::Result<Vec<u8>> {
    let (read, mut write) = stream.into_split();
    write.write_all(line).await?;
    let bound = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut reply = Vec::new();
    BufReader::new(read).take(bound).read_until(b'\n', &mut reply).await?;
    Ok(reply)
}

fn detail(source: Option<&io::Error>) -> String {
    source.map_or_else(String::new, |error| format!(": {error}"))
}
