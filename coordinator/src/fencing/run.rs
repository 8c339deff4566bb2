//! One committed attempt to power a host off: orders, then readings, until each device has said *off* twice.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, OrderError, PowerState, Text};

use super::given::{Due, Given};
use super::identity::DeviceIdentity;
use super::proof::{OffRead, ReadSpan};
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
    /// Whose it must say that it is.
    identity: DeviceIdentity,
    /// The order to it.
    given: Given,
    /// Why an order was not sent, until one may have left.
    unsent: Option<OrderError>,
    /// The last that it told of its power was *on*.
    reads_on: bool,
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
    /// End of the first and beginning of the last of the readings, after it said that it did it, by which it showed that it has
    /// no status.
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

    /// Says whose each of them must say that it is: for the whole attempt, whatever is read of it meanwhile.
    #[must_use]
    pub fn held_to(mut self, whose: impl Fn(&DeviceName) -> DeviceIdentity) -> Self {
        for (name, run) in &mut self.devices {
            run.identity = whose(name);
        }
        self
    }

    /// Whose a device must say that it is, when it is ordered and read.
    #[must_use]
    pub fn identity(&self, device: &DeviceName) -> DeviceIdentity {
        self.devices.get(device).map(|run| run.identity).unwrap_or_default()
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
            run.given.give(now);
        }
    }

    /// The device answered the order, or it was not sent: then it is given again, with a fresh permit, and nothing that was
    /// read before that counts.
    pub fn answered(&mut self, device: &DeviceName, result: Result<(), OrderError>) {
        if let Some(run) = self.devices.get_mut(device) {
            run.unsent = result.as_ref().err().filter(|error| error.is_unsent()).cloned();
            if let Err(OrderError::MaybeSent(error)) = &result {
                run.last_error = Some(error.clone());
            }
            run.given.answered(result);
        }
    }

    /// A reading was asked for.
    pub fn reading(&mut self, device: &DeviceName) {
        if let Some(run) = self.devices.get_mut(device) {
            run.reading = true;
        }
    }

    /// A reading came back. One that was begun before the order was answered does not count towards the proof.
    pub fn read(&mut self, device: &DeviceName, reading: &DeviceReading, span: impl Into<ReadSpan>) {
        let (Some(run), span) = (self.devices.get_mut(device), span.into()) else { return };
        run.reading = false;
        run.last_read = Some(span.finished);
        run.reads_on = reading.power == Ok(PowerState::On) || (run.reads_on && reading.power.is_err());
        match &reading.power {
            Ok(PowerState::On) => {
                run.seen_on = true;
                run.offs = None;
                run.last_error = None;
            }
            Ok(PowerState::Off) => {
                if let (Some(read), Some(_)) = (OffRead::of(reading, span), run.given.answer()) {
                    run.offs = Some((run.offs.map_or(read, |(first, _)| first), read));
                }
                // Whoever switched it off, it was not our order.
                run.seen_on &= run.given.may_have_left();
                run.last_error = None;
            }
            // The device has become another machine's: what was read of it before may have been, too.
            Err(error @ DeviceError::Foreign(_)) => (run.offs, run.last_error) = (None, Some(error.clone())),
            // Silence proves nothing, and breaks nothing: the two off readings may lie around it.
            Err(error) => run.last_error = Some(error.clone()),
        }
        run.note_status(reading, span);
    }

    /// Whether a device may never have had its order: it did not answer it.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        let silent = |run: &DeviceRun| {
            let unsent = run.unsent.as_ref().and_then(OrderError::told);
            let answer = run.given.answer().and_then(|answer| answer.as_ref().err());
            matches!(unsent.or(answer), Some(DeviceError::Silent(_)))
        };
        self.devices.values().any(silent)
    }

    /// Whether it is only that whoever executes this does not reach a device: one was silent, and none refuses us, is another
    /// machine's, or says that it is on although it has its order.
    #[must_use]
    pub fn is_unreached(&self) -> bool {
        let silent = |run: &DeviceRun| matches!(run.trouble(), Some(DeviceError::Silent(_)));
        let vetoes = |run: &DeviceRun| {
            let is_barred = matches!(run.trouble(), Some(DeviceError::Credentials(_) | DeviceError::Foreign(_)));
            is_barred || (run.reads_on && run.given.may_have_left())
        };
        self.devices.values().any(silent) && !self.devices.values().any(vetoes)
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
        if self.devices.values().any(DeviceRun::is_foreign) {
            return RunStep::Failed(self.failure("not this host's device"));
        }
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
            if run.reading {
                continue;
            }
            let due = match (run.given.due(), run.given.answer()) {
                (Due::Now, _) => return RunStep::Order(name.clone()),
                // Read first: that opens the session for which an order's permit may be too short.
                (Due::At(again), _) if run.last_read.is_some_and(|last| last >= again) => {
                    return RunStep::Order(name.clone());
                }
                (Due::At(again), _) => again,
                (Due::Never, None) => continue,
                (Due::Never, Some(_)) => run.last_read.map_or(now, |last| last + POLL_EVERY),
            };
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
                    after_ms: run.given.sent().map_or(0, |ordered| millis(first.since(ordered))),
                    unverified: true,
                });
            }
            let offs = if keeps(Guard::Proof) { run.offs } else { run.offs.or(Some((OffRead::NONE, OffRead::NONE))) };
            offs.map(|(first, last)| OffReads {
                device: name.clone(),
                seen_going_off: run.seen_on,
                apart_ms: millis(last.after(first)),
                after_ms: run.given.sent().map_or(0, |ordered| millis(first.at().since(ordered))),
                unverified: false,
            })
        };
        ProofRecord { level: self.level, devices: self.devices.iter().filter_map(reads).collect() }
    }

    fn failure(&self, what: &str) -> Text {
        let device = |(name, run): (&DeviceName, &DeviceRun)| {
            let error = run.unsent.as_ref().map(ToString::to_string);
            match (error.or(run.last_error.as_ref().map(ToString::to_string)), run.offs, run.seen_on) {
                (Some(error), _, _) => format!("{name} {error}"),
                (None, Some(_), _) => format!("{name} reads off"),
                (None, None, _) if !run.given.may_have_left() => format!("{name} was not ordered"),
                (None, None, true) => format!("{name} still reads on after our off order"),
                (None, None, false) => format!("{name} gave no reading"),
            }
        };
        let devices: Vec<String> = self.devices.iter().map(device).collect();
        Text::new(format!("{what}: {}", devices.join("; ")))
    }
}

