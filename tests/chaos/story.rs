//! One seed: a cluster, and hosts that fail one after the other while other things go wrong.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_tests::harness::{Cluster, ClusterBuilder, Fault, Host, Isolated, SmallDisk};
use tokio::time::Instant;

use crate::nuisance::Nuisance;
use crate::oracle::Oracle;

/// Hosts: three may fail, one after the other, and more than half is left.
const HOSTS: usize = 8;
/// Of them, these vote.
const VOTERS: usize = 5;
/// Servers on each.
const SERVERS: usize = 2;
/// Hosts that fail.
const FAILURES: usize = 3;
/// A deadline no honest run comes near.
const DEADLINE: Duration = Duration::from_secs(120);
/// Room for a voter's state, several times over.
const DISK_BYTES: u64 = 8 * 1024 * 1024;

/// Runs it; what happened, in a line.
pub(crate) async fn run(isolated: &Isolated, seed: u64) -> Result<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    // One voter keeps its ledger on a disk that fills up in the middle.
    let full = format!("cmp-{:02}", rng.random_range(1..=VOTERS));
    let disk = SmallDisk::mount(isolated, &dir.path().join(&full), DISK_BYTES)?;
    let cluster = builder(&full, disk.path().to_owned()).start(isolated).await?;
    let mut told = String::new();
    let result = live(&cluster, &mut rng, &full, &disk, &mut told).await;
    if result.is_err() || std::env::var_os("REKINDLE_CHAOS_LOGS").is_some() {
        println!("{}", cluster.logs(400));
    }
    result.with_context(|| format!("seed {seed}: {told}"))?;
    Ok(told)
}

fn builder(full: &str, small: std::path::PathBuf) -> ClusterBuilder {
    let full = full.to_owned();
    Cluster::builder().hosts(HOSTS).voters(VOTERS).servers_per_host(SERVERS).config(move |host, table| {
        let quick = "[fencing]\noff_polls = 4\ndevice_timeout = \"3s\"\n[recovery]\nevacuate_settle = \"8s\"\n";
        let quick: toml::Table = quick.parse().expect("TOML");
        table.extend(quick);
        let nova = table.get_mut("nova").and_then(toml::Value::as_table_mut).expect("there is [nova]");
        nova.insert("timeout".to_owned(), "4s".into());
        if host.as_str() == full {
            let member = table.get_mut("member").and_then(toml::Value::as_table_mut).expect("there is [member]");
            member.insert("state_dir".to_owned(), small.display().to_string().into());
        }
    })
}

async fn live(cluster: &Cluster, rng: &mut StdRng, full: &str, disk: &SmallDisk, told: &mut String) -> Result<()> {
    cluster.init_roster_and_arm(DEADLINE).await.context("the cluster did not get ready")?;
    let mut oracle = Oracle::default();
    // With the one whose disk is full, one of five voters may fail and the others still agree.
    let names = cluster.hosts().map(|host| host.name().clone()).filter(|name| name.as_str() != full);
    let (mut voters, mut others): (Vec<HostName>, Vec<HostName>) =
        names.partition(|name| cluster.voters().contains(name));
    voters.shuffle(rng);
    others.shuffle(rng);
    let (voter, standing) = voters.split_first().context("other voters")?;
    let mut doomed: Vec<HostName> = others.drain(..FAILURES - 1).chain([voter.clone()]).collect();
    doomed.shuffle(rng);
    others.extend_from_slice(standing);
    for (round, victim) in doomed.iter().enumerate() {
        if round == 1 {
            write!(told, "disk of {full} full; ")?;
            disk.fill()?;
        }
        fails(cluster, rng, cluster.host(victim.as_str())?, &others, &mut oracle, told).await?;
    }
    oracle.judge(cluster)
}

