//! Daemon processes: started, stopped, killed, by their own process id.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::dispatch::{BOOT_VARIABLE, DAEMON, PARENT_VARIABLE, THIS_EXECUTABLE};

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// One thread that starts every process and lives as long as the cluster: the kernel kills a child whose *starting
/// thread* ends (`prctl(2)`, `PR_SET_PDEATHSIG`), and threads of a runtime's pool come and go.
#[derive(Debug)]
pub(super) struct Starter {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Starter {
    pub(super) fn new() -> io::Result<Self> {
        let (orders, received) = mpsc::channel::<Order>();
        let thread = std::thread::Builder::new().name("starter".to_owned()).spawn(move || {
            for (mut command, answer) in received {
                // Nobody waits any more: the child is killed when this thread ends.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    fn start(&self, command: Command) -> io::Result<Child> {
        let ended = || io::Error::other("the starting thread has ended");
        let (answer, received) = mpsc::sync_channel(1);
        self.orders.as_ref().ok_or_else(ended)?.send((command, answer)).map_err(|_| ended())?;
        received.recv().map_err(|_| ended())?
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.orders.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the starting thread panicked");
        }
    }
}

/// One running (or stopped) `rekindled`. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it with this configuration, and in the boot of that file if there is one; what it writes is added to `log`.
    pub(super) fn start(
        starter: &Starter,
        name: &str,
        (config, boot): (&Path, Option<&Path>),
        log: &Path,
    ) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(THIS_EXECUTABLE);
        command
            .arg0(format!("{DAEMON} {name}"))
            .arg(DAEMON)
            .arg("--config")
            .arg(config)
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal goes to a whole process group; it is for the harness to end its daemons.
            .process_group(0);
        if let Some(boot) = boot {
            command.env(BOOT_VARIABLE, boot);
        }
        Ok(Self { child: starter.start(command)? })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Sends a signal; an error if it has ended.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if let Some(status) = self.ended() {
            return Err(io::Error::other(format!("it has ended: {}", told(status))));
        }
        // Not reaped yet, so the number is still its own.
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(%error, pid = self.pid(), "a daemon could not be killed");
        }
    }
}

/// An exit status in words.
pub(super) fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.to_string());
            format!("killed by {name}")
        }
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &PathBuf, lines: usize) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", log.display()),
    }
}
