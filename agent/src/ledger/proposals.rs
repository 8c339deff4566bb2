//! Proposals on their way: in order, bounded, each answered once.

use std::sync::Arc;

use openraft::error::ClientWriteError;
use rekindle_coordinator::io::{Input, ProposeError};
use rekindle_coordinator::ledger::Outcome;
use rekindle_proto::id::CallId;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::types::{Applied, Proposal, Raft, Ticket};

/// Proposals that wait to be given to Raft. The coordinator has a few per incident; more means that nothing is being
/// committed, and the answer is then "unknown" at once.
pub(super) const WAITING_MAX: usize = 1_024;

/// Proposals in Raft at once: enough to fill one call, few enough that an isolated leader's log does not swell.
const UNDER_WAY_MAX: usize = 64;

/// One proposal.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) call: CallId,
    pub(super) proposal: Proposal,
    pub(super) deadline: Instant,
}

/// Gives the proposals to Raft in the order in which they came, until nobody proposes any more.
pub(super) async fn submit(raft: Raft, mut jobs: mpsc::Receiver<Job>, inputs: mpsc::Sender<Input>) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    while let Some(Job { call, proposal, deadline }) = jobs.recv().await {
        let Ok(Ok(permit)) = timeout_at(deadline, Arc::clone(&room).acquire_owned()).await else {
            answer(&inputs, call, Err(ProposeError::Unknown)).await;
            continue;
        };
        let ticket = proposal.ticket.clone();
        let Ok(receiver) = raft.client_write_ff(proposal).await else {
            // Raft has stopped and did not take it.
            answer(&inputs, call, Err(ProposeError::NotLeader)).await;
            continue;
        };
        let inputs = inputs.clone();
        tokio::spawn(async move {
            let result = match timeout_at(deadline, receiver).await {
                Err(_late) => Err(ProposeError::Unknown),
                Ok(Err(_stopped)) => Err(unless_logged(&ticket)),
                Ok(Ok(Err(ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_)))) => {
                    Err(unless_logged(&ticket))
                }
                Ok(Ok(Ok(response))) => match response.data {
                    Applied::Entry(outcome) => Ok(outcome),
                    // openraft answers an entry of ours with an entry of its own: cannot be, and is not guessed at.
                    Applied::Own => Err(ProposeError::Unknown),
                },
            };
            drop(permit);
            answer(&inputs, call, result).await;
        });
    }
}

/// openraft says "forward to the leader" both to a proposal that it never took, and to one that it took and a later leader
/// made it drop from its own log. The second may live on in another voter's log, and be committed from there.
fn unless_logged(ticket: &Ticket) -> ProposeError {
    if ticket.is_stamped() { ProposeError::Unknown } else { ProposeError::NotLeader }
}

/// Tells the coordinator. If it listens no more, the daemon is ending.
pub(super) async fn answer(inputs: &mpsc::Sender<Input>, call: CallId, result: Result<Outcome, ProposeError>) {
    let _ended = inputs.send(Input::Proposed { call, result }).await;
}
