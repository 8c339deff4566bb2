//! The host's own watchdog in the loop: fed in the very turn that ordered it, and nowhere else. What stands still with this
//! loop is the host's right to live.
//!
//! A daemon that is told to stop is let out from under it only if no guest runs here, and only once the ledger does not count
//! on it any more. Otherwise the watchdog runs on: the next daemon takes it over, or the host is reset.

use std::time::Duration;

use rekindle_coordinator::io::{Input, WatchdogOrder};
use rekindle_proto::fact::GuestList;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Inputs, Shell, answer};
use crate::clock;
use crate::watchdog::{Fed, Found, Keeper, LAST_WORDS, Node, is_left_to_us};

/// How long a leave may take: the hypervisor's list, and a commit. What is left of `TimeoutStopSec=20` is for the goodbye.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// The watchdog, as far as there is one, and our leave from it.
pub(super) struct Dog {
    keeper: Option<Keeper>,
    leave: Option<Leave>,
}

struct Leave {
    signal: &'static str,
    until: Instant,
    /// The ledger is being asked not to count on it any more.
    is_asked: bool,
    /// There is nothing more to wait for.
    is_over: bool,
}

impl Dog {
    /// Looks at the configured watchdog, and tells the coordinator of it once it is certain that systemd leaves it to us.
    pub(super) fn start(node: Option<Node>, inputs: &Inputs, beside: &Handle) -> Self {
        let Some(node) = node else { return Self { keeper: None, leave: None } };
        let found = Found::look(node).inspect_err(|error| tell(node, error)).ok();
        if let Some(Found { identity, times, nowayout, active, before, .. }) = &found {
            if before.is_reset() {
                tracing::warn!(%node, "{before}; {LAST_WORDS}");
            } else if before.says_something() {
                tracing::warn!(%node, "{before}");
            }
            let runs = if *active { "; it runs already, and resets this host unless it is fed in time" } else { "" };
            tracing::info!(%node, identity, nowayout, "there is a watchdog: {}{runs}", times.relation());
        }
        let (fact, inputs) = (found.as_ref().map(|found| found.fact(false)), inputs.clone());
        beside.spawn(async move {
            let device = match (fact, is_left_to_us(node).await) {
                (None, _) => None,
                (fact, Ok(())) => fact,
                (Some(_), Err(error)) => {
                    tell(node, &error);
                    None
                }
            };
            answer(&inputs, Input::Watchdog { device }).await;
        });
        Self { keeper: found.map(|found| Keeper::new(found, clock::moment)), leave: None }
    }
}

fn tell(node: Node, error: &crate::watchdog::WatchdogError) {
    let why = crate::check::chain(error);
    tracing::error!(%node, "self_fence is on, and this host cannot do it: {why}");
}

impl Shell {
    pub(super) fn watchdog_order(&mut self, order: WatchdogOrder) {
        let Some(keeper) = self.dog.keeper.as_mut() else {
            tracing::debug!(?order, "there is no watchdog to which this could be done");
            return;
        };
        match order {
            WatchdogOrder::Feed { until } => match keeper.feed(until) {
                Fed::Done | Fed::Late | Fed::Failed => {}
                Fed::First(watchdog) => self.later(Input::Watchdog { device: Some(watchdog) }),
                Fed::Unfit => self.later(Input::Watchdog { device: None }),
            },
            // It stays open: to close it would feed it.
            WatchdogOrder::Stop => {}
            WatchdogOrder::Disarm => {
                keeper.disarm();
                if let Some(leave) = self.dog.leave.as_mut() {
                    leave.is_over = true;
                }
            }
        }
    }

    /// We are told to stop. A second time: at once.
    pub(super) fn leave(&mut self, signal: &'static str) {
        let is_over = self.dog.leave.is_some() || !self.is_to_be_let_out();
        let until = Instant::now() + LEAVE_WITHIN;
        self.dog.leave = Some(Leave { signal, until, is_asked: false, is_over });
        if !is_over {
            self.list_guests();
        }
    }

    /// Whether we live under a watchdog that can be stopped.
    fn is_to_be_let_out(&self) -> bool {
        let Some(keeper) = self.dog.keeper.as_ref().filter(|keeper| keeper.is_open()) else { return false };
        let found = keeper.found();
        if found.nowayout {
            let (node, seconds) = (found.node, found.times.timeout);
            tracing::warn!(%node, seconds, "nowayout: the watchdog runs on, and resets this host unless a daemon takes it over");
        }
        !found.nowayout
    }

    /// The guests as they are now that we are told to stop.
    pub(super) fn guests_at_leaving(&mut self, list: &GuestList) {
        let Some(leave) = self.dog.leave.as_mut().filter(|leave| !leave.is_over && !leave.is_asked) else { return };
        let running = list.guests.iter().filter(|guest| guest.running).count();
        if list.complete && running == 0 {
            leave.is_asked = true;
            self.turn(Input::LeaveWatchdog);
        } else {
            leave.is_over = true;
            tracing::warn!(
                running,
                complete = list.complete,
                "guests run here, or nobody can say: the watchdog runs on, and resets this host unless a daemon takes it over"
            );
        }
    }

    /// Whether nothing keeps us any more; the signal that told us to go.
    pub(super) fn has_left(&self) -> Option<&'static str> {
        let leave = self.dog.leave.as_ref()?;
        let is_late = Instant::now() >= leave.until;
        if is_late && !leave.is_over {
            tracing::warn!("the ledger could not be told in time: the watchdog runs on, and resets this host");
        }
        (leave.is_over || is_late).then_some(leave.signal)
    }
}
