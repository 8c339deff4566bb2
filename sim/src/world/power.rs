//! Fence devices: orders to power off, readings, and devices that misbehave. And people at the button.

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_proto::id::IncidentId;
use rekindle_proto::status::Phase;

use super::*;

/// An order that a device has accepted, and may carry out later.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) host: HostName,
    pub(super) incident: IncidentId,
    pub(super) attempt: u32,
    /// By the world's clock.
    pub(super) not_after: Moment,
}

impl World {
    pub(super) fn power_off(&mut self, asker: Ix, start: u32, order: Box<PowerOffOrder>) {
        if self.adapter_sleeps(asker, start) {
            self.schedule(ASLEEP, Happening::PowerOff { asker: asker as u32, start, order });
            return;
        }
        let call = order.call();
        let Some(target) = self.ix(order.host()) else { return };
        if !self.is_current(asker, start) {
            return;
        }
        let local = self.clock(asker).mono;
        if local >= order.begin_before() || local >= order.not_after() {
            let result = Err(OrderError::TooLate);
            self.later(asker, start, Duration::ZERO, Input::PowerOffDone { call, result });
            return;
        }
        self.oracle_off_begun(asker, &order);
        let ordered = Ordered {
            host: order.host().clone(),
            incident: order.incident(),
            attempt: order.attempt(),
            not_after: self.hosts[asker].clock.when(order.not_after()),
        };
        let ordered = Box::new(ordered);
        let machine = self.hosts[target].bmc_leads_to;
        let execute = Happening::Off { machine: machine as u32, ordered };
        let answer = self.order_reaches(asker, target, order.identity());
        if answer.is_ok() {
            self.oracle.off_reached(order.host(), (order.incident(), order.attempt()));
        }
        let (after, result) = match answer {
            Err(refusal) => refusal,
            Ok(Bmc::StaysOn | Bmc::SaysOff) => (Duration::from_millis(30), Ok(())),
            Ok(Bmc::Busy) if self.random(3) > 0 => {
                (Duration::from_millis(40), Err(OrderError::MaybeSent(DeviceError::Refused("node busy".into()))))
            }
            Ok(Bmc::Late(seconds)) => {
                self.schedule(Duration::from_secs(u64::from(seconds)), execute);
                (Duration::from_millis(30), Ok(()))
            }
            Ok(Bmc::Slow(millis)) => {
                let after = Duration::from_millis(u64::from(millis));
                self.schedule(after / 2, execute);
                // The driver is killed at its time-out; what it has sent is sent.
                if after > self.policy.device_timeout {
                    let silent = DeviceError::Silent("timed out".into());
                    (self.policy.device_timeout, Err(OrderError::MaybeSent(silent)))
                } else {
                    (after, Ok(()))
                }
            }
            Ok(
                Bmc::Honest
                | Bmc::NoGuid
                | Bmc::NoStatus
                | Bmc::SaysOn
                | Bmc::Busy
                | Bmc::Silent
                | Bmc::WrongPassword
                | Bmc::NoOrders,
            ) => {
                self.schedule(Duration::ZERO, execute);
                (Duration::from_millis(30), Ok(()))
            }
        };
        self.later(asker, start, after, Input::PowerOffDone { call, result });
    }

    /// A member does not reach the BMC of that host, whoever else does; or does again.
    pub fn block_bmc(&mut self, asker: &HostName, owner: &HostName, on: bool) {
        let (Some(from), Some(of)) = (self.ix(asker), self.ix(owner)) else { return };
        self.tell(format!("{asker} {} the BMC of {owner}", if on { "does not reach" } else { "reaches" }));
        self.count(if on { "BMC routes lost" } else { "BMC routes mended" });
        if on {
            self.oracle.cause(owner, "its BMC was not reached by all");
            self.net.bmcs.insert((from, of));
        } else {
            self.net.bmcs.remove(&(from, of));
        }
    }

    /// A device carries out an order, in time or late.
    pub(super) fn off(&mut self, machine: Ix, ordered: &Ordered) {
        if !self.hosts[machine].powered {
            self.oracle_off_executed(machine, ordered, false);
            return;
        }
        self.tell(format!("{} is powered off", self.hosts[machine].name));
        self.count("fences");
        self.judge_dump(machine);
        self.oracle_off_executed(machine, ordered, true);
        self.fenced.push((self.now, self.hosts[machine].name.clone()));
        self.stop_machine(machine);
        self.hosts[machine].powered = false;
        if self.percent(self.weather.meddling_percent) {
            let after = self.millis(500, 20_000);
            self.schedule(after, Happening::PressPower(machine as u32));
        }
    }

