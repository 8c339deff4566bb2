//! The processes that make this host a hypervisor: looked at every few seconds, and started again on order.
//!
//! A unit is systemd's matter first: what it is starting, or is about to start again by its own `Restart=`, is no failure. A
//! process that systemd does not know (in a container, as a rule) is looked at by a command of the site.

mod systemd;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rekindle_coordinator::io::Input;
use rekindle_coordinator::process::{ProcessRule, ProcessSeen, RestartOrder};
use rekindle_proto::fact::{DeviceError, Text};
use rekindle_proto::id::ProcessName;
use tokio::sync::mpsc;

use crate::bmc::process::{Feed, Output, PATH, run_fed};

/// Between two looks: one `systemctl show` for all units. A failed unit is seen within it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long one look may take; then it could not be looked at.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How long a restart may take. systemd gives a unit 90 s to start; a unit is not waited for.
const RESTART_WITHIN: Duration = Duration::from_secs(90);

/// One process of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSettings {
    /// What is decided about.
    pub rule: ProcessRule,
    /// How it is looked at and started.
    pub means: ProcessMeans,
}

/// How a process is looked at and started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessMeans {
    /// A unit of systemd, with its suffix.
    Unit(String),
    /// Commands: a program by its absolute path, and its arguments.
    Commands {
        /// Exit code 0: it runs.
        check: Vec<String>,
        /// Starts it again; `None`: nothing does.
        restart: Option<Vec<String>>,
    },
}

/// Looks at processes and starts them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Processes {
    settings: Vec<ProcessSettings>,
    systemctl: PathBuf,
}

impl Processes {
    /// For these; none is possible.
    #[must_use]
    pub fn new(settings: Vec<ProcessSettings>) -> Self {
        Self { settings, systemctl: "systemctl".into() }
    }

    /// Looks again and again, and tells what has changed, until the loop is gone. The first word names all of them, also if
    /// there is none.
    pub async fn watch(self, inputs: mpsc::Sender<Input>) {
        let mut told: BTreeMap<ProcessName, ProcessSeen> = BTreeMap::new();
        let mut first = true;
        loop {
            let mut seen = self.look().await;
            seen.retain(|(name, seen)| told.get(name) != Some(seen));
            told.extend(seen.iter().cloned());
            if (first || !seen.is_empty()) && inputs.send(Input::Processes { seen }).await.is_err() {
                return;
            }
            first = false;
            if self.settings.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How each of them stands now.
    pub async fn look(&self) -> Vec<(ProcessName, ProcessSeen)> {
        let units = self.settings.iter().filter_map(|settings| match &settings.means {
            ProcessMeans::Unit(unit) => Some(unit.as_str()),
            ProcessMeans::Commands { .. } => None,
        });
        let units: Vec<&str> = units.collect();
        let mut shown = if units.is_empty() {
            Vec::new().into_iter()
        } else {
            systemd::show(&self.systemctl, &units, LOOK_WITHIN).await.into_iter()
        };
        let mut seen = Vec::new();
        for settings in &self.settings {
            let found = match &settings.means {
                ProcessMeans::Unit(_) => {
                    shown.next().unwrap_or_else(|| ProcessSeen::Unknown("systemctl does not tell of it".into()))
                }
                ProcessMeans::Commands { check, .. } => checked(check).await,
            };
            seen.push((settings.rule.name.clone(), found));
        }
        seen
    }

    /// Starts one again. That it runs then, the next look tells.
    ///
    /// # Errors
    /// In words, why it was not tried, or what the one that was to do it said.
    pub async fn restart(&self, order: &RestartOrder) -> Result<(), Text> {
        self.start_again(order.process()).await
    }

    async fn start_again(&self, name: &ProcessName) -> Result<(), Text> {
        let Some(settings) = self.settings.iter().find(|settings| settings.rule.name == *name) else {
            return Err("this member's configuration has no such process".into());
        };
        match &settings.means {
            ProcessMeans::Unit(unit) => systemd::start(&self.systemctl, unit, LOOK_WITHIN).await,
            ProcessMeans::Commands { restart: None, .. } => Err("no restart command is configured".into()),
            ProcessMeans::Commands { restart: Some(command), .. } => match run(command, RESTART_WITHIN).await {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => {
                    Err(Text::new(format!("its restart command failed, {}: {}", output.status, words(&output))))
                }
                Err(why) => Err(why),
            },
        }
    }
}

async fn checked(command: &[String]) -> ProcessSeen {
    match run(command, LOOK_WITHIN).await {
        Ok(output) if output.status.success() => ProcessSeen::Running { run: 0 },
        // Without what it wrote: that may differ from look to look, and each change is told to the leader.
        Ok(output) => ProcessSeen::Failed(Text::new(format!("its check says no, {}", output.status))),
        Err(why) => ProcessSeen::Unknown(why),
    }
}

/// Runs a command of the site, without a permit to think for long.
async fn run(command: &[String], within: Duration) -> Result<Output, Text> {
    let Some((program, arguments)) = command.split_first() else { return Err("an empty command".into()) };
    match run_fed(program.as_ref(), arguments, Feed { path: PATH, ..Feed::default() }, within).await {
        Ok(output) => Ok(output),
        Err(DeviceError::Silent(_)) => {
            Err(Text::new(format!("{program} did not end within {} s, and was killed", within.as_secs())))
        }
        Err(error) => Err(Text::new(error.to_string())),
    }
}

/// What a command wrote, errors first, as one line without what could steer a terminal.
fn words(output: &Output) -> String {
    let all = format!("{} {}", output.stderr, output.stdout);
    crate::telemetry::plain(&all.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, means: ProcessMeans) -> ProcessSettings {
        let name = ProcessName::new(name).expect("legal");
        let rule = ProcessRule { name, restarts: 1, delay: Duration::from_secs(5), disables: true };
        ProcessSettings { rule, means }
    }

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).into()
    }

