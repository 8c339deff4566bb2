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
    /// We want to stop being under it; the question, once asked.
    withdrawing: Option<CallId>,
}

impl SelfFence {
    /// The adapter has found this watchdog, or none.
    pub(crate) fn take_device(&mut self, cx: &mut Context<'_>, device: Option<Watchdog>) {
        self.device = None;
        let Some(device) = device.filter(|_| cx.setup.policy.self_fence) else { return };
        if device.soft {
            cx.out.warn(None, format!("{} is a software watchdog: it proves nothing and is not armed", device.device));
        } else if let Err(unsafe_times) = check_times(device.timeout_ms) {
            cx.out.warn(None, format!("{} is not armed: {unsafe_times}", device.device));
        } else {
            self.device = Some(device);
            self.next_ask = cx.now.mono;
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
            self.fed = false;
            self.lease_until = None;
            cx.out.push(Output::Watchdog(WatchdogOrder::Disarm));
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.device.as_ref()?;
        let feed = self.lease_until.map(|until| until.min(self.next_feed));
        [Some(self.next_ask), feed].into_iter().flatten().min()
    }

    fn feed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        match self.lease_until {
            Some(until) if now < until && self.next_feed <= now => {
                self.next_feed = now + FEED_EVERY;
                self.fed = true;
                cx.out.push(Output::Watchdog(WatchdogOrder::Feed));
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
        let Some(watchdog) = fence.device.clone() else { return };
        fence.feed(cx);
        if fence.next_ask > now {
            return;
        }
        fence.next_ask = now + ASK_EVERY;
        let call = cx.out.call();
        let watchdog = if fence.withdrawing.is_some() {
            fence.withdrawing = Some(call);
            None
        } else {
            fence.asked.insert(call, now);
            while fence.asked.len() > ASKED_MAX {
                fence.asked.pop_first();
            }
            Some(watchdog)
        };
        if leads {
            yields.push(Yield::Lease(call, watchdog));
        } else if let Some(leader) = leader {
            let question = match watchdog {
                Some(watchdog) => Message::LeaseAsk { call, watchdog },
                None => Message::LeaseWithdraw { call },
            };
            cx.send(&leader, question);
        }
    }

    /// The daemon stops, or self-fencing was switched off: asked at once, fed until it is answered.
    pub(crate) fn withdraw_watchdog(&mut self, now: Moment) {
        if self.self_fence.device.is_some() && self.self_fence.withdrawing.is_none() {
            // A number that no question bears: the real one is given when it is asked.
            self.self_fence.withdrawing = Some(CallId(0));
            self.self_fence.next_ask = now;
        }
    }
}
