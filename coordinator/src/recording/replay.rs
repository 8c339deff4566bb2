//! Going through a recording again, and comparing.

use rekindle_proto::id::IncidentId;
use rekindle_proto::status::IncidentDoc;

use super::Mark;
use super::file::{Next, Recording, RecordingError};
use crate::coordinator::Coordinator;
use crate::time::Now;
use crate::view;

/// What a replay has shown.
#[derive(Debug)]
pub struct Replay {
    /// Inputs gone through.
    pub inputs: u64,
    /// Outputs compared.
    pub outputs: u64,
    /// The time of the last input.
    pub until: Now,
    /// Why the recording ends there, if not because the process was stopped.
    pub ends: Option<String>,
    /// The first output that was not the same; nothing after it was gone through.
    pub difference: Option<Box<Difference>>,
    coordinator: Coordinator,
}

/// The first output that was not as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The number of the input, from 1.
    pub input: u64,
    /// When.
    pub at: Now,
    /// The input, in short.
    pub what: String,
    /// The number of the output among that input's, from 1.
    pub output: usize,
    /// What was recorded, in short; `None`: nothing more came out.
    pub recorded: Option<String>,
    /// What comes out now, in short; `None`: nothing more comes out.
    pub replayed: Option<String>,
}

/// Of an input this many characters are shown.
const WHAT_CHARS_MAX: usize = 300;

impl Recording<'_> {
    /// Tells a fresh member with the recorded setup everything once more, until the end or the first difference.
    ///
    /// # Errors
    /// [`RecordingError::Damaged`] where the recording is.
    pub fn replay(mut self) -> Result<Replay, RecordingError> {
        let coordinator = Coordinator::new(self.setup.clone(), self.began);
        let mut replay = Replay { inputs: 0, outputs: 0, until: self.began, ends: None, difference: None, coordinator };
        while replay.difference.is_none() {
            let turn = match self.next_turn()? {
                Next::Turn(turn) => turn,
                Next::Stopped => break,
                Next::Ended(why) => {
                    replay.ends = Some(why);
                    break;
                }
                Next::CutOff => {
                    replay.ends = Some("its last frame is cut off: the daemon was killed while it wrote".to_owned());
                    break;
                }
            };
            replay.inputs += 1;
            replay.until = turn.now;
            let what: String = format!("{:?}", turn.input).chars().take(WHAT_CHARS_MAX).collect();
            replay.coordinator.handle(turn.now, turn.input);
            replay.compare(turn.now, what, &turn.marks);
        }
        Ok(replay)
    }
}

impl Replay {
    /// The story of an incident, as it stands at the end of the replay. `None`: there was none of that number, or it was
    /// forgotten for newer ones.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<IncidentDoc> {
        view::story(self.coordinator.ledger(), id)
    }

    /// The numbers of all incidents at the end of the replay.
    #[must_use]
    pub fn incidents(&self) -> Vec<IncidentId> {
        let ledger = self.coordinator.ledger();
        let mut all: Vec<IncidentId> = ledger.incidents.keys().copied().collect();
        all.extend(ledger.guest_incidents.keys());
        all.extend(ledger.reboots.keys());
        all.extend(ledger.processes.keys());
        all.sort_unstable();
        all
    }

    fn compare(&mut self, now: Now, what: String, recorded: &[Mark]) {
        let mut count = 0;
        let (recorded_one, replayed_one) = loop {
            let replayed = self.coordinator.poll_output().map(|output| Mark::of(&output));
            let expected = recorded.get(count);
            if replayed.as_ref() != expected {
                break (expected.cloned(), replayed);
            }
            if replayed.is_none() {
                return;
            }
            count += 1;
            self.outputs += 1;
        };
        let gist = |mark: Option<Mark>| mark.map(|mark| mark.gist);
        self.difference = Some(Box::new(Difference {
            input: self.inputs,
            at: now,
            what,
            output: count + 1,
            recorded: gist(recorded_one),
            replayed: gist(replayed_one),
        }));
    }
}
