//! The store as a voter starts on it: its own, of this generation, and no older copy of what was here last.

use std::path::Path;
use std::sync::Arc;

use rekindle_proto::id::{ClusterName, HostName};

use super::adapter::stopped;
use super::error::{LedgerError, StoreError};
use super::lives::Lives;
use super::mark::Mark;
use super::store::{Identity, Store};

/// An opened store.
pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    pub(super) identity: Identity,
    pub(super) lives: Lives,
    /// Another store was here before: this host belongs to a cluster, and does not found one.
    pub(super) successor: bool,
}

/// Opens the store, if it is ours. An older copy of what was here last is put aside, and a new store begun in its place.
pub(super) async fn open(
    dir: &Path,
    host: &HostName,
    cluster: &ClusterName,
    generation: u64,
) -> Result<Opened, LedgerError> {
    let (dir, host, cluster) = (dir.to_owned(), host.clone(), cluster.clone());
    let opened = tokio::task::spawn_blocking(move || open_now(&dir, &host, &cluster, generation)).await;
    opened.map_err(stopped)?
}

fn open_now(dir: &Path, host: &HostName, cluster: &ClusterName, generation: u64) -> Result<Opened, LedgerError> {
    let path = Mark::path(dir);
    let mark = Mark::read(&path).map_err(|source| StoreError::Directory { path, source })?;
    let mut store = Store::open(dir)?;
    if let Some(mark) = &mark
        && store.is_older_than(mark)?
    {
        store.close();
        let aside = Store::put_aside(dir)?;
        tracing::error!(
            file = %store.path().display(),
            kept = %aside.display(),
            "the ledger's file is an older copy than the one that was here: it may have forgotten a vote, and never votes \
             again; a new one is begun, as a standby"
        );
        store = Store::open(dir)?;
    }
    let identity = match store.identity()? {
        None => {
            let identity =
                Identity { store: Store::new_id(), cluster: cluster.clone(), host: host.clone(), generation };
            store.set_identity(&identity)?;
            identity
        }
        Some(found) if found.cluster != *cluster || found.host != *host => {
            return Err(LedgerError::Owner {
                path: store.path().to_owned(),
                found: format!("{} of {}", found.host, found.cluster),
                expected: format!("{host} of {cluster}"),
            });
        }
        Some(found) if found.generation < generation && store.is_fresh()? => {
            let identity = Identity { generation, ..found };
            store.set_identity(&identity)?;
            identity
        }
        Some(found) if found.generation < generation => {
            let path = store.path().to_owned();
            return Err(LedgerError::Superseded { path, store: found.generation, known: generation });
        }
        Some(found) => found,
    };
    let lives = store.next_life()?;
    let successor = mark.is_some_and(|mark| mark.store != identity.store);
    Ok(Opened { store: Arc::new(store), identity, lives, successor })
}
