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
use crate::oracle::{Violation, never_twice};
use crate::raft::Raft;

/// Between two heartbeats of every compute service.
const NOVA_HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a proposal or a check may take before its caller gives up.
const RAFT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a BMC behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bmc {
    /// As it should.
    Honest,
    /// It never answers.
    Silent,
    /// It says ok, and the machine stays on.
    StaysOn,
    /// It refuses our password.
    WrongPassword,
}

/// One simulated host.
#[derive(Debug)]
pub struct Host {
    coordinator: Option<Coordinator>,
    address: SocketAddr,
    boot: BootId,
    incarnation: Incarnation,
    uuid: SystemUuid,
    /// It has power: its guests may be running.
    pub powered: bool,
    /// Its processes do not run for now; what is sent to it waits in nobody's buffer.
    pub frozen: bool,
    /// Its network is cut from everybody's.
    pub cut: bool,
    /// How its BMC behaves.
    pub bmc: Bmc,
    starts: u64,
    tick: Option<Moment>,
    met: BTreeSet<(HostName, u64)>,
}

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
    weather: Weather,
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

    /// All hosts, by name.
    #[must_use]
    pub fn host_names(&self) -> Vec<HostName> {
        self.hosts.keys().cloned().collect()
    }

    /// A host.
    #[must_use]
    pub fn host(&self, host: &HostName) -> Option<&Host> {
        self.hosts.get(host)
    }

    /// A host, to be tampered with.
    pub fn host_mut(&mut self, host: &HostName) -> Option<&mut Host> {
        self.hosts.get_mut(host)
    }

    /// A number below `bound`, from the world's own seed.
    pub fn random(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: impl AsRef<str>) {
        self.log.push(format!("{} {}", self.now, line.as_ref()));
    }

    /// The kernel or the power of a host died. `power`: its BMC says off, too.
    pub fn kill_host(&mut self, host: &HostName, power: bool) {
        self.tell(format!("{host} dies ({})", if power { "power" } else { "kernel" }));
        self.nova.host_died(host);
        if let Some(host) = self.hosts.get_mut(host) {
            host.coordinator = None;
            host.starts += 1;
            host.powered = !power;
        }
        self.check_leader();
    }

    /// The daemon of a living host is killed; systemd starts it again.
    pub fn restart_daemon(&mut self, host: &HostName) {
        self.tell(format!("rekindled of {host} restarts"));
        self.start_daemon(host);
        self.check_leader();
    }

    fn start_daemon(&mut self, name: &HostName) {
        let seeds: Vec<String> = self.hosts.values().map(|host| host.address.to_string()).collect();
        let voters: Vec<HostName> = self.raft.voters().iter().cloned().collect();
        let seed = self.rng.random();
        let now = self.clock();
        let (cluster, path, policy) = (self.cluster.clone(), self.path.clone(), self.policy.clone());
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.starts += 1;
        host.incarnation = Incarnation(host.incarnation.0.max(now.mono.as_micros()) + 1);
        host.tick = None;
        host.met.clear();
        let devices = vec![DeviceRule {
            hosts: "*".to_owned(),
            level: 1,
            driver: "sim".to_owned(),
            address: "{host}-bmc".to_owned(),
        }];
        let setup = Setup {
            cluster,
            host: name.clone(),
            role: MemberRole::Member,
            boot: host.boot,
            incarnation: host.incarnation,
            listen: vec![(path, host.address)],
            system_uuid: Some(host.uuid),
            seeds,
            voters: voters.clone(),
            operator_ca: Vec::new(),
            devices,
            policy,
            seed,
        };
        host.coordinator = Some(Coordinator::new(setup, now));
        if voters.contains(name) {
            self.raft.forget(name);
            let ledger = self.first_ledger();
            self.input(name, Input::Restored { ledger: Box::new(ledger) });
            self.replicate(name);
        }
        let list = self.guest_list(name);
        self.input(name, Input::Guests { list });
        self.input(name, Input::Tick);
    }

    /// What the log began with: the roster, armed.
    fn first_ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(self.cluster.clone());
        ledger.arming.clone_from(&self.raft.ledger().arming);
        ledger.roster.clone_from(&self.raft.ledger().roster);
        ledger.hosts = ledger.roster.keys().map(|host| (host.clone(), Default::default())).collect();
        ledger
    }

    fn guest_list(&self, host: &HostName) -> GuestList {
        let guest = |server| Guest { server, running: true, disks: DiskPlacement::Shared };
        GuestList { complete: true, guests: self.nova.guests_on(host).into_iter().map(guest).collect() }
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

    /// Whether processes of both hosts run and the network between them carries.
    fn connected(&self, a: &HostName, b: &HostName) -> bool {
        let speaks = |host: &HostName| {
            self.hosts.get(host).is_some_and(|host| host.coordinator.is_some() && !host.frozen && !host.cut)
        };
        speaks(a) && speaks(b)
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
        }
        self.now = until;
        Ok(())
    }

    fn is_current(&self, host: &HostName, start: u64) -> bool {
        self.hosts.get(host).is_some_and(|host| host.starts == start && host.coordinator.is_some())
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
            Happening::Finish(rebuild) => {
                let fails = self.percent(self.weather.failed_rebuilds_percent);
                let text = if fails { "fails" } else { "runs" };
                self.tell(format!("{} {text} on {}", rebuild.server, rebuild.dest));
                self.nova.finish(&rebuild, fails);
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

    fn peer(&self, name: &HostName) -> Option<Peer> {
        let host = self.hosts.get(name)?;
        let incarnation = host.incarnation;
        Some(Peer { host: name.clone(), boot: host.boot, incarnation, address: host.address })
    }

    /// First words between two processes: both learn of each other.
    fn meet(&mut self, a: &HostName, b: &HostName) {
        let (Some(start_a), Some(start_b)) =
            (self.hosts.get(a).map(|host| host.starts), self.hosts.get(b).map(|host| host.starts))
        else {
            return;
        };
        let is_new = self.hosts.get_mut(a).is_some_and(|host| host.met.insert((b.clone(), start_b)));
        if !is_new {
            return;
        }
        if let Some(host) = self.hosts.get_mut(b) {
            host.met.insert((a.clone(), start_a));
        }
        if let (Some(peer_a), Some(peer_b)) = (self.peer(a), self.peer(b)) {
            self.later(a, Duration::from_micros(400), Input::Connected { peer: peer_b });
            self.later(b, Duration::from_micros(400), Input::Connected { peer: peer_a });
        }
    }

    fn deliver(
        &mut self,
        from: &HostName,
        to: SocketAddr,
        member: Option<MemberId>,
        lossy: bool,
        input: impl Fn(Peer) -> Input,
    ) {
        let Some(target) = self.addresses.get(&to).cloned() else { return };
        if member.is_some_and(|member| member != MemberId::of(&target))
            || target == *from
            || !self.connected(from, &target)
        {
            return;
        }
        self.meet(from, &target);
        if lossy && self.percent(self.weather.loss_percent) {
            return;
        }
        let Some(peer) = self.peer(from) else { return };
        let delay = self.millis(1, 4);
        self.later(&target, delay, input(peer));
    }

    fn output(&mut self, name: &HostName, start: u64, output: Output) {
        match output {
            Output::Datagram { to, member, path, bytes } => {
                self.deliver(name, to, Some(member), true, |from| Input::Datagram {
                    from,
                    path: path.clone(),
                    bytes: bytes.clone(),
                });
            }
            Output::Message { to, member, path: _, message } => {
                self.deliver(name, to, member, false, |from| Input::Message { from, message: message.clone() });
            }
            Output::Dial { seed } => {
                let target = seed.parse().ok().and_then(|address: SocketAddr| self.addresses.get(&address).cloned());
                if let Some(target) = target.filter(|target| target != name && self.connected(name, target)) {
                    self.meet(name, &target);
                }
            }
            Output::PersistIncarnation(incarnation) => {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.incarnation = incarnation;
                }
            }
            Output::Propose { call, entry } => {
                let delay = self.millis(2, 12);
                self.schedule(delay, Happening::Commit(name.clone(), start, call, entry));
            }
            Output::CheckLinearizable { call } => {
                let delay = self.millis(1, 5);
                self.schedule(delay, Happening::Check(name.clone(), start, call));
            }
            Output::ReadDevice { call, host, guid, .. } => {
                let delay = self.millis(20, 80);
                self.schedule(delay, Happening::ReadDevice(name.clone(), start, call, host, guid));
            }
            Output::PowerOff(order) => {
                let delay = self.millis(30, 60);
                let (call, host) = (order.call(), order.host().clone());
                self.schedule(delay, Happening::PowerOff(name.clone(), start, call, host));
            }
            Output::Nova { call, request } => self.nova_read(name, call, &request),
            Output::ForceDown(order) => {
                let delay = self.millis(12, 36);
                let reaches = self.reaches_nova(name);
                let result = if reaches { Ok(self.nova.force_down(order.host())) } else { Err(outage()) };
                self.later(name, delay, Input::Nova { call: order.call(), result });
            }
            Output::Evacuate(order) => {
                let delay = self.millis(10, 200);
                let (call, server) = (order.call(), order.server());
                self.schedule(delay, Happening::Evacuate(name.clone(), start, call, server));
            }
            Output::GuestPower(order) => {
                let reaches = self.reaches_nova(name);
                if reaches {
                    self.nova.power(order.server(), order.power() == GuestPower::Start);
                }
                let result = if reaches { Ok(NovaAnswer::Accepted) } else { Err(outage()) };
                self.later(name, Duration::from_millis(30), Input::Nova { call: order.call(), result });
            }
            Output::ListGuests => {
                let list = self.guest_list(name);
                self.later(name, Duration::from_millis(10), Input::Guests { list });
            }
            Output::CheckGuests { call, servers } => {
                let guests = self.nova.guests_on(name);
                let running = Some(servers.into_iter().filter(|server| guests.contains(server)).collect());
                self.later(name, Duration::from_millis(10), Input::GuestsChecked { call, running });
            }
            Output::Answer { .. } | Output::Relay { .. } => {}
            Output::Event(event) => self.tell_event(name, &event),
        }
    }

    fn tell_event(&mut self, name: &HostName, event: &Event) {
        match event {
            _ if self.raft.leader() != Some(name) => {}
            Event::Phase { host, phase, text, .. } => self.tell(format!("[{name}] {host} {phase}: {text}")),
            Event::Server { server, text, .. } => self.tell(format!("[{name}] {server} {text}")),
            Event::Warning { text, .. } => self.tell(format!("[{name}] warning: {text}")),
            Event::Member { .. } | Event::Leader { .. } => {}
        }
    }

    fn reaches_nova(&self, host: &HostName) -> bool {
        !self.nova_down && self.hosts.get(host).is_some_and(|host| !host.cut)
    }

    fn nova_read(&mut self, name: &HostName, call: CallId, request: &NovaRead) {
        let delay = self.millis(10, 60);
        let result = if self.reaches_nova(name) { self.nova.read(request) } else { Err(outage()) };
        self.later(name, delay, Input::Nova { call, result });
    }

    fn evacuate(&mut self, asker: &HostName, start: u64, call: CallId, server: ServerId) {
        if !self.reaches_nova(asker) {
            self.later(asker, Duration::from_secs(2), Input::Nova { call, result: Err(outage()) });
            return;
        }
        let choice = self.rng.random_range(0..1_000_000usize);
        let result = self.nova.evacuate(server, |candidates| choice % candidates);
        if let Ok(rebuild) = &result {
            let source = self.nova.accepted.last().map(|(_, source)| source.clone());
            if let Some(source) =
                source.filter(|source| self.hosts.get(source).is_some_and(|host| host.powered && self.lives(source)))
            {
                self.violation = Some(Violation::EvacuatedFromPowered { server, host: source });
            }
            let after = self.millis(500, 4_000);
            self.schedule(after, Happening::Finish(rebuild.clone()));
        }
        if self.percent(self.weather.lost_answers_percent) {
            let result = Err(NovaError::Unknown("the answer was lost".into()));
            self.later(asker, Duration::from_secs(1), Input::Nova { call, result });
            return;
        }
        if self.is_current(asker, start) {
            let result = result.map(|_| NovaAnswer::Accepted);
            self.later(asker, Duration::from_millis(10), Input::Nova { call, result });
        }
    }

    /// Whether a majority of voters can agree: without it nobody may act, and nothing is promised but safety.
    #[must_use]
    pub fn can_agree(&self) -> bool {
        self.raft
            .voters()
            .iter()
            .any(|voter| self.is_up(voter) && self.raft.has_majority(voter, |a, b| self.connected(a, b)))
    }

    /// Whether guests can run there: it has power and its kernel runs.
    fn lives(&self, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|host| host.powered && host.coordinator.is_some())
    }

    fn power_off(&mut self, asker: &HostName, start: u64, call: CallId, target: &HostName) {
        let reaches = self.is_current(asker, start) && self.hosts.get(asker).is_some_and(|host| !host.cut);
        let Some(bmc) = self.hosts.get(target).map(|host| host.bmc) else { return };
        let (after, result) = match bmc {
            _ if !reaches => (Duration::from_secs(5), Err(DeviceError::Silent("no route".into()))),
            Bmc::Silent => (Duration::from_secs(5), Err(DeviceError::Silent("timed out".into()))),
            Bmc::WrongPassword => (Duration::from_millis(20), Err(DeviceError::Credentials("RAKP 2".into()))),
            Bmc::StaysOn => (Duration::from_millis(30), Ok(())),
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
                (Duration::from_millis(30), Ok(()))
            }
        };
        self.later(asker, after, Input::PowerOffDone { call, result });
    }

    fn read_device(&mut self, asker: &HostName, start: u64, call: CallId, target: &HostName, guid: bool) {
        let reaches = self.is_current(asker, start) && self.hosts.get(asker).is_some_and(|host| !host.cut);
        let Some(host) = self.hosts.get(target) else { return };
        let state = if host.powered { PowerState::On } else { PowerState::Off };
        let bytes = DeviceGuid(*host.uuid.0.as_bytes());
        let (after, result) = match host.bmc {
            _ if !reaches => (Duration::from_secs(5), Err(DeviceError::Silent("no route".into()))),
            Bmc::Silent => (Duration::from_secs(5), Err(DeviceError::Silent("timed out".into()))),
            Bmc::WrongPassword => (Duration::from_millis(20), Err(DeviceError::Credentials("RAKP 2".into()))),
            Bmc::StaysOn | Bmc::Honest => (Duration::ZERO, Ok(())),
        };
        let reading =
            DeviceReading { power: result.clone().map(|()| state), guid: guid.then(|| result.map(|()| bytes)) };
        let finished = self.now + after;
        self.later(asker, after, Input::DeviceRead { call, reading, finished });
    }

    fn commit(&mut self, host: &HostName, start: u64, call: CallId, entry: Entry) {
        let leads = self.raft.leader() == Some(host) && self.is_current(host, start);
        if !leads {
            self.later(host, Duration::ZERO, Input::Proposed { call, result: Err(ProposeError::NotLeader) });
            return;
        }
        if !self.raft.has_majority(host, |a, b| self.connected(a, b)) {
            self.later(host, RAFT_TIMEOUT, Input::Proposed { call, result: Err(ProposeError::Unknown) });
            return;
        }
        let outcome = self.raft.commit(entry);
        self.replicate_all();
        self.later(host, Duration::from_micros(10), Input::Proposed { call, result: Ok(outcome) });
    }

    fn replicate_all(&mut self) {
        let Some(leader) = self.raft.leader().cloned() else { return };
        let voters: Vec<HostName> = self
            .raft
            .voters()
            .iter()
            .filter(|voter| **voter == leader || self.connected(&leader, voter))
            .cloned()
            .collect();
        for voter in voters {
            self.replicate(&voter);
        }
    }

    fn replicate(&mut self, voter: &HostName) {
        for (position, entry) in self.raft.catch_up(voter) {
            let input = Input::Committed { index: position.index, term: position.term, entry };
            self.later(voter, Duration::from_micros(5), input);
        }
    }

    fn check(&mut self, host: &HostName, start: u64, call: CallId) {
        let holds = self.raft.leader() == Some(host)
            && self.is_current(host, start)
            && self.raft.has_majority(host, |a, b| self.connected(a, b));
        let (after, result) = if holds {
            (Duration::from_micros(50), Ok(self.raft.term()))
        } else {
            (RAFT_TIMEOUT, Err("not enough for a quorum".into()))
        };
        let finished = self.now + after;
        self.later(host, after, Input::Linearizable { call, result, finished });
    }

    /// The leader may be gone: an election is due.
    fn check_leader(&mut self) {
        let leader = self.raft.leader().cloned();
        let holds = leader.is_some_and(|leader| self.raft.has_majority(&leader, |a, b| self.connected(a, b)));
        if !holds && self.election.is_none() {
            let after = self.millis(1_500, 3_000);
            self.election = Some(self.now + after);
        }
    }

    fn elect(&mut self) {
        self.check_leader();
        if self.raft.leader().is_none() && self.raft.term().0 == 0 {
            self.election = Some(self.now);
        }
        if self.election.is_some_and(|due| due <= self.now) {
            self.election = None;
            let leader = self.raft.leader().cloned();
            let holds = leader.is_some_and(|leader| self.raft.has_majority(&leader, |a, b| self.connected(a, b)));
            if !holds {
                let able: Vec<HostName> = self
                    .raft
                    .voters()
                    .iter()
                    .filter(|voter| self.is_up(voter) && self.raft.has_majority(voter, |a, b| self.connected(a, b)))
                    .cloned()
                    .collect();
                if !able.is_empty() {
                    let choice = self.random(able.len());
                    self.raft.elect(Some(able[choice].clone()));
                    self.tell(format!("{} leads term {}", able[choice], self.raft.term()));
                    self.announce_leader();
                }
            }
        }
        self.replicate_all();
        self.announce_leader();
        self.schedule(Duration::from_millis(100), Happening::Election);
    }

    fn is_up(&self, host: &HostName) -> bool {
        self.connected(host, host)
    }

    /// Voters that hear the leader believe in it; an isolated old leader goes on believing in itself.
    fn announce_leader(&mut self) {
        let Some(leader) = self.raft.leader().cloned() else { return };
        let term = self.raft.term();
        let told: Vec<HostName> =
            self.raft.voters().iter().filter(|voter| self.connected(&leader, voter)).cloned().collect();
        for voter in told {
            let known = self.hosts.get(&voter).and_then(|host| host.coordinator.as_ref()).and_then(Coordinator::leads);
            let stale = if voter == leader { known != Some(term) } else { known.is_some() };
            if stale {
                self.later(&voter, Duration::from_millis(1), Input::Leadership { term, leader: Some(leader.clone()) });
            }
        }
    }

    /// A guest's process dies on a healthy host; libvirt says so.
    pub fn kill_guest(&mut self, server: ServerId) {
        let Some(host) = self.nova.servers().find(|record| record.id == server).and_then(|record| record.host.clone())
        else {
            return;
        };
        self.tell(format!("guest {server} dies on {host}"));
        self.nova.guest_died(server);
        self.later(&host, Duration::from_millis(90), Input::Guest { server, event: GuestEvent::Failed });
    }
}

fn outage() -> NovaError {
    NovaError::Unknown("no answer".into())
}

fn host_name(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("a legal name")
}