/// A host fails, and up to two other things go wrong meanwhile, each begun at a moment of its own.
async fn fails(
    cluster: &Cluster,
    rng: &mut StdRng,
    victim: &Host,
    others: &[HostName],
    oracle: &mut Oracle,
    told: &mut String,
) -> Result<()> {
    let fault = [Fault::Crash, Fault::Power, Fault::Freeze, Fault::Cut][rng.random_range(0..4)];
    let mut nuisances = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        let other = cluster.host(others[rng.random_range(0..others.len())].as_str())?;
        let (nuisance, after) = (Nuisance::draw(rng), Duration::from_millis(rng.random_range(0..5_000)));
        nuisances.push((nuisance, other, if nuisance.is_there_before() { Duration::ZERO } else { after }));
    }
    write!(told, "{fault} of {}", victim.name())?;
    for (nuisance, other, after) in &nuisances {
        write!(told, " + {nuisance} ({}, {} ms)", other.name(), after.as_millis())?;
    }
    let began = Instant::now();
    oracle.doomed(victim.name(), cluster.cloud().servers_of(victim.name()));
    cluster.inflict(victim, fault)?;
    let happenings = nuisances.into_iter().map(async |(nuisance, other, after)| {
        tokio::time::sleep(after).await;
        nuisance.happen(cluster, victim, other).await.with_context(|| format!("{nuisance} could not be done"))
    });
    for result in futures::future::join_all(happenings).await {
        result?;
    }
    if ended(cluster, victim.name()).await? == Brakes::Lifted {
        told.push_str(", its brakes lifted by a person");
    }
    write!(told, " ({:.1} s); ", began.elapsed().as_secs_f64())?;
    cluster.cloud().clear_faults();
    Ok(())
}

/// Whether somebody had to lift the brakes for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brakes {
    Untouched,
    Lifted,
}

/// Waits until the victim's incident has ended: closed, or a person is needed and told why. Three hosts that fall silent
/// within 15 s are a domain event and rightly held; a person who knows better lifts that.
async fn ended(cluster: &Cluster, victim: &HostName) -> Result<Brakes> {
    let deadline = Instant::now() + DEADLINE;
    let mut brakes = Brakes::Untouched;
    loop {
        let lacks = match cluster.any_status().await {
            Ok(status) if status.leader.as_ref() != Some(&status.told_by) => "nobody leads".to_owned(),
            Ok(status) => {
                let open = status.incidents.iter().find(|incident| incident.line.host == *victim);
                let line = status.hosts.iter().find(|line| line.host == *victim);
                match (open, line.map(|line| line.state.as_str())) {
                    (Some(incident), _) if incident.line.phase == Phase::Stuck => return Ok(brakes),
                    (Some(incident), _) => format!("{:?}, held by {:?}", incident.line, incident.held_by),
                    (None, Some("quarantined")) => return Ok(brakes),
                    (None, state) => {
                        if brakes == Brakes::Untouched && is_held(cluster, &status.told_by, victim).await? {
                            let lift = ["brake", "lift", victim.as_str(), "--reason", "it was made to fail"];
                            cluster.order(DEADLINE, &lift).await.context("its brakes could not be lifted")?;
                            brakes = Brakes::Lifted;
                        }
                        format!("no incident; it is {state:?}; alarms {:?}", status.alarms)
                    }
                }
            }
            Err(error) if cluster.hosts().any(|host| host.ended().is_some()) => bail!(error),
            Err(error) => format!("{error:#}"),
        };
        ensure!(Instant::now() < deadline, "{victim} failed {} s ago: {lacks}", DEADLINE.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether the leader would fence it, did the domain event not hold it.
async fn is_held(cluster: &Cluster, leader: &HostName, victim: &HostName) -> Result<bool> {
    // Whoever led a moment ago may be gone: asked again in the next round.
    let Ok(AdminReply::Brakes { brakes }) = cluster.ask(cluster.host(leader.as_str())?, &AdminRequest::Brakes).await
    else {
        return Ok(false);
    };
    let held = brakes.held.iter().find(|line| line.host == *victim);
    Ok(held.and_then(|line| line.brake.as_ref()).is_some_and(|brake| brake.as_str() == "domain-event"))
}
