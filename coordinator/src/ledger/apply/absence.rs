//! Goodbyes, and what takes them back.

use rekindle_proto::fact::StopReason;
use rekindle_proto::id::{BootId, HostName, Incarnation, WallTime};

use super::super::absence::Absence;
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn absent(
        &mut self,
        at: WallTime,
        host: &HostName,
        boot: BootId,
        life: Incarnation,
        why: StopReason,
    ) -> Applied {
        let since = self.time;
        let record = self.hosts.entry(host.clone()).or_default();
        if record.absence.as_ref().is_some_and(|known| known.life >= life) {
            return Err(Outcome::refused(format!("{host} said goodbye already")));
        }
        record.absence = Some(Absence { boot, life, why, at, since, answered: false });
        Ok(Outcome::done(format!("{host} is absent: {why}")))
    }

    pub(super) fn absent_answers(&mut self, host: &HostName, life: Incarnation) -> Applied {
        let absence = self.hosts.get_mut(host).and_then(|record| record.absence.as_mut());
        match absence.filter(|absence| absence.life == life) {
            Some(absence) => {
                absence.answered = true;
                Ok(Outcome::done(format!("something lives at {host}, behind its goodbye")))
            }
            None => Err(Outcome::refused(format!("{host} is not absent since life {life}"))),
        }
    }

    pub(super) fn returned(&mut self, host: &HostName, life: Incarnation) -> Applied {
        let Some(record) = self.hosts.get_mut(host) else {
            return Err(Outcome::refused(format!("nothing is known of {host}")));
        };
        match &record.absence {
            Some(absence) if absence.life < life => {
                record.absence = None;
                Ok(Outcome::done(format!("{host} is back")))
            }
            Some(absence) => Err(Outcome::refused(format!("{host} said goodbye in life {}, not before", absence.life))),
            None => Err(Outcome::refused(format!("{host} is not absent"))),
        }
    }
}
