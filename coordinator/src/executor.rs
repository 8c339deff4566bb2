//! What a voter does at the leader's word: it switches a fence device off, and reads it, where the leader does not reach it.
//!
//! Nothing is begun on a word alone. The attempt must stand in our own ledger as ours and not over, its leader must be the one
//! that Raft names to us in that very term; then we ask "may I?", and only the answer to that question, counted from our
//! question, is an order ([`LeadersGo`]). Each answer is spent once.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::executor::ExecutorWord;
use rekindle_proto::fact::{DeviceName, DeviceReading, OrderError, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, Term};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use crate::context::Context;
use crate::fencing::DeviceIdentity;
use crate::io::Output;
use crate::order::{LeadersGo, PowerOffOrder, Question};

/// Questions, orders and readings kept at once, each: the devices of a rack's hosts, twice. What is beyond is not done, and its
/// leader goes on without us.
const AT_ONCE_MAX: usize = 128;

/// How long a question is remembered, so that an answer that comes too late is told as such.
const QUESTION_KEPT: Duration = Duration::from_secs(60);

/// What we execute for a leader.
#[derive(Debug, Default)]
pub(crate) struct Executor {
    questions: BTreeMap<CallId, Question>,
    orders: BTreeMap<CallId, (HostName, CallId)>,
    readings: BTreeMap<CallId, (HostName, CallId)>,
}

/// Who leads in which term, by Raft's word to this voter.
pub(crate) type Hint<'a> = &'a (Term, Option<HostName>);

impl Executor {
    /// A word of the leader, or of somebody who says so.
    pub(crate) fn word(&mut self, cx: &mut Context<'_>, hint: Hint<'_>, from: &HostName, word: ExecutorWord) {
        match word {
            ExecutorWord::Task { call, incident, attempt, device } => {
                match is_ours(cx, hint, from, (incident, attempt), &device) {
                    Ok(host) => {
                        let leader = from.clone();
                        let asked = cx.now.mono;
                        self.ask(cx, Question { leader, task: call, incident, attempt, host, device, asked });
                    }
                    Err(why) => say(cx, from, ExecutorWord::Refused { task: call, why: Text::new(why) }),
                }
            }
            ExecutorWord::Go { question, begin_within_ms, kill_within_ms, identity } => {
                let within = (millis(begin_within_ms), millis(kill_within_ms));
                self.begin(cx, hint, from, question, within, identity.into());
            }
            ExecutorWord::Read { call, host, device, within_ms } => {
                // Reading changes nothing; yet only the leader may make us ask.
                if hint.1.as_ref() != Some(from) || self.readings.len() >= AT_ONCE_MAX {
                    return;
                }
                let own = cx.out.call();
                self.readings.insert(own, (from.clone(), call));
                let within = millis(within_ms).min(cx.setup.policy.device_timeout);
                cx.out.push(Output::ReadDevice { call: own, host, device, guid: true, within });
            }
            // A voter's words, to its leader.
            ExecutorWord::MayI { .. }
            | ExecutorWord::Refused { .. }
            | ExecutorWord::Done { .. }
            | ExecutorWord::Reading { .. } => {}
        }
    }

    /// "May I?": what is granted counts from this very moment.
    fn ask(&mut self, cx: &mut Context<'_>, question: Question) {
        let now = cx.now.mono;
        self.questions.retain(|_, other| now.since(other.asked) < QUESTION_KEPT);
        if self.questions.len() >= AT_ONCE_MAX || self.orders.len() >= AT_ONCE_MAX {
            let why = Text::new(format!("{AT_ONCE_MAX} orders are under way here"));
            return say(cx, &question.leader, ExecutorWord::Refused { task: question.task, why });
        }
        let own = cx.out.call();
        say(cx, &question.leader, ExecutorWord::MayI { question: own, task: question.task });
        self.questions.insert(own, question);
    }

    /// The leader's answer. It is spent here, whatever comes of it.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        hint: Hint<'_>,
        from: &HostName,
        question: CallId,
        within: (Duration, Duration),
        identity: DeviceIdentity,
    ) {
        if self.questions.get(&question).is_none_or(|asked| asked.leader != *from) {
            return;
        }
        let Some(question) = self.questions.remove(&question) else { return };
        let (now, task) = (cx.now.mono, question.task);
        let policy = &cx.setup.policy;
        let lasts = Duration::from_secs(u64::from(policy.off_polls)) + policy.device_timeout;
        let still = is_ours(cx, hint, from, (question.incident, question.attempt), &question.device);
        let go = LeadersGo::answer(question, within, lasts, identity, now);
        if still.is_err() || now >= go.begin_before() {
            return say(cx, from, ExecutorWord::Done { task, result: Err(OrderError::TooLate) });
        }
        let call = cx.out.call();
        self.orders.insert(call, (from.clone(), task));
        cx.out.push(Output::PowerOff(PowerOffOrder::told(call, go)));
    }

    /// An order of ours was answered. Gives back whether it was one.
    pub(crate) fn ordered(&mut self, cx: &mut Context<'_>, call: CallId, result: &Result<(), OrderError>) -> bool {
        let Some((leader, task)) = self.orders.remove(&call) else { return false };
        say(cx, &leader, ExecutorWord::Done { task, result: result.clone() });
        true
    }

    /// A reading of ours was answered. Gives back whether it was one.
    pub(crate) fn read(&mut self, cx: &mut Context<'_>, call: CallId, reading: &DeviceReading) -> bool {
        let Some((leader, asked)) = self.readings.remove(&call) else { return false };
        say(cx, &leader, ExecutorWord::Reading { call: asked, reading: reading.clone() });
        true
    }
}

/// Whether an attempt is ours to execute for that leader, by our own ledger and by Raft. Gives back whose power it cuts.
fn is_ours(
    cx: &Context<'_>,
    (term, leader): Hint<'_>,
    from: &HostName,
    (id, number): (IncidentId, u32),
    device: &DeviceName,
) -> Result<HostName, String> {
    if leader.as_ref() != Some(from) {
        return Err(format!("{from} does not lead, as far as is known here"));
    }
    let Some(incident) = cx.ledger.incidents.get(&id) else {
        return Err(format!("incident {id} is not known here"));
    };
    if incident.phase != Phase::Fencing {
        return Err(format!("incident {id} is {} here", incident.phase));
    }
    let under_way = incident.last_attempt().filter(|last| last.attempt == number && last.failed.is_none());
    let Some(attempt) = under_way else {
        return Err(format!("attempt {number} is not under way here"));
    };
    if cx.ledger.executors.get(&(id, number)) != Some(&cx.setup.host) {
        return Err(format!("attempt {number} is not {}'s to execute", cx.setup.host));
    }
    if attempt.term != *term || attempt.leader.as_ref() != Some(from) {
        return Err(format!("attempt {number} is of term {}, and {from} leads in term {term}", attempt.term));
    }
    if !attempt.devices.contains(device) {
        return Err(format!("attempt {number} has no device {device}"));
    }
    Ok(incident.host.clone())
}

fn say(cx: &mut Context<'_>, to: &HostName, word: ExecutorWord) {
    cx.send(to, Message::Executor(word));
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

#[cfg(test)]
mod tests;
