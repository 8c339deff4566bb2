//! Voters that do not stand, and watchdogs of hosts: fed on order, and merciless. One that runs out resets its host, which
//! stays down.

use rekindle_coordinator::io::WatchdogOrder;
use rekindle_proto::fact::Watchdog;

use super::*;

/// What the simulated device is set to.
const TIMEOUT: Duration = Duration::from_secs(10);

/// So long may a host live on: a daemon that dies closes the device, and the kernel feeds it once more then.
const LASTS: Duration = Duration::from_secs(20);

impl World {
    pub(super) fn stands(&mut self, ix: Ix, stands: bool) {
        let verb = if stands { "stands" } else { "does not stand" };
        self.tell(format!("{} {verb} for leadership", self.hosts[ix].name));
        self.count(if stands { "voters fit again" } else { "voters unfit" });
        if let Some(node) = self.hosts[ix].node.as_mut() {
            node.abstains = !stands;
        }
    }

    /// The watchdog of every host, where the policy has hosts live under their own.
    pub(super) fn watchdog_device(&self, running: bool) -> Option<Watchdog> {
        let timeout_ms = u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX);
        self.policy.self_fence.then(|| Watchdog { device: "sim".into(), soft: false, timeout_ms, running })
    }

    pub(super) fn watchdog(&mut self, ix: Ix, order: WatchdogOrder) {
        let now = self.clock(ix).mono;
        let (start, name) = (self.hosts[ix].start, self.hosts[ix].name.clone());
        match order {
            WatchdogOrder::Feed { .. } if self.hosts[ix].watchdog_held => {}
            WatchdogOrder::Feed { until } if now >= until => {
                self.tell(format!("{name}: an order to feed came too late"))
            }
            WatchdogOrder::Feed { .. } => {
                self.feed_watchdog(ix);
                if self.hosts[ix].opened_by != Some(start) {
                    self.hosts[ix].opened_by = Some(start);
                    let device = self.watchdog_device(true);
                    self.later(ix, start, Duration::ZERO, Input::Watchdog { device });
                }
            }
            WatchdogOrder::Stop => self.tell(format!("{name} feeds its watchdog no more")),
            WatchdogOrder::Disarm => {
                self.hosts[ix].fed = None;
                self.hosts[ix].opened_by = None;
            }
        }
    }

    /// The daemon of a host without guests will be stopped, and asks to be let out from under its watchdog.
    pub fn leave_watchdog(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host).filter(|ix| self.speaks(*ix)) else { return };
        self.input(ix, Input::LeaveWatchdog);
    }

    fn feed_watchdog(&mut self, ix: Ix) {
        let (now, boot) = (self.now, self.hosts[ix].boot);
        self.hosts[ix].fed = Some(now);
        self.schedule(TIMEOUT, Happening::Watchdog { host: ix as u32, boot, fed: now });
    }

    /// A daemon ends without a word to its watchdog: the kernel feeds it once, and then nobody does.
    pub(super) fn watchdog_closes(&mut self, ix: Ix) {
        let host = &mut self.hosts[ix];
        let was_open = host.opened_by.take() == Some(host.start);
        if was_open && host.fed.is_some() {
            self.feed_watchdog(ix);
        }
    }

    /// The time-out after one feeding is over: if nothing came after it, the host is reset.
    pub(super) fn watchdog_runs_out(&mut self, ix: Ix, boot: BootId, fed: Moment) {
        let host = &self.hosts[ix];
        if host.boot == boot && host.fed == Some(fed) && host.has_kernel() {
            let name = host.name.clone();
            self.tell(format!("the watchdog of {name} runs out"));
            self.count("watchdog resets");
            self.kill_host(&name, false);
        }
    }
}
