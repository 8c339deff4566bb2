//! HTTP/1.1 by hand: calls read, replies written, whole or not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::{Behaviour, Shared, service};

/// Longest head, and longest body, of a call.
const CALL_BYTES_MAX: usize = 64 * 1024;
/// How long a silent service is silent: longer than any client waits.
const HANG: Duration = Duration::from_secs(3_600);
/// Body of an oversized answer: far more than any client should take.
const OVERSIZE_BYTES: usize = 16 * 1024 * 1024;

/// A call, read whole.
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Value,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is done with a call.
pub(super) enum Reply {
    /// Status, further headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection is cut.
    Cut,
    /// Nothing is answered; the connection stays open.
    Hang,
    /// Bytes that are no HTTP.
    Garbage,
    /// An answer whose body is too long.
    Oversize,
    /// An answer whose body goes on for ever.
    Endless,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, Vec::new(), body.to_string().into_bytes())
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::Answer(status, Vec::new(), Vec::new())
    }

    pub(super) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push((name, value.into()));
                Self::Answer(status, headers, body)
            }
            other @ (Self::Cut | Self::Hang | Self::Garbage | Self::Oversize | Self::Endless) => other,
        }
    }
}

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "fake Redfish stopped serving");
                return;
            }
        };
        while connections.try_join_next().is_some() {}
        if shared.state().behaviour == Behaviour::Dead {
            continue;
        }
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        connections.spawn(async move {
            // Small answers at once. A client that goes away in the middle, or does not trust us, is its own matter.
            let _ = stream.set_nodelay(true);
            let _ = match acceptor {
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => talk(&shared, stream).await,
                    Err(_) => Ok(()),
                },
                None => talk(&shared, stream).await,
            };
        });
    }
}

async fn talk(shared: &Arc<Shared>, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut rest = Vec::new();
    while let Some(call) = read(&mut stream, &mut rest).await? {
        // What was sent is done, whether or not its caller waits for the answer.
        let done = {
            let shared = Arc::clone(shared);
            tokio::spawn(async move { service::answer(&shared, &call).await })
        };
        match done.await.map_err(io::Error::other)? {
            Reply::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            }
            Reply::Cut => return Ok(()),
            Reply::Hang => sleep(HANG).await,
            Reply::Garbage => {
                stream.write_all(b"\x15\x03\x01\x00\x02\x02 no \0 HTTP\r\n\r\n").await?;
                return stream.flush().await;
            }
            Reply::Oversize => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {OVERSIZE_BYTES}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&vec![b' '; OVERSIZE_BYTES]).await?;
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"1\r\n \r\n").await?;
                    stream.flush().await?;
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
        stream.flush().await?;
    }
    Ok(())
}

/// The next call, `None` at the end of the connection. What came beyond it is kept in `rest`.
async fn read(stream: &mut (impl AsyncRead + Unpin), rest: &mut Vec<u8>) -> io::Result<Option<Call>> {
    let bad = || io::Error::other("a call that is none");
    let mut buffer = std::mem::take(rest);
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if buffer.len() > CALL_BYTES_MAX || stream.read_buf(&mut buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(bad()) };
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next().ok_or_else(bad)?.split(' ');
    let (method, path) = (words.next().ok_or_else(bad)?.to_owned(), words.next().ok_or_else(bad)?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(Ok(0), |(_, value)| value.parse::<usize>()).map_err(|_| bad())?;
    if length > CALL_BYTES_MAX {
        return Err(bad());
    }
    let end = head + 4 + length;
    while buffer.len() < end {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(bad());
        }
    }
    *rest = buffer.split_off(end);
    let body = serde_json::from_slice(&buffer[head + 4..]).unwrap_or(Value::Null);
    Ok(Some(Call { method, path, headers, body }))
}
