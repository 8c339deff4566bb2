//! Hosts that fail.

use std::time::Duration;

use anyhow::{Result, ensure};
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::harness::{Cluster, Fault, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, nothing_evacuated, open, recovered};

pub(crate) async fn a_frozen_host_is_fenced_before_its_servers_run_elsewhere(isolated: &Isolated) -> Result<()> {
    fails(isolated, Fault::Freeze).await
}

pub(crate) async fn a_host_that_was_cut_off_is_fenced_before_its_servers_run_elsewhere(
    isolated: &Isolated,
) -> Result<()> {
    fails(isolated, Fault::Cut).await
}

async fn fails(isolated: &Isolated, fault: Fault) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, fault)?;
        recovered(cluster, victim.name(), &servers).await?;
        ensure!(victim.bmc().power() == Power::Off, "a fenced host stays off");
        ensure!(victim.pid().is_none(), "its daemon still runs");
        Ok(())
    })
    .await
}

pub(crate) async fn a_disarmed_cluster_only_watches(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        cluster.order(DEADLINE, &["disarm", "--reason", "a test"]).await?;
        watched_only(cluster).await
    })
    .await
}

pub(crate) async fn a_host_in_maintenance_is_left_alone(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?.name().to_string();
        cluster.order(DEADLINE, &["maintenance", "on", &victim, "--reason", "a test"]).await?;
        watched_only(cluster).await
    })
    .await
}

/// A host dies; it is seen to be down, and long after the verdict would have been given it has its power, and no incident
/// is open.
async fn watched_only(cluster: &Cluster) -> Result<()> {
    let victim = bystander(cluster)?;
    cluster.inflict(victim, Fault::Crash)?;
    let doubted = |status: &rekindle_proto::status::StatusDoc| {
        let line = status.hosts.iter().find(|line| line.host == *victim.name());
        match line.map(|line| line.state.as_str()) {
            Some("suspect" | "down") => Ok(()),
            state => Err(format!("{} is {state:?}", victim.name())),
        }
    };
    cluster.wait_until(DEADLINE, doubted).await?;
    // What must not happen has no event to wait for: an armed cluster has fenced within 5 s (see the demo).
    tokio::time::sleep(Duration::from_secs(10)).await;
    let status = cluster.any_status().await?;
    ensure!(open(&status, victim.name()).is_none(), "an incident was opened");
    ensure!(victim.bmc().power() == Power::On, "it was fenced");
    nothing_evacuated(cluster)
}
