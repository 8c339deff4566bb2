//! The daemon's end of the socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rekindle_proto::admin::{AdminErrorKind, AdminReply, AdminRequest, LINE_BYTES_MAX};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Connections served at once: a handful of operators, each with a `--watch`, and some monitoring.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// A connection says nothing, or does not take its reply, for that long: closed. A `--watch` asks every second.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);
/// The shell has that long to answer. A fence test of a large site takes some tens of seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// After a failed accept (no file descriptors left, as a rule): not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request, and whither its answer goes. Dropping the sender tells the operator that nothing was answered.
pub type Question = (AdminRequest, oneshot::Sender<AdminReply>);

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminServeError {
    /// Another process answers there.
    #[error("{}: another daemon listens there", path.display())]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
    /// Something else lies there, and is left alone.
    #[error("{}: is not a socket; move it away, or set member.admin_socket", path.display())]
    NotASocket {
        /// Which path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: cannot {what}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

/// The listening socket. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Makes the socket. It appears at `path` only once it has its mode, in place of a stale one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AdminServeError`] if somebody listens there, something else lies there, or the system refuses.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, AdminServeError> {
        let failed = |what| move |source| AdminServeError::Io { path: path.to_owned(), what, source };
        refuse_occupied(path)?;
        // Made under another name, so that nobody can connect between its making and its mode.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        match std::fs::remove_file(&fresh) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove what an earlier start left")(error)),
        }
        let listener = UnixListener::bind(&fresh).map_err(failed("listen"))?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(failed("set the socket's mode"))?;
        std::fs::rename(&fresh, path).map_err(failed("put the socket in its place"))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until the receiver of the questions is gone.
    pub async fn serve(self, questions: mpsc::Sender<Question>) {
        let serve_one = |stream| {
            let questions = questions.clone();
            async move { converse(stream, &questions).await }
        };
        tokio::select! {
            () = questions.closed() => {}
            () = self.each("admin socket", CONNECTIONS_MAX, serve_one) => {}
        }
    }

    /// Serves each connection in a task of its own, at most so many at once, for ever: also for whoever speaks another
    /// protocol on such a socket, which `what` names in the log.
    pub(crate) async fn each<F>(&self, what: &'static str, most: usize, mut serve_one: impl FnMut(UnixStream) -> F)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(most));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "{what}: a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                // Closed at once: whoever is turned away must not cost more than the accept.
                tracing::warn!(most, "{what}: too many connections, one was turned away");
                continue;
            };
            let served = serve_one(stream);
            tokio::spawn(async move {
                if let Err(error) = served.await {
                    tracing::debug!(%error, "{what}: a connection ended early");
                }
                drop(place);
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Left behind, it would be stale, which the next start sorts out: nothing to report.
        drop(std::fs::remove_file(&self.path));
    }
}

/// [`AdminSocket::bind`], then [`AdminSocket::serve`].
///
/// # Errors
/// As [`AdminSocket::bind`].
pub async fn serve(path: &Path, mode: u32, questions: mpsc::Sender<Question>) -> Result<(), AdminServeError> {
    AdminSocket::bind(path, mode)?.serve(questions).await;
    Ok(())
}

fn refuse_occupied(path: &Path) -> Result<(), AdminServeError> {
    let failed = |source| AdminServeError::Io { path: path.to_owned(), what: "look at", source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(AdminServeError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // Refused: its process is gone.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(AdminServeError::InUse { path: path.to_owned() }),
    }
}

/// Questions and answers, one after the other, until the other side closes or is silent.
async fn converse(stream: UnixStream, questions: &mpsc::Sender<Question>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let Some(line) = timeout(IDLE_MAX, read_line(&mut read)).await?? else { return Ok(()) };
        let (reply, last) = match line {
            Line::Whole(line) => (answer(&line, questions).await, false),
            Line::TooLong => {
                (error(AdminErrorKind::Malformed, format!("a request has at most {LINE_BYTES_MAX} bytes")), true)
            }
        };
        timeout(IDLE_MAX, write.write_all(&encode(&reply))).await??;
        if last {
            return Ok(());
        }
    }
}

/// What came before a line's end.
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line; `None` at the end. Never holds more than the longest line allowed.
async fn read_line(read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Line>> {
    let bound = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    let bytes = read.take(bound + 1).read_until(b'\n', &mut line).await?;
    if bytes == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && bytes > LINE_BYTES_MAX {
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(Line::Whole(line)))
}

async fn answer(line: &[u8], questions: &mpsc::Sender<Question>) -> AdminReply {
    let request: AdminRequest = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(reason) => return error(AdminErrorKind::Malformed, format!("the request is not understood: {reason}")),
    };
    // An order that was handed on may yet be carried out, whatever becomes of its answer.
    let (unanswered, advice) = if matches!(request, AdminRequest::Submit { .. }) {
        (AdminErrorKind::Unknown, "the order may yet be committed; look at `rekindle status` before repeating it")
    } else {
        (AdminErrorKind::NoLeader, "nothing was done; try again")
    };
    let (sender, receiver) = oneshot::channel();
    match timeout(IDLE_MAX, questions.send((request, sender))).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return error(AdminErrorKind::Refused, "the daemon is stopping; nothing was done".to_owned()),
        Err(_) => return error(AdminErrorKind::Refused, "the daemon is too busy; nothing was done".to_owned()),
    }
    match timeout(ANSWER_WITHIN, receiver).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => error(unanswered, format!("the daemon gave no answer; {advice}")),
        Err(_) => {
            let seconds = ANSWER_WITHIN.as_secs();
            error(unanswered, format!("the daemon gave no answer within {seconds} s; {advice}"))
        }
    }
}

fn error(kind: AdminErrorKind, text: String) -> AdminReply {
    AdminReply::Error { kind, text: text.into() }
}

fn encode(reply: &AdminReply) -> Vec<u8> {
    let encoded = serde_json::to_vec(reply).unwrap_or_default();
    let mut line = if encoded.is_empty() || encoded.len() >= LINE_BYTES_MAX {
        let text = format!("the answer has {} bytes, more than a line may have; ask for less", encoded.len());
        serde_json::to_vec(&error(AdminErrorKind::Refused, text)).unwrap_or_default()
    } else {
        encoded
    };
    line.push(b'\n');
    line
}
