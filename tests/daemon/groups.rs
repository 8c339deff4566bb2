//! A server group that leaves a server no host: Nova says nothing of it, the story does.

use anyhow::{Context, Result, ensure};
use rekindle_proto::id::ServerId;
use rekindle_proto::status::Phase;
use rekindle_tests::fake::cloud::Endpoint;
use rekindle_tests::harness::{Fault, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, eventually_async, phase};

pub(crate) async fn one_that_keeps_a_server_from_every_host_is_named(isolated: &Isolated) -> Result<()> {
    // One try: what the group has to do with it is then read when it is to be left behind, and waited for.
    let builder = builder().config(|_, table| {
        let recovery = table.get_mut("recovery").and_then(toml::Value::as_table_mut).expect("there is [recovery]");
        recovery.insert("evacuate_tries".to_owned(), 1.into());
    });
    armed(isolated, builder, async |cluster| {
        let (victim, cloud) = (bystander(cluster)?, cluster.cloud());
        let firsts: Vec<ServerId> =
            cloud.hosts().iter().filter_map(|host| cloud.servers_of(host).first().copied()).collect();
        cloud.keep_apart("galera", &firsts);
        let servers = cloud.servers_of(victim.name());
        let kept = *servers.first().context("the victim has servers")?;

        cluster.inflict(victim, Fault::Crash)?;
        let id = phase(cluster, victim.name(), Phase::Evacuating).await?;
        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let story = eventually_async(async || {
            let story = cluster.incident(leader, id).await?;
            ensure!(story.line.phase == Phase::Recovered, "{:?}", story.line);
            Ok(story)
        })
        .await?;

        for line in &story.servers {
            let state = if line.server == kept { "left-behind" } else { "recovered" };
            ensure!(line.state.as_str() == state, "{line:?}");
        }
        let line = story.servers.iter().find(|line| line.server == kept).context("it is in the story")?;
        let why = line.reason.as_ref().context("no reason")?.as_str();
        println!("{why}");
        ensure!(why.contains("found no host; it is in server group \"galera\""), "{why}");
        for host in cloud.hosts().iter().filter(|host| *host != victim.name()) {
            ensure!(why.contains(&format!(" on {host}")), "{host} is not in {why}");
        }
        ensure!(story.story.iter().any(|line| line.text.as_str().contains("\"galera\"")), "{:?}", story.story);
        let asked = cloud.requests().iter().filter(|line| line.endpoint == Endpoint::ServerGroup).count();
        ensure!(asked == 1, "the group was asked for {asked} times");
        Ok(())
    })
    .await
}
