//! A host whose crash kernel writes a dump, by the words that `fence_kdump_send` sends.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use rekindle_agent::kdump::PORT;
use rekindle_proto::status::StatusDoc;
use rekindle_tests::fake::bmc::BmcRecordKind;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, open, recovered};

/// What the real sender sends (see the unit test of `kdump`).
const WORD: [u8; 8] = [0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0];

pub(crate) async fn a_host_that_writes_its_dump_is_left_to_it(isolated: &Isolated) -> Result<()> {
    let builder = builder().config(|_, table| {
        let fencing = table.get_mut("fencing").and_then(toml::Value::as_table_mut).expect("there is [fencing]");
        fencing.insert("kdump_wait".to_owned(), "5m".into());
    });
    armed(isolated, builder, async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        held(cluster, victim, "for a word of its crash kernel").await?;
        // Somebody else's changes nothing.
        tell_voters(cluster, bystander_of(cluster, victim)?)?;
        tell_voters(cluster, victim)?;
        held(cluster, victim, "writes its dump").await?;
        let ordered = || victim.bmc().record().iter().any(|line| matches!(line.kind, BmcRecordKind::Ordered(_)));
        ensure!(!ordered(), "it was ordered off before: {:?}", victim.bmc().record());
        // Nothing more comes: it is over. In the five minutes nobody would have been recovered.
        recovered(cluster, victim.name(), &servers).await?;
        ensure!(ordered(), "it was never ordered off");
        Ok(())
    })
    .await
}

fn bystander_of<'a>(cluster: &'a Cluster, victim: &Host) -> Result<&'a Host> {
    cluster.hosts().find(|host| host.name() != victim.name()).context("others")
}

/// The word, from that host's address, to every voter.
fn tell_voters(cluster: &Cluster, from: &Host) -> Result<()> {
    let socket = UdpSocket::bind((from.address().ip(), 0)).context("its address")?;
    for voter in cluster.voters() {
        socket.send_to(&WORD, (cluster.host(voter.as_str())?.address().ip(), PORT)).context("a word")?;
    }
    Ok(())
}

async fn held(cluster: &Cluster, victim: &Host, why: &str) -> Result<()> {
    let is_held = |status: &StatusDoc| match open(status, victim.name()) {
        Some(incident) if incident.held_by.iter().any(|hold| hold.as_str().contains(why)) => Ok(()),
        incident => Err(format!("not held by {why:?}: {incident:?}")),
    };
    cluster.wait_until(DEADLINE, is_held).await.map(drop)
}
