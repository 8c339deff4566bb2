//! A voter whose disk is full under the ledger.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated, SmallDisk};

use crate::rig::{DEADLINE, armed, builder, bystander, eventually, recovered};

/// Room for the state directory of a voter, several times over.
const DISK_BYTES: u64 = 8 * 1024 * 1024;
/// Entries after which a ledger must have met the end of its disk: its file has that much room in itself at most.
const ENTRIES_MAX: usize = 400;
/// A host that neither votes nor fails, for orders that concern nothing else.
const SPARE: &str = "cmp-05";
/// What the log says then.
const FAILED: &str = "the ledger's file failed";

/// The voter that leads meets the end of its disk: it says so once and leads no more, the others recover a host, and when
/// there is room again and it was restarted, it votes and has what it missed.
pub(crate) async fn a_full_disk_stops_the_ledger_of_that_voter_alone(isolated: &Isolated) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let voters = ["cmp-01", "cmp-02", "cmp-03"];
    let disks = voters.map(|voter| SmallDisk::mount(isolated, &dir.path().join(voter), DISK_BYTES));
    let disks: Vec<SmallDisk> = disks.into_iter().collect::<Result<_>>()?;
    let root = dir.path().to_owned();
    let builder = builder().config(move |host, table| {
        let member = table.get_mut("member").and_then(toml::Value::as_table_mut).expect("there is [member]");
        if voters.contains(&host.as_str()) {
            member.insert("state_dir".to_owned(), root.join(host.as_str()).display().to_string().into());
        }
    });
    armed(isolated, builder, async |cluster| {
        let full = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let disk =
            disks.iter().find(|disk| disk.path().ends_with(full.name().as_str())).context("every voter has one")?;
        disk.fill()?;
        write_until_it_fails(cluster, full).await?;
        others_lead(cluster, full).await?;

        let victim = bystander(cluster)?;
        ensure!(victim.name().as_str() != SPARE, "the victim takes orders");
        // Of the last order the outcome is unknown.
        cluster.order(DEADLINE, &["maintenance", "off", SPARE, "--reason", "nothing is left of the orders"]).await?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await?;
        cluster.order(DEADLINE, &["maintenance", "on", SPARE, "--reason", "missed by the full voter"]).await?;
        told_once(full, disk)?;

        disk.free()?;
        full.signal(Signal::SIGTERM)?;
        let how = eventually(|| full.ended().context("it does not stop")).await?;
        ensure!(how == "exit code 0", "told to stop, {} ended: {how}", full.name());
        full.start()?;
        caught_up(cluster, full).await?;
        for host in cluster.hosts() {
            let log = std::fs::read_to_string(host.log())?;
            ensure!(!log.contains("panicked"), "{} panicked: {}", host.name(), host.log_tail(50));
        }
        told_once(full, disk)
    })
    .await
}

/// Orders until the ledger's file needs more room than its disk has.
async fn write_until_it_fails(cluster: &Cluster, full: &Host) -> Result<()> {
    let reason = "x".repeat(400);
    for number in 0..ENTRIES_MAX {
        if full.log_tail(1000).contains(FAILED) {
            return Ok(());
        }
        let switch = if number % 2 == 0 { "on" } else { "off" };
        // What was on its way when the disk ended has an unknown outcome, and nobody leads for a while.
        let words = ["maintenance", switch, SPARE, "--reason", &reason];
        let _ = tokio::time::timeout(Duration::from_secs(5), cluster.rekindle(full, &words)).await;
    }
    bail!("{ENTRIES_MAX} entries went into a ledger whose disk is full")
}

async fn others_lead(cluster: &Cluster, full: &Host) -> Result<()> {
    let lead = |status: &rekindle_proto::status::StatusDoc| match &status.leader {
        Some(leader) if leader != full.name() && *leader == status.told_by => Ok(()),
        leader => Err(format!("{leader:?} leads, and the disk of {} is full", full.name())),
    };
    cluster.wait_until(DEADLINE, lead).await.map(|_| ())
}

/// One line names the file and the reason; nothing of it is repeated.
fn told_once(full: &Host, disk: &SmallDisk) -> Result<()> {
    let log = std::fs::read_to_string(full.log())?;
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
    let [line] = errors.as_slice() else {
        bail!("{} has {} error lines, not one: {errors:#?}", full.name(), errors.len());
    };
    let file = disk.path().join("ledger/ledger.redb").display().to_string();
    ensure!(line.contains(FAILED) && line.contains(&file) && line.contains("No space left on device"), "{line}");
    Ok(())
}

/// It votes again, and its own ledger has what was committed without it.
async fn caught_up(cluster: &Cluster, full: &Host) -> Result<()> {
    let alive = |status: &rekindle_proto::status::StatusDoc| {
        let line = status.hosts.iter().find(|line| line.host == *full.name());
        match line.map(|line| line.state.as_str()) {
            Some("alive") if status.leader.as_ref() == Some(&status.told_by) => Ok(()),
            state => Err(format!("{} is {state:?}, leader {:?}", full.name(), status.leader)),
        }
    };
    let leader = cluster.wait_until(DEADLINE, alive).await?.told_by;
    let others: Vec<&Host> =
        cluster.hosts().filter(|host| cluster.voters().contains(host.name()) && host.name() != full.name()).collect();
    // Of three voters one is down: what is committed now is on the disk of the one that was full.
    for host in others.iter().filter(|host| *host.name() != leader) {
        host.kill()?;
    }
    cluster.order(DEADLINE, &["maintenance", "on", "cmp-01", "--reason", "its vote is needed"]).await?;
    // Alone it has nobody to ask but itself.
    for host in &others {
        host.kill()?;
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let lacks = match cluster.status(full).await {
            Ok(status) => {
                let line = status.hosts.iter().find(|line| line.host.as_str() == SPARE);
                if status.told_by == *full.name() && line.is_some_and(|line| line.maintenance) {
                    break;
                }
                format!("{} tells, {line:?}", status.told_by)
            }
            Err(error) => format!("{error:#}"),
        };
        ensure!(tokio::time::Instant::now() < deadline, "what {} missed is not in its ledger: {lacks}", full.name());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for host in &others {
        host.start()?;
    }
    cluster.wait_until(DEADLINE, alive).await.map(|_| ())
}