impl DeviceRun {
    /// What a reading says of whether it has a status at all. Silence says nothing of that either.
    fn note_status(&mut self, reading: &DeviceReading, span: ReadSpan) {
        match &reading.power {
            Ok(_) => (self.is_readable, self.vain) = (true, None),
            Err(DeviceError::Unusable(_)) if self.has_done_it() => {
                self.vain = Some((self.vain.map_or(span.finished, |(first, _)| first), span.asked));
            }
            Err(_) => {}
        }
    }

    /// Whether its word is taken: it said that it did it, and twice, so far apart, that it cannot tell.
    fn is_vain(&self, apart: Duration) -> bool {
        let said = self.is_accepted && !self.is_readable && self.has_done_it();
        said && self.vain.is_some_and(|(first, last)| last.since(first) >= apart)
    }

    /// By its own word.
    fn has_done_it(&self) -> bool {
        self.given.answer() == Some(&Ok(()))
    }

    fn is_proven(&self) -> bool {
        let apart = if keeps(Guard::TwoReads) { POLL_EVERY } else { Duration::ZERO };
        let is_read = self.offs.is_some_and(|(first, last)| last.after(first) >= apart || apart.is_zero());
        self.given.answer().is_some() && (is_read || self.is_vain(POLL_EVERY) || !keeps(Guard::Proof))
    }

    /// What it said last instead of doing, or telling, what it was asked for.
    fn trouble(&self) -> Option<&DeviceError> {
        let unsent = self.unsent.as_ref().and_then(OrderError::told);
        unsent.or(self.last_error.as_ref())
    }

    /// It said that it is another machine's.
    fn is_foreign(&self) -> bool {
        matches!(self.trouble(), Some(DeviceError::Foreign(_)))
    }

    /// The device refuses us: to go on would only lock the account.
    fn is_hopeless(&self) -> bool {
        let refused = |error: &DeviceError| matches!(error, DeviceError::Credentials(_));
        let is_refused = self.given.answer().is_some_and(|answer| answer.as_ref().is_err_and(refused));
        // A driver that cannot tell whether it sent the order may have been refused only after it: one reading more.
        self.given.is_refused()
            || (is_refused && self.last_read.is_some() && self.last_error.as_ref().is_some_and(refused))
    }
}

#[cfg(test)]
mod tests;
