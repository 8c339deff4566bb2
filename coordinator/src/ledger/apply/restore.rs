//! The leader's words about the state of servers: locks, resets, stops, starts.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{IncidentId, LeadershipId, ServerId, WallTime};
use rekindle_proto::status::Phase;

use super::super::incident::{Incident, ServerRecord};
use super::super::restoration::{ACT_TRIES, ActEnd, OpenAct, RestoreCommand, ServerAct};
use super::super::state::Ledger;
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn apply_restore(&mut self, at: WallTime, command: &RestoreCommand) -> Applied {
        let (RestoreCommand::Intent { incident: id, server, .. }
        | RestoreCommand::Close { incident: id, server, .. }
        | RestoreCommand::GiveUp { incident: id, server, .. }
        | RestoreCommand::LockGone { incident: id, server }) = command;
        if let RestoreCommand::Intent { act, .. } = command {
            self.may_intend(*id, *server, *act)?;
        }
        // Open or closed: what we locked is ours to unlock, whatever became of the incident.
        let Some(incident) = self.incidents.get_mut(id) else {
            return Err(Outcome::refused(format!("no incident {id}")));
        };
        let Some(record) = incident.servers.get_mut(server) else {
            return Err(Outcome::refused(format!("{server} is not a server of incident {id}")));
        };
        let told = match command {
            RestoreCommand::Intent { act, number, author, .. } => intend(record, *act, *number, *author)?,
            RestoreCommand::Close { number, end, .. } => close(record, *number, end)?,
            RestoreCommand::GiveUp { act, why, .. } => {
                must_be_idle(record)?;
                Some(give_up(record, *act, why))
            }
            RestoreCommand::LockGone { .. } => {
                must_be_idle(record)?;
                record.restore.unlocked();
                None
            }
        };
        if let Some(text) = told {
            let text = format!("{} ({server}): {text}", record.name);
            incident.tell(at, text, None);
        }
        self.index_lock(*id, *server);
        Ok(Outcome::done("written"))
    }

    /// A lock outlives its incident if need be; everything else belongs to an evacuation.
    fn may_intend(&mut self, id: IncidentId, server: ServerId, act: ServerAct) -> Result<(), Outcome> {
        self.may_act_on(id)?;
        if act == ServerAct::Unlock {
            return Ok(());
        }
        let incident: &mut Incident = self.incident_mut(id)?;
        incident.must_be(Phase::Evacuating)?;
        if incident.proof.is_none() {
            return Err(Outcome::refused("no valid proof that the host is off"));
        }
        let record = incident.unsettled_mut(server)?;
        if record.intent.is_some() {
            return Err(Outcome::refused("an evacuation of that server may be under way"));
        }
        Ok(())
    }

    /// Keeps the list of locks that are ours.
    pub(super) fn index_lock(&mut self, id: IncidentId, server: ServerId) {
        let record = self.incidents.get(&id).and_then(|incident| incident.servers.get(&server));
        if record.is_some_and(|record| record.restore.locked_by_us) {
            self.locks.insert((id, server));
        } else {
            self.locks.remove(&(id, server));
        }
    }
}

fn must_be_idle(record: &ServerRecord) -> Result<(), Outcome> {
    match record.restore.act {
        Some(open) => Err(Outcome::refused(format!("act {} on that server is open", open.number))),
        None => Ok(()),
    }
}

fn intend(
    record: &mut ServerRecord,
    act: ServerAct,
    number: u32,
    author: LeadershipId,
) -> Result<Option<String>, Outcome> {
    must_be_idle(record)?;
    let restore = &mut record.restore;
    if act == ServerAct::Unlock && !restore.locked_by_us {
        return Err(Outcome::refused("it holds no lock of ours"));
    }
    if restore.acts.checked_add(1) != Some(number) {
        return Err(Outcome::refused(format!("act {number} does not follow {}", restore.acts)));
    }
    restore.acts = number;
    restore.act = Some(OpenAct { act, number, author });
    // From now on it may be locked, whatever becomes of us.
    restore.locked_by_us |= act == ServerAct::Lock;
    Ok(match act {
        ServerAct::Lock | ServerAct::Unlock => None,
        ServerAct::Reset => {
            Some(format!("it is {}; Nova is told that it is in error, so that it can be evacuated", record.vm_state))
        }
        ServerAct::Mark => Some("Nova is told that it is in error, as it was".to_owned()),
        ServerAct::Stop => Some("Nova is asked to stop it".to_owned()),
        ServerAct::Start => Some("Nova is asked to start it".to_owned()),
    })
}

fn close(record: &mut ServerRecord, number: u32, end: &ActEnd) -> Result<Option<String>, Outcome> {
    let restore = &mut record.restore;
    let Some(open) = restore.act.filter(|open| open.number == number) else {
        return Err(Outcome::refused(format!("act {number} on that server is not open")));
    };
    let is_lock = open.act == ServerAct::Lock;
    restore.act = None;
    match end {
        ActEnd::Done => {
            restore.refusals = 0;
            match open.act {
                ServerAct::Lock | ServerAct::Stop | ServerAct::Start => {}
                ServerAct::Unlock => restore.unlocked(),
                ServerAct::Reset => restore.reset = true,
                ServerAct::Mark => restore.marked = true,
            }
        }
        ActEnd::Unsure => restore.lock_unsure |= is_lock,
        ActEnd::NoEffect | ActEnd::NotSent(_) => restore.locked_by_us &= !is_lock,
        ActEnd::Refused(why) => {
            restore.locked_by_us &= !is_lock;
            restore.refusals = restore.refusals.saturating_add(1);
            if restore.refusals >= ACT_TRIES {
                return Ok(Some(give_up(record, open.act, why)));
            }
        }
    }
    Ok(None)
}

/// What is due is given up; gives back what that means, for the story.
fn give_up(record: &mut ServerRecord, act: ServerAct, why: &Text) -> String {
    let restore = &mut record.restore;
    restore.given_up.insert(act);
    restore.refusals = 0;
    let (text, is_shortfall) = match act {
        ServerAct::Lock => (format!("it is not locked meanwhile: {why}"), false),
        ServerAct::Reset => (format!("its state was not reset: {why}"), false),
        ServerAct::Unlock => {
            restore.unlocked();
            (format!("it stays locked, look at it and unlock it: {why}"), true)
        }
        ServerAct::Mark => (format!("it was in error, and is not marked so again: {why}"), true),
        ServerAct::Stop => (format!("it is not stopped, though it was not running: {why}"), true),
        ServerAct::Start => (format!("it is not started, though it was running: {why}"), true),
    };
    if is_shortfall {
        restore.shortfall.get_or_insert_with(|| Text::new(text.clone()));
    }
    text
}
