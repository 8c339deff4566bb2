//! A fenced host is powered on again, once its failure is settled, where the operator's configuration says so.
//!
//! It comes back behind its boot gate, or not at all: a host without one would start guests that run elsewhere (I7). And not
//! before nothing of any off order can have an effect any more (I5).

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::id::{HostName, IncidentId, LeadershipId, WallTime};
use serde::{Deserialize, Serialize};

use super::gate::unsettled;
use super::rehearsal::ON_TRIES_MAX;
use super::state::Ledger;
use crate::mutant::{Guard, keeps};

/// The orders to power a host on after one incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerOn {
    /// After which.
    pub incident: IncidentId,
    /// The last order's number, from 1.
    pub attempt: u32,
    /// Whose: only this very leadership may act on it.
    pub author: LeadershipId,
    /// When nothing of it is begun any more.
    pub not_after: WallTime,
    /// It stays quarantined, its gate closed, until a person lets it back.
    pub hold: bool,
    /// Nothing of the last order can have an effect any more.
    pub settled: bool,
    /// It did not come on: a person is needed.
    pub given_up: Option<Text>,
}

/// What the leader may write of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerOnCommand {
    /// We are about to order power on.
    Intent {
        /// Which host.
        host: HostName,
        /// The next number.
        attempt: u32,
        /// Whose: only this very leadership may act on it.
        author: LeadershipId,
        /// No effect of this order is begun after this moment.
        not_after: WallTime,
        /// See [`PowerOn::hold`].
        hold: bool,
    },
    /// Nothing of that order can have an effect any more: the leader has waited for it on its own monotonic clock.
    Settled {
        /// Which host.
        host: HostName,
        /// Which order.
        attempt: u32,
    },
    /// It does not come on.
    GiveUp {
        /// Which host.
        host: HostName,
        /// What was seen.
        why: Text,
    },
}

impl Ledger {
    /// Whether a quarantined host may be powered on by a leader itself: the incident it was fenced by, and the devices by which.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_power_on(&self, host: &HostName) -> Result<(IncidentId, Vec<DeviceName>), Text> {
        let no = |why: String| Err(Text::new(why));
        if let Some(brake) = self.brakes_of(host) {
            return Err(brake);
        }
        let record = self.host(host);
        let Some(id) = record.and_then(|record| record.quarantine) else {
            return no("it is not quarantined".to_owned());
        };
        if let Some(why) = unsettled(self, host) {
            return Err(why);
        }
        let Some(incident) = self.incidents.get(&id) else { return no(format!("incident {id} is forgotten")) };
        if !incident.is_off_settled() && keeps(Guard::OffSettled) {
            return no(format!("an off order of incident {id} may still be under way (I5)"));
        }
        // The attempt that gave the proof is the last, and did not fail. What was proven otherwise was not switched off by us.
        let Some(attempt) = incident.last_attempt().filter(|last| last.failed.is_none()) else {
            return no("it was not switched off by its fence devices: a person powers it on".to_owned());
        };
        if attempt.proof.as_ref().is_some_and(|proof| proof.devices.iter().any(|reads| reads.unverified)) {
            return no("it was taken for off by an unverified word: a person looks, and powers it on".to_owned());
        }
        let gate = record.and_then(|record| record.gate.as_ref());
        if !gate.is_some_and(|word| word.report.installed) && keeps(Guard::BootGate) {
            return no("it has no boot gate: it is left off, and a person lets it back".to_owned());
        }
        if let Some(why) = self.flap_hold(host) {
            return Err(why);
        }
        match record.and_then(|record| record.power_on.as_ref()).filter(|on| on.incident == id) {
            Some(PowerOn { given_up: Some(why), .. }) => Err(why.clone()),
            Some(on) if on.attempt >= ON_TRIES_MAX => no(format!("it was ordered on {} times", on.attempt)),
            Some(_) | None => Ok((id, attempt.devices.clone())),
        }
    }

    /// Whether an order to power a host on may still have an effect, or a person wants to see it first.
    #[must_use]
    pub fn power_on_holds(&self, host: &HostName) -> Option<Text> {
        let record = self.host(host)?;
        let on = record.power_on.as_ref().filter(|on| Some(on.incident) == record.quarantine)?;
        if !on.settled {
            return Some("an order to power it on may still be under way".into());
        }
        let why = format!("it was powered on to be looked at: `rekindle release {host}` when it is well");
        on.hold.then(|| Text::new(why))
    }
}
