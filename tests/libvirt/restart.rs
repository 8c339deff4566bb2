//! A guest's process dies on a healthy host: Nova is told to stop it and to start it, and it runs again. The truth
//! asserted on is libvirt's, and what Nova was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, ServerId};
use rekindle_proto::status::{IncidentLine, Phase};
use rekindle_tests::fake::cloud::{PowerAction, PowerHook, ServerSpec};
use rekindle_tests::harness::{Cluster, Host, Isolated};

use crate::host::{self as hypervisor, Guest};

/// A deadline no honest run comes near.
const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks at a condition.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The only voter: it leads, and acts on its own guests without telling anybody.
const LEADER: &str = "cmp-01";

/// It tells the leader of its guests.
const OTHER: &str = "cmp-03";

/// Restarts in place within half an hour, as the ledger counts them.
const RESTARTS: usize = rekindle_coordinator::ledger::GUEST_RESTARTS_MAX;

pub(crate) async fn a_guest_that_died_is_stopped_and_started_by_nova(isolated: &Isolated) -> Result<()> {
    armed(isolated, async |rig| {
        let mut calls = Vec::new();
        for host in [LEADER, OTHER] {
            let server = rig.boot(host, "dies").await?;
            rig.boot(host, "lives").await?;
            rig.hypervisor(host)?.signal_guest("dies", "KILL");
            let incident = rig.settled(server, Phase::Recovered, 1).await?;
            ensure!(incident.host.as_str() == host, "{incident:?}");
            ensure!(rig.state(host, "dies")? == "running", "{}", rig.state(host, "dies")?);
            calls.extend([(server, PowerAction::Stop), (server, PowerAction::Start)]);
            rig.asked_of_nova(&calls)?;
            let (_, story) = rig.leader()?.rekindle(&["incident", &incident.id.to_string()]).await?;
            for words in [&server.to_string(), "its process died", "asked to stop", "asked to start", "runs again"] {
                ensure!(story.contains(words), "no {words:?} in the story:\n{story}");
            }
            rig.guests(host, 2).await?;
        }
        Ok(())
    })
    .await
}

pub(crate) async fn a_guest_that_somebody_stopped_is_left_alone(isolated: &Isolated) -> Result<()> {
    armed(isolated, async |rig| {
        let stopped = rig.boot(OTHER, "stopped").await?;
        let dies = rig.boot(OTHER, "dies").await?;
        rig.hypervisor(OTHER)?.virsh(&["destroy", "stopped"]);
        // The leader knows it: whatever it would have done about it, it has begun.
        rig.guests(OTHER, 1).await?;
        rig.hypervisor(OTHER)?.signal_guest("dies", "KILL");
        rig.settled(dies, Phase::Recovered, 1).await?;
        rig.asked_of_nova(&[(dies, PowerAction::Stop), (dies, PowerAction::Start)])?;
        let incidents = rig.incidents().await?;
        ensure!(incidents.iter().all(|incident| incident.server != Some(stopped)), "{incidents:?}");
        ensure!(rig.state(OTHER, "stopped")? == "shut off", "{}", rig.state(OTHER, "stopped")?);
        Ok(())
    })
    .await
}

