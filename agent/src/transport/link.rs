//! A link: everything about one peer on one path, for one use ([`Lane`]). What is to be sent waits here until there is a
//! connection.
//!
//! Each link has one task ([`drive`]) that dials when there is something to send, sends, and dials again when the
//! connection was lost. At most one connection is *current*; a second one, when both sides dialled at once, is *retired*:
//! nothing more is sent on it, what the peer sends on it is still read, and it is closed after a while.

mod sending;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};
use rekindle_proto::id::MemberId;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::sending::{Waiting, send};
use super::hello::{Unconnected, dial};
use super::lane::Lane;
use super::live::{Live, Wanted};
use super::refusals::count;
use super::serve;
use super::shared::{Shared, lock};

/// Messages waiting for a peer; beyond it the oldest goes. A roll call, a few probes and testimonies for each of a rack.
pub(super) const MESSAGES_MAX: usize = 64;

/// Messages sent and not yet acknowledged on a connection: as many as the peer lets us open streams.
const UNACKNOWLEDGED_MAX: usize = 32;

/// A message not delivered by then is dropped: nobody waits for an answer so long, and a late one could mislead.
const MESSAGE_AGE_MAX: Duration = Duration::from_secs(5);

/// Datagrams waiting for a connection; beyond it the oldest goes. SWIM sends a peer one or two within a dial.
pub(super) const DATAGRAMS_MAX: usize = 8;

/// A datagram not sent by then is dropped: SWIM has given up on it.
const DATAGRAM_AGE_MAX: Duration = Duration::from_secs(1);

/// Pause after the first failed dial. It doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// Longest pause between dials: a hundred members that look for a dead one knock 50 times a second together, and a
/// peer that is back, and has not dialled us itself, is found this soon.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A link with nothing to do is forgotten after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Queued {
    bytes: Arc<[u8]>,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Live>,
    messages: VecDeque<Queued>,
    datagrams: VecDeque<(Arc<[u8]>, Instant)>,
    requests_waiting: usize,
    asked_to_dial: bool,
    dialling: bool,
    failures: u32,
    not_before: Option<Instant>,
    forgotten_at: Option<Instant>,
}

impl State {
    fn has_work(&self) -> bool {
        self.asked_to_dial || self.requests_waiting > 0 || !self.messages.is_empty() || !self.datagrams.is_empty()
    }
}

/// One peer on one path, for one use.
#[derive(Debug)]
pub(super) struct Link {
    path: usize,
    lane: Lane,
    wanted: Wanted,
    address: Mutex<SocketAddr>,
    state: Mutex<State>,
    wake: Notify,
    connected: Notify,
}

