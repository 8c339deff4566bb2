//! A seeded network in virtual time: latency, loss, cuts, kills, freezes and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use foca::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::id::{HostName, Incarnation, MemberId, PathName};

use super::super::wire::Packet;
use super::super::{MemberState, Membership, MembershipOutput, MembershipSettings};
use super::streams::Word;
use crate::time::Moment;

/// Incarnations begin as milliseconds since 1970; this is one.
pub(super) const BIRTH: u64 = 1_800_000_000_000;

/// One-way latency, in microseconds: a rack's network.
pub(super) const LATENCY: std::ops::Range<u64> = 150..800;

pub(super) struct Node {
    pub(super) id: MemberId,
    pub(super) address: SocketAddr,
    pub(super) membership: Membership,
    pub(super) up: bool,
    /// Asleep until: it neither ticks nor reads.
    pub(super) asleep: Option<Moment>,
    /// Everything but the packets.
    pub(super) outputs: Vec<(Moment, MembershipOutput)>,
    /// The life number on its disk.
    persisted: Incarnation,
}

pub(super) struct Net {
    pub(super) now: Moment,
    pub(super) nodes: Vec<Node>,
    pub(super) loss: f64,
    /// Nodes in different groups do not hear each other.
    pub(super) group: Vec<u32>,
    pub(super) sent: u64,
    pub(super) bytes: u64,
    /// Direct probes begun, by member.
    pub(super) pings: Vec<u64>,
    /// A digest of every output with its time, in order.
    pub(super) trace: u64,
    /// Packets as they arrived, while that many are still wanted.
    pub(super) recorded: Vec<(usize, usize, Vec<u8>)>,
    pub(super) record: usize,
    seed: u64,
    pub(super) rng: StdRng,
    in_flight: BTreeMap<(Moment, u64), (usize, usize, Vec<u8>)>,
    /// Words on streams: when they arrive, with whom, from whom, what they say.
    pub(super) words: BTreeMap<(Moment, u64), (usize, usize, Word)>,
    /// Questions on streams so far, by member.
    pub(super) asked: Vec<u64>,
    /// Streams carry nothing: what gossip does by itself.
    pub(super) streams_cut: bool,
    /// Exchanges of all that is known.
    pub(super) exchanges: u64,
    ticks: BTreeSet<(Moment, usize)>,
    pub(super) serial: u64,
}

pub(super) fn host(index: usize) -> MemberId {
    MemberId::of(&HostName::new(&format!("cmp-{index}")).expect("legal"))
}

pub(super) fn address(index: usize) -> SocketAddr {
    let [high, low] = u16::try_from(index).expect("small").to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, high, low), 7400))
}

pub(super) fn settings(index: usize, incarnation: u64, seed: u64) -> MembershipSettings {
    MembershipSettings {
        member: host(index),
        incarnation: Incarnation(incarnation),
        address: address(index),
        path: PathName::new("management").expect("legal"),
        probe_period: Duration::from_millis(500),
        probe_ack: Duration::from_millis(200),
        indirect_probes: 3,
        suspicion_factor: 3,
        seed,
    }
}

