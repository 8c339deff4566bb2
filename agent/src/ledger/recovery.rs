//! All voters lost but some: one survivor goes on alone, in a new generation, by an operator's signed order.
//!
//! Done on the survivor's host while its daemon is stopped. Everything in its log is taken as committed: an entry that no
//! quorum acknowledged is at worst an intent that is looked at again, and a proof is proven again. From then on nobody of an
//! earlier generation is heard by anybody who knows of this one ([`rekindle_coordinator::proven_generation`]).

use std::path::Path;

use openraft::CommittedLeaderId;
use rekindle_coordinator::ledger::{Entry, Ledger, Outcome, Position, Seat, Statement};
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::Text;
use rekindle_proto::id::{ClusterName, HostName, LogIndex, Term, WallTime};
use tokio::sync::mpsc;

use super::error::LedgerError;
use super::machine::Machine;
use super::store::{Identity, Store};
use super::types::{LogId, Membership, SnapshotMeta, Voter, number_of, pack};

/// What is left of a ledger on a survivor's disk.
#[derive(Debug, Clone)]
pub struct Remains {
    /// Whose it is.
    pub seat: Seat,
    /// The generation of its voters.
    pub generation: u64,
    /// The term and index of its last entry: of several survivors the one with the latest goes on.
    pub last: (Term, LogIndex),
    /// The ledger with all of its entries.
    pub ledger: Ledger,
}

/// Reads what is left. Changes nothing.
///
/// # Errors
/// [`LedgerError`] if there is no store, it is in use, or another's, or cannot be read to its end.
pub async fn remains(dir: &Path, host: &HostName, cluster: &ClusterName) -> Result<Remains, LedgerError> {
    let (store, identity) = existing(dir, host, cluster)?;
    let remains = read(&store, &identity).await;
    store.close();
    remains
}

/// Begins the new generation: this store's ledger with the order applied, and this store as the only voter.
///
/// # Errors
/// [`LedgerError`] if the ledger refuses the order, or the disk fails. Nothing was changed then.
pub async fn recover_quorum(
    dir: &Path,
    host: &HostName,
    cluster: &ClusterName,
    order: &SignedOrder,
    now: WallTime,
) -> Result<Text, LedgerError> {
    let (store, identity) = existing(dir, host, cluster)?;
    let done = begin(&store, &identity, order, now).await;
    store.close();
    done
}

async fn begin(
    store: &std::sync::Arc<Store>,
    identity: &Identity,
    order: &SignedOrder,
    now: WallTime,
) -> Result<Text, LedgerError> {
    let Remains { seat, last: (term, index), mut ledger, .. } = read(store, identity).await?;
    let us = number_of(seat.store);
    let voted = store.run(Store::vote).await?.map_or(0, |vote| vote.leader_id.term);
    let (term, index) = (Term(term.0.max(voted) + 1), LogIndex(index.0 + 1));
    let entry = Entry::new(now, Statement::Operator(order.clone()));
    let text = match ledger.apply(Position { index, term }, &entry) {
        Outcome::Applied { text, .. } => text,
        Outcome::Refused { why } => return Err(LedgerError::Recovery(why.to_string())),
    };
    let last = LogId { leader_id: CommittedLeaderId::new(term.0, us), index: index.0 };
    let nodes = std::collections::BTreeMap::from([(us, Voter::of(&seat))]);
    let membership = Membership::new(Some(last), openraft::Membership::from(nodes));
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: membership,
        snapshot_id: format!("generation-{}", ledger.voters.generation),
    };
    let data = pack(&ledger).map_err(LedgerError::Answer)?;
    let identity = Identity { generation: ledger.voters.generation, ..identity.clone() };
    store.run(move |store| store.replace_all(&identity, &meta, &data, last)).await?;
    Ok(text)
}

fn existing(
    dir: &Path,
    host: &HostName,
    cluster: &ClusterName,
) -> Result<(std::sync::Arc<Store>, Identity), LedgerError> {
    if !dir.join(super::store::FILE_NAME).exists() {
        return Err(LedgerError::Recovery(format!("{} has no ledger", dir.display())));
    }
    let store = Store::open(dir)?;
    match store.identity()? {
        Some(found) if found.cluster == *cluster && found.host == *host => Ok((std::sync::Arc::new(store), found)),
        Some(found) => Err(LedgerError::Owner {
            path: store.path().to_owned(),
            found: format!("{} of {}", found.host, found.cluster),
            expected: format!("{host} of {cluster}"),
        }),
        None => Err(LedgerError::Recovery(format!("{} has an empty ledger", dir.display()))),
    }
}

async fn read(store: &std::sync::Arc<Store>, identity: &Identity) -> Result<Remains, LedgerError> {
    let last = store.run(Store::log_state).await?.1;
    // Nobody listens: what it would say is what it returns.
    let (inputs, _nobody) = mpsc::channel(1);
    let machine = Machine::restore_to(std::sync::Arc::clone(store), &identity.cluster, inputs, last).await?;
    let last = machine.last().ok_or_else(|| LedgerError::Recovery("the log is empty".to_owned()))?;
    Ok(Remains {
        seat: Seat { host: identity.host.clone(), store: identity.store },
        generation: identity.generation,
        last: (Term(last.leader_id.term), LogIndex(last.index)),
        ledger: machine.ledger().clone(),
    })
}
