//! What a host has lost: servers that an incident of its moved elsewhere. A copy that runs there all the same, after the
//! host's return, is the stale one: a start that waited in a queue, libvirt's autostart, a person.

use rekindle_proto::id::{BootId, HostName, IncidentId, ServerId};

use super::entry::Fate;
use super::state::Ledger;

/// A committed fact: this host lost this server. Built from the ledger alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostGuest {
    incident: IncidentId,
    host: HostName,
    server: ServerId,
    to: Option<HostName>,
}

impl LostGuest {
    /// `None`: the ledger does not say that this host, now in that boot, lost it.
    ///
    /// The newest incident that names the server decides, and must be this host's, of an earlier boot: in the same boot the
    /// host was never off, and its incident is another matter.
    #[must_use]
    pub fn of(ledger: &Ledger, host: &HostName, boot: BootId, server: ServerId) -> Option<Self> {
        let incident = ledger.incidents.values().rev().find(|incident| incident.servers.contains_key(&server))?;
        if incident.host != *host || incident.boot.is_none_or(|before| before == boot) {
            return None;
        }
        let record = incident.servers.get(&server)?;
        let to = match &record.fate {
            Some(Fate::Recovered { to }) if to != host => Some(to.clone()),
            Some(Fate::Recovered { .. } | Fate::Deleted) => return None,
            // Asked for, and it may have been done after we gave up: Nova knows.
            Some(Fate::LeftBehind { .. }) | None if record.attempts > 0 => None,
            Some(Fate::LeftBehind { .. }) | None => return None,
        };
        Some(Self { incident: incident.id, host: host.clone(), server, to })
    }

    /// In which incident.
    #[must_use]
    pub fn incident(&self) -> IncidentId {
        self.incident
    }
    /// Which host lost it.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// Which server.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
    /// Where it was recovered, if that is known.
    #[must_use]
    pub fn to(&self) -> Option<&HostName> {
        self.to.as_ref()
    }
}
