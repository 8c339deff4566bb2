//! Guests of hypervisors that are not libvirt's, over a Unix socket.
//!
//! One JSON object a line. The server writes, on connect and on every change, all guests:
//!
//! ```json
//! {"guests":[{"server":"6f1c…","running":true,"disks":"shared"}],"complete":true}
//! ```
//!
//! (`disks`: `shared`, `local` or `unknown`; with `"died":true` if it does not run and nobody stopped it), and between them what happened: `{"event":"failed","server":"6f1c…"}`
//! (`failed`, `running`, `stopped`, `undefined`). The client may write the line `list` to be given the list again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rekindle_proto::fact::{GUESTS_MAX, Guest, GuestEvent, GuestList, Text};
use rekindle_proto::id::ServerId;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

use super::{Gone, HypervisorError, HypervisorEvent, Reach, pause, summary};

/// Longest line, in bytes: [`GUESTS_MAX`] guests at about 90 bytes each, with room to spare.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Longest wait for the list which the server owes us on connect, and for it to take our `list`.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// How often we ask for the list of ourselves, so that a server that hangs is noticed.
const ASK_EVERY: Duration = Duration::from_secs(20);

/// Watches for ever.
pub(super) async fn watch(path: PathBuf, events: mpsc::Sender<HypervisorEvent>, list: Arc<Notify>) {
    let mut watcher = Watcher { path, events, list, known: None, reach: Reach::default() };
    let mut failures = 0;
    loop {
        let Ended::Lost(error) = watcher.session(&mut failures).await else { return };
        if watcher.reach.tell(&watcher.events, false, error.to_string()).await.is_err() {
            return;
        }
        failures = u32::saturating_add(failures, 1);
        tokio::select! {
            () = tokio::time::sleep(pause(failures)) => {}
            () = watcher.events.closed() => return,
        }
    }
}

/// Which of these run, by a list the server makes now: on a fresh connection, whose first line is the present.
pub(super) async fn running(path: PathBuf, servers: Vec<ServerId>) -> Option<Vec<ServerId>> {
    let list = match first_list(&path).await {
        Ok((list, _, _)) => list,
        Err(error) => {
            tracing::warn!(%error, "cannot say which guests run here");
            return None;
        }
    };
    let runs = |server: &ServerId| list.guests.iter().any(|guest| guest.server == *server && guest.running);
    list.complete.then(|| servers.into_iter().filter(runs).collect())
}

/// Connects, and reads the first list.
pub(super) async fn check(path: &Path) -> Result<Text, HypervisorError> {
    let (list, _, _) = first_list(path).await?;
    Ok(Text::new(format!("guests socket {}: {}", path.display(), summary(&list))))
}

struct Watcher {
    path: PathBuf,
    events: mpsc::Sender<HypervisorEvent>,
    list: Arc<Notify>,
    /// Which guests were there when we last heard, and whether they ran.
    known: Option<BTreeMap<ServerId, bool>>,
    reach: Reach,
}

/// Why a session ended.
enum Ended {
    Gone,
    Lost(HypervisorError),
}
impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}
impl From<HypervisorError> for Ended {
    fn from(error: HypervisorError) -> Self {
        Self::Lost(error)
    }
}

impl Watcher {
    async fn session(&mut self, failures: &mut u32) -> Ended {
        match self.try_session(failures).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_session(&mut self, failures: &mut u32) -> Result<std::convert::Infallible, Ended> {
        let (list, mut lines, mut ask) = first_list(&self.path).await?;
        self.reach.tell(&self.events, true, format!("connected to guests socket {}", self.path.display())).await?;
        self.tell_missed(&list).await?;
        self.tell_list(list).await?;
        *failures = 0;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + ASK_EVERY, ASK_EVERY);
        let mut owed_since = None;
        loop {
            let asks = tokio::select! {
                () = self.events.closed() => return Err(Ended::Gone),
                line = lines.next() => {
                    owed_since = None;
                    match line? {
                        Line::List(list) => self.tell_list(list).await?,
                        Line::Event { server, event } => self.tell_event(server, event).await?,
                    }
                    false
                }
                () = self.list.notified() => true,
                _ = tick.tick() => true,
            };
            if asks {
                let now = tokio::time::Instant::now();
                if now - *owed_since.get_or_insert(now) > LIST_WITHIN {
                    return Err(silent(&self.path).into());
                }
                let written = tokio::time::timeout(LIST_WITHIN, ask.write_all(b"list\n")).await;
                written
                    .map_err(|_| silent(&self.path))?
                    .map_err(|source| broken(&self.path, "cannot write", source))?;
            }
        }
    }

    /// What must have happened while we were not connected. Why a guest stopped is not known then: left alone.
    async fn tell_missed(&mut self, list: &GuestList) -> Result<(), Gone> {
        let Some(known) = self.known.clone() else { return Ok(()) };
        for guest in &list.guests {
            let event = match (known.get(&guest.server), guest.running) {
                (Some(true), false) => GuestEvent::Stopped,
                (Some(false) | None, true) => GuestEvent::Running,
                (Some(true), true) | (Some(false) | None, false) => continue,
            };
            self.tell_event(guest.server, event).await?;
        }
        let is_there = |server: &ServerId| list.guests.iter().any(|guest| guest.server == *server);
        for server in known.keys().filter(|server| list.complete && !is_there(server)) {
            self.tell_event(*server, GuestEvent::Undefined).await?;
        }
        Ok(())
    }

