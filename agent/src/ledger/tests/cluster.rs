//! Forming, ordering, restarting, catching up.

use std::time::Duration;

use rekindle_coordinator::io::ProposeError;
use rekindle_proto::id::{CallId, LogIndex};

use super::harness::{Cluster, PATIENCE, entry, until};

/// Voters whose answer to a crowd of proposals may take as long as a busy machine takes.
async fn patient(size: usize) -> Cluster {
    let mut cluster = Cluster::new(size);
    cluster.timing.propose_within = PATIENCE / 2;
    for name in cluster.names.clone() {
        cluster.start(&name).await;
    }
    cluster
}

async fn forms(size: usize) {
    let mut cluster = Cluster::started(size).await;
    let (leader, term) = cluster.leader_but(&[]).await;
    assert!(cluster.propose(&leader, 1).await.is_ok());
    cluster.all_have(1).await;
    for name in cluster.names.clone() {
        if name != leader {
            assert!(cluster.check(&name).await.is_err(), "{name} leads too");
            assert_eq!(cluster.propose(&name, 2).await, Err(ProposeError::NotLeader));
        }
        let node = &cluster.nodes[&name];
        until("all know the leader", async || {
            node.heard(|heard| heard.leadership.last() == Some(&(term, Some(leader.clone())))).then_some(())
        })
        .await;
    }
    for node in cluster.nodes.values() {
        assert_eq!(node.heard(|heard| heard.restored.clone()), [LogIndex(0)]);
        assert_eq!(node.heard(super::harness::Heard::numbers), [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_voter_forms() {
    forms(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_voters_form() {
    forms(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_voters_form() {
    forms(5).await;
}

/// Proposes all at once and returns when every voter has them.
async fn propose_many(cluster: &mut Cluster, numbers: std::ops::Range<i64>) {
    let leader = cluster.leader().await;
    let mut calls: Vec<(CallId, i64)> = Vec::new();
    for number in numbers.clone() {
        let call = cluster.call();
        calls.push((call, number));
        cluster.nodes[&leader].adapter.propose(call, entry(number));
    }
    for (call, number) in calls {
        let node = &cluster.nodes[&leader];
        let what = format!("{number} is answered");
        let result = until(&what, async || node.heard(|heard| heard.proposed.get(&call).cloned())).await;
        assert!(result.is_ok(), "{number}: {result:?}");
    }
    cluster.all_have(numbers.end - 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_voter_applies_the_same_entries_in_the_order_of_their_proposal() {
    let mut cluster = patient(3).await;
    cluster.wire.delay(Duration::from_millis(10));
    for batch in 0..6 {
        propose_many(&mut cluster, batch * 50..batch * 50 + 50).await;
    }
    let all: Vec<_> = cluster.nodes.values().map(|node| node.heard(|heard| heard.committed.clone())).collect();
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
    let numbers = cluster.nodes.values().next().expect("one").heard(super::harness::Heard::numbers);
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_voter_loses_nothing_and_repeats_nothing() {
    let mut cluster = patient(3).await;
    propose_many(&mut cluster, 0..20).await;
    let leader = cluster.leader().await;
    let follower = cluster.names.iter().find(|name| **name != leader).expect("one").clone();
    cluster.stop(&follower).await;
    propose_many(&mut cluster, 20..40).await;
    cluster.start(&follower).await;
    cluster.all_have(39).await;

    cluster.agree().await;
    let known = cluster.nodes[&leader].heard(|heard| heard.committed.clone());
    let (restored, since) = cluster.nodes[&follower].heard(|heard| (heard.restored.clone(), heard.committed.clone()));
    let [restored] = restored[..] else { panic!("one Restored, not {restored:?}") };
    let expected: Vec<_> = known.iter().filter(|(index, _, _)| *index > restored).copied().collect();
    assert_eq!(since, expected, "after {restored}");
    assert!(restored.0 >= known[10].0.0, "what was known to be committed is in Restored: {restored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cluster_restarts() {
    let mut cluster = patient(3).await;
    propose_many(&mut cluster, 0..10).await;
    for name in cluster.names.clone() {
        cluster.stop(&name).await;
    }
    for name in cluster.names.clone() {
        cluster.start(&name).await;
    }
    cluster.commit(10).await;
    cluster.all_have(10).await;
    cluster.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_voter_catches_up_by_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.timing.propose_within = PATIENCE / 2;
    let late = cluster.names[2].clone();
    for name in cluster.names.clone() {
        cluster.start(&name).await;
    }
    // Formed by all; then one is away for long.
    cluster.commit(-1).await;
    cluster.all_have(-1).await;
    cluster.stop(&late).await;
    for batch in 0..14 {
        propose_many(&mut cluster, batch * 50..batch * 50 + 50).await;
    }
    let leader = cluster.leader().await;
    let raft = cluster.nodes[&leader].adapter.raft().clone();
    until("the log is purged", async || raft.metrics().borrow().purged.filter(|purged| purged.index >= 300)).await;

    cluster.start(&late).await;
    cluster.commit(700).await;
    cluster.all_have(700).await;
    cluster.agree().await;
    let (restored, committed) = cluster.nodes[&late].heard(|heard| (heard.restored.clone(), heard.committed.clone()));
    assert_eq!(restored.len(), 2, "at the start, and by the snapshot: {restored:?}");
    assert!(restored[0].0 < 10, "{restored:?}");
    assert!(restored[1].0 >= 400, "{restored:?}");
    let known = cluster.nodes[&leader].heard(|heard| heard.committed.clone());
    let expected: Vec<_> = known.iter().filter(|(index, _, _)| *index > restored[1]).copied().collect();
    assert_eq!(committed, expected);

    // And again from its own disk.
    cluster.stop(&late).await;
    cluster.start(&late).await;
    cluster.commit(701).await;
    cluster.all_have(701).await;
    assert!(cluster.nodes[&late].heard(|heard| heard.restored[0].0) >= 400);
}
