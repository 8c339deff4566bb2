//! Incidents that are stuck because something lives there although the daemon is silent.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, IncidentId, WallTime};
use rekindle_proto::status::Phase;

use super::super::entry::VerdictRecord;
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    /// The testimony must convince as for any incident: the daemon is gone. It stops there.
    pub(super) fn open_stuck(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: Option<BootId>,
        suspected_at: WallTime,
        verdict: &VerdictRecord,
        why: &Text,
    ) -> Applied {
        let opened = self.open(at, host, boot, suspected_at, verdict)?;
        if let Some(incident) = self.incidents.values_mut().find(|open| open.is_open() && open.host == *host) {
            incident.turn(Phase::Stuck, at, why.clone())?;
            incident.awaits_signs = true;
        }
        Ok(opened)
    }

    /// Only for an incident of which no off order was ever spoken: what was fenced is a person's.
    pub(super) fn end_signs(&mut self, at: WallTime, id: IncidentId, heard: bool, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        if incident.phase != Phase::Stuck || !incident.awaits_signs || !incident.attempts.is_empty() {
            return Err(Outcome::refused(format!("incident {id} does not wait for signs of life")));
        }
        let host = incident.host.clone();
        if !heard && let Some(brake) = self.brakes_of(&host) {
            return Err(Outcome::refused(brake));
        }
        let incident = self.incident_mut(id)?;
        incident.turn(if heard { Phase::Refuted } else { Phase::Fencing }, at, why.clone())?;
        incident.awaits_signs = false;
        if heard {
            incident.ended = Some(at);
        }
        Ok(Outcome::done(format!("incident {id} no longer waits for signs of life")))
    }
}
