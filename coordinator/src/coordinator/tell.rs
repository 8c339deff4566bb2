//! What an applied entry means to the world: one event per change of phase, one per settled server.

use std::collections::BTreeMap;

use rekindle_proto::fact::Text;
use rekindle_proto::id::IncidentId;

use super::Coordinator;
use crate::io::{Event, Output};
use crate::ledger::{Entry, Fate, JoinState, JoinStep, LeaderCommand, ReserveCommand, RestoreCommand, Statement};
use crate::notice::{notification, subjects};
use crate::policy::Setup;

impl Coordinator {
    /// `before`: the last change of each open incident.
    pub(super) fn tell_phases(&mut self, before: &BTreeMap<IncidentId, u32>, last: IncidentId) {
        let Setup { cluster, host: us, .. } = &self.setup;
        for subject in subjects(&self.ledger) {
            let known = match before.get(&subject.id) {
                Some(number) => *number,
                None if subject.id > last => 0,
                None => continue,
            };
            for turn in subject.turns.iter().filter(|turn| turn.number > known) {
                let (text, number, phase) = (turn.text.clone(), turn.number, turn.to);
                let (incident, host) = (subject.id, subject.host.clone());
                self.out.push(Output::Event(match subject.process {
                    None => Event::Phase { incident: Some(incident), number, host, phase, text },
                    Some(process) => Event::Process { incident, host, process: process.clone(), phase, text },
                }));
                self.out.push(Output::Notice(Box::new(notification(cluster, us, subject, turn))));
            }
        }
        for guest in self.ledger.guest_incidents.values().filter(|guest| guest.id > last) {
            let what = guest.story.first().map_or("it failed", |line| line.text.as_str());
            let text = Text::new(format!("{what} on {}", guest.host));
            self.out.push(Output::Event(Event::Server { incident: guest.id, server: guest.server, text, bad: true }));
        }
    }

    pub(super) fn tell_servers(&mut self, entry: &Entry) {
        let Statement::Leader { command, .. } = &entry.statement else { return };
        let (incident, server, text, bad) = match command {
            LeaderCommand::Settle { incident, server, fate } => match fate {
                Fate::Recovered { to } => {
                    let record = self.ledger.incidents.get(incident).and_then(|known| known.servers.get(server));
                    match record.and_then(|record| record.restore.shortfall.as_ref()) {
                        Some(why) => (*incident, *server, Text::new(format!("recovered on {to}: {why}")), true),
                        None => (*incident, *server, Text::new(format!("recovered on {to}")), false),
                    }
                }
                Fate::LeftBehind { why } => (*incident, *server, Text::new(format!("left behind: {why}")), true),
                Fate::Deleted => (*incident, *server, Text::from("deleted meanwhile"), false),
            },
            LeaderCommand::SettleGuest { incident, recovered, why } => {
                let Some(guest) = self.ledger.guest_incidents.get(incident) else { return };
                (*incident, guest.server, why.clone(), !recovered)
            }
            LeaderCommand::Restore(RestoreCommand::Intent { incident, server, act, .. }) => {
                (*incident, *server, Text::from(act.words()), false)
            }
            LeaderCommand::Restore(RestoreCommand::GiveUp { incident, server, act, why }) => {
                (*incident, *server, Text::new(format!("not {}: {why}", act.words())), true)
            }
            LeaderCommand::Reserve(ReserveCommand::Take { incident, host, server, .. }) => {
                (*incident, *server, Text::new(format!("reserved host {host} is taken")), false)
            }
            LeaderCommand::Reserve(ReserveCommand::Turn { incident, server, why }) => {
                (*incident, *server, Text::new(format!("turns to the other half of its method: {why}")), false)
            }
            LeaderCommand::Reserve(ReserveCommand::Return { host, .. }) => {
                return self.out.warn(Some(host), "reserved host not needed: it is reserved again");
            }
            LeaderCommand::Reserve(ReserveCommand::Lose { host, why, .. }) => {
                let text = Text::new(format!("reserved host is used no more, nor reserved: {why}"));
                return self.out.warn(Some(host), text);
            }
            LeaderCommand::Reserve(ReserveCommand::Aggregate { host, step, .. }) => {
                let Some(text) = not_joined(step) else { return };
                return self.out.warn(Some(host), text);
            }
            LeaderCommand::Restore(RestoreCommand::Close { .. } | RestoreCommand::LockGone { .. }) => return,
            LeaderCommand::OpenIncident { .. }
            | LeaderCommand::OpenStuck { .. }
            | LeaderCommand::EndSigns { .. }
            | LeaderCommand::Refute { .. }
            | LeaderCommand::FenceIntent { .. }
            | LeaderCommand::FenceIntentBy { .. }
            | LeaderCommand::FenceFailed { .. }
            | LeaderCommand::ConfirmFence { .. }
            | LeaderCommand::VoidProof { .. }
            | LeaderCommand::OffSettled { .. }
            | LeaderCommand::ConfirmWatchdog { .. }
            | LeaderCommand::BeginEvacuation { .. }
            | LeaderCommand::EvacuateIntent { .. }
            | LeaderCommand::CloseIntent { .. }
            | LeaderCommand::Close { .. }
            | LeaderCommand::HooksOver { .. }
            | LeaderCommand::Stick { .. }
            | LeaderCommand::GuestIntent { .. }
            | LeaderCommand::Voters(_)
            | LeaderCommand::BeginEpoch { .. }
            | LeaderCommand::MarkEpoch { .. }
            | LeaderCommand::DropLift { .. }
            | LeaderCommand::AbsentAnswers { .. }
            | LeaderCommand::Elapse { .. }
            | LeaderCommand::EndProbation { .. }
            | LeaderCommand::BeginReboot { .. }
            | LeaderCommand::StartInPlace { .. }
            | LeaderCommand::CloseReboot { .. }
            | LeaderCommand::BeginHook { .. }
            | LeaderCommand::EndHook { .. }
            | LeaderCommand::Told { .. }
            | LeaderCommand::StickReboot { .. }
            | LeaderCommand::Admit { .. }
            | LeaderCommand::Readmit { .. }
            | LeaderCommand::OpenProcess { .. }
            | LeaderCommand::ServiceDisabled { .. }
            | LeaderCommand::EndProcess { .. }
            | LeaderCommand::ServiceBack { .. }
            | LeaderCommand::Rehearse(_)
            | LeaderCommand::Queue(_)
            | LeaderCommand::PowerOn(_) => return,
        };
        self.out.push(Output::Event(Event::Server { incident, server, text, bad }));
    }
}

/// What went wrong with an aggregate, if anything.
fn not_joined(step: &JoinStep) -> Option<String> {
    match step {
        JoinStep::GiveUp { why } => Some(format!("reserved host joins no more aggregates: {why}")),
        JoinStep::End { aggregate, state: JoinState::Refused(why) } => {
            Some(format!("reserved host does not join aggregate {aggregate}: {why}"))
        }
        JoinStep::End { aggregate, state: JoinState::Stays(why) } => {
            Some(format!("reserved host stays in aggregate {aggregate}, take it out by hand: {why}"))
        }
        JoinStep::Intend { .. } | JoinStep::End { .. } => None,
    }
}
