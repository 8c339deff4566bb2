//! Watchdogs of hosts: fed on order, and merciless. One that runs out resets its host, which stays down.

use rekindle_coordinator::io::WatchdogOrder;
use rekindle_proto::fact::Watchdog;

use super::*;

/// What the simulated device is set to.
const TIMEOUT: Duration = Duration::from_secs(10);

impl World {
    /// From the next start of its daemon every host lives under its own watchdog, and one that ran out is proof.
    pub fn self_fence(&mut self) {
        self.policy.self_fence = true;
    }

    pub(super) fn watchdog_device(&self) -> Option<Watchdog> {
        let timeout_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        self.policy.self_fence.then(|| Watchdog { device: "sim".into(), soft: false, timeout_ms })
    }

    pub(super) fn watchdog(&mut self, name: &HostName, order: WatchdogOrder) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(name) else { return };
        match order {
            WatchdogOrder::Feed => {
                host.fed = Some(now);
                let boot = host.boot;
                self.schedule(TIMEOUT, Happening::Watchdog(name.clone(), boot, now));
            }
            WatchdogOrder::Stop => self.tell(format!("{name} feeds its watchdog no more")),
            WatchdogOrder::Disarm => host.fed = None,
        }
    }

    /// The time-out after one feeding is over: if nothing came after it, the host is reset.
    pub(super) fn watchdog_runs_out(&mut self, name: &HostName, boot: BootId, fed: Moment) {
        let ran_out = self.hosts.get(name).is_some_and(|host| host.boot == boot && host.fed == Some(fed));
        if ran_out && self.lives(name) {
            self.tell(format!("the watchdog of {name} runs out"));
            self.kill_host(name, false);
        }
    }
}
