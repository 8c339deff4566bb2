//! The proof as a lease: renewed by reading, voided by an *on* or by the host's own voice (I2).

use std::time::Duration;

use rekindle_proto::fact::{DeviceError, DeviceName, DeviceReading, PowerState, Text};
use rekindle_proto::id::{HostName, IncidentId};

use super::Leader;
use super::devices::ReadFor;
use super::proposals::Key;
use crate::context::Context;
use crate::fencing::{FenceProof, OffRead, READ_CLOSELY_FOR, ReadSpan};
use crate::ledger::{Incident, LeaderCommand};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// Between two readings that renew a lease: three may fail before it runs out.
const RENEW_EVERY: Duration = Duration::from_secs(8);

/// Between two readings of a host that we did not ourselves see going off.
const READ_CLOSELY_EVERY: Duration = Duration::from_secs(1);

/// A word of the host this long after the second off reading cannot have been sent before the power went (I2).
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A proof that has not been renewed for so long ends in `stuck`, with what to check. Longer than a BMC takes to restart, and
/// than a new leader waits for a watchdog; short enough for a person to be called while the cause is fresh.
const UNPROVEN_MAX: Duration = Duration::from_secs(600);

impl Leader {
    /// There is no valid proof now: said, and waited for, and after [`UNPROVEN_MAX`] a person is called.
    pub(super) fn wait_for_proof(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let (id, now) = (incident.id, cx.now.mono);
        let why = self.lease_text(incident);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let since = *evacuation.unproven_since.get_or_insert(now);
        if now.since(since) >= UNPROVEN_MAX {
            let minutes = UNPROVEN_MAX.as_secs() / 60;
            let why = format!("{why}, for {minutes} minutes: look at its fence device and the way there, then resume");
            self.command(cx, Key::Incident(id), LeaderCommand::Stick { incident: id, why: Text::new(why) });
            return;
        }
        self.hold(now, id, why);
    }

    pub(super) fn proof(&self, cx: &Context<'_>, incident: &Incident) -> Option<FenceProof> {
        let evacuation = self.evacuations.get(&incident.id).filter(|evacuation| evacuation.contradiction.is_none())?;
        match incident.proof.as_ref().is_some_and(|proof| proof.evidence.is_read()) {
            // A device that was contradicted once may go on saying off of a host that goes on speaking: it counts only when the
            // host's last words would have come, and when gossip, too, has found it silent.
            true if incident.voided > 0
                && (cx.is_alive(&incident.host) || !is_past_last_words(evacuation.silent_since, cx.now.mono)) =>
            {
                None
            }
            true => FenceProof::of(cx.ledger, incident.id, &evacuation.reads, cx.now.mono),
            false if incident.proof.as_ref().is_some_and(|proof| proof.evidence.is_unverified()) => {
                let silence = self.silence(cx, &incident.host);
                let ours = incident.last_attempt().is_some_and(|attempt| attempt.author == self.author);
                FenceProof::by_word(cx.ledger, incident.id, &evacuation.reads, (silence, ours), cx.now.mono)
            }
            false => {
                let silence = self.silence(cx, &incident.host);
                FenceProof::by_silence(cx.ledger, incident.id, silence, cx.now.mono)
            }
        }
    }

    /// Why there is no valid proof, for people: which device does not say *off*.
    pub(super) fn lease_text(&self, incident: &Incident) -> Text {
        if incident.proof.as_ref().is_some_and(|proof| !proof.evidence.is_read()) {
            return "waiting: a new leader must itself have heard nothing of it for 60 s before it counts on its watchdog, or on \
                    a device of which nothing can be read"
                .into();
        }
        let devices = incident.proof.iter().flat_map(|proof| proof.evidence.devices());
        let errors: Vec<String> = devices
            .filter_map(|proven| self.devices.get(&proven.device)?.last.as_ref())
            .filter_map(|(_, reading)| reading.power.as_ref().err())
            .map(ToString::to_string)
            .collect();
        if errors.is_empty() && incident.voided > 0 {
            return "waiting until the host is silent: an earlier proof was contradicted".into();
        }
        let device = if errors.is_empty() { "".to_owned() } else { format!(" (the device {})", errors.join("; ")) };
        Text::new(format!("waiting to read the host off again, its proof is older than its lease{device}"))
    }

