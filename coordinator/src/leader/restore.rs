//! The state of each server of a proven-off host: what is done to it before its evacuation, and after its arrival.
//!
//! Every act is committed before its call, and is open until Nova has answered it, or the server shows it, or no call of it
//! can be on its way any more. Another leadership's act is never sent, only looked for.

use rekindle_proto::fact::{NovaError, NovaServer, Text};
use rekindle_proto::id::{HostName, IncidentId, ServerId};

use super::evacuation::Ask;
use super::proposals::Key;
use super::servers::{ASK_AGAIN_AFTER, CALL_WITHIN, Round, WORD_AGE_MAX};
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::fencing::FenceProof;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{
    ActEnd, Fate, Incident, LeaderCommand, OpenAct, RestoreCommand, ServerAct, ServerRecord, lock_reason,
};
use crate::mutant::{Guard, keeps};
use crate::order::{CommittedAct, ServerActOrder};
use crate::recovery::{Arrival, ServerStep, Urgency, act_after, is_locked_by, next_step, shows};
use crate::time::Moment;

/// What this leadership did about one open act.
#[derive(Debug, Default)]
pub(super) struct ActState {
    number: u32,
    since: Option<Moment>,
    calling: bool,
    called: bool,
    /// A definite answer.
    end: Option<ActEnd>,
}

impl ActState {
    /// Takes in the answer. Gives back whether Nova took the call at all.
    fn answered(&mut self, number: u32, result: &Result<NovaAnswer, NovaError>, now: Moment) -> bool {
        if number != self.number {
            return true;
        }
        self.calling = false;
        // The settling time runs from the end of the call.
        self.since = Some(now);
        match result {
            Ok(_) => {
                self.end = Some(ActEnd::Done);
                true
            }
            Err(NovaError::Unknown(_) | NovaError::Malformed(_)) => false,
            Err(NovaError::NotSent(why)) => {
                self.end = Some(ActEnd::NotSent(why.clone()));
                false
            }
            Err(NovaError::Refused { status: status @ (401 | 408 | 413 | 429), text }) => {
                self.end = Some(ActEnd::NotSent(Text::new(format!("Nova did not take it: {status}: {text}"))));
                false
            }
            Err(NovaError::Refused { status, text }) => {
                self.end = Some(ActEnd::Refused(Text::new(format!("{status}: {text}"))));
                true
            }
        }
    }
}

/// What an open act waits for.
pub(super) enum ActWait {
    /// An answer, a permit, or time.
    Nothing,
    /// A look at the server.
    Read,
}

impl Leader {
    /// What this leadership did about acts that are over is of no more use.
    pub(super) fn forget_closed_acts(&mut self, cx: &Context<'_>) {
        self.acts.retain(|(id, server), state| {
            let record = cx.ledger.incidents.get(id).and_then(|incident| incident.servers.get(server));
            record.and_then(|record| record.restore.act).is_some_and(|open| open.number == state.number)
        });
    }

    /// An open act: send its call if it is ours and unsent, else wait until it is over.
    pub(super) fn drive_act(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        proof: &FenceProof,
        (server, record): (ServerId, &ServerRecord),
        open: OpenAct,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        let step = self.step_of(cx, incident, server, record);
        let read = self.evacuations.get(&id).and_then(|evacuation| evacuation.server_reads.get(&server));
        let read = read.map(|read| (read.asked, read.server.clone()));
        let wait = self.follow_act(cx, (id, server), open, read, |leader, cx| {
            leader.send_act(cx, incident, proof, server, open.act, &step)
        });
        if let ActWait::Read = wait {
            self.ask_nova(cx, id, Ask::Server(server, record.attempts, now), NovaRead::Server(server));
            self.wake_at(now + ASK_AGAIN_AFTER);
        }
    }

