//! Host aggregates: who is in them, and which servers run nowhere else.

use rekindle_coordinator::order::AggregateChange;
use rekindle_proto::fact::NovaAggregate;

use super::*;

#[derive(Debug)]
pub(super) struct Aggregate {
    name: Text,
    /// The availability zone that it makes of its hosts.
    zone: Option<String>,
    hosts: BTreeSet<HostName>,
}

impl Nova {
    /// Makes an aggregate; the first is number 1.
    pub fn add_aggregate(&mut self, name: &str, zone: Option<&str>, hosts: &[HostName]) -> AggregateId {
        let id = AggregateId(self.aggregates.len() as u64 + 1);
        let hosts = hosts.iter().cloned().collect();
        self.aggregates.insert(id, Aggregate { name: name.into(), zone: zone.map(str::to_owned), hosts });
        id
    }

    /// The hosts of an aggregate, by its name.
    #[must_use]
    pub fn members(&self, name: &str) -> Vec<HostName> {
        let found = self.aggregates.values().find(|aggregate| aggregate.name.as_str() == name);
        found.into_iter().flat_map(|aggregate| aggregate.hosts.iter().cloned()).collect()
    }

    /// Its number.
    #[must_use]
    pub fn aggregate(&self, name: &str) -> Option<AggregateId> {
        self.aggregates.iter().find(|(_, aggregate)| aggregate.name.as_str() == name).map(|(id, _)| *id)
    }

    /// A host is added to an aggregate, or taken out.
    ///
    /// # Errors
    /// Nova's own: 404 of an aggregate that is not there, 409 of a host that would be in two availability zones. Of one that is in
    /// it already, or is not, the adapter makes no error.
    pub fn set_membership(
        &mut self,
        id: AggregateId,
        host: &HostName,
        change: AggregateChange,
    ) -> Result<NovaAnswer, NovaError> {
        let other_zone = self.aggregates.values().filter(|other| other.hosts.contains(host)).find_map(|other| {
            let zone = self.aggregates.get(&id).and_then(|aggregate| aggregate.zone.as_ref());
            other.zone.clone().filter(|of| zone.is_some_and(|zone| zone != of))
        });
        let found = self.aggregates.get_mut(&id);
        let changed = match (change, found, other_zone) {
            (AggregateChange::Join, None, _) => {
                return Err(NovaError::Refused {
                    status: 404,
                    text: format!("Aggregate {id} could not be found.").into(),
                });
            }
            (AggregateChange::Leave, None, _) => false,
            (AggregateChange::Join, Some(found), _) if found.hosts.contains(host) => false,
            (AggregateChange::Join, Some(_), Some(zone)) => {
                let text = format!("One or more hosts already in different availability zone(s) ['{zone}']");
                return Err(NovaError::Refused { status: 409, text: text.into() });
            }
            (AggregateChange::Join, Some(found), None) => found.hosts.insert(host.clone()),
            (AggregateChange::Leave, Some(found), _) => found.hosts.remove(host),
        };
        Ok(NovaAnswer::Membership { changed })
    }

    /// Somebody deletes an aggregate.
    pub fn delete_aggregate(&mut self, id: AggregateId) {
        self.aggregates.remove(&id);
    }

    pub(super) fn aggregates_of(&self, host: &HostName) -> Vec<NovaAggregate> {
        let of_it = self.aggregates.iter().filter(|(_, aggregate)| aggregate.hosts.contains(host));
        let row = |(id, aggregate): (&AggregateId, &Aggregate)| NovaAggregate {
            id: *id,
            name: aggregate.name.clone(),
            metadata: BTreeMap::new(),
        };
        of_it.map(row).collect()
    }

    /// Whether the filters of the scheduler let a server run on a host.
    pub(super) fn passes_filters(&self, server: ServerId, host: &HostName) -> bool {
        let Some(name) = self.bound.get(&server) else { return true };
        self.aggregates.values().any(|aggregate| aggregate.name == *name && aggregate.hosts.contains(host))
    }
}
