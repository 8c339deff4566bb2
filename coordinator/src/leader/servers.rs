//! Each server of a proven-off host: intent, call, record, fate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{NovaError, NovaMigration, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, MigrationId, ServerId};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use super::Leader;
use super::evacuation::Ask;
use super::proposals::Key;
use crate::context::Context;
use crate::fencing::FenceProof;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Fate, Incident, IntentEnd, LeaderCommand, OpenIntent, ServerRecord};
use crate::order::EvacuateOrder;
use crate::recovery::{CommittedIntent, IntentView, ServerStep, hosts_to_ask, intent_end, next_step};
use crate::time::Moment;

/// A host's word that it does not run a guest, while it is believed.
const DENIAL_AGE_MAX: Duration = Duration::from_secs(10);

/// Between two questions to the same host about the same guests.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long a server waits for a host that may run a copy of it, before it is left behind with that reason. Long enough for
/// that host to be fenced itself.
const DENIAL_WAIT_MAX: Duration = Duration::from_secs(600);

/// Between two looks at a server at which Nova is still at work.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What this leader knows of one server's open intent.
#[derive(Debug, Default)]
pub(super) struct IntentState {
    attempt: u32,
    since: Option<Moment>,
    calling: bool,
    called: bool,
    /// A definite answer that ends the intent.
    end: Option<IntentEnd>,
}

impl IntentState {
    pub(super) fn answered(&mut self, attempt: u32, result: &Result<NovaAnswer, NovaError>, now: Moment) {
        if attempt != self.attempt {
            return;
        }
        self.calling = false;
        // The settling time runs from the end of the call: the request may have been delivered at its very last moment.
        self.since = Some(now);
        self.end = match result {
            Ok(_) | Err(NovaError::Unknown(_) | NovaError::Malformed(_)) => None,
            Err(NovaError::NotSent(why)) => Some(IntentEnd::NotSent(why.clone())),
            Err(NovaError::Refused { status, text }) => {
                Some(IntentEnd::Refused(Text::new(format!("{status}: {text}"))))
            }
        };
    }
}

/// Who said, when, which guests it does not (or does) run.
#[derive(Debug, Default)]
pub(super) struct Denials {
    calls: BTreeMap<CallId, (HostName, Vec<ServerId>)>,
    asked: BTreeMap<HostName, Moment>,
    said: BTreeMap<(HostName, ServerId), (Moment, bool)>,
}

impl Leader {
    pub(super) fn drive_servers(&mut self, cx: &mut Context<'_>, incident: &Incident, proof: &FenceProof) {
        let id = incident.id;
        let unsettled: Vec<ServerId> =
            incident.servers.iter().filter(|(_, record)| record.fate.is_none()).map(|(server, _)| *server).collect();
        if unsettled.is_empty() {
            self.command(cx, Key::Incident(id), LeaderCommand::Close { incident: id });
            return;
        }
        if !self.poll_migrations(cx, incident) {
            return;
        }
        let mut questions: BTreeMap<HostName, Vec<ServerId>> = BTreeMap::new();
        for server in unsettled {
            let Some(record) = incident.servers.get(&server) else { continue };
            if self.is_proposing(&Key::Server(id, server)) {
                continue;
            }
            match record.intent {
                Some(open) => self.drive_intent(cx, incident, proof, server, open),
                None => self.drive_step(cx, incident, server, record, &mut questions),
            }
        }
        self.ask_hosts(cx, id, questions);
    }

