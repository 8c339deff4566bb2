//! Two networks: one that fails is told by its name and fences nobody; both together are a host that is gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rekindle_proto::status::{PathLine, StatusDoc};
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, nothing_evacuated, open, recovered};

/// Several times what an armed cluster takes to fence a host that is silent on all its networks (see the demo).
const LONG: Duration = Duration::from_secs(10);

pub(crate) async fn one_of_two_networks_is_an_alarm_and_both_are_a_verdict(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder().storage_network(), async |cluster| {
        let victim = bystander(cluster)?;
        let name = victim.name().as_str();
        all_meet_everywhere(cluster).await?;

        victim.cut_storage(true)?;
        // It says so itself: it reaches the leader by the other network.
        let words =
            format!("path storage: {name} does not answer there, and does elsewhere; it hears nobody there either");
        let status = alarmed(cluster, &words).await?;
        ensure!(line(&status, victim, "storage").is_some_and(|line| line.lost), "{:?}", status.hosts);
        watched_only(cluster, victim, ("management", "storage")).await?;
        shown(cluster, victim, ["alive", "down, lost"]).await?;
        victim.cut_storage(false)?;
        all_meet_everywhere(cluster).await?;

        victim.cut_management(true)?;
        let words = format!("path management: {name} does not answer there, and does elsewhere");
        alarmed(cluster, &words).await?;
        watched_only(cluster, victim, ("storage", "management")).await?;
        shown(cluster, victim, ["down", "alive"]).await?;

        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Cut)?;
        recovered(cluster, victim.name(), &servers).await?;
        ensure!(victim.bmc().power() == Power::Off, "a fenced host stays off");
        Ok(())
    })
    .await
}

fn line<'a>(status: &'a StatusDoc, host: &Host, path: &str) -> Option<&'a PathLine> {
    let host = status.hosts.iter().find(|line| line.host == *host.name())?;
    host.paths.iter().find(|line| line.path.as_str() == path)
}

/// Until the leader hears everybody on both networks, and nothing is told of either.
async fn all_meet_everywhere(cluster: &Cluster) -> Result<()> {
    let wanted = |status: &StatusDoc| {
        let is_heard = |line: &PathLine| line.state.as_str() == "alive" && !line.lost;
        let apart = status.hosts.iter().find(|line| line.paths.len() != 2 || !line.paths.iter().all(is_heard));
        let alarm = status.alarms.iter().find(|alarm| alarm.as_str().starts_with("path "));
        match (apart, alarm) {
            (None, None) => Ok(()),
            (apart, alarm) => Err(format!("{:?}, {alarm:?}", apart.map(|line| (&line.host, &line.paths)))),
        }
    };
    cluster.wait_until(DEADLINE, wanted).await.map(drop)
}

async fn alarmed(cluster: &Cluster, words: &str) -> Result<StatusDoc> {
    let wanted = |status: &StatusDoc| match status.alarms.iter().any(|alarm| alarm.as_str() == words) {
        true => Ok(()),
        false => Err(format!("no alarm {words:?} in {:?}", status.alarms)),
    };
    cluster.wait_until(DEADLINE, wanted).await
}

/// Long after a verdict would have been given the host has its power, and is heard where it is not cut.
async fn watched_only(cluster: &Cluster, victim: &Host, (heard, cut): (&str, &str)) -> Result<()> {
    // What must not happen has no event to wait for.
    tokio::time::sleep(LONG).await;
    let status = cluster.any_status().await?;
    ensure!(open(&status, victim.name()).is_none(), "an incident was opened: {:?}", status.incidents);
    let state = |path| line(&status, victim, path).map(|line| line.state.as_str());
    ensure!((state(heard), state(cut)) == (Some("alive"), Some("down")), "{:?}", status.hosts);
    ensure!(victim.bmc().power() == Power::On, "it was fenced");
    nothing_evacuated(cluster)
}

/// What `rekindle status` shows of it on management and on storage.
async fn shown(cluster: &Cluster, victim: &Host, wanted: [&str; 2]) -> Result<()> {
    let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
    let screen = cluster.rekindle(leader, &["status"]).await?.1;
    let name = victim.name().as_str();
    let row = screen.lines().find(|line| line.starts_with(name)).with_context(|| screen.clone())?;
    let words: Vec<&str> = row.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    ensure!(screen.contains("MANAGEMENT") && words.get(4..6) == Some(&wanted), "wanted {wanted:?}:\n{screen}");
    Ok(())
}
