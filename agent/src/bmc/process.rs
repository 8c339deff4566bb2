//! A driver as a subprocess: bounded in time and in what it may say, and gone, with all its children, when we say so.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rekindle_proto::fact::{DeviceError, Text};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// All that is left of our environment where a program must find others: nothing else of ours is its business.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most of each output stream that is kept. The answers we understand are under 100 bytes.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;

/// Most processes of one driver that are looked for when it is killed. A fence agent has one or two.
const DESCENDANTS_MAX: usize = 256;

/// Where a program is looked for besides our own PATH: a service's may be short.
const USUAL_PLACES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// How long a killed driver is waited for: SIGKILL is immediate but for a process in the kernel's hands.
pub(super) const KILL_GRACE: Duration = Duration::from_millis(500);

/// What a driver said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// It said more than was kept.
    pub(crate) cut: bool,
}

/// What a program gets from us.
pub(crate) struct Feed {
    /// On its standard input, perhaps with secrets. Whether it reads it is its own matter.
    pub(crate) input: Zeroizing<Vec<u8>>,
    /// Its `PATH`; empty: none.
    pub(crate) path: &'static str,
    /// Most bytes of each output stream that are kept.
    pub(crate) keep: usize,
}

impl Default for Feed {
    fn default() -> Self {
        Self { input: Zeroizing::default(), path: "", keep: OUTPUT_BYTES_MAX }
    }
}

/// A driver that is running. Dropping it kills the whole group, and whatever left the group and still descends from it.
struct Running {
    child: Child,
    group: Option<Pid>,
    keep: usize,
}

/// Where a program is that goes by this name.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(USUAL_PLACES.iter().map(PathBuf::from));
    places
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
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
    let mut running = Running { child, group, keep: feed.keep };
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
    async fn output(&mut self, input: Zeroizing<Vec<u8>>) -> io::Result<Output> {
        let stdin = self.child.stdin.take();
        let fed = async {
            if let Some(mut stdin) = stdin {
                // One that does not read is not made to.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let ((), stdout, stderr) = tokio::join!(fed, bounded(stdout, self.keep), bounded(stderr, self.keep));
        let status = self.child.wait().await?;
        // Reaped: its number may soon be another's.
        self.group = None;
        let ((stdout, much), (stderr, more)) = (stdout?, stderr?);
        Ok(Output { status, stdout, stderr, cut: much || more })
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // What gave itself a group of its own (a terminal's session, as pexpect makes one for ssh) is found by descent.
            for process in descendants(group) {
                let _ = kill(process, Signal::SIGKILL);
            }
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

/// A process that we have not reaped, and everything below it, each stopped so that it starts nothing more meanwhile. What
/// made itself a daemon descends from it no longer.
fn descendants(root: Pid) -> BTreeSet<Pid> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for process in found.clone() {
            let _ = kill(process, Signal::SIGSTOP);
            found.extend(children(process));
        }
        if found.len() == before || found.len() > DESCENDANTS_MAX {
            return found;
        }
    }
}

/// The children of each of its threads (proc(5); empty where the kernel does not tell).
fn children(process: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|id| id.parse().ok()).map(Pid::from_raw).collect::<Vec<_>>()
        })
        .collect()
}

/// Reads to the end, keeping the beginning: a driver that talks too much is not blocked, and not believed.
async fn bounded(stream: Option<impl AsyncRead + Unpin>, keep: usize) -> io::Result<(String, bool)> {
    let Some(mut stream) = stream else { return Ok((String::new(), false)) };
    let (mut kept, mut cut) = (Vec::new(), false);
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok((String::from_utf8_lossy(&kept).into_owned(), cut)),
            n => {
                let fits = n.min(keep.saturating_sub(kept.len()));
                cut |= fits < n;
                kept.extend_from_slice(&chunk[..fits]);
            }
        }
    }
}
