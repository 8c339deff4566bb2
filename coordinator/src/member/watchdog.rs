//! Our own watchdog: fed only while a quorate leader has said, in answer to our own question, that we may live.
//!
//! Traffic is not contact: a host that hears the cluster and is not heard by it must die, because the leader will take it
//! for dead. A host that was never granted a lease does not feed, and so never resets itself: no boot loops.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Watchdog;
use rekindle_proto::id::CallId;
use rekindle_proto::message::Message;

use super::{Member, Yield};
use crate::context::Context;
use crate::fencing::{ISOLATED, check_times};
use crate::io::{Output, WatchdogOrder};
use crate::time::Moment;

/// Between two questions for a lease: three may be lost before it runs out.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The same while there is no lease, or none is wanted any more. A daemon that was started again has some six seconds before
/// the watchdog that it took over resets the host.
const ASK_SOON: Duration = Duration::from_secs(2);

/// Between two looks for a leader that could be asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two feeds: a fifth of the shortest sensible time-out.
const FEED_EVERY: Duration = Duration::from_secs(2);

/// Questions remembered: older ones are worth no lease any more.
const ASKED_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct SelfFence {
    device: Option<Watchdog>,
    /// When each unanswered question was asked: its lease counts from then.
    asked: BTreeMap<CallId, Moment>,
    lease_until: Option<Moment>,
    /// It is being fed: from here on we live by it.
    fed: bool,
    next_ask: Moment,
    next_feed: Moment,
    /// The ledger is not to count on it any more; the question, once asked.
    withdrawing: Option<CallId>,
    /// The daemon will stop: whatever the adapter still says, it is withdrawn.
    leaving: bool,
}

/// A number that no question bears: the real one is given when it is asked.
const UNASKED: CallId = CallId(0);

impl SelfFence {
    /// The adapter has found this watchdog, has fed it for the first time, or cannot use the one that is configured.
    pub(crate) fn take_device(&mut self, cx: &mut Context<'_>, device: Option<Watchdog>) {
        // Who leaves must not arm it again by a word of its adapter that comes late.
        if !cx.setup.policy.self_fence || self.leaving {
            return;
        }
        self.device = device.filter(|device| is_fit(cx, device));
        self.next_ask = cx.now.mono;
        // What a daemon before us said of it holds no longer: nobody feeds it, or somebody else does.
        self.withdrawing = if self.device.is_none() { Some(UNASKED) } else { None };
    }

    /// The daemon will stop, and no guest runs here: asked at once, fed until it is answered.
    pub(crate) fn leave(&mut self, now: Moment) {
        if self.device.is_some() && !self.leaving {
            self.leaving = true;
            self.withdrawing = Some(UNASKED);
            self.next_ask = now;
        }
    }

    /// A leader granted what we asked for. The lease counts from our question, not from its answer.
    pub(crate) fn granted(&mut self, call: CallId, now: Moment) {
        let Some(asked) = self.asked.remove(&call) else { return };
        if self.withdrawing.is_some() {
            return;
        }
        let until = asked + ISOLATED;
        self.lease_until = Some(self.lease_until.map_or(until, |known| known.max(until)));
        self.next_feed = self.next_feed.min(now);
    }

    /// The ledger no longer counts on it: now, and not before, it may be disarmed.
    pub(crate) fn withdrawn(&mut self, cx: &mut Context<'_>, call: CallId) {
        if self.withdrawing == Some(call) {
            self.device = None;
            self.withdrawing = None;
            self.fed = false;
            self.lease_until = None;
            cx.out.push(Output::Watchdog(WatchdogOrder::Disarm));
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        let ask = self.question().map(|_| self.next_ask);
        let feed = self.device.as_ref().and(self.lease_until).map(|until| until.min(self.next_feed));
        [ask, feed].into_iter().flatten().min()
    }

    /// What there is to ask of a leader: a lease for that watchdog, or to be let out from under it.
    fn question(&self) -> Option<Option<Watchdog>> {
        if self.withdrawing.is_some() { Some(None) } else { self.device.clone().map(Some) }
    }

    fn feed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if self.device.is_none() {
            return;
        }
        match self.lease_until {
            Some(until) if now < until && self.next_feed <= now => {
                self.next_feed = now + FEED_EVERY;
                self.fed = true;
                cx.out.push(Output::Watchdog(WatchdogOrder::Feed { until }));
            }
            Some(until) if now < until => {}
            Some(_) => {
                self.lease_until = None;
                if self.fed {
                    cx.out.warn(None, "no leader with a quorum has answered for 20 s: the watchdog is no longer fed");
                    cx.out.push(Output::Watchdog(WatchdogOrder::Stop));
                }
            }
            None => {}
        }
    }
}

impl Member {
    pub(super) fn watchdog_deadline(&self) -> Option<Moment> {
        self.self_fence.next_deadline()
    }

    /// Asks for leases and feeds. `leads`: we are the leader, and ask ourselves.
    pub(super) fn drive_watchdog(&mut self, cx: &mut Context<'_>, leads: bool, yields: &mut Vec<Yield>) {
        let now = cx.now.mono;
        let leader = self.leader(now).cloned();
        let fence = &mut self.self_fence;
        fence.feed(cx);
        let Some(wanted) = fence.question().filter(|_| fence.next_ask <= now) else { return };
        if !leads && leader.is_none() {
            fence.next_ask = now + LOOK_EVERY;
            return;
        }
        let call = cx.out.call();
        if wanted.is_none() {
            fence.withdrawing = Some(call);
        } else {
            fence.asked.insert(call, now);
            while fence.asked.len() > ASKED_MAX {
                fence.asked.pop_first();
            }
        }
        let has_lease = fence.lease_until.is_some() && fence.withdrawing.is_none();
        fence.next_ask = now + if has_lease { ASK_EVERY } else { ASK_SOON };
        if leads {
            yields.push(Yield::Lease(call, wanted));
        } else if let Some(leader) = leader {
            let question = match wanted {
                Some(watchdog) => Message::LeaseAsk { call, watchdog },
                None => Message::LeaseWithdraw { call },
            };
            cx.send(&leader, question);
        }
    }
}

/// Whether it would prove anything. If not, it is said why.
fn is_fit(cx: &mut Context<'_>, device: &Watchdog) -> bool {
    if device.soft {
        cx.out.warn(None, format!("{} is a software watchdog: it proves nothing and is not armed", device.device));
        return false;
    }
    match check_times(device.timeout_ms) {
        Ok(()) => true,
        Err(unsafe_times) => {
            cx.out.warn(None, format!("{} is not armed: {unsafe_times}", device.device));
            false
        }
    }
}
