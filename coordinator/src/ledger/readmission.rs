//! When a host that was fenced may come back by itself (I7, design section 5), step by step:
//!
//! 1. its failure is settled and it has booted anew behind a gate that holds: its gate is opened, for that boot
//!    ([`Ledger::may_admit`]). It stays quarantined, and Nova has its service forced down: nothing is scheduled there;
//! 2. its nova-compute has cleaned up what was evacuated: it is protected again ([`Ledger::may_readmit`]);
//! 3. only then Nova may use it again: the forced-down mark that we set is taken away.
//!
//! Whatever a person should look at first (something was left behind, it flaps, it is in maintenance) is left to
//! `rekindle release`, after which the third step follows by itself as well.

use rekindle_proto::fact::{GateState, Text};
use rekindle_proto::id::{BootId, HostName, IncidentId};

use super::entry::Fate;
use super::gate::unsettled;
use super::state::Ledger;
use crate::mutant::{Guard, keeps};

impl Ledger {
    /// Whether the gate of a quarantined host may be opened for this boot, by the leader itself; the incident it was fenced
    /// by.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_admit(&self, host: &HostName, boot: BootId) -> Result<IncidentId, Text> {
        let id = self.may_come_back(host)?;
        if let Some(incident) = self.incidents.get(&id) {
            if incident.boot == Some(boot) {
                return Err(Text::new(format!("it speaks in the boot in which incident {id} fenced it")));
            }
            let left = incident.servers.values().filter(|record| matches!(record.fate, Some(Fate::LeftBehind { .. })));
            let left = left.count();
            if left > 0 {
                return Err(Text::new(format!(
                    "{left} of its servers were left behind by incident {id}: look at them"
                )));
            }
        }
        let word = self.host(host).and_then(|record| record.gate.as_ref()).filter(|word| word.boot == boot);
        match word {
            None => Err("it has not said what its boot gate does".into()),
            Some(word) if !word.report.installed => Err("it has no boot gate".into()),
            Some(word) => match &word.report.state {
                GateState::Closed { .. } => Ok(id),
                GateState::NotRun => Err("its boot gate has not run in this boot: its guests were not held".into()),
                GateState::OpenedByLedger | GateState::OpenedByHand { .. } => {
                    Err("its boot gate was opened by somebody else".into())
                }
            },
        }
    }

    /// Whether a quarantined host that was admitted may be protected and used again, as far as the ledger knows: that Nova
    /// has cleaned up is the leader's word.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_readmit(&self, host: &HostName) -> Result<IncidentId, Text> {
        let id = self.may_come_back(host)?;
        let record = self.host(host);
        let boot = record.and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot);
        let admitted = record.and_then(|record| record.admitted);
        if admitted.is_none() || admitted != boot {
            return Err("its gate was not opened by a leader in this boot".into());
        }
        Ok(id)
    }

    fn may_come_back(&self, host: &HostName) -> Result<IncidentId, Text> {
        let record = self.host(host);
        let Some(id) = record.and_then(|record| record.quarantine) else {
            return Err("it is not quarantined".into());
        };
        if let Some(why) = unsettled(self, host) {
            return Err(why);
        }
        if self.incidents.get(&id).is_some_and(|incident| !incident.is_off_settled()) && keeps(Guard::OffSettled) {
            return Err(Text::new(format!("an off order of incident {id} may still be under way (I5)")));
        }
        if let Some(why) = self.flap_hold(host).or_else(|| self.power_on_holds(host)) {
            return Err(why);
        }
        match record.and_then(|record| record.maintenance.as_ref()) {
            Some(why) => Err(Text::new(format!("it is in maintenance: {why}"))),
            None => Ok(id),
        }
    }
}
