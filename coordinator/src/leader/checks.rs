//! May the leader act? The quorum's answer, and the roll call (I3).

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName, Term};
use rekindle_proto::message::Message;

use super::Leader;
use crate::context::Context;
use crate::io::Output;
use crate::permit::{Hold, Linearized, Permit, RehearsalPermit, Roll};
use crate::time::Moment;

/// How long a roll call waits for those who have not answered.
const ROLL_WAIT: Duration = Duration::from_secs(1);

/// After a failed check or an unanswered roll, before the next one.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long an unanswered check blocks the next one: beyond the adapter's own time-out.
const CHECK_LOST_AFTER: Duration = Duration::from_secs(5);

/// Between two answers of a quorum while nothing is to be done: who asks for the leader must not be shown one of the past.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// A leader that no quorum has confirmed for this long says no more that it leads: two answers and a half were missed.
const CONFIRMED_FOR: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Checker {
    asked: Option<(CallId, Moment)>,
    confirmed: Option<Linearized>,
    /// When the question was put to which `confirmed` is the answer.
    begun: Option<Moment>,
    not_before: Option<Moment>,
}

impl Checker {
    pub(super) fn ever_confirmed(&self) -> bool {
        self.confirmed.is_some()
    }

    pub(super) fn is_confirmed_lately(&self, now: Moment) -> bool {
        self.confirmed.is_some_and(|confirmed| now.since(confirmed.finished) < CONFIRMED_FOR)
    }
}

#[derive(Debug, Default)]
pub(super) struct RollCaller {
    running: Option<(CallId, Roll)>,
    last: Option<Roll>,
}

impl Leader {
    /// Asks a quorum whether we lead, unless that is being asked.
    pub(super) fn want_check(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if let Some((_, asked)) = self.checker.asked
            && now < asked + CHECK_LOST_AFTER
        {
            self.wake_at(asked + CHECK_LOST_AFTER);
            return;
        }
        if let Some(not_before) = self.checker.not_before.filter(|not_before| now < *not_before) {
            self.wake_at(not_before);
            return;
        }
        let call = cx.out.call();
        self.checker.asked = Some((call, now));
        cx.out.push(Output::CheckLinearizable { call });
    }

    pub(crate) fn linearizable(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        result: Result<Term, Text>,
        finished: Moment,
    ) {
        let Some((_, begun)) = self.checker.asked.filter(|(asked, _)| *asked == call) else { return };
        self.checker.asked = None;
        match result {
            Ok(term) if term == self.term => {
                self.checker.confirmed = Some(Linearized { term, finished });
                self.checker.begun = Some(begun);
                self.checker.not_before = None;
            }
            Ok(_) | Err(_) => self.checker.not_before = Some(cx.now.mono + RETRY_AFTER),
        }
        self.touch();
    }

    /// Whether a quorum has confirmed us in a round that began after `since` and has finished less than `age` ago.
    pub(super) fn is_confirmed_since(&self, since: Moment, now: Moment, age: Duration) -> bool {
        let finished = self.checker.confirmed.map(|confirmed| confirmed.finished);
        self.checker.begun.is_some_and(|begun| begun >= since) && finished.is_some_and(|at| now.since(at) < age)
    }

    /// Calls the roll, unless it is being called: one direct question to every member of the roster.
    pub(super) fn want_roll(&mut self, cx: &mut Context<'_>) {
        if self.roll.running.is_some() {
            return;
        }
        let call = cx.out.call();
        let us = cx.setup.host.clone();
        for host in cx.ledger.roster.keys().filter(|host| **host != us) {
            cx.send(host, Message::RollCall { call });
        }
        let roll = Roll { called: cx.now.mono, present: BTreeSet::from([us]) };
        self.roll.running = Some((call, roll));
        self.wake_at(cx.now.mono + ROLL_WAIT);
        self.finish_roll(cx);
    }

    pub(crate) fn present(&mut self, cx: &mut Context<'_>, host: &HostName, call: CallId) {
        let Some((_, roll)) = self.roll.running.as_mut().filter(|(running, _)| *running == call) else { return };
        roll.present.insert(host.clone());
        self.finish_roll(cx);
    }

    /// A roll is finished when everybody who is not silent in gossip has answered, or its time is over.
    fn finish_roll(&mut self, cx: &Context<'_>) {
        let Some((_, roll)) = &self.roll.running else { return };
        let over = cx.now.mono >= roll.called + ROLL_WAIT;
        let all = cx.ledger.roster.keys().filter(|host| cx.is_alive(host)).all(|host| roll.present.contains(host));
        if over || all {
            self.roll.last = self.roll.running.take().map(|(_, roll)| roll);
            self.touch();
        }
    }

    /// The last finished roll, if it was called at or after `since`.
    pub(super) fn roll_since(&self, since: Moment) -> Option<&Roll> {
        self.roll.last.as_ref().filter(|roll| roll.called >= since)
    }

    pub(super) fn drive_checks(&mut self, cx: &mut Context<'_>) {
        self.finish_roll(cx);
        if let Some((_, roll)) = &self.roll.running {
            let until = roll.called + ROLL_WAIT;
            self.wake_at(until);
        }
        match self.checker.confirmed.map(|confirmed| confirmed.finished + CONFIRM_EVERY) {
            Some(due) if cx.now.mono < due => self.wake_at(due),
            Some(_) | None => self.want_check(cx),
        }
    }

    /// Grants a permit to act on a host, or starts what is missing for one.
    pub(super) fn permit(&mut self, cx: &mut Context<'_>, host: &HostName) -> Result<Permit, Hold> {
        let (checked, roll) = (self.checker.confirmed, self.roll.last.as_ref());
        let granted = Permit::grant(cx.now, self.term, self.ill.as_ref(), checked, roll, cx.ledger, host);
        self.fetch_what_lacks(cx, granted.as_ref().err());
        granted
    }

    /// The same, for the rehearsal under way.
    pub(super) fn rehearsal_permit(&mut self, cx: &mut Context<'_>, host: &HostName) -> Result<RehearsalPermit, Hold> {
        let (checked, roll) = (self.checker.confirmed, self.roll.last.as_ref());
        let granted = RehearsalPermit::grant(cx.now, self.term, self.ill.as_ref(), checked, roll, cx.ledger, host);
        self.fetch_what_lacks(cx, granted.as_ref().err());
        granted
    }

    fn fetch_what_lacks(&mut self, cx: &mut Context<'_>, hold: Option<&Hold>) {
        match hold {
            None | Some(Hold::Brake(_) | Hold::Unfit(_)) => {}
            Some(Hold::CheckStale) => self.want_check(cx),
            Some(Hold::RollStale) => self.want_roll(cx),
            Some(Hold::MassFailure(_)) => {
                // Count again, at a pace: those missing may have come back.
                if self.roll.last.as_ref().is_none_or(|roll| cx.now.mono.since(roll.called) >= ROLL_WAIT + RETRY_AFTER)
                {
                    self.want_roll(cx);
                }
            }
        }
    }
}
