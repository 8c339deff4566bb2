//! Aggregates that a taken reserved host joins, and leaves again if nothing came to it.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{AggregateId, HostName, IncidentId, WallTime};
use rekindle_proto::status::Phase;

use super::super::aggregates::{JOINS_MAX, JoinState, JoinStep, Membership};
use super::super::reserve::Taken;
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn apply_join(&mut self, at: WallTime, id: IncidentId, host: &HostName, step: &JoinStep) -> Applied {
        match step {
            JoinStep::Intend { aggregate, name } => self.intend_join(at, id, host, *aggregate, name),
            JoinStep::End { aggregate, state } => self.end_join(at, id, host, *aggregate, state),
            JoinStep::GiveUp { why } => self.give_up_joining(at, id, host, why),
        }
    }

    fn intend_join(
        &mut self,
        at: WallTime,
        id: IncidentId,
        host: &HostName,
        aggregate: AggregateId,
        name: &Text,
    ) -> Applied {
        self.may_act_on(id)?;
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Evacuating)?;
        if incident.proof.is_none() {
            return Err(Outcome::refused("no valid proof that the host is off (I1)"));
        }
        let (_, taken) = self.held_mut(id, host)?;
        if let Some(why) = &taken.joins.given_up {
            return Err(Outcome::refused(format!("{host} joins no more: {why}")));
        }
        let count = taken.joins.memberships.len();
        let known = taken.joins.memberships.iter_mut().find(|membership| membership.id == aggregate);
        match known {
            Some(known) if known.state.may_become(&JoinState::Intended) => known.state = JoinState::Intended,
            Some(known) => {
                return Err(Outcome::refused(format!("aggregate {name} is {} already", word(&known.state))));
            }
            None if count >= JOINS_MAX => {
                return Err(Outcome::refused(format!("{host} has joined {JOINS_MAX} aggregates")));
            }
            None => {
                let membership = Membership { id: aggregate, name: name.clone(), state: JoinState::Intended };
                taken.joins.memberships.push(membership);
            }
        }
        let text = format!("reserved host {host} is to join aggregate {name} ({aggregate}), in which the dead host is");
        self.tell_join(at, id, text)
    }

    /// On closed incidents too: a released one may leave a host behind that is to go back.
    fn end_join(
        &mut self,
        at: WallTime,
        id: IncidentId,
        host: &HostName,
        aggregate: AggregateId,
        state: &JoinState,
    ) -> Applied {
        let (is_used, taken) = self.held_mut(id, host)?;
        let known = taken.joins.memberships.iter_mut().find(|membership| membership.id == aggregate);
        let Some(known) = known else {
            return Err(Outcome::refused(format!("aggregate {aggregate} was never written down for {host}")));
        };
        if *state == JoinState::Intended || !known.state.may_become(state) {
            return Err(Outcome::refused(format!(
                "aggregate {}: {} after {}",
                known.name,
                word(state),
                word(&known.state)
            )));
        }
        if is_used && matches!(state, JoinState::Left | JoinState::Stays(_)) {
            return Err(Outcome::refused(format!("{host} has servers of incident {id}, or may get one")));
        }
        known.state = state.clone();
        let name = &known.name;
        let text = match state {
            JoinState::Intended | JoinState::Joined => format!("{host} is in aggregate {name} now"),
            JoinState::NotOurs => format!("{host} is in aggregate {name} by somebody else, and stays in it"),
            JoinState::Refused(why) => format!("{host} does not join aggregate {name}: {why}"),
            JoinState::Left => format!("{host} is no more in aggregate {name}"),
            JoinState::Stays(why) => format!("{host} stays in aggregate {name}, take it out by hand: {why}"),
        };
        self.tell_join(at, id, format!("reserved host {text}"))
    }

    fn give_up_joining(&mut self, at: WallTime, id: IncidentId, host: &HostName, why: &Text) -> Applied {
        let (_, taken) = self.held_mut(id, host)?;
        if taken.joins.given_up.is_some() {
            return Err(Outcome::refused(format!("{host} joins no more already")));
        }
        taken.joins.given_up = Some(why.clone());
        self.tell_join(
            at,
            id,
            format!("reserved host {host} joins no more aggregates, and is used all the same: {why}"),
        )
    }

    fn tell_join(&mut self, at: WallTime, id: IncidentId, text: String) -> Applied {
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }

    /// A host that an incident holds, and whether it is used.
    fn held_mut(&mut self, id: IncidentId, host: &HostName) -> Result<(bool, &mut Taken), Outcome> {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let position = incident.reserve.active().find(|(_, taken)| taken.host == *host).map(|(position, _)| position);
        let is_used = position.is_some_and(|position| incident.is_used(position));
        let taken = position.and_then(|position| incident.reserve.taken.get_mut(usize::from(position)));
        taken
            .map(|taken| (is_used, taken))
            .ok_or_else(|| Outcome::refused(format!("incident {id} does not hold {host}")))
    }
}

fn word(state: &JoinState) -> &'static str {
    match state {
        JoinState::Intended => "to be joined",
        JoinState::Joined => "joined",
        JoinState::NotOurs => "joined by somebody else",
        JoinState::Refused(_) => "refused",
        JoinState::Left => "left",
        JoinState::Stays(_) => "not to be left",
    }
}
