//! Standing for leadership, and telling who has it.
//!
//! openraft draws its election timeout once in a process' life and looks at it once a tick, so two voters that drew alike
//! would split the vote again and again. A voter that stood and did not win therefore throws a coin each tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::ServerState;
use rekindle_coordinator::io::Input;
use rekindle_proto::id::Term;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Peers;
use super::seating::Seating;
use super::types::Raft;

/// Keeps silent, forms the cluster if it is new, and stands when the leader is silent.
pub(super) async fn candidacy<P: Peers>(seating: Seating<P>, silent_until: Instant, stands: Arc<AtomicBool>) {
    tokio::time::sleep_until(silent_until).await;
    let (raft, timing) = (seating.raft.clone(), seating.timing);
    // What joins or forms goes on beside: a voter whose store is formed stands meanwhile.
    let mut seated = JoinSet::new();
    seated.spawn(async move { seating.be_seated().await });
    let mut metrics = raft.server_metrics();
    loop {
        let lost = metrics.borrow_and_update().state == ServerState::Candidate;
        let stand = stands.load(Ordering::Acquire) && (!lost || rand::random());
        raft.runtime_config().elect(stand);
        tokio::time::sleep(timing.tick()).await;
    }
}

/// Tells of every change of leadership, and of the end.
pub(super) async fn tell_leadership(raft: Raft, inputs: mpsc::Sender<Input>) {
    let mut metrics = raft.server_metrics();
    drop(raft);
    let mut told = None;
    loop {
        let present = {
            let metrics = metrics.borrow_and_update();
            let membership = metrics.membership_config.membership();
            let leader = metrics.current_leader.and_then(|number| membership.get_node(&number)?.host.clone());
            (Term(metrics.vote.leader_id.term), leader)
        };
        if told.as_ref() != Some(&present) {
            told = Some(present.clone());
            let (term, leader) = present;
            if inputs.send(Input::Leadership { term, leader }).await.is_err() {
                return;
            }
        }
        if metrics.changed().await.is_err() {
            break;
        }
    }
    // Raft has ended, on purpose or for a reason that is in the log.
    if let Some((term, Some(_))) = told {
        let _ended = inputs.send(Input::Leadership { term, leader: None }).await;
    }
}
