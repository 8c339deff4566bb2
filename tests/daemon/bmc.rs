//! BMCs that do not fence: nothing may be evacuated, a person is told why, and after the mending it goes on.

use anyhow::{Result, ensure};
use rekindle_proto::status::{Phase, StatusDoc};
use rekindle_tests::fake::bmc::Behaviour;
use rekindle_tests::harness::{Fault, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, nothing_evacuated, open, phase, recovered};

pub(crate) async fn a_wrong_password_is_stuck_and_nothing_is_evacuated(isolated: &Isolated) -> Result<()> {
    sticks(isolated, Behaviour::WrongPassword, "credentials").await
}

/// That one which stays silent ends stuck is shown in virtual time (`sim/scenarios`).
pub(crate) async fn a_silent_bmc_is_waited_for_and_nothing_is_evacuated(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        victim.bmc().behaviour(Behaviour::Silent);
        cluster.inflict(victim, Fault::Cut)?;
        let waits = |status: &StatusDoc| {
            let held = open(status, victim.name()).map_or(&[][..], |incident| &incident.held_by);
            match held.iter().any(|why| why.as_str().contains("more for its fence device to answer")) {
                true => Ok(()),
                false => Err(format!("{} is held by {held:?}", victim.name())),
            }
        };
        cluster.wait_until(DEADLINE, waits).await?;
        nothing_evacuated(cluster)?;
        // Nobody need be called: its order is repeated as soon as it answers.
        victim.bmc().behaviour(Behaviour::Honest);
        recovered(cluster, victim.name(), &servers).await
    })
    .await
}

pub(crate) async fn a_bmc_that_says_ok_and_stays_on_is_stuck_and_nothing_is_evacuated(
    isolated: &Isolated,
) -> Result<()> {
    sticks(isolated, Behaviour::SaysOkStaysOn, "on").await
}

/// `says`: what the story must have in it.
async fn sticks(isolated: &Isolated, behaviour: Behaviour, says: &str) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        victim.bmc().behaviour(behaviour);
        // Its guests run on: an evacuation now would run them twice.
        cluster.inflict(victim, Fault::Cut)?;
        let id = phase(cluster, victim.name(), Phase::Stuck).await?;
        nothing_evacuated(cluster)?;
        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let story = cluster.incident(leader, id).await?.story;
        ensure!(story.iter().any(|line| line.text.as_str().contains(says)), "no reason with {says:?} in {story:#?}");

        victim.bmc().behaviour(Behaviour::Honest);
        cluster.order(DEADLINE, &["resume", &id.to_string(), "--reason", "the BMC is mended"]).await?;
        recovered(cluster, victim.name(), &servers).await
    })
    .await
}