    /// The common part for servers of an evacuation and for locks that outlived theirs. `read`: when the server was asked
    /// for, and what came. `send`: sends the call; `Err`: why it is not due any more.
    pub(super) fn follow_act(
        &mut self,
        cx: &mut Context<'_>,
        (id, server): (IncidentId, ServerId),
        open: OpenAct,
        read: Option<(Moment, Option<NovaServer>)>,
        send: impl FnOnce(&mut Self, &mut Context<'_>) -> Result<ActWait, Text>,
    ) -> ActWait {
        let now = cx.now.mono;
        let key = Key::Server(id, server);
        if self.is_proposing(&key) {
            return ActWait::Nothing;
        }
        let state = self.acts.entry((id, server)).or_default();
        if state.number != open.number {
            *state = ActState { number: open.number, ..ActState::default() };
        }
        let since = *state.since.get_or_insert(now);
        let unsent = open.author == self.author && !state.called;
        let mut end = state.end.clone();
        if state.calling {
            return ActWait::Nothing;
        }
        if end.is_none() && unsent {
            if now.since(since) < CALL_WITHIN {
                match send(self, cx) {
                    Ok(wait) => return wait,
                    Err(why) => end = Some(ActEnd::NotSent(why)),
                }
            } else {
                end = Some(ActEnd::NotSent("it was held for too long; to be decided anew".into()));
            }
        }
        if end.is_none() {
            if open.act == ServerAct::Lock {
                // A lock only protects. It is counted as ours, and looked for when it is lifted.
                end = Some(ActEnd::Unsure);
            } else {
                let reason = lock_reason(&cx.setup.cluster, id);
                let read = read.filter(|(asked, _)| *asked >= since && now.since(*asked) < ASK_AGAIN_AFTER);
                end = match read {
                    None => return ActWait::Read,
                    // Deleted: whatever was to be done is.
                    Some((_, None)) => Some(ActEnd::Done),
                    Some((_, Some(server))) if shows(open.act, &server, &reason) => Some(ActEnd::Done),
                    Some(_) if now.since(since) >= cx.setup.policy.evacuate_settle => Some(ActEnd::NoEffect),
                    Some((asked, Some(_))) => {
                        self.wake_at(asked + ASK_AGAIN_AFTER);
                        return ActWait::Nothing;
                    }
                };
            }
        }
        if let Some(end) = end {
            if let Some(evacuation) = self.evacuations.get_mut(&id) {
                // What was read before says nothing of what came of it.
                match open.act {
                    ServerAct::Stop | ServerAct::Start => drop(evacuation.server_reads.remove(&server)),
                    ServerAct::Lock => {
                        if let Some(read) = evacuation.server_reads.get_mut(&server) {
                            read.before_lock = true;
                        }
                    }
                    ServerAct::Unlock | ServerAct::Reset | ServerAct::Mark => {}
                }
            }
            let number = open.number;
            let command = RestoreCommand::Close { incident: id, server, number, end };
            self.command(cx, key, LeaderCommand::Restore(command));
        }
        ActWait::Nothing
    }

    fn step_of(&self, cx: &Context<'_>, incident: &Incident, server: ServerId, record: &ServerRecord) -> ServerStep {
        let dead_ends = self.dead_ends_of(cx, incident.id, server);
        let evacuation = self.evacuations.get(&incident.id);
        let migrations = evacuation.and_then(|evacuation| evacuation.migrations.as_ref()?.of.get(&server));
        let none = Vec::new();
        let read = evacuation.and_then(|evacuation| evacuation.word_of(server, record, cx.now.mono));
        let read = read.map(|read| read.server.as_ref());
        let tries = cx.setup.policy.evacuate_tries;
        next_step(&incident.host, record, migrations.unwrap_or(&none), &dead_ends, read, tries)
    }

    /// The one call of an act, if what it rests on still holds.
    fn send_act(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        proof: &FenceProof,
        server: ServerId,
        act: ServerAct,
        step: &ServerStep,
    ) -> Result<ActWait, Text> {
        let id = incident.id;
        if let (ServerStep::ReadServer { .. }, false) = (step, act == ServerAct::Unlock) {
            return Ok(ActWait::Read);
        }
        let arrival = Arrival::of(server, step, |host| self.is_sound(cx, host).is_ok());
        let is_due = match act {
            ServerAct::Lock | ServerAct::Reset => matches!(step, ServerStep::Evacuate { .. }),
            ServerAct::Stop | ServerAct::Start | ServerAct::Mark => arrival.is_some(),
            ServerAct::Unlock => true,
        };
        if !is_due {
            return Err("it is not due any more".into());
        }
        let Some(committed) = CommittedAct::find(cx.ledger, id, server, self.author) else {
            return Ok(ActWait::Nothing);
        };
        let permit = match self.permit(cx, &incident.host) {
            Ok(permit) => permit,
            Err(hold) => {
                self.hold(cx.now.mono, id, hold.to_string());
                return Ok(ActWait::Nothing);
            }
        };
        let call = cx.out.call();
        let order = match (act, &arrival) {
            (ServerAct::Lock | ServerAct::Reset, _) => {
                ServerActOrder::before(call, permit, proof, committed, &cx.setup.cluster)
            }
            (ServerAct::Stop | ServerAct::Start | ServerAct::Mark, Some(arrival)) => {
                ServerActOrder::after(call, permit, arrival, committed)
            }
            (ServerAct::Stop | ServerAct::Start | ServerAct::Mark, None) => None,
            (ServerAct::Unlock, _) => ServerActOrder::unlock(call, permit, committed),
        };
        if let Some(order) = order {
            self.push_act(cx, (id, server), order);
        }
        Ok(ActWait::Nothing)
    }

    pub(super) fn push_act(&mut self, cx: &mut Context<'_>, key: (IncidentId, ServerId), order: ServerActOrder) {
        self.nova.insert(order.call(), NovaCall::Act(key.0, key.1, order.number()));
        if let Some(state) = self.acts.get_mut(&key) {
            state.called = true;
            state.calling = true;
        }
        cx.out.push(Output::ServerAct(order));
    }

    pub(super) fn take_act_answer(
        &mut self,
        cx: &Context<'_>,
        (id, server): (IncidentId, ServerId),
        number: u32,
        result: &Result<NovaAnswer, NovaError>,
    ) {
        let Some(state) = self.acts.get_mut(&(id, server)) else { return };
        let now = cx.now.mono;
        let taken = state.answered(number, result, now);
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.pace_calls(taken, now, cx.setup.seed ^ id.0);
        }
    }

