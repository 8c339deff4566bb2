//! What a daemon was told, recorded as a real one would.

use rekindle_coordinator::recording::Recorder;

use super::*;

/// A recording in memory.
#[derive(Debug)]
pub(super) struct Tape {
    recorder: Recorder,
    bytes: Vec<u8>,
}

impl Tape {
    pub(super) fn begin(setup: &Setup, now: Now) -> Option<Self> {
        Recorder::begin(setup, now).ok().map(|(recorder, bytes)| Self { recorder, bytes })
    }

    pub(super) fn input(&mut self, now: Now, input: &Input) {
        self.recorder.input(now, input);
    }

    pub(super) fn output(&mut self, output: &Output) {
        self.recorder.output(output);
    }

    pub(super) fn end_turn(&mut self) {
        self.bytes.extend(self.recorder.end_turn().unwrap_or_default());
    }
}

impl World {
    /// The recording of a host's present daemon, or of its last one; `None`: nothing is recorded in this world.
    #[must_use]
    pub fn recording(&self, host: &HostName) -> Option<&[u8]> {
        self.host(host)?.tape.as_ref().map(|tape| tape.bytes.as_slice())
    }
}