    #[tokio::test]
    async fn a_process_is_looked_at_and_started_by_commands() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = dir.path().join("runs");
        let check = shell(&format!("test -e {}", mark.display()));
        let restart = Some(shell(&format!("touch {}", mark.display())));
        let broken = Some(shell("echo no such container >&2; exit 3"));
        let processes = Processes::new(vec![
            settings("one", ProcessMeans::Commands { check: check.clone(), restart }),
            settings("two", ProcessMeans::Commands { check, restart: broken }),
            settings("three", ProcessMeans::Commands { check: vec!["/nowhere/check".into()], restart: None }),
        ]);
        let name = |name: &str| ProcessName::new(name).expect("legal");
        let seen = processes.look().await;
        assert!(
            matches!(&seen[0], (_, ProcessSeen::Failed(why)) if why.as_str() == "its check says no, exit status: 1")
        );
        assert!(matches!(&seen[2], (_, ProcessSeen::Unknown(_))), "{seen:?}");
        let said = processes.start_again(&name("two")).await.expect_err("broken");
        assert_eq!(said.as_str(), "its restart command failed, exit status: 3: no such container");
        assert!(processes.start_again(&name("three")).await.is_err());
        assert!(processes.start_again(&name("four")).await.is_err());
        processes.start_again(&name("one")).await.expect("started");
        assert_eq!(processes.look().await[0].1, ProcessSeen::Running { run: 0 });
    }

    #[tokio::test]
    async fn only_changes_are_told_and_none_is_told_once() {
        let (sender, mut inputs) = mpsc::channel(4);
        Processes::new(Vec::new()).watch(sender).await;
        let told = inputs.recv().await;
        assert!(matches!(&told, Some(Input::Processes { seen }) if seen.is_empty()), "{told:?}");
        assert!(inputs.recv().await.is_none());
    }
}
