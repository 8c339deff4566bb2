//! Who keeps the ledger: when a dead voter is replaced, by whom, and when not.
//!
//! Gossip never changes voters. The leader does, by what Raft itself says of its members ([`VotersView`]), one step at a
//! time, each written down before it is done: a leader that comes in between finishes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{MemberRole, Text};
use rekindle_proto::id::{CallId, HostName, StoreId};
use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, REPLACE_EVERY_MS, STANDBYS_MAX, Seat, VoterChange, VotersCommand, exchange, placement};

/// A voter that has not answered the leader for this long, and is not heard otherwise, is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(60);

/// A voter or standby that answered within this time is there: some lost heartbeats are none.
const FRESH: Duration = Duration::from_secs(5);

/// Entries that one who is current may lack: what a busy second writes.
const LAG_MAX: u64 = 100;

/// How long a change may take before its outcome is unknown. A learner is added in a moment; a joint change is two commits.
pub const CHANGE_WITHIN: Duration = Duration::from_secs(10);

/// What Raft says of one of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatView {
    /// Who.
    pub seat: Seat,
    /// Entries it lacks; `None`: not known.
    pub lag: Option<u64>,
    /// Since it last answered us as leader, or since we lead.
    pub silent: Duration,
}

/// What Raft says of its members, to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VotersView {
    /// The voters, of both halves of a joint configuration.
    pub voters: Vec<SeatView>,
    /// The learners.
    pub standbys: Vec<SeatView>,
    /// Stores that ask to become learners.
    pub joining: Vec<Seat>,
    /// A change was begun and not finished: the voters it leads to.
    pub joint: Option<BTreeSet<StoreId>>,
}

impl VotersView {
    fn seats(views: &[SeatView]) -> Vec<Seat> {
        let mut seats: Vec<Seat> = views.iter().map(|view| view.seat.clone()).collect();
        seats.sort();
        seats
    }
}

/// One change of Raft's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoterAct {
    /// Send it everything from now on; it does not vote.
    AddStandby(Seat),
    /// No longer.
    RemoveStandby(Seat),
    /// These vote from now on, and nobody else; whoever leaves is told nothing any more.
    SetVoters(BTreeSet<StoreId>),
}

/// A change of voters to be made now, by the leader's own Raft, which refuses it to everybody else.
#[derive(Debug)]
pub struct ChangeVotersOrder {
    call: CallId,
    act: VoterAct,
}

impl ChangeVotersOrder {
    pub(crate) fn new(call: CallId, act: VoterAct) -> Self {
        Self { call, act }
    }

    /// To be repeated in [`crate::io::Input::VotersChanged`].
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }
    /// What.
    #[must_use]
    pub fn act(&self) -> &VoterAct {
        &self.act
    }
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// All is as it should be.
    Rest,
    /// Something should be changed, and must not be now.
    Hold(Text),
    /// Write this first.
    Write(VotersCommand),
    /// Do this.
    Act(VoterAct),
}

/// What the leader knows besides the ledger and Raft.
pub struct Surroundings<'a> {
    /// Whether gossip hears a host.
    pub alive: &'a dyn Fn(&HostName) -> bool,
    /// What forbids changes now: a storm, a brake.
    pub storm: Option<Text>,
}

/// The next step towards the voters there should be. Pure; asked again after every change.
#[must_use]
pub fn next_step(ledger: &Ledger, view: &VotersView, around: &Surroundings<'_>) -> Step {
    let book = &ledger.voters;
    if view.voters.is_empty() {
        return Step::Rest;
    }
    if let Some(target) = &view.joint {
        // Half done: nothing else goes before its end, and only this end is sure to be reachable.
        return Step::Act(VoterAct::SetVoters(target.clone()));
    }
    let (voters, standbys) = (VotersView::seats(&view.voters), VotersView::seats(&view.standbys));
    let seats = |map: &BTreeMap<HostName, StoreId>| -> Vec<Seat> {
        map.iter().map(|(host, store)| Seat { host: host.clone(), store: *store }).collect()
    };
    if seats(&book.voters) != voters || seats(&book.standbys) != standbys {
        return Step::Write(VotersCommand::Mirror { voters, standbys });
    }
    if let Some(change) = &book.changing {
        return go_on(change, view);
    }
    if let Some(step) = admit(ledger, view, around) {
        return step;
    }
    if let Some(step) = grow(ledger, view) {
        return step;
    }
    replace_dead(ledger, view, around)
}

