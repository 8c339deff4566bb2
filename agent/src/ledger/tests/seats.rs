//! Seats: a store that was lost or is an older copy, a voter that is replaced, a quorum that is recovered.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_coordinator::ledger::{
    Entry, LeaderCommand, OperatorCommand, OperatorOrder, QuorumRecovery, Seat, Statement, VotersCommand,
};
use rekindle_coordinator::voters::VoterAct;
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::id::{HostName, StoreId, WallTime};
use tempfile::TempDir;

use super::super::store::FILE_NAME;
use super::super::{LedgerError, StoreError, recover_quorum, remains, seating};
use super::harness::{Cluster, TIMING, cluster_name, host, standbys, start, start_in, until};
use crate::pki;

fn seat_of(cluster: &Cluster, name: &HostName) -> Seat {
    cluster.nodes[name].adapter.seat()
}

/// Waits until the leader hears of a store that asks to be let in, and lets it in.
async fn admit(cluster: &mut Cluster, seat: &Seat) {
    until(&format!("{} asks to be let in", seat.host), async || {
        cluster.nodes.values().find_map(|node| {
            node.heard(|heard| heard.voters.as_ref().filter(|view| view.joining.contains(seat)).map(|_| ()))
        })
    })
    .await;
    change(cluster, VoterAct::AddStandby(seat.clone())).await;
}

/// Makes a change through whoever leads.
async fn change(cluster: &mut Cluster, act: VoterAct) {
    let leader = cluster.leader().await;
    let raft = cluster.nodes[&leader].adapter.raft().clone();
    until(&format!("{act:?}"), async || seating::change(&raft, act.clone()).await.ok()).await;
}

fn stores(seats: &[Seat]) -> std::collections::BTreeSet<StoreId> {
    seats.iter().map(|seat| seat.store).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_replaced_and_then_another() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(1).await;
    for standby in standbys() {
        cluster.start(&standby).await;
        let seat = seat_of(&cluster, &standby);
        admit(&mut cluster, &seat).await;
    }
    cluster.all_have(1).await;
    // A standby has everything, and its word counts for nothing.
    let mut voters: Vec<Seat> = cluster.names.iter().map(|name| seat_of(&cluster, name)).collect();
    for (number, standby) in (2..).zip(standbys()) {
        let leader = cluster.leader().await;
        let dead = voters.iter().find(|seat| seat.host != leader && seat.host.as_str().starts_with("voter"));
        let dead = dead.expect("one").clone();
        cluster.stop(&dead.host).await;
        voters.retain(|seat| *seat != dead);
        voters.push(seat_of(&cluster, &standby));
        change(&mut cluster, VoterAct::SetVoters(stores(&voters))).await;
        cluster.commit(number).await;
        cluster.all_have(number).await;
        let leader = cluster.leader().await;
        let mut names: Vec<HostName> = voters.iter().map(|seat| seat.host.clone()).collect();
        names.sort();
        assert_eq!(cluster.nodes[&leader].adapter.voters(), names);
        // The one that was replaced comes back with its old store: it is no voter, and asks like anybody.
        cluster.start(&dead.host).await;
        assert!(cluster.check(&dead.host).await.is_err());
        cluster.stop(&dead.host).await;
    }
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_comes_back_as_somebody_else() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(1).await;
    let leader = cluster.leader().await;
    let wiped = cluster.names.iter().find(|name| **name != leader).expect("one").clone();
    let before = seat_of(&cluster, &wiped);
    cluster.stop(&wiped).await;
    fs::remove_dir_all(cluster.dir(&wiped)).expect("removed");
    cluster.start(&wiped).await;
    let after = seat_of(&cluster, &wiped);
    assert_ne!(before.store, after.store);
    admit(&mut cluster, &after).await;
    let mut voters: Vec<Seat> = cluster.names.iter().map(|name| seat_of(&cluster, name)).collect();
    change(&mut cluster, VoterAct::SetVoters(stores(&voters))).await;
    cluster.commit(2).await;
    cluster.all_have(2).await;
    // It counts again: without one of the others there is a quorum.
    let leader = cluster.leader().await;
    voters.retain(|seat| seat.host != leader && seat.host != wiped);
    cluster.stop(&voters[0].host).await;
    cluster.commit(3).await;
    cluster.all_have(3).await;
}

