//! The wire, the voters on it, and what each told its coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rekindle_coordinator::io::{Input, ProposeError};
use rekindle_coordinator::ledger::{Entry, Ledger, MemberStatement, Outcome, Position, Statement};
use rekindle_proto::fact::{GuestEvent, Text};
use rekindle_proto::id::{BootId, CallId, ClusterName, HostName, LogIndex, ServerId, Term, WallTime};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use rekindle_coordinator::voters::VotersView;

use super::super::types::Timing;
use super::super::{LedgerAdapter, LedgerError, LedgerSettings, PeerError, Peers};

/// For anything that should happen at all, on a machine that is busy with other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// Shorter than in life, but with the same proportions.
pub(super) const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(150),
    election_max: Duration::from_millis(1_800),
    propose_within: Duration::from_millis(1_500),
    check_within: Duration::from_millis(900),
};

pub(super) fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

pub(super) fn cluster_name() -> ClusterName {
    ClusterName::new("test").expect("legal")
}

/// Entries are told apart by their time.
pub(super) fn entry(number: i64) -> Box<Entry> {
    let statement = MemberStatement::GuestFailed { server: ServerId(Uuid::nil()), event: GuestEvent::Failed };
    let statement = Statement::Member { host: host("guest-host"), boot: BootId(Uuid::nil()), statement };
    Box::new(Entry::new(WallTime(number), statement))
}

/// Waits until something is so.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Hosts that may take a voter's place, in every cluster here.
pub(super) fn standbys() -> Vec<HostName> {
    ["standby-1", "standby-2"].map(host).to_vec()
}

/// The network.
#[derive(Default)]
pub(super) struct Wire {
    adapters: Mutex<BTreeMap<HostName, LedgerAdapter>>,
    cut: Mutex<BTreeSet<HostName>>,
    mute: Mutex<BTreeSet<HostName>>,
    /// Longest random delay of a call, in milliseconds.
    delay_ms: AtomicU64,
}

impl Wire {
    pub(super) fn cut(&self, host: &HostName) {
        self.cut.lock().expect("lock").insert(host.clone());
    }
    /// What it says arrives; no answer comes back to it.
    pub(super) fn deafen(&self, host: &HostName) {
        self.mute.lock().expect("lock").insert(host.clone());
    }
    pub(super) fn delay(&self, most: Duration) {
        self.delay_ms.store(u64::try_from(most.as_millis()).expect("short"), Ordering::Relaxed);
    }
    pub(super) fn heal(&self) {
        self.cut.lock().expect("lock").clear();
        self.mute.lock().expect("lock").clear();
    }
    async fn dawdle(&self) {
        let most = self.delay_ms.load(Ordering::Relaxed);
        if most > 0 {
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
        }
    }
    fn carries(&self, a: &HostName, b: &HostName) -> bool {
        let cut = self.cut.lock().expect("lock");
        !cut.contains(a) && !cut.contains(b)
    }
}

/// One voter's end of it.
pub(super) struct Plug {
    pub(super) host: HostName,
    pub(super) wire: Arc<Wire>,
}

impl Peers for Plug {
    async fn call(&self, voter: &HostName, bytes: Vec<u8>, _within: Duration) -> Result<Vec<u8>, PeerError> {
        if !self.wire.carries(&self.host, voter) {
            // A cut cable does not say so.
            std::future::pending::<()>().await;
        }
        self.wire.dawdle().await;
        let Some(adapter) = self.wire.adapters.lock().expect("lock").get(voter).cloned() else {
            return Err(PeerError::Unreachable { voter: voter.clone(), why: "nobody listens".to_owned() });
        };
        let answer = adapter.handle_rpc(&self.host, &bytes).await;
        self.wire.dawdle().await;
        if !self.wire.carries(&self.host, voter) || self.wire.mute.lock().expect("lock").contains(&self.host) {
            std::future::pending::<()>().await;
        }
        answer.map_err(|error| PeerError::Refused { voter: voter.clone(), why: error.to_string() })
    }
}

