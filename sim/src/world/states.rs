//! States of servers in the world: in which they are found, what is done to them, and what has become of them.

use super::*;
use crate::nova::{Cast, Stops, found, wanted};
use rekindle_coordinator::ledger::{EndState, Fate, ServerAct};
use rekindle_coordinator::order::ServerActOrder;

/// How late a call may arrive whose caller was told 504.
const LATE_CALL_MS: (u64, u64) = (1_000, 115_000);

/// One server in so many of those that are not simply active was locked by its owner.
const OWNERS_LOCK_ONE_IN: usize = 3;

impl World {
    /// So many servers in a hundred are not simply active. By dice of their own: nothing else of a seed's story depends on
    /// them.
    pub(super) fn put_in_states(&mut self, percent: u8, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x5747_a7e5);
        self.nova.stops = match dice.random_range(0..4) {
            0 => Stops::OldApi,
            1 => Stops::OldCompute,
            _ => Stops::Known,
        };
        let servers: Vec<ServerId> = self.nova.servers().map(|server| server.id).collect();
        for server in servers {
            if dice.random_range(0..100) >= percent {
                continue;
            }
            let locked = dice.random_range(0..OWNERS_LOCK_ONE_IN) == 0;
            let state = match dice.random_range(0..17_usize) {
                // Simply active, and locked.
                0..=2 => ("active", None, true),
                number => found(number),
            };
            self.nova.put(server, state, locked);
        }
    }

    pub(super) fn server_act(&mut self, ix: Ix, start: u32, order: &ServerActOrder) {
        let (call, server, act) = (order.call(), order.server(), order.act());
        if !self.in_time(ix, start, call, order.begin_before()) {
            return;
        }
        self.oracle_server_act(order);
        if let Some(error) = self.nova_refuses(ix) {
            self.later(ix, start, Duration::from_secs(1), Input::Nova { call, result: Err(error) });
            return;
        }
        if self.percent(self.weather.late_calls_percent) {
            self.count("late acts on servers");
            let late = self.millis(LATE_CALL_MS.0, LATE_CALL_MS.1);
            self.schedule(late, Happening::LateAct { server, act, reason: order.reason().to_string().into() });
            let result = Err(NovaError::Unknown("504".into()));
            self.later(ix, start, Duration::from_millis(900), Input::Nova { call, result });
            return;
        }
        let result = self.server_act_arrives(server, act, order.reason());
        let is_lost = self.percent(self.weather.lost_answers_percent);
        let result = if is_lost { Err(NovaError::Unknown("the answer was lost".into())) } else { result };
        self.later(ix, start, Duration::from_millis(30), Input::Nova { call, result });
    }

    pub(super) fn server_act_arrives(
        &mut self,
        server: ServerId,
        act: ServerAct,
        reason: &Text,
    ) -> Result<NovaAnswer, NovaError> {
        self.count(act.words());
        let cast: Option<(HostName, Cast)> = self.nova.act(server, act, reason)?;
        if let Some((host, cast)) = cast {
            let after = self.millis(10, 40);
            self.schedule(after, Happening::Nova(Box::new(Stage::Cast(host, cast))));
        }
        Ok(NovaAnswer::Accepted)
    }

    /// An act leaves the leader: nobody else's lock is lifted or put out of sight, and a stop or start goes only to a host that
    /// lives and has the server.
    fn oracle_server_act(&mut self, order: &ServerActOrder) {
        let server = order.server();
        let Some(record) = self.nova.server(server) else { return };
        let host = record.host.clone();
        let is_ours =
            record.standing.lock_reason.as_ref().is_some_and(|reason| reason.as_str().starts_with("rekindle "));
        let is_owners = record.standing.locked && !is_ours;
        let dead = self.raft.ledger().incidents.get(&order.incident()).map(|incident| incident.host.clone());
        match order.act() {
            ServerAct::Lock | ServerAct::Unlock if is_owners => self.broken(Violation::OwnersLock { server }),
            ServerAct::Stop | ServerAct::Start | ServerAct::Mark if host == dead => {
                self.broken(Violation::ActedBeforeArrival { server });
            }
            ServerAct::Lock | ServerAct::Unlock | ServerAct::Reset | ServerAct::Mark => {}
            ServerAct::Stop | ServerAct::Start => {}
        }
    }

    /// Long after everything has healed: no server is locked by us, none that its owner had locked is not, and each server
    /// that was brought back is as its owner left it, or its story says why.
    pub(super) fn all_restored(&self) -> Result<(), Violation> {
        let ledger = self.raft.ledger();
        let is_braked = ledger.hosts.keys().any(|host| ledger.brakes_of(host).is_some());
        for server in self.nova.servers() {
            let id = server.id;
            let reason = server.standing.lock_reason.as_ref().map_or("", |reason| reason.as_str());
            if server.standing.locked && reason.starts_with("rekindle ") && !is_braked {
                return Err(Violation::LockLeft { server: id });
            }
            let Some((state, ran, locked)) = self.nova.found(id) else { continue };
            if *locked && reason != crate::nova::OWNERS_REASON {
                return Err(Violation::OwnersLock { server: id });
            }
            let incidents = ledger.incidents.values();
            let records = incidents.filter_map(|incident| Some((incident, incident.servers.get(&id)?)));
            let mut records: Vec<_> = records.collect();
            let Some((last, record)) = records.pop() else { continue };
            let others_open = records.iter().any(|(incident, record)| incident.is_open() || record.fate.is_none());
            let Some(Fate::Recovered { to }) = &record.fate else { continue };
            // What befell it later is another story.
            let is_there = server.host.as_ref() == Some(to) && ledger.open_incident(to).is_none();
            let is_quiet = self.ix(to).is_some_and(|ix| self.hosts[ix].has_kernel() && self.hosts[ix].booted.is_none());
            let restarted = ledger.guest_incidents.values().any(|guest| guest.server == id);
            let told = record.restore.shortfall.is_some();
            if others_open || last.is_open() || !is_there || !is_quiet || restarted || told {
                continue;
            }
            let runs = match record.restore.plan.end {
                EndState::Error { running } => running,
                EndState::Running | EndState::Stopped => *ran,
            };
            let Some((state, runs)) = wanted(state, runs) else { continue };
            let found = (server.vm_state.as_str(), self.nova.copies(id) > 0);
            if found != (state, runs) {
                let text = format!("{} and {}", found.0, if found.1 { "running" } else { "not running" });
                return Err(Violation::NotRestored { server: id, found: text, wanted: state });
            }
        }
        Ok(())
    }
}
