//! Who belongs to the cluster, by operators' orders.

use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::id::HostName;

use super::super::ROSTER_MAX;
use super::super::state::{HostRecord, Ledger};
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn enroll(&mut self, entry: &RosterEntry) -> Applied {
        let host = &entry.host;
        self.may_change_roster()?;
        if self.entry_of(host).is_some() {
            return Err(Outcome::refused(format!("{host} is enrolled already")));
        }
        if self.enrolled().count() >= ROSTER_MAX {
            return Err(Outcome::refused(format!("the roster is full: {ROSTER_MAX} hosts")));
        }
        self.probation.insert(host.clone(), entry.clone());
        self.hosts.insert(host.clone(), HostRecord::default());
        Ok(Outcome::done(format!(
            "{host} is enrolled, on probation: it counts, and is protected, once it was heard for 10 minutes"
        )))
    }

    pub(super) fn forget(&mut self, host: &HostName) -> Applied {
        self.may_change_roster()?;
        if self.entry_of(host).is_none() {
            return Err(Outcome::refused(format!("{host} is not enrolled")));
        }
        if self.is_voter(host) {
            return Err(Outcome::refused(format!("{host} votes: give its vote to another first (`rekindle voters`)")));
        }
        if let Some(incident) = self.hosts.get(host).and_then(|record| record.quarantine) {
            return Err(Outcome::refused(format!(
                "{host} is quarantined since incident {incident}: `rekindle release {host}` first"
            )));
        }
        if let Some(why) = self.flap_hold(host) {
            return Err(Outcome::refused(why));
        }
        if let Some(open) = self.rehearsal_of(host) {
            return Err(Outcome::refused(format!("rehearsal {} of {host} is under way", open.id)));
        }
        let open = self.open_guest_incidents().find(|guest| guest.host == *host);
        if let Some(guest) = open {
            return Err(Outcome::refused(format!("guest incident {} of {host} is open", guest.id)));
        }
        let left = self.roster.values().filter(|entry| entry.host != *host);
        let hypervisors = left.clone().filter(|entry| entry.role == MemberRole::Member).count();
        if left.count() < 2 || hypervisors == 0 {
            return Err(Outcome::refused(
                "a roster has at least two members that count, one of them a hypervisor: nothing would be left to protect",
            ));
        }
        self.roster.remove(host);
        self.probation.remove(host);
        self.hosts.remove(host);
        self.forget_queue(host);
        self.segments.hosts.remove(host);
        Ok(Outcome::done(format!("{host} is forgotten: it neither counts nor is protected")))
    }

    pub(super) fn end_probation(&mut self, host: &HostName) -> Applied {
        self.may_change_roster()?;
        let Some(entry) = self.probation.remove(host) else {
            return Err(Outcome::refused(format!("{host} is not on probation")));
        };
        self.roster.insert(host.clone(), entry);
        Ok(Outcome::done(format!("{host} counts from now on")))
    }

    /// Not before the first roster, and not while an incident counts against it.
    fn may_change_roster(&self) -> Result<(), Outcome> {
        if self.roster.is_empty() {
            return Err(Outcome::refused("there is no roster yet: rekindle init"));
        }
        match self.forbids_roster_change() {
            None => Ok(()),
            Some(incident) => Err(Outcome::refused(format!(
                "incident {incident} is open: the roster is not changed under a count that is under way"
            ))),
        }
    }

    /// Whether this host votes, or is about to. (Before the voters are in the ledger, whoever proposes asks its own setup.)
    fn is_voter(&self, host: &HostName) -> bool {
        let coming = self.voters.changing.iter().flat_map(|change| &change.into);
        self.voters.voters.contains_key(host) || coming.into_iter().any(|seat| seat.host == *host)
    }
}
