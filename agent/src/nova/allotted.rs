//! For which hosts Placement holds something for a server.
//!
//! A server's allocations name resource providers. A compute node is one, with the id that it has in Nova; a NUMA cell, a
//! device or a network agent hangs below one, and has its root; a pool of storage shared by many is a root of its own.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::NovaError;
use rekindle_proto::id::{HostName, ServerId};
use serde::Deserialize;
use uuid::Uuid;

use super::placement::{HYPERVISORS, Held, Hypervisor, Provider, Providers, ask, ask_for, parse};
use super::wire::{Get, Wire};

/// Providers of one server looked at: its source and some destinations, with a dozen cells and devices each. More of them
/// tell nothing.
const PROVIDERS_MAX: usize = 64;

/// What every server holds of the host that it is on, or of a NUMA cell of it.
const OF_A_HOST: [&str; 3] = ["VCPU", "PCPU", "MEMORY_MB"];

/// The hosts; `None`: they cannot all be told.
///
/// # Errors
/// [`NovaError`]; nothing was changed.
pub(super) async fn hosts(wire: &Wire, server: ServerId) -> Result<Option<BTreeSet<HostName>>, NovaError> {
    let said = ask(wire, &["allocations", &server.to_string()]).await?;
    let said: OfServer = parse(said, "allocations")?;
    if said.allocations.is_empty() || said.allocations.len() > PROVIDERS_MAX {
        return Ok(None);
    }
    let mut roots: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    // Of each root, whether the server holds something of it that only a compute node has.
    let mut held: BTreeMap<Uuid, bool> = BTreeMap::new();
    for (provider, of_it) in said.allocations {
        if !roots.contains_key(&provider) {
            let tree = ask_for(wire, &["resource_providers"], &[("in_tree", &provider.to_string())]).await?;
            let tree: Providers = parse(tree, "resource_providers")?;
            roots.extend(tree.resource_providers.iter().map(Provider::with_root));
        }
        // It was deleted meanwhile.
        let Some(root) = roots.get(&provider) else { return Ok(None) };
        let is_of_host = of_it.resources.keys().any(|class| OF_A_HOST.contains(&class.as_str()));
        *held.entry(*root).or_default() |= is_of_host;
    }
    let mut hosts = BTreeSet::new();
    for (root, is_of_host) in held {
        match host_of(wire, root).await? {
            Some(host) => drop(hosts.insert(host)),
            // Of a compute node that Nova does not know: that it is not the one is not known either.
            None if is_of_host => return Ok(None),
            None => {}
        }
    }
    Ok(Some(hosts))
}

/// Whose compute node it is; `None`: Nova has none by that id.
async fn host_of(wire: &Wire, root: Uuid) -> Result<Option<HostName>, NovaError> {
    let id = root.to_string();
    match wire.get(Get { version: HYPERVISORS, path: &["os-hypervisors", &id], query: &[] }).await {
        Ok(body) => Ok(Some(parse::<Shown>(body, "os-hypervisors")?.hypervisor.node()?.host)),
        Err(NovaError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct OfServer {
    allocations: BTreeMap<Uuid, Held>,
}

#[derive(Deserialize)]
struct Shown {
    hypervisor: Hypervisor,
}
