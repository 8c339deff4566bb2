//! What may be written about voters.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::{MemberRole, Text};
use rekindle_proto::id::{HostName, IncidentId, OperatorName, StoreId, WallTime};
use rekindle_proto::status::Phase;

use super::super::incident::Incident;
use super::super::state::Ledger;
use super::super::voters::{
    REPLACE_EVERY_MS, STANDBYS_MAX, Seat, VOTERS_MAX, VoterChange, VotersCommand, exchange, placement,
};
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn apply_voters(&mut self, at: WallTime, command: &VotersCommand) -> Applied {
        match command {
            VotersCommand::Mirror { voters, standbys } => self.mirror_voters(at, voters, standbys),
            VotersCommand::Begin { out, into, why } => {
                self.may_replace_by_itself(out.as_ref())?;
                self.begin_change(at, VoterChange { out: out.clone(), into: into.clone(), why: why.clone(), by: None })
            }
            VotersCommand::GiveUp { why } => match self.voters.changing.take() {
                None => Err(Outcome::refused("no change of voters is under way")),
                Some(change) => {
                    self.voters.tell(at, format!("given up: {}: {why}", words(&change)));
                    Ok(Outcome::done("given up"))
                }
            },
        }
    }

    fn mirror_voters(&mut self, at: WallTime, voters: &[Seat], standbys: &[Seat]) -> Applied {
        let map = |seats: &[Seat]| -> BTreeMap<HostName, StoreId> {
            seats.iter().map(|seat| (seat.host.clone(), seat.store)).collect()
        };
        let (voters_map, standbys_map) = (map(voters), map(standbys));
        if voters_map.len() != voters.len() || voters.is_empty() || voters.len() > VOTERS_MAX {
            return Err(Outcome::refused(format!("{} voters, {} hosts", voters.len(), voters_map.len())));
        }
        if standbys.len() > STANDBYS_MAX {
            return Err(Outcome::refused(format!("{} standbys; at most {STANDBYS_MAX}", standbys.len())));
        }
        let book = &mut self.voters;
        let stay: BTreeSet<StoreId> = voters.iter().chain(standbys).map(|seat| seat.store).collect();
        let before = std::mem::replace(&mut book.voters, voters_map);
        let stood = std::mem::replace(&mut book.standbys, standbys_map);
        for store in before.values().chain(stood.values()).filter(|store| !stay.contains(store)) {
            book.retire(*store);
        }
        book.wanted = book.wanted.max(u32::try_from(voters.len()).unwrap_or(u32::MAX));
        let done = book.changing.take_if(|change| {
            let votes = |seat: &Seat| book.voters.get(&seat.host) == Some(&seat.store);
            change.into.iter().all(votes) && !change.out.as_ref().is_some_and(votes)
        });
        if let Some(change) = done {
            if change.by.is_none() && change.out.is_some() {
                book.replaced_at = Some(self.time);
            }
            book.tell(at, format!("done: {}", words(&change)));
        }
        Ok(Outcome::done(format!("{} voters, {} standbys", voters.len(), standbys.len())))
    }

    /// What binds the leader, and not an operator: a replacement must not be part of a storm, nor one of many.
    fn may_replace_by_itself(&self, out: Option<&Seat>) -> Result<(), Outcome> {
        let Some(out) = out else { return Ok(()) };
        if self.roster.get(&out.host).is_some_and(|entry| entry.role == MemberRole::Witness) {
            return Err(Outcome::refused(format!("{} is a witness: an operator replaces it", out.host)));
        }
        if !self.arming.armed {
            return Err(Outcome::refused("disarmed: voters are replaced by an operator only"));
        }
        let open = self.open_incidents().filter(|incident| incident.phase != Phase::Stuck).count();
        if open > 1 {
            return Err(Outcome::refused(format!("{open} open incidents: no voter is replaced in a storm")));
        }
        match self.voters.replaced_at.map(|last| self.time.millis_since(last)) {
            Some(since) if since < REPLACE_EVERY_MS => Err(Outcome::refused(format!(
                "a voter was replaced {} s ago; at most one per {} s",
                since / 1_000,
                REPLACE_EVERY_MS / 1_000
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn begin_change(&mut self, at: WallTime, change: VoterChange) -> Applied {
        if let Some(under_way) = &self.voters.changing {
            return Err(Outcome::refused(format!("under way: {}", words(under_way))));
        }
        let book = &self.voters;
        if let Some(out) = change.out.as_ref().filter(|out| book.voters.get(&out.host) != Some(&out.store)) {
            return Err(Outcome::refused(format!("{} does not vote", out.host)));
        }
        if let Some(seat) = change.into.iter().find(|seat| book.standbys.get(&seat.host) != Some(&seat.store)) {
            return Err(Outcome::refused(format!("{} is no standby", seat.host)));
        }
        let after = book.after(change.out.as_ref().map(|out| &out.host), &change.into);
        if after.len() < book.voters.len() || change.into.is_empty() {
            return Err(Outcome::refused("voters never become fewer"));
        }
        let before: Vec<HostName> = book.voters.keys().cloned().collect();
        exchange(&self.roster, &before, &after).map_err(Outcome::refused)?;
        let text = words(&change);
        self.voters.tell(at, text.clone());
        self.voters.changing = Some(change);
        Ok(Outcome::done(text))
    }

    /// An operator replaces one voter by a standby. The limits of the automatic way do not bind a person.
    pub(super) fn replace_voter(
        &mut self,
        at: WallTime,
        operator: &OperatorName,
        reason: &Text,
        old: &HostName,
        new: &HostName,
    ) -> Applied {
        let seat = |map: &BTreeMap<HostName, StoreId>, host: &HostName, what: &str| match map.get(host) {
            Some(store) => Ok(Seat { host: host.clone(), store: *store }),
            None => Err(Outcome::refused(format!("{host} is no {what}: look at `rekindle voters`"))),
        };
        let change = VoterChange {
            out: Some(seat(&self.voters.voters, old, "voter")?),
            into: vec![seat(&self.voters.standbys, new, "standby")?],
            why: reason.clone(),
            by: Some(operator.clone()),
        };
        self.begin_change(at, change)
    }

    /// Whether the voters are where they may be. Unknown voters (no leader has written them down yet) are not judged.
    ///
    /// # Errors
    /// Which rule is broken.
    pub(super) fn may_arm_voters(&self) -> Result<(), Outcome> {
        let voters: Vec<HostName> = self.voters.voters.keys().cloned().collect();
        if voters.is_empty() {
            return Ok(());
        }
        placement(&self.roster, &voters).map_err(Outcome::refused)
    }

    /// A new generation: one survivor keeps the ledger alone, by an operator's signed order. Everybody else who voted is
    /// fenced by this ledger's own proof, or off by the operator's word.
    pub(super) fn recover_quorum(
        &mut self,
        at: WallTime,
        operator: &OperatorName,
        reason: &Text,
        order: &super::super::entry::QuorumRecovery,
    ) -> Applied {
        if order.generation != self.voters.generation.saturating_add(1) {
            return Err(Outcome::refused(format!(
                "the order begins generation {}; this ledger is of generation {}",
                order.generation, self.voters.generation
            )));
        }
        if self.voters.voters.get(&order.survivor.host) != Some(&order.survivor.store) {
            return Err(Outcome::refused(format!("{} did not vote with this store", order.survivor.host)));
        }
        let mut words = Vec::new();
        for host in self.voters.voters.keys().filter(|host| **host != order.survivor.host) {
            if self.is_proven_off(host) {
                words.push(format!("{host} is fenced"));
            } else if order.stated_off.contains(host) {
                words.push(format!("{host} is off by {operator}'s word"));
            } else {
                return Err(Outcome::refused(format!(
                    "voter {host} is neither fenced nor stated to be off: name it with --off once you have seen that it is"
                )));
            }
        }
        self.void_proofs(at, "the quorum was lost and recovered");
        let book = &mut self.voters;
        for store in book.voters.values().chain(book.standbys.values()).copied().collect::<Vec<_>>() {
            if store != order.survivor.store {
                book.retire(store);
            }
        }
        book.generation = order.generation;
        book.voters = BTreeMap::from([(order.survivor.host.clone(), order.survivor.store)]);
        book.standbys.clear();
        book.changing = None;
        let text = format!(
            "quorum recovered by {operator} on {}, generation {}: {reason} ({})",
            order.survivor.host,
            order.generation,
            words.join(", ")
        );
        book.tell(at, text.clone());
        Ok(Outcome::done(text))
    }

    /// What was proven under the voters of before is proven again: nobody knows what else they decided.
    fn void_proofs(&mut self, at: WallTime, why: &str) {
        let proven = |incident: &&Incident| incident.proof.is_some() && incident.phase != Phase::Stuck;
        let ids: Vec<IncidentId> = self.open_incidents().filter(proven).map(|incident| incident.id).collect();
        for id in ids {
            // It is open and proven: it cannot be refused.
            let _voided = self.void_proof(at, id, &why.into());
        }
    }

    /// Whether this ledger has proof that a host is off.
    #[must_use]
    pub fn is_proven_off(&self, host: &HostName) -> bool {
        let open = self.open_incident(host).is_some_and(|incident| incident.proof.is_some());
        let kept = self.hosts.get(host).and_then(|record| record.quarantine);
        open || kept.and_then(|id| self.incidents.get(&id)).is_some_and(|incident| incident.proof.is_some())
    }
}

fn words(change: &VoterChange) -> String {
    let into: Vec<&str> = change.into.iter().map(|seat| seat.host.as_str()).collect();
    let into = into.join(", ");
    let what = match &change.out {
        Some(out) => format!("{into} for {}", out.host),
        None => format!("{into} added"),
    };
    match &change.by {
        Some(operator) => format!("{what}, by {operator}: {}", change.why),
        None => format!("{what}: {}", change.why),
    }
}

#[cfg(test)]
mod tests;
