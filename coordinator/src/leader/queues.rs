//! Hosts that come back with orders which they never read ([`crate::ledger::Queues`]): one at a time is let read its queue, when
//! Nova shows no task of any of their servers; and the next one when nothing of that can have an effect any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{BootId, HostName, ServerId};

use super::proposals::Key;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{LeaderCommand, QueueCommand};
use crate::time::Moment;

/// A gate that has not asked for so long is not waiting any more: it asks every few seconds.
const ASKS_WITHIN: Duration = Duration::from_secs(30);

/// How old Nova's word of a server's task may be when its host is let read its queue.
const WORD_AGE_MAX: Duration = Duration::from_secs(10);

/// How old Nova's word that a compute service runs may be: half of what a service may be silent before Nova calls it down.
const SERVICE_AGE_MAX: Duration = Duration::from_secs(30);

/// Between two questions about the same server or service while nothing has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An answer of Nova that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Questions about servers at once: a host that comes back is not urgent.
const READS_AT_ONCE: usize = 8;

/// After a compute service runs again, or was seen to be kept from running, nothing of an order in its queue begins any more
/// once this has passed: it reads them all before it first reports (nova/service.py, `start`), and refuses each within seconds.
/// What Nova was asked for has begun by then, or never will (`evacuate_settle` has the same default, for the same reason).
const READ_SETTLE: Duration = Duration::from_secs(120);

/// What this leader knows of such hosts.
#[derive(Debug, Default)]
pub(super) struct QueueDesk {
    /// Gates that wait for nothing else.
    asking: BTreeMap<HostName, (BootId, Moment)>,
    servers: BTreeMap<ServerId, Look<Option<Text>>>,
    services: BTreeMap<HostName, Look<bool>>,
    /// What became of the hosts that were let read, and since when.
    stands: BTreeMap<HostName, (Stand, BootId, Moment)>,
    /// Servers at which Nova is at work, and for whose gates that matters.
    busy: BTreeMap<HostName, (ServerId, Text)>,
    told: BTreeSet<(HostName, ServerId)>,
}

/// A question and what came of it.
#[derive(Debug)]
struct Look<T> {
    /// When it was last asked, and whether the answer is still to come.
    asked: Option<(Moment, bool)>,
    /// When that was asked for, and what was said.
    said: Option<(Moment, T)>,
}

impl<T> Default for Look<T> {
    fn default() -> Self {
        Self { asked: None, said: None }
    }
}

impl<T> Look<T> {
    fn is_due(&self, now: Moment) -> bool {
        let pause = |waits: bool| if waits { ANSWER_WAIT } else { LOOK_EVERY };
        self.asked.is_none_or(|(at, waits)| now >= at + pause(waits))
    }

    fn is_waiting(&self) -> bool {
        self.asked.is_some_and(|(_, waits)| waits)
    }

    fn fresh(&self, now: Moment, age: Duration) -> Option<&T> {
        self.said.as_ref().filter(|(at, _)| now.since(*at) < age).map(|(_, what)| what)
    }

    /// An answer; `None`: an error.
    fn take(&mut self, what: Option<T>) {
        let Some((at, true)) = self.asked else { return };
        self.asked = Some((at, false));
        if let Some(what) = what {
            self.said = Some((at, what));
        }
    }
}

/// Where a host stands that was let read its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Its compute service runs.
    Runs,
    /// It is off, or its gate is shut.
    Kept,
    /// It is not enrolled any more.
    Gone,
}

impl Leader {
    /// A gate is shut for nothing but what may lie in its host's queue.
    pub(super) fn queue_is_waited_for(&mut self, now: Moment, host: &HostName, boot: BootId) {
        self.queues.asking.insert(host.clone(), (boot, now));
    }

    pub(super) fn drive_queues(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let known = &cx.ledger.unread;
        self.queues.servers.retain(|server, _| known.contains_key(server));
        let readers = known.values().filter_map(|queues| queues.reader.as_ref());
        let readers: BTreeMap<&HostName, BootId> = readers.map(|reader| (&reader.host, reader.boot)).collect();
        self.queues.stands.retain(|host, _| readers.contains_key(host));
        self.queues.services.retain(|host, _| readers.contains_key(host));
        self.queues.asking.retain(|_, (_, at)| now.since(*at) < ASKS_WITHIN);
        let asking = &self.queues.asking;
        self.queues.busy.retain(|host, _| asking.contains_key(host));
        self.queues.told.retain(|(host, _)| asking.contains_key(host));
        for (host, boot) in readers {
            self.follow_reader(cx, host, boot);
        }
        for (host, (boot, _)) in self.queues.asking.clone() {
            self.let_read(cx, &host, boot);
        }
    }

