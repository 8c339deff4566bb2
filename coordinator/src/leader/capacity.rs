//! Capacity: read every few minutes in quiet times, and whenever an operator asks. Nothing rests on it: it holds no act, and
//! a cloud without Placement only has no answer here.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::admin::{AdminErrorKind, AdminReply};
use rekindle_proto::capacity::{CapacityDoc, CapacitySummary, LOSE_MAX};
use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{CallId, HostName};
use rekindle_proto::segment::RecoveryMethod;

use super::{Leader, NovaCall};
use crate::capacity::{CapacityQuestion, Refuge, told};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::time::Moment;

/// The first reading of a leadership: whoever was just elected has more urgent things to ask.
const FIRST_AFTER: Duration = Duration::from_secs(15);

/// A reading younger than this answers an operator at once.
const FRESH: Duration = Duration::from_secs(60);

/// How long a reading may take: two calls for each of 2,000 hosts, eight at a time. The adapter ends it then.
pub const READ_WITHIN: Duration = Duration::from_secs(110);

/// Readings under way at once: the regular one and an operator's.
const READINGS_MAX: usize = 2;

/// Operators waiting for one reading.
const ASKERS_MAX: usize = 16;

/// What is known, and who waits to know more.
#[derive(Debug, Default)]
pub(super) struct CapacityDesk {
    /// The latest answer to the regular question, and when it came.
    last: Option<(CapacityDoc, Moment)>,
    error: Option<Text>,
    due: Option<Moment>,
    readings: BTreeMap<CallId, Reading>,
}

#[derive(Debug)]
struct Reading {
    question: CapacityQuestion,
    askers: Vec<CallId>,
    asked: Moment,
}

impl Leader {
    /// The regular reading. Not while anybody is silent or recovered: Nova's API is wanted then, and one that has begun is
    /// stopped.
    pub(super) fn drive_capacity(&mut self, cx: &mut Context<'_>) {
        let Some(every) = cx.setup.policy.capacity_every else { return };
        let now = cx.now.mono;
        self.give_up_readings(cx);
        let quiet = self.suspects.is_empty() && cx.ledger.open_incidents().next().is_none();
        if !quiet {
            self.stop_readings(cx);
        }
        let due = *self.capacity.due.get_or_insert(self.began + FIRST_AFTER);
        if due > now {
            return self.wake_at(due);
        }
        self.capacity.due = Some(now + every);
        self.wake_at(now + every);
        if quiet && self.capacity.readings.len() < READINGS_MAX {
            self.read_capacity(cx, CapacityQuestion::any_one(closed(cx), refuges(cx)), None);
        }
    }

    /// An operator asks. The answer comes with the reading.
    pub(crate) fn ask_capacity(&mut self, cx: &mut Context<'_>, query: CallId, lose: u8, host: Option<HostName>) {
        if cx.setup.policy.capacity_every.is_none() {
            return refuse(cx, query, "capacity is not read: there is no [nova], or nova.capacity_every = \"off\"");
        }
        if !(1..=LOSE_MAX).contains(&lose) {
            return refuse(cx, query, format!("hosts lost at once must be 1 to {LOSE_MAX}"));
        }
        let question = CapacityQuestion { lose, host, closed: closed(cx), refuges: refuges(cx) };
        let is_regular = question.lose == 1 && question.host.is_none();
        if let Some((doc, at)) = self.capacity.last.as_ref().filter(|_| is_regular)
            && cx.now.mono.since(*at) < FRESH
        {
            let reply = AdminReply::Capacity { capacity: Box::new(doc.clone()) };
            return cx.out.push(Output::Answer { call: query, reply: Box::new(reply) });
        }
        let same = |reading: &&mut Reading| reading.question == question && reading.askers.len() < ASKERS_MAX;
        if let Some(reading) = self.capacity.readings.values_mut().find(same) {
            return reading.askers.push(query);
        }
        if self.capacity.readings.len() >= READINGS_MAX {
            return refuse(cx, query, "other readings are under way; ask again in a minute");
        }
        self.read_capacity(cx, question, Some(query));
    }

    pub(super) fn take_capacity(&mut self, cx: &mut Context<'_>, call: CallId, result: Result<NovaAnswer, NovaError>) {
        let Some(reading) = self.capacity.readings.remove(&call) else { return };
        let result = match result {
            Ok(NovaAnswer::Capacity(answer)) => answer,
            Ok(
                NovaAnswer::Service(_)
                | NovaAnswer::Servers(_)
                | NovaAnswer::Migrations(_)
                | NovaAnswer::Begun(_)
                | NovaAnswer::Server(_)
                | NovaAnswer::Image(_)
                | NovaAnswer::Project(_)
                | NovaAnswer::Aggregates(_)
                | NovaAnswer::ServerGroup(_)
                | NovaAnswer::Membership { .. }
                | NovaAnswer::Accepted,
            ) => Err("the answer was to another question".into()),
            Err(error) => Err(Text::new(error.to_string())),
        };
        let is_regular = reading.question.lose == 1 && reading.question.host.is_none();
        match &result {
            Ok(doc) if is_regular => {
                self.capacity.last = Some(((**doc).clone(), cx.now.mono));
                self.capacity.error = None;
            }
            Err(error) if is_regular => self.capacity.error = Some(error.clone()),
            Ok(_) | Err(_) => {}
        }
        for query in reading.askers {
            match &result {
                Ok(capacity) => {
                    let reply = AdminReply::Capacity { capacity: capacity.clone() };
                    cx.out.push(Output::Answer { call: query, reply: Box::new(reply) });
                }
                Err(error) => refuse(cx, query, format!("capacity cannot be told: {error}")),
            }
        }
    }

