//! Placement: what each compute node has, and which servers hold how much of it.
//!
//! Nova lists the compute nodes with their services (one paged call), Placement all its resource providers (one call: it
//! has no pages), and then two calls for each provider below a compute node: its inventories, and who holds allocations of
//! it. What is used is summed from the allocations, so that no third call is needed. A node's id in Nova is that of its
//! provider in Placement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use osauth::ApiVersion;
use rekindle_coordinator::CAPACITY_WITHIN;
use rekindle_coordinator::capacity::{CapacityReading, Node, RATIO_ONE, Stock};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{HostName, ServerId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::listing::List;
use super::wire::{Get, Service, Wire};
use crate::clock;

/// 1.14 is the first that tells to which root a nested provider belongs (Queens); allocations of a provider have not
/// changed in what we read of them since 1.0.
const PLACEMENT: ApiVersion = ApiVersion(1, 14);

/// Hypervisors. 2.53 is the first whose ids are UUIDs, the same as in Placement, and which is paged with them.
pub(super) const HYPERVISORS: ApiVersion = ApiVersion(2, 53);

/// A reading younger than this answers the next question too.
const FRESH: Duration = Duration::from_secs(20);

/// Providers looked at: 2,000 hosts with a NUMA cell or device each. A longer list is an error: half of it would promise
/// too little or too much.
const PROVIDERS_MAX: usize = 16_384;

/// Servers of all nodes: 2,000 hosts with 100 each.
const SERVERS_MAX: usize = 200_000;

/// Providers asked about at once; the wire lets fewer through, and the rest is queued in this process.
const ASKED_AT_ONCE: usize = 16;

/// The latest reading. Who asks while one is under way waits for it.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Option<(Moment, Arc<CapacityReading>)>>);

impl Latest {
    /// A reading that is fresh enough, made now if there is none.
    pub(super) async fn reading(&self, wire: &Wire) -> Result<Arc<CapacityReading>, NovaError> {
        let mut latest = self.0.lock().await;
        if let Some((at, reading)) = latest.as_ref().filter(|(at, _)| clock::moment().since(*at) < FRESH) {
            tracing::debug!(?at, "Placement was read just now");
            return Ok(Arc::clone(reading));
        }
        let reading = tokio::time::timeout(CAPACITY_WITHIN, read(wire)).await.map_err(|_| {
            let text = format!("Placement was not read within {} s", CAPACITY_WITHIN.as_secs());
            NovaError::Unknown(Text::new(text))
        })??;
        let reading = Arc::new(reading);
        *latest = Some((clock::moment(), Arc::clone(&reading)));
        Ok(reading)
    }
}

/// For `rekindled --check`.
pub(super) async fn check(wire: &Wire) -> Result<String, NovaError> {
    let providers: Providers = parse(ask(wire, &["resource_providers"]).await?, "resource_providers")?;
    Ok(format!("Placement has {} resource providers", providers.resource_providers.len()))
}

async fn read(wire: &Wire) -> Result<CapacityReading, NovaError> {
    let at = clock::now().wall;
    let providers: Providers = parse(ask(wire, &["resource_providers"]).await?, "resource_providers")?;
    let query = [];
    let list = List {
        version: HYPERVISORS,
        path: &["os-hypervisors", "detail"],
        rows: "hypervisors",
        marker: "id",
        query: &query,
    };
    let mut nodes = BTreeMap::new();
    let mut bare = 0_u32;
    for row in list.read(wire).await? {
        let hypervisor: Hypervisor = parse(row, "os-hypervisors")?;
        // A machine that is itself the server cannot take another's.
        if hypervisor.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("ironic")) {
            bare += 1;
            continue;
        }
        nodes.insert(hypervisor.id, hypervisor.node()?);
    }
    let below: Vec<(Uuid, Uuid)> = providers
        .resource_providers
        .iter()
        .map(Provider::with_root)
        .filter(|(_, root)| nodes.contains_key(root))
        .collect();
    if below.len() > PROVIDERS_MAX {
        return Err(malformed(format!("more than {PROVIDERS_MAX} resource providers")));
    }
    let known: std::collections::BTreeSet<Uuid> = below.iter().map(|(_, root)| *root).collect();
    let missing = nodes.keys().filter(|id| !known.contains(id)).count();
    nodes.retain(|id, _| known.contains(id));
    let asked = stream::iter(below).map(|(provider, root)| async move { (root, of_provider(wire, provider).await) });
    let mut answers = asked.buffer_unordered(ASKED_AT_ONCE);
    let mut servers = 0;
    while let Some((root, answer)) = answers.next().await {
        let Some((stock, holders)) = answer? else { continue };
        servers += holders.len();
        if servers > SERVERS_MAX {
            return Err(malformed(format!("more than {SERVERS_MAX} servers hold allocations")));
        }
        let Some(node) = nodes.get_mut(&root) else { continue };
        node.stock.extend(stock);
        for (server, amounts) in holders {
            let held = node.servers.entry(server).or_default();
            for (class, amount) in amounts {
                let sum = held.entry(class).or_default();
                *sum = u64::saturating_add(*sum, amount);
            }
        }
    }
    drop(answers);
    // Order of arrival must not show.
    nodes.values_mut().for_each(|node| node.stock.sort_by(|a, b| a.0.cmp(&b.0)));
    Ok(CapacityReading { at, nodes: nodes.into_values().collect(), notes: notes(missing, bare) })
}

