//! The one evacuate call of a server: its intent, its answer, its end (I11).

use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{IncidentId, MigrationId, ServerId};
use rekindle_proto::status::Phase;

use super::evacuation::Ask;
use super::evacuation_answers::tells_old_compute;
use super::proposals::Key;
use super::server_words::{blocked_text, waiting_text};
use super::servers::{ASK_AGAIN_AFTER, CALL_WITHIN, Round, STALLED_AFTER};
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::fencing::FenceProof;
use crate::io::{NovaAnswer, Output};
use crate::ledger::{Destination, Incident, IntentEnd, LeaderCommand, OpenIntent, ServerRecord};
use crate::mutant::{Guard, keeps};
use crate::order::EvacuateOrder;
use crate::recovery::{CommittedIntent, IntentView, Urgency, intent_end};
use crate::time::Moment;

/// What this leadership did about one open intent.
#[derive(Debug, Default)]
pub(super) struct IntentState {
    attempt: u32,
    since: Option<Moment>,
    /// When its call was sent.
    pub(super) sent: Option<Moment>,
    calling: bool,
    called: bool,
    accepted: bool,
    /// A definite answer that ends the intent.
    end: Option<IntentEnd>,
}

impl IntentState {
    /// Takes in the answer to the call. Gives back whether Nova took the call at all (or refused this very server).
    pub(super) fn answered(&mut self, attempt: u32, result: &Result<NovaAnswer, NovaError>, now: Moment) -> bool {
        if attempt != self.attempt {
            return true;
        }
        self.calling = false;
        // The settling time runs from the end of the call: the request may have been delivered at its very last moment.
        self.since = Some(now);
        match result {
            Ok(_) => {
                self.accepted = true;
                true
            }
            Err(NovaError::Unknown(_) | NovaError::Malformed(_)) if keeps(Guard::UnknownIsOpen) => false,
            Err(NovaError::NotSent(why) | NovaError::Unknown(why) | NovaError::Malformed(why)) => {
                self.end = Some(IntentEnd::NotSent(why.clone()));
                false
            }
            // Not this server's fault: not authorised for the moment, too slow, too much at once.
            // 406: of a microversion that Nova does not know.
            Err(NovaError::Refused { status: status @ (401 | 406 | 408 | 413 | 429), text }) => {
                self.end = Some(IntentEnd::NotSent(Text::new(format!("Nova did not take it: {status}: {text}"))));
                false
            }
            Err(NovaError::Refused { status: 400, text }) if tells_old_compute(text) => {
                self.end = Some(IntentEnd::NotSent(Text::new(format!("Nova did not take it: 400: {text}"))));
                true
            }
            Err(NovaError::Refused { status, text }) => {
                self.end = Some(IntentEnd::Refused(Text::new(format!("{status}: {text}"))));
                true
            }
        }
    }

    /// Its call is to be sent, or on its way.
    pub(super) fn is_unanswered(&self) -> bool {
        self.calling || !self.called
    }

    pub(super) fn is_stalled(&self, now: Moment) -> bool {
        self.since.is_some_and(|since| now.since(since) >= STALLED_AFTER)
    }
}

impl Leader {
    /// Whether this leadership has sent the call of the open intent of that server.
    pub(super) fn is_called(&self, id: IncidentId, server: ServerId) -> bool {
        self.intents.get(&(id, server)).is_some_and(|state| state.called)
    }

    /// What this leadership did about intents that are closed is of no more use.
    pub(super) fn forget_closed_intents(&mut self, cx: &Context<'_>) {
        self.intents.retain(|(id, server), state| {
            let record = cx.ledger.incidents.get(id).and_then(|incident| incident.servers.get(server));
            record.and_then(|record| record.intent.as_ref()).is_some_and(|open| open.attempt == state.attempt)
        });
    }

