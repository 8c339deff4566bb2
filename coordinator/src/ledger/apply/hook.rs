//! Hooks: begun once, ended once; and what the webhook was told. On closed incidents too: the last of them run when all is over.

use rekindle_proto::fact::Text;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{IncidentId, LeadershipId, WallTime};

use super::super::hook::{HookEnd, HookRecord};
use super::super::state::Ledger;
use super::{Applied, Outcome};
use crate::hook::HOOKS_MAX;

impl Ledger {
    pub(super) fn begin_hook(
        &mut self,
        at: WallTime,
        id: IncidentId,
        (on, hook): (HookPoint, u8),
        program: &Text,
        author: LeadershipId,
    ) -> Applied {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        if incident.hooks.iter().any(|record| (record.on, record.hook) == (on, hook)) {
            return Err(Outcome::refused(format!("{on} hook {hook} of incident {id} was begun before")));
        }
        if incident.hooks.len() >= HOOKS_MAX {
            return Err(Outcome::refused(format!("{HOOKS_MAX} hooks were begun for incident {id}")));
        }
        let record = HookRecord { on, hook, author, end: None, text: program.clone(), excused: false };
        incident.hooks.push(record);
        incident.tell(at, format!("{on} hook {program} begins"), None);
        Ok(Outcome::done("hook begun"))
    }

    pub(super) fn end_hook(
        &mut self,
        at: WallTime,
        id: IncidentId,
        (on, hook): (HookPoint, u8),
        end: HookEnd,
        text: &Text,
    ) -> Applied {
        let Some(incident) = self.incidents.get_mut(&id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let open = incident.hooks.iter_mut().find(|record| (record.on, record.hook) == (on, hook));
        let Some(record) = open.filter(|record| record.end.is_none()) else {
            return Err(Outcome::refused(format!("{on} hook {hook} of incident {id} is not under way")));
        };
        let word = match end {
            HookEnd::Done => "done",
            HookEnd::Failed => "FAILED",
            HookEnd::Unknown => "begun, outcome unknown",
        };
        record.end = Some(end);
        record.text = Text::new(format!("{on} hook {}: {word}: {text}", record.text));
        let text = record.text.clone();
        incident.tell(at, text, None);
        Ok(Outcome::done("hook ended"))
    }

    pub(super) fn hooks_over(&mut self, id: IncidentId) -> Applied {
        match self.incidents.get_mut(&id) {
            Some(incident) if incident.owes_hooks => {
                incident.owes_hooks = false;
                Ok(Outcome::done("no hook is owed any more"))
            }
            Some(_) | None => Err(Outcome::refused(format!("incident {id} owes no hooks"))),
        }
    }

    /// On closed incidents too: the last change is told when all is over.
    pub(super) fn told(&mut self, id: IncidentId, number: u32) -> Applied {
        let host = self.incidents.get_mut(&id).map(|incident| (&incident.turns, &mut incident.told));
        let process = self.processes.get_mut(&id).map(|incident| (&incident.turns, &mut incident.told));
        let Some((turns, told)) = host.or(process) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let last = turns.last().map_or(0, |turn| turn.number);
        if number <= *told || number > last {
            return Err(Outcome::refused(format!(
                "incident {id}: change {number} is not after {told} and up to {last}"
            )));
        }
        *told = number;
        Ok(Outcome::done("told"))
    }
}