    /// An open intent: send its call if it is ours and unsent, else wait until it is final.
    fn drive_intent(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        proof: &FenceProof,
        server: ServerId,
        open: OpenIntent,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let state = evacuation.intents.entry(server).or_default();
        if state.attempt != open.attempt {
            *state = IntentState { attempt: open.attempt, ..IntentState::default() };
        }
        state.since.get_or_insert(now);
        let mut end = state.end.clone();
        if end.is_none() && !state.called && open.author == self.author {
            let Some(intent) = CommittedIntent::find(cx.ledger, id, server, self.author) else { return };
            match self.permit(cx, &incident.host) {
                Ok(permit) => {
                    let call = cx.out.call();
                    cx.out.push(Output::Evacuate(EvacuateOrder::new(call, permit, proof, intent)));
                    self.order_evacuate(id, call, server, open.attempt);
                    if let Some(state) = self.evacuations.get_mut(&id).and_then(|all| all.intents.get_mut(&server)) {
                        state.called = true;
                        state.calling = true;
                    }
                }
                Err(hold) => self.hold(now, id, hold.to_string()),
            }
            return;
        }
        if end.is_none() {
            let view = IntentView {
                since: state.since.unwrap_or(now),
                calling: state.calling,
                listed: evacuation.migrations.as_ref().map(|list| list.asked),
            };
            let none = Vec::new();
            let migrations = evacuation.migrations.as_ref().and_then(|list| list.of.get(&server)).unwrap_or(&none);
            end = intent_end(&open, &view, migrations, cx.setup.policy.evacuate_settle);
        }
        if let Some(end) = end {
            let attempt = open.attempt;
            let command = LeaderCommand::CloseIntent { incident: id, server, attempt, end };
            self.command(cx, Key::Server(id, server), command);
        }
    }

    /// No open intent: what next?
    fn drive_step(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        record: &ServerRecord,
        questions: &mut BTreeMap<HostName, Vec<ServerId>>,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        evacuation.intents.remove(&server);
        let none = Vec::new();
        let migrations = evacuation.migrations.as_ref().and_then(|list| list.of.get(&server)).unwrap_or(&none);
        let read = evacuation.server_reads.get(&server).filter(|(attempt, _)| *attempt == record.attempts);
        let read = read.map(|(_, server)| server.as_ref());
        match next_step(&incident.host, record, migrations, read, cx.setup.policy.evacuate_tries) {
            ServerStep::ReadServer => {
                let ask = Ask::Server(server, record.attempts);
                self.ask_nova(cx, id, ask, NovaRead::Server(server));
            }
            ServerStep::Wait(why) => {
                evacuation.waits.insert(server, (now, why));
                evacuation.server_reads.remove(&server);
                self.wake_at(now + LOOK_AGAIN_AFTER);
            }
            ServerStep::Settle(fate) => self.settle(cx, id, server, fate),
            ServerStep::Evacuate { newest_migration } => {
                let migrations = migrations.clone();
                match self.copies_denied(cx, incident, server, &migrations, questions) {
                    Ok(()) => self.intend(cx, incident, server, record, newest_migration),
                    Err(fate) => {
                        if let Some(fate) = fate {
                            self.settle(cx, id, server, fate);
                        }
                    }
                }
            }
        }
    }

    fn settle(&mut self, cx: &mut Context<'_>, id: IncidentId, server: ServerId, fate: Fate) {
        self.command(cx, Key::Server(id, server), LeaderCommand::Settle { incident: id, server, fate });
    }

    /// Commits the intent of the next call, within the pace.
    fn intend(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        record: &ServerRecord,
        newest_migration: Option<MigrationId>,
    ) {
        let id = incident.id;
        if let Some(brake) = cx.ledger.brakes_of(&incident.host) {
            self.hold(cx.now.mono, id, brake);
            return;
        }
        let committed = cx.ledger.open_incidents().flat_map(|incident| incident.servers.values());
        let under_way = committed.filter(|record| record.intent.is_some()).count() + self.intending.len();
        if under_way >= cx.setup.policy.evacuations_at_once {
            return;
        }
        let attempt = record.attempts + 1;
        let command =
            LeaderCommand::EvacuateIntent { incident: id, server, attempt, author: self.author, newest_migration };
        self.intending.insert((id, server, attempt));
        self.command(cx, Key::Server(id, server), command);
    }

