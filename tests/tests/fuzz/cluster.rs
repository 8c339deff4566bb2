//! Five coordinators on a perfect network with a log that agrees with everybody: enough to hear each of them speak while
//! one host dies, is fenced and evacuated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use rekindle_coordinator::Coordinator;
use rekindle_coordinator::io::{Input, NovaAnswer, NovaRead, Output, Peer};
use rekindle_coordinator::ledger::{Entry, HostRecord, LEDGER_FORMAT, Ledger, Position};
use rekindle_coordinator::policy::{DeviceRule, Policy, Setup, Unverified};
use rekindle_coordinator::time::{Moment, Now};
use rekindle_proto::fact::{
    DeviceGuid, DeviceReading, DiskPlacement, Guest, GuestList, MemberRole, MigrationKind, MigrationStatus,
    NovaMigration, NovaServer, NovaService, PowerState, RosterEntry,
};
use rekindle_proto::id::{
    BootId, ClusterName, HostName, Incarnation, LogIndex, MemberId, MigrationId, PathName, ServerId, ServiceId,
    SystemUuid, Term, WallTime,
};
use rekindle_proto::message::{MESSAGE_BYTES_MAX, Message, encode};
use uuid::Uuid;

/// Hosts; the last one dies.
const HOSTS: usize = 5;

/// What was said, by whom to whom.
#[derive(Default)]
pub(super) struct Record {
    /// Messages, encoded.
    pub(super) messages: Vec<Vec<u8>>,
    /// SWIM packets to the first host, with their sender.
    pub(super) datagrams: Vec<(usize, Vec<u8>)>,
    /// What was given to the ledger.
    pub(super) entries: Vec<Entry>,
}

/// What a cluster says in five minutes in which a host dies.
pub(super) fn record() -> &'static Record {
    static RECORD: OnceLock<Record> = OnceLock::new();
    RECORD.get_or_init(|| {
        let mut cluster = Cluster::new();
        cluster.run(Duration::from_secs(90));
        cluster.dead.insert(HOSTS - 1);
        cluster.run(Duration::from_secs(120));
        let Record { messages, datagrams, entries } = &cluster.record;
        let kinds: BTreeSet<u8> = messages.iter().filter_map(|bytes| bytes.first().copied()).collect();
        assert!(kinds.len() >= 8, "only {} kinds of messages were heard", kinds.len());
        assert!(datagrams.len() > 50 && entries.len() > 5, "{} packets, {} entries", datagrams.len(), entries.len());
        cluster.record
    })
}

pub(super) fn host(number: usize) -> HostName {
    HostName::new(&format!("host-{number}")).expect("legal")
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, u8::try_from(number).expect("few") + 1], 7946))
}

pub(super) fn peer(number: usize) -> Peer {
    Peer { host: host(number), boot: boot(number), incarnation: Incarnation(1), address: address(number) }
}

fn boot(number: usize) -> BootId {
    BootId(Uuid::from_u128(number as u128 + 100))
}

fn machine(number: usize) -> Uuid {
    Uuid::from_u128(0xabcd_0000 + number as u128)
}

/// Enrolled and armed.
pub(super) fn first_ledger() -> Ledger {
    let mut ledger = Ledger::new(ClusterName::new("fuzz").expect("legal"));
    ledger.arming.armed = true;
    ledger.format = LEDGER_FORMAT;
    for number in 0..HOSTS {
        let entry = RosterEntry { host: host(number), role: MemberRole::Member, domain: None };
        ledger.roster.insert(host(number), entry);
        ledger.hosts.insert(host(number), HostRecord::default());
    }
    ledger
}

fn management() -> PathName {
    PathName::new("management").expect("legal")
}

fn setup(number: usize) -> Setup {
    let device = DeviceRule {
        hosts: "*".to_owned(),
        level: 1,
        driver: "sim".to_owned(),
        address: "{host}-bmc".to_owned(),
        unverified: Unverified::Refuse,
    };
    Setup {
        cluster: ClusterName::new("fuzz").expect("legal"),
        host: host(number),
        role: MemberRole::Member,
        boot: boot(number),
        incarnation: Incarnation(1),
        listen: vec![(management(), address(number))],
        system_uuid: Some(SystemUuid(machine(number))),
        seeds: Vec::new(),
        voters: (0..3).map(host).collect(),
        operator_ca: Vec::new(),
        devices: vec![device],
        policy: Policy::default(),
        seed: 7 + number as u64,
        booted: None,
        keepers: (0..3).map(host).collect(),
        generation: None,
    }
}

