//! Reserved hosts: taken, given back, lost; and servers that turn to the other half of their method.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, IncidentId, ServerId, WallTime};
use rekindle_proto::segment::RecoveryMethod;
use rekindle_proto::status::Phase;

use super::super::aggregates::Joins;
use super::super::reserve::{ReserveCommand, TAKEN_MAX, Taken, TakenEnd};
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn apply_reserve(&mut self, at: WallTime, command: &ReserveCommand) -> Applied {
        match command {
            ReserveCommand::Take { incident, host, server, enables } => {
                self.take_reserved(at, *incident, host, *server, *enables)
            }
            ReserveCommand::Return { incident, host } => self.return_reserved(at, *incident, host),
            ReserveCommand::Lose { incident, host, why } => self.lose_reserved(at, *incident, host, why),
            ReserveCommand::Turn { incident, server, why } => self.turn_server(at, *incident, *server, why),
            ReserveCommand::Aggregate { incident, host, step } => self.apply_join(at, *incident, host, step),
        }
    }

    /// The method by which an incident recovers, from now on.
    pub(super) fn method_of(&self, host: &HostName) -> RecoveryMethod {
        self.segments.of(host).map(|segment| segment.method).unwrap_or_default()
    }

    fn take_reserved(
        &mut self,
        at: WallTime,
        id: IncidentId,
        host: &HostName,
        server: ServerId,
        enables: bool,
    ) -> Applied {
        self.may_act_on(id)?;
        let refused = |why: String| Err(Outcome::refused(why));
        let Some(incident) = self.incidents.get(&id).filter(|incident| incident.is_open()) else {
            return refused(format!("no open incident {id}"));
        };
        incident.must_be(Phase::Evacuating)?;
        if incident.proof.is_none() {
            return refused("no valid proof that the host is off (I1)".to_owned());
        }
        if incident.reserve.method == RecoveryMethod::Auto {
            return refused(format!("incident {id} recovers by auto: no reserved host"));
        }
        let candidate = self.reserved_for(&incident.host).find(|(other, _)| *other == host);
        match candidate {
            None => return refused(format!("{host} is no reserved host of the segment of {}", incident.host)),
            Some((_, Err(why))) => return refused(format!("{host}: {why}")),
            Some((_, Ok(()))) => {}
        }
        let Some(record) = incident.servers.get(&server).filter(|record| record.fate.is_none()) else {
            return refused(format!("{server} is no unsettled server of this incident"));
        };
        let open = incident.reserve.active().find(|(position, _)| !record.leg.refused_by.contains(position));
        if let Some((_, other)) = open {
            return refused(format!("{} was taken, and has not refused {server}", other.host));
        }
        if incident.reserve.caused_by(server) > 0 {
            return refused(format!("a reserved host was taken for {server} already: one server takes one"));
        }
        if incident.reserve.taken.len() >= TAKEN_MAX {
            return refused(format!("incident {id} has taken {TAKEN_MAX} reserved hosts"));
        }
        let text = format!("reserved host {host} is taken, for {} ({server}) first", record.name);
        let mut shared = false;
        if let Some(place) = self.segments.hosts.get_mut(host) {
            shared = !place.reserved;
            place.reserved = false;
        }
        let incident = self.incident_mut(id)?;
        let text = if enables { format!("{text}; its compute service is enabled") } else { text };
        incident.tell(at, text.clone(), None);
        incident.reserve.taken.push(Taken {
            host: host.clone(),
            server,
            enables,
            shared,
            received: 0,
            excused: false,
            end: None,
            joins: Joins::default(),
        });
        Ok(Outcome::done(text))
    }

    /// On closed incidents too: a released one may leave a host behind that is to go back.
    fn return_reserved(&mut self, at: WallTime, id: IncidentId, host: &HostName) -> Applied {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let position = incident.reserve.active().find(|(_, taken)| taken.host == *host).map(|(position, _)| position);
        let Some(position) = position else {
            return Err(Outcome::refused(format!("incident {id} does not hold {host}")));
        };
        if incident.is_used(position) {
            return Err(Outcome::refused(format!("{host} has servers of incident {id}, or may get one")));
        }
        let Some(left) = incident.reserve.at(position).cloned() else {
            return Err(Outcome::refused(format!("incident {id} does not hold {host}")));
        };
        let other = self.held_elsewhere(host, id);
        if let (None, Some(ours)) = (other, left.joins.ours().next()) {
            return Err(Outcome::refused(format!("{host} is in aggregate {} by us: it leaves it first", ours.name)));
        }
        let text = match other {
            Some(other) => format!("reserved host {host} has received nothing: left to incident {other}"),
            None => format!("reserved host {host} has received nothing: it is reserved again"),
        };
        if let Some(other) = other.and_then(|other| self.incidents.get_mut(&other)) {
            other.reserve.inherit(&left);
        } else if let Some(place) = self.segments.hosts.get_mut(host) {
            place.reserved = true;
        }
        if let Some(incident) = self.incidents.get_mut(&id) {
            if let Some(taken) = incident.reserve.taken.get_mut(usize::from(position)) {
                taken.end = Some(TakenEnd::Returned);
            }
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }

    fn lose_reserved(&mut self, at: WallTime, id: IncidentId, host: &HostName, why: &Text) -> Applied {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let Some(taken) = incident.reserve.taken.iter_mut().find(|taken| taken.host == *host && taken.end.is_none())
        else {
            return Err(Outcome::refused(format!("incident {id} does not hold {host}")));
        };
        taken.end = Some(TakenEnd::Lost(why.clone()));
        let names: Vec<&str> = taken.joins.ours().map(|membership| membership.name.as_str()).collect();
        let stays = match names.is_empty() {
            true => String::new(),
            false => format!("; it stays in what it joined: {}", names.join(", ")),
        };
        let text = format!("reserved host {host} is used no more, nor reserved: {why}{stays}");
        incident.tell(at, text.clone(), None);
        Ok(Outcome::done(text))
    }

    fn turn_server(&mut self, at: WallTime, id: IncidentId, server: ServerId, why: &Text) -> Applied {
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Evacuating)?;
        let then = match incident.reserve.method {
            RecoveryMethod::AutoPriority => "a reserved host",
            RecoveryMethod::RhPriority => "any host that Nova's scheduler chooses",
            RecoveryMethod::Auto | RecoveryMethod::ReservedHost => {
                return Err(Outcome::refused(format!("{} has no other half", incident.reserve.method)));
            }
        };
        let record = incident.unsettled_mut(server)?;
        if record.intent.is_some() || record.leg.turned {
            return Err(Outcome::refused("its attempt is open, or it has turned already"));
        }
        record.leg.turned = true;
        // The other half has as many tries as the first had.
        record.attempts_excused = record.attempts;
        let text = format!("{} ({server}) is to go to {then} now: {why}", record.name);
        incident.tell(at, text, None);
        Ok(Outcome::done("turned"))
    }
}
