//! A fenced host comes back: its gate, its protection, its service.

use rekindle_proto::id::{BootId, HostName, WallTime};

use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn admit(&mut self, at: WallTime, host: &HostName, boot: BootId) -> Applied {
        let id = self.may_admit(host, boot).map_err(Outcome::refused)?;
        self.hosts.entry(host.clone()).or_default().admitted = Some(boot);
        let text =
            format!("{host} is back in boot {boot}: its gate is opened, for Nova to clean up; it stays quarantined");
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }

    pub(super) fn readmit(&mut self, at: WallTime, host: &HostName) -> Applied {
        let id = self.may_readmit(host).map_err(Outcome::refused)?;
        let record = self.hosts.entry(host.clone()).or_default();
        (record.quarantine, record.admitted, record.power_on) = (None, None, None);
        let text = format!("Nova has cleaned up on {host}: it is protected again");
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }

    pub(super) fn service_back(&mut self, at: WallTime, host: &HostName) -> Applied {
        if let Some(open) = self.open_incident(host) {
            return Err(Outcome::refused(format!("incident {} of {host} is open", open.id)));
        }
        let record = self.hosts.entry(host.clone()).or_default();
        let Some(id) = record.forced_down.take() else {
            return Err(Outcome::refused(format!("no incident has the compute service of {host} forced down")));
        };
        let text = format!("the compute service of {host} is not forced down any more");
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }
}
