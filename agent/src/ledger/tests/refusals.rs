//! What a voter is told that it must not believe.

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::id::{HostName, StoreId};
use rekindle_proto::message::{REQUEST_BYTES_MAX, encode};
use uuid::Uuid;

use super::super::LedgerError;
use super::super::lives::Lives;
use super::super::rpc::{Call, Electorate, Latest, Letter};
use super::super::store::Store;
use super::super::types::{LogEntry, LogId, Proposal, SnapshotMeta, Vote, Voter};
use super::harness::{Cluster, entry, host};

fn store_of(host: &HostName) -> StoreId {
    StoreId(Uuid::new_v5(&Uuid::nil(), host.as_str().as_bytes()))
}

fn number_of(host: &HostName) -> u64 {
    super::super::types::number_of(store_of(host))
}

fn led_by(leader: &HostName, term: u64) -> Vote {
    Vote::new_committed(term, number_of(leader))
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, 0), index)
}

fn normal(term: u64, index: u64) -> LogEntry {
    LogEntry { log_id: id(term, index), payload: EntryPayload::Normal(Proposal::seal(&entry(1)).expect("fits")) }
}

fn append(vote: Vote, entries: Vec<LogEntry>) -> Call {
    Call::Append(AppendEntriesRequest { vote, prev_log_id: None, entries, leader_commit: None })
}

fn letter(store: StoreId, body: Call) -> Vec<u8> {
    encode(&Letter { generation: 0, store, lives: Lives::default().next(1), body }, REQUEST_BYTES_MAX).expect("fits")
}

