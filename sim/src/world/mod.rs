//! The event queue, the hosts, and what their outputs do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_coordinator::Coordinator;
use rekindle_coordinator::io::{Event, Input, NovaAnswer, NovaRead, Output, Peer, ProposeError};
use rekindle_coordinator::ledger::{Entry, Ledger, ServerAct};
use rekindle_coordinator::order::{
    AggregateOrder, EvacuateOrder, ForceDownOrder, GuestPower, GuestPowerOrder, PowerOffOrder, PowerOnOrder,
    ServerActOrder, ServiceOrder,
};
use rekindle_coordinator::policy::{Policy, Setup};
use rekindle_coordinator::time::{Moment, Now};
use rekindle_coordinator::voters::ChangeVotersOrder;
use rekindle_proto::admin::AdminRequest;
use rekindle_proto::fact::{
    DeviceError, DeviceGuid, DeviceReading, DiskPlacement, Guest, GuestEvent, GuestList, MemberRole, NovaError,
    OrderError, PowerState, Text,
};
use rekindle_proto::id::{
    BootId, CallId, ClusterName, HostName, Incarnation, MemberId, PathName, ServerId, SystemUuid, WallTime,
};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;
use uuid::Uuid;

use crate::nova::{Nova, Stage};
use crate::oracle::{Oracle, Violation};
use crate::raft::{Config, History, Node, Word};

mod absence;
mod acts;
mod ask;
mod build;
mod cloud;
mod dump;
mod electorate;
mod faults;
mod formed;
mod gate;
mod hosts;
mod inbox;
mod judge;
mod labels;
mod life;
mod network;
mod plan;
mod power;
mod processes;
mod queue;
mod seats;
mod segments;
mod states;
mod tape;
mod voters;
mod watch;
mod watchdog;

pub use build::path_name;
pub use faults::Disk;
pub use hosts::{Bmc, Host};
pub use plan::{Dress, Plan, PlannedAggregate, PlannedMember, PlannedSegment, Weather};
pub use watch::{Belief, Believed};

use queue::{Clock, Queue};
use tape::Tape;

/// Between two heartbeats of every compute service.
const NOVA_HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a proposal or a check may take before its caller gives up.
const RAFT_TIMEOUT: Duration = Duration::from_secs(1);
/// Wall clocks begin here, in milliseconds since 1970.
const WALL_BEGINS: i64 = 1_800_000_000_000;
/// Inputs that wait for a stopped or starved process: what a socket buffer holds. Later datagrams are lost.
const BACKLOG_MAX: usize = 256;
/// How seldom a starved process gets to its inputs.
const STARVED_MS: (u64, u64) = (700, 3_000);
/// Between two looks whether a stopped process goes on with what it was about to send.
const ASLEEP: Duration = Duration::from_millis(100);
/// Most outputs of one input: a word to each of 2,000 members twice, and some acts (I8).
const OUTPUTS_MAX: usize = 6_000;

/// A host's number: hosts and witnesses in one row.
type Ix = usize;

