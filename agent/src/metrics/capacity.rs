//! Whether the servers of a lost host would find room, as the leader's latest reading of Placement has it. Shown by the
//! leader only: elsewhere `rekindle_capacity_known` is 0.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rekindle_proto::capacity::CapacitySummary;

use super::ByWord;

/// Resource classes by name; all others are left to `rekindle capacity`, as their names are the site's.
const CLASSES: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];

#[derive(Debug, Default)]
pub(super) struct CapacityMetrics {
    known: Gauge,
    read: Gauge,
    hosts: Gauge,
    hosts_unfit: Gauge,
    servers_unfit: Gauge,
    free: Family<ByWord, Gauge>,
}

impl CapacityMetrics {
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("capacity_known", "1 where Placement's latest reading succeeded", self.known.clone());
        to.register("capacity_read_time_seconds", "When Placement was read, Unix time", self.read.clone());
        to.register("capacity_hosts", "Hosts whose loss was tried", self.hosts.clone());
        let help = "Hosts whose servers would not all find room elsewhere, by estimate";
        to.register("capacity_hosts_unfit", help, self.hosts_unfit.clone());
        let help = "Most servers that the loss of one host would leave without room, by estimate";
        to.register("capacity_servers_unfit", help, self.servers_unfit.clone());
        to.register("capacity_free", "Free on hosts that may receive servers", self.free.clone());
    }

    /// We do not lead: whatever we knew is somebody else's to tell.
    pub(super) fn forget(&self) {
        self.known.set(0);
    }

    pub(super) fn show(&self, summary: Option<&CapacitySummary>) {
        self.known.set(i64::from(summary.is_some_and(|summary| summary.at.is_some() && summary.error.is_none())));
        let Some(summary) = summary else { return };
        self.read.set(summary.at.map_or(0, |at| at.0 / 1_000));
        self.hosts.set(i64::try_from(summary.tried).unwrap_or(i64::MAX));
        self.hosts_unfit.set(i64::try_from(summary.failing).unwrap_or(i64::MAX));
        self.servers_unfit.set(i64::from(summary.unfit));
        for class in CLASSES {
            let free = summary.free.get(class).copied().unwrap_or(0);
            self.free.get_or_create(&vec![("class", class)]).set(i64::try_from(free).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_proto::id::WallTime;

    use super::*;

    #[test]
    fn a_reading_shows_and_a_failure_leaves_its_figures() {
        let metrics = CapacityMetrics::default();
        let mut registry = Registry::with_prefix("rekindle");
        metrics.register(&mut registry);
        let mut summary = CapacitySummary {
            at: Some(WallTime(7_500)),
            tried: 5,
            failing: 2,
            unfit: 3,
            free: [("VCPU".to_owned(), 9)].into(),
            error: None,
        };
        let shown = |registry: &Registry| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).expect("encoded");
            text
        };
        metrics.show(Some(&summary));
        let text = shown(&registry);
        for line in [
            "rekindle_capacity_known 1",
            "rekindle_capacity_read_time_seconds 7",
            "rekindle_capacity_hosts 5",
            "rekindle_capacity_hosts_unfit 2",
            "rekindle_capacity_servers_unfit 3",
            "rekindle_capacity_free{class=\"VCPU\"} 9",
            "rekindle_capacity_free{class=\"DISK_GB\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
        }
        summary.error = Some("503".into());
        metrics.show(Some(&summary));
        assert!(shown(&registry).contains("rekindle_capacity_known 0\n"));
        metrics.show(None);
        assert!(shown(&registry).contains("rekindle_capacity_hosts_unfit 2\n"));
    }
}
