//! What the tests share: a cluster that gives up sooner than a real one, and looks at the truth.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::status::{IncidentDoc, Phase, StatusDoc};
use rekindle_tests::fake::bmc::BmcRecordKind;
use rekindle_tests::fake::cloud::EvacuateOutcome;
use rekindle_tests::harness::{Cluster, ClusterBuilder, Host, Isolated};
use tokio::time::Instant;

/// A deadline no honest run comes near.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Five hosts with three servers each, whose daemons try once where others try thrice.
pub(crate) fn builder() -> ClusterBuilder {
    with_tries(1)
}

/// The same with as many tries as by default: the try of a leader that dies is lost.
pub(crate) fn patient() -> ClusterBuilder {
    with_tries(3)
}

fn with_tries(tries: u8) -> ClusterBuilder {
    Cluster::builder().hosts(5).servers_per_host(3).config(move |_, table| {
        let quick = "[fencing]\nfence_tries = TRIES\noff_polls = 3\ndevice_timeout = \"3s\"\n\
                     [recovery]\nevacuate_settle = \"8s\"\n";
        let quick: toml::Table = quick.replace("TRIES", &tries.to_string()).parse().expect("TOML");
        table.extend(quick);
        let nova = table.get_mut("nova").and_then(toml::Value::as_table_mut).expect("there is [nova]");
        nova.insert("timeout".to_owned(), "4s".into());
    })
}

/// An armed cluster for the length of a test; if that fails, the daemons' last lines are told.
pub(crate) async fn armed(
    isolated: &Isolated,
    builder: ClusterBuilder,
    test: impl AsyncFnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    started(isolated, builder, async |cluster| {
        cluster.init_roster_and_arm(DEADLINE).await.context("the cluster did not get ready")?;
        test(cluster).await
    })
    .await
}

/// A cluster without a roster for the length of a test.
pub(crate) async fn started(
    isolated: &Isolated,
    builder: ClusterBuilder,
    test: impl AsyncFnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let cluster = builder.start(isolated).await?;
    let result = test(&cluster).await;
    if result.is_err() {
        println!("{}", cluster.logs(30));
    }
    result
}

/// Some host that does not vote: it never leads.
pub(crate) fn bystander(cluster: &Cluster) -> Result<&Host> {
    cluster.hosts().find(|host| !cluster.voters().contains(host.name())).context("every host votes")
}

pub(crate) fn open<'a>(status: &'a StatusDoc, host: &HostName) -> Option<&'a IncidentDoc> {
    status.incidents.iter().find(|incident| incident.line.host == *host)
}

/// Waits until the host's incident is in this phase, and gives its number.
pub(crate) async fn phase(cluster: &Cluster, host: &HostName, phase: Phase) -> Result<IncidentId> {
    let status = cluster
        .wait_until(DEADLINE, |status| match open(status, host).map(|incident| incident.line.phase) {
            Some(now) if now == phase => Ok(()),
            now => Err(format!("incident of {host}: {now:?}, wanted {phase}")),
        })
        .await?;
    open(&status, host).map(|incident| incident.line.id).context("it was there")
}

/// Waits until the truth is that each of these servers runs exactly once, elsewhere, and the host's incident is closed.
pub(crate) async fn recovered(cluster: &Cluster, victim: &HostName, servers: &[ServerId]) -> Result<()> {
    let elsewhere = |server: &ServerId| match cluster.cloud().running_copies(*server).as_slice() {
        [host] => host != victim,
        _ => false,
    };
    cluster
        .wait_until(DEADLINE, |status| {
            let run = servers.iter().filter(|server| elsewhere(server)).count();
            if status.leader.as_ref() != Some(&status.told_by) {
                return Err("nobody leads".to_owned());
            }
            match open(status, victim) {
                Some(incident) => Err(format!("{run} run elsewhere; {:?}; {:?}", incident.line, incident.held_by)),
                None if run < servers.len() => Err(format!("no incident, and {run} of {} elsewhere", servers.len())),
                None => Ok(()),
            }
        })
        .await?;
    once(cluster, victim, servers)
}

/// The truth: each server was evacuated once, after its host had lost its power, and nothing ever ran twice.
pub(crate) fn once(cluster: &Cluster, victim: &HostName, servers: &[ServerId]) -> Result<()> {
    let cloud = cluster.cloud();
    ensure!(cloud.ever_ran_twice().is_empty(), "ran twice: {:?}", cloud.ever_ran_twice());
    let accepted: Vec<_> = cloud
        .evacuate_calls()
        .into_iter()
        .filter(|call| matches!(call.outcome, EvacuateOutcome::Accepted(_)))
        .collect();
    for server in servers {
        let count = accepted.iter().filter(|call| call.server == *server).count();
        ensure!(count == 1, "{server} was evacuated {count} times");
    }
    ensure!(accepted.len() == servers.len(), "{} were evacuated, not {}", accepted.len(), servers.len());
    let record = cluster.host(victim.as_str())?.bmc().record();
    let off = record.iter().find(|line| line.kind == BmcRecordKind::PowerOff).context("it never lost its power")?;
    match accepted.iter().map(|call| call.when.at).min() {
        Some(first) if off.when.at < first => Ok(()),
        first => bail!("first evacuated at {first:?}, off at {:?}", off.when.at),
    }
}

/// Nothing was asked of Nova but to be looked at.
pub(crate) fn nothing_evacuated(cluster: &Cluster) -> Result<()> {
    let calls = cluster.cloud().evacuate_calls();
    ensure!(calls.is_empty(), "evacuated: {calls:?}");
    Ok(())
}

/// Asks until it is so.
pub(crate) async fn eventually<T>(mut wanted: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match wanted() {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
            result => return result,
        }
    }
}

/// The same, where asking takes its time.
pub(crate) async fn eventually_async<T>(mut wanted: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match wanted().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
            result => return result,
        }
    }
}