fn notes(missing: usize, bare: u32) -> Vec<Text> {
    let mut notes = Vec::new();
    if missing > 0 {
        notes.push(Text::new(format!("{missing} compute nodes have no resource provider in Placement: not counted")));
    }
    if bare > 0 {
        notes.push(Text::new(format!("{bare} bare-metal nodes are not counted")));
    }
    notes
}

/// What a provider has, and who holds how much of it.
type Provided = (Vec<(String, Stock)>, BTreeMap<ServerId, BTreeMap<String, u64>>);

/// `None`: it was deleted since it was listed.
async fn of_provider(wire: &Wire, provider: Uuid) -> Result<Option<Provided>, NovaError> {
    let id = provider.to_string();
    let asked = async {
        let inventories = ask(wire, &["resource_providers", &id, "inventories"]).await?;
        let allocations = ask(wire, &["resource_providers", &id, "allocations"]).await?;
        Ok((inventories, allocations))
    };
    let (inventories, allocations) = match asked.await {
        Ok(answers) => answers,
        Err(NovaError::Refused { status: 404, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let inventories: Inventories = parse(inventories, "inventories")?;
    let allocations: Allocations = parse(allocations, "allocations")?;
    let stock = inventories.inventories.into_iter().map(|(class, inventory)| (class, inventory.stock()));
    let holders = allocations.allocations.into_iter().map(|(server, held)| (server, held.resources));
    Ok(Some((stock.collect(), holders.collect())))
}

/// Asks Placement; a refusal says what to mend.
pub(super) async fn ask(wire: &Wire, path: &[&str]) -> Result<Value, NovaError> {
    ask_for(wire, path, &[]).await
}

/// The same, with a query.
pub(super) async fn ask_for(wire: &Wire, path: &[&str], query: &[(&str, &str)]) -> Result<Value, NovaError> {
    let get = Get { version: PLACEMENT, path, query };
    wire.get_from(Service::Placement, get).await.map_err(|error| match error {
        NovaError::Refused { status: 403, text } => NovaError::Refused {
            status: 403,
            text: Text::new(format!("our credentials may not read Placement; give them the admin role ({text})")),
        },
        NovaError::Refused { status: 406, text } => NovaError::Refused {
            status: 406,
            text: Text::new(format!("this Placement is older than microversion {PLACEMENT} ({text})")),
        },
        NovaError::Refused { status, text } => {
            NovaError::Refused { status, text: Text::new(format!("Placement: {text}")) }
        }
        NovaError::NotSent(text) => NovaError::NotSent(Text::new(format!("Placement: {text}"))),
        NovaError::Unknown(text) => NovaError::Unknown(Text::new(format!("Placement: {text}"))),
        NovaError::Malformed(text) => NovaError::Malformed(Text::new(format!("Placement: {text}"))),
    })
}

#[derive(Deserialize)]
pub(super) struct Providers {
    pub(super) resource_providers: Vec<Provider>,
}

#[derive(Deserialize)]
pub(super) struct Provider {
    uuid: Uuid,
    root_provider_uuid: Option<Uuid>,
}

impl Provider {
    /// Its id, and that of its root: its own, if it hangs below none.
    pub(super) fn with_root(&self) -> (Uuid, Uuid) {
        (self.uuid, self.root_provider_uuid.unwrap_or(self.uuid))
    }
}

#[derive(Deserialize)]
struct Inventories {
    inventories: BTreeMap<String, Inventory>,
}

#[derive(Deserialize)]
struct Inventory {
    total: u64,
    #[serde(default)]
    reserved: u64,
    #[serde(default = "one")]
    allocation_ratio: f64,
    max_unit: Option<u64>,
}

fn one() -> f64 {
    1.0
}

impl Inventory {
    fn stock(self) -> Stock {
        Stock {
            total: self.total,
            reserved: self.reserved,
            ratio: millionths(self.allocation_ratio),
            max_unit: self.max_unit.unwrap_or(u64::MAX),
        }
    }
}

/// A ratio as a whole number of millionths. What is no number, or below nothing, gives nothing away.
fn millionths(ratio: f64) -> u64 {
    /// Placement stores a 32-bit float; above this nobody means it.
    const RATIO_MAX: f64 = 1_000_000.0;
    if !ratio.is_finite() || ratio <= 0.0 {
        return 0;
    }
    // Written out and read again: rounding to six places without a cast that could lose its sign or size.
    let text = format!("{:.6}", ratio.min(RATIO_MAX));
    let Some((whole, part)) = text.split_once('.') else { return 0 };
    let (whole, part) = (whole.parse::<u64>().unwrap_or(0), part.parse::<u64>().unwrap_or(0));
    whole.saturating_mul(RATIO_ONE).saturating_add(part)
}

#[derive(Deserialize)]
struct Allocations {
    allocations: BTreeMap<ServerId, Held>,
}

#[derive(Deserialize)]
pub(super) struct Held {
    pub(super) resources: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(super) struct Hypervisor {
    id: Uuid,
    state: Option<String>,
    status: Option<String>,
    #[serde(rename = "hypervisor_type")]
    kind: Option<String>,
    service: ServiceOf,
}

#[derive(Deserialize)]
struct ServiceOf {
    host: String,
}

impl Hypervisor {
    pub(super) fn node(self) -> Result<Node, NovaError> {
        let host = HostName::new(&self.service.host)
            .map_err(|error| malformed(format!("Nova names a host {:?}: {error}", self.service.host)))?;
        let says = |field: Option<String>, word: &str| field.is_some_and(|said| said.eq_ignore_ascii_case(word));
        Ok(Node {
            host,
            enabled: says(self.status, "enabled"),
            up: says(self.state, "up"),
            stock: Vec::new(),
            servers: BTreeMap::new(),
        })
    }
}

pub(super) fn parse<T: DeserializeOwned>(value: Value, what: &str) -> Result<T, NovaError> {
    T::deserialize(value).map_err(|error| malformed(format!("{what}: not as the API reference has it: {error}")))
}

fn malformed(text: String) -> NovaError {
    NovaError::Malformed(Text::new(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ratios_are_read_to_the_millionth() {
        for (ratio, is) in [
            (1.0, 1_000_000),
            (16.0, 16_000_000),
            (1.1, 1_100_000),
            (0.9, 900_000),
            (0.000_000_1, 0),
            (0.0, 0),
            (-1.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, 0),
            (1e30, 1_000_000_000_000),
        ] {
            assert_eq!(millionths(ratio), is, "{ratio}");
        }
    }

    #[test]
    fn inventories_are_read_as_placement_prints_them() {
        let said = json!({ "inventories": {
            "VCPU": { "allocation_ratio": 4.0, "max_unit": 8, "min_unit": 1, "reserved": 1, "step_size": 1, "total": 8 },
            "CUSTOM_X": { "total": 3 },
        }, "resource_provider_generation": 7 });
        let read: Inventories = parse(said, "inventories").expect("read");
        let stock: BTreeMap<String, Stock> =
            read.inventories.into_iter().map(|(class, inventory)| (class, inventory.stock())).collect();
        assert_eq!((stock["VCPU"].capacity(), stock["VCPU"].max_unit), (28, 8));
        assert_eq!((stock["CUSTOM_X"].capacity(), stock["CUSTOM_X"].max_unit), (3, u64::MAX));
    }

    #[test]
    fn a_node_is_read_from_novas_hypervisor() {
        let said = |state: &str, status: &str| {
            let text = json!({ "id": Uuid::nil(), "hypervisor_hostname": "cmp-1.example.org", "hypervisor_type": "QEMU",
                "state": state, "status": status, "service": { "host": "cmp-1", "id": Uuid::nil(), "disabled_reason": null } });
            parse::<Hypervisor>(text, "os-hypervisors").expect("read").node().expect("a node")
        };
        for (state, status, up, enabled) in
            [("up", "enabled", true, true), ("down", "enabled", false, true), ("up", "disabled", true, false)]
        {
            let node = said(state, status);
            assert_eq!((node.host.as_str(), node.up, node.enabled), ("cmp-1", up, enabled));
        }
    }
}
