//! Why a watchdog is not armed.

use std::path::PathBuf;

use super::Node;

/// Why a watchdog is not armed. The host is protected by its fence devices all the same, and its silence proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// No such device.
    #[error(
        "{node} is not there: load the driver of this machine's watchdog (`wdctl` lists them); \
         under systemd the daemon sees it only with rekindled-watchdog.conf{}",
        if *older { "; /dev/watchdog is one of an older driver, of which nobody can say what it is before it is opened" } else { "" }
    )]
    NotThere {
        /// Which.
        node: Node,
        /// There is a `/dev/watchdog` that the kernel's watchdog core does not know.
        older: bool,
    },
    /// The node is not what the kernel says of it.
    #[error("{node} is not the device that {} names ({found})", class.display())]
    NotIt {
        /// Which.
        node: Node,
        /// Where the kernel tells of it.
        class: PathBuf,
        /// What the node is.
        found: String,
    },
    /// sysfs does not tell.
    #[error("{} cannot be read: what a watchdog is must be known before it is opened, which starts it", path.display())]
    Untold {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// sysfs tells something else than a number or a word.
    #[error("{} says {said:?}, which is not understood", path.display())]
    Unclear {
        /// Which file.
        path: PathBuf,
        /// Its text.
        said: String,
    },
    /// The kernel's own timer.
    #[error(
        "{node} is {identity:?}, a software watchdog: it stops with the kernel it should reset, and proves nothing"
    )]
    Soft {
        /// Which.
        node: Node,
        /// What its driver calls it.
        identity: String,
    },
    /// It lacks something we rest on.
    #[error("{node} ({identity}) {lacks}")]
    Lacks {
        /// Which.
        node: Node,
        /// What its driver calls it.
        identity: String,
        /// What, and why it matters.
        lacks: &'static str,
    },
    /// No time-out that it takes is safe.
    #[error("{node} ({identity}) takes {least} to {most} s; {why}")]
    TooSlow {
        /// Which.
        node: Node,
        /// What its driver calls it.
        identity: String,
        /// Its shortest time-out, in seconds.
        least: u32,
        /// Its longest.
        most: u32,
        /// The rule, with all its figures.
        why: String,
    },
    /// It was asked for one time-out and took another.
    #[error(
        "{node} ({identity}) was set to {asked} s and says {got} s: {}",
        if got > asked { "a host could outlive the proof that it is off" }
        else { "too short for a daemon that is only started again, and its host would be reset" }
    )]
    TimeoutNotTaken {
        /// Which.
        node: Node,
        /// What its driver calls it.
        identity: String,
        /// Seconds asked for.
        asked: u32,
        /// Seconds told.
        got: u32,
    },
    /// It is another one than sysfs told of.
    #[error("{node} was {before:?} at the start, and is {now:?}")]
    Changed {
        /// Which.
        node: Node,
        /// By sysfs.
        before: String,
        /// By the device.
        now: String,
    },
    /// Somebody has it open.
    #[error(
        "{node} is held by another process: systemd (RuntimeWatchdogSec), watchdogd, wd_keepalive or sbd; \
         `rekindled --check` as root says which"
    )]
    Busy {
        /// Which.
        node: Node,
    },
    /// systemd feeds it, or will.
    #[error(
        "systemd's {setting} is {value}: it would feed {node} whether or not this host may live; \
         install rekindle-system.conf in /etc/systemd/system.conf.d and run `systemctl daemon-reexec`"
    )]
    Systemd {
        /// Which.
        node: Node,
        /// Which property of the manager.
        setting: String,
        /// Its value.
        value: String,
    },
    /// systemd runs here and does not say.
    #[error("systemd does not say whether it feeds {node} ({why})")]
    SystemdSilent {
        /// Which.
        node: Node,
        /// What was answered.
        why: String,
    },
    /// A call failed.
    #[error("{node}: cannot {what}: {why}")]
    Call {
        /// Which.
        node: Node,
        /// What.
        what: &'static str,
        /// The kernel's word.
        why: std::io::Error,
    },
}
