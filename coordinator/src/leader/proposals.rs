//! Proposals under way: one per subject at a time, so that nothing is proposed twice while its fate is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::Text;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};

use super::Leader;
use crate::context::Context;
use crate::io::{Output, ProposeError};
use crate::ledger::{Entry, LeaderCommand, Outcome, Statement};
use crate::time::Moment;

/// After a refused or lost proposal, before the same subject is proposed again: the ledger may answer differently once
/// what we have not applied yet is applied.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What a proposal is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A host's incident, to be opened.
    Open(HostName),
    /// An incident's phase.
    Incident(IncidentId),
    /// One server of it.
    Server(IncidentId, ServerId),
    /// A member's word about itself.
    Pulse(HostName),
    /// A member's word about its boot gate.
    Gate(HostName),
    /// A member's word about its processes.
    Processes(HostName),
    /// A host's compute service.
    Service(HostName),
    /// A failed guest, to be opened.
    GuestFailed(HostName, ServerId),
    /// A guest incident's step.
    Guest(IncidentId),
    /// The epoch: its begin, its marks.
    Epoch,
    /// A lift that is not needed any more.
    Lift(HostName),
    /// An operator's order: the query to be answered.
    Order(CallId),
    /// Time that has passed.
    Time,
    /// The end of a new host's probation.
    Probation(HostName),
    /// A host's goodbye, or its return.
    Absence(HostName),
    /// A reboot's phase.
    Reboot(IncidentId),
    /// A member's watchdog.
    Watchdog(HostName),
    /// The end of an incident's off orders.
    OffSettled(IncidentId),
    /// Who votes.
    Voters,
    /// A fenced host that comes back.
    Return(HostName),
    /// The end of a closed incident's hooks.
    HooksOver(IncidentId),
    /// Hooks of one point of an incident.
    Hook(IncidentId, HookPoint),
    /// What the webhook was told of an incident.
    Notice(IncidentId),
    /// An incident's reserved hosts.
    Reserve(IncidentId),
    /// A fenced host that is powered on.
    PowerOn(HostName),
    /// Orders that may lie unread in a host's queue.
    Queue(HostName),
    /// A host's rehearsal, or what is remembered of one.
    Rehearsal(HostName),
}

#[derive(Debug, Default)]
pub(super) struct Proposals {
    calls: BTreeMap<CallId, Key>,
    keys: BTreeSet<Key>,
    not_before: BTreeMap<Key, Moment>,
}

impl Proposals {
    pub(super) fn is_under_way(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// Failed guests of one host under way: a member that reports without end must not fill us, or the log.
    pub(super) fn guest_failures_of(&self, host: &HostName) -> usize {
        self.keys.iter().filter(|key| matches!(key, Key::GuestFailed(of, _) if of == host)).count()
    }

    /// Steps of hooks under way.
    pub(super) fn hooks(&self) -> usize {
        self.keys.iter().filter(|key| matches!(key, Key::Hook(..))).count()
    }

    fn pause(&mut self, key: Key, now: Moment) {
        self.not_before.retain(|_, until| now < *until);
        self.not_before.insert(key, now + RETRY_AFTER);
    }
}

impl Leader {
    /// Proposes an entry, unless one about the same subject is under way or was refused a moment ago.
    pub(super) fn propose(&mut self, cx: &mut Context<'_>, key: Key, entry: Entry) {
        if let Some(not_before) = self.proposals.not_before.get(&key).copied() {
            if cx.now.mono < not_before {
                self.wake_at(not_before);
                return;
            }
            self.proposals.not_before.remove(&key);
        }
        if !self.proposals.keys.insert(key.clone()) {
            return;
        }
        let call = cx.out.call();
        self.proposals.calls.insert(call, key);
        cx.out.push(Output::Propose { call, entry: Box::new(entry) });
    }

    pub(super) fn command(&mut self, cx: &mut Context<'_>, key: Key, command: LeaderCommand) {
        let statement = Statement::Leader { host: cx.setup.host.clone(), term: self.term, command };
        self.propose(cx, key, Entry::new(cx.now.wall, statement));
    }

    pub(super) fn is_proposing(&self, key: &Key) -> bool {
        self.proposals.is_under_way(key)
    }

    /// A proposal's fate. Gives back what an operator's order came to, with the query to be answered.
    pub(crate) fn proposed(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        result: Result<Outcome, ProposeError>,
    ) -> Option<(CallId, Result<Outcome, ProposeError>)> {
        let key = self.proposals.calls.remove(&call)?;
        self.proposals.keys.remove(&key);
        self.touch();
        match &key {
            Key::Order(query) => return Some((*query, result)),
            Key::GuestFailed(host, server) => self.answer_guest_failure(cx, host, *server, &result),
            Key::Open(_)
            | Key::Incident(_)
            | Key::Server(..)
            | Key::Pulse(_)
            | Key::Gate(_)
            | Key::Processes(_)
            | Key::HooksOver(_)
            | Key::Service(_)
            | Key::Guest(_)
            | Key::Epoch
            | Key::Lift(_)
            | Key::Time
            | Key::Probation(_)
            | Key::Absence(_)
            | Key::Reboot(_) => {}
            Key::Watchdog(_)
            | Key::OffSettled(_)
            | Key::Voters
            | Key::Return(_)
            | Key::Hook(..)
            | Key::Notice(_)
            | Key::Rehearsal(_)
            | Key::PowerOn(_)
            | Key::Queue(_)
            | Key::Reserve(_) => {}
        }
        match result {
            Ok(Outcome::Applied { .. }) => {}
            Ok(Outcome::Refused { why }) => {
                cx.out.warn(None, format!("the ledger refused: {why}"));
                self.proposals.pause(key, cx.now.mono);
            }
            Err(error) => {
                cx.out.warn(None, Text::new(format!("a proposal has no outcome: {error}")));
                self.proposals.pause(key, cx.now.mono);
            }
        }
        None
    }

    /// Carries an operator's signed order to the ledger. `raises`: the format that it raises the ledger to, and is written in.
    pub(crate) fn submit(&mut self, cx: &mut Context<'_>, query: CallId, order: SignedOrder, raises: Option<u32>) {
        let entry = Entry::new(cx.now.wall, Statement::Operator(order));
        let format = raises.unwrap_or(entry.format);
        self.propose(cx, Key::Order(query), Entry { format, ..entry });
    }
}