pub(crate) async fn a_guest_that_dies_again_and_again_is_left_alone_in_the_end(isolated: &Isolated) -> Result<()> {
    armed(isolated, async |rig| {
        let server = rig.boot(OTHER, "dies").await?;
        let mut calls = Vec::new();
        for restarts in 1..=RESTARTS {
            rig.hypervisor(OTHER)?.signal_guest("dies", "KILL");
            rig.settled(server, Phase::Recovered, restarts).await?;
            calls.extend([(server, PowerAction::Stop), (server, PowerAction::Start)]);
            // Before it is killed again, it must have been seen to run.
            rig.guests(OTHER, 1).await?;
        }
        rig.hypervisor(OTHER)?.signal_guest("dies", "KILL");
        rig.alarmed(server, &format!("restarted {RESTARTS} times")).await?;
        // Another one's restart is over: so would this one's be.
        let other = rig.boot(OTHER, "other").await?;
        rig.hypervisor(OTHER)?.signal_guest("other", "KILL");
        rig.settled(other, Phase::Recovered, 1).await?;
        calls.extend([(other, PowerAction::Stop), (other, PowerAction::Start)]);
        rig.asked_of_nova(&calls)?;
        rig.settled(server, Phase::Recovered, RESTARTS).await?;
        ensure!(rig.state(OTHER, "dies")? == "shut off", "{}", rig.state(OTHER, "dies")?);
        let (_, status) = rig.leader()?.rekindle(&["status"]).await?;
        ensure!(status.contains("left alone: look at it"), "no reason in the status:\n{status}");
        // Somebody mended it.
        rig.hypervisor(OTHER)?.virsh(&["start", "dies"]);
        rig.calm(server).await
    })
    .await
}

/// Three hosts, two of them with a real libvirtd.
struct Rig {
    cluster: Cluster,
    hypervisors: Arc<BTreeMap<HostName, hypervisor::Host>>,
}

/// One host of the rig, to be told something.
struct At<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
}

impl At<'_> {
    async fn rekindle(&self, arguments: &[&str]) -> Result<(rekindle_agent::cli::Exit, String)> {
        self.cluster.rekindle(self.host, arguments).await.with_context(|| format!("rekindle {arguments:?}"))
    }
}

/// An armed cluster for the length of a test; if that fails, the daemons' last lines are told.
async fn armed(isolated: &Isolated, test: impl AsyncFnOnce(&Rig) -> Result<()>) -> Result<()> {
    let mut hypervisors = BTreeMap::new();
    for host in [LEADER, OTHER] {
        hypervisors.insert(HostName::new(host)?, hypervisor::Host::start());
    }
    let uris: BTreeMap<HostName, String> =
        hypervisors.iter().map(|(host, hypervisor)| (host.clone(), hypervisor.uri())).collect();
    let builder = Cluster::builder().hosts(3).voters(1).config(move |host, table| {
        let libvirt = table.get_mut("libvirt").and_then(toml::Value::as_table_mut).expect("there is [libvirt]");
        if let Some(uri) = uris.get(host) {
            libvirt.insert("uri".to_owned(), uri.as_str().into());
        }
    });
    let rig = Rig { cluster: builder.start(isolated).await?, hypervisors: Arc::new(hypervisors) };
    rig.cluster.cloud().on_power(power(Arc::clone(&rig.hypervisors)));
    let result = async {
        rig.cluster.init_roster_and_arm(DEADLINE).await.context("the cluster did not get ready")?;
        test(&rig).await
    }
    .await;
    if result.is_err() {
        println!("{}", rig.cluster.logs(30));
    }
    result
}

