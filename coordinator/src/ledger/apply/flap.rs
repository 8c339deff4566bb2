//! Hosts that come and go.

use rekindle_proto::id::HostName;

use super::super::flap::Flap;
use super::super::state::Ledger;

impl Ledger {
    /// A host went down and came up, or was fenced: an incident of it was closed, or its boot changed.
    pub(super) fn came_up(&mut self, host: &HostName) {
        let now = self.time;
        if let Some(record) = self.hosts.get_mut(host) {
            // The boot of before: nothing is noted of a host while its incident is open.
            let before = record.pulse.as_ref().map(|pulse| pulse.boot);
            record.flap.note(now, before);
        }
    }

    /// An operator has looked: what was before is forgotten, and the next quarantine is a short one again.
    pub(super) fn release_flap(&mut self, host: &HostName) -> bool {
        let Some(record) = self.hosts.get_mut(host) else { return false };
        std::mem::take(&mut record.flap).quarantined_until.is_some()
    }

    /// The guests of the boot the ledger knows were dealt with by an incident: that it is over is no failure of its own.
    pub(super) fn account_for(&mut self, host: &HostName) {
        if let Some(record) = self.hosts.get_mut(host) {
            record.accounted = record.pulse.as_ref().map(|pulse| pulse.boot);
        }
    }

    /// What is remembered of a host's ups and downs.
    #[must_use]
    pub fn flap(&self, host: &HostName) -> Option<&Flap> {
        self.hosts.get(host).map(|record| &record.flap)
    }
}