/// A committed change that Raft does not show yet.
fn go_on(change: &VoterChange, view: &VotersView) -> Step {
    let give_up = |why: String| Step::Write(VotersCommand::GiveUp { why: Text::new(why) });
    for seat in &change.into {
        if !view.standbys.iter().any(|standby| standby.seat == *seat && is_current(standby)) {
            return give_up(format!("{} is not current any more", seat.host));
        }
    }
    let out = change.out.as_ref().map(|out| out.store);
    let stay = view.voters.iter().map(|voter| voter.seat.store).filter(|store| Some(*store) != out);
    Step::Act(VoterAct::SetVoters(stay.chain(change.into.iter().map(|seat| seat.store)).collect()))
}

/// Stores that ask to be let in: as standbys, nothing more.
fn admit(ledger: &Ledger, view: &VotersView, around: &Surroundings<'_>) -> Option<Step> {
    let known = |seat: &Seat| view.voters.iter().chain(&view.standbys).any(|known| known.seat == *seat);
    let fit = |seat: &&Seat| {
        !known(seat)
            && ledger.roster.contains_key(&seat.host)
            && (around.alive)(&seat.host)
            && !ledger.voters.retired.contains(&seat.store)
    };
    let seat = view.joining.iter().find(fit)?;
    // The same host with another store: that store is no more.
    if let Some(former) = view.standbys.iter().find(|standby| standby.seat.host == seat.host) {
        return Some(Step::Act(VoterAct::RemoveStandby(former.seat.clone())));
    }
    (view.standbys.len() < STANDBYS_MAX).then(|| Step::Act(VoterAct::AddStandby(seat.clone())))
}

/// Fewer voters than there should be: after a recovered quorum.
fn grow(ledger: &Ledger, view: &VotersView) -> Option<Step> {
    let wanted = usize::try_from(ledger.voters.wanted).unwrap_or(usize::MAX);
    let missing = wanted.saturating_sub(view.voters.len());
    if missing == 0 {
        return None;
    }
    let present: Vec<HostName> = view.voters.iter().map(|voter| voter.seat.host.clone()).collect();
    let fit: Vec<Seat> = (view.standbys.iter())
        .filter(|standby| is_current(standby) && !present.contains(&standby.seat.host))
        .map(|standby| standby.seat.clone())
        .collect();
    // All that are missing if they are there, else as many as leave an odd number.
    for count in (1..=missing.min(fit.len())).rev() {
        let mut into: Vec<Seat> = Vec::new();
        for seat in &fit {
            into.push(seat.clone());
            let after = ledger.voters.after(None, &into);
            let odd = into.len() == count;
            if odd && placement(&ledger.roster, &after).is_err() {
                into.pop();
            }
            if into.len() == count {
                break;
            }
        }
        if into.len() == count && placement(&ledger.roster, &ledger.voters.after(None, &into)).is_ok() {
            let why = Text::new(format!("{} of {wanted} voters are left", view.voters.len()));
            return Some(Step::Write(VotersCommand::Begin { out: None, into, why }));
        }
    }
    let why = format!("{} of {wanted} voters; no standbys are there and current to make them more", present.len());
    Some(Step::Hold(Text::new(why)))
}

