//! A host came back in another boot: its guests are to be started where they are (I6). Never evacuated, never fenced.

use std::collections::BTreeMap;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, IncidentId, ServerId, WallTime};

use super::super::incident::GuestIncident;
use super::super::reboot::{Reboot, RebootPhase, RebootServer, STARTS_AT_ONCE};
use super::super::state::Ledger;
use super::super::{CLOSED_INCIDENTS_MAX, GUEST_RESTARTS_MAX, GUEST_WINDOW_MS, INCIDENT_SERVERS_MAX};
use super::operator::By;
use super::{Applied, Outcome};
use crate::brake;

impl Ledger {
    /// A host speaks in another boot than the one the ledger knows: a failure, unless an incident has dealt with that boot's
    /// guests, or a person has the host in hand.
    pub(super) fn note_boot(&mut self, at: WallTime, host: &HostName, after: BootId) -> Option<IncidentId> {
        if !self.is_hypervisor(host) {
            return None;
        }
        let record = self.hosts.get(host)?;
        let pulse = record.pulse.as_ref().filter(|pulse| pulse.boot != after)?;
        let before = pulse.boot;
        // Nothing is recovered in a disabled segment, and an incident that only waited there would keep it from being enabled.
        let held = record.maintenance.is_some() || brake::segment_disabled(self, host).is_some();
        if record.quarantine.is_some() || held || record.accounted == Some(before) {
            return None;
        }
        let mut ran: Vec<ServerId> =
            pulse.guests.guests.iter().filter(|guest| guest.running).map(|guest| guest.server).collect();
        self.came_up(host);
        let open = self.open_reboot(host).map(|open| open.id);
        if let Some(id) = open {
            let reboot = self.reboots.get_mut(&id)?;
            reboot.rebooted_again(at, after, &mut ran);
        } else {
            if ran.is_empty() {
                return None;
            }
            let id = self.next_incident();
            self.last_incident = id;
            self.reboots.insert(id, Reboot::new(id, host, (before, after), at, ran));
        }
        let id = self.open_reboot(host)?.id;
        if let Some(why) = self.flap_hold(host)
            && let Some(reboot) = self.reboots.get_mut(&id)
        {
            reboot.phase = RebootPhase::Stuck;
            reboot.tell(at, format!("{why}; to start its guests now: `rekindle resume {id}`"), None);
        }
        self.forget_old_incidents();
        open.is_none().then_some(id)
    }

    pub(super) fn begin_reboot(&mut self, at: WallTime, id: IncidentId, servers: &[(ServerId, u8)]) -> Applied {
        if servers.len() > INCIDENT_SERVERS_MAX {
            return Err(Outcome::refused(format!("{} servers; at most {INCIDENT_SERVERS_MAX}", servers.len())));
        }
        let reboot = self.reboot_in(id, RebootPhase::Waiting)?;
        if let Some((server, _)) = servers.iter().find(|(server, _)| !reboot.ran.contains(server)) {
            return Err(Outcome::refused(format!("{server} did not run before the reboot")));
        }
        let planned = |priority: u8| RebootServer { priority, guest: None, fate: None };
        reboot.servers = servers.iter().map(|(server, priority)| (*server, planned(*priority))).collect();
        reboot.phase = RebootPhase::Starting;
        let text = format!("{} of {} guests do not run: started in place", reboot.servers.len(), reboot.ran.len());
        reboot.tell(at, text, None);
        Ok(Outcome::done("its guests are started in place"))
    }

