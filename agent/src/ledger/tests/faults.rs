//! Cut cables, lost files, young voters, words from the future.

use std::fs;
use std::time::Duration;

use openraft::ServerState;
use openraft::raft::VoteRequest;
use rekindle_coordinator::io::ProposeError;
use rekindle_coordinator::ledger::LEDGER_FORMAT;
use rekindle_proto::id::{HostName, LogIndex, StoreId};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};
use tokio::time::Instant;

use super::super::LedgerError;
use super::super::lives::Lives;
use super::super::rpc::{Answer, Call, Letter};
use super::super::store::Store;
use super::super::types::{ENTRY_BYTES_MAX, Proposal, Ticket, Vote, number_of};
use super::harness::{Cluster, Node, TIMING, entry, until};

fn others(cluster: &Cluster, but: &HostName) -> Vec<HostName> {
    cluster.names.iter().filter(|name| *name != but).cloned().collect()
}

/// After healing all voters tell the same story, and `doubtful` is in it everywhere or nowhere.
async fn agree(cluster: &Cluster, doubtful: i64) {
    cluster.agree().await;
    let stories: Vec<_> = cluster.nodes.values().map(|node| node.heard(|heard| heard.committed.clone())).collect();
    for story in &stories {
        assert_eq!(story, &stories[0]);
    }
    let seen = stories[0].iter().filter(|(_, _, number)| *number == doubtful).count();
    assert!(seen <= 1, "{doubtful} was applied {seen} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_knows_nothing_for_certain() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(1).await;
    let (old, old_term) = cluster.leader_but(&[]).await;
    cluster.wire.cut(&old);

    let asked = Instant::now();
    assert!(cluster.check(&old).await.is_err(), "a cut leader is certain of itself");
    assert_eq!(cluster.propose(&old, 2).await, Err(ProposeError::Unknown));
    assert!(asked.elapsed() < Duration::from_secs(20), "answered, but not by a time-out of ours");
    let metrics = cluster.nodes[&old].adapter.raft().server_metrics();
    assert_eq!(metrics.borrow().state, ServerState::Leader, "and its metrics know nothing");

    let (new, new_term) = cluster.leader_but(std::slice::from_ref(&old)).await;
    assert!(new_term > old_term);
    assert!(cluster.propose(&new, 3).await.is_ok());
    assert!(cluster.check(&old).await.is_err());
    for name in others(&cluster, &old) {
        assert!(!cluster.nodes[&name].heard(|heard| heard.has(2)));
    }

    cluster.wire.heal();
    cluster.commit(4).await;
    cluster.all_have(4).await;
    agree(&cluster, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_no_answers_knows_nothing_for_certain() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(1).await;
    let (leader, _) = cluster.leader_but(&[]).await;
    // Its heartbeats arrive: nobody else stands, and its entry lies in every log.
    cluster.wire.deafen(&leader);
    assert!(cluster.check(&leader).await.is_err());
    assert_eq!(cluster.propose(&leader, 2).await, Err(ProposeError::Unknown));
    assert!(cluster.check(&leader).await.is_err());
    for node in cluster.nodes.values() {
        assert!(!node.heard(|heard| heard.has(2)), "{} applied what no quorum confirmed", node.host);
    }
    cluster.wire.heal();
    cluster.commit(3).await;
    cluster.all_have(3).await;
    agree(&cluster, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_a_deposed_leader_logged_is_in_doubt() {
    let mut cluster = Cluster::new(3);
    // Longer than the test: the answer must come from Raft, not from our clock.
    cluster.timing.propose_within = Duration::from_secs(60);
    for name in cluster.names.clone() {
        cluster.start(&name).await;
    }
    cluster.commit(1).await;
    let (old, _) = cluster.leader_but(&[]).await;
    cluster.wire.cut(&old);
    let call = cluster.call();
    cluster.nodes[&old].adapter.propose(call, entry(2));
    let (new, _) = cluster.leader_but(std::slice::from_ref(&old)).await;
    assert!(cluster.propose(&new, 3).await.is_ok());
    cluster.wire.heal();
    let node = &cluster.nodes[&old];
    let answer = until("the doubtful one is answered", async || node.heard(|h| h.proposed.get(&call).cloned())).await;
    assert_eq!(answer, Err(ProposeError::Unknown), "it was in the log: another voter could have had it, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_does_not_stand_is_replaced() {
    let mut cluster = Cluster::started(3).await;
    let (old, _) = cluster.leader_but(&[]).await;
    cluster.nodes[&old].adapter.stand(false);
    // Its own checks fail at once, so this can only be another.
    let new = cluster.leader().await;
    assert_ne!(new, old);
    assert!(cluster.propose(&new, 1).await.is_ok());
    cluster.all_have(1).await;
}

fn ask_for_vote(store: StoreId) -> Vec<u8> {
    let body = Call::Vote(VoteRequest::new(Vote::new(50, number_of(store)), None));
    encode(&Letter { generation: 0, store, lives: Lives::default().next(1), body }, REQUEST_BYTES_MAX).expect("fits")
}

/// Asks until an answer comes. Until well within its silence the voter must not stand either: its term stays.
async fn silence(node: &Node, from: &HostName, store: StoreId, term: u64) -> Answer {
    let begun = Instant::now();
    until("it votes", async || match node.adapter.handle_rpc(from, &ask_for_vote(store)).await {
        Ok(bytes) => Some(decode::<Letter<Answer>>(&bytes, REQUEST_BYTES_MAX).expect("legible").body),
        Err(LedgerError::TooYoung { .. }) => {
            let now = node.adapter.raft().server_metrics().borrow().vote.leader_id.term;
            let silent = begun.elapsed() < TIMING.election_max / 2;
            assert!(now <= term || !silent, "it stood in term {now} while it should be silent");
            None
        }
        Err(other) => panic!("{other}"),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_has_just_started_grants_no_vote() {
    let mut cluster = Cluster::new(3);
    let [one, two, _] = cluster.names.clone().try_into().expect("three");
    let store = Store::new_id();
    // Fresh, and then with the store of before, in which it voted for term 50.
    for term in [0, 50] {
        let begun = Instant::now();
        cluster.start(&one).await;
        let answer = silence(&cluster.nodes[&one], &two, store, term).await;
        assert!(matches!(answer, Answer::Vote(_)), "{answer:?}");
        assert!(begun.elapsed() >= TIMING.election_max, "after {:?} already", begun.elapsed());
        cluster.stop(&one).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_without_its_file_does_not_count() {
    let mut cluster = Cluster::started(3).await;
    cluster.commit(1).await;
    cluster.all_have(1).await;
    let leader = cluster.leader().await;
    let [wiped, other] = others(&cluster, &leader).try_into().expect("two");
    cluster.stop(&wiped).await;
    fs::remove_dir_all(cluster.dir(&wiped)).expect("removed");
    cluster.start(&wiped).await;
    // With the other follower there is a quorum.
    cluster.commit(2).await;
    let (leader, _) = cluster.leader_but(std::slice::from_ref(&wiped)).await;
    let other =
        if leader == other { others(&cluster, &leader).into_iter().find(|n| *n != wiped).expect("one") } else { other };
    cluster.wire.cut(&other);
    assert!(cluster.check(&leader).await.is_err(), "a voter that forgot its oaths was counted");
    assert_eq!(cluster.propose(&leader, 3).await, Err(ProposeError::Unknown));
    assert!(cluster.check(&wiped).await.is_err());
    // And back.
    cluster.wire.heal();
    cluster.commit(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_entry_that_cannot_be_understood_stops_the_voter() {
    // One that could be decoded all the same must not be: its words may mean something else by then.
    let mut later = entry(5);
    later.format = LEDGER_FORMAT + 1;
    let bytes = encode(&later, ENTRY_BYTES_MAX).expect("fits");
    // By a daemon that knows it: ours would not log it.
    let later = Proposal { format: later.format, bytes, ticket: Ticket::default() };
    let disguised = Proposal { format: LEDGER_FORMAT, ..later.clone() };
    let garbage = Proposal { format: LEDGER_FORMAT, bytes: b"garbage".to_vec(), ticket: Ticket::default() };
    for proposal in [later, disguised, garbage] {
        let mut cluster = Cluster::started(1).await;
        let name = cluster.names[0].clone();
        cluster.commit(1).await;
        let raft = cluster.nodes[&name].adapter.raft().clone();
        assert!(raft.client_write(proposal).await.is_err());
        let node = &cluster.nodes[&name];
        until("it says that nobody leads", async || {
            node.heard(|heard| matches!(heard.leadership.last(), Some((_, None)))).then_some(())
        })
        .await;
        assert!(cluster.check(&name).await.is_err());
        assert_eq!(cluster.propose(&name, 2).await, Err(ProposeError::NotLeader));
        assert_eq!(cluster.nodes[&name].heard(super::harness::Heard::numbers), [1], "nothing after it");

        // A restart does not get around it.
        cluster.stop(&name).await;
        let restarted =
            super::harness::start(&cluster.wire, cluster.dir(&name), &name, &cluster.names, cluster.timing).await;
        match restarted {
            Err(error) => {
                assert!(matches!(error, LedgerError::Format { index: LogIndex(_), .. }), "{error}");
                assert!(error.to_string().contains("must not guess"), "{error}");
            }
            Ok(node) => {
                cluster.nodes.insert(name.clone(), node);
                let node = &cluster.nodes[&name];
                until("it stops again", async || node.adapter.raft().server_metrics().has_changed().err()).await;
                assert!(node.heard(|heard| heard.numbers().iter().all(|number| *number == 1)));
            }
        }
    }
}