fn guests(number: usize) -> GuestList {
    let server = ServerId(Uuid::from_u128(number as u128 + 1));
    GuestList {
        complete: true,
        guests: vec![Guest { server, running: true, disks: DiskPlacement::Shared, died: false }],
    }
}

pub(super) fn clock(mono: Moment) -> Now {
    let millis = i64::try_from(mono.as_micros() / 1_000).expect("soon");
    Now { mono, wall: WallTime(1_800_000_000_000 + millis) }
}

/// The first member, leading, with everything it has been told in a minute.
pub(super) fn leader() -> (Coordinator, Moment) {
    let mut cluster = Cluster::new();
    cluster.run(Duration::from_secs(60));
    cluster.dead.insert(HOSTS - 1);
    cluster.run(Duration::from_secs(2));
    (cluster.members.swap_remove(0), cluster.now)
}

struct Cluster {
    members: Vec<Coordinator>,
    dead: BTreeSet<usize>,
    off: bool,
    moved: bool,
    now: Moment,
    queue: BTreeMap<(Moment, u64), (usize, Input)>,
    sequence: u64,
    index: u64,
    record: Record,
}

impl Cluster {
    fn new() -> Self {
        let now = Moment::from_micros(1);
        let mut cluster = Self {
            members: (0..HOSTS).map(|number| Coordinator::new(setup(number), clock(now))).collect(),
            dead: BTreeSet::new(),
            off: false,
            moved: false,
            now,
            queue: BTreeMap::new(),
            sequence: 0,
            index: 0,
            record: Record::default(),
        };
        for voter in 0..3 {
            cluster.give(voter, Input::Restored { ledger: Box::new(first_ledger()) });
            cluster.give(voter, Input::Leadership { term: Term(1), leader: Some(host(0)) });
        }
        for number in 0..HOSTS {
            cluster.give(number, Input::Guests { list: guests(number) });
            for other in (0..HOSTS).filter(|other| *other != number) {
                cluster.give(number, Input::Connected { peer: peer(other), path: management() });
            }
        }
        cluster
    }

    fn give(&mut self, to: usize, input: Input) {
        self.sequence += 1;
        self.queue.insert((self.now + Duration::from_micros(300), self.sequence), (to, input));
    }

    fn run(&mut self, how_long: Duration) {
        let until = self.now + how_long;
        while self.now < until {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let living = (0..HOSTS).filter(|number| !self.dead.contains(number));
            let due = living.filter_map(|number| Some((self.members[number].next_deadline()?, number))).min();
            match (queued, due) {
                (Some(at), due) if due.is_none_or(|(due, _)| at <= due) => {
                    let Some((_, (to, input))) = self.queue.pop_first() else { return };
                    self.now = self.now.max(at);
                    self.input(to, input);
                }
                (_, Some((due, number))) => {
                    self.now = self.now.max(due);
                    self.input(number, Input::Tick);
                }
                (_, None) => return,
            }
        }
    }

