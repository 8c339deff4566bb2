//! The driver `storage`: a command of the site that cuts a host off from its storage (a blocklist of Ceph, a reservation).
//!
//! It has no power state. What it confirms is its own word, and counts only where the policy takes unverified words.
//! The contract, in full, is in docs/fencing.md.

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState, Text};
use rekindle_proto::id::{HostName, IncidentId};
use serde::{Deserialize, Serialize};

use super::process::{self, Feed, Output};
use super::settings::StorageSettings;
use super::{left, unusable};
use crate::clock;

/// The version of the question. Raised when a command of before would misunderstand.
const VERSION: u32 = 1;

/// The fence of one host.
#[derive(Debug)]
pub(super) struct StorageFence {
    settings: StorageSettings,
    host: HostName,
}

/// What the command is told, on its standard input.
#[derive(Debug, Serialize)]
struct Question<'a> {
    version: u32,
    action: Action,
    host: &'a HostName,
    /// Absent where it is not for an incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<IncidentId>,
}

/// What it is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    /// Cut the host off.
    Off,
    /// Let it in again.
    On,
}

/// What the command says, on its standard output.
#[derive(Debug, Deserialize)]
struct Answer {
    result: Outcome,
    #[serde(default)]
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Confirmed,
    Failed,
}

impl StorageFence {
    /// For that host. Nothing is run.
    pub(super) fn new(settings: StorageSettings, host: HostName) -> Self {
        Self { settings, host }
    }

    /// Runs the command, once, if it is not too late. `Ok`: it said in so many words that it is done.
    pub(super) async fn act(
        &self,
        action: Action,
        incident: Option<IncidentId>,
        begin_before: Moment,
        end: Moment,
    ) -> Result<(), DeviceError> {
        let question = Question { version: VERSION, action, host: &self.host, incident };
        let input = serde_json::to_vec(&question).map_err(|error| unusable(error.to_string()))?;
        if clock::moment() >= begin_before.min(end) {
            return Err(DeviceError::TooLate);
        }
        let feed = Feed { input: input.into(), path: process::PATH, ..Feed::default() };
        understood(&process::run_fed(&self.settings.program, &self.settings.arguments, feed, left(end)).await?)
    }

    /// There is none.
    pub(super) fn power_state() -> Result<PowerState, DeviceError> {
        Err(unusable("a storage fence has no power state"))
    }

    /// There is none.
    pub(super) fn guid() -> Result<DeviceGuid, DeviceError> {
        Err(unusable("a storage fence is no machine's"))
    }
}

/// Only exit code 0 together with `confirmed` is a yes.
fn understood(output: &Output) -> Result<(), DeviceError> {
    if !output.status.success() {
        return Err(DeviceError::Refused(told(&output.status.to_string(), output)));
    }
    if output.cut {
        return Err(unusable("its answer is too long"));
    }
    match serde_json::from_str::<Answer>(&output.stdout) {
        Ok(Answer { result: Outcome::Confirmed, .. }) => Ok(()),
        Ok(Answer { result: Outcome::Failed, detail }) => Err(DeviceError::Refused(Text::new(plain(&detail)))),
        Err(error) => Err(DeviceError::Unusable(told(&format!("no answer of the contract ({error})"), output))),
    }
}

fn told(what: &str, output: &Output) -> Text {
    Text::new(format!("{what}: {}", plain(&format!("{} {}", output.stderr, output.stdout))))
}

/// On one line, without what could steer a terminal.
fn plain(text: &str) -> String {
    crate::telemetry::plain(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::bmc::simulator::write;

    fn fence(dir: &Path, script: &str) -> StorageFence {
        let program = dir.join("fence");
        write(&program, &format!("#!/bin/sh\n{script}\n"), 0o755);
        let settings = StorageSettings { program, arguments: vec!["--pool".to_owned(), "vms".to_owned()] };
        StorageFence::new(settings, HostName::new("cmp-1").expect("legal"))
    }

    async fn off(fence: &StorageFence, within: Duration) -> Result<(), DeviceError> {
        let now = clock::moment();
        fence.act(Action::Off, Some(IncidentId(7)), now + within, now + within).await
    }

    const ENOUGH: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_contract_is_kept_to_the_letter() {
        let dir = tempfile::tempdir().expect("dir");
        let asked = dir.path().join("asked");
        let script = format!("cat > {}; echo \"$@\" >> {0}; echo '{{\"result\":\"confirmed\"}}'", asked.display());
        off(&fence(dir.path(), &script), ENOUGH).await.expect("confirmed");
        let told = std::fs::read_to_string(&asked).expect("asked");
        let (question, arguments) = told.split_once('}').expect("JSON");
        assert_eq!(question, r#"{"version":1,"action":"off","host":"cmp-1","incident":7"#);
        assert_eq!(arguments.trim(), "--pool vms");
    }

    #[tokio::test]
    async fn whatever_is_no_plain_yes_confirms_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let yes = "echo '{\"result\":\"confirmed\"}'";
        for script in [
            "true".to_owned(),
            "exit 3".to_owned(),
            format!("{yes}; exit 1"),
            format!("{yes}; kill -9 $$"),
            format!("{yes}; {yes}"),
            format!("echo done; {yes}"),
            "echo '{\"result\":\"Confirmed\"}'".to_owned(),
            "echo '{\"result\":\"failed\",\"detail\":\"no such client\"}'".to_owned(),
            "echo '{\"result\":\"failed\",\"result\":\"confirmed\"}'".to_owned(),
            "echo '{\"detail\":\"confirmed\"}'".to_owned(),
            "echo confirmed".to_owned(),
            format!("{yes}; head -c 100000 /dev/zero | tr '\\0' ' '"),
        ] {
            off(&fence(dir.path(), &script), ENOUGH).await.expect_err(&script);
        }
        let refuses = fence(dir.path(), "printf %s '{\"result\":\"failed\",\"detail\":\"no\\nsuch client\"}'");
        assert_eq!(off(&refuses, ENOUGH).await, Err(DeviceError::Refused("no such client".into())));
        let late = fence(dir.path(), &format!("touch {}", dir.path().join("ran").display()));
        assert_eq!(
            late.act(Action::Off, None, clock::moment(), clock::moment() + ENOUGH).await,
            Err(DeviceError::TooLate)
        );
        assert!(!dir.path().join("ran").exists(), "run too late");
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed() {
        let dir = tempfile::tempdir().expect("dir");
        let error = off(&fence(dir.path(), "sleep 600"), Duration::from_millis(300)).await.expect_err("hangs");
        assert!(matches!(error, DeviceError::Silent(_)), "{error}");
    }
}
