//! Which host the leader names for a server whose evacuation has failed on another: what it knows of each.

use rekindle_proto::id::{HostName, IncidentId, ServerId};

use super::Leader;
use super::servers::Round;
use crate::context::Context;
use crate::ledger::{Destination, Incident, ServerRecord};
use crate::recovery::{Place, Second, second_host};

impl Leader {
    /// Where the next attempt of a server goes that its method sends where Nova's scheduler wants; `None`: nowhere yet, and it
    /// waits. Its reserved host, if it has one, is kept.
    pub(super) fn destination_for(
        &mut self,
        cx: &Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        to: Destination,
        round: &mut Round,
    ) -> Option<Destination> {
        match to {
            Destination::Anywhere if record.leg.elsewhere => {}
            Destination::Anywhere | Destination::Reserved(_) | Destination::Named(_) => return Some(to),
        }
        let is_allowed = |host: &&HostName| cx.ledger.may_be_named(&incident.host, host).is_ok();
        let allowed = round.nameable.get_or_insert_with(|| cx.ledger.targets().filter(is_allowed).cloned().collect());
        let rebuilding = self.rebuilding(cx);
        let places = cx.ledger.targets().map(|host| Place {
            host,
            is_alive: cx.is_alive(host),
            is_suspected: self.suspects.contains_key(host),
            is_allowed: allowed.contains(host),
            has_failed: record.leg.unfit.contains(host),
            rebuilding: rebuilding.get(host).copied().unwrap_or(0),
        });
        match second_host(server, places) {
            Second::Host(host) => Some(Destination::Named(host)),
            Second::None => Some(Destination::Anywhere),
            Second::Busy => {
                self.waits_for_another(cx, incident.id, server);
                None
            }
        }
    }

    /// It does not wait for its turn, and no other incident's servers wait for it: the end of a rebuild lets it go on.
    fn waits_for_another(&mut self, cx: &Context<'_>, id: IncidentId, server: ServerId) {
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            let why = "waits for a place on a host where its evacuation has not failed";
            evacuation.waits.insert(server, (cx.now.mono, why.into()));
        }
    }
}