impl Link {
    pub(super) fn new((path, lane): (usize, Lane), wanted: Wanted, address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            path,
            lane,
            wanted,
            address: Mutex::new(address),
            state: Mutex::default(),
            wake: Notify::new(),
            connected: Notify::new(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        *lock(&self.address)
    }

    /// Where to dial from now on. A new address has not failed yet.
    pub(super) fn set_address(&self, address: SocketAddr) {
        let mut old = lock(&self.address);
        if *old != address {
            *old = address;
            let mut state = lock(&self.state);
            (state.failures, state.not_before) = (0, None);
        }
    }

    /// Where to dial, as said by somebody else than the peer itself: that counts only while there is no connection.
    pub(super) fn readdress(&self, address: SocketAddr) {
        if self.current().is_none() {
            self.set_address(address);
        }
    }

    /// Under what it is found.
    pub(super) fn key(&self) -> (usize, Lane, Wanted) {
        (self.path, self.lane, self.wanted)
    }

    pub(super) fn is_on(&self, path: usize) -> bool {
        self.path == path
    }

    pub(super) fn current(&self) -> Option<Live> {
        lock(&self.state).current.clone().filter(|live| live.connection.close_reason().is_none())
    }

    pub(super) fn send_datagram(&self, shared: &Shared, bytes: Vec<u8>) {
        if let Some(live) = self.current()
            && live.connection.send_datagram(bytes.clone().into()).is_ok()
        {
            return;
        }
        let mut state = lock(&self.state);
        if state.datagrams.len() >= DATAGRAMS_MAX {
            state.datagrams.pop_front();
            count(&shared.counters.unsent_datagrams);
        }
        state.datagrams.push_back((bytes.into(), Instant::now()));
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn send_message(&self, shared: &Shared, bytes: Vec<u8>) {
        let mut state = lock(&self.state);
        state.messages.push_back(Queued { bytes: bytes.into(), since: Instant::now() });
        let too_many = state.messages.len() > MESSAGES_MAX && state.messages.pop_front().is_some();
        drop(state);
        if too_many {
            shared.drop_message(self.address(), "too many wait; the oldest was dropped");
        }
        self.wake.notify_one();
    }

    pub(super) fn dial(&self) {
        lock(&self.state).asked_to_dial = true;
        self.wake.notify_one();
    }

    /// A request that waits for a connection, from now until the value is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        lock(&self.state).requests_waiting += 1;
        self.wake.notify_one();
        Waiting(Arc::clone(self))
    }

    /// Takes an accepted connection into use, or retires it if the present one stays. `true`: it is in use.
    pub(super) fn adopt(&self, shared: &Shared, live: &Live) -> bool {
        let mut state = lock(&self.state);
        (state.failures, state.not_before) = (0, None);
        let old = state.current.take();
        let (kept, gone) = match old {
            Some(old) if !old.yields_to(live, shared.me) => (old, Some((live.clone(), false))),
            Some(old) => {
                let former = old.is_of_former_life(live);
                (live.clone(), Some((old, former)))
            }
            None => (live.clone(), None),
        };
        let adopted = kept.connection.stable_id() == live.connection.stable_id();
        state.current = Some(kept);
        state.asked_to_dial = false;
        drop(state);
        if let Some((gone, at_once)) = gone {
            gone.retire(at_once);
        }
        self.wake.notify_one();
        self.connected.notify_waiters();
        adopted
    }

    /// A connection ended.
    pub(super) fn disown(&self, connection: &Connection) {
        let mut state = lock(&self.state);
        if state.current.as_ref().is_some_and(|live| live.connection.stable_id() == connection.stable_id()) {
            state.current = None;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// There may be a connection for what waits, though not one of this link.
    pub(super) fn look_again(&self) {
        self.connected.notify_waiters();
        self.wake.notify_one();
    }

    /// Uses another connection from now on.
    pub(super) fn retire_current(&self) {
        let current = lock(&self.state).current.take();
        if let Some(live) = current {
            live.retire(false);
        }
        self.wake.notify_one();
    }

    /// Forgets what waits, and closes.
    pub(super) fn close(&self, code: VarInt) {
        let mut state = lock(&self.state);
        state.messages.clear();
        state.datagrams.clear();
        state.asked_to_dial = false;
        state.forgotten_at = Some(Instant::now());
        let current = state.current.take();
        drop(state);
        if let Some(live) = current {
            live.connection.close(code, b"");
        }
    }

    /// Moves what waits to another link: the member at an address has become known.
    fn hand_over(&self, to: &Self) {
        let (messages, datagrams) = {
            let mut state = lock(&self.state);
            state.asked_to_dial = false;
            (std::mem::take(&mut state.messages), std::mem::take(&mut state.datagrams))
        };
        let mut state = lock(&to.state);
        state.messages.extend(messages);
        while state.messages.len() > MESSAGES_MAX {
            state.messages.pop_front();
        }
        state.datagrams.extend(datagrams);
        drop(state);
        to.wake.notify_one();
    }

    /// Whether it has nothing to do. Asked with the map of links locked, so that nobody finds it meanwhile.
    pub(super) fn is_unused(&self) -> bool {
        let state = lock(&self.state);
        state.current.is_none() && !state.dialling && !state.has_work()
    }

    fn expire(&self, shared: &Shared, now: Instant) {
        let mut state = lock(&self.state);
        let before = state.datagrams.len();
        state.datagrams.retain(|(_, since)| now.saturating_duration_since(*since) < DATAGRAM_AGE_MAX);
        let unsent = before - state.datagrams.len();
        let before = state.messages.len();
        state.messages.retain(|queued| now.saturating_duration_since(queued.since) < MESSAGE_AGE_MAX);
        let dropped = before - state.messages.len();
        drop(state);
        (0..unsent).for_each(|_| count(&shared.counters.unsent_datagrams));
        (0..dropped).for_each(|_| shared.drop_message(self.address(), "it could not be reached in time"));
    }

    /// Sends what waits.
    fn flush(&self, live: &Live, sending: &mut JoinSet<Option<Queued>>) {
        let mut state = lock(&self.state);
        for (bytes, _) in state.datagrams.drain(..) {
            // It may fail only because the connection was lost meanwhile: datagrams may be lost.
            let _ = live.connection.send_datagram(bytes.to_vec().into());
        }
        while sending.len() < UNACKNOWLEDGED_MAX {
            let Some(queued) = state.messages.pop_front() else { break };
            sending.spawn(send(live.connection.clone(), queued));
        }
    }

    /// Begins to dial, if there is reason to and it is time; else says when to look again.
    fn dial_if_due(self: &Arc<Self>, shared: &Arc<Shared>, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.state);
        if state.dialling || !state.has_work() {
            return None;
        }
        if let Some(not_before) = state.not_before.filter(|not_before| now < *not_before) {
            return Some(not_before);
        }
        state.dialling = true;
        drop(state);
        tokio::spawn(dial_and_adopt(Arc::clone(shared), Arc::clone(self)));
        None
    }

    fn dial_ended(&self, shared: &Shared, outcome: Result<(), &Unconnected>) {
        let mut state = lock(&self.state);
        state.dialling = false;
        state.asked_to_dial = false;
        if outcome.is_err() {
            state.failures = state.failures.saturating_add(1);
            state.not_before = Some(Instant::now() + pause(state.failures, shared.me));
        }
        drop(state);
        self.wake.notify_one();
    }
}

/// The pause after so many failures: doubling, and up to a quarter longer, differently for each member, so that the
/// members of a cluster do not knock all at once.
fn pause(failures: u32, me: MemberId) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(PAUSE_MAX);
    doubled + doubled / 4 * u32::from(me.0[15]) / 256
}

/// A link's task.
pub(super) async fn drive(shared: Arc<Shared>, link: Arc<Link>) {
    let mut sending = JoinSet::new();
    let mut stop = shared.stop.subscribe();
    let mut idle_since = Instant::now();
    loop {
        let now = Instant::now();
        link.expire(&shared, now);
        let mut again = None;
        if let Some(live) = link.current() {
            link.flush(&live, &mut sending);
            idle_since = now;
        } else if shared.for_all(&link).is_none() {
            again = link.dial_if_due(&shared, now);
        }
        if lock(&link.state).has_work() || !sending.is_empty() {
            idle_since = now;
        }
        if now.saturating_duration_since(idle_since) >= FORGOTTEN_AFTER && shared.forget(&link) {
            return;
        }
        let again = again.unwrap_or(now + DATAGRAM_AGE_MAX).min(now + DATAGRAM_AGE_MAX);
        let pause = if lock(&link.state).has_work() { again - now } else { FORGOTTEN_AFTER };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = link.wake.notified() => {}
            Some(outcome) = sending.join_next() => link.sent(&shared, outcome.ok().flatten()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Link {
    /// A message was acknowledged (`None`), or its connection was lost before: then it goes first on the next one, unless
    /// the peer was dropped meanwhile.
    fn sent(&self, shared: &Shared, unsent: Option<Queued>) {
        let Some(queued) = unsent else { return };
        let mut state = lock(&self.state);
        if state.forgotten_at.is_some_and(|at| queued.since <= at) {
            return;
        }
        if state.messages.len() < MESSAGES_MAX {
            state.messages.push_front(queued);
        } else {
            drop(state);
            shared.drop_message(self.address(), "the connection was lost, and too many wait");
        }
    }
}

async fn dial_and_adopt(shared: Arc<Shared>, link: Arc<Link>) {
    let to = link.address();
    match dial(&shared, link.key(), to).await {
        Ok(live) => {
            let own = serve::begin(&shared, link.path, live);
            if !Arc::ptr_eq(&own, &link) {
                link.hand_over(&own);
            }
            // Last: until then nobody dials for what has got a connection already.
            link.dial_ended(&shared, Ok(()));
        }
        Err(error) => {
            count(&shared.counters.failed_dials);
            shared.complain(to, &error);
            link.dial_ended(&shared, Err(&error));
        }
    }
}