/// What a coordinator heard.
#[derive(Debug, Default, Clone)]
pub(super) struct Heard {
    /// Since the first start, over restarts.
    pub(super) restored: Vec<LogIndex>,
    /// Since the last [`Input::Restored`].
    pub(super) committed: Vec<(LogIndex, Term, i64)>,
    pub(super) ledger: Option<Ledger>,
    pub(super) proposed: BTreeMap<CallId, Result<Outcome, ProposeError>>,
    pub(super) checked: BTreeMap<CallId, Result<Term, Text>>,
    pub(super) leadership: Vec<(Term, Option<HostName>)>,
    /// The last word on Raft's members.
    pub(super) voters: Option<VotersView>,
}

impl Heard {
    fn hear(&mut self, input: Input) {
        match input {
            Input::Restored { ledger } => {
                self.restored.push(ledger.applied);
                self.committed.clear();
                self.ledger = Some(*ledger);
            }
            Input::Committed { index, term, entry } => {
                let ledger = self.ledger.as_mut().expect("Restored comes first");
                assert!(index > ledger.applied, "{index} after {}", ledger.applied);
                ledger.apply(Position { index, term }, &entry);
                self.committed.push((index, term, entry.at.0));
            }
            Input::Proposed { call, result } => {
                assert!(self.proposed.insert(call, result).is_none(), "{call} answered twice");
            }
            Input::Linearizable { call, result, .. } => {
                assert!(self.checked.insert(call, result).is_none(), "{call} answered twice");
            }
            Input::Leadership { term, leader } => self.leadership.push((term, leader)),
            Input::Voters { view } => self.voters = Some(view),
            Input::VotersChanged { .. }
            | Input::LifeFound { .. }
            | Input::Tick
            | Input::Processes { .. }
            | Input::ProcessRestarted { .. }
            | Input::Gate { .. }
            | Input::GuestDestroyed { .. }
            | Input::Connected { .. }
            | Input::Datagram { .. }
            | Input::Message { .. }
            | Input::DeviceRead { .. }
            | Input::PowerOffDone { .. }
            | Input::PowerOnDone { .. }
            | Input::Nova { .. }
            | Input::Guests { .. }
            | Input::GuestsChecked { .. }
            | Input::Guest { .. }
            | Input::Stopping { .. }
            | Input::Watchdog { .. }
            | Input::LeaveWatchdog
            | Input::KdumpWord { .. }
            | Input::HookDone { .. }
            | Input::Posted { .. }
            | Input::Query { .. } => panic!("the ledger has nothing to say of {input:?}"),
        }
    }

    pub(super) fn numbers(&self) -> Vec<i64> {
        self.committed.iter().map(|(_, _, number)| *number).collect()
    }

    pub(super) fn has(&self, number: i64) -> bool {
        self.committed.iter().any(|(_, _, present)| *present == number)
    }
}

/// One voter.
pub(super) struct Node {
    pub(super) host: HostName,
    pub(super) adapter: LedgerAdapter,
    pub(super) heard: Arc<Mutex<Heard>>,
}

impl Node {
    pub(super) fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().expect("lock"))
    }
}

/// All voters.
pub(super) struct Cluster {
    pub(super) wire: Arc<Wire>,
    /// The first voters.
    pub(super) names: Vec<HostName>,
    pub(super) generation: u64,
    pub(super) nodes: BTreeMap<HostName, Node>,
    pub(super) timing: Timing,
    root: TempDir,
    calls: u64,
}

pub(super) async fn start(
    wire: &Arc<Wire>,
    dir: PathBuf,
    host: &HostName,
    voters: &[HostName],
    timing: Timing,
) -> Result<Node, LedgerError> {
    start_in(wire, dir, host, voters, timing, 0).await
}

