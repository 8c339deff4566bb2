//! The local socket: a line of JSON for each notification, to whoever reads. A reader that is slow loses, and is told so;
//! nobody waits for it.

use std::io;
use std::sync::Arc;

use rekindle_proto::notification::{LostDoc, NOTIFICATION_VERSION, Notification};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast;

use crate::admin::AdminSocket;

/// Readers served at once: some monitoring, and a person looking.
pub(super) const READERS_MAX: usize = 16;
/// Notifications that may wait for a reader; beyond it the oldest are lost to it. Forty hosts' incidents are as many.
pub(super) const WAITING_MAX: usize = 256;

/// The socket's readers, as the loop sees them.
#[derive(Debug, Clone)]
pub struct EventSocket {
    lines: broadcast::Sender<Arc<str>>,
}

impl EventSocket {
    /// Serves readers of a socket that is bound. Needs a tokio runtime.
    #[must_use]
    pub fn serve(socket: AdminSocket) -> Self {
        let (lines, _) = broadcast::channel(WAITING_MAX);
        let readers = lines.clone();
        tokio::spawn(async move {
            socket.each("event socket", READERS_MAX, |stream| read_out(stream, readers.subscribe())).await;
        });
        Self { lines }
    }

    /// Tells every reader. Never waits.
    pub fn tell(&self, notification: &Notification) {
        match serde_json::to_string(notification) {
            // Without a reader there is nobody to lose anything.
            Ok(line) => drop(self.lines.send(Arc::from(line + "\n"))),
            Err(error) => tracing::error!(%error, "a notification cannot be written"),
        }
    }
}

/// Until the reader goes away. One that does not read keeps its place: it loses, and the daemon nothing.
async fn read_out(stream: UnixStream, mut lines: broadcast::Receiver<Arc<str>>) -> io::Result<()> {
    let (mut ear, mut mouth) = stream.into_split();
    let telling = async {
        loop {
            let line = match lines.recv().await {
                Ok(line) => line,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    let lost = LostDoc { version: NOTIFICATION_VERSION, lost };
                    Arc::from(serde_json::to_string(&lost)? + "\n")
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
            mouth.write_all(line.as_bytes()).await?;
        }
    };
    // What it says is not for us; that it has closed is.
    let closed = async {
        let mut ignored = [0; 256];
        while ear.read(&mut ignored).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = telling => ended,
        ended = closed => ended,
    }
}

#[cfg(test)]
mod tests {
    use rekindle_proto::id::{ClusterName, HostName, IncidentId, WallTime};
    use rekindle_proto::status::Phase;
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    fn numbered(number: u32) -> Notification {
        let host = HostName::new("cmp-04").expect("legal");
        Notification {
            version: NOTIFICATION_VERSION,
            id: format!("zrh1/14/{number}/5").into(),
            cluster: ClusterName::new("zrh1").expect("legal"),
            incident: IncidentId(14),
            number,
            host: host.clone(),
            from: Phase::Fencing,
            phase: Phase::Stuck,
            began: WallTime(1),
            at: WallTime(5),
            // Longer than a socket's buffer in a few hundred of them.
            text: "x".repeat(400).into(),
            by: host,
            process: None,
        }
    }

    fn value(line: &str) -> serde_json::Value {
        serde_json::from_str(line).expect("JSON")
    }

    #[tokio::test]
    async fn a_slow_reader_loses_is_told_how_many_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("events.sock");
        let events = EventSocket::serve(AdminSocket::bind(&path, 0o660).expect("bound"));
        let slow = UnixStream::connect(&path).await.expect("connected");
        let quick = UnixStream::connect(&path).await.expect("connected");
        let mut quick = BufReader::new(quick).lines();
        while events.lines.receiver_count() < 2 {
            tokio::task::yield_now().await;
        }
        const TOLD: u32 = 5_000;
        for number in 1..=TOLD {
            events.tell(&numbered(number));
            let line = quick.next_line().await.expect("read").expect("a line");
            assert_eq!(value(&line)["number"], number, "the quick one loses nothing");
        }
        let mut slow = BufReader::new(slow).lines();
        let (mut next, mut lost) = (1_u64, 0);
        while next <= u64::from(TOLD) {
            let told = value(&slow.next_line().await.expect("read").expect("a line"));
            if let Some(count) = told["lost"].as_u64() {
                assert_eq!(told["version"], NOTIFICATION_VERSION);
                lost += count;
                next += count;
            } else {
                assert_eq!(told["number"], next, "in order, and each gap was told");
                next += 1;
            }
        }
        assert!(lost > 0, "it lost nothing");
        drop(slow);
        while events.lines.receiver_count() > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn no_more_readers_than_there_are_places() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("events.sock");
        let events = EventSocket::serve(AdminSocket::bind(&path, 0o660).expect("bound"));
        let mut readers = Vec::new();
        for _ in 0..READERS_MAX {
            readers.push(UnixStream::connect(&path).await.expect("connected"));
        }
        while events.lines.receiver_count() < READERS_MAX {
            tokio::task::yield_now().await;
        }
        let mut refused = UnixStream::connect(&path).await.expect("connected");
        assert_eq!(refused.read(&mut [0; 1]).await.expect("closed"), 0, "turned away at once");
        events.tell(&numbered(1));
        let mut first = BufReader::new(&mut readers[0]).lines();
        assert_eq!(value(&first.next_line().await.expect("read").expect("a line"))["id"], "zrh1/14/1/5");
    }
}
