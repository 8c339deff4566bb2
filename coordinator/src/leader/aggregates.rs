//! A taken reserved host joins the aggregates of the dead host before the first server is sent to it, and leaves those that it
//! joined if it is given back.
//!
//! What is next is [`next_join`]'s and [`next_leave`]'s to say, from what Nova shows and what the ledger has: a new leader reads
//! Nova's lists anew and goes on. Nova's refusal never holds a recovery: it is told, and the host is used as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{NovaAggregate, NovaError, Text};
use rekindle_proto::id::{AggregateId, CallId, HostName, IncidentId};

use super::backoff::Backoff;
use super::proposals::Key;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Incident, JOINS_MAX, JoinState, JoinStep, Joins, LeaderCommand, Ledger, ReserveCommand, Taken};
use crate::order::{AggregateChange, AggregateOrder};
use crate::recovery::{Lookup, NextJoin, next_join, next_leave};
use crate::time::Moment;

/// An answer of Nova that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Failures of calls about aggregates, one after the other, after which the recovery goes on without. They count only while
/// Nova's word on the host's compute service is young: an outage of Nova is waited for like any other. With their pauses they
/// take half a minute.
const FAILURES_MAX: u32 = 7;

/// Statuses by which Nova means "not now", not "no": another token is fetched, or it is too busy.
const NOT_NOW: [u16; 2] = [401, 429];

/// What this leader knows of hosts that join, or leave.
#[derive(Debug, Default)]
pub(super) struct AggregateDesk {
    cases: BTreeMap<(IncidentId, HostName), AggregateCase>,
}

#[derive(Debug, Default)]
struct AggregateCase {
    asked: Option<(CallId, Ask, Moment)>,
    dead: Option<Vec<NovaAggregate>>,
    own: Option<Vec<NovaAggregate>>,
    /// Written down by this leadership, which has not asked Nova yet, nor has anybody else: if the host is in it by then,
    /// somebody else has added it.
    fresh: Option<AggregateId>,
    /// What came of a call, until the ledger has it.
    came: Option<(AggregateId, JoinState)>,
    /// Why it joins no more, until the ledger has it.
    gives_up: Option<Text>,
    pause: Option<Backoff>,
    /// What Nova said last instead of an answer.
    error: Option<Text>,
    failures: u32,
    /// It is in all of them, as far as Nova lets it.
    done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// The aggregates of the dead host.
    Dead,
    /// Those of the reserved one.
    Own,
    Join {
        aggregate: AggregateId,
        /// Nobody has asked before.
        fresh: bool,
    },
    Leave(AggregateId),
}

impl AggregateDesk {
    /// Forgets hosts that are held no more.
    pub(super) fn keep_held(&mut self, ledger: &Ledger) {
        self.cases.retain(|(id, host), _| {
            let holds = |incident: &&Incident| incident.is_open() || incident.holds_reserved();
            let incident = ledger.incidents.get(id).filter(holds);
            incident.is_some_and(|incident| incident.reserve.active().any(|(_, taken)| taken.host == *host))
        });
    }
}

impl AggregateCase {
    /// Until when nothing is to be done but to wait.
    fn waits_until(&self, now: Moment) -> Option<Moment> {
        let until = [self.asked.map(|(_, _, asked)| asked + ANSWER_WAIT), self.pause.map(|pause| pause.until)];
        until.into_iter().flatten().filter(|until| now < *until).max()
    }

    /// What the ledger does not have yet of what came. What it has is forgotten.
    fn unwritten(&mut self, joins: &Joins) -> Option<JoinStep> {
        if let Some((aggregate, state)) = self.came.clone() {
            if joins.state_of(aggregate).is_some_and(|known| known.may_become(&state)) {
                return Some(JoinStep::End { aggregate, state });
            }
            self.came = None;
        }
        let why = self.gives_up.clone().filter(|_| joins.given_up.is_none());
        if why.is_none() {
            self.gives_up = None;
        }
        why.map(|why| JoinStep::GiveUp { why })
    }

    fn take(&mut self, ask: Ask, answer: NovaAnswer) -> Result<(), NovaError> {
        match (ask, answer) {
            (Ask::Dead, NovaAnswer::Aggregates(list)) => self.dead = Some(list),
            (Ask::Own, NovaAnswer::Aggregates(list)) => self.own = Some(list),
            (Ask::Join { aggregate, fresh }, NovaAnswer::Membership { changed }) => {
                let state = if fresh && !changed { JoinState::NotOurs } else { JoinState::Joined };
                self.came = Some((aggregate, state));
            }
            (Ask::Leave(aggregate), NovaAnswer::Membership { .. }) => self.came = Some((aggregate, JoinState::Left)),
            (Ask::Dead | Ask::Own | Ask::Join { .. } | Ask::Leave(_), _) => {
                return Err(NovaError::Malformed("an answer to another question".into()));
            }
        }
        Ok(())
    }