#[derive(Debug)]
enum Happening {
    Datagram { to: u32, start: u32, path: u8, from: Arc<Peer>, bytes: Vec<u8> },
    Message { to: u32, start: u32, path: u8, from: Arc<Peer>, message: Box<Message> },
    Input { to: u32, start: u32, input: Box<Input> },
    Tick { host: u32, start: u32 },
    Starved { host: u32, start: u32 },
    DumpWord { host: u32 },
    Raft { to: u32, from: u32, start: u32, word: Box<Word> },
    RaftTick { host: u32, start: u32 },
    Written { host: u32, start: u32, index: usize },
    Propose { host: u32, start: u32, call: CallId, entry: Box<Entry> },
    Check { host: u32, start: u32, call: CallId },
    Look { host: u32, start: u32 },
    AskToJoin { host: u32, start: u32 },
    Join { to: u32, from: u32, store: usize },
    ChangeVoters { host: u32, start: u32, order: Box<ChangeVotersOrder> },
    ChangeStep { host: u32, start: u32 },
    ChangeLate { host: u32, start: u32, call: CallId },
    GiveUp { host: u32, start: u32, call: CallId },
    PowerOff { asker: u32, start: u32, order: Box<PowerOffOrder> },
    Off { machine: u32, ordered: Box<power::Ordered> },
    PowerOn { asker: u32, start: u32, order: Box<PowerOnOrder> },
    On { machine: u32 },
    ReadDevice { asker: u32, start: u32, call: CallId, host: HostName, guid: bool },
    NovaRead { asker: u32, start: u32, call: CallId, request: Box<NovaRead> },
    ForceDown { asker: u32, start: u32, order: Box<ForceDownOrder> },
    Evacuate { asker: u32, start: u32, order: Box<EvacuateOrder> },
    GuestPower { asker: u32, start: u32, order: Box<GuestPowerOrder> },
    ServerAct { asker: u32, start: u32, order: Box<ServerActOrder> },
    LateAct { server: ServerId, act: ServerAct, reason: Box<str> },
    SetService { asker: u32, start: u32, order: Box<ServiceOrder> },
    SetAggregate { asker: u32, start: u32, order: Box<AggregateOrder> },
    LateEvacuate { server: ServerId, how: Box<cloud::How>, answer: Option<(u32, u32, CallId)> },
    Nova(Box<Stage>),
    PressPower(u32),
    Boot { host: u32, start: u32 },
    AskGate { host: u32, boot: BootId },
    StartDaemon { host: u32, start: u32 },
    Die(u32),
    Heartbeat,
    Watchdog { host: u32, boot: BootId, fed: Moment },
    Query { host: u32, start: u32, call: CallId, request: Box<AdminRequest> },
}

/// Everything.
#[derive(Debug)]
pub struct World {
    now: Moment,
    queue: Queue<Happening>,
    rng: StdRng,
    hosts: Vec<Host>,
    index: BTreeMap<HostName, Ix>,
    net: network::Net,
    life: life::LifeFaults,
    /// The cloud.
    pub nova: Nova,
    /// Nova (or Keystone) answers nothing.
    pub nova_down: bool,
    nova_inside_down: bool,
    /// What has been agreed.
    pub raft: History,
    /// Who may keep a ledger, by configuration.
    keepers: Vec<Ix>,
    /// The voters by configuration: the first ones.
    first: Vec<Ix>,
    /// Who votes by what was agreed last, in either half of a change.
    voters: Vec<Ix>,
    /// The stores that vote when the latest agreed change is done.
    last_voters: Vec<usize>,
    seats: seats::Seats,
    pending: BTreeMap<(Ix, CallId), (usize, rekindle_proto::id::Term)>,
    wishes: Vec<crate::raft::Wish>,
    /// What goes wrong by itself.
    pub weather: Weather,
    /// The next host that takes an evacuation out of its queue dies before its claim.
    dies_claiming: bool,
    policy: Policy,
    processes: processes::ProcessBook,
    cluster: ClusterName,
    paths: Vec<PathName>,
    log: Vec<String>,
    violation: Option<Violation>,
    /// What is watched.
    pub oracle: Oracle,
    /// Hosts that were powered off by a fence, and when.
    pub fenced: Vec<(Moment, HostName)>,
    /// Suspicions that leaders told of, and refutations before any incident.
    pub suspicions: Vec<(Moment, HostName, Phase)>,
    counters: BTreeMap<&'static str, u64>,
    operator: Option<Box<crate::authority::Authority>>,
    queries: u64,
    records: bool,
    watcher: watch::Watcher,
}

impl World {
    /// A cluster of `hosts` hypervisors with `servers` servers each, armed, at its start. `voters` of them vote.
    #[must_use]
    pub fn new(seed: u64, hosts: usize, voters: usize, servers: usize, weather: Weather) -> Self {
        Self::build(&Plan { seed, hosts, voters, servers, weather, ..Plan::default() })
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

    /// What was counted so far, by kind.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut counters = self.counters.clone();
        counters.extend(self.net.counters());
        counters.insert("agreed entries", self.raft.len() as u64);
        counters.insert("waiting", self.queue.len() as u64);
        counters
    }

