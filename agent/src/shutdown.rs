//! Why are we told to stop? systemd knows: a shutdown is a job of PID 1 for one of a few targets.
//!
//! `systemctl list-jobs` is asked, once, with a time-out. Where it cannot be asked (no systemd, a container, a bus that is
//! gone already) the least is assumed: only the daemon stops. That errs to the safe side: nothing is done to the host, and
//! operators see that it is absent.

use std::process::Stdio;
use std::time::Duration;

use rekindle_proto::fact::StopReason;
use tokio::process::Command;

/// How long PID 1 may take to answer. We are stopped with its time-out running, and the others should hear of it at once.
const WITHIN: Duration = Duration::from_secs(1);

/// Why this daemon is told to stop.
pub async fn reason() -> StopReason {
    let mut command = Command::new("systemctl");
    command.args(["list-jobs", "--plain", "--no-legend", "--no-pager"]);
    ask(command).await
}

async fn ask(mut command: Command) -> StopReason {
    command.stdin(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
    match tokio::time::timeout(WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => reason_in(&String::from_utf8_lossy(&output.stdout)),
        Ok(Ok(output)) => {
            tracing::info!(status = %output.status, "systemctl does not say why we stop");
            StopReason::Daemon
        }
        Ok(Err(error)) => {
            tracing::info!(%error, "systemctl cannot be asked why we stop");
            StopReason::Daemon
        }
        Err(_) => {
            tracing::info!("systemctl did not answer in time why we stop");
            StopReason::Daemon
        }
    }
}

/// The first start job of a target that ends this boot. A line is: number, unit, kind of job, state.
fn reason_in(jobs: &str) -> StopReason {
    let target = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (unit, kind) = (words.next()?, words.next()?);
        match (unit, kind) {
            ("reboot.target" | "kexec.target" | "soft-reboot.target", "start") => Some(StopReason::Reboot),
            ("poweroff.target" | "halt.target", "start") => Some(StopReason::PowerOff),
            _ => None,
        }
    };
    jobs.lines().find_map(target).unwrap_or(StopReason::Daemon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_table() {
        let shutdown = |target: &str| {
            format!(
                "1254 rekindled.service stop running\n1201 {target} start waiting\n1202 shutdown.target start waiting\n\
                 1230 libvirtd.service stop waiting\n"
            )
        };
        for (jobs, expected) in [
            (String::new(), StopReason::Daemon),
            ("1254 rekindled.service stop running\n".to_owned(), StopReason::Daemon),
            ("1254 rekindled.service restart running\n".to_owned(), StopReason::Daemon),
            (shutdown("reboot.target"), StopReason::Reboot),
            (shutdown("kexec.target"), StopReason::Reboot),
            (shutdown("poweroff.target"), StopReason::PowerOff),
            (shutdown("halt.target"), StopReason::PowerOff),
            // Stopping such a target is no shutdown; neither is a unit that is only named like one.
            ("7 reboot.target stop waiting\n".to_owned(), StopReason::Daemon),
            ("7 my-reboot.target start waiting\n".to_owned(), StopReason::Daemon),
            ("No jobs running.\n".to_owned(), StopReason::Daemon),
        ] {
            assert_eq!(reason_in(&jobs), expected, "{jobs:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_only_the_daemon() {
        assert_eq!(ask(Command::new("/nonexistent/systemctl")).await, StopReason::Daemon);
        assert_eq!(ask(Command::new("false")).await, StopReason::Daemon);
        let mut says = Command::new("echo");
        says.arg("9 reboot.target start waiting");
        assert_eq!(ask(says).await, StopReason::Reboot);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_not_waited_for() {
        let mut hangs = Command::new("sleep");
        hangs.arg("60");
        assert_eq!(ask(hangs).await, StopReason::Daemon);
    }
}
