//! What one member was told, kept so that it can be told again: the same inputs, at the same times, to a member with the
//! same setup, give the same outputs. Whoever doubts a decision can go through it once more, step by step, on any machine.
//!
//! A recording begins where a process begins, because a coordinator's whole state follows from its setup and its inputs,
//! and from nothing else. It holds no secret: passwords of fence devices and of Nova never reach the coordinator.
//!
//! ```text
//!  "rekindle recording\n"  format (u32)  then frames: length (u32)  sum (u64)  body
//!  frame 0: the version that wrote it   frame 1: setup and start   then one a turn: time, input, a mark of each output
//! ```
//!
//! Each frame's sum goes on from the sum before it, so that a frame that is altered, missing or doubled is noticed.

mod file;
mod replay;

use std::fmt::{self, Write as _};

use rekindle_proto::admin::{AdminRequest, SignedOrder};
use rekindle_proto::id::{BootId, HostName, IncidentId};
use serde::{Deserialize, Serialize};

use crate::io::{Input, Output};
use crate::policy::Setup;
use crate::time::Now;

pub use file::{Recording, RecordingError};
pub use replay::{Difference, Replay};

/// The layout. A change of [`Input`] or [`Setup`] needs no new one: only recordings of the very same version are read.
pub const RECORDING_FORMAT: u32 = 1;

/// Largest recording, in bytes. A member of five hosts writes 1 kB a second and comes three days far, in a
/// large cluster it is hours; on a disk that also holds the ledger, more would be a danger of its own.
pub const RECORDING_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Largest frame, in bytes: the restored ledger of 2,000 hosts with full stories has a tenth of it.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Of each output this many bytes of its description are kept, to name it in a difference; the mark is over all of it.
const GIST_BYTES_MAX: usize = 120;

/// How a file begins.
const MAGIC: &[u8] = b"rekindle recording\n";

/// The first byte of a frame's body, after the head.
const TURN: u8 = 0;
const END: u8 = 1;

/// Makes the frames of a recording. Pure: whoever has it writes them down, in order.
#[derive(Debug)]
pub struct Recorder {
    chain: u64,
    bytes: u64,
    turn: Option<(Vec<u8>, Vec<Mark>)>,
    ended: bool,
}

/// One output, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Over its whole description.
    sum: u64,
    /// The beginning of its description.
    gist: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    setup: Setup,
    began: Now,
}

impl Recorder {
    /// Begins a recording with the process: `setup` and `began` are those given to [`crate::Coordinator::new`]. Gives back
    /// the first bytes.
    ///
    /// # Errors
    /// [`RecordingError::Unwritable`] if the setup cannot be encoded.
    pub fn begin(setup: &Setup, began: Now) -> Result<(Self, Vec<u8>), RecordingError> {
        let mut bytes = [MAGIC, &RECORDING_FORMAT.to_le_bytes()].concat();
        let mut recorder = Self { chain: sum(SUM_BEGINS, MAGIC), bytes: 0, turn: None, ended: false };
        let head = Head { setup: setup.clone(), began };
        for body in [postcard::to_stdvec(env!("CARGO_PKG_VERSION")), postcard::to_stdvec(&head)] {
            bytes.extend(recorder.frame(&body.map_err(|error| RecordingError::Unwritable(error.to_string()))?));
        }
        recorder.bytes = bytes.len() as u64;
        Ok((recorder, bytes))
    }

    /// A turn begins: this is about to be handled.
    pub fn input(&mut self, now: Now, input: &Input) {
        if self.ended {
            return;
        }
        let encoded = postcard::to_extend(&(now, input), vec![TURN]);
        self.turn = encoded.ok().map(|bytes| (bytes, Vec::new()));
    }

    /// This came out of it.
    pub fn output(&mut self, output: &Output) {
        if let Some((_, marks)) = &mut self.turn {
            marks.push(Mark::of(output));
        }
    }

    /// The turn is over: its frame, to be written. `None`: the recording has ended. When it is full, the last frame says so.
    pub fn end_turn(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let body = self.turn.take().and_then(|(bytes, marks)| postcard::to_extend(&marks, bytes).ok());
        let why = match body {
            None => "a turn could not be encoded",
            Some(body) if body.len() > FRAME_BYTES_MAX => "a turn was too large",
            Some(body) if self.bytes + body.len() as u64 > RECORDING_BYTES_MAX => "it was full",
            Some(body) => {
                let frame = self.frame(&body);
                self.bytes += frame.len() as u64;
                return Some(frame);
            }
        };
        self.ended = true;
        let mut body = vec![END];
        body.extend(why.as_bytes());
        Some(self.frame(&body))
    }

    /// Whether nothing more is recorded. Once it has ended, only a restart of the process begins a new one.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn frame(&mut self, body: &[u8]) -> Vec<u8> {
        self.chain = sum(self.chain, body);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&length.to_le_bytes()[..], &self.chain.to_le_bytes()[..], body].concat()
    }
}

impl Mark {
    fn of(output: &Output) -> Self {
        let mut sink = Sink { sum: SUM_BEGINS, gist: String::new() };
        // A sink refuses nothing.
        let _ = write!(sink, "{output:?}");
        // Packets are most of what goes out, and one looks like the other.
        if matches!(output, Output::Datagram { .. }) {
            sink.gist.truncate("Datagram".len());
        }
        Self { sum: sink.sum, gist: sink.gist }
    }
}

/// Takes a description without keeping it: a packet's would be five times the packet.
struct Sink {
    sum: u64,
    gist: String,
}

impl fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.sum = sum(self.sum, text.as_bytes());
        let left = GIST_BYTES_MAX.saturating_sub(self.gist.len());
        let end = (0..=left.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.gist.push_str(&text[..end]);
        Ok(())
    }
}

/// FNV-1a, 64 bits: against accidents, not against forgers. <http://www.isthe.com/chongo/tech/comp/fnv/>
const SUM_BEGINS: u64 = 0xcbf2_9ce4_8422_2325;

fn sum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// [`AdminRequest`] for a recording: its own shape is made for JSON, and says its kind in a field, which postcard cannot read.
#[derive(Serialize, Deserialize)]
#[serde(remote = "AdminRequest")]
pub(crate) enum RecordedRequest {
    Status,
    Members,
    Incidents,
    Incident { id: IncidentId },
    Why { host: HostName },
    FenceTest { host: Option<HostName> },
    Submit { order: SignedOrder },
    Gate { host: Option<HostName>, boot: Option<BootId> },
    Brakes,
    Voters,
    Capacity { lose: u8, host: Option<HostName> },
    Segments,
}
