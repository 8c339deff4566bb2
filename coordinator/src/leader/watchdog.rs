//! Leases for members that live under their own watchdog, and the proof that such a watchdog has run out.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{Text, Watchdog};
use rekindle_proto::id::{BootId, CallId, HostName, IncidentId};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::fencing::Silence;
use crate::io::Peer;
use crate::ledger::{Entry, Incident, LeaderCommand, MemberStatement, OFF_SETTLE_MS, Stamp, Statement, not_armed};
use crate::permit::CHECK_AGE_MAX;
use crate::time::Moment;

/// A question that could not be answered for this long is dropped: the member has asked again.
const QUESTION_AGE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Leases {
    /// Since when this leader listens; what earlier leaders granted was asked for before.
    started: Moment,
    /// When this leader last granted one.
    granted: BTreeMap<HostName, Moment>,
    waiting: BTreeMap<HostName, Waiting>,
    /// Answers for ourselves.
    own: Vec<LeaseAnswer>,
    /// When this leader first saw the last attempt of an incident: nobody's wall clock says when it is over (I5).
    attempts_seen: BTreeMap<IncidentId, (u32, Moment)>,
}

#[derive(Debug)]
struct Waiting {
    stamp: Stamp,
    boot: BootId,
    at: Moment,
    wants: Wants,
}

#[derive(Debug)]
enum Wants {
    Lease(Watchdog),
    Withdrawal,
}

/// An answer to a member's question about its watchdog.
#[derive(Debug)]
pub(crate) enum LeaseAnswer {
    Granted(CallId),
    Withdrawn(CallId),
}

/// What a watchdog can say of a host that no device can prove off.
pub(super) enum ByWatchdog {
    /// It may not be counted on.
    No(Text),
    /// It will have run out then.
    Wait(Moment),
    /// It has.
    Proven(LeaderCommand),
}

impl Leases {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            started: now,
            granted: BTreeMap::new(),
            waiting: BTreeMap::new(),
            own: Vec::new(),
            attempts_seen: BTreeMap::new(),
        }
    }

    fn watching(&self, host: &HostName) -> Moment {
        self.granted.get(host).map_or(self.started, |granted| self.started.max(*granted))
    }
}

impl Leader {
    /// A member asks for a lease for that watchdog; `None`: to be let out from under it. At most one question a member
    /// waits.
    pub(crate) fn lease_question(&mut self, cx: &Context<'_>, from: &Peer, call: CallId, watchdog: Option<Watchdog>) {
        let wants = watchdog.map_or(Wants::Withdrawal, Wants::Lease);
        if !cx.ledger.roster.contains_key(&from.host) {
            return;
        }
        let stamp = Stamp { life: from.incarnation, call };
        if self.leases.waiting.get(&from.host).is_some_and(|waiting| waiting.stamp >= stamp) {
            return;
        }
        let waiting = Waiting { stamp, boot: from.boot, at: cx.now.mono, wants };
        self.leases.waiting.insert(from.host.clone(), waiting);
        self.touch();
    }

    /// Answers to our own questions.
    pub(crate) fn take_own_leases(&mut self) -> Vec<LeaseAnswer> {
        std::mem::take(&mut self.leases.own)
    }

    pub(super) fn drive_leases(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let waiting = std::mem::take(&mut self.leases.waiting);
        for (host, question) in waiting {
            if now.since(question.at) >= QUESTION_AGE_MAX || self.answer_lease(cx, &host, &question) {
                continue;
            }
            self.wake_at(question.at + QUESTION_AGE_MAX);
            self.leases.waiting.insert(host, question);
        }
    }

    /// Whether it is done with: answered, or not to be answered.
    fn answer_lease(&mut self, cx: &mut Context<'_>, host: &HostName, question: &Waiting) -> bool {
        let record = cx.ledger.host(host).and_then(|record| record.watchdog.as_ref());
        let known = record.map(|record| record.stamp);
        let call = question.stamp.call;
        match &question.wants {
            Wants::Withdrawal => {
                if record.is_some_and(|record| record.armed.is_none() && record.stamp >= question.stamp) {
                    self.reply_lease(cx, host, LeaseAnswer::Withdrawn(call));
                    return true;
                }
                self.say_for(cx, host, question, MemberStatement::WithdrawWatchdog { stamp: question.stamp });
                false
            }
            // It has said something later: this question came late.
            Wants::Lease(_) if known.is_some_and(|known| question.stamp < known) => true,
            // Who is being recovered must not live on.
            Wants::Lease(_) if cx.ledger.open_incident(host).is_some_and(is_past_return) => true,
            Wants::Lease(watchdog) => {
                let armed = cx.ledger.armed_watchdog(host, question.boot);
                if armed.is_none_or(|armed| armed.watchdog != *watchdog) {
                    let statement = MemberStatement::ArmWatchdog { stamp: question.stamp, watchdog: watchdog.clone() };
                    self.say_for(cx, host, question, statement);
                    return false;
                }
                if !self.is_confirmed_since(question.at, cx.now.mono, CHECK_AGE_MAX) {
                    self.want_check(cx);
                    return false;
                }
                // Counted before it is sent: it may be sent late, and counts from the question all the same.
                self.leases.granted.insert(host.clone(), cx.now.mono);
                self.reply_lease(cx, host, LeaseAnswer::Granted(call));
                true
            }
        }
    }