fn foreign_membership() -> openraft::Membership<u64, Voter> {
    let stranger = host("stranger");
    let number = number_of(&stranger);
    openraft::Membership::new(
        vec![[number].into()],
        Some((number, Voter { host: Some(stranger), store: Some(Store::new_id()) }))
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_break_a_rule_are_refused_with_the_rule() {
    let mut cluster = Cluster::new(3);
    let [one, two, three] = cluster.names.clone().try_into().expect("three");
    cluster.start(&one).await;
    let adapter = &cluster.nodes[&one].adapter;
    let store = store_of(&two);
    let foreign = LogEntry { log_id: id(1, 0), payload: EntryPayload::Membership(foreign_membership()) };
    let long = Proposal { bytes: vec![0; 3 * 1024 * 1024], ..Proposal::seal(&entry(1)).expect("fits") };
    let long = LogEntry { log_id: id(1, 0), payload: EntryPayload::Normal(long) };
    let uncommitted = Vote::new(1, number_of(&two));
    let cases = [
        (append(led_by(&three, 1), vec![]), "another's name"),
        (append(uncommitted, vec![]), "has a quorum"),
        (append(led_by(&two, 1), vec![normal(1, 3)]), "not consecutive"),
        (append(led_by(&two, 1), vec![normal(1, 0), normal(0, 1)]), "backwards"),
        (append(led_by(&two, 1), vec![normal(2, 0)]), "later term"),
        (append(led_by(&two, 1), vec![foreign]), "another's number"),
        (append(led_by(&two, 1), vec![long]), "too long"),
        (Call::Vote(VoteRequest::new(Vote::new(1, number_of(&three)), None)), "another's name"),
        (Call::Vote(VoteRequest::new(led_by(&two, 1), None)), "no quorum yet"),
        (append(led_by(&two, u64::MAX), vec![]), "beyond all counting"),
        (Call::Vote(VoteRequest::new(Vote::new(u64::MAX, number_of(&two)), None)), "beyond all counting"),
        (Call::Snapshot { vote: led_by(&two, 1), meta: SnapshotMeta::default(), data: vec![] }, "empty snapshot"),
    ];
    for (call, says) in cases {
        let refusal = adapter.handle_rpc(&two, &letter(store, call)).await.expect_err(says).to_string();
        assert!(refusal.contains(says), "{says:?}: {refusal}");
    }
    // Nothing of it was kept, and a lawful call is taken.
    adapter.handle_rpc(&two, &letter(store, append(led_by(&two, 1), vec![]))).await.expect("lawful");
    let refusal = adapter.handle_rpc(&three, &letter(store_of(&three), append(led_by(&three, 1), vec![]))).await;
    assert!(refusal.expect_err("two leaders").to_string().contains("another leader"));

    for stranger in [host("stranger"), one.clone()] {
        let refusal = adapter.handle_rpc(&stranger, &letter(store, append(led_by(&stranger, 1), vec![]))).await;
        assert!(matches!(refusal, Err(LedgerError::NotAVoter { .. })), "{refusal:?}");
    }
    // An older copy of its store; another generation of voters; the store of the one it speaks to.
    let call = || append(led_by(&two, 1), vec![]);
    let older =
        encode(&Letter { generation: 0, store, lives: Lives::default().next(2), body: call() }, REQUEST_BYTES_MAX)
            .expect("fits");
    let refusal = adapter.handle_rpc(&two, &older).await;
    assert!(matches!(refusal, Err(LedgerError::OlderStore { .. })), "{refusal:?}");
    let other =
        encode(&Letter { generation: 1, store, lives: Lives::default().next(1), body: call() }, REQUEST_BYTES_MAX)
            .expect("fits");
    let refusal = adapter.handle_rpc(&two, &other).await;
    assert!(matches!(refusal, Err(LedgerError::Generation { theirs: 1, ours: 0, .. })), "{refusal:?}");
    let refusal = adapter.handle_rpc(&two, &letter(adapter.seat().store, Call::Join)).await;
    assert!(refusal.expect_err("our own store").to_string().contains("another host's store"));
    let refusal = adapter.handle_rpc(&two, b"nonsense").await;
    assert!(matches!(refusal, Err(LedgerError::Malformed { .. })), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_calls_stop_nobody() {
    const SEED: u64 = 11;
    println!("seed {SEED}");
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut cluster = Cluster::new(3);
    let [one, two, _] = cluster.names.clone().try_into().expect("three");
    cluster.start(&one).await;
    let adapter = &cluster.nodes[&one].adapter;
    let store = store_of(&two);
    let whole = letter(store, append(led_by(&two, 1), vec![normal(1, 0), normal(1, 1)]));
    let vote = letter(store, Call::Vote(VoteRequest::new(Vote::new(1, number_of(&two)), Some(id(1, 1)))));
    let mut taken = 0;
    for _ in 0..1_000 {
        let mut bytes = if rng.random() { whole.clone() } else { vote.clone() };
        if rng.random() {
            bytes.truncate(rng.random_range(0..bytes.len()));
        } else {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
        }
        match adapter.handle_rpc(&two, &bytes).await {
            Ok(_) => taken += 1,
            Err(LedgerError::Stopped(why)) => panic!("a damaged call stopped the voter: {why}"),
            Err(_refused) => {}
        }
    }
    println!("{taken} were lawful by accident");
    assert!(adapter.raft().server_metrics().has_changed().is_ok(), "Raft runs");
}

#[test]
fn answers_that_openraft_would_panic_at_are_refused() {
    let (two, three) = (host("voter-2"), host("voter-3"));
    let ours = led_by(&two, 5);
    let may = |previous, answer| Electorate::may_answer_append(&ours, previous, &answer);
    assert!(may(None, AppendEntriesResponse::Success).is_ok());
    assert!(may(Some(id(1, 1)), AppendEntriesResponse::Conflict).is_ok());
    assert!(may(None, AppendEntriesResponse::Conflict).is_err());
    assert!(may(Some(id(1, 1)), AppendEntriesResponse::PartialSuccess(None)).is_err());
    assert!(may(None, AppendEntriesResponse::HigherVote(Vote::new(6, number_of(&three)))).is_ok());
    assert!(may(None, AppendEntriesResponse::HigherVote(Vote::new(5, number_of(&three)))).is_err());
    assert!(may(None, AppendEntriesResponse::HigherVote(led_by(&three, 5))).is_err());
    assert!(may(None, AppendEntriesResponse::HigherVote(led_by(&two, 6))).is_err());
    assert!(Electorate::may_answer_snapshot(&ours, &ours).is_ok());
    assert!(Electorate::may_answer_snapshot(&ours, &Vote::new(4, number_of(&three))).is_err());
}

#[test]
fn a_term_has_one_leader() {
    let (two, three) = (host("voter-2"), host("voter-3"));
    for latest in [Latest::new(Some(led_by(&two, 5))), Latest::new(Some(Vote::new(9, number_of(&three))))] {
        assert!(latest.admit(&led_by(&two, 5)).is_ok());
        assert!(latest.admit(&led_by(&three, 5)).is_err());
        // A leader of the past is openraft's to refuse: it is told of the present one.
        assert!(latest.admit(&led_by(&three, 4)).is_ok());
        assert!(latest.admit(&led_by(&three, 5)).is_err());
        assert!(latest.admit(&led_by(&three, 6)).is_ok());
        assert!(latest.admit(&led_by(&two, 6)).is_err());
    }
}