/// What Nova's libvirt driver does: a stop of what does not run is done already.
fn power(hypervisors: Arc<BTreeMap<HostName, hypervisor::Host>>) -> PowerHook {
    Arc::new(move |host, server, action| {
        let hypervisor = hypervisors.get(host).ok_or_else(|| format!("{host} has no libvirtd"))?;
        let server = server.to_string();
        let runs = hypervisor.virsh(&["list", "--uuid"]).contains(&server);
        let word = match action {
            PowerAction::Start => "start",
            PowerAction::Stop if runs => "destroy",
            PowerAction::Stop => return Ok(()),
        };
        let output = hypervisor.try_virsh(&[word, &server]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    })
}

impl Rig {
    fn leader(&self) -> Result<At<'_>> {
        Ok(At { cluster: &self.cluster, host: self.cluster.host(LEADER)? })
    }

    fn hypervisor(&self, host: &str) -> Result<&hypervisor::Host> {
        self.hypervisors.get(&HostName::new(host)?).with_context(|| format!("{host} has no libvirtd"))
    }

    /// Makes a server on that host, starts its guest there, and waits until the leader knows of it.
    async fn boot(&self, host: &str, name: &str) -> Result<ServerId> {
        let place = HostName::new(host)?;
        let server = self.cluster.cloud().add_server(&place, ServerSpec::named(name));
        let hypervisor = self.hypervisor(host)?;
        hypervisor.start_guest_of(server, name, Guest::Sleeper);
        self.guests(host, hypervisor.virsh(&["list", "--uuid"]).split_whitespace().count()).await?;
        Ok(server)
    }

    /// Waits until the leader knows that so many guests run there.
    async fn guests(&self, host: &str, count: usize) -> Result<()> {
        let status = self.cluster.wait_until(DEADLINE, |status| {
            let line = status.hosts.iter().find(|line| line.host.as_str() == host);
            match line.and_then(|line| line.guests) {
                Some(guests) if usize::try_from(guests) == Ok(count) => Ok(()),
                guests => Err(format!("{host}: {guests:?} guests run, not {count}")),
            }
        });
        status.await.map(drop)
    }

    /// Waits until the leader alarms because of this guest, with these words.
    async fn alarmed(&self, server: ServerId, words: &str) -> Result<()> {
        let status = self.cluster.wait_until(DEADLINE, |status| {
            let named = |alarm: &&Text| alarm.as_str().contains(&server.to_string());
            match status.alarms.iter().find(named) {
                Some(alarm) if alarm.as_str().contains(words) => Ok(()),
                alarm => Err(format!("alarm for {server}: {alarm:?}, wanted {words:?}")),
            }
        });
        status.await.map(drop)
    }

    /// Waits until it does not.
    async fn calm(&self, server: ServerId) -> Result<()> {
        let status = self.cluster.wait_until(DEADLINE, |status| {
            let named = |alarm: &&Text| alarm.as_str().contains(&server.to_string());
            status.alarms.iter().find(named).map_or(Ok(()), |alarm| Err(alarm.to_string()))
        });
        status.await.map(drop)
    }

    async fn incidents(&self) -> Result<Vec<IncidentLine>> {
        let reply = self.cluster.ask(self.leader()?.host, &AdminRequest::Incidents).await?;
        let AdminReply::Incidents { incidents } = reply else {
            bail!("something else: {reply:?}");
        };
        Ok(incidents)
    }

    /// Waits until this guest has so many incidents in this phase, and none under way; gives the latest of them.
    async fn settled(&self, server: ServerId, phase: Phase, count: usize) -> Result<IncidentLine> {
        let end = Instant::now() + DEADLINE;
        loop {
            let mut incidents = self.incidents().await?;
            incidents.retain(|incident| incident.server == Some(server));
            let is_open = incidents.iter().any(|incident| incident.ended.is_none());
            let mut wanted: Vec<_> = incidents.iter().filter(|incident| incident.phase == phase).collect();
            wanted.sort_by_key(|incident| incident.id);
            match wanted.last() {
                Some(latest) if wanted.len() == count && !is_open => return Ok((*latest).clone()),
                Some(_) | None if Instant::now() < end => tokio::time::sleep(POLL_EVERY).await,
                Some(_) | None => bail!("{server}: not {count} incidents {phase}, but {incidents:?}"),
            }
        }
    }

    /// libvirt's word for a guest.
    fn state(&self, host: &str, name: &str) -> Result<String> {
        Ok(self.hypervisor(host)?.virsh(&["domstate", name]).trim().to_owned())
    }

    /// Nova was asked for these starts and stops, in this order, and for nothing else.
    fn asked_of_nova(&self, expected: &[(ServerId, PowerAction)]) -> Result<()> {
        let cloud = self.cluster.cloud();
        let calls: Vec<_> = cloud.power_calls().iter().map(|call| (call.server, call.action)).collect();
        ensure!(calls == expected, "Nova was asked for {calls:?}, not {expected:?}");
        let posts = cloud.requests().iter().filter(|line| line.path.ends_with("/action")).count();
        ensure!(posts == expected.len(), "{posts} actions reached Nova, not {}", expected.len());
        Ok(())
    }
}
