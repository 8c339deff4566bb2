//! A running cluster: what can be asked of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rekindle_agent::admin::ask;
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::id::{ClusterName, HostName, IncidentId};
use rekindle_proto::status::{IncidentDoc, MembersDoc, StatusDoc};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::builder::ClusterBuilder;
use super::files::Files;
use super::machine::Host;
use crate::fake::cloud::Cloud;

/// How long one question may take before another member is asked.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// The same, where all are asked at once: a member that carries the question to a dead leader waits longer than that.
const PICTURE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at a condition.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(50);

/// A running cluster. Its daemons are killed and its files removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    name: ClusterName,
    voters: Vec<HostName>,
    hosts: BTreeMap<HostName, Host>,
    cloud: Cloud,
    pub(super) files: Files,
    dir: TempDir,
}

impl Cluster {
    /// A cluster to be.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    pub(super) fn new(
        name: ClusterName,
        voters: Vec<HostName>,
        hosts: BTreeMap<HostName, Host>,
        cloud: Cloud,
        files: Files,
        dir: TempDir,
    ) -> Self {
        Self { name, voters, hosts, cloud, files, dir }
    }

    /// Its name, as in its certificates.
    #[must_use]
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Who votes.
    #[must_use]
    pub fn voters(&self) -> &[HostName] {
        &self.voters
    }

    /// Every host, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The host of that name.
    ///
    /// # Errors
    /// If there is none; the words name those there are.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).with_context(|| {
            let names: Vec<&str> = self.hosts.keys().map(HostName::as_str).collect();
            format!("there is no host {name}; there are {}", names.join(" "))
        })
    }

    /// The simulated cloud, and the ground truth in it.
    #[must_use]
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Where its files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Does not remove its files when it is dropped, and tells where they are.
    pub fn keep_files(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Asks one member's daemon a question on its admin socket.
    ///
    /// # Errors
    /// If it does not answer within 2 s, or refuses.
    pub async fn ask(&self, host: &Host, request: &AdminRequest) -> Result<AdminReply> {
        let reply = ask(&host.admin_socket(), request, ASK_WITHIN).await;
        let reply = reply.with_context(|| format!("{} does not answer", host.name()))?;
        if let AdminReply::Error { text, .. } = reply {
            bail!("{} refuses: {text}", host.name());
        }
        Ok(reply)
    }

    /// `rekindle status` at one member.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub async fn status(&self, host: &Host) -> Result<StatusDoc> {
        let reply = self.ask(host, &AdminRequest::Status).await?;
        let AdminReply::Status { status } = reply else {
            bail!("{} answers something else: {reply:?}", host.name());
        };
        Ok(*status)
    }

    /// `rekindle members` at one member: gossip, which no leader is asked about.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub async fn members(&self, host: &Host) -> Result<MembersDoc> {
        let reply = self.ask(host, &AdminRequest::Members).await?;
        let AdminReply::Members { members } = reply else {
            bail!("{} answers something else: {reply:?}", host.name());
        };
        Ok(members)
    }

    /// `rekindle incident ID` at one member.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub async fn incident(&self, host: &Host, id: IncidentId) -> Result<IncidentDoc> {
        let reply = self.ask(host, &AdminRequest::Incident { id }).await?;
        let AdminReply::Incident { incident } = reply else {
            bail!("{} answers something else: {reply:?}", host.name());
        };
        Ok(*incident)
    }

    /// The picture as the leader has it; while none answers, as some other member has it. All are asked at once, so that
    /// one that waits for a dead leader delays nobody.
    ///
    /// # Errors
    /// If nobody answers, or a daemon ended by itself.
    pub async fn any_status(&self) -> Result<StatusDoc> {
        if let Some((host, how)) = self.hosts().find_map(|host| host.ended().map(|how| (host, how))) {
            bail!("rekindled of {} has ended by itself: {how}\n{}", host.name(), host.log_tail(10));
        }
        let mut questions = JoinSet::new();
        for host in self.hosts().filter(|host| host.answers()) {
            let socket = host.admin_socket();
            questions.spawn(async move { ask(&socket, &AdminRequest::Status, PICTURE_WITHIN).await });
        }
        let mut best: Option<StatusDoc> = None;
        let mut last = anyhow!("no daemon is left to be asked");
        while let Some(answer) = questions.join_next().await {
            match answer? {
                Ok(AdminReply::Status { status }) if status.leader.as_ref() == Some(&status.told_by) => {
                    return Ok(*status);
                }
                Ok(AdminReply::Status { status }) => {
                    let known = |status: &StatusDoc| (status.leader.is_some(), status.term);
                    if best.as_ref().is_none_or(|best| known(&status) > known(best)) {
                        best = Some(*status);
                    }
                }
                Ok(other) => last = anyhow!("no status, but {other:?}"),
                Err(error) => last = error.into(),
            }
        }
        best.ok_or(last)
    }

    /// The host that leads, waiting for an election if need be.
    ///
    /// # Errors
    /// If none leads in time.
    pub async fn leader(&self, within: Duration) -> Result<HostName> {
        let led = |status: &StatusDoc| match &status.leader {
            Some(_) => Ok(()),
            None => Err("nobody leads".to_owned()),
        };
        let status = self.wait_until(within, led).await?;
        status.leader.context("nobody leads")
    }

    /// Waits until a status is as wanted; `wanted` says what it still lacks.
    ///
    /// # Errors
    /// After that time, with what was lacking last; at once if a daemon ended by itself.
    pub async fn wait_until(
        &self,
        within: Duration,
        mut wanted: impl FnMut(&StatusDoc) -> Result<(), String>,
    ) -> Result<StatusDoc> {
        let deadline = Instant::now() + within;
        loop {
            let lacks = match self.any_status().await {
                Ok(status) => match wanted(&status) {
                    Ok(()) => return Ok(status),
                    Err(lacks) => anyhow!(lacks),
                },
                Err(error) if self.hosts().any(|host| host.ended().is_some()) => return Err(error),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(lacks.context(format!("not so after {} s", within.as_secs())));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// The last lines of every daemon's log, for a failed test.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let each = self.hosts().map(|host| {
            let state = match (host.ended(), host.pid()) {
                (Some(how), _) => how,
                (None, Some(pid)) => format!("process {pid}"),
                (None, None) => "killed".to_owned(),
            };
            format!("--- {} ({state}), {}\n{}\n", host.name(), host.log().display(), host.log_tail(lines))
        });
        each.collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // By name and now: the tasks of the fakes, which hold the machines too, end some time later.
        for host in self.hosts.values() {
            if let Err(error) = host.kill() {
                eprintln!("harness: {error:#}");
            }
        }
    }
}
