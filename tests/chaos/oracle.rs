//! The promises, judged by the records of the fakes: what really ran where, and what really had power when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rekindle_proto::id::{HostName, ServerId};
use rekindle_tests::fake::bmc::BmcRecordKind;
use rekindle_tests::fake::cloud::EvacuateOutcome;
use rekindle_tests::harness::Cluster;

/// What was done to whom, so that it is known what may come of it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    doomed: BTreeMap<HostName, Vec<ServerId>>,
}

impl Oracle {
    /// This host is about to fail for good, with these servers on it.
    pub(crate) fn doomed(&mut self, host: &HostName, servers: Vec<ServerId>) {
        self.doomed.insert(host.clone(), servers);
    }

    /// Every promise, against the whole record.
    pub(crate) fn judge(&self, cluster: &Cluster) -> Result<()> {
        never_twice(cluster)?;
        off_before_evacuated(cluster)?;
        self.only_the_guilty_lose_their_power(cluster)?;
        self.nobody_is_lost(cluster)?;
        nobody_panicked(cluster)
    }

    /// I3, I6: whoever was not made to fail keeps its power.
    fn only_the_guilty_lose_their_power(&self, cluster: &Cluster) -> Result<()> {
        for host in cluster.hosts().filter(|host| !self.doomed.contains_key(host.name())) {
            let off = host.bmc().record().into_iter().find(|line| line.kind == BmcRecordKind::PowerOff);
            ensure!(off.is_none(), "{} was powered off and had not failed", host.name());
        }
        Ok(())
    }

    /// Liveness: each server of a failed host runs, once. (No fault here excuses one for good.)
    fn nobody_is_lost(&self, cluster: &Cluster) -> Result<()> {
        let failed: BTreeSet<&HostName> = self.doomed.keys().collect();
        for (host, servers) in &self.doomed {
            for server in servers {
                match cluster.cloud().running_copies(*server).as_slice() {
                    [on] if !failed.contains(on) => {}
                    copies => bail!("server {server} of {host} runs on {copies:?}"),
                }
            }
        }
        Ok(())
    }
}

/// The headline: no server ever had two running copies.
fn never_twice(cluster: &Cluster) -> Result<()> {
    let twice = cluster.cloud().ever_ran_twice();
    ensure!(twice.is_empty(), "ran twice: {twice:?}");
    Ok(())
}

/// I1, I2: when Nova accepted an evacuation, the host it was from had no power.
fn off_before_evacuated(cluster: &Cluster) -> Result<()> {
    let migrations = cluster.cloud().migrations();
    for call in cluster.cloud().evacuate_calls() {
        let EvacuateOutcome::Accepted(id) = call.outcome else { continue };
        let source = &migrations.iter().find(|line| line.id == id).context("a migration without a record")?.source;
        let has_power = has_power_at(cluster, source, call.when.at)?;
        ensure!(!has_power, "server {} was evacuated from {source}, which had power", call.server);
    }
    Ok(())
}

fn has_power_at(cluster: &Cluster, host: &HostName, at: Instant) -> Result<bool> {
    let record = cluster.host(host.as_str())?.bmc().record();
    let mut changes = record.iter().filter(|line| line.when.at <= at).filter_map(|line| match line.kind {
        BmcRecordKind::PowerOff => Some(false),
        BmcRecordKind::PowerOn => Some(true),
        BmcRecordKind::SessionOpened
        | BmcRecordKind::SessionRefused
        | BmcRecordKind::SessionClosed
        | BmcRecordKind::StatusRead { .. }
        | BmcRecordKind::Ordered(_)
        | BmcRecordKind::Refused(_) => None,
    });
    Ok(changes.next_back().unwrap_or(true))
}

/// I9: whatever happened, no daemon fell over its own feet.
fn nobody_panicked(cluster: &Cluster) -> Result<()> {
    for host in cluster.hosts() {
        let log = std::fs::read_to_string(host.log()).with_context(|| format!("no log of {}", host.name()))?;
        ensure!(!log.contains("panicked"), "{} panicked:\n{}", host.name(), host.log_tail(50));
        ensure!(host.ended().is_none(), "{} ended by itself: {:?}", host.name(), host.ended());
    }
    Ok(())
}
