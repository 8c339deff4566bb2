//! A console, a BMC and the network between them, in virtual time: the same seed gives the same run.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rekindle_agent::bmc::Privilege;
use rekindle_agent::bmc::ipmi::{Answer, Ask, CipherSuite, Console, IpmiError, Login, Step, Times};
use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{DeviceGuid, PowerState};
use rekindle_tests::fake::bmc::{Faults, Model};

pub(crate) const USER: &str = "fencer";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const GUID: [u8; 16] = *b"0123456789abcdef";

/// What the BMC is held to, as the daemon holds one that is bound.
const OWN: DeviceIdentity = DeviceIdentity::Told(DeviceGuid(GUID));

/// What the coordinator allows: a command, a reading, and how old a permit may grow before the order is on the wire.
pub(crate) const DEVICE_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const PERMIT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_secs(1);
const POLLS: u32 = 20;
pub(crate) const TRIES: u32 = 3;

/// The monotonic clock of a machine that has been up for a while.
const BOOTED: Duration = Duration::from_secs(86_400);

/// What the network does to a datagram.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net {
    /// The part of all that is lost.
    pub(crate) loss: f64,
    /// The part that comes twice.
    pub(crate) twice: f64,
    /// How much later than others a datagram can be: more than the time between two, and they are reordered.
    pub(crate) late: Duration,
    /// The part before which rubbish arrives: some bytes, 1400 of them, or a damaged copy.
    pub(crate) garbage: f64,
}

#[derive(Debug)]
struct Flight {
    at: Duration,
    to_bmc: bool,
    datagram: Vec<u8>,
}

/// How a fence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By two readings, at these times.
    ConfirmedOff([Duration; 2]),
    StillOn,
    Unknown,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) console: Console,
    pub(crate) bmc: Model,
    pub(crate) now: Duration,
    pub(crate) net: Net,
    /// What each call of the last fence came to.
    pub(crate) log: Vec<String>,
    /// The console has said of an order that it may have left.
    pub(crate) may_have_left: bool,
    flights: Vec<Flight>,
    random: StdRng,
}

pub(crate) fn login(password: &str, kg: Option<&[u8]>, suites: &[CipherSuite]) -> Login {
    Login::new(USER, password.as_bytes().to_vec(), kg.map(<[u8]>::to_vec), suites, Privilege::Operator).expect("legal")
}

impl World {
    pub(crate) fn new(seed: u64, net: Net, faults: Faults) -> Self {
        Self::with(seed, net, faults, login(PASSWORD, None, &CipherSuite::PREFERENCE))
    }

