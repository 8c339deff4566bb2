//! A driver as a subprocess: bounded in time and in what it may say, and gone, with all its children, when we say so.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rekindle_proto::fact::{DeviceError, Text};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Most of each output stream that is kept. The answers we understand are under 100 bytes.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;

/// How long a killed driver is waited for: SIGKILL is immediate but for a process in the kernel's hands.
pub(super) const KILL_GRACE: Duration = Duration::from_millis(500);

/// What a driver said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What a program gets from us.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// On its standard input. Whether it reads it is its own matter.
    pub(crate) input: Vec<u8>,
    /// Its `PATH`; empty: none.
    pub(crate) path: &'static str,
}

/// A driver that is running. Dropping it kills the whole group.
struct Running {
    child: Child,
    group: Option<Pid>,
}

/// Runs a program with no input, no environment but the C locale, in a process group of its own.
pub(super) async fn run(program: &Path, arguments: &[String], within: Duration) -> Result<Output, DeviceError> {
    run_fed(program, arguments, Feed::default(), within).await
}

/// The same with something on its standard input.
pub(crate) async fn run_fed(
    program: &Path,
    arguments: &[String],
    feed: Feed,
    within: Duration,
) -> Result<Output, DeviceError> {
    let unusable = |error: io::Error| DeviceError::Unusable(Text::new(format!("{}: {error}", program.display())));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(if feed.input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if !feed.path.is_empty() {
        command.env("PATH", feed.path);
    }
    let child = command.spawn().map_err(unusable)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut running = Running { child, group };
    if let Ok(output) = timeout(within, running.output(feed.input)).await {
        return output.map_err(unusable);
    }
    running.kill();
    // Reaped here if it can be at once, else by the runtime.
    let _ = timeout(KILL_GRACE, running.child.wait()).await;
    Err(DeviceError::Silent(Text::new(format!(
        "no answer within {:.1} s; the driver was killed",
        within.as_secs_f32()
    ))))
}

impl Running {
    async fn output(&mut self, input: Vec<u8>) -> io::Result<Output> {
        let stdin = self.child.stdin.take();
        let fed = async {
            if let Some(mut stdin) = stdin {
                // One that does not read is not made to.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let ((), stdout, stderr) = tokio::join!(fed, bounded(stdout), bounded(stderr));
        let status = self.child.wait().await?;
        // Reaped: its number may soon be another's.
        self.group = None;
        Ok(Output { status, stdout: stdout?, stderr: stderr? })
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // Fails only if nobody is left in the group.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads to the end, keeping the beginning: a driver that talks too much is not blocked, and not believed.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(String::from_utf8_lossy(&kept).into_owned()),
            n => kept.extend_from_slice(&chunk[..n.min(OUTPUT_BYTES_MAX.saturating_sub(kept.len()))]),
        }
    }
}
