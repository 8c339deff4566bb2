//! Transports on loopback addresses, with real certificates.

mod bounds;
mod change;
mod exchange;
mod refusal;
mod relay;
mod rough;
mod upgrade;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Instant, SystemTime};

use rekindle_coordinator::io::Peer;
use rekindle_proto::id::{BootId, CallId, ClusterName, HostName, OperatorName};
use rekindle_proto::message::CodecError;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use uuid::Uuid;

use super::lane::Protocols;
use super::*;
use crate::pki::{Authority, CertIdentity, CertRole, Issued, LEAF_VALIDITY, Validity};

/// No test waits longer for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority that writes certificates where transports find them.
struct Pki {
    dir: TempDir,
    authority: Authority,
    ca_pem: String,
}

impl Pki {
    fn new(cluster: &str) -> Self {
        let (authority, issued) = Authority::generate(&name(cluster), SystemTime::now()).expect("makes a CA");
        Self { dir: tempfile::tempdir().expect("a directory"), authority, ca_pem: issued.certificate_pem }
    }

    fn issue(&self, cluster: &str, role: CertRole, host: &str, validity: Validity) -> Issued {
        let identity = CertIdentity { cluster: name(cluster), role, name: OperatorName::new(host).expect("legal") };
        self.authority.issue(&identity, validity).expect("issues")
    }

    fn write(&self, host: &str, issued: &Issued) -> TlsFiles {
        let file = |end: &str| self.dir.path().join(format!("{host}.{end}"));
        let files = TlsFiles { ca: file("ca"), certificate: file("pem"), key: file("key") };
        std::fs::write(&files.ca, &self.ca_pem).expect("writes");
        std::fs::write(&files.certificate, &issued.certificate_pem).expect("writes");
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
        options.open(&files.key).and_then(|mut file| file.write_all(issued.key_pem.as_bytes())).expect("writes");
        files
    }

    /// Settings of an honest member of the CA's cluster.
    fn settings(&self, host: &str) -> TransportSettings {
        let cluster = self.authority.cluster().clone();
        let validity = Validity::beginning(SystemTime::now(), LEAF_VALIDITY);
        let issued = self.issue(cluster.as_str(), CertRole::Member, host, validity);
        TransportSettings {
            cluster,
            host: self::host(host),
            boot: BootId(Uuid::new_v4()),
            incarnation: Incarnation(1),
            listen: vec![(management(), loopback(0))],
            tls: self.write(host, &issued),
            reset_key: rand_key(),
        }
    }

    async fn member(&self, host: &str) -> Node {
        Node::start(self.settings(host)).await
    }
}

fn rand_key() -> [u8; 64] {
    let mut key = [0; 64];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key).expect("random");
    key
}

fn name(cluster: &str) -> ClusterName {
    ClusterName::new(cluster).expect("legal")
}

fn host(host: &str) -> HostName {
    HostName::new(host).expect("legal")
}

fn id(name: &str) -> MemberId {
    MemberId::of(&host(name))
}

fn management() -> PathName {
    PathName::new("management").expect("legal")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A transport and what it told.
struct Node {
    transport: Transport,
    events: Receiver<TransportEvent>,
    host: HostName,
}

impl Node {
    async fn start(settings: TransportSettings) -> Self {
        let (sender, events) = mpsc::channel(1_024);
        let host = settings.host.clone();
        Self { transport: Transport::start(settings, sender).await.expect("starts"), events, host }
    }

    /// Starts without looking at its own certificate, as a liar would.
    fn start_unchecked(settings: TransportSettings) -> Self {
        Self::start_speaking(settings, Protocols::ours())
    }

    fn start_speaking(settings: TransportSettings, protocols: Protocols) -> Self {
        let (sender, events) = mpsc::channel(1_024);
        let host = settings.host.clone();
        let files = tls::read(&settings.tls).expect("well-formed files");
        let tls = tls::configure(files, protocols).expect("fit files");
        Self { transport: Transport::run(settings, tls, sender).expect("starts"), events, host }
    }

    fn addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    fn id(&self) -> MemberId {
        MemberId::of(&self.host)
    }

    fn send(&self, to: &Self, call: u64) {
        self.transport.send_message(to.addr(), Some(to.id()), management(), Message::RollCall { call: CallId(call) });
    }

    fn send_datagram(&self, to: &Self, bytes: &[u8]) {
        self.transport.send_datagram(to.addr(), to.id(), management(), bytes.to_vec());
    }

    async fn next(&mut self) -> TransportEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("something happens in time").expect("runs")
    }

    /// The next roll call; what else happens is passed over.
    async fn next_call(&mut self) -> (Peer, u64) {
        loop {
            if let TransportEvent::Message { from, message: Message::RollCall { call }, .. } = self.next().await {
                return (from, call.0);
            }
        }
    }

    async fn next_datagram(&mut self) -> (Peer, PathName, Vec<u8>) {
        loop {
            if let TransportEvent::Datagram { from, path, bytes } = self.next().await {
                return (from, path, bytes);
            }
        }
    }

    async fn next_peer(&mut self) -> Peer {
        loop {
            if let TransportEvent::Connected { peer, .. } = self.next().await {
                return peer;
            }
        }
    }

    /// Answers requests by its name from now on. All else comes as before.
    fn answering(mut self) -> Self {
        let (sender, others) = mpsc::channel(1_024);
        let mut events = std::mem::replace(&mut self.events, others);
        let reply_with = Reply::Raft(self.host.as_str().as_bytes().to_vec());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                // The asker, or the test, may be gone.
                if let TransportEvent::Request { reply, .. } = event {
                    let _ = reply.send(reply_with.clone());
                } else {
                    let _ = sender.send(event).await;
                }
            }
        });
        self
    }

    /// Asks a node that is [`answering`](Self::answering).
    async fn ask(&self, to: &Self) {
        let reply = self.transport.request(to.addr(), to.id(), Request::Raft(vec![1]), PATIENCE).await;
        assert_eq!(reply.expect("answers"), Reply::Raft(to.host.as_str().as_bytes().to_vec()));
    }

    /// The connection in use with a peer, for all but requests.
    fn connection(&self, to: MemberId) -> Option<quinn::Connection> {
        self.connection_for(Lane::Words, to)
    }

    fn connection_for(&self, lane: Lane, to: MemberId) -> Option<quinn::Connection> {
        let link = lock(&self.transport.shared().links).get(&(0, lane, Wanted::Member(to))).cloned();
        link.and_then(|link| link.current()).map(|live| live.connection)
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What was logged on this thread since.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures warnings of this thread; tests run on one thread each.
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that hold all these words.
    fn lines(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8_lossy(&lock(&self.0)).into_owned();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
    }

    async fn says(&self, words: &[&str]) {
        let start = Instant::now();
        while self.lines(words).is_empty() {
            assert!(
                start.elapsed() < PATIENCE,
                "no line with {words:?} in:\n{}",
                String::from_utf8_lossy(&lock(&self.0))
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
