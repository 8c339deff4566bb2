//! The proof that a host is off: a lease, not a fact (I2).

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, DeviceReading, PowerState};
use rekindle_proto::id::{HostName, IncidentId};

use super::watchdog::Silence;
use crate::ledger::{Evidence, Incident, Ledger};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// How long a proof holds after the oldest of its devices' last off readings was asked for.
pub const PROOF_LEASE: Duration = Duration::from_secs(30);

/// How long a host that we did not ourselves see going off is read every second: somebody may be power-cycling it.
pub const READ_CLOSELY_FOR: Duration = Duration::from_secs(60);

/// A device said, in so many words, that power is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffRead {
    span: ReadSpan,
}

/// Between which moments a device was read. When in between nobody knows, and where another member read it for us it may have
/// been anywhere; so whatever counts from a reading counts from the end that is the safer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSpan {
    /// When the reading was asked for.
    pub asked: Moment,
    /// When its answer was there.
    pub finished: Moment,
}

#[cfg(test)]
impl From<Moment> for ReadSpan {
    /// A reading that took no time.
    fn from(moment: Moment) -> Self {
        Self { asked: moment, finished: moment }
    }
}

impl OffRead {
    /// What stands for a reading where a mutant needs none.
    pub(super) const NONE: Self = Self { span: ReadSpan { asked: Moment::ZERO, finished: Moment::ZERO } };

    /// From a reading; `None` unless it says off.
    #[must_use]
    pub fn of(reading: &DeviceReading, span: ReadSpan) -> Option<Self> {
        match reading.power {
            Ok(PowerState::Off) => Some(Self { span }),
            Ok(PowerState::On) | Err(_) => None,
        }
    }

    /// Not read before this moment: a lease counts from it.
    #[must_use]
    pub fn asked(self) -> Moment {
        self.span.asked
    }
    /// Read by this moment.
    #[must_use]
    pub fn at(self) -> Moment {
        self.span.finished
    }
    /// How long, at least, after that earlier reading it was read.
    #[must_use]
    pub fn after(self, earlier: Self) -> Duration {
        self.span.asked.since(earlier.span.finished)
    }
}

/// A host is off: committed, not voided, and read off by this very leader within the lease; or, where the evidence is its
/// watchdog or an operator's word, not heard by this leader. The only key to an evacuation.
#[derive(Debug)]
pub struct FenceProof {
    incident: IncidentId,
    host: HostName,
    valid_until: Moment,
}

impl FenceProof {
    /// Builds the proof of an incident from the ledger and this leader's own last off readings.
    ///
    /// `None` if nothing is committed, it was voided, or any of its devices was not read off within [`PROOF_LEASE`].
    #[must_use]
    pub fn of(
        ledger: &Ledger,
        incident: IncidentId,
        reads: &BTreeMap<DeviceName, OffRead>,
        now: Moment,
    ) -> Option<Self> {
        let incident: &Incident = ledger.incidents.get(&incident).filter(|incident| incident.is_open())?;
        let Evidence::Devices(record) = &incident.proof.as_ref()?.evidence else { return None };
        if record.devices.iter().any(|reads| reads.unverified) {
            return None;
        }
        if !keeps(Guard::Proof) || !keeps(Guard::Lease) {
            let valid_until = now + PROOF_LEASE;
            return Some(Self { incident: incident.id, host: incident.host.clone(), valid_until });
        }
        let mut oldest: Option<Moment> = None;
        for device in &record.devices {
            let read = reads.get(&device.device)?;
            oldest = Some(oldest.map_or(read.asked(), |moment| moment.min(read.asked())));
        }
        let valid_until = oldest? + PROOF_LEASE;
        (now < valid_until).then(|| Self { incident: incident.id, host: incident.host.clone(), valid_until })
    }

    /// Builds the proof of an incident that rests on the host's watchdog or on an operator's word, from the ledger and from
    /// what this very leader has heard of the host: nothing, since it began to listen.
    ///
    /// `None` if nothing such is committed; or, of a watchdog, if this leader has not itself waited for it: a host that came
    /// back, and was heard by an earlier leader alone, would be heard by this one within that time.
    #[must_use]
    pub fn by_silence(ledger: &Ledger, incident: IncidentId, silence: Silence, now: Moment) -> Option<Self> {
        let incident: &Incident = ledger.incidents.get(&incident).filter(|incident| incident.is_open())?;
        match &incident.proof.as_ref()?.evidence {
            Evidence::Devices(_) => return None,
            Evidence::Watchdog(_) if now < silence.proves_at() => return None,
            Evidence::Watchdog(_) | Evidence::Statement(_) => {}
        }
        let valid_until = silence.valid_until();
        (now < valid_until).then(|| Self { incident: incident.id, host: incident.host.clone(), valid_until })
    }

    /// Builds the proof of an incident that rests on a device of which nothing can be read, whose word the operator accepts:
    /// from the ledger, from what this very leader has heard of the host (nothing), and from its off readings of the other
    /// devices of that level. `ours`: this very leadership gave the order.
    ///
    /// Such a word is worth less than a reading, so it holds only for a host that is silent, also where the fence is of
    /// storage and the host may well live on: whoever speaks, and runs guests, has addresses and sessions of theirs, and a
    /// second copy elsewhere is two. A later leader, which has not been told the word itself, must have listened as long as
    /// for a watchdog.
    #[must_use]
    pub fn by_word(
        ledger: &Ledger,
        incident: IncidentId,
        reads: &BTreeMap<DeviceName, OffRead>,
        (silence, ours): (Silence, bool),
        now: Moment,
    ) -> Option<Self> {
        let incident: &Incident = ledger.incidents.get(&incident).filter(|incident| incident.is_open())?;
        let evidence = &incident.proof.as_ref()?.evidence;
        if !evidence.is_unverified() || (!ours && now < silence.proves_at()) {
            return None;
        }
        let mut valid_until = silence.valid_until();
        for device in evidence.devices().iter().filter(|reads| !reads.unverified) {
            valid_until = valid_until.min(reads.get(&device.device)?.asked() + PROOF_LEASE);
        }
        (now < valid_until).then(|| Self { incident: incident.id, host: incident.host.clone(), valid_until })
    }

    /// Of which incident.
    #[must_use]
    pub fn incident(&self) -> IncidentId {
        self.incident
    }
    /// Which host is off.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// Until when it holds, unless it is renewed.
    #[must_use]
    pub fn valid_until(&self) -> Moment {
        self.valid_until
    }
}