    async fn tell_list(&mut self, list: GuestList) -> Result<(), Gone> {
        let known = list.guests.iter().map(|guest| (guest.server, guest.running));
        match &mut self.known {
            Some(before) if !list.complete => before.extend(known),
            Some(_) | None => self.known = Some(known.collect()),
        }
        self.events.send(HypervisorEvent::List(list)).await.map_err(|_| Gone)
    }

    async fn tell_event(&mut self, server: ServerId, event: GuestEvent) -> Result<(), Gone> {
        let known = self.known.get_or_insert_default();
        match event {
            GuestEvent::Running => drop(known.insert(server, true)),
            GuestEvent::Failed | GuestEvent::Stopped => drop(known.insert(server, false)),
            GuestEvent::Undefined => drop(known.remove(&server)),
        }
        self.events.send(HypervisorEvent::Guest { server, event }).await.map_err(|_| Gone)
    }
}

/// Connects, and waits for the list that must come first.
async fn first_list(path: &Path) -> Result<(GuestList, Lines, OwnedWriteHalf), HypervisorError> {
    let connected = async {
        let stream = UnixStream::connect(path).await.map_err(|source| broken(path, "cannot connect", source))?;
        let (read, write) = stream.into_split();
        let mut lines = Lines { reader: BufReader::new(read), path: path.to_owned(), line: Vec::new() };
        match lines.next().await? {
            Line::List(list) => Ok((list, lines, write)),
            Line::Event { .. } => Err(malformed(path, "the first line is an event; it must be the list")),
        }
    };
    tokio::time::timeout(LIST_WITHIN, connected).await.unwrap_or_else(|_| Err(silent(path)))
}

/// One line of the server.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    List(GuestList),
    Event { server: ServerId, event: GuestEvent },
}

struct Lines {
    reader: BufReader<OwnedReadHalf>,
    path: PathBuf,
    /// The line as far as it has come: kept here, so that a cancelled read loses nothing.
    line: Vec<u8>,
}

impl Lines {
    /// The next line. Cancelling it loses nothing.
    async fn next(&mut self) -> Result<Line, HypervisorError> {
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len() as u64);
        let read = (&mut self.reader).take(room).read_until(b'\n', &mut self.line).await;
        read.map_err(|source| broken(&self.path, "cannot read", source))?;
        if self.line.last() != Some(&b'\n') {
            let why = if self.line.len() as u64 > LINE_BYTES_MAX {
                return Err(malformed(&self.path, &format!("a line is longer than {LINE_BYTES_MAX} bytes")));
            } else {
                "it closed the connection"
            };
            return Err(broken(&self.path, why, std::io::ErrorKind::UnexpectedEof.into()));
        }
        let line = std::mem::take(&mut self.line);
        parse(&line).map_err(|why| malformed(&self.path, &why))
    }
}

#[derive(Deserialize)]
struct Wire {
    guests: Option<Vec<Guest>>,
    complete: Option<bool>,
    event: Option<GuestEvent>,
    server: Option<ServerId>,
}

fn parse(line: &[u8]) -> Result<Line, String> {
    let wire: Wire = serde_json::from_slice(line).map_err(|error| format!("a line is not understood: {error}"))?;
    match (wire.guests, wire.complete, wire.event, wire.server) {
        (Some(guests), Some(complete), None, None) => list_of(guests, complete).map(Line::List),
        (None, None, Some(event), Some(server)) => Ok(Line::Event { server, event }),
        _ => Err("a line is neither {\"guests\", \"complete\"} nor {\"event\", \"server\"}".to_owned()),
    }
}

/// Sorts, refuses doubles, cuts at the bound.
fn list_of(mut guests: Vec<Guest>, complete: bool) -> Result<GuestList, String> {
    guests.sort_unstable();
    if let Some(twice) = guests.windows(2).find(|pair| pair.iter().all(|guest| guest.server == pair[0].server)) {
        return Err(format!("guest {} is listed twice", twice[0].server));
    }
    let fits = guests.len() <= GUESTS_MAX;
    guests.truncate(GUESTS_MAX);
    Ok(GuestList { complete: complete && fits, guests })
}

fn broken(path: &Path, what: &'static str, source: std::io::Error) -> HypervisorError {
    HypervisorError::Socket { path: path.to_owned(), what, source }
}

fn malformed(path: &Path, why: &str) -> HypervisorError {
    HypervisorError::Malformed { path: path.to_owned(), why: why.to_owned() }
}

fn silent(path: &Path) -> HypervisorError {
    let place = format!("guests socket {}", path.display());
    HypervisorError::Silent { place, what: "list its guests", after: LIST_WITHIN }
}

#[cfg(test)]
mod tests;
