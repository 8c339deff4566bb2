//! A leader's daemon dies in each phase of somebody else's incident, and is started again as systemd would start it.

use std::time::Duration;

use anyhow::{Result, ensure};
use rekindle_proto::status::Phase;
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::harness::{Fault, Isolated};

use crate::rig::{DEADLINE, armed, bystander, patient, recovered};

pub(crate) async fn a_leader_that_dies_at_the_verdict_is_succeeded(isolated: &Isolated) -> Result<()> {
    dies_in(isolated, Phase::Unclean).await
}

pub(crate) async fn a_leader_that_dies_while_fencing_is_succeeded(isolated: &Isolated) -> Result<()> {
    dies_in(isolated, Phase::Fencing).await
}

pub(crate) async fn a_leader_that_dies_when_fenced_is_succeeded(isolated: &Isolated) -> Result<()> {
    dies_in(isolated, Phase::Fenced).await
}

pub(crate) async fn a_leader_that_dies_while_evacuating_is_succeeded(isolated: &Isolated) -> Result<()> {
    dies_in(isolated, Phase::Evacuating).await
}

async fn dies_in(isolated: &Isolated, at: Phase) -> Result<()> {
    let ms = Duration::from_millis;
    // Long enough to be met under way.
    let builder = patient().cloud(move |cloud| cloud.spawn_time(ms(2000)..ms(4000)));
    armed(isolated, builder, async |cluster| {
        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        // Some phases last but milliseconds: then it dies in a later one.
        cluster
            .wait_until(DEADLINE, |status| {
                match status.incidents.iter().find(|incident| incident.line.host == *victim.name()) {
                    Some(incident) if incident.line.phase >= at => Ok(()),
                    incident => Err(format!("{:?}", incident.map(|incident| &incident.line))),
                }
            })
            .await?;
        leader.kill()?;
        leader.start()?;
        recovered(cluster, victim.name(), &servers).await?;
        ensure!(leader.bmc().power() == Power::On, "a daemon's death is not its host's");
        Ok(())
    })
    .await
}
