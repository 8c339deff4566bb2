//! A secret is planted, a host is fenced, and everything that others could read is searched for it meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rekindle_tests::harness::{Cluster, ClusterBuilder, Fault, Isolated};
use tempfile::TempDir;

use crate::rig::{DEADLINE, builder, bystander, recovered, started};

/// Nobody's password, and nothing that stands in a process list by chance.
const PLANTED: &str = "Pl4nted/Secret+7331";

/// What must be found nowhere: the secret as it is, in a URL, and as HTTP's basic authentication has it.
const FORMS: [&str; 3] = [PLANTED, "Pl4nted%2FSecret%2B7331", "YWRtaW46UGw0bnRlZC9TZWNyZXQrNzMzM"];

/// A fence agent that tells the whole world what it was given, in every stream it has, and fails. It stays long enough to
/// be seen.
const AGENT: &str = r#"#!/bin/sh
while read -r line; do case $line in password=*) secret=${line#password=} ;; esac; done
[ -n "$secret" ] && echo told >> DIR/told
echo "admin's password '$secret' was refused" >&2
echo "Parse error: Ignoring unknown option 'password=$secret'"
echo "https://admin:Pl4nted%2FSecret%2B7331@pdu/" >&2
printf 'admin:%s' "$secret" | base64 >&2
sleep 0.2
exit 1
"#;

/// Each host gets the agent as its first level. It cannot tell whose machine it switches, so the BMC is the second.
fn with_agent(builder: ClusterBuilder) -> Result<(TempDir, ClusterBuilder)> {
    let dir = tempfile::Builder::new().prefix("rekindle-secrets-").tempdir()?;
    let (agent, secret) = (dir.path().join("planted-agent"), dir.path().join("secret"));
    fs::write(&agent, AGENT.replace("DIR", &dir.path().display().to_string()))?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret)?;
    std::io::Write::write_all(&mut file, PLANTED.as_bytes())?;
    let builder = builder.config(move |_, table| {
        let devices = table.get_mut("fence_device").and_then(toml::Value::as_array_mut).expect("there are devices");
        let mut agents = Vec::new();
        for device in devices.iter_mut().filter_map(toml::Value::as_table_mut) {
            device.insert("level".to_owned(), 2.into());
            let host = device["hosts"].as_str().expect("a name");
            let text = format!(
                "hosts = {host:?}\ndriver = \"agent:{}\"\nusername = \"admin\"\npassword_file = {secret:?}\n\
                 options = {{ ip = \"pdu\", plug = {host:?} }}\n",
                agent.display()
            );
            agents.push(toml::Value::Table(text.parse().expect("TOML")));
        }
        devices.extend(agents);
    });
    Ok((dir, builder))
}

/// Somebody who looks at every process of this machine, again and again.
struct Onlooker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Where a secret stood.
    leaks: BTreeSet<String>,
    /// Whether the agent was seen at all, and so what it shows would have been.
    agent: bool,
}

impl Onlooker {
    fn begin(secrets: Vec<String>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("onlooker".to_owned()).spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::SeqCst) {
                look(&secrets, &mut seen);
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        })?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the onlooker panicked"))
    }
}

fn look(secrets: &[String], seen: &mut Seen) {
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        for file in ["cmdline", "environ"] {
            let path = process.path().join(file);
            let Ok(bytes) = fs::read(&path) else { continue };
            let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
            seen.agent |= text.contains("/planted-agent");
            if secrets.iter().any(|secret| text.contains(secret.as_str())) {
                seen.leaks.insert(format!("{file} of {text}"));
            }
        }
    }
}

/// Every file below with one of these in it.
fn files_with(dir: &Path, secrets: &[String], found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            files_with(&path, secrets, found)?;
        } else if kind.is_file() {
            let Ok(bytes) = fs::read(&path) else { continue };
            let has = |secret: &String| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            if secrets.iter().any(has) {
                found.push(path);
            }
        }
    }
    Ok(())
}

/// Armed, with every BMC bound: the agents never are.
async fn arm(cluster: &Cluster) -> Result<()> {
    cluster.init_roster(DEADLINE).await?;
    cluster
        .wait_until(DEADLINE, |status| {
            let silent = status.hosts.iter().find(|host| host.state.as_str() != "alive" || host.guests.is_none());
            match (&status.leader, silent, status.hosts.len()) {
                (Some(_), None, 5) => Ok(()),
                (leader, silent, hosts) => Err(format!("leader {leader:?}, {hosts} hosts, silent {silent:?}")),
            }
        })
        .await?;
    cluster.order(DEADLINE, &["fence-test"]).await?;
    cluster
        .wait_until(DEADLINE, |status| {
            match status.hosts.iter().find(|host| !host.devices.as_str().contains("on, bound")) {
                Some(host) => Err(format!("fence devices of {}: {:?}", host.host, host.devices.as_str())),
                None => Ok(()),
            }
        })
        .await?;
    cluster.order(DEADLINE, &["arm", "--reason", "every BMC is bound"]).await?;
    cluster
        .wait_until(DEADLINE, |status| if status.armed == Some(true) { Ok(()) } else { Err("not armed".to_owned()) })
        .await
        .map(|_| ())
}

pub(crate) async fn a_planted_one_is_found_nowhere_while_a_host_is_fenced(isolated: &Isolated) -> Result<()> {
    let (dir, builder) = with_agent(builder())?;
    started(isolated, builder, async |cluster| {
        let bmc = cluster.dir().join("bmc.password");
        let mut secrets = vec![fs::read_to_string(&bmc).context("the BMCs' password")?.trim().to_owned()];
        secrets.extend(FORMS.map(str::to_owned));
        let onlooker = Onlooker::begin(secrets.clone())?;
        arm(cluster).await?;
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Power)?;
        recovered(cluster, victim.name(), &servers).await?;
        let said = cluster.order(DEADLINE, &["fence-test"]).await?;
        ensure!(said.contains("was refused") && said.contains("***"), "what the agent said is not told: {said}");

        let seen = onlooker.end()?;
        ensure!(dir.path().join("told").exists(), "the agent was never given its secret");
        ensure!(seen.agent, "the onlooker did not see the agent, and so would have seen nothing");
        ensure!(seen.leaks.is_empty(), "shown to every user: {:#?}", seen.leaks);
        ensure!(!secrets.iter().any(|secret| said.contains(secret.as_str())), "told to an operator: {said}");
        // Logs, ledgers, recordings, configurations: everything the daemons wrote or were given lies below.
        let mut found = Vec::new();
        files_with(cluster.dir(), &secrets, &mut found)?;
        found.retain(|path| *path != bmc);
        ensure!(found.is_empty(), "written to {found:?}");
        Ok(())
    })
    .await
}
