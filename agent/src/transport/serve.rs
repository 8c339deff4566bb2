//! Reading an accepted connection, and accepting new ones.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ReadToEndError, RecvStream, SendStream};
use rekindle_coordinator::io::Peer;
use rekindle_proto::id::{MemberId, PathName};
use rekindle_proto::message::{
    DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX, Message, REQUEST_BYTES_MAX, Reply, Request, decode, encode,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, oneshot};
use tracing::debug;

use super::endpoint::{MESSAGES_AT_ONCE, REQUESTS_AT_ONCE};
use super::lane::Carries;
use super::link::Link;
use super::live::{Live, Wanted};
use super::refusals::count;
use super::shared::Shared;
use super::{TransportEvent, close, hello};

/// Strangers being looked at on one path at once. Beyond half of it, a stranger must first prove that it receives at its
/// address (RFC 9000, section 8.1.2); beyond all of it, it is turned away and tries again.
const HANDSHAKES_MAX: usize = 128;

/// A message that has begun must have come by then; its sender has given up too.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);

/// The same for a request, which may be a snapshot on a busy network.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// The shell has this long for an answer: longer than any asker waits.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// Requests longer than [`SMALL_BYTES`] are read one at a time per peer: a peer can make us hold one snapshot, not sixteen.
const LARGE_AT_ONCE: usize = 1;
const SMALL_BYTES: usize = 64 * 1024;

/// Accepts connections on a path until its endpoint is closed.
pub(super) async fn accept_all(shared: Arc<Shared>, path: usize) {
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = shared.endpoint(path).accept().await {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        if permits.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
            // It fails only for those that have proven their address already.
            let _ = incoming.retry();
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let from = incoming.remote_address();
            let outcome = hello::accept(&shared, path, incoming).await;
            drop(permit);
            match outcome {
                Ok(live) => {
                    begin(&shared, path, live);
                }
                Err(error) => shared.complain(from, &error),
            }
        });
    }
}

/// Takes an accepted connection into its member's link and begins to read it.
pub(super) fn begin(shared: &Arc<Shared>, path: usize, live: Live) -> Arc<Link> {
    count(&shared.counters.connections);
    let wanted = Wanted::Member(MemberId::of(&live.peer.host));
    let (link, adopted) = shared.with_link((path, live.carries.lane()), wanted, live.peer.address, |link| {
        link.set_address(live.peer.address);
        (Arc::clone(link), link.adopt(shared, &live))
    });
    let Live { connection, peer, carries, .. } = live;
    if carries == Carries::All {
        shared.tell_requests(path, wanted);
    }
    debug!(peer = %peer.host, address = %peer.address, ?carries, adopted, "connected");
    let reader = Reader { shared: Arc::clone(shared), path, peer, connection, carries };
    tokio::spawn(reader.read_all(Arc::clone(&link), adopted));
    link
}

#[derive(Clone)]
struct Reader {
    shared: Arc<Shared>,
    path: usize,
    peer: Peer,
    connection: Connection,
    carries: Carries,
}

impl Reader {
    /// Reads until the connection ends. "Connected" comes before all that is read from it.
    async fn read_all(self, link: Arc<Link>, adopted: bool) {
        if adopted {
            self.tell(TransportEvent::Connected { peer: self.peer.clone(), path: self.path_name() }).await;
        }
        // What it is not for is not read: QUIC holds little of it for a peer, and lets no more come.
        let words = async {
            if self.carries.words() {
                tokio::join!(self.read_datagrams(), self.read_messages());
            }
        };
        let requests = async {
            if self.carries.requests() {
                self.read_requests().await;
            }
        };
        tokio::join!(words, requests);
        let reason = self.connection.closed().await;
        debug!(peer = %self.peer.host, %reason, "disconnected");
        link.disown(&self.connection);
    }

    fn path_name(&self) -> PathName {
        self.shared.path(self.path).clone()
    }

    /// Waits while the shell is busy. If it is gone, so are we soon.
    async fn tell(&self, event: TransportEvent) {
        let _ = self.shared.events.send(event).await;
    }