    pub(super) fn renew_lease(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let now = cx.now.mono;
        let id = incident.id;
        let Some(read) = incident.proof.as_ref().map(|proof| proof.evidence.devices()) else { return };
        if read.is_empty() || !keeps(Guard::Lease) {
            return;
        }
        let readable = || read.iter().filter(|device| !device.unverified);
        let devices: Vec<DeviceName> = readable().map(|device| device.device.clone()).collect();
        let seen_going_off = readable().all(|device| device.seen_going_off);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let closely =
            !seen_going_off && evacuation.silent_since.is_none_or(|since| now.since(since) < READ_CLOSELY_FOR);
        let every = if closely { READ_CLOSELY_EVERY } else { RENEW_EVERY };
        let all_read = devices.iter().all(|device| evacuation.reads.contains_key(device));
        // A new leader has read nothing yet: at once.
        let first = if all_read { now + every } else { now };
        let due = *evacuation.next_read.get_or_insert(first);
        if due > now {
            self.wake_at(due);
            return;
        }
        evacuation.next_read = Some(now + every);
        self.wake_at(now + every);
        let by = self.lease_reader(cx, incident);
        for device in devices {
            if !self.is_reading(cx, &device) {
                self.read_device_by(cx, by.as_ref(), &incident.host, &device, ReadFor::Lease(id));
            }
        }
    }

    /// Whose turn it is to read for a lease; `None`: ours.
    fn lease_reader(&self, cx: &Context<'_>, incident: &Incident) -> Option<HostName> {
        let turn = self.evacuations.get(&incident.id).map_or(0, |evacuation| evacuation.reader);
        let readers = self.lease_readers(cx, incident);
        readers.get(turn.checked_rem(readers.len())?).cloned().flatten()
    }

    /// It does not answer whoever read it: the next one reads, at once until all have tried.
    fn next_lease_reader(&mut self, cx: &Context<'_>, incident: &Incident, by: Option<&HostName>) {
        let (now, readers) = (cx.now.mono, self.lease_readers(cx, incident).len());
        if self.lease_reader(cx, incident).as_ref() != by {
            return;
        }
        let Some(evacuation) = self.evacuations.get_mut(&incident.id) else { return };
        evacuation.reader = (evacuation.reader + 1).checked_rem(readers).unwrap_or(0);
        if evacuation.reader > 0 {
            let soon = now + READ_CLOSELY_EVERY;
            evacuation.next_read = Some(evacuation.next_read.map_or(soon, |due| due.min(soon)));
            self.wake_at(soon);
        }
    }

    pub(super) fn lease_read(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        device: &DeviceName,
        reading: &DeviceReading,
        span: ReadSpan,
        by: Option<&HostName>,
    ) {
        if let (Err(DeviceError::Silent(_)), Some(incident)) = (&reading.power, cx.ledger.incidents.get(&id)) {
            self.next_lease_reader(cx, incident, by);
        }
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        if let Some(read) = OffRead::of(reading, span) {
            let newest = evacuation.reads.get(device).is_none_or(|known| known.asked() <= read.asked());
            if newest {
                evacuation.reads.insert(device.clone(), read);
            }
            evacuation.silent_since.get_or_insert(span.finished);
        }
        if reading.power == Ok(PowerState::On) && keeps(Guard::VoidByOn) {
            evacuation.reads.remove(device);
            self.void_proof(cx, id, Text::new(format!("{device} reads on")), false);
        }
    }

    pub(super) fn heard_after_proof(&mut self, cx: &mut Context<'_>, incident: &Incident, same_boot: bool) {
        if !keeps(Guard::VoidByVoice) {
            return;
        }
        if incident.proof.as_ref().is_some_and(|proof| !proof.evidence.is_read()) {
            // It must have been silent for long before: there are no last words to forgive.
            let why = format!("{} speaks, though it was taken for off without reading any device", incident.host);
            self.void_proof(cx, incident.id, Text::new(why), same_boot);
            return;
        }
        let silent_since = self.evacuations.get(&incident.id).and_then(|evacuation| evacuation.silent_since);
        if !is_past_last_words(silent_since, cx.now.mono) {
            return;
        }
        let host = &incident.host;
        let (why, lied) = if same_boot {
            let why = format!(
                "{host} speaks, in the same boot, though it was read off: the BMC lies, or is another machine's"
            );
            (why, true)
        } else {
            (format!("{host} speaks in a new boot: somebody powered it on"), false)
        };
        self.void_proof(cx, incident.id, Text::new(why), lied);
    }

    /// The proof is contradicted: no call rests on it from now on. `lied`: by the host's own voice, in the same boot.
    pub(super) fn void_proof(&mut self, cx: &mut Context<'_>, id: IncidentId, why: Text, lied: bool) {
        if lied {
            self.note_lie(id, why.clone());
        }
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        if evacuation.contradiction.is_none() {
            cx.out.warn(None, format!("the proof of incident {id} is contradicted: {why}"));
            evacuation.contradiction = Some(why);
            self.touch();
        }
    }
}

fn is_past_last_words(silent_since: Option<Moment>, now: Moment) -> bool {
    silent_since.is_some_and(|since| now > since + LAST_WORDS)
}