impl Net {
    /// Members that do not know of each other.
    pub(super) fn strangers(count: usize, seed: u64) -> Self {
        let mut net = Self {
            now: Moment::from_micros(1_000_000),
            nodes: Vec::new(),
            loss: 0.0,
            group: vec![0; count],
            sent: 0,
            bytes: 0,
            pings: vec![0; count],
            trace: 0,
            recorded: Vec::new(),
            record: 0,
            seed,
            rng: StdRng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00),
            in_flight: BTreeMap::new(),
            words: BTreeMap::new(),
            asked: vec![0; count],
            streams_cut: false,
            exchanges: 0,
            ticks: BTreeSet::new(),
            serial: 0,
        };
        for index in 0..count {
            let membership = Membership::new(settings(index, BIRTH, seed), net.now);
            let (id, address) = (host(index), address(index));
            net.nodes.push(Node {
                id,
                address,
                membership,
                up: true,
                asleep: None,
                outputs: Vec::new(),
                persisted: Incarnation(BIRTH),
            });
            net.collect(index);
        }
        net
    }

    /// Members that have formed a cluster, at a moment that depends on the seed.
    pub(super) fn formed(count: usize, seed: u64) -> Self {
        let mut net = Self::strangers(count, seed);
        (1..count).for_each(|index| net.meet(index, 0));
        let formed = net.run_until(Duration::from_secs(60), Self::whole);
        assert!(formed.is_some(), "seed {seed}: {count} members have not formed a cluster in a minute");
        let settled = Duration::from_millis(8000 + net.rng.random_range(0..2000));
        net.run(settled);
        net
    }

    /// A connection between two members is accepted by both, and both push and pull their state, as the coordinator does.
    pub(super) fn meet(&mut self, a: usize, b: usize) {
        for (us, them) in [(a, b), (b, a)] {
            let (id, address) = (self.nodes[them].id, self.nodes[them].address);
            let incarnation = self.nodes[them].membership.incarnation();
            self.nodes[us].membership.connected(self.now, id, incarnation, address);
            let state = self.nodes[them].membership.full_state();
            self.nodes[us].membership.merge_state(self.now, id, &state).expect("well formed");
            self.collect(us);
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].up = false;
    }

    pub(super) fn restart(&mut self, index: usize, incarnation: u64) {
        let settings = settings(index, incarnation, self.seed ^ 1);
        let node = &mut self.nodes[index];
        node.membership = Membership::new(settings, self.now);
        node.up = true;
        node.persisted = Incarnation(incarnation);
        node.outputs.clear();
        self.collect(index);
    }

    /// Stops a member's process: timers and packets wait for it.
    pub(super) fn freeze(&mut self, index: usize, length: Duration) {
        self.nodes[index].asleep = Some(self.now + length);
        self.ticks.insert((self.now + length, index));
    }

    /// Nobody hears them, and they hear nobody.
    pub(super) fn isolate(&mut self, members: &[usize]) {
        for index in members {
            self.group[*index] = 1000 + u32::try_from(*index).expect("small");
        }
    }

    pub(super) fn cut(&mut self, minority: &[usize]) {
        for index in 0..self.nodes.len() {
            self.group[index] = u32::from(minority.contains(&index));
        }
    }

    pub(super) fn heal(&mut self) {
        self.group.fill(0);
    }

    pub(super) fn run(&mut self, length: Duration) {
        self.run_until(length, |_| false);
    }

    /// Runs until `done`, asked after every event, for at most `length`. Returns when it was.
    pub(super) fn run_until(&mut self, length: Duration, done: impl Fn(&Self) -> bool) -> Option<Moment> {
        let end = self.now + length;
        loop {
            if done(self) {
                return Some(self.now);
            }
            let packet = self.in_flight.keys().next().map(|(at, _)| *at);
            let tick = self.ticks.first().map(|(at, _)| *at);
            let word = self.words.keys().next().map(|(at, _)| *at);
            let next = packet.into_iter().chain(tick).chain(word).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return None;
            };
            self.now = self.now.max(next);
            if packet == Some(next) {
                self.deliver();
            } else if word == Some(next) {
                self.hear_word();
            } else if let Some((_, index)) = self.ticks.pop_first() {
                self.tick(index);
            }
        }
    }

    fn tick(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if !node.up {
            return;
        }
        match node.asleep {
            Some(until) if until > self.now => return,
            Some(_) => node.asleep = None,
            None => {}
        }
        node.membership.tick(self.now);
        self.collect(index);
    }

    fn deliver(&mut self) {
        let Some((_, (from, to, bytes))) = self.in_flight.pop_first() else { return };
        if !self.nodes[to].up || self.group[from] != self.group[to] {
            return;
        }
        if let Some(until) = self.nodes[to].asleep {
            // After the tick of its awakening: the order that does the most harm.
            self.serial += 1;
            self.in_flight.insert((until + Duration::from_micros(1), self.serial), (from, to, bytes));
            return;
        }
        if self.recorded.len() < self.record {
            self.recorded.push((from, to, bytes.clone()));
        }
        let from = self.nodes[from].id;
        let result = self.nodes[to].membership.datagram(self.now, from, &bytes);
        assert_eq!(result, Ok(()), "seed {}: an honest packet was refused", self.seed);
        self.collect(to);
    }

    pub(super) fn collect(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].membership.poll_output() {
            let line = format!("{} {index} {output:?}", self.now.as_micros());
            self.trace =
                line.bytes().fold(self.trace, |sum, byte| sum.rotate_left(5).wrapping_mul(31) ^ u64::from(byte));
            match &output {
                MembershipOutput::Datagram { to, member, bytes } => {
                    let header = Packet::open(bytes).expect("our own packets are well formed").header;
                    self.pings[index] += u64::from(matches!(header.message, Message::Ping(_)));
                    let persisted = self.nodes[index].persisted;
                    assert_eq!(header.src.incarnation, persisted, "seed {}: sent before it was persisted", self.seed);
                    self.send(index, *to, *member, bytes);
                    continue;
                }
                MembershipOutput::PersistIncarnation(incarnation) => {
                    assert!(*incarnation > self.nodes[index].persisted, "life numbers only rise");
                    self.nodes[index].persisted = *incarnation;
                }
                MembershipOutput::Changed(_) | MembershipOutput::ProbeFailed { .. } => {}
                MembershipOutput::AskOnStream { member } => self.ask(index, *member),
                MembershipOutput::PushPull { member } => self.exchange(index, *member),
                MembershipOutput::Nack(errand) => self.nack(index, *errand),
            }
            self.nodes[index].outputs.push((self.now, output));
        }
        let node = &self.nodes[index];
        assert!(node.membership.is_in_step(), "seed {}: foca changed a member, and nobody looked", self.seed);
        if let Some(deadline) = node.membership.next_deadline() {
            self.ticks.insert((deadline.max(self.now), index));
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, member: MemberId, bytes: &[u8]) {
        self.sent += 1;
        self.bytes += bytes.len() as u64;
        let target = self.nodes.iter().position(|node| node.address == to && node.id == member);
        let lost = self.loss > 0.0 && self.rng.random_bool(self.loss);
        let Some(target) = target.filter(|_| !lost) else { return };
        let arrival = self.now + Duration::from_micros(self.rng.random_range(LATENCY));
        self.serial += 1;
        self.in_flight.insert((arrival, self.serial), (from, target, bytes.to_vec()));
    }

    /// Every running member believes every other running member alive, in its present life.
    pub(super) fn whole(&self) -> bool {
        let up = || self.nodes.iter().filter(|node| node.up);
        up().all(|us| {
            up().filter(|them| them.id != us.id).all(|them| {
                us.membership.member(them.id).is_some_and(|view| {
                    view.state == MemberState::Alive && view.incarnation == them.membership.incarnation()
                })
            })
        })
    }

    pub(super) fn state(&self, us: usize, them: usize) -> Option<MemberState> {
        self.nodes[us].membership.member(self.nodes[them].id).map(|view| view.state)
    }

    /// How many times a member of `of` came down in the eyes of a member of `by`, since a moment.
    pub(super) fn downs(&self, by: &[usize], of: &[usize], since: Moment) -> usize {
        let pairs = by.iter().flat_map(|us| of.iter().map(move |them| (*us, *them)));
        let changes = pairs.flat_map(|(us, them)| self.changes(us, them, since));
        changes.filter(|(_, state)| *state == MemberState::Down).count()
    }

    /// How many full probe cycles of `us` failed, since a moment.
    pub(super) fn failed_probes(&self, us: usize, since: Moment) -> usize {
        let outputs = self.nodes[us].outputs.iter().filter(|(at, _)| *at >= since);
        outputs.filter(|(_, output)| matches!(output, MembershipOutput::ProbeFailed { .. })).count()
    }

    /// Changes of `them` as `us` saw them, since a moment.
    pub(super) fn changes(&self, us: usize, them: usize, since: Moment) -> Vec<(Moment, MemberState)> {
        let outputs = self.nodes[us].outputs.iter().filter(|(at, _)| *at >= since);
        outputs
            .filter_map(|(at, output)| match output {
                MembershipOutput::Changed(view) if view.member == self.nodes[them].id => Some((*at, view.state)),
                MembershipOutput::Changed(_)
                | MembershipOutput::Datagram { .. }
                | MembershipOutput::PersistIncarnation(_)
                | MembershipOutput::ProbeFailed { .. }
                | MembershipOutput::AskOnStream { .. }
                | MembershipOutput::PushPull { .. }
                | MembershipOutput::Nack(_) => None,
            })
            .collect()
    }
}