fn replace_dead(ledger: &Ledger, view: &VotersView, around: &Surroundings<'_>) -> Step {
    let dead: Vec<(&SeatView, Text)> =
        view.voters.iter().filter_map(|voter| death_of(ledger, view, around, voter).map(|why| (voter, why))).collect();
    let Some((voter, why)) = dead.first() else { return Step::Rest };
    let host = &voter.seat.host;
    let hold = |text: String| Step::Hold(Text::new(format!("voter {host} is lost ({why}), not replaced: {text}")));
    if ledger.roster.get(host).is_some_and(|entry| entry.role == MemberRole::Witness) {
        return hold("it is a witness: `rekindle voters replace`".to_owned());
    }
    if ledger.host(host).is_some_and(|record| record.maintenance.is_some()) {
        return hold("it is in maintenance".to_owned());
    }
    if !ledger.arming.armed {
        return hold("disarmed".to_owned());
    }
    if let Some(storm) = &around.storm {
        return hold(storm.to_string());
    }
    if ledger.voters.rests_until().is_some_and(|until| ledger.time < until) {
        // The ledger refuses it too; asked each second, it would be full of refusals.
        return hold(format!("a voter was replaced lately; at most one per {} s", REPLACE_EVERY_MS / 1_000));
    }
    let late = view.voters.iter().find(|other| other.seat != voter.seat && !is_current(other));
    if let Some(late) = late {
        return hold(format!("voter {} is not current either", late.seat.host));
    }
    match successor(ledger, view, host) {
        Ok(into) => {
            Step::Write(VotersCommand::Begin { out: Some(voter.seat.clone()), into: vec![into], why: why.clone() })
        }
        Err(text) => hold(text),
    }
}

/// Why a voter counts as lost; `None`: it does not.
#[must_use]
pub fn death_of(ledger: &Ledger, view: &VotersView, around: &Surroundings<'_>, voter: &SeatView) -> Option<Text> {
    let host = &voter.seat.host;
    if voter.silent < FRESH {
        return None;
    }
    let fenced = ledger.open_incident(host).is_some_and(|incident| incident.proof.is_some())
        || ledger.host(host).is_some_and(|record| record.quarantine.is_some());
    if fenced {
        return Some("fenced".into());
    }
    if voter.silent < DEAD_AFTER {
        return None;
    }
    // Not how long exactly: what is said once is not to be said again each second.
    let silent = format!("silent for more than {} s", DEAD_AFTER.as_secs());
    let other = |seat: &Seat| seat.host == *host && seat.store != voter.seat.store;
    if view.joining.iter().any(other) || view.standbys.iter().any(|standby| other(&standby.seat)) {
        return Some(Text::new(format!("it has another store, and this one is {silent}")));
    }
    (!(around.alive)(host)).then(|| Text::new(silent))
}

/// The standby that takes a voter's place: of the same domain if there is one.
fn successor(ledger: &Ledger, view: &VotersView, host: &HostName) -> Result<Seat, String> {
    let domain = |host: &HostName| ledger.roster.get(host).and_then(|entry| entry.domain.clone());
    let mut fit: Vec<&SeatView> = view.standbys.iter().filter(|standby| is_current(standby)).collect();
    if fit.is_empty() {
        return Err("no standby is there and current".to_owned());
    }
    fit.sort_by_key(|standby| {
        let far = domain(host).is_none() || domain(&standby.seat.host) != domain(host);
        // Its own new store first: the voter is back where the operator put it.
        (standby.seat.host != *host, far, standby.seat.host.clone())
    });
    let mut last = String::new();
    for standby in fit {
        if let Err(text) = fit_for(ledger, &standby.seat, host) {
            last = format!("{}: {text}", standby.seat.host);
        } else {
            return Ok(standby.seat.clone());
        }
    }
    Err(last)
}

/// Whether this standby may take that voter's place.
pub(crate) fn fit_for(ledger: &Ledger, seat: &Seat, voter: &HostName) -> Result<(), Text> {
    if ledger.host(&seat.host).is_some_and(|record| record.maintenance.is_some() || record.quarantine.is_some()) {
        return Err("in maintenance or quarantined".into());
    }
    if ledger.open_incident(&seat.host).is_some() {
        return Err("it has an open incident".into());
    }
    let before: Vec<HostName> = ledger.voters.voters.keys().cloned().collect();
    exchange(&ledger.roster, &before, &ledger.voters.after(Some(voter), std::slice::from_ref(seat)))
}

/// It answers, and lacks next to nothing.
pub(crate) fn is_current(view: &SeatView) -> bool {
    view.silent < FRESH && view.lag.is_some_and(|lag| lag <= LAG_MAX)
}

#[cfg(test)]
mod tests;
