//! The guests socket: a host's guest list as JSON lines on a Unix socket, for hypervisors that are not libvirt's.
//!
//! On connect, and whenever something changes, the server writes one line
//! `{"guests":[{"server":"UUID","running":true,"disks":"shared"|"local"|"unknown"}],"complete":true}`. A client may write
//! the line `list` to get it again. Events are lines of their own, before the list they changed:
//! `{"event":"failed"|"running"|"stopped"|"undefined","server":"UUID"}`.
//!
//! A host that is off accepts and closes at once; one that hangs accepts and says nothing until it goes on.

use std::io;
use std::path::{Path, PathBuf};

use rekindle_proto::id::{HostName, ServerId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::AbortHandle;

use super::cloud::{Cloud, Disks};

/// Longest line a client may write; `list` is the only word there is.
const LINE_MAX: usize = 64;

/// One guest of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLine {
    /// Which server.
    pub server: ServerId,
    /// Whether it runs.
    pub running: bool,
    /// Where its disks lie.
    pub disks: Disks,
}

/// A whole list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestList {
    /// Every guest the hypervisor has, running or not.
    pub guests: Vec<GuestLine>,
    /// Whether the hypervisor could list them all.
    pub complete: bool,
}

/// What happened to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestEvent {
    /// It crashed.
    Failed,
    /// It runs.
    Running,
    /// It was stopped.
    Stopped,
    /// The host has it no more.
    Undefined,
}

/// An event on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestEventLine {
    /// What.
    pub event: GuestEvent,
    /// To whom.
    pub server: ServerId,
}

/// What the cloud tells the sockets of a host.
#[derive(Debug, Clone, Copy)]
pub(super) enum GuestNotice {
    Event(GuestEvent, ServerId),
    /// Something else about the list, or the machine itself.
    Changed,
}

/// A guests socket being served. It ends, and its file goes, when this is dropped.
#[derive(Debug)]
pub struct GuestsSocket {
    path: PathBuf,
    task: AbortHandle,
}

impl GuestsSocket {
    pub(super) fn start(cloud: Cloud, host: HostName, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let task = tokio::spawn(accept(cloud, host, listener));
        Ok(Self { path: path.to_owned(), task: task.abort_handle() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for GuestsSocket {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "guests socket was gone already");
        }
    }
}

async fn accept(cloud: Cloud, host: HostName, listener: UnixListener) {
    // Connections end with the socket: a JoinSet aborts its tasks when it is dropped.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (cloud, host) = (cloud.clone(), host.clone());
                connections.spawn(async move {
                    if let Err(error) = serve(&cloud, &host, stream).await {
                        tracing::debug!(%error, %host, "guests socket: a client went away");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(cloud: &Cloud, host: &HostName, stream: UnixStream) -> io::Result<()> {
    let Some(mut notices) = cloud.watch_guests(host) else { return Ok(()) };
    let (read, mut write) = stream.into_split();
    let mut words = Words { read, text: Vec::new() };
    if !list(cloud, host, &mut write).await? {
        return Ok(());
    }
    loop {
        tokio::select! {
            word = words.next() => match word?.as_deref() {
                Some("list") => {}
                Some(_) | None => return Ok(()),
            },
            notice = notices.recv() => {
                let mut next = Some(notice);
                while let Some(notice) = next {
                    match notice {
                        Ok(GuestNotice::Event(event, server)) => {
                            line(&mut write, &GuestEventLine { event, server }).await?;
                        }
                        Ok(GuestNotice::Changed) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return Ok(()),
                    }
                    next = waiting(&mut notices);
                }
            }
        }
        if !list(cloud, host, &mut write).await? {
            return Ok(());
        }
    }
}

/// The next notice, if one waits already: a burst of events is followed by one list.
fn waiting(notices: &mut broadcast::Receiver<GuestNotice>) -> Option<Result<GuestNotice, RecvError>> {
    match notices.try_recv() {
        Ok(notice) => Some(Ok(notice)),
        Err(broadcast::error::TryRecvError::Empty) => None,
        Err(broadcast::error::TryRecvError::Closed) => Some(Err(RecvError::Closed)),
        Err(broadcast::error::TryRecvError::Lagged(count)) => Some(Err(RecvError::Lagged(count))),
    }
}

/// Writes the list; false when the machine is off and the connection is to end.
async fn list(cloud: &Cloud, host: &HostName, write: &mut OwnedWriteHalf) -> io::Result<bool> {
    match cloud.guest_list(host) {
        None => Ok(false),
        Some(None) => Ok(true),
        Some(Some((guests, complete))) => line(write, &GuestList { guests, complete }).await.map(|()| true),
    }
}

async fn line<T: Serialize>(write: &mut OwnedWriteHalf, document: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(document)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}

/// What a client writes. Reading is safe to interrupt: half a line waits here for its other half.
struct Words {
    read: OwnedReadHalf,
    text: Vec<u8>,
}

impl Words {
    /// The next line; `None` at the end, or when a line is too long.
    async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()));
            }
            if self.text.len() > LINE_MAX || self.read.read_buf(&mut self.text).await? == 0 {
                return Ok(None);
            }
        }
    }
}
