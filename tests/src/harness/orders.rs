//! Orders to a cluster, given as an operator gives them: by the command `rekindle`, with an operator's certificate.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rekindle_agent::cli::{Cli, Exit, Failure, run};
use rekindle_proto::status::StatusDoc;
use tokio::time::Instant;

use super::cluster::{Cluster, POLL_EVERY};
use super::machine::Host;

impl Cluster {
    /// Runs `rekindle ARGUMENTS` at that host, as the operator `demo`: its exit and what it wrote.
    ///
    /// # Errors
    /// [`Failure`], as the command has it.
    pub async fn rekindle(&self, host: &Host, arguments: &[&str]) -> Result<(Exit, String), Failure> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut all = vec!["rekindle".to_owned(), "--socket".to_owned(), text(&host.admin_socket())];
        all.extend(["--operator-cert".to_owned(), text(&self.files.operator_cert())]);
        all.extend(["--operator-key".to_owned(), text(&self.files.operator_key())]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let cli = Cli::try_parse_from(all).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let mut out = Vec::new();
        let exit = run(&cli, &mut out).await?;
        Ok((exit, String::from_utf8_lossy(&out).into_owned()))
    }

    /// Gives an order at whatever member takes it, again while there is no daemon or no leader (nothing is done then).
    ///
    /// # Errors
    /// If it is refused, its outcome unknown, or nobody takes it in time.
    pub async fn order(&self, within: Duration, arguments: &[&str]) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let mut last = None;
            for host in self.hosts().filter(|host| host.answers()) {
                match self.rekindle(host, arguments).await {
                    Ok((_, said)) => return Ok(said),
                    Err(failure) if failure.exit == Exit::NoDaemon => last = Some(failure),
                    Err(failure) => return Err(failure).context(format!("rekindle {}", arguments.join(" "))),
                }
            }
            if Instant::now() >= deadline {
                let why = last.map_or_else(|| "no daemon runs".to_owned(), |failure| failure.text);
                bail!("rekindle {}: nobody took it in {} s: {why}", arguments.join(" "), within.as_secs());
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// `rekindle init` with every host.
    ///
    /// # Errors
    /// As [`Cluster::order`].
    pub async fn init_roster(&self, within: Duration) -> Result<()> {
        let (roster, ca) = (self.files.roster(), self.files.ca());
        let (roster, ca) = (roster.to_string_lossy(), ca.to_string_lossy());
        self.order(within, &["init", "--roster", &roster, "--ca", &ca]).await.map(|_| ())
    }

    /// Waits until every member is alive and has said what runs on it, and every fence device is bound.
    ///
    /// # Errors
    /// If they are not in time.
    pub async fn wait_ready(&self, within: Duration) -> Result<StatusDoc> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let members = self.hosts().filter(|host| host.answers()).count();
        self.wait_until(left(), |status| {
            let silent = status.hosts.iter().find(|host| host.state.as_str() != "alive" || host.guests.is_none());
            match (&status.leader, silent) {
                (None, _) => Err("nobody leads".to_owned()),
                (_, Some(host)) => Err(format!("{} is {}, guests {:?}", host.host, host.state, host.guests)),
                (_, None) if status.hosts.len() < members => Err(format!("{} in the roster", status.hosts.len())),
                (Some(_), None) => Ok(()),
            }
        })
        .await?;
        // A device is read when its leader begins, which may be before its host has said who it is. This reads it anew.
        self.order(left(), &["fence-test"]).await?;
        self.wait_until(left(), |status| {
            let word = |word: &str| word.ends_with("on, bound");
            match status.hosts.iter().find(|host| !host.devices.as_str().split("; ").all(word)) {
                Some(host) => Err(format!("fence devices of {}: {:?}", host.host, host.devices.as_str())),
                None => Ok(()),
            }
        })
        .await
    }

    /// `rekindle init`, all that [`Cluster::wait_ready`] waits for, `rekindle arm`: from then on a failure is acted upon.
    ///
    /// # Errors
    /// If any of these fails or is not done in time.
    pub async fn init_roster_and_arm(&self, within: Duration) -> Result<StatusDoc> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.init_roster(left()).await?;
        self.wait_ready(left()).await?;
        self.order(left(), &["arm", "--reason", "everything is bound and alive"]).await?;
        self.wait_until(left(), |status| match status.armed {
            Some(true) => Ok(()),
            Some(false) | None => Err("not armed".to_owned()),
        })
        .await
    }
}
