//! A voter's host dies, a standby takes its place, and the next voter may die.

use anyhow::{Result, ensure};
use rekindle_proto::id::HostName;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, patient, phase, recovered};
use rekindle_proto::status::Phase;

pub(crate) async fn a_lost_voter_is_replaced_and_the_next_may_die(isolated: &Isolated) -> Result<()> {
    // Three of five vote at first.
    let builder = patient().config(|_, table| {
        let cluster = table.get_mut("cluster").and_then(toml::Value::as_table_mut).expect("there is [cluster]");
        cluster.insert("standbys".to_owned(), vec!["cmp-04", "cmp-05"].into());
    });
    armed(isolated, builder, async |cluster| {
        let first = voter_that_follows(cluster, cluster.voters()).await?;
        let servers = cluster.cloud().servers_of(first.name());
        cluster.inflict(first, Fault::Crash)?;
        let status = cluster
            .wait_until(DEADLINE, |status| {
                let gone = !status.voters.contains(first.name());
                if gone && status.voters.len() == 3 { Ok(()) } else { Err(format!("voters {:?}", status.voters)) }
            })
            .await?;
        let newcomer = status.voters.iter().find(|voter| !cluster.voters().contains(voter));
        ensure!(newcomer.is_some(), "{:?}", status.voters);
        recovered(cluster, first.name(), &servers).await?;
        // Two of the first three are gone: without the newcomer there would be no majority any more.
        let second = voter_that_follows(cluster, cluster.voters()).await?;
        cluster.inflict(second, Fault::Crash)?;
        phase(cluster, second.name(), Phase::Evacuating).await?;
        ensure!(cluster.cloud().ever_ran_twice().is_empty(), "ran twice");
        Ok(())
    })
    .await
}

/// A living voter that does not lead.
async fn voter_that_follows<'a>(cluster: &'a Cluster, voters: &[HostName]) -> Result<&'a Host> {
    let leader = cluster.leader(DEADLINE).await?;
    let status = cluster.wait_until(DEADLINE, |_| Ok(())).await?;
    let alive =
        |voter: &&HostName| status.hosts.iter().any(|line| line.host == **voter && line.state.as_str() == "alive");
    let voter = voters.iter().filter(alive).find(|voter| **voter != leader);
    cluster.host(voter.map_or("none", HostName::as_str))
}
