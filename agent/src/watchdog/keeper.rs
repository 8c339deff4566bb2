//! Carries the coordinator's orders out on one watchdog.

use std::io;

use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::Watchdog;

use super::device::{Device, Kernel};
use super::times::SHORTEST;
use super::{Clock, Found, WatchdogError, sysfs};

/// What became of an order to feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed {
    /// Done; nothing new.
    Done,
    /// Done for the first time: it runs, as the ledger is to be told.
    First(Watchdog),
    /// Not done: the lease on which the order rests has ended.
    Late,
    /// Not done, and tried again with the next order.
    Failed,
    /// It cannot be used at all: it was disarmed again, and what the ledger knows of it is to be withdrawn.
    Unfit,
}

#[derive(Debug)]
enum State<D> {
    Closed,
    Open(D),
    GivenUp,
}

/// One watchdog, and whether we have it open.
#[derive(Debug)]
#[allow(private_bounds)]
pub struct Keeper<D: Device = Kernel> {
    found: Found,
    state: State<D>,
    clock: Clock,
    /// The last failure, so that each is told once.
    told: Option<String>,
}

#[allow(private_bounds)]
impl<D: Device> Keeper<D> {
    /// For a watchdog that was looked at. Nothing is opened yet.
    #[must_use]
    pub fn new(found: Found, clock: Clock) -> Self {
        Self { found, state: State::Closed, clock, told: None }
    }

    /// The watchdog.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Whether this daemon has it open, so that it resets the host if it is not fed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Feeds it, if the lease has not ended meanwhile; the first time it is opened and set.
    pub fn feed(&mut self, until: Moment) -> Fed {
        if (self.clock)() >= until {
            // The loop stood still between the order and now: somebody may have been told that we are off.
            self.tell("an order to feed came after the end of its lease, and is not carried out".to_owned());
            return Fed::Late;
        }
        match &self.state {
            State::GivenUp => Fed::Unfit,
            State::Open(device) => match device.feed() {
                Ok(()) => {
                    self.told = None;
                    Fed::Done
                }
                Err(source) => {
                    let error = self.call("feed it", source);
                    self.tell(error.to_string());
                    Fed::Failed
                }
            },
            State::Closed => self.begin(),
        }
    }

    fn begin(&mut self) -> Fed {
        let node = self.found.node;
        let device = match D::open(node) {
            Ok(device) => device,
            Err(source) if source.raw_os_error() == Some(nix::libc::EBUSY) => {
                self.tell(WatchdogError::Busy { node }.to_string());
                return Fed::Failed;
            }
            Err(source) => {
                let error = self.call("open it", source);
                self.tell(error.to_string());
                return Fed::Failed;
            }
        };
        match self.prepare(&device) {
            Ok(()) => {
                self.told = None;
                let Found { node, identity, times, nowayout, .. } = &self.found;
                tracing::info!(%node, identity, timeout_s = times.timeout, nowayout, "the watchdog is fed from now on");
                self.state = State::Open(device);
                Fed::First(self.found.fact(true))
            }
            Err(error) if self.found.nowayout => {
                self.tell(format!(
                    "{error}; nothing can stop it any more, so it is fed under leases, and the ledger does not count on it"
                ));
                self.state = State::Open(device);
                Fed::Done
            }
            Err(error) => {
                self.tell(format!("{error}; it is disarmed again"));
                self.state = State::GivenUp;
                if let Err(source) = device.disarm() {
                    let error = self.call("disarm it", source);
                    self.tell(error.to_string());
                }
                Fed::Unfit
            }
        }
    }

    /// Checks what only an open device tells, sets it, and feeds it.
    fn prepare(&self, device: &D) -> Result<(), WatchdogError> {
        let Found { node, identity, nowayout, times, .. } = &self.found;
        let support = device.support().map_err(|source| self.call("ask what it is", source))?;
        if support.identity != *identity {
            return Err(WatchdogError::Changed { node: *node, before: identity.clone(), now: support.identity });
        }
        if sysfs::is_soft(&support.identity) {
            return Err(WatchdogError::Soft { node: *node, identity: support.identity });
        }
        sysfs::fit(*node, identity, support.options, *nowayout)?;
        let asked = times.timeout;
        let got = device.set_timeout(asked).map_err(|source| self.call("set its time-out", source))?;
        let not_taken = |got| WatchdogError::TimeoutNotTaken { node: *node, identity: identity.clone(), asked, got };
        // One between is safe: the host is off sooner than the ledger has it.
        if got < SHORTEST || got > asked {
            return Err(not_taken(got));
        }
        device.feed().map_err(|source| self.call("feed it", source))?;
        // A driver that counts twice may tell both; more than that is not what it was set to.
        match device.time_left().filter(|left| *left > asked.saturating_mul(times.counts)) {
            Some(left) => Err(not_taken(left)),
            None => Ok(()),
        }
    }

    /// Disarms it, if it is open. Only on the coordinator's order: the ledger must not count on it any more.
    pub fn disarm(&mut self) {
        let device = match std::mem::replace(&mut self.state, State::GivenUp) {
            State::Open(device) => device,
            // Never started by us: there is nothing to stop.
            State::Closed | State::GivenUp => return,
        };
        let node = self.found.node;
        if self.found.nowayout {
            // To close it would feed it: no harm, and no use.
            tracing::error!(%node, "nowayout: the watchdog cannot be disarmed, and resets this host");
            self.state = State::Open(device);
            return;
        }
        match device.disarm() {
            Ok(()) => tracing::info!(%node, "the watchdog is disarmed"),
            Err(error) => tracing::error!(%node, %error, "the watchdog could not be disarmed, and resets this host"),
        }
    }

    fn call(&self, what: &'static str, why: io::Error) -> WatchdogError {
        WatchdogError::Call { node: self.found.node, what, why }
    }

    fn tell(&mut self, text: String) {
        if self.told.as_ref() != Some(&text) {
            tracing::error!(node = %self.found.node, "the watchdog is not as it should be: {text}");
            self.told = Some(text);
        }
    }
}