    /// The latest reading in figures, for `status` and metrics.
    pub(crate) fn capacity_summary(&self) -> Option<CapacitySummary> {
        let desk = &self.capacity;
        let doc = desk.last.as_ref().map(|(doc, _)| doc);
        if doc.is_none() && desk.error.is_none() {
            return None;
        }
        let free = |class: &rekindle_proto::capacity::ClassLine| {
            (class.class.clone(), class.capacity.saturating_sub(class.used))
        };
        Some(CapacitySummary {
            at: doc.map(|doc| doc.at),
            tried: doc.map_or(0, |doc| doc.tried),
            failing: doc.map_or(0, |doc| doc.failing),
            unfit: doc.and_then(|doc| doc.losses.iter().map(|loss| loss.unfit).max()).unwrap_or(0),
            free: doc.map(|doc| doc.classes.iter().map(free).collect()).unwrap_or_default(),
            error: desk.error.clone(),
        })
    }

    /// What the latest reading says of one host's loss.
    pub(crate) fn capacity_of(&self, now: Moment, host: &HostName) -> Option<Text> {
        let desk = &self.capacity;
        let Some((doc, at)) = &desk.last else {
            return desk.error.as_ref().map(|error| Text::new(format!("not known: {error}")));
        };
        let line = doc.losses.iter().find(|loss| loss.hosts.as_slice() == std::slice::from_ref(host));
        let words = line.map_or_else(|| "Nova has no compute node of it".to_owned(), told);
        let age = now.since(*at).as_secs();
        let stale = desk.error.as_ref().map(|error| format!("; since then: {error}")).unwrap_or_default();
        Some(Text::new(format!("{words} (an estimate, read {age} s ago{stale})")))
    }

    fn read_capacity(&mut self, cx: &mut Context<'_>, question: CapacityQuestion, asker: Option<CallId>) {
        let call = cx.out.call();
        self.nova.insert(call, NovaCall::Capacity);
        let asked = cx.now.mono;
        let reading = Reading { question: question.clone(), askers: asker.into_iter().collect(), asked };
        self.capacity.readings.insert(call, reading);
        cx.out.push(Output::Nova { call, request: NovaRead::Capacity(question) });
        self.wake_at(asked + READ_WITHIN + FIRST_AFTER);
    }

    /// Ends the readings that nobody waits for; the next is due when it always was. Those that an operator waits for go on,
    /// and with one of them all: the adapter reads once for all that it is asked meanwhile.
    fn stop_readings(&mut self, cx: &mut Context<'_>) {
        if self.capacity.readings.values().any(|reading| !reading.askers.is_empty()) {
            return;
        }
        for call in std::mem::take(&mut self.capacity.readings).into_keys() {
            self.nova.remove(&call);
            cx.out.push(Output::StopCapacity { call });
        }
    }

    /// A reading whose answer is long overdue bars no other.
    fn give_up_readings(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let overdue = |reading: &Reading| now.since(reading.asked) >= READ_WITHIN + FIRST_AFTER;
        let calls: Vec<CallId> =
            self.capacity.readings.iter().filter(|(_, reading)| overdue(reading)).map(|(call, _)| *call).collect();
        for call in calls {
            self.nova.remove(&call);
            self.take_capacity(cx, call, Err(NovaError::Unknown("no answer in time".into())));
        }
    }
}

/// Hosts that receive no servers by our own word: a person works there, or they are not to be trusted yet.
fn closed(cx: &Context<'_>) -> BTreeMap<HostName, Text> {
    let why = |host: &HostName| -> Option<Text> {
        if let Some(open) = cx.ledger.open_incident(host) {
            return Some(Text::new(format!("incident {} is open", open.id)));
        }
        let record = cx.ledger.host(host)?;
        let maintenance = record.maintenance.as_ref().map(|reason| Text::new(format!("maintenance: {reason}")));
        maintenance.or(record.quarantine.map(|id| Text::new(format!("quarantined since incident {id}"))))
    };
    cx.ledger.enrolled().filter_map(|entry| Some((entry.host.clone(), why(&entry.host)?))).collect()
}

/// The reserved hosts that would be taken for each host's servers, where its segment's method takes any.
fn refuges(cx: &Context<'_>) -> BTreeMap<HostName, Refuge> {
    let ledger = cx.ledger;
    let refuge = |host: &HostName| -> Option<Refuge> {
        let method = ledger.segments.of(host)?.method;
        let hosts = ledger.reserved_for(host).filter(|(_, allowed)| allowed.is_ok()).map(|(host, _)| host.clone());
        let hosts = hosts.collect();
        (method != RecoveryMethod::Auto).then_some(Refuge { hosts, only: method == RecoveryMethod::ReservedHost })
    };
    ledger.segments.hosts.keys().filter_map(|host| Some((host.clone(), refuge(host)?))).collect()
}

fn refuse(cx: &mut Context<'_>, call: CallId, text: impl Into<Text>) {
    let reply = AdminReply::Error { kind: AdminErrorKind::Refused, text: text.into() };
    cx.out.push(Output::Answer { call, reply: Box::new(reply) });
}