    pub(super) fn power_on(&mut self, asker: Ix, start: u32, order: Box<PowerOnOrder>) {
        if self.adapter_sleeps(asker, start) {
            self.schedule(ASLEEP, Happening::PowerOn { asker: asker as u32, start, order });
            return;
        }
        let call = order.call();
        let Some(target) = self.ix(order.host()) else { return };
        if !self.is_current(asker, start) {
            return;
        }
        let local = self.clock(asker).mono;
        if local >= order.begin_before() || local >= order.not_after() {
            let result = Err(OrderError::TooLate);
            self.later(asker, start, Duration::ZERO, Input::PowerOnDone { call, result });
            return;
        }
        let machine = self.hosts[target].bmc_leads_to as u32;
        let switch = Happening::On { machine };
        let (after, result) = match self.order_reaches(asker, target, order.identity()) {
            Err(refusal) => refusal,
            Ok(Bmc::StaysOn | Bmc::SaysOff) => (Duration::from_millis(30), Ok(())),
            Ok(Bmc::Late(seconds)) => {
                self.schedule(Duration::from_secs(u64::from(seconds)), switch);
                (Duration::from_millis(30), Ok(()))
            }
            Ok(
                Bmc::Honest
                | Bmc::NoGuid
                | Bmc::NoStatus
                | Bmc::SaysOn
                | Bmc::Busy
                | Bmc::Slow(_)
                | Bmc::Silent
                | Bmc::WrongPassword
                | Bmc::NoOrders,
            ) => {
                self.schedule(Duration::ZERO, switch);
                (Duration::from_millis(30), Ok(()))
            }
        };
        self.later(asker, start, after, Input::PowerOnDone { call, result });
    }

    /// A device carries out an order to power on.
    pub(super) fn on(&mut self, machine: Ix) {
        let host = &self.hosts[machine];
        if !host.powered && host.has_supply {
            let line = format!("{} is powered on", host.name);
            self.tell(line);
            self.count("powered on by us");
            self.has_power(machine);
        }
    }

    /// How a device behaves to an order; or what its door says to it. An order is sent in a session, which there is none of then,
    /// and in which it has to say whose it is.
    fn order_reaches(
        &self,
        asker: Ix,
        target: Ix,
        identity: &DeviceIdentity,
    ) -> Result<Bmc, (Duration, Result<(), OrderError>)> {
        match self.bmc_of(asker, target) {
            Ok(Bmc::NoOrders) => {
                let full = DeviceError::Refused("no resources for another session".into());
                Err((Duration::from_millis(40), Err(OrderError::NotSent(full))))
            }
            Ok(behaviour) => match identity.judge(&self.tells(target)) {
                Ok(()) => Ok(behaviour),
                Err(why) => Err((Duration::from_millis(20), Err(OrderError::NotSent(why)))),
            },
            Err((after, refusal)) => Err((after, Err(OrderError::NotSent(refusal)))),
        }
    }

    /// What a device that answers tells of its machine.
    fn tells(&self, target: Ix) -> Result<DeviceGuid, DeviceError> {
        let host = &self.hosts[target];
        match host.bmc {
            Bmc::NoGuid => Err(DeviceError::Refused("it has no GUID".into())),
            Bmc::NoStatus => Err(DeviceError::Unusable("it tells nothing".into())),
            Bmc::Honest
            | Bmc::StaysOn
            | Bmc::SaysOff
            | Bmc::SaysOn
            | Bmc::Busy
            | Bmc::Slow(_)
            | Bmc::Late(_)
            | Bmc::Silent
            | Bmc::WrongPassword
            | Bmc::NoOrders => Ok(DeviceGuid(*self.hosts[host.bmc_leads_to].uuid.0.as_bytes())),
        }
    }

    /// How a device behaves to this asker; or what it answers instead of doing anything.
    fn bmc_of(&self, asker: Ix, target: Ix) -> Result<Bmc, (Duration, DeviceError)> {
        let silent = || (self.policy.device_timeout, DeviceError::Silent("timed out".into()));
        let machine = &self.hosts[self.hosts[target].bmc_leads_to];
        if !self.reaches_services(asker) || self.net.bmcs.contains(&(asker, target)) || !machine.has_supply {
            return Err(silent());
        }
        match self.hosts[target].bmc {
            Bmc::Silent => Err(silent()),
            Bmc::WrongPassword => Err((Duration::from_millis(20), DeviceError::Credentials("RAKP 2".into()))),
            behaviour @ (Bmc::Honest
            | Bmc::StaysOn
            | Bmc::SaysOff
            | Bmc::SaysOn
            | Bmc::Busy
            | Bmc::Slow(_)
            | Bmc::Late(_)
            | Bmc::NoGuid
            | Bmc::NoStatus
            | Bmc::NoOrders) => Ok(behaviour),
        }
    }

