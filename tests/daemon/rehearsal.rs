//! A rehearsal by IPMI from its order to its end: a host is switched off, found silent, switched on, and back in another boot.

use anyhow::{Context, Result, ensure};
use rekindle_tests::fake::bmc::{BmcRecordKind, Power};
use rekindle_tests::harness::Isolated;

use crate::rig::{DEADLINE, armed, builder, nothing_evacuated};

/// Chassis Control: power down, power up.
const OFF: BmcRecordKind = BmcRecordKind::Ordered(0);
const ON: BmcRecordKind = BmcRecordKind::Ordered(1);

pub(crate) async fn a_host_that_goes_and_comes_back_has_passed(isolated: &Isolated) -> Result<()> {
    // The fifth has none.
    let builder = builder().servers(4).boots();
    armed(isolated, builder, async |cluster| {
        let host = cluster.host("cmp-05")?;
        let before = host.pid();
        cluster.order(DEADLINE, &["maintenance", "on", "cmp-05", "--reason", "rehearsal"]).await?;
        let said = cluster.order(DEADLINE, &["fence-rehearse", "cmp-05", "--reason", "new BMC"]).await?;
        ensure!(said.contains("passed"), "{said}");

        ensure!(host.bmc().power() == Power::On && host.pid() != before, "it was not off, or is not back: {said}");
        let record: Vec<BmcRecordKind> = host.bmc().record().into_iter().map(|line| line.kind).collect();
        let find = |wanted: BmcRecordKind| record.iter().position(|kind| *kind == wanted);
        let (off, on) = (find(OFF).context("never ordered off")?, find(ON).context("never ordered on")?);
        let dark = record.get(off..on).with_context(|| format!("on before off: {record:?}"))?;
        let read_off = BmcRecordKind::StatusRead { answered: Power::Off };
        let reads = dark.iter().filter(|kind| **kind == read_off).count();
        ensure!(reads >= 2, "read off {reads} times between the orders: {dark:?}");
        for kind in [OFF, ON] {
            let count = record.iter().filter(|known| **known == kind).count();
            ensure!(count == 1, "{kind:?} {count} times: {record:?}");
        }
        let others = cluster.hosts().filter(|other| other.name() != host.name());
        for other in others {
            let record = other.bmc().record();
            ensure!(record.iter().all(|line| !matches!(line.kind, BmcRecordKind::Ordered(_))), "{record:?}");
        }
        nothing_evacuated(cluster)?;
        cluster.order(DEADLINE, &["maintenance", "off", "cmp-05", "--reason", "rehearsed"]).await?;
        Ok(())
    })
    .await
}
