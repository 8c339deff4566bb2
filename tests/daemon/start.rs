//! Who may start, and who may join.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rekindle_agent::pki::{self, Authority, CertIdentity, CertRole, LEAF_VALIDITY, Validity, read_secret};
use rekindle_proto::id::{ClusterName, OperatorName};
use rekindle_tests::harness::{Cluster, ClusterBuilder, Host, Isolated};

use crate::rig::{DEADLINE, builder, eventually, started};

/// The host that is not let in. It does not vote.
const STRANGER: &str = "cmp-05";

pub(crate) async fn an_unknown_key_is_refused(isolated: &Isolated) -> Result<()> {
    let wrong = Cluster::builder().hosts(1).config(|_, table| {
        table.insert("watchdogg".to_owned(), toml::Value::Table(toml::Table::new()));
    });
    ends_saying(isolated, wrong, "exit code 78", &["watchdogg", "rekindle.toml"]).await
}

pub(crate) async fn a_half_wish_for_self_fencing_is_refused(isolated: &Isolated) -> Result<()> {
    let wrong = Cluster::builder().hosts(1).config(|_, table| self_fence(table, "yes".into()));
    ends_saying(isolated, wrong, "exit code 78", &["fencing.self_fence = ", "yes", "expected a boolean"]).await
}

