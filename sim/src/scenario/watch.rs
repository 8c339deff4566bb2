//! What a run saw of the ledger: which host reached which phase when, and what held it back.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::time::Moment;
use rekindle_proto::id::{HostName, IncidentId, LogIndex};
use rekindle_proto::status::Phase;

use crate::world::World;

/// One host reached one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// When, as exactly as the run looks.
    pub at: Moment,
    /// Who.
    pub host: HostName,
    /// What.
    pub phase: Phase,
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Watch {
    applied: LogIndex,
    lines_seen: BTreeMap<IncidentId, (usize, Option<Phase>)>,
    suspected: BTreeSet<HostName>,
    suspicions_seen: usize,
    /// Every phase reached, in order.
    pub reached: Vec<Reached>,
    /// Why each host was held back, at any time.
    pub holds: BTreeMap<HostName, BTreeSet<String>>,
}

impl Watch {
    /// Looks at the ledger. Returns how many of [`Self::reached`] are news: its last so many.
    pub fn look(&mut self, world: &World) -> usize {
        let before = self.reached.len();
        self.look_at_suspicions(world);
        let ledger = world.ledger();
        if ledger.applied != self.applied {
            self.applied = ledger.applied;
            for incident in ledger.incidents.values() {
                let (seen, last) = self.lines_seen.entry(incident.id).or_default();
                let lines = incident.story.get(*seen..).unwrap_or(&[]);
                let told = lines.iter().map(|line| line.phase);
                // The story may be full, the phase goes on.
                for phase in told.chain(std::iter::once(incident.phase)) {
                    if *last != Some(phase) {
                        *last = Some(phase);
                        self.reached.push(Reached { at: world.now(), host: incident.host.clone(), phase });
                    }
                }
                *seen = incident.story.len();
            }
        }
        self.reached.len() - before
    }

    /// A suspicion is no entry of the ledger: the leader tells it.
    fn look_at_suspicions(&mut self, world: &World) {
        let news = world.suspicions.get(self.suspicions_seen..).unwrap_or(&[]);
        self.suspicions_seen = world.suspicions.len();
        for (at, host, phase) in news {
            let changes = match phase {
                Phase::Suspect => self.suspected.insert(host.clone()),
                Phase::Unclean
                | Phase::Fencing
                | Phase::Fenced
                | Phase::Evacuating
                | Phase::Recovered
                | Phase::Refuted
                | Phase::Stuck => self.suspected.remove(host),
            };
            if changes {
                self.reached.push(Reached { at: *at, host: host.clone(), phase: *phase });
            }
        }
    }

    /// Asks the leader what holds whom back.
    pub fn ask_for_holds(&mut self, world: &mut World) {
        for (host, why) in world.holds() {
            self.holds.entry(host).or_default().insert(why);
        }
    }

    /// How often each phase was reached.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for reached in &self.reached {
            *counts.entry(reached.phase.to_string()).or_default() += 1;
        }
        counts
    }

    /// The phases of one host, in order.
    #[must_use]
    pub fn story_of(&self, host: &HostName) -> Vec<Phase> {
        self.reached.iter().filter(|reached| reached.host == *host).map(|reached| reached.phase).collect()
    }
}
