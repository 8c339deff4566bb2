//! Whether there is room, asked with the command at real daemons, whose Placement is a simulated one.

use anyhow::{Context, Result, bail, ensure};
use rekindle_agent::cli::{Exit, Failure};
use rekindle_proto::capacity::CapacityDoc;
use rekindle_proto::id::HostName;
use rekindle_tests::fake::cloud::{Endpoint, Fault as NovaFault, Span};
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, eventually_async, recovered, started};

/// Five hosts with three servers of one VCPU each; each host gives away four.
fn tighten(cluster: &Cluster) {
    for host in cluster.cloud().hosts() {
        cluster.cloud().set_inventory(&host, "VCPU", 3, 1, 2.0);
    }
}

async fn asked(cluster: &Cluster, host: &Host, arguments: &[&str]) -> Result<(Exit, CapacityDoc)> {
    let arguments: Vec<&str> = ["capacity", "--json"].into_iter().chain(arguments.iter().copied()).collect();
    let (exit, text) = cluster.rekindle(host, &arguments).await.map_err(|failure| anyhow::anyhow!(failure.text))?;
    Ok((exit, serde_json::from_str(&text).context("its JSON")?))
}

pub(crate) async fn it_is_told_by_any_member_and_counts_who_is_closed(isolated: &Isolated) -> Result<()> {
    started(isolated, builder(), async |cluster| {
        // Before the first reading, which is kept for a while.
        tighten(cluster);
        cluster.init_roster_and_arm(DEADLINE).await.context("the cluster did not get ready")?;
        let victim = bystander(cluster)?;
        // (3 - 1) * 2 = 4 a host, of which 3 are used: four hosts have room for the 3 of a fifth, three not for the 6 of two.
        for (arguments, tried, failing, exit) in [
            (&["--lose", "1"][..], 5, 0, Exit::Done),
            (&["--lose", "2"][..], 10, 10, Exit::Refused),
            (&["--host", victim.name().as_str()][..], 1, 0, Exit::Done),
        ] {
            let (ended, doc) = asked(cluster, victim, arguments).await?;
            ensure!((doc.tried, doc.failing, ended) == (tried, failing, exit), "{arguments:?}: {ended:?} {doc:?}");
            let vcpu = doc.classes.iter().find(|line| line.class == "VCPU").context("VCPU")?;
            ensure!((vcpu.capacity, vcpu.used, vcpu.most_free) == (20, 15, 1), "{vcpu:?}");
        }
        // Two closed hosts leave two: one of three finds no room, and is named with what it wants.
        let others: Vec<HostName> = cluster.cloud().hosts().into_iter().filter(|host| host != victim.name()).collect();
        for host in &others[..2] {
            let order = ["maintenance", "on", host.as_str(), "--reason", "new disks"];
            cluster.order(DEADLINE, &order).await?;
        }
        let (exit, doc) = asked(cluster, victim, &["--host", victim.name().as_str()]).await?;
        let loss = doc.losses.first().context("one loss")?;
        ensure!(exit == Exit::Refused && (loss.servers, loss.unfit) == (3, 1), "{doc:?}");
        ensure!(doc.closed.values().all(|why| why.as_str().ends_with(": new disks")), "{:?}", doc.closed);
        ensure!(doc.closed.keys().eq(others[..2].iter()), "{:?}", doc.closed);
        ensure!(loss.named[0].why.as_str() == "the other lost servers took the room", "{loss:?}");
        ensure!(cluster.cloud().servers_of(victim.name()).contains(&loss.named[0].server), "{loss:?}");
        match asked(cluster, victim, &["--host", "cmp-99"]).await {
            Err(error) if error.to_string().contains("no compute node of host cmp-99") => {}
            other => bail!("{other:?}"),
        }
        // What was read of the loss of any one host shows in `why` and in `status`.
        eventually_async(async || {
            let (_, why) = cluster.rekindle(victim, &["why", victim.name().as_str()]).await?;
            ensure!(why.contains("capacity: ") && why.contains("an estimate, read"), "{why}");
            let status = cluster.any_status().await?;
            ensure!(status.capacity.is_some_and(|capacity| capacity.at.is_some() && capacity.tried == 5), "status");
            Ok(())
        })
        .await
    })
    .await
}

/// Whatever Placement does, the servers are recovered, and nobody asks it while they are.
pub(crate) async fn a_cloud_without_placement_only_has_no_answer(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder().cloud(|cloud| cloud.without_placement()), async |cluster| {
        let victim = bystander(cluster)?;
        let leader = cluster.leader(DEADLINE).await?;
        let refusal: Result<_, Failure> = cluster.rekindle(cluster.host(leader.as_str())?, &["capacity"]).await;
        let failure = match refusal {
            Err(failure) => failure,
            Ok((_, text)) => bail!("it was told: {text}"),
        };
        ensure!(failure.exit == Exit::Refused && failure.text.contains("no placement endpoint"), "{failure:?}");
        // The same of a Placement that refuses: here it is Nova's half of the reading.
        cluster.cloud().fault(Endpoint::Hypervisors, NovaFault::Http(403), Span::UntilCleared);
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await
    })
    .await
}
