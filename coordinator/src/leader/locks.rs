//! Locks that outlive their evacuation: of incidents that are stuck, or were ended by an operator. What we locked we unlock.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{NovaError, NovaServer};
use rekindle_proto::id::{IncidentId, ServerId};
use rekindle_proto::status::Phase;

use super::proposals::Key;
use super::restore::ActWait;
use super::servers::ASK_AGAIN_AFTER;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Incident, LeaderCommand, RestoreCommand, ServerAct, ServerRecord, lock_reason};
use crate::mutant::{Guard, keeps};
use crate::order::{CommittedAct, ServerActOrder};
use crate::recovery::is_locked_by;
use crate::time::Moment;

/// Locks looked at at once: a stuck host's servers are not urgent, and Nova may be what it is stuck for.
const LOCKS_AT_ONCE: usize = 8;

/// Pause after a Nova error, or a hold.
const PAUSE: Duration = Duration::from_secs(5);

/// One lock, as this leader follows it.
#[derive(Debug, Default)]
pub(super) struct LockCase {
    asked: Option<Moment>,
    asking: bool,
    /// When the server was asked for, and what came.
    read: Option<(Moment, Option<NovaServer>)>,
    not_before: Option<Moment>,
}

impl Leader {
    pub(super) fn drive_locks(&mut self, cx: &mut Context<'_>) {
        let ledger = cx.ledger;
        if !keeps(Guard::Unlocks) {
            return;
        }
        self.unlocked_since.retain(|key, _| ledger.locks.contains(key));
        // While it is fenced or evacuated, the lock is needed, or lifted there.
        let outlives = |incident: &Incident| !incident.is_open() || incident.phase == Phase::Stuck;
        let due = ledger.locks.iter().filter_map(|key| {
            let incident = ledger.incidents.get(&key.0).filter(|incident| outlives(incident))?;
            Some((key, incident, incident.servers.get(&key.1)?))
        });
        let due: Vec<_> = due.take(LOCKS_AT_ONCE).collect();
        let keys: BTreeMap<_, ()> = due.iter().map(|(key, ..)| (**key, ())).collect();
        self.lock_cases.retain(|key, _| keys.contains_key(key));
        for (key, incident, record) in due {
            self.drive_lock(cx, *key, incident, record);
        }
    }

    fn drive_lock(
        &mut self,
        cx: &mut Context<'_>,
        key: (IncidentId, ServerId),
        incident: &Incident,
        record: &ServerRecord,
    ) {
        let now = cx.now.mono;
        let case = self.lock_cases.entry(key).or_default();
        if let Some(not_before) = case.not_before.filter(|until| now < *until) {
            self.wake_at(not_before);
            return;
        }
        if case.asking || self.is_proposing(&Key::Server(key.0, key.1)) {
            return;
        }
        let read = self.lock_cases.get(&key).and_then(|case| case.read.clone());
        if let Some(open) = record.restore.act {
            let wait = self.follow_act(cx, key, open, read, |leader, cx| {
                if open.act != ServerAct::Unlock {
                    return Err("its incident is stuck, or over".into());
                }
                leader.send_unlock(cx, key, incident);
                Ok(ActWait::Nothing)
            });
            if let ActWait::Read = wait {
                self.read_locked(cx, key);
            }
            return;
        }
        match read.filter(|(asked, _)| now.since(*asked) < ASK_AGAIN_AFTER) {
            None => self.read_locked(cx, key),
            Some((_, Some(server))) if is_locked_by(&server, &lock_reason(&cx.setup.cluster, key.0)) => {
                if cx.ledger.brakes_of(&incident.host).is_some() {
                    self.pause_lock(now, key);
                    return;
                }
                let number = record.restore.acts.saturating_add(1);
                let (incident, server) = key;
                let act = ServerAct::Unlock;
                let command = RestoreCommand::Intent { incident, server, act, number, author: self.author };
                self.command(cx, Key::Server(incident, server), LeaderCommand::Restore(command));
            }
            Some(_) => self.expect_no_lock(cx, key, record),
        }
    }

    fn send_unlock(&mut self, cx: &mut Context<'_>, key: (IncidentId, ServerId), incident: &Incident) {
        let Some(committed) = CommittedAct::find(cx.ledger, key.0, key.1, self.author) else { return };
        match self.permit(cx, &incident.host) {
            Ok(permit) => {
                let call = cx.out.call();
                if let Some(order) = ServerActOrder::unlock(call, permit, committed) {
                    self.push_act(cx, key, order);
                }
            }
            Err(_) => self.wake_at(cx.now.mono + super::HOLD_RETRY),
        }
    }

    fn read_locked(&mut self, cx: &mut Context<'_>, key: (IncidentId, ServerId)) {
        let now = cx.now.mono;
        let case = self.lock_cases.entry(key).or_default();
        if let Some(due) = case.asked.map(|asked| asked + ASK_AGAIN_AFTER).filter(|due| now < *due) {
            self.wake_at(due);
            return;
        }
        case.asking = true;
        case.asked = Some(now);
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::Server(key.1) });
        self.nova.insert(call, NovaCall::Lock(key.0, key.1));
    }

    fn pause_lock(&mut self, now: Moment, key: (IncidentId, ServerId)) {
        self.lock_cases.entry(key).or_default().not_before = Some(now + PAUSE);
        self.wake_at(now + PAUSE);
    }

    pub(super) fn take_lock_nova(
        &mut self,
        now: Moment,
        key: (IncidentId, ServerId),
        result: Result<NovaAnswer, NovaError>,
    ) {
        let Some(case) = self.lock_cases.get_mut(&key) else { return };
        case.asking = false;
        match (case.asked, result) {
            (Some(asked), Ok(NovaAnswer::Server(server))) => case.read = Some((asked, server)),
            (_, Ok(_) | Err(_)) => self.pause_lock(now, key),
        }
    }
}
