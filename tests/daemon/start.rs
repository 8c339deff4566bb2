//! Who may start, and who may join.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rekindle_agent::pki::{self, CertRole, LEAF_VALIDITY};
use rekindle_proto::id::ClusterName;
use rekindle_tests::harness::{Cluster, Host, Isolated};
use tokio::time::Instant;

use crate::rig::{DEADLINE, builder, started};

pub(crate) async fn an_unknown_key_is_refused(isolated: &Isolated) -> Result<()> {
    let wrong = Cluster::builder().hosts(1).config(|_, table| {
        table.insert("watchdogg".to_owned(), toml::Value::Table(toml::Table::new()));
    });
    started(isolated, wrong, async |cluster| {
        let host = cluster.hosts().next().context("one host")?;
        let how = eventually(|| host.ended().context("it runs")).await?;
        ensure!(how == "exit code 78", "{how}");
        let said = host.log_tail(5);
        ensure!(said.contains("watchdogg") && said.contains("rekindle.toml"), "{said}");
        Ok(())
    })
    .await
}

/// A host with a certificate of another cluster's CA, which names the right cluster and the right host, gets nowhere; and
/// both sides say why.
pub(crate) async fn a_stranger_is_refused(isolated: &Isolated) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let strange = dir.path().to_owned();
    pki::init(&strange, &ClusterName::new("demo")?)?;
    pki::issue(&strange, "cmp-05", CertRole::Member, &strange, LEAF_VALIDITY)?;
    let mixed = builder().config(move |host, table| {
        let cluster = table.get_mut("cluster").and_then(toml::Value::as_table_mut);
        if let (Some(cluster), "cmp-05") = (cluster, host.as_str()) {
            let file = |name: &str| toml::Value::String(strange.join(name).display().to_string());
            let tls = ["ca.pem", "cmp-05.pem", "cmp-05.key"].map(file);
            let keys = ["ca", "cert", "key"].map(str::to_owned);
            cluster.insert("tls".to_owned(), toml::Value::Table(keys.into_iter().zip(tls).collect()));
        }
    });
    started(isolated, mixed, async |cluster| {
        let stranger = cluster.host("cmp-05")?;
        cluster.leader(DEADLINE).await?;
        let ours: Vec<&Host> = cluster.hosts().filter(|host| host.name() != stranger.name()).collect();
        let met =
            |host: &Host| host.log_tail(1000).lines().any(|line| line.contains("WARN") && line.contains("certificate"));
        eventually(|| ours.iter().any(|host| met(host)).then_some(()).context("no member tells of the stranger"))
            .await?;
        eventually(|| met(stranger).then_some(()).context("the stranger does not tell why it is refused")).await?;
        for host in ours {
            let members = cluster.members(host).await?.members;
            let known = members
                .iter()
                .any(|line| line.host.as_ref() == Some(stranger.name()) && line.state.as_str() == "alive");
            ensure!(!known, "{} has the stranger for alive", host.name());
        }
        Ok(())
    })
    .await
}

/// Asks until it is so.
async fn eventually<T>(mut wanted: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match wanted() {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
            result => return result,
        }
    }
}
