//! Reading a recording: what is damaged, of another format or of another version is refused, in words.

use super::{END, FRAME_BYTES_MAX, Head, MAGIC, Mark, RECORDING_FORMAT, SUM_BEGINS, TURN, sum};
use crate::io::Input;
use crate::policy::Setup;
use crate::time::Now;

/// Bytes before a frame's body: its length and its sum.
const FRAME_HEAD: usize = 12;

/// Why a recording cannot be written or gone through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// It does not begin like one.
    #[error("this is no recording of rekindled")]
    NoRecording,
    /// Its layout is another.
    #[error("the recording has format {found}; this version reads format {RECORDING_FORMAT}")]
    Format {
        /// Which.
        found: u32,
    },
    /// Another version decided, and may have decided otherwise.
    #[error("the recording is of rekindled {found}, and this is {}: replay it with the version that wrote it", env!("CARGO_PKG_VERSION"))]
    Version {
        /// Which.
        found: String,
    },
    /// It was altered, or a part of it is missing.
    #[error("the recording is damaged at byte {at}: {what}")]
    Damaged {
        /// How far it is whole.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// The setup cannot be encoded.
    #[error("the recording cannot begin: {0}")]
    Unwritable(String),
}

/// A recording that was opened: its head is whole.
#[derive(Debug)]
pub struct Recording<'a> {
    /// Who was recorded, with which thresholds and which seed.
    pub setup: Setup,
    /// When the process began.
    pub began: Now,
    frames: Frames<'a>,
}

/// What is left of a recording.
#[derive(Debug)]
struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    chain: u64,
}

/// One turn, as recorded.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Now,
    pub(super) input: Input,
    pub(super) marks: Vec<Mark>,
}

/// What comes next in a recording.
#[derive(Debug)]
pub(super) enum Next {
    Turn(Box<Turn>),
    /// The recorder ended it, for this reason.
    Ended(String),
    /// The file ends here, between two frames: the process was stopped.
    Stopped,
    /// The file ends within a frame: the process was killed while it wrote.
    CutOff,
}

impl<'a> Recording<'a> {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`RecordingError`] if it is none, of another format or version, or damaged at its beginning.
    pub fn open(bytes: &'a [u8]) -> Result<Self, RecordingError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(RecordingError::NoRecording)?;
        let (format, _) = rest.split_first_chunk::<4>().ok_or(RecordingError::NoRecording)?;
        let found = u32::from_le_bytes(*format);
        if found != RECORDING_FORMAT {
            return Err(RecordingError::Format { found });
        }
        let mut frames = Frames { bytes, at: MAGIC.len() + 4, chain: sum(SUM_BEGINS, MAGIC) };
        let at = frames.at;
        let headless = || RecordingError::Damaged { at, what: "its head is cut off".to_owned() };
        let found: String = decode(at, frames.next()?.ok_or_else(headless)?)?;
        if found != env!("CARGO_PKG_VERSION") {
            return Err(RecordingError::Version { found });
        }
        let Head { setup, began } = decode(frames.at, frames.next()?.ok_or_else(headless)?)?;
        if setup.listen.is_empty() {
            return Err(RecordingError::Damaged { at, what: "its setup listens nowhere".to_owned() });
        }
        Ok(Self { setup, began, frames })
    }

    pub(super) fn next_turn(&mut self) -> Result<Next, RecordingError> {
        let at = self.frames.at;
        if at == self.frames.bytes.len() {
            return Ok(Next::Stopped);
        }
        let Some(body) = self.frames.next()? else { return Ok(Next::CutOff) };
        match body.split_first() {
            Some((&TURN, turn)) => {
                let ((now, input), marks) = decode(at, turn)?;
                Ok(Next::Turn(Box::new(Turn { now, input, marks })))
            }
            Some((&END, why)) => Ok(Next::Ended(String::from_utf8_lossy(why).into_owned())),
            Some(_) | None => Err(RecordingError::Damaged { at, what: "a frame of no known kind".to_owned() }),
        }
    }
}

impl<'a> Frames<'a> {
    /// The next frame's body; `None`: the file ends before it does.
    fn next(&mut self) -> Result<Option<&'a [u8]>, RecordingError> {
        let damaged = |what: &str| RecordingError::Damaged { at: self.at, what: what.to_owned() };
        let rest = &self.bytes[self.at..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some((chain, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(damaged("a frame is longer than any can be"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let next = sum(self.chain, body);
        if next != u64::from_le_bytes(*chain) {
            return Err(damaged("a frame is not what was written, or one before it is missing"));
        }
        self.chain = next;
        self.at += FRAME_HEAD + length;
        Ok(Some(body))
    }
}

fn decode<'b, T: serde::Deserialize<'b>>(at: usize, body: &'b [u8]) -> Result<T, RecordingError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, _)) => Err(RecordingError::Damaged { at, what: "a frame holds more than it should".to_owned() }),
        Err(error) => Err(RecordingError::Damaged { at, what: format!("a frame cannot be decoded: {error}") }),
    }
}