    /// Lets a host read its queue once Nova shows, afresh, no task of any server of which an order may lie there.
    fn let_read(&mut self, cx: &mut Context<'_>, host: &HostName, boot: BootId) {
        let now = cx.now.mono;
        if cx.ledger.queue_hold(host, boot).is_none() {
            self.queues.asking.remove(host);
            return;
        }
        if cx.ledger.may_read_queue(host, boot).is_err() {
            return self.wake_at(now + LOOK_EVERY);
        }
        let mut busy = None;
        let mut is_known = true;
        for (server, _) in cx.ledger.unread_of(host) {
            let look = self.queues.servers.entry(server).or_default();
            match look.fresh(now, WORD_AGE_MAX) {
                Some(None) => {}
                Some(Some(task)) => busy = busy.or(Some((server, task.clone()))),
                None => is_known = false,
            }
            self.ask_of_queue(cx, server);
        }
        match busy {
            Some((server, task)) => self.say_busy(cx, host, server, task),
            None if is_known => {
                self.queues.busy.remove(host);
                let command = QueueCommand::Let { host: host.clone(), boot };
                self.command(cx, Key::Queue(host.clone()), LeaderCommand::Queue(command));
            }
            None => {}
        }
        self.wake_at(now + LOOK_EVERY);
    }

    fn ask_of_queue(&mut self, cx: &mut Context<'_>, server: ServerId) {
        let now = cx.now.mono;
        let under_way = self.queues.servers.values().filter(|look| look.is_waiting()).count();
        let Some(look) = self.queues.servers.get_mut(&server).filter(|look| look.is_due(now)) else { return };
        if !look.is_waiting() && under_way >= READS_AT_ONCE {
            return;
        }
        look.asked = Some((now, true));
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::Server(server) });
        self.nova.insert(call, NovaCall::QueuedServer(server));
    }

    /// Nova is at work on a server: its host's gate stays shut, and a person is told, once aloud.
    fn say_busy(&mut self, cx: &mut Context<'_>, host: &HostName, server: ServerId, task: Text) {
        let is_news = self.queues.told.insert((host.clone(), server));
        self.queues.busy.insert(host.clone(), (server, task));
        if is_news && let Some(text) = self.busy_text(cx, host) {
            cx.out.warn(Some(host), text);
        }
    }

    fn busy_text(&self, cx: &Context<'_>, host: &HostName) -> Option<Text> {
        let (server, task) = self.queues.busy.get(host)?;
        let name = cx.ledger.name_of(*server);
        Some(Text::new(format!(
            "the gate of {host} stays shut: an order to build {name} may lie in its queue, and Nova, which shows that server at \
             task {task}, would not refuse it. If nothing builds that server: openstack server set --state active {server}"
        )))
    }

    /// Gates that stay shut because Nova is at work on a server, for people.
    pub(crate) fn queue_alarms(&self, cx: &Context<'_>) -> Vec<Text> {
        self.queues.busy.keys().filter_map(|host| self.busy_text(cx, host)).collect()
    }

    /// Follows a host that was let read its queue, until nothing of that can have an effect any more.
    fn follow_reader(&mut self, cx: &mut Context<'_>, host: &HostName, boot: BootId) {
        let now = cx.now.mono;
        let Some(stand) = self.stand_of(cx, host) else {
            self.queues.stands.remove(host);
            return;
        };
        let known = self.queues.stands.get(host).filter(|(known, of, _)| (*known, *of) == (stand, boot));
        let since = known.map_or(now, |(.., since)| *since);
        self.queues.stands.insert(host.clone(), (stand, boot, since));
        if now < since + READ_SETTLE {
            return self.wake_at(since + READ_SETTLE);
        }
        let command = QueueCommand::Over { host: host.clone(), read: stand != Stand::Kept };
        self.command(cx, Key::Queue(host.clone()), LeaderCommand::Queue(command));
    }

    /// `None`: not known, or neither.
    fn stand_of(&mut self, cx: &mut Context<'_>, host: &HostName) -> Option<Stand> {
        let now = cx.now.mono;
        let Some(record) = cx.ledger.host(host) else { return Some(Stand::Gone) };
        if cx.ledger.open_incident(host).is_some() {
            return self.is_proven_off(cx, host).then_some(Stand::Kept);
        }
        if record.quarantine.is_some() && record.admitted.is_none() {
            return Some(Stand::Kept);
        }
        let look = self.queues.services.entry(host.clone()).or_default();
        let runs = look.fresh(now, SERVICE_AGE_MAX).is_some_and(|up| *up);
        if look.is_due(now) {
            look.asked = Some((now, true));
            let call = cx.out.call();
            cx.out.push(Output::Nova { call, request: NovaRead::Service(host.clone()) });
            self.nova.insert(call, NovaCall::QueueReader(host.clone()));
        }
        self.wake_at(now + LOOK_EVERY);
        runs.then_some(Stand::Runs)
    }

    pub(super) fn take_queued_server(&mut self, server: ServerId, result: Result<NovaAnswer, NovaError>) {
        let task = match result {
            Ok(NovaAnswer::Server(server)) => Some(server.and_then(|server| server.task_state)),
            Ok(_) | Err(_) => None,
        };
        if let Some(look) = self.queues.servers.get_mut(&server) {
            look.take(task);
        }
    }

    pub(super) fn take_queue_reader(&mut self, host: &HostName, result: Result<NovaAnswer, NovaError>) {
        let up = match result {
            Ok(NovaAnswer::Service(service)) => Some(service.is_some_and(|service| service.up)),
            Ok(_) | Err(_) => None,
        };
        if let Some(look) = self.queues.services.get_mut(host) {
            look.take(up);
        }
    }
}
