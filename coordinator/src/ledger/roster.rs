//! Who counts, and who may be acted upon.
//!
//! [`Ledger::roster`] holds those that count. A host that was enrolled later stands in [`Ledger::probation`] first: it is
//! neither a target nor counted, neither for the 51 % nor as a witness of another's failure, until a leader has heard it for
//! [`PROBATION_MS`] without a gap. What counts the roster need not know of probation: it is not in there.

use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::id::{HostName, IncidentId};

use super::state::Ledger;

/// How long a new host must have been heard before it counts, in milliseconds (design, section 4).
pub const PROBATION_MS: u64 = 10 * 60 * 1_000;

/// A host that is silent longer than this and still counts against the 51 % is an alarm, in milliseconds.
pub const ABSENT_ALARM_MS: u64 = 24 * 60 * 60 * 1_000;

impl Ledger {
    /// Those that count: for the 51 %, as confirmers, for caps. Hosts and witnesses, without those on probation.
    pub fn counted(&self) -> impl Iterator<Item = &HostName> {
        self.roster.keys()
    }

    /// Those that may be acted upon: hypervisors that count.
    pub fn targets(&self) -> impl Iterator<Item = &HostName> {
        self.roster.values().filter(|entry| entry.role == MemberRole::Member).map(|entry| &entry.host)
    }

    /// Everybody enrolled, on probation or not.
    pub fn enrolled(&self) -> impl Iterator<Item = &RosterEntry> {
        self.roster.values().chain(self.probation.values())
    }

    /// The entry of an enrolled host, on probation or not.
    #[must_use]
    pub fn entry_of(&self, host: &HostName) -> Option<&RosterEntry> {
        self.roster.get(host).or_else(|| self.probation.get(host))
    }

    /// Against which roster size acts for this host count: at the opening of its incident, or now, whichever is larger.
    #[must_use]
    pub fn counts_against(&self, host: &HostName) -> usize {
        let at_opening = self.open_incident(host).map_or(0, |open| usize::try_from(open.verdict.roster).unwrap_or(0));
        self.roster.len().max(at_opening)
    }

    /// An open incident, of whatever kind, that forbids to change the roster.
    #[must_use]
    pub fn forbids_roster_change(&self) -> Option<IncidentId> {
        let reboots = self.reboots.values().filter(|reboot| reboot.is_open()).map(|reboot| reboot.id);
        let dead = self.open_incidents().map(|incident| incident.id);
        reboots.chain(dead).min()
    }
}
