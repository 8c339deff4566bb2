//! Hooks: real programs, slow, failing, talkative, hanging, and a leader that dies under one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rekindle_proto::fact::Text;
use rekindle_proto::hook::{HookDoc, HookPoint};
use rekindle_proto::id::{HostName, IncidentId};
use rekindle_proto::status::Phase;
use rekindle_tests::fake::bmc::{BmcRecordKind, Power};
use rekindle_tests::harness::{Cluster, ClusterBuilder, Fault, Isolated};
use tempfile::TempDir;

use crate::rig::{DEADLINE, armed, builder, bystander, eventually, eventually_async, patient, phase, recovered};

/// What every script does first: one line, its document, to the file of its point. `$1` is the directory, `$2` the point.
const BEGIN: &str = "#!/bin/sh\nread -r line\nprintf '%s\\n' \"$line\" >> \"$1/$2\"\n";

/// The script of a point, its time-out, and what is done when it fails.
struct Script {
    on: &'static str,
    body: &'static str,
    timeout: &'static str,
    on_failure: &'static str,
}

const fn script(on: &'static str, body: &'static str, timeout: &'static str) -> Script {
    Script { on, body, timeout, on_failure: "continue" }
}

/// The scripts, on disk and in every host's configuration.
fn with_hooks(builder: ClusterBuilder, scripts: &[Script]) -> Result<(TempDir, ClusterBuilder)> {
    let dir = tempfile::Builder::new().prefix("rekindle-hooks-").tempdir()?;
    let mut hooks = toml::value::Array::new();
    for script in scripts {
        let file = dir.path().join(format!("{}.sh", script.on));
        fs::write(&file, format!("{BEGIN}{}", script.body))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        let text = format!(
            "on = {:?}\ncommand = [{:?}, {:?}, {:?}]\ntimeout = {:?}\non_failure = {:?}\n",
            script.on,
            file,
            dir.path(),
            script.on,
            script.timeout,
            script.on_failure
        );
        hooks.push(toml::Value::Table(text.parse()?));
    }
    let builder = builder.config(move |_, table| {
        table.insert("hook".to_owned(), toml::Value::Array(hooks.clone()));
    });
    Ok((dir, builder))
}

/// The documents the script of a point was given, one for each time it was run.
fn told(dir: &Path, on: &str) -> Result<Vec<HookDoc>> {
    let text = fs::read_to_string(dir.join(on)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).context("a document")).collect()
}

fn once(dir: &Path, on: &str) -> Result<HookDoc> {
    match told(dir, on)?.as_slice() {
        [document] => Ok(document.clone()),
        all => bail!("the {on} hook was run {} times", all.len()),
    }
}

async fn story(cluster: &Cluster, id: IncidentId) -> Result<Vec<Text>> {
    let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
    Ok(cluster.incident(leader, id).await?.story.into_iter().map(|line| line.text).collect())
}

/// Waits until the story has a line with this in it.
async fn tells(cluster: &Cluster, id: IncidentId, words: &str) -> Result<()> {
    eventually_async(async || {
        let story = story(cluster, id).await?;
        ensure!(story.iter().any(|line| line.as_str().contains(words)), "no {words:?} in {story:#?}");
        Ok(())
    })
    .await
}

/// Nothing of this process is left.
fn is_gone(pid: &str) -> bool {
    !PathBuf::from("/proc").join(pid.trim()).exists()
}

