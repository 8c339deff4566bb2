//! A BMC that the leader does not reach, and another voter does: that voter executes the fence.

use anyhow::{Context, Result, ensure};
use rekindle_proto::status::Phase;
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::harness::{ClusterBuilder, Fault, Isolated};

use crate::rig::{DEADLINE, armed, bystander, patient, phase, recovered};

pub(crate) async fn a_bmc_that_the_leader_does_not_reach_is_switched_by_another_voter(
    isolated: &Isolated,
) -> Result<()> {
    armed(isolated, each_as_itself(patient()), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        let leader = cluster.leader(DEADLINE).await?;
        victim.bmc().silent_to(Some(leader.as_str()));
        // It runs on: what recovers its servers is that its power was cut.
        cluster.inflict(victim, Fault::Cut)?;
        let id = phase(cluster, victim.name(), Phase::Fencing).await?;
        recovered(cluster, victim.name(), &servers).await?;

        ensure!(victim.bmc().power() == Power::Off, "a fenced host stays off");
        // The truth first: who has ordered it at the BMC itself.
        let ordered_by = victim.bmc().ordered_by();
        let executor = ordered_by.first().context("nobody ordered it off")?;
        let votes = |name: &str| cluster.voters().iter().any(|voter| voter.as_str() == name);
        ensure!(ordered_by.len() == 1 && votes(executor) && executor != leader.as_str(), "{leader} had {ordered_by:?}");
        let incident = cluster.incident(cluster.host(leader.as_str())?, id).await?;
        let told = |words: &str| incident.story.iter().any(|line| line.text.as_str().contains(words));
        ensure!(
            told(&format!("executed by {executor}")),
            "its story does not tell who executed: {:#?}",
            incident.story
        );
        for other in cluster.hosts().filter(|other| other.name() != victim.name()) {
            ensure!(other.bmc().ordered_by().is_empty(), "{} was ordered something, too", other.name());
        }
        Ok(())
    })
    .await
}

/// Each daemon is another user at the BMCs, so that they can tell it from the others; all else is the same, also their names.
fn each_as_itself(builder: ClusterBuilder) -> ClusterBuilder {
    builder.config(|host, table| {
        let devices = table.get_mut("fence_device").and_then(toml::Value::as_array_mut).expect("there are devices");
        for device in devices.iter_mut().filter_map(toml::Value::as_table_mut) {
            device.insert("driver".to_owned(), "ipmi".into());
            device.insert("username".to_owned(), host.as_str().into());
            device.remove("cipher_suite");
        }
    })
}
