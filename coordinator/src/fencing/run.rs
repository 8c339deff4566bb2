//! One committed attempt to power a host off: orders, then readings, until each device has said *off* twice.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, PowerState, Text};

use super::proof::OffRead;
use crate::ledger::{FenceAttempt, OffReads, ProofRecord};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// Least time between the two off readings of a proof (I2), and the pace of polling.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// One attempt, as the leader that ordered it follows it.
#[derive(Debug)]
pub struct FenceRun {
    attempt: u32,
    level: u8,
    begun: Moment,
    deadline: Moment,
    devices: BTreeMap<DeviceName, DeviceRun>,
}

#[derive(Debug, Default)]
struct DeviceRun {
    /// The order has been given to the adapter.
    ordered: Option<Moment>,
    /// The device answered the order, one way or the other.
    answered: Option<Result<(), DeviceError>>,
    /// It said *on* before (or after) our order: then we have seen it going off.
    seen_on: bool,
    /// First and last of an unbroken run of off readings after the order.
    offs: Option<(OffRead, OffRead)>,
    /// A reading is under way.
    reading: bool,
    last_read: Option<Moment>,
    /// Its word is taken where nothing can be read of it (`unverified = "accept"`).
    is_accepted: bool,
    /// It has told its power since it answered: then its word alone is not taken.
    is_readable: bool,
    /// First and last of the readings, after it said that it did it, by which it showed that it has no status.
    vain: Option<(Moment, Moment)>,
    last_error: Option<DeviceError>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum RunStep {
    /// Order this device to power off: needs a permit.
    Order(DeviceName),
    /// Read this device's power.
    Read(DeviceName),
    /// Nothing before that moment.
    Wait(Moment),
    /// Every device said off twice.
    Proven(ProofRecord),
    /// No proof will come of this attempt.
    Failed(Text),
}

impl FenceRun {
    /// Begins to follow a committed attempt. `seen_on` says which devices read *on* just before.
    #[must_use]
    pub fn new(attempt: &FenceAttempt, begun: Moment, deadline: Moment, seen_on: impl Fn(&DeviceName) -> bool) -> Self {
        let device = |name: &DeviceName| (name.clone(), DeviceRun { seen_on: seen_on(name), ..DeviceRun::default() });
        let devices = attempt.devices.iter().map(device).collect();
        Self { attempt: attempt.attempt, level: attempt.level, begun, deadline, devices }
    }

    /// Says of which devices the operator takes the word, where nothing can be read of them (I2).
    #[must_use]
    pub fn accepting(mut self, accepts: impl Fn(&DeviceName) -> bool) -> Self {
        for (name, run) in &mut self.devices {
            run.is_accepted = accepts(name);
        }
        self
    }

    /// Which attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
    /// When it began.
    #[must_use]
    pub fn begun(&self) -> Moment {
        self.begun
    }
    /// When nothing of it is begun any more.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// The order was handed to the adapter.
    pub fn ordered(&mut self, device: &DeviceName, now: Moment) {
        if let Some(run) = self.devices.get_mut(device) {
            run.ordered = Some(now);
        }
    }

    /// The device answered the order.
    pub fn answered(&mut self, device: &DeviceName, result: Result<(), DeviceError>) {
        if let Some(run) = self.devices.get_mut(device) {
            if let Err(error) = &result {
                run.last_error = Some(error.clone());
            }
            if result == Err(DeviceError::TooLate) {
                // Certainly not sent: order again, with a fresh permit.
                run.ordered = None;
                return;
            }
            run.answered = Some(result);
        }
    }

    /// A reading was asked for.
    pub fn reading(&mut self, device: &DeviceName) {
        if let Some(run) = self.devices.get_mut(device) {
            run.reading = true;
        }
    }

    /// A reading came back. One that was begun before the order was answered does not count towards the proof.
    pub fn read(&mut self, device: &DeviceName, reading: &DeviceReading, finished: Moment) {
        let Some(run) = self.devices.get_mut(device) else { return };
        run.reading = false;
        run.last_read = Some(finished);
        match &reading.power {
            Ok(PowerState::On) => {
                run.seen_on = true;
                run.offs = None;
                run.last_error = None;
            }
            Ok(PowerState::Off) => {
                if let (Some(read), Some(_)) = (OffRead::of(reading, finished), &run.answered) {
                    run.offs = Some((run.offs.map_or(read, |(first, _)| first), read));
                }
                run.last_error = None;
            }
            // Silence proves nothing, and breaks nothing: the two off readings may lie around it.
            Err(error) => run.last_error = Some(error.clone()),
        }
        run.note_status(reading, finished);
    }

    /// Whether a device may never have had its order: it did not answer it.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        let silent = |run: &DeviceRun| matches!(run.answered, Some(Err(DeviceError::Silent(_))));
        self.devices.values().any(silent)
    }