pub(crate) async fn each_is_run_once_and_none_keeps_the_servers_down(isolated: &Isolated) -> Result<()> {
    let scripts = [
        // Hangs with a child of its own: both are killed.
        script("before-fence", "sleep 600 &\necho $! > \"$1/child\"\nwait\n", "2s"),
        script("after-fence", "env > \"$1/environment\"\necho no ticket today >&2\nexit 3\n", "20s"),
        // Ten megabytes in words of 1,023.
        script("before-evacuate", "head -c 10000000 /dev/zero | tr '\\0' x | fold -w 1023\necho\n", "20s"),
        script("after-evacuate", "exec 0<&-\nkill -9 $$\n", "20s"),
        script("recovered", "echo all is well\n", "20s"),
        script("stuck", "", "20s"),
    ];
    let (dir, builder) = with_hooks(builder(), &scripts)?;
    let dir = dir.path();
    armed(isolated, builder, async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await?;
        let last = eventually(|| once(dir, "recovered")).await?;
        ensure!(last.host == *victim.name() && last.phase == Phase::Recovered, "{last:?}");
        ensure!(last.servers.len() == 3 && last.servers.iter().all(|server| server.state.as_str() == "recovered"));
        for words in [
            "before-fence hook",
            "FAILED: not ended within 2.0 s; it was killed with all its processes",
            "FAILED: exit code 3: no ticket today",
            "done: xxxxx",
            "FAILED: killed by signal 9",
            "done: all is well",
        ] {
            tells(cluster, last.incident, words).await?;
        }
        let before = once(dir, "before-fence")?;
        ensure!(before.on == HookPoint::BeforeFence && before.phase == Phase::Unclean, "{before:?}");
        ensure!(before.servers.len() == 3, "{before:?}");
        for on in ["after-fence", "before-evacuate", "after-evacuate"] {
            once(dir, on)?;
        }
        ensure!(told(dir, "stuck")?.is_empty(), "it was never stuck");
        ensure!(is_gone(&fs::read_to_string(dir.join("child"))?), "the child of the killed hook lives on");
        let environment = fs::read_to_string(dir.join("environment"))?;
        let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
        // PWD, SHLVL and _ are the shell's own.
        let foreign = |name: &&&str| !matches!(**name, "PATH" | "LC_ALL" | "PWD" | "OLDPWD" | "SHLVL" | "_");
        ensure!(names.iter().find(foreign).is_none(), "{names:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn one_that_holds_is_waited_for_until_an_operator_resumes(isolated: &Isolated) -> Result<()> {
    let holds =
        Script { on_failure: "hold", ..script("before-fence", "echo the cable is being changed\nexit 1\n", "20s") };
    let (dir, builder) = with_hooks(builder(), &[holds, script("stuck", "", "20s")])?;
    let dir = dir.path();
    armed(isolated, builder, async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Cut)?;
        let id = phase(cluster, victim.name(), Phase::Stuck).await?;
        tells(cluster, id, "exit code 1: the cable is being changed; `rekindle resume").await?;
        let ordered = victim.bmc().record().iter().any(|line| line.kind == BmcRecordKind::PowerOff);
        ensure!(!ordered && victim.bmc().power() == Power::On, "it was switched off while a hook held");
        eventually(|| once(dir, "stuck")).await?;
        cluster.order(DEADLINE, &["resume", &id.to_string(), "--reason", "the cable is in"]).await?;
        recovered(cluster, victim.name(), &servers).await?;
        once(dir, "before-fence")?;
        Ok(())
    })
    .await
}

pub(crate) async fn one_whose_leader_died_is_not_run_again(isolated: &Isolated) -> Result<()> {
    let slow = script("before-evacuate", "echo $$ > \"$1/pid\"\nexec sleep 600\n", "300s");
    let (dir, builder) = with_hooks(patient(), &[slow])?;
    let dir = dir.path();
    armed(isolated, builder, async |cluster| {
        let name: HostName = cluster.leader(DEADLINE).await?;
        let leader = cluster.host(name.as_str())?;
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        let id = phase(cluster, victim.name(), Phase::Fenced).await?;
        let begun = eventually(|| once(dir, "before-evacuate")).await?;
        ensure!(begun.leader == name && begun.incident == id, "{begun:?}");
        let pid = eventually(|| Ok(fs::read_to_string(dir.join("pid"))?.trim().parse::<i32>()?)).await?;
        leader.kill()?;
        leader.start()?;
        let result = recovered(cluster, victim.name(), &servers).await;
        // A killed daemon cannot end its hook: it is ours to end here.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        result?;
        tells(cluster, id, "begun, outcome unknown: the leader that began it is gone; it is not run again").await?;
        once(dir, "before-evacuate")?;
        Ok(())
    })
    .await
}
