//! Units, by `systemctl`: the one interface to systemd that is the same everywhere, without a library of our own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rekindle_coordinator::process::ProcessSeen;
use rekindle_proto::fact::{DeviceError, Text};

use crate::bmc::process::{Feed, Output, PATH, run_fed};

/// What is asked of each unit (org.freedesktop.systemd1(5)).
const PROPERTIES: [&str; 6] =
    ["LoadState", "ActiveState", "SubState", "Result", "TriggeredBy", "ExecMainStartTimestampMonotonic"];

/// How each of these units stands, in this order.
pub(super) async fn show(systemctl: &Path, units: &[&str], within: Duration) -> Vec<ProcessSeen> {
    let mut arguments: Vec<String> = vec!["show".into(), "--no-pager".into()];
    arguments.extend(PROPERTIES.iter().map(|property| format!("--property={property}")));
    arguments.push("--".into());
    arguments.extend(units.iter().map(|unit| (*unit).to_owned()));
    let all = |why: Text| units.iter().map(|_| ProcessSeen::Unknown(why.clone())).collect();
    match run(systemctl, &arguments, within).await {
        Ok(output) if output.status.success() => {
            let blocks = output.stdout.split("\n\n").map(properties).filter(|block| !block.is_empty());
            blocks.map(|block| seen(&block)).collect()
        }
        Ok(output) => all(Text::new(format!("systemctl does not tell of it, {}", output.status))),
        Err(why) => all(why),
    }
}

/// Starts a unit that has failed. Not waited for: what it requires may take its time, the boot gate for one.
pub(super) async fn start(systemctl: &Path, unit: &str, within: Duration) -> Result<(), Text> {
    let told = |verb: &[&str]| -> Vec<String> {
        verb.iter().map(|word| (*word).to_owned()).chain(["--".to_owned(), unit.to_owned()]).collect()
    };
    // A unit that has failed too often for systemd's taste is not started before its count is forgotten. Nothing to forget
    // is no error.
    let _ = run(systemctl, &told(&["reset-failed"]), within).await;
    let output = run(systemctl, &told(&["--no-block", "start"]), within).await?;
    if output.status.success() {
        return Ok(());
    }
    let words = crate::telemetry::plain(&output.stderr.split_whitespace().collect::<Vec<_>>().join(" "));
    Err(Text::new(format!("systemctl start {unit}, {}: {words}", output.status)))
}

async fn run(systemctl: &Path, arguments: &[String], within: Duration) -> Result<Output, Text> {
    match run_fed(systemctl, arguments, Feed { path: PATH, ..Feed::default() }, within).await {
        Ok(output) => Ok(output),
        Err(DeviceError::Silent(_)) => {
            Err(Text::new(format!("systemctl did not answer within {} s", within.as_secs())))
        }
        Err(error) => Err(Text::new(error.to_string())),
    }
}

fn properties(block: &str) -> BTreeMap<&str, &str> {
    block.lines().filter_map(|line| line.split_once('=')).collect()
}

/// What a unit's properties mean.
fn seen(properties: &BTreeMap<&str, &str>) -> ProcessSeen {
    let of = |property: &str| properties.get(property).copied().unwrap_or_default();
    let run = of("ExecMainStartTimestampMonotonic").parse().unwrap_or(0);
    match of("LoadState") {
        "loaded" => {}
        "not-found" => return ProcessSeen::Unknown("systemd has no such unit".into()),
        other => return ProcessSeen::Unknown(Text::new(format!("its unit is {other}"))),
    }
    // A daemon that a socket starts ends when nobody needs it: that is not being down.
    let on_demand = of("TriggeredBy").split_whitespace().any(|unit| unit.ends_with(".socket"));
    match (of("ActiveState"), of("Result")) {
        ("active" | "reloading" | "refreshing", _) => ProcessSeen::Running { run },
        ("activating", _) => ProcessSeen::Starting,
        ("deactivating", _) => ProcessSeen::Stopped("it is being stopped".into()),
        ("inactive", "success") if on_demand => ProcessSeen::Running { run: 0 },
        ("inactive", "success") => ProcessSeen::Stopped("its unit is inactive".into()),
        ("inactive" | "failed" | "maintenance", why) => ProcessSeen::Failed(Text::new(why)),
        (state, _) => ProcessSeen::Unknown(Text::new(format!("its unit is {state}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_states() {
        let block = |load, active, result, triggered| {
            format!(
                "LoadState={load}\nActiveState={active}\nSubState=x\nResult={result}\nTriggeredBy={triggered}\n\
                 ExecMainStartTimestampMonotonic=77"
            )
        };
        let unknown = |why: &str| ProcessSeen::Unknown(why.into());
        let stopped = |why: &str| ProcessSeen::Stopped(why.into());
        let failed = |why: &str| ProcessSeen::Failed(why.into());
        let table = [
            (block("loaded", "active", "success", ""), ProcessSeen::Running { run: 77 }),
            (block("loaded", "reloading", "success", ""), ProcessSeen::Running { run: 77 }),
            // Also the pause before systemd's own Restart=: the last result is bad, and the unit not failed.
            (block("loaded", "activating", "exit-code", ""), ProcessSeen::Starting),
            (block("loaded", "deactivating", "success", ""), stopped("it is being stopped")),
            (block("loaded", "inactive", "success", ""), stopped("its unit is inactive")),
            (block("loaded", "inactive", "success", "virtqemud.socket"), ProcessSeen::Running { run: 0 }),
            (block("loaded", "inactive", "success", "x.timer"), stopped("its unit is inactive")),
            (block("loaded", "failed", "signal", "virtqemud.socket"), failed("signal")),
            (block("loaded", "failed", "start-limit-hit", ""), failed("start-limit-hit")),
            (block("not-found", "inactive", "success", ""), unknown("systemd has no such unit")),
            (block("masked", "inactive", "success", ""), unknown("its unit is masked")),
            (String::new(), unknown("its unit is ")),
        ];
        for (text, expected) in table {
            assert_eq!(seen(&properties(&text)), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn units_are_told_in_the_order_asked_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let systemctl = dir.path().join("systemctl");
        let log = dir.path().join("log");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{}\ncase $1 in show) printf 'LoadState=loaded\\nActiveState=active\\n\\n\
             LoadState=loaded\\nActiveState=failed\\nResult=signal\\n';; esac\n",
            log.display()
        );
        std::fs::write(&systemctl, script).expect("written");
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).expect("may run");
        let within = Duration::from_secs(60);
        let found = show(&systemctl, &["a.service", "b.service"], within).await;
        assert_eq!(found, [ProcessSeen::Running { run: 0 }, ProcessSeen::Failed("signal".into())]);
        start(&systemctl, "b.service", within).await.expect("started");
        let log = std::fs::read_to_string(log).expect("called");
        let calls: Vec<&str> = log.lines().skip(1).collect();
        assert_eq!(calls, ["reset-failed -- b.service", "--no-block start -- b.service"]);
    }
}