    pub(super) fn read_device(&mut self, asker: Ix, start: u32, call: CallId, target: &HostName, guid: bool) {
        let Some(target) = self.ix(target) else { return };
        if !self.is_current(asker, start) {
            return;
        }
        let machine = &self.hosts[self.hosts[target].bmc_leads_to];
        let honest = if machine.powered { PowerState::On } else { PowerState::Off };
        let (after, answer) = match self.bmc_of(asker, target) {
            Err((after, refusal)) => (after, Err(refusal)),
            Ok(Bmc::SaysOff) => (Duration::ZERO, Ok(PowerState::Off)),
            Ok(Bmc::NoStatus) => (Duration::ZERO, Err(DeviceError::Unusable("it has no status".into()))),
            Ok(Bmc::SaysOn) => (Duration::ZERO, Ok(PowerState::On)),
            Ok(Bmc::Slow(millis)) => {
                let after = Duration::from_millis(u64::from(millis));
                if after > self.policy.device_timeout {
                    (self.policy.device_timeout, Err(DeviceError::Silent("timed out".into())))
                } else {
                    (after, Ok(honest))
                }
            }
            Ok(
                Bmc::Honest
                | Bmc::NoGuid
                | Bmc::StaysOn
                | Bmc::Busy
                | Bmc::Late(_)
                | Bmc::Silent
                | Bmc::WrongPassword
                | Bmc::NoOrders,
            ) => (Duration::ZERO, Ok(honest)),
        };
        if let Ok(power) = answer {
            let name = self.hosts[target].name.clone();
            self.oracle.device_read(&name, power, self.now + after);
        }
        let guid = guid.then(|| answer.clone().and(self.tells(target)));
        let finished = self.hosts[asker].clock.show(self.now + after);
        let reading = DeviceReading { power: answer, guid };
        self.later(asker, start, after, Input::DeviceRead { call, reading, finished });
    }

    /// Somebody presses the button of a host that is off: it has power at once, and runs a minute later.
    pub fn press_power(&mut self, name: &HostName) {
        // Whoever is told that a person must find out who does this, stops doing it.
        let is_stuck = self.raft.ledger().open_incident(name).is_some_and(|incident| incident.phase == Phase::Stuck);
        let Some(ix) = self.ix(name) else { return };
        let host = &self.hosts[ix];
        if host.powered || is_stuck || !host.has_supply {
            return;
        }
        self.tell(format!("somebody powers {name} on"));
        self.count("powered on");
        self.oracle.cause(name, "somebody powered it on");
        self.has_power(ix);
    }

    /// It has power at once, and its kernel runs a minute later.
    fn has_power(&mut self, ix: Ix) {
        let after = self.millis(40_000, 90_000);
        let host = &mut self.hosts[ix];
        host.powered = true;
        host.kernel = false;
        host.end_process();
        let start = host.start;
        self.schedule(after, Happening::Boot { host: ix as u32, start });
    }

    /// A host whose kernel died is started again by a person, or by its own watchdog.
    pub fn reboot(&mut self, name: &HostName) {
        let after = self.millis(40_000, 90_000);
        let Some(ix) = self.ix(name).filter(|ix| self.hosts[*ix].powered) else { return };
        self.tell(format!("{name} reboots"));
        self.count("reboots");
        self.stop_machine(ix);
        let start = self.hosts[ix].start;
        self.schedule(after, Happening::Boot { host: ix as u32, start });
    }

    /// Its kernel runs, in a new boot; its compute service cleans up and starts what Nova still has there.
    pub(super) fn boot(&mut self, ix: Ix, start: u32) {
        let host = &mut self.hosts[ix];
        if !host.powered || host.start != start || host.kernel {
            return;
        }
        host.kernel = true;
        host.booted = Some(host.clock.show(self.now));
        host.boot = BootId(Uuid::from_u128(host.boot.0.as_u128() + (1 << 64)));
        let name = host.name.clone();
        self.tell(format!("{name} has booted"));
        self.guests_may_start(ix);
        self.start_daemon(ix);
    }
}