    /// Opens the guest incident that starts one server; or takes the one that is open; or, if it was restarted too often,
    /// gives it its reason.
    pub(super) fn start_in_place(&mut self, at: WallTime, id: IncidentId, server: ServerId) -> Applied {
        let next = self.next_incident();
        let of_server = |guest: &&GuestIncident| guest.server == server;
        let open = self.open_guest_incidents().find(of_server);
        let open = open.map(|guest| guest.id);
        let recent = |guest: &&GuestIncident| at.millis_since(guest.began) < GUEST_WINDOW_MS;
        let often = self.guest_incidents.values().filter(of_server).filter(recent).count() >= GUEST_RESTARTS_MAX;
        let reboot = self.reboot_in(id, RebootPhase::Starting)?;
        if reboot.starting() >= STARTS_AT_ONCE {
            return Err(Outcome::refused(format!("{STARTS_AT_ONCE} guests of reboot {id} are being started")));
        }
        let host = reboot.host.clone();
        let Some(record) = reboot.servers.get_mut(&server).filter(|one| one.guest.is_none() && one.fate.is_none())
        else {
            return Err(Outcome::refused(format!("{server} waits for no start in reboot {id}")));
        };
        if open.is_none() && often {
            let why = format!("restarted {GUEST_RESTARTS_MAX} times within {} minutes", GUEST_WINDOW_MS / 60_000);
            record.fate = Some((false, why.as_str().into()));
            reboot.tell(at, format!("{server} is left alone: {why}"), None);
            return Ok(Outcome::done(why));
        }
        let guest = open.unwrap_or(next);
        record.guest = Some(guest);
        if open.is_none() {
            let text = format!("to be started in place after reboot {id}");
            let incident = GuestIncident::begun(guest, host, server, at, text);
            self.last_incident = guest;
            self.guest_incidents.insert(guest, incident);
            self.forget_old_incidents();
        }
        Ok(Outcome::Applied { incident: Some(guest), text: format!("guest incident {guest}").into() })
    }

    /// A guest incident was settled: perhaps it was a reboot's.
    pub(super) fn note_started(&mut self, at: WallTime, guest: IncidentId, runs: bool, why: &Text) {
        for reboot in self.reboots.values_mut().filter(|reboot| reboot.is_open()) {
            let of_guest = |(_, server): &(&ServerId, &mut RebootServer)| server.guest == Some(guest);
            let Some((id, server)) = reboot.servers.iter_mut().find(of_guest) else { continue };
            server.fate.get_or_insert_with(|| (runs, why.clone()));
            let id = *id;
            if !runs {
                reboot.tell(at, format!("{id}: {why}"), None);
            }
        }
    }

    pub(super) fn close_reboot(&mut self, at: WallTime, id: IncidentId) -> Applied {
        let reboot = self.reboot_in(id, RebootPhase::Starting)?;
        if let Some((server, _)) = reboot.servers.iter().find(|(_, server)| server.fate.is_none()) {
            return Err(Outcome::refused(format!("server {server} is not settled")));
        }
        let failed = reboot.servers.values().filter(|server| matches!(server.fate, Some((false, _)))).count();
        let run = reboot.ran.len().saturating_sub(failed);
        let (phase, text) = if failed == 0 {
            (RebootPhase::Recovered, format!("{run} of {} guests run again, in place", reboot.ran.len()))
        } else {
            let text =
                format!("{failed} of {} guests do not run, each for the reason above: look at them", reboot.ran.len());
            (RebootPhase::Stuck, text)
        };
        reboot.phase = phase;
        reboot.ended = (phase == RebootPhase::Recovered).then_some(at);
        reboot.tell(at, text.clone(), None);
        Ok(Outcome::done(text))
    }

    pub(super) fn stick_reboot(&mut self, at: WallTime, id: IncidentId, why: &Text) -> Applied {
        let reboot = self.reboots.get_mut(&id).filter(|reboot| reboot.is_open() && reboot.phase != RebootPhase::Stuck);
        let Some(reboot) = reboot else {
            return Err(Outcome::refused(format!("reboot {id} is not under way")));
        };
        reboot.phase = RebootPhase::Stuck;
        reboot.tell(at, why.clone(), None);
        Ok(Outcome::done("stuck"))
    }