    /// The last off reading of each device, to begin the lease with.
    #[must_use]
    pub fn last_offs(&self) -> BTreeMap<DeviceName, OffRead> {
        self.devices.iter().filter_map(|(name, run)| run.offs.map(|(_, last)| (name.clone(), last))).collect()
    }

    /// Whether every device has said *off* since its order, and none has taken it back.
    #[must_use]
    pub fn reads_off(&self) -> bool {
        let says_off = |run: &DeviceRun| run.offs.is_some() || run.is_vain(Duration::ZERO);
        !self.devices.is_empty() && self.devices.values().all(says_off)
    }

    /// What is to be done next.
    #[must_use]
    pub fn next_step(&self, now: Moment) -> RunStep {
        if self.devices.values().all(DeviceRun::is_proven) {
            return RunStep::Proven(self.record());
        }
        if now >= self.deadline {
            return RunStep::Failed(self.failure("still not read off twice"));
        }
        if self.devices.values().any(DeviceRun::is_hopeless) {
            return RunStep::Failed(self.failure("refused"));
        }
        let mut wait_until = self.deadline;
        for (name, run) in &self.devices {
            if run.ordered.is_none() {
                return RunStep::Order(name.clone());
            }
            if run.answered.is_none() || run.reading {
                continue;
            }
            let due = run.last_read.map_or(now, |last| last + POLL_EVERY);
            // A device that is proven is read on until all are: it may be switched on again meanwhile.
            if due <= now {
                return RunStep::Read(name.clone());
            }
            wait_until = wait_until.min(due);
        }
        RunStep::Wait(wait_until)
    }

    fn record(&self) -> ProofRecord {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let reads = |(name, run): (&DeviceName, &DeviceRun)| {
            if let (Some((first, last)), true) = (run.vain, run.is_vain(POLL_EVERY)) {
                return Some(OffReads {
                    device: name.clone(),
                    seen_going_off: false,
                    apart_ms: millis(last.since(first)),
                    after_ms: run.ordered.map_or(0, |ordered| millis(first.since(ordered))),
                    unverified: true,
                });
            }
            let offs = if keeps(Guard::Proof) { run.offs } else { run.offs.or(Some((OffRead::NONE, OffRead::NONE))) };
            offs.map(|(first, last)| OffReads {
                device: name.clone(),
                seen_going_off: run.seen_on,
                apart_ms: millis(last.at().since(first.at())),
                after_ms: run.ordered.map_or(0, |ordered| millis(first.at().since(ordered))),
                unverified: false,
            })
        };
        ProofRecord { level: self.level, devices: self.devices.iter().filter_map(reads).collect() }
    }

    fn failure(&self, what: &str) -> Text {
        let device = |(name, run): (&DeviceName, &DeviceRun)| match (&run.last_error, run.offs, run.seen_on) {
            (Some(error), _, _) => format!("{name} {error}"),
            (None, Some(_), _) => format!("{name} reads off"),
            (None, None, true) => format!("{name} still reads on after our off order"),
            (None, None, false) => format!("{name} gave no reading"),
        };
        let devices: Vec<String> = self.devices.iter().map(device).collect();
        Text::new(format!("{what}: {}", devices.join("; ")))
    }
}

impl DeviceRun {
    /// What a reading says of whether it has a status at all. Silence says nothing of that either.
    fn note_status(&mut self, reading: &DeviceReading, finished: Moment) {
        match &reading.power {
            Ok(_) => (self.is_readable, self.vain) = (true, None),
            Err(DeviceError::Unusable(_)) if self.answered == Some(Ok(())) => {
                self.vain = Some((self.vain.map_or(finished, |(first, _)| first), finished));
            }
            Err(_) => {}
        }
    }

    /// Whether its word is taken: it said that it did it, and twice, so far apart, that it cannot tell.
    fn is_vain(&self, apart: Duration) -> bool {
        let said = self.is_accepted && !self.is_readable && self.answered == Some(Ok(()));
        said && self.vain.is_some_and(|(first, last)| last.since(first) >= apart)
    }

    fn is_proven(&self) -> bool {
        let apart = if keeps(Guard::TwoReads) { POLL_EVERY } else { Duration::ZERO };
        let is_read = self.offs.is_some_and(|(first, last)| last.at().since(first.at()) >= apart);
        self.answered.is_some() && (is_read || self.is_vain(POLL_EVERY) || !keeps(Guard::Proof))
    }

    /// The device refuses us: reading on would only lock the account.
    fn is_hopeless(&self) -> bool {
        let refused = |error: &DeviceError| matches!(error, DeviceError::Credentials(_));
        self.last_error.as_ref().is_some_and(refused)
            && self.answered.as_ref().is_some_and(|answer| answer.as_ref().is_err_and(refused))
            && self.last_read.is_some()
    }
}

#[cfg(test)]
mod tests;
