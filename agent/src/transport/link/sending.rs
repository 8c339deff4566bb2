//! Requests that wait for a connection, and the delivery of a message on one.

use std::sync::Arc;

use quinn::Connection;
use tracing::debug;

use super::super::shared::{Shared, lock};
use super::{Link, MESSAGE_AGE_MAX, Queued};

/// A request that waits for a connection.
pub(in super::super) struct Waiting(pub(super) Arc<Link>);

impl Waiting {
    /// Waits, however long it takes: the caller sets the time-out.
    pub(in super::super) async fn connection(&self, shared: &Shared) -> Connection {
        loop {
            let connected = self.0.connected.notified();
            if let Some(live) = self.0.current().or_else(|| shared.for_all(&self.0)) {
                return live.connection;
            }
            self.0.wake.notify_one();
            connected.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.0.state).requests_waiting -= 1;
    }
}

/// Sends a message on a stream of its own and waits until the peer has it. Gives it back if the connection was lost before.
/// (The peer may then have it nevertheless: messages may come twice.)
pub(super) async fn send(connection: Connection, queued: Queued) -> Option<Queued> {
    let left = MESSAGE_AGE_MAX.saturating_sub(queued.since.elapsed());
    let attempt = async {
        let mut stream = connection.open_uni().await.map_err(|_| ())?;
        stream.write_all(&queued.bytes).await.map_err(|_| ())?;
        stream.finish().map_err(|_| ())?;
        stream.stopped().await.map_err(|_| ())
    };
    match tokio::time::timeout(left, attempt).await {
        Ok(Ok(None)) => None,
        Ok(Ok(Some(code))) => {
            debug!(peer = %connection.remote_address(), %code, "a peer did not want a message");
            None
        }
        // Given back also when too old: it is then dropped, and counted, in one place.
        Ok(Err(())) | Err(_) => Some(queued),
    }
}
