//! Fence devices: orders to power off, readings, and devices that misbehave.

use rekindle_proto::status::Phase;

use super::*;

impl World {
    pub(super) fn power_off(&mut self, asker: &HostName, start: u64, call: CallId, target: &HostName) {
        let reaches = self.is_current(asker, start) && self.hosts.get(asker).is_some_and(|host| !host.cut);
        let Some(bmc) = self.hosts.get(target).map(|host| host.bmc) else { return };
        let (after, result) = match bmc {
            _ if !reaches => (Duration::from_secs(5), Err(DeviceError::Silent("no route".into()))),
            Bmc::Silent => (Duration::from_secs(5), Err(DeviceError::Silent("timed out".into()))),
            Bmc::WrongPassword => (Duration::from_millis(20), Err(DeviceError::Credentials("RAKP 2".into()))),
            Bmc::StaysOn | Bmc::SaysOff => (Duration::from_millis(30), Ok(())),
            Bmc::Honest => {
                self.tell(format!("{target} is powered off"));
                if self.raft.ledger().open_incident(target).is_none() {
                    self.violation = Some(Violation::FencedWithoutIncident { host: target.clone() });
                }
                self.fenced.push((self.now, target.clone()));
                self.nova.host_died(target);
                if let Some(host) = self.hosts.get_mut(target) {
                    host.powered = false;
                    host.coordinator = None;
                    host.starts += 1;
                }
                self.check_leader();
                if self.percent(self.weather.meddling_percent) {
                    let after = self.millis(500, 20_000);
                    self.schedule(after, Happening::PressPower(target.clone()));
                }
                (Duration::from_millis(30), Ok(()))
            }
        };
        self.later(asker, after, Input::PowerOffDone { call, result });
    }

    pub(super) fn read_device(&mut self, asker: &HostName, start: u64, call: CallId, target: &HostName, guid: bool) {
        let reaches = self.is_current(asker, start) && self.hosts.get(asker).is_some_and(|host| !host.cut);
        let Some(host) = self.hosts.get(target) else { return };
        let is_on = host.powered && host.bmc != Bmc::SaysOff;
        let state = if is_on { PowerState::On } else { PowerState::Off };
        let bytes = DeviceGuid(*host.uuid.0.as_bytes());
        let (after, result) = match host.bmc {
            _ if !reaches => (Duration::from_secs(5), Err(DeviceError::Silent("no route".into()))),
            Bmc::Silent => (Duration::from_secs(5), Err(DeviceError::Silent("timed out".into()))),
            Bmc::WrongPassword => (Duration::from_millis(20), Err(DeviceError::Credentials("RAKP 2".into()))),
            Bmc::StaysOn | Bmc::SaysOff | Bmc::Honest => (Duration::ZERO, Ok(())),
        };
        let reading =
            DeviceReading { power: result.clone().map(|()| state), guid: guid.then(|| result.map(|()| bytes)) };
        let finished = self.now + after;
        self.later(asker, after, Input::DeviceRead { call, reading, finished });
    }

    /// Somebody presses the button of a host that is off: it has power at once, and runs a minute later.
    pub fn press_power(&mut self, name: &HostName) {
        let after = self.millis(40_000, 90_000);
        // Whoever is told that a person must find out who does this, stops doing it.
        let is_stuck = self.raft.ledger().open_incident(name).is_some_and(|incident| incident.phase == Phase::Stuck);
        let Some(host) = self.hosts.get_mut(name).filter(|host| !host.powered && !is_stuck) else { return };
        host.powered = true;
        host.starts += 1;
        let start = host.starts;
        self.tell(format!("somebody powers {name} on"));
        self.schedule(after, Happening::Boot(name.clone(), start));
    }

    /// Its kernel runs, in a new boot; its compute service cleans up and starts what Nova still has there.
    pub(super) fn boot(&mut self, name: &HostName, start: u64) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        if !host.powered || host.starts != start || host.coordinator.is_some() {
            return;
        }
        host.boot = BootId(Uuid::from_u128(host.boot.0.as_u128() + (1 << 64)));
        self.tell(format!("{name} has booted"));
        self.guests_may_start(name);
        self.start_daemon(name);
    }
}
