//! Most voters are lost for good: the survivor goes on alone by an operator's order, and the voters of before are heard by
//! nobody, however many of them come back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rekindle_agent::cli::Exit;
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::id::ServerId;
use rekindle_proto::status::StatusDoc;
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, eventually, patient};

pub(crate) async fn a_lost_quorum_is_recovered_and_the_old_voters_are_refused(isolated: &Isolated) -> Result<()> {
    // Three of five vote, and nobody else keeps a ledger.
    armed(isolated, patient(), async |cluster| {
        // Of all voters this one certainly has every entry, also the latest.
        let survivor = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        voters_are_known(cluster, survivor).await?;
        let lost: Vec<&Host> = cluster
            .hosts()
            .filter(|host| cluster.voters().contains(host.name()) && host.name() != survivor.name())
            .collect();
        let servers: Vec<ServerId> = lost.iter().flat_map(|host| cluster.cloud().servers_of(host.name())).collect();
        for host in &lost {
            cluster.inflict(host, Fault::Power)?;
        }
        // It cannot commit any more, and says what that means.
        let order = ["maintenance", "on", "cmp-05", "--reason", "a new disk"];
        let open = cluster.rekindle(survivor, &order).await.err().context("nobody could agree to it")?;
        ensure!(open.exit == Exit::Unknown && open.text.contains("the order may yet be committed"), "{open:?}");
        says_that_nobody_leads(cluster, survivor).await?;
        recover(cluster, survivor, &lost).await?;
        // What was agreed before is still there; what was only proposed counts as agreed.
        let as_before = |status: &StatusDoc| {
            leads_alone(status, survivor)?;
            let kept = status.hosts.iter().any(|line| line.host.as_str() == "cmp-05" && line.maintenance);
            if status.armed == Some(true) && status.roster == 5 && kept { Ok(()) } else { Err(format!("{status:?}")) }
        };
        cluster.wait_until(DEADLINE, as_before).await?;
        // It commits again.
        let said = cluster.order(DEADLINE, &["maintenance", "off", "cmp-05", "--reason", "the disk is in"]).await?;
        ensure!(said.contains("cmp-05"), "{said}");
        // And recovers whom it lost. Whoever came back in the middle of that would be fenced for it.
        run_elsewhere(cluster, survivor, &lost, &servers).await?;

        // Both at once: among themselves they are the majority of before.
        for host in &lost {
            host.bmc().set_power(Power::On);
            cluster.cloud().host_returned(host.name());
            host.unsilence()?;
            host.start()?;
        }
        for host in &lost {
            says(host, &["ERROR", "an operator recovered the quorum without this voter", "can never rejoin"]).await?;
        }
        // One that is started once more knows by itself.
        let again = lost.first().context("two were lost")?;
        again.kill()?;
        again.start()?;
        says(again, &["ERROR", "is of generation 0; generation 1 of the voters was begun without it"]).await?;
        let alive = |status: &StatusDoc| {
            leads_alone(status, survivor)?;
            match status.hosts.iter().filter(|line| line.incarnation.is_some()).count() {
                5 => Ok(()),
                heard => Err(format!("{heard} of 5 are heard")),
            }
        };
        cluster.wait_until(DEADLINE, alive).await?;
        ensure!(cluster.cloud().ever_ran_twice().is_empty(), "ran twice: {:?}", cluster.cloud().ever_ran_twice());
        Ok(())
    })
    .await
}

/// It leads nobody, and soon does not call itself the leader any more.
async fn says_that_nobody_leads(cluster: &Cluster, survivor: &Host) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (exit, shown) = cluster.rekindle(survivor, &["status", "--json"]).await?;
        let status: StatusDoc = serde_json::from_str(&shown)?;
        if status.leader.is_none() {
            // Enough of the roster lives: it is for the leader alone.
            ensure!(exit == Exit::Usage && status.alive >= status.needed, "{exit:?} {status:?}");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still {:?}", status.leader);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the ledger says who votes, a second after the cluster was formed: without that nobody can be stated to be off.
async fn voters_are_known(cluster: &Cluster, leader: &Host) -> Result<()> {
    loop {
        let reply = cluster.ask(leader, &AdminRequest::Voters).await?;
        let AdminReply::Voters { voters } = reply else { bail!("something else: {reply:?}") };
        if voters.wanted == 3 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What an operator does at the survivor, and each step that is refused on the way.
async fn recover(cluster: &Cluster, survivor: &Host, lost: &[&Host]) -> Result<()> {
    let config = survivor.config();
    let config = config.to_str().context("a path in UTF-8")?;
    let off: Vec<&str> = lost.iter().flat_map(|host| ["--off", host.name().as_str()]).collect();
    let order = async |more: &[&str]| {
        let all = [&["recover-quorum", "--config", config, "--reason", "their mainboards burnt"], more].concat();
        cluster.rekindle(survivor, &all).await
    };
    let refused = order(&off).await.err().context("its daemon runs")?;
    ensure!(refused.text.contains("in use by another daemon"), "{refused:?}");
    survivor.kill()?;

    let (exit, shown) = order(&["--dry-run"]).await?;
    ensure!(exit == Exit::Done, "{exit:?}");
    ensure!(shown.matches("neither fenced nor stated to be off").count() == 2, "{shown}");
    ensure!(shown.contains("nothing was changed"), "{shown}");
    // One of them is not enough.
    let refused = order(&off[..2]).await.err().context("nobody said that the other is off")?;
    ensure!(refused.exit == Exit::Refused && refused.text.contains("name it with --off"), "{refused:?}");

    let (exit, done) = order(&off).await?;
    ensure!(exit == Exit::Done && done.contains("generation 1: their mainboards burnt"), "{done}");
    ensure!(done.matches("is off by demo's word").count() == 2, "{done}");
    survivor.start()
}

fn leads_alone(status: &StatusDoc, survivor: &Host) -> Result<(), String> {
    let alone = status.leader.as_ref() == Some(survivor.name()) && status.voters == [survivor.name().clone()];
    if alone { Ok(()) } else { Err(format!("{:?} leads, voters {:?}", status.leader, status.voters)) }
}

/// Waits until the truth is that each of these servers runs exactly once, on no host that was lost, and nothing is left to do.
async fn run_elsewhere(cluster: &Cluster, survivor: &Host, lost: &[&Host], servers: &[ServerId]) -> Result<()> {
    let elsewhere = |server: &ServerId| match cluster.cloud().running_copies(*server).as_slice() {
        [host] => lost.iter().all(|lost| lost.name() != host),
        _ => false,
    };
    let wanted = |status: &StatusDoc| {
        leads_alone(status, survivor)?;
        let run = servers.iter().filter(|server| elsewhere(server)).count();
        let open = status.incidents.len();
        if run == servers.len() && open == 0 { Ok(()) } else { Err(format!("{run} run elsewhere, {open} incidents")) }
    };
    cluster.wait_until(DEADLINE, wanted).await.map(|_| ())
}

/// Waits until one line of its log has all these words.
async fn says(host: &Host, words: &[&str]) -> Result<()> {
    eventually(|| {
        let log = host.log_tail(1000);
        let told = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        told.then_some(()).with_context(|| format!("{} does not say {words:?}", host.name()))
    })
    .await
}