    /// Whether a host is alive beyond doubt, so that what is sent to it does not wait in a queue; else why it may not be.
    fn is_sound(&self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        let doubted = self.suspects.contains_key(host) || !cx.is_alive(host) || cx.ledger.open_incident(host).is_some();
        if doubted { Err(Text::new(format!("waiting until it is settled whether {host} lives"))) } else { Ok(()) }
    }

    /// Why a server that has arrived stopped is not started yet; `None`: its turn has come.
    ///
    /// Groups that start one after the other: all but the most urgent are planned to arrive stopped, all of them evacuated
    /// at once, and each started when the group before is settled.
    fn start_wait(&self, now: Moment, record: &ServerRecord) -> Option<Text> {
        self.group_wait(now, record).filter(|_| record.restore.plan.stop_on_arrival)
    }

    /// Commits an act that is about to be done.
    pub(super) fn intend_act(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        act: ServerAct,
        round: &mut Round,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        if let Some(brake) = cx.ledger.brakes_of(&incident.host) {
            self.hold(now, id, brake);
            return;
        }
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        // Since when a server waits that is to be given up is not forgotten here.
        if let Some(pause) = evacuation.calls_pause.filter(|pause| now < pause.until) {
            if act.is_before() {
                evacuation.waits.insert(server, (now, "waiting for Nova: its last call was not answered".into()));
            }
            self.wake_at(pause.until);
            return;
        }
        if act.is_before() {
            if !round.has_room(Urgency::of(record)) {
                evacuation.waits_for_turn(server, now);
                return;
            }
            evacuation.waits.remove(&server);
            round.room -= 1;
            self.intending.insert((id, server), None);
        } else if round.acts > 0 {
            round.acts -= 1;
        } else {
            return;
        }
        let number = record.restore.acts.saturating_add(1);
        let command = RestoreCommand::Intent { incident: id, server, act, number, author: self.author };
        self.command(cx, Key::Server(id, server), LeaderCommand::Restore(command));
    }