    /// Nova did not say, or says not now.
    fn failed(&mut self, now: Moment, seed: u64, ask: Ask, error: &NovaError) {
        self.failures += 1;
        self.pause = Some(Backoff::after(self.pause, now, seed));
        self.error = Some(Text::new(error.to_string()));
        if self.failures >= FAILURES_MAX {
            let why = Text::new(error.to_string());
            match ask {
                // What was asked for may have been done: it stays written down as begun, and is left like one that was.
                Ask::Join { .. } => (self.pause, self.failures, self.gives_up) = (None, 0, Some(why)),
                Ask::Dead | Ask::Own | Ask::Leave(_) => self.refused(ask, why),
            }
        }
    }

    /// Nova says no.
    fn refused(&mut self, ask: Ask, why: Text) {
        (self.pause, self.failures) = (None, 0);
        match ask {
            Ask::Dead | Ask::Own => {
                self.gives_up = Some(Text::new(format!("its aggregates cannot be read: {why}")));
            }
            Ask::Join { aggregate, .. } => self.came = Some((aggregate, JoinState::Refused(why))),
            Ask::Leave(aggregate) => self.came = Some((aggregate, JoinState::Stays(why))),
        }
    }
}

impl Leader {
    /// Whether a taken host needs to join nothing more. Asks nobody.
    pub(super) fn has_joined(&self, cx: &Context<'_>, incident: &Incident, taken: &Taken) -> bool {
        let case = self.aggregates.cases.get(&(incident.id, taken.host.clone()));
        !cx.setup.policy.add_reserved_host_to_aggregate
            || taken.joins.given_up.is_some()
            || case.is_some_and(|case| case.done)
    }

    /// The next step of joining.
    ///
    /// # Errors
    /// What is waited for; nobody need wait where [`Leader::has_joined`].
    pub(super) fn join_aggregates(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        taken: &Taken,
    ) -> Result<(), Text> {
        if self.has_joined(cx, incident, taken) {
            return Ok(());
        }
        self.wait_or_write(cx, incident, taken)?;
        let key = (incident.id, taken.host.clone());
        let case = self.aggregates.cases.entry(key).or_default();
        let (dead, own) = (case.dead.clone(), case.own.clone());
        let lists = match (&dead, &own) {
            (Some(dead), Some(own)) => Ok((dead.as_slice(), own.as_slice())),
            (None, _) => Err((Ask::Dead, &incident.host)),
            (Some(_), None) => Err((Ask::Own, &taken.host)),
        };
        let known = lists.unwrap_or((&[], &[]));
        match (next_join(known.0, known.1, &taken.joins), lists) {
            (NextJoin::Ask(open), _) => {
                let (id, name) = (open.id, open.name.clone());
                self.set_aggregate(cx, incident, taken, id, AggregateChange::Join);
                Err(Text::new(format!("it joins aggregate {name}")))
            }
            (NextJoin::Record(_) | NextJoin::Full | NextJoin::Nothing, Err((ask, host))) => {
                let (call, request) =
                    (cx.out.call(), NovaRead::Look { host: host.clone(), lookup: Lookup::Aggregates });
                cx.out.push(Output::Nova { call, request });
                self.expect_of_aggregates(cx, incident, &taken.host, call, ask);
                Err("Nova is asked about aggregates".into())
            }
            (NextJoin::Record(next), Ok(_)) => {
                // Nothing is written down that cannot be done now.
                if let Err(hold) = self.permit(cx, &incident.host) {
                    self.hold(cx.now.mono, incident.id, hold.to_string());
                    return Err(Text::new(hold.to_string()));
                }
                let case = self.aggregates.cases.entry((incident.id, taken.host.clone())).or_default();
                case.fresh = Some(next.id);
                let (aggregate, name) = (next.id, next.name.clone());
                let text = Text::new(format!("it is to join aggregate {name}"));
                self.write_join(cx, incident, taken, JoinStep::Intend { aggregate, name });
                Err(text)
            }
            (NextJoin::Full, Ok(_)) => {
                let why = format!("the dead host is in more than {JOINS_MAX} aggregates");
                self.write_join(cx, incident, taken, JoinStep::GiveUp { why: Text::new(&why) });
                Err(why.into())
            }
            (NextJoin::Nothing, Ok(_)) => {
                (case.done, case.dead, case.own) = (true, None, None);
                Ok(())
            }
        }
    }

