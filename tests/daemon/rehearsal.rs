//! A rehearsal by IPMI from its order to its end: a host is switched off, found silent, switched on, and back in another boot.
//!
//! It has two supplies. One is our fake BMC, which takes the host with it, spoken to through `ipmitool`. The other is
//! OpenIPMI's `ipmi_sim`, which others wrote, spoken to by the daemon itself; its GUID is no machine's here, as on boards whose
//! maker has left one and the same on all.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use rekindle_proto::status::StatusDoc;
use rekindle_tests::fake::bmc::{BmcRecordKind, Power};
use rekindle_tests::fake::ipmi_sim::{IpmiSim, SimRecord};
use rekindle_tests::harness::{Cluster, ClusterBuilder, Host, Isolated};

use crate::rig::{DEADLINE, builder, eventually_async, nothing_evacuated, started};

/// Chassis Control: power down, power up.
const OFF: BmcRecordKind = BmcRecordKind::Ordered(0);
const ON: BmcRecordKind = BmcRecordKind::Ordered(1);
const READ_OFF: BmcRecordKind = BmcRecordKind::StatusRead { answered: Power::Off };

/// Where `ipmi_sim` listens, in the tests' own network.
const SECOND_SUPPLY: Ipv4Addr = Ipv4Addr::new(127, 0, 79, 1);

pub(crate) async fn a_host_that_goes_and_comes_back_has_passed(isolated: &Isolated) -> Result<()> {
    let sim = IpmiSim::start(SECOND_SUPPLY, None)?;
    // The fifth has none.
    let builder = second_supply(builder().servers(4).boots(), &sim);
    started(isolated, builder, async |cluster| {
        cluster.init_roster(DEADLINE).await?;
        eventually_async(async || all_but_the_second_supply_are_bound(cluster).await).await?;
        cluster.order(DEADLINE, &["arm", "--reason", "all is there"]).await?;
        let host = cluster.host("cmp-05")?;
        let before = host.pid();
        cluster.order(DEADLINE, &["maintenance", "on", "cmp-05", "--reason", "rehearsal"]).await?;
        let said = cluster.order(DEADLINE, &["fence-rehearse", "cmp-05", "--reason", "new BMC"]).await?;
        ensure!(said.contains("passed"), "{said}");

        ensure!(host.bmc().power() == Power::On && host.pid() != before, "it was not off, or is not back: {said}");
        let record: Vec<BmcRecordKind> = host.bmc().record().into_iter().map(|line| line.kind).collect();
        off_read_twice_and_on(&record, OFF, ON, READ_OFF)?;
        ensure!(sim.is_on(), "the second supply was left off");
        off_read_twice_and_on(&sim.record()?, SimRecord::Set(false), SimRecord::Set(true), SimRecord::Read(false))
            .context("at ipmi_sim")?;
        let others = cluster.hosts().filter(|other| other.name() != host.name());
        for other in others {
            let record = other.bmc().record();
            ensure!(record.iter().all(|line| !matches!(line.kind, BmcRecordKind::Ordered(_))), "{record:?}");
        }
        nothing_evacuated(cluster)?;
        is_recorded(cluster, host).await?;
        cluster.order(DEADLINE, &["maintenance", "off", "cmp-05", "--reason", "rehearsed"]).await?;
        Ok(())
    })
    .await
}

fn second_supply(builder: ClusterBuilder, sim: &IpmiSim) -> ClusterBuilder {
    let text = format!(
        "hosts = \"cmp-05\"\ndriver = \"ipmi\"\naddress = \"{}\"\nusername = \"{}\"\npassword_file = {:?}\n",
        sim.address(),
        IpmiSim::USER,
        sim.password_file(),
    );
    builder.config(move |_, table| {
        let device: toml::Table = text.parse().expect("TOML");
        let devices = table.get_mut("fence_device").and_then(toml::Value::as_array_mut).expect("there are some");
        devices.push(toml::Value::Table(device));
    })
}

/// Everybody is alive and has told its guests, every device reads on, and the simulator's alone tells a GUID that is not its host's.
async fn all_but_the_second_supply_are_bound(cluster: &Cluster) -> Result<()> {
    cluster.order(DEADLINE, &["fence-test"]).await?;
    let status: StatusDoc = cluster.any_status().await?;
    ensure!(status.hosts.len() == 5, "{} in the roster", status.hosts.len());
    for host in &status.hosts {
        ensure!(host.state.as_str() == "alive" && host.guests.is_some(), "{} is {}", host.host, host.state);
        let expected = match host.host.as_str() {
            "cmp-05" => "ipmi-tool on, bound; ipmi on, REFUSED",
            _ => "ipmi-tool on, bound",
        };
        ensure!(host.devices.as_str() == expected, "fence devices of {}: {}", host.host, host.devices.as_str());
    }
    Ok(())
}

/// Each order once, and between them two readings of off at least.
fn off_read_twice_and_on<T: PartialEq + std::fmt::Debug>(record: &[T], off: T, on: T, read_off: T) -> Result<()> {
    for order in [&off, &on] {
        let count = record.iter().filter(|known| *known == order).count();
        ensure!(count == 1, "{order:?} {count} times: {record:?}");
    }
    let find = |wanted: &T| record.iter().position(|known| known == wanted);
    let (off, on) = (find(&off).context("never ordered off")?, find(&on).context("never ordered on")?);
    let dark = record.get(off..on).with_context(|| format!("on before off: {record:?}"))?;
    let reads = dark.iter().filter(|known| **known == read_off).count();
    ensure!(reads >= 2, "read off {reads} times between the orders: {dark:?}");
    Ok(())
}

/// From now on the second supply counts, and the ledger says by what; any member tells it.
async fn is_recorded(cluster: &Cluster, host: &Host) -> Result<()> {
    let rehearsed = "ipmi-tool on, bound; ipmi on, rehearsed";
    cluster
        .wait_until(DEADLINE, |status| match status.hosts.iter().find(|line| line.host == *host.name()) {
            Some(line) if line.devices.as_str() == rehearsed => Ok(()),
            line => Err(format!("fence devices: {:?}", line.map(|line| line.devices.as_str()))),
        })
        .await?;
    let tested = cluster.order(DEADLINE, &["fence-test", "cmp-05"]).await?;
    ensure!(tested.contains("bound by a rehearsal"), "{tested}");
    let listed = cluster.order(DEADLINE, &["incident"]).await?;
    ensure!(listed.contains("passed") && listed.contains("rehearsal"), "{listed}");
    Ok(())
}
