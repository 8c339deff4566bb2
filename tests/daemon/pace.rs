//! What a recovery costs Nova and Keystone, in calls.

use anyhow::{Result, ensure};
use rekindle_tests::fake::cloud::Endpoint;
use rekindle_tests::harness::{Fault, Isolated};

use crate::rig::{armed, bystander, patient, recovered};

/// Servers of the host that dies.
const SERVERS: usize = 60;

/// Calls to Nova for each server that was simply active: the call and the look at what came of it, and one for everything
/// else (the lists, the questions how far all of them are). The issue allows four.
const CALLS_EACH: usize = 3;

/// Requests for a token: each of the three voters fetches its own at its first question, and keeps it. Who leads, one.
const TOKENS: usize = 3;

pub(crate) async fn a_recovery_asks_little_of_nova(isolated: &Isolated) -> Result<()> {
    armed(isolated, patient().servers_per_host(SERVERS), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        ensure!(servers.len() == SERVERS, "{} servers", servers.len());
        let before = cluster.cloud().requests().last().map_or(0, |line| line.number);
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await?;
        let requests = cluster.cloud().requests();
        let since = || requests.iter().filter(|line| line.number > before);
        let tokens = since().filter(|line| line.endpoint == Endpoint::Token).count();
        let of = |endpoint| since().filter(|line| line.endpoint == endpoint).count();
        let nova = since().filter(|line| !matches!(line.endpoint, Endpoint::Token | Endpoint::Versions)).count();
        let (evacuate, server, migrations, list) =
            (of(Endpoint::Evacuate), of(Endpoint::Server), of(Endpoint::Migrations), of(Endpoint::Servers));
        let told = format!(
            "{nova} calls for {SERVERS} servers: {evacuate} evacuate, {server} single servers, {migrations} migrations, \
             {list} lists of servers; {tokens} tokens"
        );
        println!("{told}");
        ensure!(nova <= CALLS_EACH * SERVERS, "too many: {told}");
        ensure!(tokens <= TOKENS, "too many tokens: {told}");
        // Two of them are one list: the page, and the empty one after it.
        ensure!(list <= 2, "hundreds of servers were listed again and again: {told}");
        Ok(())
    })
    .await
}