    /// Tried again from the beginning: what runs by then is not started.
    pub(super) fn resume_reboot(&mut self, by: &By<'_>, id: IncidentId) -> Applied {
        let reboot = self.reboot_in(id, RebootPhase::Stuck)?;
        reboot.phase = RebootPhase::Waiting;
        reboot.servers.clear();
        reboot.tell(by.at, format!("resumed: {}", by.reason), Some(by.operator.clone()));
        Ok(Outcome::done("resumed"))
    }

    /// A host without an open incident or a quarantine of its own is released: from flapping, and from a stuck reboot.
    pub(super) fn release_living(&mut self, by: &By<'_>, host: &HostName) -> Applied {
        let open = self.open_reboot(host).map(|reboot| (reboot.id, reboot.phase));
        let flaps = self.flap_hold(host).is_some();
        if open.is_none() && !flaps {
            return Err(Outcome::refused(format!("{host} is not quarantined")));
        }
        self.release_flap(host);
        if let Some((id, RebootPhase::Stuck)) = open
            && let Some(reboot) = self.reboots.get_mut(&id)
        {
            reboot.phase = RebootPhase::Ended;
            reboot.ended = Some(by.at);
            reboot.tell(by.at, format!("ended by an operator: {}", by.reason), Some(by.operator.clone()));
        }
        Ok(Outcome::done(format!("{host} is released")))
    }

    /// The host failed again, and is now recovered as a whole.
    pub(super) fn supersede_reboot(&mut self, at: WallTime, host: &HostName, by: IncidentId) {
        let open = self.reboots.values_mut().find(|reboot| reboot.is_open() && reboot.host == *host);
        if let Some(reboot) = open {
            reboot.phase = RebootPhase::Ended;
            reboot.ended = Some(at);
            reboot.tell(at, format!("the host failed again: its servers are recovered by incident {by}"), None);
        }
    }

    pub(super) fn forget_old_reboots(&mut self) {
        let closed: Vec<IncidentId> =
            self.reboots.values().filter(|reboot| !reboot.is_open()).map(|reboot| reboot.id).collect();
        for id in closed.iter().take(closed.len().saturating_sub(CLOSED_INCIDENTS_MAX)) {
            self.reboots.remove(id);
        }
    }

    fn reboot_in(&mut self, id: IncidentId, phase: RebootPhase) -> Result<&mut Reboot, Outcome> {
        match self.reboots.get_mut(&id) {
            None => Err(Outcome::refused(format!("no reboot {id}"))),
            Some(reboot) if reboot.phase != phase => {
                Err(Outcome::refused(format!("reboot {id} is {:?}, not {phase:?}", reboot.phase)))
            }
            Some(reboot) => Ok(reboot),
        }
    }
}

impl Reboot {
    fn new(id: IncidentId, host: &HostName, boots: (BootId, BootId), at: WallTime, ran: Vec<ServerId>) -> Self {
        let (before, after) = boots;
        let mut reboot = Self {
            id,
            host: host.clone(),
            before,
            after,
            began: at,
            ended: None,
            phase: RebootPhase::Waiting,
            ran,
            servers: BTreeMap::new(),
            story: Vec::new(),
        };
        let text = format!(
            "it rebooted: boot {before} is over, {after} speaks; {} guests ran. No fence, no evacuation: what does not run \
             is started in place once its compute service reports",
            reboot.ran.len()
        );
        reboot.tell(at, text, None);
        reboot
    }

    /// Once more, before all was done: what had not been seen to is still wanted.
    fn rebooted_again(&mut self, at: WallTime, after: BootId, ran: &mut Vec<ServerId>) {
        let running: Vec<ServerId> = std::mem::take(ran);
        for server in running {
            if !self.ran.contains(&server) && self.ran.len() < INCIDENT_SERVERS_MAX {
                self.ran.push(server);
            }
        }
        self.after = after;
        self.servers.clear();
        if self.phase != RebootPhase::Stuck {
            self.phase = RebootPhase::Waiting;
        }
        self.tell(at, format!("it rebooted again: boot {after} speaks"), None);
    }
}