    fn say_for(&mut self, cx: &mut Context<'_>, host: &HostName, question: &Waiting, statement: MemberStatement) {
        let statement = Statement::Member { host: host.clone(), boot: question.boot, statement };
        self.propose(cx, Key::Watchdog(host.clone()), Entry::new(cx.now.wall, statement));
    }

    fn reply_lease(&mut self, cx: &mut Context<'_>, host: &HostName, answer: LeaseAnswer) {
        if *host == cx.setup.host {
            self.leases.own.push(answer);
        } else {
            let message = match answer {
                LeaseAnswer::Granted(call) => Message::LeaseGrant { call },
                LeaseAnswer::Withdrawn(call) => Message::LeaseWithdrawn { call },
            };
            cx.send(host, message);
        }
    }

    /// What this leader has not heard of a host.
    pub(super) fn silence(&self, cx: &Context<'_>, host: &HostName) -> Silence {
        Silence::of(self.leases.watching(host), cx.heard.get(host).map(|heard| heard.at), cx.now.mono)
    }

    /// The last level of every ladder, where the policy opts in.
    pub(super) fn by_watchdog(&self, cx: &Context<'_>, incident: &Incident) -> ByWatchdog {
        if !cx.setup.policy.self_fence {
            return ByWatchdog::No("self_fence is off".into());
        }
        let host = &incident.host;
        let armed = incident.boot.and_then(|boot| cx.ledger.running_watchdog(host, boot));
        let Some(armed) = armed else { return ByWatchdog::No(not_armed(cx.ledger, host, incident.boot)) };
        if cx.heard.get(host).is_some_and(|heard| heard.boot != armed.boot) {
            return ByWatchdog::No("it was heard in another boot since its watchdog was armed".into());
        }
        let silence = self.silence(cx, host);
        match silence.evidence(armed.boot, armed.watchdog.device.clone()) {
            None => ByWatchdog::Wait(silence.proves_at()),
            Some(evidence) => ByWatchdog::Proven(LeaderCommand::ConfirmWatchdog { incident: incident.id, evidence }),
        }
    }

    /// Says of each incident's last off order when nothing can come of it any more. Open or closed: a host may be waiting
    /// for its release. Every leader waits the whole time from when it first saw the attempt; wall clocks do not count.
    pub(super) fn drive_off_settled(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let wait = super::fence::attempt_lasts(cx) + Duration::from_millis(OFF_SETTLE_MS);
        let quarantines = cx.ledger.hosts.values().filter_map(|record| record.quarantine);
        let mut unsettled: BTreeMap<IncidentId, u32> = BTreeMap::new();
        for id in quarantines.chain(cx.ledger.open_incidents().map(|incident| incident.id)) {
            let incident = cx.ledger.incidents.get(&id).filter(|incident| !incident.is_off_settled());
            if let Some(last) = incident.and_then(Incident::last_attempt) {
                unsettled.insert(id, last.attempt);
            }
        }
        self.leases.attempts_seen.retain(|id, (attempt, _)| unsettled.get(id) == Some(attempt));
        for (id, attempt) in unsettled {
            let (_, seen) = *self.leases.attempts_seen.entry(id).or_insert((attempt, now));
            let over = seen + wait;
            if now < over {
                self.wake_at(over);
            } else {
                self.command(cx, Key::OffSettled(id), LeaderCommand::OffSettled { incident: id, attempt });
            }
        }
    }
}

/// Once an off order may have been given, the host's own voice does not bring it back (I6).
fn is_past_return(incident: &Incident) -> bool {
    match incident.phase {
        Phase::Fencing | Phase::Fenced | Phase::Evacuating => true,
        // Nothing is proven of a stuck one, and a new wait is counted in full when it is resumed.
        Phase::Suspect | Phase::Unclean | Phase::Stuck | Phase::Recovered | Phase::Refuted => false,
    }
}
