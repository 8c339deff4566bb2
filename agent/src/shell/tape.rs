//! The recording of this daemon, if the configuration asks for one: what goes in and what comes out, on disk.
//!
//! The loop must not wait for a disk: frames go to a thread of their own. If the disk cannot keep up, the recording ends,
//! and the log says so; what was written until then can be replayed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use rekindle_coordinator::io::{Input, Output};
use rekindle_coordinator::policy::Setup;
use rekindle_coordinator::recording::Recorder;
use rekindle_coordinator::time::Now;

/// The recording of the running daemon, in the state directory.
pub(super) const RECORDING: &str = "recording";

/// That of the daemon before: a crash is what one wants to replay, and the restart must not erase it.
const PREVIOUS: &str = "recording.previous";

/// Frames that may wait for the disk: several seconds of a busy leader.
const FRAMES_MAX: usize = 8_192;

#[derive(Debug)]
pub(super) struct Tape {
    recorder: Recorder,
    /// `None`: the recording has ended.
    frames: Option<SyncSender<Vec<u8>>>,
}

impl Tape {
    /// Begins a recording. What cannot be recorded is said, and no reason not to protect the host.
    pub(super) fn begin(state_dir: &Path, setup: &Setup, now: Now) -> Option<Self> {
        let begun = Recorder::begin(setup, now).map_err(io::Error::other).and_then(|(recorder, head)| {
            let file = create(state_dir)?;
            let (frames, waiting) = sync_channel(FRAMES_MAX);
            std::thread::Builder::new().name("recording".to_owned()).spawn(move || write(file, &waiting))?;
            let mut tape = Self { recorder, frames: Some(frames) };
            tape.give(head);
            Ok(tape)
        });
        begun.inspect_err(|error| tracing::error!(%error, "nothing is recorded: the file cannot be written")).ok()
    }

    pub(super) fn input(&mut self, now: Now, input: &Input) {
        if self.frames.is_some() {
            self.recorder.input(now, input);
        }
    }

    pub(super) fn output(&mut self, output: &Output) {
        if self.frames.is_some() {
            self.recorder.output(output);
        }
    }

    pub(super) fn end_turn(&mut self) {
        if self.frames.is_none() {
            return;
        }
        if let Some(frame) = self.recorder.end_turn() {
            self.give(frame);
        }
        if self.recorder.has_ended() {
            tracing::error!(
                "the recording is full: what happens from now on cannot be replayed; a restart begins a new one"
            );
            self.frames = None;
        }
    }

    fn give(&mut self, frame: Vec<u8>) {
        let taken = self.frames.as_ref().is_some_and(|frames| frames.try_send(frame).is_ok());
        if !taken {
            // A frame that is left out would make all that follows worthless.
            tracing::error!(
                "the recording ends: its disk does not keep up; what happens from now on cannot be replayed"
            );
            self.frames = None;
        }
    }
}

fn create(state_dir: &Path) -> io::Result<File> {
    let path = state_dir.join(RECORDING);
    match fs::rename(&path, state_dir.join(PREVIOUS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // It tells names, addresses and guests: as private as the ledger beside it.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes until the daemon stops. Whenever nothing waits, all of it is given to the kernel: a killed daemon loses little.
fn write(file: File, waiting: &Receiver<Vec<u8>>) {
    let mut file = BufWriter::new(file);
    let mut written = Ok(());
    while written.is_ok() {
        let frame = match waiting.try_recv() {
            Ok(frame) => Some(frame),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                written = file.flush();
                waiting.recv().ok()
            }
        };
        let Some(frame) = frame else { break };
        written = written.and_then(|()| file.write_all(&frame));
    }
    if let Err(error) = written.and_then(|()| file.flush()) {
        tracing::error!(%error, "the recording ends: it cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_recording_of_the_daemon_before_is_kept_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        for text in ["first", "second"] {
            let mut file = create(dir.path()).expect("created");
            file.write_all(text.as_bytes()).expect("written");
            assert_eq!(file.metadata().expect("its mode").permissions().mode() & 0o777, 0o600);
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("there");
        assert_eq!((read(PREVIOUS).as_str(), read(RECORDING).as_str()), ("first", "second"));
    }
}
