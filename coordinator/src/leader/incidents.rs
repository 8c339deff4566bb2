//! Open incidents, by their phase.

use rekindle_proto::id::IncidentId;
use rekindle_proto::status::Phase;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::ledger::FenceAttempt;
use crate::mutant::{Guard, keeps};

impl Leader {
    pub(super) fn drive_incidents(&mut self, cx: &mut Context<'_>) {
        let open: Vec<IncidentId> = cx.ledger.open_incidents().map(|incident| incident.id).collect();
        self.intending.retain(|(id, server), _| self.proposals.is_under_way(&Key::Server(*id, *server)));
        self.forget_closed_intents(cx);
        self.forget_closed_acts(cx);
        self.forget_pace(cx);
        self.fences.retain(|id, _| open.contains(id));
        self.evacuations.retain(|id, _| open.contains(id));
        self.ahead.retain(|id, _| open.contains(id));
        let guests = &cx.ledger.guest_incidents;
        let reboots = &cx.ledger.reboots;
        let is_reboot = |id: &IncidentId| reboots.get(id).is_some_and(crate::ledger::Reboot::is_open);
        self.holds
            .retain(|id, _| open.contains(id) || is_reboot(id) || guests.get(id).is_some_and(|guest| guest.is_open()));
        self.watch_groups(cx);
        self.watch_silent(cx);
        self.watch_dumps(cx);
        for id in open {
            let Some(incident) = cx.ledger.incidents.get(&id) else { continue };
            let is_own = |attempt: &FenceAttempt| attempt.author == self.author || keeps(Guard::NothingDropped);
            if !incident.last_attempt().is_none_or(is_own) {
                continue;
            }
            match incident.phase {
                Phase::Unclean | Phase::Fencing => {
                    self.drop_evacuation(id);
                    self.drive_fence(cx, id);
                }
                Phase::Fenced | Phase::Evacuating => {
                    self.drive_evacuation(cx, id);
                }
                Phase::Stuck => {
                    self.fences.remove(&id);
                    self.drop_evacuation(id);
                }
                Phase::Suspect | Phase::Recovered | Phase::Refuted => {}
            }
        }
        self.drive_moves(cx);
    }
}
