//! Hosts on each network, as the leader's status tells of them. Nothing is shown while there is one network.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rekindle_proto::status::StatusDoc;

use super::gauge;

/// A host's states on one network.
const STATES: [&str; 4] = ["alive", "suspect", "down", "unseen"];

/// A path is named by the configuration, which bounds how many there are.
type ByPath = Vec<(&'static str, String)>;

#[derive(Debug, Default)]
pub(super) struct PathMetrics {
    hosts: Family<ByPath, Gauge>,
    lost: Family<ByPath, Gauge>,
}

impl PathMetrics {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("path_hosts", "Roster by network and state there, as the leader sees it", self.hosts.clone());
        let help = "Hosts that say themselves that they hear nobody on that network";
        to.register("path_lost_hosts", help, self.lost.clone());
    }

    pub(super) fn show(&self, status: &StatusDoc) {
        let mut counts: BTreeMap<&str, ([usize; STATES.len()], usize)> = BTreeMap::new();
        for line in status.hosts.iter().flat_map(|host| &host.paths) {
            let (states, lost) = counts.entry(line.path.as_str()).or_default();
            for (count, _) in states.iter_mut().zip(STATES).filter(|(_, state)| *state == line.state.as_str()) {
                *count += 1;
            }
            *lost += usize::from(line.lost);
        }
        if counts.len() < 2 {
            return;
        }
        for (path, (states, lost)) in counts {
            let path = ("path", path.to_owned());
            for (count, state) in states.into_iter().zip(STATES) {
                self.hosts.get_or_create(&vec![path.clone(), ("state", state.to_owned())]).set(gauge(count));
            }
            self.lost.get_or_create(&vec![path]).set(gauge(lost));
        }
    }
}
