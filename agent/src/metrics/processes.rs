//! Processes of hypervisors, as the leader's status tells of them.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rekindle_proto::process::ProcessStanding;
use rekindle_proto::status::StatusDoc;

use super::{ByWord, gauge};

/// All standings, each by its word.
const STANDINGS: [(ProcessStanding, &str); 5] = [
    (ProcessStanding::Running, "running"),
    (ProcessStanding::Settling, "settling"),
    (ProcessStanding::Troubled, "troubled"),
    (ProcessStanding::Down, "down"),
    (ProcessStanding::Unknown, "unknown"),
];

#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    processes: Family<ByWord, Gauge>,
}

impl ProcessMetrics {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("processes", "Watched processes of hypervisors, by how they stand", self.processes.clone());
    }

    pub(super) fn show(&self, status: &StatusDoc) {
        let mut counts: BTreeMap<ProcessStanding, usize> = BTreeMap::new();
        for process in status.hosts.iter().flat_map(|host| &host.processes) {
            *counts.entry(process.standing).or_default() += 1;
        }
        for (standing, word) in STANDINGS {
            let count = counts.get(&standing).copied().unwrap_or(0);
            self.processes.get_or_create(&vec![("standing", word)]).set(gauge(count));
        }
    }
}
