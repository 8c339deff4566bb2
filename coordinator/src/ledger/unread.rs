//! Orders to build a server that may lie unread in the queues of hosts: they died before they read them, and the server was
//! given to others.
//!
//! Such an order is carried out when nova-compute runs there again, unless Nova refuses it, and it does so only while the
//! server has no task `rebuilding` (nova/compute/manager.py, `_do_rebuild_instance`). What it refuses it leaves behind with
//! that very task (tried on Nova 34). So of the hosts that may have an order of the same server one at a time reads its queue,
//! and only after Nova has shown that it is at work on none of these servers. Nor is such a server evacuated meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, ServerId};
use rekindle_proto::status::Phase;
use serde::{Deserialize, Serialize};

use super::gate::unsettled;
use super::state::Ledger;
use crate::mutant::{Guard, keeps};

/// Unread orders remembered. Each is a server that was given to a host which died before it read that: a rack that dies in
/// the middle of recovering another one leaves hundreds.
pub const UNREAD_MAX: usize = 10_000;

/// Where orders to build one server may lie unread.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queues {
    /// In whose queues.
    pub hosts: BTreeSet<HostName>,
    /// Who may be reading such an order.
    pub reader: Option<Reader>,
}

/// A host that was let read its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Which.
    pub host: HostName,
    /// In which boot: what it has not read then lies there still.
    pub boot: BootId,
}

/// What the leader writes of such queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueCommand {
    /// A host may read its queue, in that boot: Nova has just shown no task of any server of which an order may lie there.
    Let {
        /// Which host.
        host: HostName,
        /// In which boot.
        boot: BootId,
    },
    /// Nothing of what it read can have an effect any more.
    Over {
        /// Which host.
        host: HostName,
        /// Its compute service has run long enough to have read all of it; if not, it was off for as long.
        read: bool,
    },
}

impl Ledger {
    /// Servers of which an order may lie unread in the queue of that host.
    pub fn unread_of<'a>(&'a self, host: &'a HostName) -> impl Iterator<Item = (ServerId, &'a Queues)> {
        let its = self.unread.iter().filter(move |(_, queues)| queues.hosts.contains(host));
        its.map(|(server, queues)| (*server, queues))
    }

    /// The host that may be reading an order to build that server: it is evacuated by nobody meanwhile.
    #[must_use]
    pub fn reader_of(&self, server: ServerId) -> Option<&HostName> {
        let reader = self.unread.get(&server)?.reader.as_ref().filter(|_| keeps(Guard::OneQueue))?;
        Some(&reader.host)
    }

    /// Why a host, whose gate could be opened otherwise, must not read its queue in that boot; `None`: it may.
    #[must_use]
    pub fn queue_hold(&self, host: &HostName, boot: BootId) -> Option<Text> {
        if !keeps(Guard::OneQueue) {
            return None;
        }
        let is_let = |reader: &Reader| reader.host == *host && reader.boot == boot;
        let (server, queues) = self.unread_of(host).find(|(_, queues)| !queues.reader.as_ref().is_some_and(is_let))?;
        let name = self.name_of(server);
        Some(Text::new(match queues.reader.as_ref().filter(|reader| reader.host != *host) {
            Some(reader) => format!(
                "an order to build {name} may lie in its queue, and in that of {}, which reads its own first",
                reader.host
            ),
            None => {
                format!("an order to build {name} may lie in its queue: Nova must first show no task of that server")
            }
        }))
    }

    /// Whether a host may be let read its queue in that boot, as far as the ledger knows.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_read_queue(&self, host: &HostName, boot: BootId) -> Result<(), Text> {
        if let Some(why) = unsettled(self, host) {
            return Err(why);
        }
        let Some(record) = self.host(host) else { return Err(Text::new(format!("{host} is not enrolled"))) };
        if let Some(id) = record.quarantine.filter(|_| record.admitted != Some(boot)) {
            return Err(Text::new(format!("{host} is quarantined since incident {id}, and not let back in this boot")));
        }
        if record.gate.as_ref().is_none_or(|word| word.boot != boot) {
            return Err("it has not said what its boot gate does in this boot".into());
        }
        let other = self.unread_of(host).find_map(|(server, queues)| {
            let reader = queues.reader.as_ref().filter(|reader| reader.host != *host)?;
            Some(format!("{} may be reading an order to build {}", reader.host, self.name_of(server)))
        });
        other.map_or(Ok(()), |why| Err(Text::new(why)))
    }

    /// Whether what a host has read can be over: it is kept from reading now (`read: false`), or it was let back.
    pub(super) fn may_end_reading(&self, host: &HostName, read: bool) -> Result<(), Text> {
        let record = self.host(host);
        let is_shut_out = record.is_some_and(|record| record.quarantine.is_some() && record.admitted.is_none());
        match (self.open_incident(host), read) {
            (Some(open), true) => Err(Text::new(format!("incident {} of {host} is open", open.id))),
            (Some(open), false) if matches!(open.phase, Phase::Fenced | Phase::Evacuating) && open.proof.is_some() => {
                Ok(())
            }
            (Some(open), false) => Err(Text::new(format!("incident {} of {host} has no proof", open.id))),
            (None, read) if read == is_shut_out => {
                let now = if is_shut_out { "not let back" } else { "not kept from reading its queue" };
                Err(Text::new(format!("{host} is {now}")))
            }
            (None, _) => Ok(()),
        }
    }

    /// What a server is called, by the newest incident that has it.
    #[must_use]
    pub fn name_of(&self, server: ServerId) -> String {
        let record = self.incidents.values().rev().find_map(|incident| incident.servers.get(&server));
        record.map_or_else(|| server.to_string(), |record| format!("{} ({server})", record.name))
    }

    pub(super) fn unread_count(&self) -> usize {
        self.unread.values().map(|queues| queues.hosts.len()).sum()
    }

    /// A host that is forgotten has no queue of ours.
    pub(super) fn forget_queue(&mut self, host: &HostName) {
        retain_of(&mut self.unread, host, |queues| {
            queues.hosts.remove(host);
        });
    }
}

/// Changes what is known of the servers of which that host may have an order; what names no host any more is dropped.
pub(super) fn retain_of(unread: &mut BTreeMap<ServerId, Queues>, host: &HostName, mut change: impl FnMut(&mut Queues)) {
    unread.values_mut().filter(|queues| queues.hosts.contains(host)).for_each(&mut change);
    unread.retain(|_, queues| !queues.hosts.is_empty());
}