    /// An open intent: send its call if it is ours and unsent, else wait until it is final.
    pub(super) fn drive_intent(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        proof: &FenceProof,
        server: ServerId,
        open: &OpenIntent,
        round: &mut Round,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        let state = self.intents.entry((id, server)).or_default();
        if state.attempt != open.attempt {
            *state = IntentState { attempt: open.attempt, ..IntentState::default() };
        }
        let since = *state.since.get_or_insert(now);
        let (calling, accepted, unsent) = {
            let is_ours = open.author == self.author || !keeps(Guard::IntentAuthor);
            (state.calling, state.accepted, (!state.called || !keeps(Guard::CalledOnce)) && is_ours)
        };
        let mut end = state.end.clone();
        if state.is_stalled(now) {
            round.stalled.push(server);
        }
        if end.is_none() && unsent {
            end = self.not_to_be_sent(incident, server, since, now);
            if end.is_none() {
                self.call(cx, incident, proof, server, open.attempt);
                return;
            }
        }
        let dead_ends = self.dead_ends_of(cx, id, server);
        let queued = self.queued_text(cx, id, server);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        evacuation.denials.last_open.insert(server, now);
        if end.is_none() {
            let listed = evacuation.migrations.as_ref().map(|list| list.asked);
            let view = IntentView { since, calling, accepted, listed };
            let none = Vec::new();
            let migrations = evacuation.migrations.as_ref().and_then(|list| list.of.get(&server)).unwrap_or(&none);
            let settle = cx.setup.policy.evacuate_settle;
            end = intent_end(open, &view, migrations, &dead_ends, settle);
            let text = queued.unwrap_or_else(|| waiting_text(open, migrations, calling, settle));
            evacuation.waits.insert(server, (since, text));
        }
        if let Some(end) = end {
            evacuation.waits.remove(&server);
            self.pace_ended(&end);
            let attempt = open.attempt;
            let command = LeaderCommand::CloseIntent { incident: id, server, attempt, end };
            self.command(cx, Key::Server(id, server), command);
        }
    }

    /// Why an intent that was not called yet is not called any more, and decided anew.
    fn not_to_be_sent(&self, incident: &Incident, server: ServerId, since: Moment, now: Moment) -> Option<IntentEnd> {
        if now.since(since) >= CALL_WITHIN {
            return Some(IntentEnd::NotSent("it was held for too long; to be decided anew".into()));
        }
        // It was intended as one that arrives stopped and waits there. Nova cannot leave it so, as the answer to another call
        // has told since: it waits for its group before its call.
        let record = incident.servers.get(&server)?;
        let runs_too_early = self.stops_unknown && record.restore.plan.stop_on_arrival;
        (runs_too_early && self.group_wait(now, record).is_some())
            .then(|| IntentEnd::NotSent("Nova cannot leave it stopped; it waits for its turn".into()))
    }

    /// The one call of an intent.
    fn call(&mut self, cx: &mut Context<'_>, incident: &Incident, proof: &FenceProof, server: ServerId, attempt: u32) {
        let (id, now) = (incident.id, cx.now.mono);
        let Some(mut intent) = CommittedIntent::find(cx.ledger, id, server, self.author) else {
            // Its host may not be used any more: it is closed unsent, and decided anew.
            self.wake_at(now + CALL_WITHIN);
            return;
        };
        intent.stop_on_arrival &= !self.stops_unknown;
        match self.permit(cx, &incident.host) {
            Ok(permit) => {
                let call = cx.out.call();
                cx.out.push(Output::Evacuate(EvacuateOrder::new(call, permit, proof, intent)));
                self.nova.insert(call, NovaCall::Evacuation(id, Ask::Evacuate(server, attempt)));
                if let Some(state) = self.intents.get_mut(&(id, server)) {
                    state.sent = Some(now);
                    state.called = true;
                    state.calling = true;
                }
            }
            Err(hold) => self.hold(cx.now.mono, id, hold.to_string()),
        }
    }

    /// Commits the intent of the next call, within the pace.
    pub(super) fn intend(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        (newest_migration, to): (Option<MigrationId>, Destination),
        round: &mut Round,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        if let Some(brake) = cx.ledger.brakes_of(&incident.host) {
            self.hold(now, id, brake);
            return;
        }
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        // A server that arrived here by an evacuation whose incident does not know it yet (I11).
        if let Some(other) = cx.ledger.open_intent_elsewhere(id, server) {
            evacuation.waits.insert(server, (now, blocked_text(incident, server, other.id)));
            if other.phase == Phase::Stuck {
                round.blocked.insert(server, other.id);
            }
            self.wake_at(now + ASK_AGAIN_AFTER);
            return;
        }
        if let Some(pause) = evacuation.calls_pause.filter(|pause| now < pause.until) {
            let why = record.last_failure.clone().unwrap_or_else(|| "its last call was not answered".into());
            evacuation.waits.insert(server, (now, Text::new(format!("waiting for Nova: {why}"))));
            self.wake_at(pause.until);
            return;
        }
        if !round.has_room(Urgency::of(record)) {
            evacuation.waits_for_turn(server, now);
            return;
        }
        let Some(to) = self.destination_for(cx, incident, (server, record), to, round) else { return };
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.waits.remove(&server);
        }
        round.room -= 1;
        let attempt = record.attempts.saturating_add(1);
        let named = if let Destination::Named(host) = &to { Some(host.clone()) } else { None };
        self.intending.insert((id, server), named);
        let command =
            LeaderCommand::EvacuateIntent { incident: id, server, attempt, author: self.author, newest_migration, to };
        self.command(cx, Key::Server(id, server), command);
    }
}
