//! The dead host's servers, listed while its power is still being read: a read, and never more.
//!
//! Asked for after every device of the attempt has said *off* once. From then on nothing is built there any more, whether or
//! not Nova has it forced down: a server is placed on a host by the host's own compute service, when it claims it. What is
//! on its way there from another host (a resize, whose source writes the new host) is in the migrations, and those are read
//! after the proof. So the list is as good as one asked for after the force-down, and for hundreds of servers it takes a
//! second that nobody has to wait for. An attempt that does not end in a proof takes its list with it.

use rekindle_proto::fact::{NovaError, NovaServer};
use rekindle_proto::id::IncidentId;

use super::evacuation::{Ask, Evacuation};
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::Incident;
use crate::time::Moment;

/// The list of one attempt.
#[derive(Debug)]
pub(super) struct Ahead {
    attempt: u32,
    asked: Moment,
    answer: Answer,
}

/// How far the list is.
#[derive(Debug)]
enum Answer {
    UnderWay,
    Listed(Vec<NovaServer>),
    Failed,
}

impl Leader {
    /// Asks for the list once, if the host reads off everywhere.
    pub(super) fn look_ahead(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let id = incident.id;
        let Some(run) = self.proven_run(id).filter(|run| run.reads_off()) else { return };
        let attempt = run.attempt();
        if self.ahead.get(&id).is_some_and(|ahead| ahead.attempt == attempt) {
            return;
        }
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::Servers(incident.host.clone()) });
        self.nova.insert(call, NovaCall::Ahead(id, attempt));
        self.ahead.insert(id, Ahead { attempt, asked: cx.now.mono, answer: Answer::UnderWay });
    }

    /// The answer: kept until there is a proof, or what the recovery has been waiting for. Nova's error is nobody's trouble
    /// yet: the list is asked for again when it is needed.
    pub(super) fn take_ahead(&mut self, id: IncidentId, attempt: u32, result: Result<NovaAnswer, NovaError>) {
        let Some(ahead) = self.ahead.get_mut(&id).filter(|ahead| ahead.attempt == attempt) else { return };
        let ask = Ask::Servers(ahead.asked);
        match (self.evacuations.get_mut(&id), result) {
            (Some(evacuation), result) => {
                let is_awaited = evacuation.asking.remove(&ask);
                if let Some(answer) = result.ok().filter(|_| is_awaited) {
                    evacuation.note(&ask, answer);
                }
                self.ahead.remove(&id);
            }
            (None, Ok(NovaAnswer::Servers(servers))) => ahead.answer = Answer::Listed(servers),
            (None, Ok(_) | Err(_)) => ahead.answer = Answer::Failed,
        }
    }

    /// What was listed during the attempt that gave the proof. A list that is still being read is not asked for a second time:
    /// of hundreds of servers it takes seconds.
    pub(super) fn listed_ahead(&mut self, incident: &Incident, evacuation: &mut Evacuation) {
        let Some(ahead) = self.ahead.remove(&incident.id) else { return };
        if incident.proof.as_ref().is_none_or(|proof| proof.attempt != ahead.attempt) {
            return;
        }
        let ask = Ask::Servers(ahead.asked);
        match ahead.answer {
            Answer::Listed(servers) => evacuation.note(&ask, NovaAnswer::Servers(servers)),
            Answer::UnderWay => {
                evacuation.asking.insert(ask);
                self.ahead.insert(incident.id, ahead);
            }
            Answer::Failed => {}
        }
    }
}