/// It is told of every host, with what it is worth there: without an armed watchdog, nothing.
pub(crate) async fn self_fencing_is_shown_by_why(isolated: &Isolated) -> Result<()> {
    for (on, says) in [
        (true, "self_fence = true, and proves nothing: its watchdog was never armed"),
        (false, "self_fence = false: only a fence device, or a person, can say that it is off"),
    ] {
        started(isolated, builder().config(move |_, table| self_fence(table, on.into())), async |cluster| {
            cluster.init_roster(DEADLINE).await?;
            let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
            let (_, said) = cluster.rekindle(leader, &["why", STRANGER]).await?;
            let line = said.lines().find(|line| line.contains("self-fence")).context(said.clone())?;
            ensure!(line.starts_with("pass") && line.contains(says), "{line}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The certificate of one host, in the configuration of another.
pub(crate) async fn another_hosts_certificate_is_refused(isolated: &Isolated) -> Result<()> {
    let wrong = Cluster::builder().hosts(1).config(|_, table| {
        insert(table, "member", "host", "cmp-09".into());
    });
    ends_saying(isolated, wrong, "exit code 1", &["cmp-01.pem", "it is for host cmp-01, but this is cmp-09"]).await
}

/// The only daemon ends by itself, in this way, and its last lines say all that.
async fn ends_saying(isolated: &Isolated, wrong: ClusterBuilder, ends: &str, says: &[&str]) -> Result<()> {
    started(isolated, wrong, async |cluster| {
        let host = cluster.hosts().next().context("one host")?;
        let how = eventually(|| host.ended().context("it runs")).await?;
        ensure!(how == ends, "{how}");
        let said = host.log_tail(5);
        ensure!(says.iter().all(|words| said.contains(words)), "not all of {says:?} in: {said}");
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
    pki::issue(&strange, STRANGER, CertRole::Member, &strange, LEAF_VALIDITY)?;
    let mixed = builder().config(move |host, table| {
        if host.as_str() == STRANGER {
            let path = |name: String| Some(strange.join(name));
            tls(table, path("ca.pem".to_owned()), path(format!("{STRANGER}.pem")), path(format!("{STRANGER}.key")));
        }
    });
    refused(isolated, mixed, &["certificate"], &["certificate"]).await
}

/// Two clusters have one CA, because somebody copied it. A member of the other that has our seeds gets nowhere.
pub(crate) async fn another_clusters_certificate_is_refused(isolated: &Isolated) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let strange = dir.path().to_owned();
    let mixed = builder().config(move |host, table| {
        if host.as_str() == STRANGER {
            insert(table, "cluster", "name", "other".into());
            issue(table, &strange, "other", Validity::beginning(SystemTime::now(), LEAF_VALIDITY)).expect("issued");
        }
    });
    let says = "certificate is for another cluster";
    refused(isolated, mixed, &["rekindle://other/member/cmp-05", says], &[says]).await
}

/// A certificate that nobody renewed: its owner says so at once, and its peers do when it comes.
pub(crate) async fn an_expired_certificate_is_refused(isolated: &Isolated) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let strange = dir.path().to_owned();
    let mixed = builder().config(move |host, table| {
        if host.as_str() == STRANGER {
            let ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
            issue(table, &strange, "demo", Validity { from: ago(48), until: ago(24) }).expect("issued");
        }
    });
    let ours = ["rekindle://demo/member/cmp-05", "expired"];
    refused(isolated, mixed, &ours, &["cmp-05.pem", "not valid now: no peer will accept it"]).await
}

/// Some member warns with all of `ours`, the stranger with all of `theirs`, each in one line, and no member has the
/// stranger for alive.
async fn refused(isolated: &Isolated, mixed: ClusterBuilder, ours: &[&str], theirs: &[&str]) -> Result<()> {
    started(isolated, mixed, async |cluster| {
        let stranger = cluster.host(STRANGER)?;
        cluster.leader(DEADLINE).await?;
        let others: Vec<&Host> = cluster.hosts().filter(|host| host.name() != stranger.name()).collect();
        let warns = |host: &Host, words: &[&str]| {
            let log = host.log_tail(1000);
            log.lines().any(|line| line.contains("WARN") && words.iter().all(|word| line.contains(word)))
        };
        eventually(|| others.iter().any(|host| warns(host, ours)).then_some(()).context("no member tells of it"))
            .await?;
        eventually(|| warns(stranger, theirs).then_some(()).context("it does not tell why it is refused")).await?;
        for host in others {
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

/// A certificate for the stranger by the cluster's own CA, which lies in `dir` and is named in the configuration.
fn issue(table: &mut toml::Table, dir: &Path, cluster: &str, validity: Validity) -> Result<()> {
    let ca = table.get("cluster").and_then(|cluster| cluster.get("tls")?.get("ca")?.as_str()).context("a CA")?;
    let ca = Path::new(ca);
    let authority = Authority::from_pem(&fs::read_to_string(ca)?, &read_secret(&ca.with_extension("key"))?)?;
    let identity = CertIdentity {
        cluster: ClusterName::new(cluster)?,
        role: CertRole::Member,
        name: OperatorName::new(STRANGER)?,
    };
    let issued = authority.issue(&identity, validity)?;
    let (certificate, key) = (dir.join(format!("{STRANGER}.pem")), dir.join(format!("{STRANGER}.key")));
    fs::write(&certificate, &issued.certificate_pem)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key)?.write_all(issued.key_pem.as_bytes())?;
    tls(table, None, Some(certificate), Some(key));
    Ok(())
}

fn tls(table: &mut toml::Table, ca: Option<PathBuf>, certificate: Option<PathBuf>, key: Option<PathBuf>) {
    let files = table.get_mut("cluster").and_then(|cluster| cluster.get_mut("tls")?.as_table_mut());
    let files = files.expect("there is cluster.tls");
    for (name, path) in [("ca", ca), ("cert", certificate), ("key", key)] {
        if let Some(path) = path {
            files.insert(name.to_owned(), path.display().to_string().into());
        }
    }
}

fn self_fence(table: &mut toml::Table, value: toml::Value) {
    let fencing = table.entry("fencing").or_insert_with(|| toml::Table::new().into());
    fencing.as_table_mut().expect("a section").insert("self_fence".to_owned(), value);
}

fn insert(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    let section = table.get_mut(section).and_then(toml::Value::as_table_mut).expect("there is the section");
    section.insert(key.to_owned(), value);
}
