//! What the oracle is told of voters: that a term has one leader, that a change makes nothing worse, that the dead are
//! replaced.

use rekindle_coordinator::ledger::REPLACE_EVERY_MS;
use rekindle_coordinator::voters::DEAD_AFTER;
use rekindle_proto::id::Term;

use super::*;
use crate::oracle::voters_no_worse;
use crate::raft::STORES;

/// How much longer a replacement may take when nothing hinders it: looks each second, retries, a change that is given up, and
/// the minute of the ledger's time that a change of leaders may cost.
const REPLACED_WITHIN: Duration = Duration::from_secs(240);

impl World {
    /// A store leads a term.
    pub(super) fn oracle_elected(&mut self, ix: Ix, term: Term) {
        let Some(store) = self.hosts[ix].node.as_ref().map(Node::number) else { return };
        let elected = *self.seats.elected.entry(term).or_insert(store);
        if elected != store {
            let (a, b) = (self.hosts[elected % STORES].name.clone(), self.hosts[ix].name.clone());
            self.broken(Violation::TwoElected { a, b, term });
        }
    }

    /// A configuration is agreed for the first time.
    pub(super) fn voters_agreed(&mut self, config: &Config) {
        let hosts = |set: &[usize]| -> Vec<HostName> {
            set.iter().map(|store| self.hosts[store % STORES].name.clone()).collect()
        };
        let before: Vec<HostName> = hosts(&self.last_voters);
        let verdict = voters_no_worse(&before, &hosts(config.goal()), &self.raft.ledger().roster);
        self.last_voters = config.goal().to_vec();
        let mut voters: Vec<Ix> = config.voters().into_iter().map(|store| store % STORES).collect();
        voters.sort_unstable();
        voters.dedup();
        if voters != self.voters {
            let names: Vec<&str> = voters.iter().map(|ix| self.hosts[*ix].name.as_str()).collect();
            let line =
                format!("agreed: {} vote{}", names.join(", "), if config.joint().is_some() { ", jointly" } else { "" });
            self.tell(line);
        }
        self.voters = voters;
        self.judge(verdict);
        self.recount();
    }

    /// Whether a voter is dead, and a standby fit to replace it, and nothing forbids it: and since when that has been so.
    pub(super) fn follow_owed(&mut self) {
        let now = self.now;
        self.seats.owed = match (self.owed(), self.seats.owed) {
            (Some(store), Some((known, since))) if known == store => Some((store, since)),
            (Some(store), _) => Some((store, now)),
            (None, _) => None,
        };
    }

    fn owed(&self) -> Option<usize> {
        let ledger = self.raft.ledger();
        let leader = self.leading().filter(|_| self.can_act() && ledger.arming.armed)?;
        let (_, config) = self.raft.config();
        let is_there = |store: &usize| {
            let ix = store % STORES;
            let host = &self.hosts[ix];
            let works = host.node.as_ref().is_some_and(|node| node.number() == *store && !node.is_broken);
            works
                && !host.starved
                && host.disk == Disk::Good
                && self.speaks(ix)
                && (ix == leader || self.connected(leader, ix))
        };
        let waiting = ledger.open_incidents().filter(|incident| incident.phase != Phase::Stuck).count();
        let voters = config.voters();
        let (_, absent): (Vec<usize>, Vec<usize>) = voters.iter().copied().partition(is_there);
        let &[dead] = absent.as_slice() else { return None };
        let host = &self.hosts[dead % STORES];
        let is_lost = host.node.as_ref().is_none_or(|node| node.number() != dead);
        let held = |ix: Ix| ledger.host(&self.hosts[ix].name).is_some_and(|record| record.maintenance.is_some());
        if waiting > 1 || host.role == MemberRole::Witness || held(dead % STORES) || (host.has_kernel() && !is_lost) {
            return None;
        }
        let is_fit = |standby: &&usize| {
            let name = &self.hosts[**standby % STORES].name;
            let record = ledger.host(name);
            let after = voters.iter().filter(|voter| **voter != dead).chain([*standby]);
            let after: Vec<HostName> = after.map(|store| self.hosts[store % STORES].name.clone()).collect();
            let before: Vec<HostName> = voters.iter().map(|store| self.hosts[store % STORES].name.clone()).collect();
            is_there(standby)
                && !record.is_some_and(|record| record.maintenance.is_some() || record.quarantine.is_some())
                && ledger.open_incident(name).is_none()
                && voters_no_worse(&before, &after, &ledger.roster).is_ok()
        };
        config.learners().iter().find(is_fit).map(|_| dead)
    }

    /// Liveness: a dead voter with a fit standby has been replaced.
    pub(super) fn judge_replacement(&self) -> Result<(), Violation> {
        let within = DEAD_AFTER + Duration::from_millis(REPLACE_EVERY_MS) + REPLACED_WITHIN;
        match self.seats.owed {
            Some((store, since)) if since + within < self.now => {
                Err(Violation::NotReplaced { host: self.hosts[store % STORES].name.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}
