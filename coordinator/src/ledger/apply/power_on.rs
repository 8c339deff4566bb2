//! What the leader may write of hosts that are powered on after their recovery.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, LeadershipId, WallTime};

use super::super::power_on::{PowerOn, PowerOnCommand};
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn apply_power_on(&mut self, at: WallTime, command: &PowerOnCommand) -> Applied {
        match command {
            PowerOnCommand::Intent { host, attempt, author, not_after, hold } => {
                self.intend_power_on(at, host, *attempt, (*author, *not_after), *hold)
            }
            PowerOnCommand::Settled { host, attempt } => {
                let on = self.power_on_mut(host)?;
                if on.attempt != *attempt {
                    return Err(Outcome::refused(format!("attempt {attempt} to power {host} on is not the last")));
                }
                on.settled = true;
                Ok(Outcome::done(format!("no order to power {host} on is under way")))
            }
            PowerOnCommand::GiveUp { host, why } => self.give_up_power_on(at, host, why),
        }
    }

    fn intend_power_on(
        &mut self,
        at: WallTime,
        host: &HostName,
        attempt: u32,
        (author, not_after): (LeadershipId, WallTime),
        hold: bool,
    ) -> Applied {
        let (id, devices) = self.may_power_on(host).map_err(Outcome::refused)?;
        let record = self.hosts.entry(host.clone()).or_default();
        let known = record.power_on.as_ref().filter(|on| on.incident == id);
        if known.is_some_and(|on| !on.settled) {
            return Err(Outcome::refused(format!("an order to power {host} on is under way")));
        }
        let last = known.map_or(0, |on| on.attempt);
        if last.checked_add(1) != Some(attempt) {
            return Err(Outcome::refused(format!("attempt {attempt} to power {host} on does not follow {last}")));
        }
        // Its way back is decided anew in the boot to come.
        record.admitted = None;
        record.power_on =
            Some(PowerOn { incident: id, attempt, author, not_after, hold, settled: false, given_up: None });
        let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
        let then = if hold { "; it stays quarantined until a person lets it back" } else { "" };
        let text = format!("settled: {host} is powered on by {}, attempt {attempt}{then}", names.join(" and "));
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }

    fn give_up_power_on(&mut self, at: WallTime, host: &HostName, why: &Text) -> Applied {
        let on = self.power_on_mut(host)?;
        if !on.settled || on.given_up.is_some() {
            return Err(Outcome::refused(format!("powering {host} on is not to be given up now")));
        }
        on.given_up = Some(why.clone());
        let id = on.incident;
        let text = format!("{host} does not come on: {why}");
        if let Some(incident) = self.incidents.get_mut(&id) {
            incident.tell(at, text.clone(), None);
        }
        Ok(Outcome::done(text))
    }

    fn power_on_mut(&mut self, host: &HostName) -> Result<&mut PowerOn, Outcome> {
        let record = self.hosts.get_mut(host);
        let on = record.and_then(|record| {
            let quarantine = record.quarantine;
            record.power_on.as_mut().filter(|on| Some(on.incident) == quarantine)
        });
        on.ok_or_else(|| Outcome::refused(format!("{host} is not being powered on")))
    }
}