    /// The next step of leaving what was joined. Gives back whether nothing of it is left to be done.
    pub(super) fn leave_aggregates(&mut self, cx: &mut Context<'_>, incident: &Incident, taken: &Taken) -> bool {
        let Some(next) = next_leave(&taken.joins) else { return true };
        let case = self.aggregates.cases.entry((incident.id, taken.host.clone())).or_default();
        // Should servers come after all, it begins anew.
        (case.done, case.fresh, case.dead, case.own) = (false, None, None, None);
        if self.wait_or_write(cx, incident, taken).is_ok() {
            self.set_aggregate(cx, incident, taken, next.id, AggregateChange::Leave);
        }
        false
    }

    /// Waits for an answer or for the end of a pause, or writes down what came.
    fn wait_or_write(&mut self, cx: &mut Context<'_>, incident: &Incident, taken: &Taken) -> Result<(), Text> {
        let now = cx.now.mono;
        let case = self.aggregates.cases.entry((incident.id, taken.host.clone())).or_default();
        if let Some(step) = case.unwritten(&taken.joins) {
            self.write_join(cx, incident, taken, step);
            return Err("an aggregate is written down".into());
        }
        let until = case.waits_until(now);
        if let Some(until) = until {
            let text = match (&case.pause, &case.error) {
                (Some(_), Some(error)) => Text::new(format!("its aggregates, and for Nova: {error}")),
                (Some(_) | None, _) => "Nova is asked about aggregates".into(),
            };
            self.wake_at(until);
            return Err(text);
        }
        case.asked = None;
        Ok(())
    }

    fn write_join(&mut self, cx: &mut Context<'_>, incident: &Incident, taken: &Taken, step: JoinStep) {
        let write = ReserveCommand::Aggregate { incident: incident.id, host: taken.host.clone(), step };
        self.command(cx, Key::Reserve(incident.id), LeaderCommand::Reserve(write));
    }

    fn set_aggregate(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        taken: &Taken,
        aggregate: AggregateId,
        change: AggregateChange,
    ) {
        let permit = match self.permit(cx, &incident.host) {
            Ok(permit) => permit,
            Err(hold) => return self.hold(cx.now.mono, incident.id, hold.to_string()),
        };
        let call = cx.out.call();
        let Some(order) = AggregateOrder::new(call, permit, taken, aggregate, change) else { return };
        cx.out.push(Output::SetAggregate(order));
        let case = self.aggregates.cases.entry((incident.id, taken.host.clone())).or_default();
        let ask = match change {
            AggregateChange::Join => {
                Ask::Join { aggregate, fresh: case.fresh.take_if(|fresh| *fresh == aggregate).is_some() }
            }
            AggregateChange::Leave => Ask::Leave(aggregate),
        };
        self.expect_of_aggregates(cx, incident, &taken.host, call, ask);
    }

    fn expect_of_aggregates(&mut self, cx: &Context<'_>, incident: &Incident, host: &HostName, call: CallId, ask: Ask) {
        let key = (incident.id, host.clone());
        self.aggregates.cases.entry(key).or_default().asked = Some((call, ask, cx.now.mono));
        self.nova.insert(call, NovaCall::Aggregate(incident.id, host.clone()));
        self.wake_at(cx.now.mono + ANSWER_WAIT);
    }

    pub(super) fn take_aggregate_nova(
        &mut self,
        cx: &Context<'_>,
        of: (IncidentId, HostName),
        call: CallId,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let (now, seed) = (cx.now.mono, cx.setup.seed ^ of.0.0);
        let Some(case) = self.aggregates.cases.get_mut(&of) else { return };
        let Some((_, ask, _)) = case.asked.take_if(|(expected, ..)| *expected == call) else { return };
        match result.and_then(|answer| case.take(ask, answer)) {
            Ok(()) => (case.pause, case.failures) = (None, 0),
            Err(NovaError::Refused { status, text }) if !NOT_NOW.contains(&status) => case.refused(ask, text),
            Err(NovaError::NotSent(text)) => {
                // Certainly nothing was done, nor was Nova asked: a permit had passed, or there is no way to it.
                if let Ask::Join { aggregate, fresh: true } = ask {
                    case.fresh = Some(aggregate);
                }
                case.pause = Some(Backoff::after(case.pause, now, seed));
                case.error = Some(text);
            }
            Err(error @ (NovaError::Refused { .. } | NovaError::Unknown(_) | NovaError::Malformed(_))) => {
                case.failed(now, seed, ask, &error);
            }
        }
        if let Some(pause) = case.pause {
            self.wake_at(pause.until);
        }
    }
}