    /// Every host that may run a copy has denied it, or is itself proven off (I11). Else the question is added to
    /// `questions`, and the server waits; beyond [`DENIAL_WAIT_MAX`] it is left behind.
    fn copies_denied(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        migrations: &[NovaMigration],
        questions: &mut BTreeMap<HostName, Vec<ServerId>>,
    ) -> Result<(), Option<Fate>> {
        let now = cx.now.mono;
        let hosts = hosts_to_ask(&incident.host, migrations);
        let unproven: BTreeSet<&HostName> = hosts.iter().filter(|host| !self.is_proven_off(cx, host)).collect();
        let Some(evacuation) = self.evacuations.get_mut(&incident.id) else { return Err(None) };
        let mut why = None;
        for host in unproven {
            let said = evacuation.denials.said.get(&(host.clone(), server));
            match said.filter(|(at, _)| now.since(*at) < DENIAL_AGE_MAX) {
                Some((_, false)) => {}
                Some((_, true)) => {
                    why = Some(format!("{host}, named by its migration records, says that it runs it: look at it"));
                }
                None => {
                    questions.entry(host.clone()).or_default().push(server);
                    why.get_or_insert_with(|| {
                        format!("{host}, named by its migration records, has not said that it does not run it")
                    });
                }
            }
        }
        let Some(why) = why else {
            evacuation.waits.remove(&server);
            return Ok(());
        };
        let since = evacuation.waits.get(&server).map_or(now, |(since, _)| *since);
        evacuation.waits.insert(server, (since, Text::new(why.clone())));
        self.wake_at(now + ASK_AGAIN_AFTER);
        let over = now.since(since) >= DENIAL_WAIT_MAX;
        Err(over.then(|| Fate::LeftBehind { why: Text::new(why) }))
    }

    /// Another incident's host, off by a proof that holds now.
    fn is_proven_off(&self, cx: &Context<'_>, host: &HostName) -> bool {
        let Some(incident) = cx.ledger.open_incident(host) else { return false };
        matches!(incident.phase, Phase::Fenced | Phase::Evacuating) && self.proof(cx, incident).is_some()
    }

    fn ask_hosts(&mut self, cx: &mut Context<'_>, id: IncidentId, questions: BTreeMap<HostName, Vec<ServerId>>) {
        let now = cx.now.mono;
        for (host, servers) in questions {
            let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
            let asked = evacuation.denials.asked.get(&host);
            if asked.is_some_and(|asked| now.since(*asked) < ASK_AGAIN_AFTER) {
                continue;
            }
            evacuation.denials.asked.insert(host.clone(), now);
            let call = cx.out.call();
            evacuation.denials.calls.retain(|_, (other, _)| *other != host);
            evacuation.denials.calls.insert(call, (host.clone(), servers.clone()));
            if host == cx.setup.host {
                self.own_guest_questions.push((call, servers));
            } else {
                cx.send(&host, Message::AskGuests { call, servers });
            }
        }
    }

    /// A host's answer to which of the asked guests it runs; `None`: its hypervisor did not answer.
    pub(crate) fn guests_answer(
        &mut self,
        cx: &Context<'_>,
        from: &HostName,
        call: CallId,
        running: Option<&[ServerId]>,
    ) {
        for evacuation in self.evacuations.values_mut() {
            let is_asked = evacuation.denials.calls.get(&call).is_some_and(|(host, _)| host == from);
            let Some((host, servers)) = is_asked.then(|| evacuation.denials.calls.remove(&call)).flatten() else {
                continue;
            };
            let Some(running) = running else { continue };
            for server in servers {
                let runs = running.contains(&server);
                evacuation.denials.said.insert((host.clone(), server), (cx.now.mono, runs));
            }
        }
        self.touch();
    }

    /// Why a server waits, for people.
    pub(crate) fn server_wait(&self, id: IncidentId, server: ServerId) -> Option<&Text> {
        self.evacuations.get(&id).and_then(|evacuation| evacuation.waits.get(&server)).map(|(_, why)| why)
    }
}
