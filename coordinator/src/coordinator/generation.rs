//! Generations of voters: begun by an operator when a quorum was lost, told from member to member, proven by the operator's
//! own signature. Nobody who knows a later one lets an earlier one's voters decide anything.

use rekindle_proto::admin::{ORDER_BYTES_MAX, SignedOrder};
use rekindle_proto::id::ClusterName;
use rekindle_proto::message::{Message, decode};

use super::Coordinator;
use crate::io::{Output, Peer};
use crate::ledger::{OperatorCommand, OperatorOrder, QuorumRecovery, verify_order};
use crate::time::Now;

/// What begins a generation, if this order does and its signature holds. It was signed at some time in the past, when the
/// operator's certificate was valid: for ever after it proves the generation.
///
/// # Errors
/// Why it does not.
pub fn proven_generation(
    order: &SignedOrder,
    cluster: &ClusterName,
    operator_ca: &[u8],
) -> Result<QuorumRecovery, String> {
    let claimed: OperatorOrder = decode(&order.order, ORDER_BYTES_MAX).map_err(|error| error.to_string())?;
    let verified = verify_order(order, cluster, operator_ca, claimed.signed_at).map_err(|error| error.to_string())?;
    let OperatorCommand::RecoverQuorum(recovery) = verified.order.command else {
        return Err("it is another order".to_owned());
    };
    Ok(recovery)
}

impl Coordinator {
    /// The latest generation known here; 0 if none was ever begun.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.as_ref().map_or(0, |(generation, _)| *generation)
    }

    /// Whoever we meet is told of the generation, before anything it asks us is answered.
    pub(super) fn tell_generation(&mut self, now: Now, peer: &Peer) {
        if let Some((_, order)) = &self.generation {
            let order = Box::new(order.clone());
            self.context(now).send(&peer.host, Message::Generation { order });
        }
    }

    pub(super) fn learn_generation(&mut self, from: &Peer, order: SignedOrder) {
        if self.generation.as_ref().is_some_and(|(_, known)| *known == order) {
            return;
        }
        match proven_generation(&order, &self.setup.cluster, &self.setup.operator_ca) {
            Err(why) => self.out.warn(Some(&from.host), format!("its order of a new generation was dropped: {why}")),
            Ok(recovery) if recovery.generation > self.generation() => {
                self.begin_generation(recovery.generation, &recovery);
                self.generation = Some((recovery.generation, order.clone()));
                self.out.push(Output::Generation { generation: recovery.generation, order: Box::new(order) });
            }
            Ok(_) => {}
        }
    }

    /// A ledger that was recovered, or came from a leader whose was: its generation is ours.
    pub(super) fn take_ledgers_generation(&mut self) {
        let generation = self.ledger.voters.generation;
        if generation <= self.generation() {
            return;
        }
        let Some(order) = self.ledger.voters.recovery.clone() else { return };
        self.generation = Some((generation, order.clone()));
        self.out.push(Output::Generation { generation, order: Box::new(order) });
    }

    /// A leader of the generation before leads no more, whatever its Raft believes.
    fn begin_generation(&mut self, generation: u64, recovery: &QuorumRecovery) {
        self.out.warn(
            None,
            format!("generation {generation} of the voters was begun by an operator on {}", recovery.survivor.host),
        );
        let is_over = self.ledger.voters.generation < generation;
        if is_over && self.leader.take().is_some() && self.setup.policy.webhook {
            self.out.push(Output::StopPosts);
        }
    }
}
