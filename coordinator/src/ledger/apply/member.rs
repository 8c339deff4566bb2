//! What a member may say of itself. The leader vouches that it came over that member's own connection.

use std::collections::BTreeSet;

use rekindle_proto::fact::{GUESTS_MAX, GuestList};
use rekindle_proto::id::{BootId, HostName, ServerId, SystemUuid, WallTime};

use super::super::entry::MemberStatement;
use super::super::incident::GuestIncident;
use super::super::state::{Ledger, Pulse};
use super::super::{GUEST_INCIDENTS_OPEN_MAX, GUEST_RESTARTS_MAX, GUEST_WINDOW_MS};
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn apply_member(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: BootId,
        statement: &MemberStatement,
    ) -> Applied {
        if self.entry_of(host).is_none() {
            return Err(Outcome::refused(format!("{host} is not in the roster")));
        }
        if let MemberStatement::Gate { report } = statement {
            return self.gate_word(at, host, boot, report);
        }
        if let Some(open) = self.open_incident(host) {
            // What it said before is what its servers are recovered by (I6).
            return Err(Outcome::refused(format!("{host} itself has an open incident, {}", open.id)));
        }
        match statement {
            MemberStatement::Pulse { system_uuid, guests } => self.pulse(at, host, boot, *system_uuid, guests),
            MemberStatement::GuestFailed { server, event: _ } => self.guest_failed(at, host, boot, *server),
            MemberStatement::Gate { report } => self.gate_word(at, host, boot, report),
            MemberStatement::Absent { life, why } => self.absent(at, host, boot, *life, *why),
            MemberStatement::Returned { life } => self.returned(host, *life),
            MemberStatement::ArmWatchdog { stamp, watchdog } => self.arm_watchdog(at, host, boot, *stamp, watchdog),
            MemberStatement::WithdrawWatchdog { stamp } => self.withdraw_watchdog(host, *stamp),
        }
    }

    fn pulse(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: BootId,
        system_uuid: Option<SystemUuid>,
        guests: &GuestList,
    ) -> Applied {
        if guests.guests.len() > GUESTS_MAX {
            return Err(Outcome::refused(format!("{} guests; at most {GUESTS_MAX}", guests.guests.len())));
        }
        let rebooted = self.note_boot(at, host, boot);
        let said = self.guests_said(host, guests).into_owned();
        let died = self.died_unreported(host, boot, &said);
        let record = self.hosts.entry(host.clone()).or_default();
        record.pulse = Some(Pulse { at, boot, system_uuid, guests: said });
        let text = format!("{host}: {} guests", guests.guests.len()).into();
        for server in died {
            // What the rules refuse here (one is open, too often, too many) they refuse to a report as well.
            let _ = self.guest_failed(at, host, boot, server);
        }
        Ok(Outcome::Applied { incident: rebooted, text })
    }

    /// Guests that ran by the host's last word, and died since, in the same boot. Mostly a report says so, and the last word
    /// with it ([`Self::guest_failed`]); a daemon that ended before its report was noted has only its list to say it with.
    fn died_unreported(&self, host: &HostName, boot: BootId, said: &GuestList) -> Vec<ServerId> {
        let last = self.hosts.get(host).and_then(|record| record.pulse.as_ref()).filter(|last| last.boot == boot);
        let Some(last) = last else { return Vec::new() };
        let ran: BTreeSet<ServerId> =
            last.guests.guests.iter().filter(|guest| guest.running).map(|guest| guest.server).collect();
        let died = said.guests.iter().filter(|guest| guest.died && !guest.running);
        died.map(|guest| guest.server).filter(|server| ran.contains(server)).collect()
    }

    fn guest_failed(&mut self, at: WallTime, host: &HostName, boot: BootId, server: ServerId) -> Applied {
        let open = || self.open_guest_incidents();
        if let Some(guest) = open().find(|guest| guest.server == server) {
            return Err(Outcome::refused(format!("guest incident {} of {server} is open", guest.id)));
        }
        if open().filter(|guest| guest.host == *host).count() >= GUEST_INCIDENTS_OPEN_MAX {
            return Err(Outcome::refused(format!(
                "{GUEST_INCIDENTS_OPEN_MAX} failed guests of {host} are being restarted: {server} is not"
            )));
        }
        let recent = |guest: &&GuestIncident| guest.server == server && at.millis_since(guest.began) < GUEST_WINDOW_MS;
        if self.guest_incidents.values().filter(recent).count() >= GUEST_RESTARTS_MAX {
            return Err(Outcome::refused(format!(
                "{server} was restarted {GUEST_RESTARTS_MAX} times within {} minutes",
                GUEST_WINDOW_MS / 60_000
            )));
        }
        let id = self.next_incident();
        self.last_incident = id;
        let guest = GuestIncident::begun(id, host.clone(), server, at, "its process died");
        self.guest_incidents.insert(id, guest);
        self.forget_old_incidents();
        self.mark_died(host, boot, server);
        Ok(Outcome::Applied { incident: Some(id), text: format!("guest incident {id}").into() })
    }

    /// A recovery left a server stopped on its new host: that is the last word on this guest, until the host's next list. One
    /// that dies before it says so would be recovered by a list from when the server had just arrived there, running.
    pub(super) fn mark_stopped(&mut self, host: &HostName, server: ServerId) {
        let pulse = self.hosts.get_mut(host).and_then(|record| record.pulse.as_mut());
        if let Some(guest) = pulse.and_then(|last| last.guests.guests.iter_mut().find(|guest| guest.server == server)) {
            guest.running = false;
        }
    }

    /// The report is the host's last word on this guest, until its next list: that list is no second report.
    fn mark_died(&mut self, host: &HostName, boot: BootId, server: ServerId) {
        let pulse = self.hosts.get_mut(host).and_then(|record| record.pulse.as_mut()).filter(|last| last.boot == boot);
        let known = pulse.and_then(|last| last.guests.guests.iter_mut().find(|guest| guest.server == server));
        if let Some(guest) = known {
            (guest.running, guest.died) = (false, true);
        }
    }
}