    fn input(&mut self, to: usize, input: Input) {
        if self.dead.contains(&to) {
            return;
        }
        self.members[to].handle(clock(self.now), input);
        while let Some(output) = self.members[to].poll_output() {
            self.output(to, output);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what else is asked for goes unanswered here")]
    fn output(&mut self, from: usize, output: Output) {
        let number = |member: MemberId| (0..HOSTS).find(|number| MemberId::of(&host(*number)) == member);
        match output {
            Output::Datagram { member, path, bytes, .. } => {
                let Some(to) = number(member) else { return };
                if to == 0 && self.record.datagrams.len() < 500 {
                    self.record.datagrams.push((from, bytes.clone()));
                }
                self.give(to, Input::Datagram { from: peer(from), path, bytes });
            }
            Output::Message { member, path, message, .. } => {
                self.note(&message);
                if let Some(to) = member.and_then(number) {
                    self.give(to, Input::Message { from: peer(from), path, message });
                }
            }
            Output::Propose { call, entry } => {
                self.record.entries.push((*entry).clone());
                self.index += 1;
                let position = Position { index: LogIndex(self.index), term: Term(1) };
                let outcome = self.members[from].ledger().clone().apply(position, &entry);
                for voter in 0..3 {
                    let (index, term) = (position.index, position.term);
                    self.give(voter, Input::Committed { index, term, entry: (*entry).clone() });
                }
                self.give(from, Input::Proposed { call, result: Ok(outcome) });
            }
            Output::CheckLinearizable { call } => {
                self.give(from, Input::Linearizable { call, result: Ok(Term(1)), finished: self.now });
            }
            Output::ReadDevice { call, host: whose, .. } => {
                let number = (0..HOSTS).find(|number| host(*number) == whose).expect("one of us");
                let power = if self.off && number == HOSTS - 1 { PowerState::Off } else { PowerState::On };
                let reading =
                    DeviceReading { power: Ok(power), guid: Some(Ok(DeviceGuid(machine(number).into_bytes()))) };
                self.give(from, Input::DeviceRead { call, reading, finished: self.now });
            }
            Output::PowerOff(order) => {
                self.off = true;
                self.give(from, Input::PowerOffDone { call: order.call(), result: Ok(()) });
            }
            Output::Nova { call, request } => {
                let result = Ok(self.nova(&request));
                self.give(from, Input::Nova { call, result });
            }
            Output::ForceDown(order) => {
                let result = Ok(self.nova(&NovaRead::Service(order.host().clone())));
                self.give(from, Input::Nova { call: order.call(), result });
            }
            Output::Evacuate(order) => {
                self.moved = true;
                self.give(from, Input::Nova { call: order.call(), result: Ok(NovaAnswer::Accepted) });
            }
            _ => {}
        }
    }

    /// One server on the dying host; asked to move, it has moved.
    fn nova(&self, request: &NovaRead) -> NovaAnswer {
        let (dying, id) = (host(HOSTS - 1), ServerId(Uuid::from_u128(HOSTS as u128)));
        let server = NovaServer {
            id,
            name: "vm".into(),
            host: Some(if self.moved { host(1) } else { dying.clone() }),
            vm_state: "active".into(),
            task_state: None,
            metadata: BTreeMap::new(),
            standing: Default::default(),
            traits: Default::default(),
        };
        let migration = NovaMigration {
            id: MigrationId(1),
            server: id,
            kind: MigrationKind::Evacuation,
            status: MigrationStatus::Done,
            status_text: "done".into(),
            source: Some(dying.clone()),
            dest: Some(host(1)),
        };
        match request {
            NovaRead::Service(host) => NovaAnswer::Service(Some(NovaService {
                id: ServiceId(Uuid::from_u128(9)),
                host: host.clone(),
                up: !self.off,
                enabled: true,
                forced_down: self.off,
                heartbeat: Some("1".into()),
                disabled_reason: None,
            })),
            NovaRead::Servers(host) if *host == dying && !self.moved => NovaAnswer::Servers(vec![server]),
            NovaRead::Servers(_) => NovaAnswer::Servers(Vec::new()),
            NovaRead::Begun { .. } => NovaAnswer::Begun(None),
            NovaRead::Capacity(_) => NovaAnswer::Capacity(Err("no Placement here".into())),
            NovaRead::Server(_) => NovaAnswer::Server(Some(server)),
            NovaRead::Migrations(_) | NovaRead::MigrationsOf(_) | NovaRead::NewestEvacuations { .. } => {
                NovaAnswer::Migrations(if self.moved { vec![migration] } else { Vec::new() })
            }
            // No rule here looks beyond the list of servers.
            NovaRead::Look { .. } => NovaAnswer::Aggregates(Vec::new()),
        }
    }

    fn note(&mut self, message: &Message) {
        let bytes = encode(message, MESSAGE_BYTES_MAX).expect("encodes");
        let alike = self.record.messages.iter().filter(|known| known.first() == bytes.first()).count();
        if alike < 20 {
            self.record.messages.push(bytes);
        }
    }
}
