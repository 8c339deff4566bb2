//! The event heap, the hosts, and what their outputs do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_coordinator::Coordinator;
use rekindle_coordinator::io::{Event, Input, NovaAnswer, NovaRead, Output, Peer, ProposeError};
use rekindle_coordinator::ledger::{Entry, Ledger};
use rekindle_coordinator::order::GuestPower;
use rekindle_coordinator::policy::{DeviceRule, Policy, Setup};
use rekindle_coordinator::time::{Moment, Now};
use rekindle_proto::fact::{
    DeviceError, DeviceGuid, DeviceReading, DiskPlacement, Guest, GuestEvent, GuestList, MemberRole, NovaError,
    PowerState, RosterEntry,
};
use rekindle_proto::id::{
    BootId, CallId, ClusterName, HostName, Incarnation, MemberId, PathName, ServerId, SystemUuid, WallTime,
};
use uuid::Uuid;

use crate::nova::{Nova, Rebuild};
use crate::oracle::{Violation, never_twice, once_per_intent};
use crate::raft::Raft;

mod acts;
mod cloud;
mod elections;
mod gate;
mod hosts;
mod network;
mod power;

pub use hosts::{Bmc, Host};

/// Between two heartbeats of every compute service.
const NOVA_HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a proposal or a check may take before its caller gives up.
const RAFT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Happening {
    Input(HostName, u64, Box<Input>),
    Tick(HostName, u64),
    Commit(HostName, u64, CallId, Box<Entry>),
    Check(HostName, u64, CallId),
    PowerOff(HostName, u64, CallId, HostName),
    ReadDevice(HostName, u64, CallId, HostName, bool),
    Evacuate(HostName, u64, CallId, ServerId),
    Finish(Rebuild),
    PressPower(HostName),
    Boot(HostName, u64),
    AskGate(HostName, BootId),
    Die(HostName),
    Heartbeat,
    Election,
}

/// How the simulated network and cloud misbehave all the time.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Part of all datagrams that is lost, in percent.
    pub loss_percent: u8,
    /// Part of all evacuate calls whose answer is lost, in percent.
    pub lost_answers_percent: u8,
    /// Part of all rebuilds that fail, in percent.
    pub failed_rebuilds_percent: u8,
    /// Part of all failed rebuilds that leave their guest running, in percent. Together with `meddling_percent` only where
    /// hosts have boot gates (I7): without one, a host that a person powers on while it cannot be fenced boots its guests
    /// beside such a copy, and nothing can keep it from that.
    pub leftover_percent: u8,
    /// Part of all evacuate calls that take up to ten seconds to arrive, in percent.
    pub slow_calls_percent: u8,
    /// Part of all proposals that are committed and whose answer is lost, in percent.
    pub lost_commits_percent: u8,
    /// Part of all fenced hosts that somebody powers on again, in percent.
    pub meddling_percent: u8,
    /// Whether the first host that an evacuation is built on dies meanwhile.
    pub dying_destination: bool,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    now: Moment,
    sequence: u64,
    heap: BinaryHeap<Reverse<(Moment, u64)>>,
    events: BTreeMap<u64, Happening>,
    rng: StdRng,
    hosts: BTreeMap<HostName, Host>,
    addresses: BTreeMap<SocketAddr, HostName>,
    /// The cloud.
    pub nova: Nova,
    /// Nova answers nothing.
    pub nova_down: bool,
    /// The log.
    pub raft: Raft,
    /// What goes wrong by itself.
    pub weather: Weather,
    election: Option<Moment>,
    policy: Policy,
    cluster: ClusterName,
    path: PathName,
    log: Vec<String>,
    violation: Option<Violation>,
    /// Hosts that were powered off by a fence, and when.
    pub fenced: Vec<(Moment, HostName)>,
}