/// A follower of a running cluster, stopped, with a copy of its directory from before its last start.
async fn with_backup(cluster: &mut Cluster, keep: &Path) -> HostName {
    let leader = cluster.leader().await;
    let name = cluster.names.iter().find(|name| **name != leader).expect("one").clone();
    cluster.stop(&name).await;
    fs::copy(cluster.dir(&name).join(FILE_NAME), keep).expect("copied");
    cluster.start(&name).await;
    cluster.commit(2).await;
    cluster.all_have(2).await;
    cluster.stop(&name).await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_a_store_never_votes() {
    let keep = TempDir::new().expect("a directory");
    let keep = keep.path().join("copy");
    let mut cluster = Cluster::started(3).await;
    cluster.commit(1).await;
    let name = with_backup(&mut cluster, &keep).await;
    // The mark beside the directory was left: a new store is begun, and the copy kept aside.
    fs::copy(&keep, cluster.dir(&name).join(FILE_NAME)).expect("restored");
    let others: Vec<Seat> = cluster.nodes.keys().map(|other| seat_of(&cluster, other)).collect();
    cluster.start(&name).await;
    let fresh = seat_of(&cluster, &name);
    assert!(cluster.dir(&name).join("ledger.redb.older").exists());
    let leader = cluster.leader().await;
    let node = &cluster.nodes[&leader];
    let known = until("Raft's members are told", async || node.heard(|heard| heard.voters.clone())).await;
    assert!(known.voters.iter().all(|voter| voter.seat != fresh), "{known:?}");
    cluster.stop(&name).await;
    // The mark was lost too: then the others know it by its line of lives, and do not hear it, however often it starts.
    fs::copy(&keep, cluster.dir(&name).join(FILE_NAME)).expect("restored");
    fs::remove_file(super::super::mark::Mark::path(&cluster.dir(&name))).expect("removed");
    let (leader, _) = cluster.leader_but(std::slice::from_ref(&name)).await;
    let other = others.iter().find(|seat| seat.host != leader).expect("one");
    cluster.stop(&other.host).await;
    for number in [3, 4] {
        cluster.start(&name).await;
        assert!(others.iter().all(|seat| *seat != seat_of(&cluster, &name)));
        let word = cluster.nodes[&name].adapter.letter_for_tests();
        let refusal = cluster.nodes[&leader].adapter.handle_rpc(&name, &word).await;
        assert!(matches!(refusal, Err(LedgerError::OlderStore { .. })), "{refusal:?}");
        assert!(cluster.propose(&leader, number).await.is_err(), "an older copy acknowledged it");
        cluster.stop(&name).await;
    }
    // With the third there is a quorum again.
    cluster.start(&other.host).await;
    cluster.commit(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_or_altered_file_is_refused_or_opens_whole() {
    const SEED: u64 = 23;
    println!("seed {SEED}");
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(SEED);
    let mut cluster = Cluster::started(1).await;
    let name = cluster.names[0].clone();
    for number in 1..=20 {
        cluster.commit(number).await;
    }
    cluster.stop(&name).await;
    let whole = fs::read(cluster.dir(&name).join(FILE_NAME)).expect("read");
    let mark = fs::read(super::super::mark::Mark::path(&cluster.dir(&name))).expect("read");
    let (mut refused, mut aside, mut opened) = (0, 0, 0);
    for round in 0..24 {
        let parent = TempDir::new().expect("a directory");
        let dir = parent.path().join("ledger");
        fs::create_dir(&dir).expect("made");
        let mut bytes = whole.clone();
        if round % 2 == 0 {
            bytes.truncate(rand::RngExt::random_range(&mut rng, 0..bytes.len()));
        } else {
            // A torn write: one page is another's, or nothing.
            let page = rand::RngExt::random_range(&mut rng, 0..bytes.len() / 4_096) * 4_096;
            bytes[page..page + 4_096].fill(0);
        }
        fs::write(dir.join(FILE_NAME), bytes).expect("written");
        fs::write(super::super::mark::Mark::path(&dir), &mark).expect("written");
        // redb may panic on a damaged page: the daemon dies then, and says why. Nothing is acknowledged either way.
        let starting = {
            let (wire, name, dir) = (std::sync::Arc::clone(&cluster.wire), name.clone(), dir.clone());
            tokio::spawn(async move { start(&wire, dir, &name, std::slice::from_ref(&name), TIMING).await })
        };
        match starting.await {
            Err(_) | Ok(Err(LedgerError::Store(_) | LedgerError::Stopped(_) | LedgerError::Format { .. })) => {
                refused += 1;
            }
            Ok(Err(other)) => panic!("round {round}: {other}"),
            Ok(Ok(node)) => {
                if node.adapter.seat() == cluster_seat(&whole, parent.path()) {
                    opened += 1;
                    let applied = node.heard(|heard| heard.ledger.as_ref().map(|ledger| ledger.applied));
                    until("everything acknowledged is there", async || {
                        node.heard(|heard| heard.ledger.as_ref().is_some_and(|ledger| ledger.applied.0 >= 20))
                            .then_some(())
                    })
                    .await;
                    println!("round {round}: whole, from {applied:?}");
                } else {
                    aside += 1;
                }
                node.adapter.shutdown().await;
            }
        }
    }
    println!("{refused} refused, {aside} put aside, {opened} whole");
    assert!(refused > 0, "damage was never noticed");
}

/// Whose an intact file is.
fn cluster_seat(whole: &[u8], near: &Path) -> Seat {
    let dir = near.join("intact");
    fs::create_dir_all(&dir).expect("made");
    fs::write(dir.join(FILE_NAME), whole).expect("written");
    let store = super::super::store::Store::open(&dir).expect("opens");
    let identity = store.identity().expect("read").expect("there");
    store.close();
    Seat { host: identity.host, store: identity.store }
}

/// An operator with a CA.
struct Operator {
    dir: TempDir,
}

impl Operator {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        pki::init(dir.path(), &cluster_name()).expect("a CA");
        pki::issue(dir.path(), "alice", pki::CertRole::Operator, dir.path(), pki::LEAF_VALIDITY).expect("issued");
        Self { dir }
    }

    fn ca(&self) -> Vec<u8> {
        pki::certificate_der(&self.dir.path().join("ca.pem")).expect("read")
    }

    fn signs(&self, command: OperatorCommand) -> SignedOrder {
        let order = OperatorOrder {
            cluster: cluster_name(),
            nonce: uuid::Uuid::new_v4().into_bytes(),
            signed_at: now(),
            reason: "the others burnt".into(),
            command,
        };
        let (certificate, key) = (self.dir.path().join("alice.pem"), self.dir.path().join("alice.key"));
        pki::sign_order(&certificate, &key, &order).expect("signed")
    }
}

fn now() -> WallTime {
    crate::clock::now().wall
}

/// Gives an entry to whoever leads.
async fn write(cluster: &mut Cluster, statement: impl Fn(&HostName, rekindle_proto::id::Term) -> Statement) {
    let (leader, term) = cluster.leader_but(&[]).await;
    let call = cluster.call();
    let node = &cluster.nodes[&leader];
    node.adapter.propose(call, Box::new(Entry::new(now(), statement(&leader, term))));
    let result = until("it is written", async || node.heard(|heard| heard.proposed.get(&call).cloned())).await;
    assert!(result.as_ref().is_ok_and(rekindle_coordinator::ledger::Outcome::is_applied), "{result:?}");
}

/// Three voters with a roster and their mirror in the ledger.
async fn with_roster(operator: &Operator) -> Cluster {
    let mut cluster = Cluster::started(3).await;
    let all: Vec<HostName> = cluster.names.iter().cloned().chain(standbys()).collect();
    let roster: Vec<RosterEntry> =
        all.into_iter().map(|host| RosterEntry { host, role: MemberRole::Member, domain: None }).collect();
    let order = operator.signs(OperatorCommand::Init { roster, ca: operator.ca() });
    write(&mut cluster, |_, _| Statement::Operator(order.clone())).await;
    let voters: Vec<Seat> = cluster.names.iter().map(|name| seat_of(&cluster, name)).collect();
    write(&mut cluster, |leader, term| Statement::Leader {
        host: leader.clone(),
        term,
        command: LeaderCommand::Voters(VotersCommand::Mirror { voters: voters.clone(), standbys: vec![] }),
    })
    .await;
    cluster.agree().await;
    cluster
}

async fn recover(dir: &Path, operator: &Operator, name: &HostName, off: Vec<HostName>) -> Result<SignedOrder, String> {
    let left = remains(dir, name, &cluster_name()).await.map_err(|error| error.to_string())?;
    let recovery = QuorumRecovery { generation: left.generation + 1, survivor: left.seat, stated_off: off };
    let order = operator.signs(OperatorCommand::RecoverQuorum(recovery));
    let done = recover_quorum(dir, name, &cluster_name(), &order, now()).await;
    done.map(|_| order).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_quorum_goes_on_and_the_past_is_refused() {
    let operator = Operator::new();
    let mut cluster = with_roster(&operator).await;
    let [a, b, c] = cluster.names.clone().try_into().expect("three");
    cluster.commit(7).await;
    cluster.all_have(7).await;
    for name in [&a, &b, &c] {
        cluster.stop(name).await;
    }
    let dir = cluster.dir(&a);
    let untouched = remains(&dir, &a, &cluster_name()).await.expect("read").ledger;
    // Not without a word on each of the lost.
    let refusal = recover(&dir, &operator, &a, vec![b.clone()]).await.expect_err("c may live");
    assert!(refusal.contains("voter-3 is neither fenced nor stated to be off"), "{refusal}");
    assert_eq!(remains(&dir, &a, &cluster_name()).await.expect("read").ledger, untouched);
    // Not by somebody else's operator.
    let refusal = recover(&dir, &Operator::new(), &a, vec![b.clone(), c.clone()]).await.expect_err("a stranger");
    assert!(refusal.contains("cannot be recovered"), "{refusal}");
    let order = recover(&dir, &operator, &a, vec![b.clone(), c.clone()]).await.expect("recovered");
    let proven = rekindle_coordinator::proven_generation(&order, &cluster_name(), &operator.ca());
    assert_eq!(proven.map(|recovery| recovery.generation), Ok(1));

    // It goes on alone, with everything that was agreed, and the story of it.
    cluster.generation = 1;
    cluster.start(&a).await;
    cluster.commit(8).await;
    let story = cluster.nodes[&a].heard(|heard| heard.ledger.clone()).expect("restored").voters;
    assert_eq!((story.generation, story.voters.len(), story.wanted), (1, 1, 3));
    assert!(story.story.iter().any(|line| line.text.as_str().contains("voter-2 is off by alice's word")), "{story:?}");
    let [standby, _] = standbys().try_into().expect("two");
    cluster.start(&standby).await;
    let seat = seat_of(&cluster, &standby);
    admit(&mut cluster, &seat).await;
    cluster.all_have(8).await;

    // The others come back, unaware: they elect one of them, and are heard by nobody who knows.
    cluster.generation = 0;
    cluster.start(&b).await;
    cluster.start(&c).await;
    let past = cluster.leader_but(&[a.clone(), standby.clone()]).await.0;
    let call = cluster.nodes[&past].adapter.clone();
    let from = if past == b { &c } else { &b };
    let word = cluster.nodes[from].adapter.letter_for_tests();
    let refusal = cluster.nodes[&a].adapter.handle_rpc(from, &word).await;
    assert!(matches!(refusal, Err(LedgerError::Generation { theirs: 0, ours: 1, .. })), "{refusal:?}");
    // Once told, they stop; and started again they are refused with their old store, for ever.
    assert!(call.supersede(1).await);
    assert!(cluster.check(&past).await.is_err());
    cluster.stop(&past).await;
    let again = start_in(&cluster.wire, cluster.dir(&past), &past, &cluster.names, TIMING, 1).await;
    assert!(matches!(again, Err(LedgerError::Superseded { store: 0, known: 1, .. })), "it may rejoin");
    // Wiped, it is let in as anybody.
    cluster.stop(from).await;
    fs::remove_dir_all(cluster.dir(&past)).expect("removed");
    cluster.generation = 1;
    cluster.start(&past).await;
    let seat = seat_of(&cluster, &past);
    admit(&mut cluster, &seat).await;
    cluster.commit(9).await;
    cluster.all_have(9).await;
    // One generation after the other: this order is of the past.
    cluster.stop(&a).await;
    let refusal = recover_quorum(&dir, &a, &cluster_name(), &order, now()).await.expect_err("once").to_string();
    assert!(refusal.contains("applied before"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_daemons_ledger_is_not_recovered() {
    let operator = Operator::new();
    let cluster = with_roster(&operator).await;
    let name = cluster.names[0].clone();
    let error = remains(&cluster.dir(&name), &name, &cluster_name()).await.expect_err("in use");
    assert!(matches!(error, LedgerError::Store(StoreError::InUse { .. })), "{error}");
    let nothing: PathBuf = cluster.dir(&host("nobody"));
    let error = remains(&nothing, &name, &cluster_name()).await.expect_err("nothing there");
    assert!(matches!(error, LedgerError::Recovery(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_formed_by_all_of_its_first_voters_or_not() {
    let mut cluster = Cluster::new(3);
    let [a, b, c] = cluster.names.clone().try_into().expect("three");
    cluster.start(&a).await;
    cluster.start(&b).await;
    // Long enough to form, if two were enough.
    let metrics = cluster.nodes[&a].adapter.raft().clone();
    let formed = metrics.wait(Some(Duration::from_secs(6))).metrics(|m| m.last_log_index.is_some(), "formed").await;
    assert!(formed.is_err(), "two of three formed it");
    cluster.start(&c).await;
    cluster.commit(1).await;
    cluster.all_have(1).await;
    // Whoever had another store before founds nothing: all first voters wiped at once are no new cluster.
    for name in [&a, &b, &c] {
        cluster.stop(name).await;
        fs::remove_dir_all(cluster.dir(name)).expect("removed");
    }
    for name in [&a, &b, &c] {
        cluster.start(name).await;
    }
    let raft = cluster.nodes[&a].adapter.raft().clone();
    let formed = raft.wait(Some(Duration::from_secs(6))).metrics(|m| m.last_log_index.is_some(), "formed").await;
    assert!(formed.is_err(), "wiped voters formed a second cluster");
}