    /// A number below `bound`, from the world's own seed.
    pub fn random(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: impl AsRef<str>) {
        self.log.push(format!("{} {}", self.now, line.as_ref()));
    }

    /// Runs until that moment, or until a promise is broken.
    ///
    /// # Errors
    /// The broken promise.
    pub fn run_until(&mut self, until: Moment) -> Result<(), Violation> {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(until)));
        ran.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Violation::Panicked { text })
        })
    }

    fn run(&mut self, until: Moment) -> Result<(), Violation> {
        while let Some((at, happening)) = self.queue.next(until) {
            self.now = at;
            self.happen(happening);
            while let Some(server) = self.nova.take_changed() {
                self.judge_server(server);
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { to, start, path, from, bytes } => {
                let path = self.paths[usize::from(path)].clone();
                self.arrive(to as Ix, start, true, Input::Datagram { from: (*from).clone(), path, bytes });
            }
            Happening::Message { to, start, path, from, message } => {
                let path = self.paths[usize::from(path)].clone();
                self.arrive(to as Ix, start, false, Input::Message { from: (*from).clone(), path, message: *message });
            }
            Happening::Input { to, start, input } => self.arrive(to as Ix, start, false, *input),
            Happening::Tick { host, start } => self.tick(host as Ix, start),
            Happening::DumpWord { host } => self.dump_word(host as Ix),
            Happening::Starved { host, start } => self.feed(host as Ix, start),
            Happening::Raft { to, from, start, word } => self.raft_word(to as Ix, from as Ix, start, *word),
            Happening::RaftTick { host, start } => self.raft_tick(host as Ix, start),
            Happening::Written { host, start, index } => self.raft_written(host as Ix, start, index),
            Happening::Propose { host, start, call, entry } => self.propose(host as Ix, start, call, *entry),
            Happening::Check { host, start, call } => self.check(host as Ix, start, call),
            Happening::Look { host, start } => self.look_at_seats(host as Ix, start),
            Happening::AskToJoin { host, start } => self.ask_to_join(host as Ix, start),
            Happening::Join { to, from, store } => self.joins(to as Ix, from as Ix, store),
            Happening::ChangeVoters { host, start, order } => self.change_voters(host as Ix, start, &order),
            Happening::ChangeStep { host, start } => self.change_step(host as Ix, start),
            Happening::ChangeLate { host, start, call } => self.change_is_late(host as Ix, start, call),
            Happening::GiveUp { host, start, call } => self.raft_give_up(host as Ix, start, call),
            Happening::PowerOff { asker, start, order } => self.power_off(asker as Ix, start, order),
            Happening::Off { machine, ordered } => self.off(machine as Ix, &ordered),
            Happening::PowerOn { asker, start, order } => self.power_on(asker as Ix, start, order),
            Happening::On { machine } => self.on(machine as Ix),
            Happening::ReadDevice { asker, start, call, host, guid } => {
                self.read_device(asker as Ix, start, call, &host, guid);
            }
            Happening::NovaRead { asker, start, call, request } => {
                self.nova_read(asker as Ix, start, call, &request);
            }
            Happening::ForceDown { asker, start, order } => self.force_down(asker as Ix, start, &order),
            Happening::Evacuate { asker, start, order } => self.evacuate(asker as Ix, start, order),
            Happening::GuestPower { asker, start, order } => self.guest_power(asker as Ix, start, &order),
            Happening::ServerAct { asker, start, order } => self.server_act(asker as Ix, start, &order),
            Happening::LateAct { server, act, reason } => {
                // Whoever called has long given it up.
                drop(self.server_act_arrives(server, act, &Text::new(reason)));
            }
            Happening::SetService { asker, start, order } => self.set_service(asker as Ix, start, &order),
            Happening::SetAggregate { asker, start, order } => self.set_aggregate(asker as Ix, start, &order),
            Happening::LateEvacuate { server, how, answer } => self.evacuate_arrives(server, &how, answer),
            Happening::Nova(stage) => self.nova_stage(*stage),
            Happening::PressPower(host) => {
                let name = self.hosts[host as Ix].name.clone();
                self.press_power(&name);
            }
            Happening::Boot { host, start } => self.boot(host as Ix, start),
            Happening::AskGate { host, boot } => self.ask_gate(host as Ix, boot),
            Happening::StartDaemon { host, start } => {
                let stopped = &self.hosts[host as Ix];
                if stopped.start == start && !stopped.running && stopped.has_kernel() {
                    self.start_daemon(host as Ix);
                }
            }
            Happening::Die(host) => {
                let name = self.hosts[host as Ix].name.clone();
                self.kill_host(&name, false);
            }
            Happening::Heartbeat => self.nova_heartbeats(),
            Happening::Watchdog { host, boot, fed } => self.watchdog_runs_out(host as Ix, boot, fed),
            Happening::Query { host, start, call, request } => {
                self.arrive(host as Ix, start, false, Input::Query { call, request: *request });
            }
        }
    }

    fn tick(&mut self, ix: Ix, start: u32) {
        let now = self.now;
        let host = &mut self.hosts[ix];
        if host.start != start || !host.running || host.tick != Some(now) {
            return;
        }
        host.tick = None;
        if host.frozen {
            return;
        }
        let due = host.coordinator.as_ref().and_then(|coordinator| coordinator.next_deadline());
        match due.map(|due| host.clock.when(due)) {
            Some(due) if due > now => {
                host.tick = Some(due);
                self.queue.put(due, Happening::Tick { host: ix as u32, start });
            }
            Some(_) => self.input(ix, Input::Tick),
            None => {}
        }
    }

    /// Gives an input to a host's coordinator and does what comes out.
    fn input(&mut self, ix: Ix, input: Input) {
        let now = self.clock(ix);
        let Some(mut coordinator) = self.hosts[ix].coordinator.take() else { return };
        let mut tape = self.hosts[ix].tape.take();
        tape.iter_mut().for_each(|tape| tape.input(now, &input));
        coordinator.handle(now, input);
        self.hosts[ix].leads = coordinator.leads();
        let mut outputs = 0;
        while let Some(output) = coordinator.poll_output() {
            outputs += 1;
            tape.iter_mut().for_each(|tape| tape.output(&output));
            self.output(ix, output);
        }
        tape.iter_mut().for_each(Tape::end_turn);
        self.hosts[ix].tape = tape;
        if outputs > OUTPUTS_MAX {
            self.broken(Violation::Unbounded {
                host: self.hosts[ix].name.clone(),
                what: "outputs of one input",
                found: outputs,
            });
        }
        let soonest = self.now + Duration::from_micros(100);
        let host = &mut self.hosts[ix];
        if let Some(deadline) = coordinator.next_deadline() {
            let due = host.clock.when(deadline).max(soonest);
            if host.tick.is_none_or(|tick| due < tick) {
                host.tick = Some(due);
                self.queue.put(due, Happening::Tick { host: ix as u32, start: host.start });
            }
        }
        host.coordinator = Some(coordinator);
    }

    fn clock(&self, ix: Ix) -> Now {
        let clock = &self.hosts[ix].clock;
        let mono = clock.show(self.now);
        let wall = i64::try_from(mono.as_micros() / 1_000).unwrap_or(i64::MAX);
        Now { mono, wall: WallTime(WALL_BEGINS + wall + clock.wall_ahead) }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(from * 1_000..(to * 1_000).max(from * 1_000 + 1)))
    }

    fn percent(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.random_range(0..100u8) < percent
    }

    fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    /// The first broken promise is the one that is reported.
    fn broken(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn ix(&self, host: &HostName) -> Option<Ix> {
        self.index.get(host).copied()
    }
}

fn outage() -> NovaError {
    NovaError::Unknown("no answer".into())
}
