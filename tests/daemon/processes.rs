//! A nova-compute that is down for good: started again by its own host, its service disabled by the leader, and enabled when
//! it is back. A file stands for the process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rekindle_proto::id::HostName;
use rekindle_proto::process::ProcessStanding;
use rekindle_tests::fake::cloud::Cloud;
use rekindle_tests::harness::{Cluster, ClusterBuilder, Fault, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, eventually, eventually_async, recovered};

/// Every host watches a file of its own, and its restart writes a line of a log.
fn with_processes(builder: ClusterBuilder, dir: &Path) -> ClusterBuilder {
    let dir = dir.to_owned();
    builder.config(move |host, table| {
        let (runs, log) = (runs(&dir, host), dir.join(format!("{host}.log")));
        let text = format!(
            "name = \"nova-compute\"\ncheck = [\"/usr/bin/test\", \"-e\", {runs:?}]\n\
             restart = [\"/bin/sh\", \"-c\", \"echo again >> {}; false\"]\n\
             restart_attempts = 1\nrestart_delay = \"1s\"\n",
            log.display()
        );
        let process: toml::Table = text.parse().expect("TOML");
        table.insert("process".to_owned(), toml::Value::Array(vec![process.into()]));
    })
}

fn runs(dir: &Path, host: &HostName) -> PathBuf {
    dir.join(format!("{host}.runs"))
}

async fn standing(cluster: &Cluster, host: &HostName) -> Result<ProcessStanding> {
    let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
    let status = cluster.status(leader).await?;
    let line = status.hosts.iter().find(|line| line.host == *host).context("no such host")?;
    Ok(line.processes.first().context("nothing is said of its processes")?.standing)
}

fn service(cloud: &Cloud, host: &HostName) -> Option<String> {
    cloud.disabled_reason(host)
}

pub(crate) async fn one_that_is_down_for_good_disables_its_service_and_hides_no_host_failure(
    isolated: &Isolated,
) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("rekindle-processes-").tempdir()?;
    let dir = dir.path();
    for number in 1..=5 {
        fs::write(runs(dir, &HostName::new(&format!("cmp-{number:02}"))?), "")?;
    }
    armed(isolated, with_processes(builder(), dir), async |cluster| {
        let host = bystander(cluster)?;
        let name = host.name().clone();
        let cloud = cluster.cloud();
        fs::remove_file(runs(dir, &name))?;
        cloud.compute_stopped(&name);
        let reason = eventually(|| service(cloud, &name).context("its service is enabled")).await?;
        ensure!(
            reason.starts_with(&format!("rekindle: nova-compute is down for good on {name} (")),
            "the reason is {reason:?}"
        );
        ensure!(fs::read_to_string(dir.join(format!("{name}.log")))? == "again\n", "it was to be started once");
        eventually_async(async || {
            ensure!(standing(cluster, &name).await? == ProcessStanding::Down, "it is not shown");
            Ok(())
        })
        .await?;
        ensure!(cloud.power_calls().is_empty() && cloud.evacuate_calls().is_empty(), "nothing is moved");
        // It dies now: recovered like any other, and its own reason is no hindrance.
        let servers = cloud.servers_of(&name);
        cluster.inflict(host, Fault::Crash)?;
        recovered(cluster, &name, &servers).await
    })
    .await
}
