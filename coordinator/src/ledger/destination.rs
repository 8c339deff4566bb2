//! Where an evacuation is to go, as it stands in the ledger before Nova is asked: a new leader knows it, and the call says
//! exactly that.

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use serde::{Deserialize, Serialize};

use super::state::Ledger;

/// Where an evacuation is to go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Destination {
    /// Where Nova's scheduler wants.
    #[default]
    Anywhere,
    /// To a reserved host that the incident has taken: its position.
    Reserved(u8),
    /// To a host that the leader names, after the server's evacuation has failed on another. Nova's scheduler examines it, and
    /// may refuse it.
    Named(HostName),
}

impl Destination {
    /// The position of the reserved host, if it is one.
    #[must_use]
    pub fn reserved(&self) -> Option<u8> {
        match self {
            Self::Reserved(position) => Some(*position),
            Self::Anywhere | Self::Named(_) => None,
        }
    }
}

impl Ledger {
    /// Whether a host may be named for a server of that dead host, as far as the ledger knows: it may receive servers, is in
    /// the same segment (or both are in none), and is none of the reserved hosts, whose servers come by another way.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_be_named(&self, dead: &HostName, host: &HostName) -> Result<(), Text> {
        let no = |why: String| Err(Text::new(why));
        if host == dead {
            return no("it is the dead host itself".to_owned());
        }
        self.may_receive(host)?;
        if let Some(process) = self.open_process(host) {
            return no(format!("{} is down on it, incident {}", process.process, process.id));
        }
        let place = |host: &HostName| self.segments.hosts.get(host);
        if place(host).map(|place| place.segment) != place(dead).map(|place| place.segment) {
            return no(format!("it is not in the segment of {dead}"));
        }
        if place(host).is_some_and(|place| place.reserved) {
            return no("it is reserved".to_owned());
        }
        let holds = |of: &&super::Incident| of.reserve.active().any(|(_, taken)| taken.host == *host);
        match self.open_incidents().find(holds) {
            Some(other) => no(format!("incident {} has taken it as a reserved host", other.id)),
            None => Ok(()),
        }
    }
}