    pub(crate) fn with(seed: u64, net: Net, faults: Faults, login: Login) -> Self {
        let mut bytes = StdRng::seed_from_u64(!seed);
        Self {
            console: Console::new(
                login,
                Box::new(move |to| {
                    bytes.fill_bytes(to);
                    true
                }),
            ),
            bmc: Model::new(USER, PASSWORD, GUID, faults),
            now: BOOTED,
            net,
            log: Vec::new(),
            may_have_left: false,
            flights: Vec::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Makes a call of whosever BMC it is, and plays it to its end.
    pub(crate) fn call(&mut self, ask: Ask, permit: Duration, within: Duration) -> Result<Answer, IpmiError> {
        self.call_of(None, ask, permit, within)
    }

    fn call_of(
        &mut self,
        identity: Option<DeviceIdentity>,
        ask: Ask,
        permit: Duration,
        within: Duration,
    ) -> Result<Answer, IpmiError> {
        let end = self.now + within;
        self.console.begin(moment(self.now), ask, Times { begin_before: moment(self.now + permit), end: moment(end) });
        if let Some(identity) = identity {
            self.console.hold_to(identity);
        }
        let mut idle = 0;
        loop {
            match self.console.poll(moment(self.now)) {
                Step::Send(datagram) => self.transmit(true, datagram),
                Step::Wait(until) => {
                    let until = Duration::from_micros(until.as_micros());
                    idle = if until > self.now { 0 } else { idle + 1 };
                    assert!(idle < 3, "it spins: {:?}", self.console);
                    if !self.deliver(until) {
                        self.now = self.now.max(until);
                    }
                }
                Step::Done(result) => {
                    assert!(self.now <= end, "the call ended after its end");
                    return result;
                }
                Step::Idle => panic!("the call was lost"),
            }
        }
    }

    /// Begins a call, sends its first question, and drops it, as a reading is dropped that gives way to an order.
    pub(crate) fn ask_and_give_up(&mut self, ask: Ask) {
        let end = moment(self.now + DEVICE_TIMEOUT);
        self.console.begin(moment(self.now), ask, Times { begin_before: end, end });
        if let Step::Send(datagram) = self.console.poll(moment(self.now)) {
            self.transmit(true, datagram);
        }
    }

    /// Lets time pass in which the console does nothing. What comes for it lies in its socket until its next call.
    pub(crate) fn sleep(&mut self, time: Duration) {
        let until = self.now + time;
        while self.deliver_to_bmc(until) {}
        self.now = until;
    }

    pub(crate) fn order(&mut self, state: PowerState) -> Result<Answer, IpmiError> {
        let result = self.call_of(Some(OWN), Ask::Order(state), PERMIT, DEVICE_TIMEOUT);
        self.may_have_left |= self.console.has_ordered();
        assert!(self.may_have_left || result.is_err(), "accepted, and never sent");
        result
    }

    pub(crate) fn power(&mut self) -> Result<Answer, IpmiError> {
        self.call(Ask::Power, Duration::ZERO, DEVICE_TIMEOUT)
    }

    /// Off, and off twice: up to three orders, and twenty readings after each that was accepted. `between`: what happens
    /// to the machine before each reading.
    pub(crate) fn fence(&mut self, mut between: impl FnMut(&mut Self)) -> Outcome {
        let mut outcome = Outcome::Unknown;
        for _ in 0..TRIES {
            let ordered = self.order(PowerState::Off);
            self.log.push(format!("{:?} off: {ordered:?}", self.now - BOOTED));
            let accepted = ordered == Ok(Answer::Accepted);
            let mut first = None;
            for _ in 0..if accepted { POLLS } else { 2 } {
                self.sleep(POLL);
                between(self);
                let reading = self.reading();
                self.log.push(format!("{:?} read: {reading:?}", self.now - BOOTED));
                match (reading, first) {
                    (Some(PowerState::On), _) => (outcome, first) = (Outcome::StillOn, None),
                    (Some(PowerState::Off), Some(first)) if accepted => {
                        return Outcome::ConfirmedOff([first, self.now]);
                    }
                    (Some(PowerState::Off), _) => (outcome, first) = (Outcome::Unknown, Some(self.now)),
                    (None, _) => (outcome, first) = (Outcome::Unknown, None),
                }
            }
        }
        outcome
    }

    /// The power, if it is told, and told of the right machine.
    pub(crate) fn reading(&mut self) -> Option<PowerState> {
        let end = self.now + DEVICE_TIMEOUT;
        let guid = self.call(Ask::Guid, Duration::ZERO, DEVICE_TIMEOUT);
        if guid != Ok(Answer::Guid(GUID)) {
            return None;
        }
        match self.call_of(Some(OWN), Ask::Power, Duration::ZERO, end - self.now) {
            Ok(Answer::Power(state)) => Some(state),
            _ => None,
        }
    }

    fn transmit(&mut self, to_bmc: bool, datagram: Vec<u8>) {
        if self.random.random_bool(self.net.garbage) {
            let (at, datagram) = (self.now, self.noise(&datagram));
            self.flights.push(Flight { at, to_bmc, datagram });
        }
        let copies = 1 + usize::from(self.random.random_bool(self.net.twice));
        for _ in 0..copies {
            if !self.random.random_bool(self.net.loss) {
                let late = self.net.late.mul_f64(self.random.random());
                let at = self.now + Duration::from_micros(100) + late;
                self.flights.push(Flight { at, to_bmc, datagram: datagram.clone() });
            }
        }
    }

    /// Rubbish, long or short, or a damaged copy. One of the handshake is cut only: a changed one may be a refusal, as these
    /// are not signed (a network that makes such ends a call with an error; that is the fuzz tests' matter).
    fn noise(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut noise = match self.random.random_range(0..3) {
            0 => vec![0; 1400],
            1 => vec![0; self.random.random_range(0..100)],
            _ => {
                let mut copy = datagram.to_vec();
                let at = self.random.random_range(0..copy.len());
                if copy[6..10] == [0; 4] {
                    copy.truncate(at)
                } else {
                    copy[at] ^= self.random.random_range(1..=255_u8)
                }
                return copy;
            }
        };
        self.random.fill_bytes(&mut noise);
        noise
    }

    /// Delivers the next datagram that arrives by then, to whom it is for.
    fn deliver(&mut self, until: Duration) -> bool {
        let Some(flight) = self.next(|flight| flight.at <= until) else { return false };
        if flight.to_bmc {
            self.at_bmc(&flight);
        } else {
            self.now = self.now.max(flight.at);
            self.console.receive(moment(self.now), &flight.datagram);
        }
        true
    }

    fn deliver_to_bmc(&mut self, until: Duration) -> bool {
        let flight = self.next(|flight| flight.to_bmc && flight.at <= until);
        flight.inspect(|flight| self.at_bmc(flight)).is_some()
    }

    fn at_bmc(&mut self, flight: &Flight) {
        let before = self.now;
        self.now = self.now.max(flight.at);
        if let Some((at, answer)) = self.bmc.handle(self.now, &flight.datagram) {
            let now = std::mem::replace(&mut self.now, at);
            self.transmit(false, answer);
            self.now = now;
        }
        // The console's clock stands still until something comes for it.
        self.now = self.now.max(before);
    }

    fn next(&mut self, wanted: impl Fn(&Flight) -> bool) -> Option<Flight> {
        let due = self.flights.iter().enumerate().filter(|(_, flight)| wanted(flight));
        let (index, _) = due.min_by_key(|(_, flight)| flight.at)?;
        Some(self.flights.remove(index))
    }
}

pub(crate) fn moment(at: Duration) -> Moment {
    Moment::ZERO + at
}