/// Starts in a generation of voters.
pub(super) async fn start_in(
    wire: &Arc<Wire>,
    dir: PathBuf,
    host: &HostName,
    voters: &[HostName],
    timing: Timing,
    generation: u64,
) -> Result<Node, LedgerError> {
    // Small: Raft has to wait for the coordinator now and then.
    let (inputs, mut receiver) = mpsc::channel(4);
    let settings = LedgerSettings {
        cluster: cluster_name(),
        host: host.clone(),
        voters: voters.to_vec(),
        standbys: standbys(),
        dir,
        generation,
    };
    let plug = Plug { host: host.clone(), wire: Arc::clone(wire) };
    let adapter = LedgerAdapter::start_with(settings, timing, plug, inputs).await?;
    wire.adapters.lock().expect("lock").insert(host.clone(), adapter.clone());
    let heard = Arc::new(Mutex::new(Heard::default()));
    let ear = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(input) = receiver.recv().await {
            ear.lock().expect("lock").hear(input);
        }
    });
    Ok(Node { host: host.clone(), adapter, heard })
}

impl Cluster {
    pub(super) fn new(size: usize) -> Self {
        let names = (1..=size).map(|number| host(&format!("voter-{number}"))).collect();
        let root = TempDir::new().expect("a directory");
        Self { wire: Arc::default(), names, generation: 0, nodes: BTreeMap::new(), timing: TIMING, root, calls: 0 }
    }

    pub(super) async fn started(size: usize) -> Self {
        let mut cluster = Self::new(size);
        for name in cluster.names.clone() {
            cluster.start(&name).await;
        }
        cluster
    }

    pub(super) fn dir(&self, host: &HostName) -> PathBuf {
        // The mark of a store lies beside its directory.
        self.root.path().join(host.as_str()).join("ledger")
    }

    pub(super) async fn start(&mut self, host: &HostName) {
        let starting = start_in(&self.wire, self.dir(host), host, &self.names, self.timing, self.generation);
        let node = tokio::time::timeout(PATIENCE, starting).await.expect("in time").expect("starts");
        self.nodes.insert(host.clone(), node);
    }

    pub(super) async fn stop(&mut self, host: &HostName) {
        self.wire.adapters.lock().expect("lock").remove(host);
        self.nodes.remove(host).expect("runs").adapter.shutdown().await;
    }

    pub(super) fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Asks a voter whether it leads.
    pub(super) async fn check(&mut self, host: &HostName) -> Result<Term, Text> {
        let call = self.call();
        let node = &self.nodes[host];
        node.adapter.check(call);
        until("a check is answered", async || node.heard(|heard| heard.checked.get(&call).cloned())).await
    }

    /// Proposes through a voter and waits for the answer.
    pub(super) async fn propose(&mut self, host: &HostName, number: i64) -> Result<Outcome, ProposeError> {
        let call = self.call();
        let node = &self.nodes[host];
        node.adapter.propose(call, entry(number));
        until("a proposal is answered", async || node.heard(|heard| heard.proposed.get(&call).cloned())).await
    }

    /// The voter that a quorum says leads, not among `but`.
    pub(super) async fn leader_but(&mut self, but: &[HostName]) -> (HostName, Term) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
                if but.contains(&name) || !self.nodes.contains_key(&name) {
                    continue;
                }
                if let Ok(term) = self.check(&name).await {
                    return (name, term);
                }
            }
            assert!(Instant::now() < deadline, "no leader in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn leader(&mut self) -> HostName {
        self.leader_but(&[]).await.0
    }

    /// Proposes again and again until it is committed; a test's client, that may therefore commit it twice.
    pub(super) async fn commit(&mut self, number: i64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            if self.propose(&leader, number).await.is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "{number} not committed in {PATIENCE:?}");
        }
    }

    /// Waits until every running voter has applied this.
    pub(super) async fn all_have(&self, number: i64) {
        for node in self.nodes.values() {
            until(&format!("{} has {number}", node.host), async || node.heard(|heard| heard.has(number)).then_some(()))
                .await;
        }
    }

    /// Waits until all running voters have come to the same ledger.
    pub(super) async fn agree(&self) {
        until("all ledgers are equal", async || {
            let ledgers: Vec<_> = self.nodes.values().map(|node| node.heard(|heard| heard.ledger.clone())).collect();
            ledgers.iter().all(|ledger| *ledger == ledgers[0]).then_some(())
        })
        .await;
    }
}