    async fn read_datagrams(&self) {
        while let Ok(bytes) = self.connection.read_datagram().await {
            if bytes.len() > DATAGRAM_BYTES_MAX {
                self.malformed(&format!(
                    "a datagram of {} bytes; at most {DATAGRAM_BYTES_MAX} are allowed",
                    bytes.len()
                ));
                continue;
            }
            let event =
                TransportEvent::Datagram { from: self.peer.clone(), path: self.path_name(), bytes: bytes.into() };
            match self.shared.events.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(_)) => count(&self.shared.counters.overrun_datagrams),
            }
        }
    }

    async fn read_messages(&self) {
        let permits = Arc::new(Semaphore::new(MESSAGES_AT_ONCE as usize));
        loop {
            // A permit is held until the shell has taken the message: QUIC alone would let further ones in once it is read.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let Ok(stream) = self.connection.accept_uni().await else { return };
            let reader = self.clone();
            tokio::spawn(async move {
                reader.read_message(stream).await;
                drop(permit);
            });
        }
    }

    async fn read_message(&self, mut stream: RecvStream) {
        let read = tokio::time::timeout(MESSAGE_WITHIN, stream.read_to_end(MESSAGE_BYTES_MAX)).await;
        match read {
            Ok(Ok(bytes)) => match decode::<Message>(&bytes, MESSAGE_BYTES_MAX) {
                Ok(message) => {
                    let (from, path) = (self.peer.clone(), self.path_name());
                    self.tell(TransportEvent::Message { from, path, message }).await;
                }
                Err(error) => self.malformed(&format!("a message: {error}")),
            },
            Ok(Err(ReadToEndError::TooLong)) => {
                self.refuse_stream(&mut stream);
                self.malformed(&format!("a message of more than {MESSAGE_BYTES_MAX} bytes"));
            }
            Ok(Err(ReadToEndError::Read(error))) => debug!(peer = %self.peer.host, %error, "a message broke off"),
            Err(_) => {
                self.refuse_stream(&mut stream);
                self.malformed("a message that was begun and not ended in time");
            }
        }
    }

    async fn read_requests(&self) {
        let permits = Arc::new(Semaphore::new(REQUESTS_AT_ONCE as usize));
        let large = Arc::new(Semaphore::new(LARGE_AT_ONCE));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let Ok((send, receive)) = self.connection.accept_bi().await else { return };
            let (reader, large) = (self.clone(), Arc::clone(&large));
            tokio::spawn(async move {
                reader.serve_request(send, receive, &large).await;
                drop(permit);
            });
        }
    }

    async fn serve_request(&self, send: SendStream, mut receive: RecvStream, large: &Semaphore) {
        let read = tokio::time::timeout(REQUEST_WITHIN, read_request(&mut receive, large)).await;
        let (bytes, _permit) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                self.refuse_stream(&mut receive);
                return self.malformed(&format!("a request: {error}"));
            }
            Err(_) => {
                self.refuse_stream(&mut receive);
                return self.malformed("a request that was begun and not ended in time");
            }
        };
        let request = match decode::<Request>(&bytes, REQUEST_BYTES_MAX) {
            Ok(request) => request,
            Err(error) => return self.malformed(&format!("a request: {error}")),
        };
        drop(bytes);
        let (reply, answer) = oneshot::channel();
        self.tell(TransportEvent::Request { from: self.peer.clone(), request, reply }).await;
        let reply = match tokio::time::timeout(REPLY_WITHIN, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::Refused("this member does not serve such requests now".into()),
            Err(_) => Reply::Refused("no answer was found in time; what was asked may yet be done".into()),
        };
        self.answer(send, &reply).await;
    }

    async fn answer(&self, mut send: SendStream, reply: &Reply) {
        let bytes = encode(reply, REQUEST_BYTES_MAX).or_else(|error| {
            encode(&Reply::Refused(format!("the reply is too long: {error}").into()), REQUEST_BYTES_MAX)
        });
        let Ok(bytes) = bytes else { return };
        // The asker may be gone; then nobody misses the answer.
        let written = tokio::time::timeout(REPLY_WITHIN, send.write_all(&bytes)).await;
        if matches!(written, Ok(Ok(()))) {
            let _ = send.finish();
        } else {
            let _ = send.reset(close::UNWANTED);
        }
    }

    fn refuse_stream(&self, stream: &mut RecvStream) {
        // It may have ended meanwhile, which is as good.
        let _ = stream.stop(close::UNWANTED);
    }

    fn malformed(&self, why: &str) {
        self.shared.quieter.malformed(self.connection.remote_address(), self.peer.host.as_str(), why);
    }
}

/// Reads a request; a permit for large ones is taken before more than [`SMALL_BYTES`] of it are held.
async fn read_request<'a>(
    stream: &mut RecvStream,
    large: &'a Semaphore,
) -> Result<(Vec<u8>, Option<tokio::sync::SemaphorePermit<'a>>), String> {
    let mut bytes = Vec::new();
    let mut permit = None;
    while let Some(chunk) = stream.read_chunk(SMALL_BYTES, true).await.map_err(|error| error.to_string())? {
        if bytes.len() + chunk.bytes.len() > REQUEST_BYTES_MAX {
            return Err(format!("more than {REQUEST_BYTES_MAX} bytes"));
        }
        if permit.is_none() && bytes.len() + chunk.bytes.len() > SMALL_BYTES {
            permit = large.acquire().await.ok();
        }
        bytes.extend_from_slice(&chunk.bytes);
    }
    Ok((bytes, permit))
}
