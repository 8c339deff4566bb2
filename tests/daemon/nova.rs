//! A Nova that fails: the incident waits, and goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use rekindle_tests::fake::cloud::{Cloud, Endpoint, Fault as NovaFault, Span};
use rekindle_tests::harness::{Fault, Isolated};

use crate::rig::{armed, builder, bystander, recovered};

pub(crate) async fn errors_are_waited_out(isolated: &Isolated) -> Result<()> {
    finishes(isolated, |cloud| {
        cloud.fault(Endpoint::Services, NovaFault::Http(503), Span::Next(3));
        cloud.fault(Endpoint::UpdateService, NovaFault::Http(500), Span::Next(2));
        cloud.fault(Endpoint::Servers, NovaFault::Http(502), Span::Next(2));
        cloud.fault(Endpoint::Migrations, NovaFault::DropBefore, Span::Next(2));
    })
    .await
}

pub(crate) async fn a_slow_nova_is_waited_for(isolated: &Isolated) -> Result<()> {
    finishes(isolated, |cloud| {
        cloud.fault(Endpoint::Any, NovaFault::Latency(Duration::from_millis(700)), Span::UntilCleared);
    })
    .await
}

pub(crate) async fn worthless_tokens_are_renewed(isolated: &Isolated) -> Result<()> {
    finishes(isolated, |cloud| {
        cloud.revoke_tokens();
        // And again in the middle.
        cloud.revoke_tokens_after(6);
    })
    .await
}

/// Nova does what it was asked and the answer is lost: asked again, it would do it again (I11).
pub(crate) async fn answers_that_are_lost_make_no_second_copy(isolated: &Isolated) -> Result<()> {
    finishes(isolated, |cloud| {
        cloud.fault(Endpoint::Evacuate, NovaFault::DropAfter, Span::Next(2));
        cloud.fault(Endpoint::Evacuate, NovaFault::HangAfter, Span::Next(1));
    })
    .await
}

async fn finishes(isolated: &Isolated, spoil: impl FnOnce(&Cloud)) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        let before = cluster.cloud().requests().len();
        spoil(cluster.cloud());
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await?;
        ensure!(cluster.cloud().requests().len() > before, "Nova was never asked");
        Ok(())
    })
    .await
}