    /// A server's fate is known: what is left to be done to its state is done, our lock is lifted, and it is settled.
    pub(super) fn conclude(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        fate: Fate,
        round: &mut Round,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        let read = self.evacuations.get(&id).and_then(|evacuation| evacuation.server_reads.get(&server));
        let read = read.filter(|read| now.since(read.asked) < WORD_AGE_MAX);
        let shown = read.map(|read| read.server.clone());
        if let (Fate::Recovered { to }, Some(Some(shown))) = (&fate, &shown)
            && let Some(act) = act_after(record, shown)
        {
            if let Err(why) = self.is_sound(cx, to) {
                // Looked at anew: it may be evacuated from there meanwhile.
                if let Some(fate) = self.wait(now, id, server, why, ASK_AGAIN_AFTER) {
                    let Fate::LeftBehind { why } = fate else { return };
                    let command = RestoreCommand::GiveUp { incident: id, server, act, why };
                    self.command(cx, Key::Server(id, server), LeaderCommand::Restore(command));
                }
                return;
            }
            if let Some(why) = self.start_wait(now, record).filter(|_| act == ServerAct::Start) {
                if let Some(evacuation) = self.evacuations.get_mut(&id) {
                    evacuation.waits.insert(server, (now, why));
                }
                self.wake_at(now + ASK_AGAIN_AFTER);
                return;
            }
            self.intend_act(cx, incident, (server, record), act, round);
            return;
        }
        if !record.restore.locked_by_us || fate == Fate::Deleted || !keeps(Guard::Unlocks) {
            self.settle(cx, id, server, fate);
            return;
        }
        let is_blind = self.evacuations.get(&id).and_then(|evacuation| evacuation.server_reads.get(&server));
        let is_blind = is_blind.is_some_and(|read| read.before_lock);
        let Some(shown) = shown.filter(|_| !is_blind) else {
            self.ask_nova(cx, id, Ask::Server(server, record.attempts, now), NovaRead::Server(server));
            return;
        };
        let reason = lock_reason(&cx.setup.cluster, id);
        match shown {
            Some(shown) if is_locked_by(&shown, &reason) => {
                self.intend_act(cx, incident, (server, record), ServerAct::Unlock, round);
            }
            Some(_) | None => {
                self.expect_no_lock(cx, (id, server), record);
                self.wake_at(now + WORD_AGE_MAX);
            }
        }
    }

    /// The server shows no lock of ours. If nobody knows whether ours was ever put on, it may yet come, for as long as a call
    /// can be on its way.
    pub(super) fn expect_no_lock(
        &mut self,
        cx: &mut Context<'_>,
        (id, server): (IncidentId, ServerId),
        record: &ServerRecord,
    ) {
        let now = cx.now.mono;
        let since = *self.unlocked_since.entry((id, server)).or_insert(now);
        let settled = since + cx.setup.policy.evacuate_settle;
        if record.restore.lock_unsure && now < settled {
            self.wake_at(settled);
            return;
        }
        let command = RestoreCommand::LockGone { incident: id, server };
        self.command(cx, Key::Server(id, server), LeaderCommand::Restore(command));
    }
}