impl World {
    /// A cluster of `hosts` hypervisors with `servers` servers each, armed, at its start. `voters` of them vote.
    ///
    /// # Panics
    /// If a constant name of its own were malformed.
    #[must_use]
    pub fn new(seed: u64, hosts: usize, voters: usize, servers: usize, weather: Weather) -> Self {
        let names: Vec<HostName> = (1..=hosts).map(host_name).collect();
        let cluster = ClusterName::new("sim").expect("a constant");
        let mut ledger = Ledger::new(cluster.clone());
        ledger.arming.armed = true;
        for host in &names {
            let entry = RosterEntry { host: host.clone(), role: MemberRole::Member, domain: None };
            ledger.roster.insert(host.clone(), entry);
            ledger.hosts.insert(host.clone(), rekindle_coordinator::ledger::HostRecord::default());
        }
        let voters: BTreeSet<HostName> = names.iter().take(voters).cloned().collect();
        let mut world = Self {
            now: Moment::ZERO,
            sequence: 0,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
            addresses: BTreeMap::new(),
            nova: Nova::default(),
            nova_down: false,
            raft: Raft::new(voters, ledger),
            weather,
            election: None,
            policy: Policy::default(),
            cluster,
            path: PathName::new("management").expect("a constant"),
            log: Vec::new(),
            violation: None,
            fenced: Vec::new(),
        };
        for (number, host) in names.iter().enumerate() {
            world.nova.add_host(host.clone());
            for server in 0..servers {
                let id = ServerId(Uuid::from_u128((number as u128 + 1) << 64 | (server as u128 + 1)));
                world.nova.boot(id, &format!("vm-{number}-{server}"), host);
            }
            let address =
                SocketAddr::from(([127, 1, u8::try_from(number >> 8).unwrap_or(0), (number & 0xff) as u8], 7946));
            world.addresses.insert(address, host.clone());
            let uuid = SystemUuid(Uuid::from_u128(0xabcd_0000 + number as u128 + 1));
            let boot = BootId(Uuid::from_u128(number as u128 + 1));
            world.hosts.insert(
                host.clone(),
                Host {
                    coordinator: None,
                    address,
                    boot,
                    incarnation: Incarnation(0),
                    uuid,
                    powered: true,
                    frozen: false,
                    cut: false,
                    bmc: Bmc::Honest,
                    starts: 0,
                    tick: None,
                    gate: false,
                    opened: None,
                    met: BTreeSet::new(),
                },
            );
            world.start_daemon(host);
        }
        world.schedule(NOVA_HEARTBEAT, Happening::Heartbeat);
        world.schedule(Duration::from_millis(10), Happening::Election);
        world
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The story so far, a line an event.
    #[must_use]
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// A number below `bound`, from the world's own seed.
    pub fn random(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: impl AsRef<str>) {
        self.log.push(format!("{} {}", self.now, line.as_ref()));
    }

    fn clock(&self) -> Now {
        let wall = i64::try_from(self.now.as_micros() / 1_000).unwrap_or(i64::MAX);
        Now { mono: self.now, wall: WallTime(1_800_000_000_000 + wall) }
    }

    fn schedule(&mut self, after: Duration, happening: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse((self.now + after, self.sequence)));
        self.events.insert(self.sequence, happening);
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(from * 1_000..to * 1_000))
    }

    fn percent(&mut self, percent: u8) -> bool {
        self.rng.random_range(0..100u8) < percent
    }

    /// Runs until that moment, or until a promise is broken.
    ///
    /// # Errors
    /// The broken promise.
    pub fn run_until(&mut self, until: Moment) -> Result<(), Violation> {
        while let Some(Reverse((at, sequence))) = self.heap.peek().copied() {
            if at > until {
                break;
            }
            self.heap.pop();
            self.now = at;
            if let Some(happening) = self.events.remove(&sequence) {
                self.happen(happening);
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            never_twice(&self.nova)?;
            once_per_intent(&self.nova, &self.raft)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input(host, start, input) => {
                if self.is_current(&host, start) {
                    if self.hosts.get(&host).is_some_and(|host| host.frozen) {
                        // A stopped process finds it when it goes on.
                        self.schedule(Duration::from_millis(500), Happening::Input(host, start, input));
                    } else {
                        self.input(&host, *input);
                    }
                }
            }
            Happening::Tick(host, start) => {
                if self.is_current(&host, start) {
                    if self.hosts.get(&host).is_some_and(|host| host.frozen) {
                        self.schedule(Duration::from_millis(100), Happening::Tick(host, start));
                        return;
                    }
                    if let Some(host) = self.hosts.get_mut(&host) {
                        host.tick = None;
                    }
                    self.input(&host, Input::Tick);
                }
            }
            Happening::Commit(host, start, call, entry) => self.commit(&host, start, call, *entry),
            Happening::Check(host, start, call) => self.check(&host, start, call),
            Happening::PowerOff(asker, start, call, host) => self.power_off(&asker, start, call, &host),
            Happening::ReadDevice(asker, start, call, host, guid) => {
                self.read_device(&asker, start, call, &host, guid);
            }
            Happening::Evacuate(asker, start, call, server) => self.evacuate(&asker, start, call, server),
            Happening::PressPower(host) => self.press_power(&host),
            Happening::Boot(host, start) => self.boot(&host, start),
            Happening::AskGate(host, boot) => self.ask_gate(&host, boot),
            Happening::Die(host) => self.kill_host(&host, false),
            Happening::Finish(rebuild) => {
                let fails = self.percent(self.weather.failed_rebuilds_percent);
                let text = if fails { "fails" } else { "runs" };
                self.tell(format!("{} {text} on {}", rebuild.server, rebuild.dest));
                let leaves_copy = fails && self.percent(self.weather.leftover_percent);
                self.nova.finish(&rebuild, fails, leaves_copy);
                let list = self.guest_list(&rebuild.dest);
                self.later(&rebuild.dest, Duration::from_millis(5), Input::Guests { list });
            }
            Happening::Heartbeat => {
                let reaching: BTreeSet<HostName> = self
                    .hosts
                    .iter()
                    .filter(|(_, host)| !host.cut && !host.frozen)
                    .map(|(name, _)| name.clone())
                    .collect();
                self.nova.heartbeat(|host| reaching.contains(host));
                self.schedule(NOVA_HEARTBEAT, Happening::Heartbeat);
            }
            Happening::Election => self.elect(),
        }
    }

    /// Gives an input to a host's coordinator and does what comes out.
    fn input(&mut self, name: &HostName, input: Input) {
        let now = self.clock();
        let Some(host) = self.hosts.get_mut(name) else { return };
        let Some(coordinator) = host.coordinator.as_mut() else { return };
        coordinator.handle(now, input);
        let mut outputs = Vec::new();
        while let Some(output) = coordinator.poll_output() {
            outputs.push(output);
        }
        let (start, deadline, tick) = (host.starts, coordinator.next_deadline(), host.tick);
        for output in outputs {
            self.output(name, start, output);
        }
        if let Some(deadline) = deadline {
            let due = deadline.max(now.mono + Duration::from_micros(100));
            if tick.is_none_or(|tick| due < tick) {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.tick = Some(due);
                }
                self.schedule(due.since(now.mono), Happening::Tick(name.clone(), start));
            }
        }
    }

    fn later(&mut self, host: &HostName, after: Duration, input: Input) {
        if let Some(start) = self.hosts.get(host).map(|host| host.starts) {
            self.schedule(after, Happening::Input(host.clone(), start, Box::new(input)));
        }
    }
}

fn outage() -> NovaError {
    NovaError::Unknown("no answer".into())
}

fn host_name(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("a legal name")
}
