//! Voters that do not stand, and watchdogs of hosts: fed on order, and merciless. One that runs out resets its host, which
//! stays down.

use rekindle_coordinator::io::WatchdogOrder;
use rekindle_proto::fact::Watchdog;

use super::*;

/// What the simulated device is set to.
const TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(super) fn watchdog_device(&self) -> Option<Watchdog> {
        let timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        self.policy.self_fence.then(|| Watchdog { device: "sim".into(), soft: false, timeout_ms })
    }

    pub(super) fn watchdog(&mut self, ix: Ix, order: WatchdogOrder) {
        let now = self.now;
        let host = &mut self.hosts[ix];
        match order {
            WatchdogOrder::Feed => {
                host.fed = Some(now);
                let boot = host.boot;
                self.schedule(TIMEOUT, Happening::Watchdog { host: ix as u32, boot, fed: now });
            }
            WatchdogOrder::Stop => self.tell(format!("{} feeds its watchdog no more", self.hosts[ix].name)),
            WatchdogOrder::Disarm => host.fed = None,
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
