//! Judged when an evacuate call is sent (I1, I8, I11), and whenever a server's copies change (the headline).

use std::time::Duration;

use rekindle_coordinator::ledger::{LeaderCommand, Ledger, ServerRecord};
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::status::Phase;

use super::{BINDS_AFTER, Oracle, Violation};
use crate::nova::Nova;

/// An intent younger than this cannot be stalled (the daemon's own bound is half an hour).
const INTENT_AGE: Duration = Duration::from_secs(20 * 60);

impl Oracle {
    /// An evacuate call leaves the leader: I1 (a valid proof is committed) and I11 (one call an intent, of one leader).
    pub(crate) fn evacuate_sent(
        &mut self,
        now: Moment,
        by: (&HostName, u32),
        order: (IncidentId, ServerId, u32),
        ledger: &Ledger,
    ) -> Result<(), Violation> {
        let (incident, server, attempt) = order;
        let me = (by.0.clone(), by.1);
        let intents = ledger.incidents.get(&incident).and_then(|incident| incident.servers.get(&server));
        let intents = intents.map_or(0, |record| record.attempts as usize);
        if let Some(first) = self.calls.get(&order) {
            if *first != me {
                let intent = format!("evacuation {attempt} of {server} in incident {incident}");
                return Err(Violation::TwoLeaders { a: first.0.clone(), b: me.0, intent });
            }
            return Err(Violation::CalledTwice { server, calls: 2, intents: 1 });
        }
        self.calls.insert(order, me);
        if intents < attempt as usize {
            return Err(Violation::CalledTwice { server, calls: attempt as usize, intents });
        }
        let known = ledger.incidents.get(&incident);
        let host = known.map_or_else(|| by.0.clone(), |incident| incident.host.clone());
        let has_proof = known.is_some_and(|incident| incident.proof.is_some());
        let just_lost = self.proof_lost.get(&incident).is_some_and(|at| now.since(*at) <= BINDS_AFTER);
        if has_proof || just_lost { Ok(()) } else { Err(Violation::EvacuatedWithoutProof { server, host }) }
    }

    /// An intent was agreed. I8: no intent is taken while so many others are under way that the policy's pace is used up. Those
    /// of stuck incidents do not count: a person has to look at them. Nor do old ones: a leader need not wait for a stalled
    /// rebuild for ever.
    ///
    /// Source: design section 4, "evacuations at once".
    pub(crate) fn within_pace(
        &mut self,
        now: Moment,
        command: &LeaderCommand,
        ledger: &Ledger,
        most: usize,
    ) -> Result<(), Violation> {
        let LeaderCommand::EvacuateIntent { incident, server, attempt, .. } = command else { return Ok(()) };
        self.intents.insert((*incident, *server, *attempt), now);
        let working = ledger.open_incidents().filter(|incident| incident.phase != Phase::Stuck);
        let open = working.flat_map(|incident| {
            let attempt = |record: &ServerRecord| record.intent.as_ref().map(|open| open.attempt);
            let open = incident.servers.iter().filter_map(move |(server, record)| Some((server, attempt(record)?)));
            open.map(|(server, attempt)| (incident.id, *server, attempt))
        });
        let is_young = |key: &(IncidentId, ServerId, u32)| {
            self.intents.get(key).is_some_and(|agreed| now.since(*agreed) < INTENT_AGE)
        };
        let found = open.filter(is_young).count();
        match ledger.incidents.get(incident) {
            Some(incident) if found > most => {
                Err(Violation::Unbounded { host: incident.host.clone(), what: "evacuations under way at once", found })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The headline: no VM ever has two running copies.
///
/// # Errors
/// [`Violation::RunsTwice`].
pub fn never_twice(nova: &Nova, server: ServerId) -> Result<(), Violation> {
    if nova.copies(server) < 2 {
        return Ok(());
    }
    Err(Violation::RunsTwice { server, hosts: nova.copies_on(server).cloned().collect() })
}
