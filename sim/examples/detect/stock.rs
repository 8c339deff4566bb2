//! Stock foca (`Config::new_lan`, fitted to the number of members), as its README has it, in a network like the simulated
//! world's: what gossip alone does without anything of ours.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use foca::{AccumulatingRuntime, Config, Foca, Member, NoCustomBroadcast, OwnedNotification, PostcardCodec, Timer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_sim::detect::{Dying, Ill, Sent, Size};
use serde::{Deserialize, Serialize};

/// One-way latency in microseconds, as the world's.
const LATENCY: std::ops::Range<u64> = 1_000..4_000;
/// How seldom a starved process gets to its inputs, in microseconds, as in the world.
const STARVED: std::ops::Range<u64> = 700_000..3_000_000;
/// Inputs that wait for a starved process; later ones are lost. As in the world.
const BACKLOG_MAX: usize = 256;
const WARM_UP: u64 = 8_000_000;
const SPREAD: u64 = 2_000_000;
const PATIENCE: u64 = 90_000_000;
/// Its fastest action is a probe's time-out of half a second.
const STEP: u64 = 50_000;

/// As long as one of ours on the wire, so that bytes can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Id {
    member: [u8; 16],
    life: u64,
    address: SocketAddr,
}

impl foca::Identity for Id {
    type Addr = [u8; 16];

    fn addr(&self) -> [u8; 16] {
        self.member
    }
    fn renew(&self) -> Option<Self> {
        Some(Self { life: self.life + 1, ..*self })
    }
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

fn id(index: usize) -> Id {
    let [high, low] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    let mut member = [0x5a; 16];
    member[..2].copy_from_slice(&[high, low]);
    Id { member, life: 1_800_000_000_000, address: SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 7946)) }
}

fn index(id: &Id) -> usize {
    usize::from(u16::from_be_bytes([id.member[0], id.member[1]]))
}

enum Event {
    Packet { to: usize, bytes: Vec<u8> },
    Timer { of: usize, timer: Timer<Id> },
    Feed { of: usize },
}

struct Node {
    foca: Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>,
    up: bool,
    deaf: bool,
    starved: bool,
    backlog: Vec<Vec<u8>>,
}

/// A member was called down.
struct Down {
    at: u64,
    by: usize,
    of: usize,
}

struct Net {
    now: u64,
    nodes: Vec<Node>,
    loss_percent: u8,
    rng: StdRng,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    serial: u64,
    downs: Vec<Down>,
    sent: Sent,
}

impl Net {
    fn formed(size: Size, seed: u64) -> Self {
        let config =
            Config::new_lan(NonZeroU32::new(u32::try_from(size.hosts).unwrap_or(1)).unwrap_or(NonZeroU32::MIN));
        let mut rng = StdRng::seed_from_u64(seed);
        let node = |index: usize| Node {
            foca: Foca::new(
                id(index),
                config.clone(),
                StdRng::seed_from_u64((seed << 16) | index as u64),
                PostcardCodec,
            ),
            up: true,
            deaf: false,
            starved: false,
            backlog: Vec::new(),
        };
        let nodes: Vec<Node> = (0..size.hosts).map(node).collect();
        let phases: Vec<u64> = nodes.iter().map(|_| rng.random_range(0..1_000_000)).collect();
        let mut net = Self {
            now: 0,
            nodes,
            loss_percent: size.loss_percent,
            rng,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            serial: 0,
            downs: Vec::new(),
            sent: Sent::default(),
        };
        for (of, phase) in phases.into_iter().enumerate() {
            net.now = phase;
            let others = (0..size.hosts).filter(|other| *other != of).map(|other| Member::alive(id(other)));
            net.act(of, |foca, runtime| drop(foca.apply_many(others, false, runtime)));
        }
        net.now = 1_000_000;
        net
    }

    fn put(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.insert(self.serial, event);
        self.heap.push(Reverse((at, self.serial)));
    }

    fn act(
        &mut self,
        of: usize,
        act: impl FnOnce(&mut Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>, &mut AccumulatingRuntime<Id>),
    ) {
        let mut runtime = AccumulatingRuntime::new();
        act(&mut self.nodes[of].foca, &mut runtime);
        while let Some((to, bytes)) = runtime.to_send() {
            self.sent.datagrams += 1;
            self.sent.bytes += bytes.len() as u64;
            let lost = self.nodes[of].deaf || self.rng.random_range(0..100) < self.loss_percent;
            let at = self.now + self.rng.random_range(LATENCY);
            if !lost {
                self.put(at, Event::Packet { to: index(&to), bytes: bytes.to_vec() });
            }
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            let at = self.now + u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            self.put(at, Event::Timer { of, timer });
        }
        while let Some(notification) = runtime.to_notify() {
            if let OwnedNotification::MemberDown(down) = notification {
                self.downs.push(Down { at: self.now, by: of, of: index(&down) });
            }
        }
    }

    fn run(&mut self, until: u64) {
        while let Some(Reverse((at, serial))) = self.heap.peek().copied().filter(|Reverse((at, _))| *at <= until) {
            self.heap.pop();
            self.now = at;
            match self.events.remove(&serial) {
                Some(Event::Packet { to, bytes }) => self.arrive(to, bytes),
                // What it cannot use, and timers that are void, are its own business.
                Some(Event::Timer { of, timer }) if self.nodes[of].up => {
                    self.act(of, |foca, runtime| drop(foca.handle_timer(timer, runtime)));
                }
                Some(Event::Feed { of }) => self.feed(of),
                Some(Event::Timer { .. }) | None => {}
            }
        }
        self.now = until;
    }

    fn arrive(&mut self, to: usize, bytes: Vec<u8>) {
        let Some(node) = self.nodes.get_mut(to).filter(|node| node.up && !node.deaf) else { return };
        if node.starved {
            if node.backlog.len() < BACKLOG_MAX {
                node.backlog.push(bytes);
            }
            return;
        }
        self.act(to, |foca, runtime| drop(foca.handle_data(&bytes, runtime)));
    }

    fn feed(&mut self, of: usize) {
        for bytes in std::mem::take(&mut self.nodes[of].backlog) {
            self.act(of, |foca, runtime| drop(foca.handle_data(&bytes, runtime)));
        }
        if self.nodes[of].starved {
            let at = self.now + self.rng.random_range(STARVED);
            self.put(at, Event::Feed { of });
        }
    }

    fn set(&mut self, of: &BTreeSet<usize>, ill: Ill, on: bool) {
        for of in of.iter().copied() {
            match ill {
                Ill::Deaf { .. } => self.nodes[of].deaf = on,
                Ill::Starved => {
                    self.nodes[of].starved = on;
                    self.put(self.now, Event::Feed { of });
                }
            }
        }
    }
}

/// As [`rekindle_sim::detect::Death`]: milliseconds from the death to the first Down, and until every survivor has said it
/// of all of the dead; and how many survivors were called down.
pub(crate) fn death(size: Size, dying: Dying, seed: u64) -> (Option<u64>, Option<u64>, usize) {
    let mut net = Net::formed(size, seed);
    let died = WARM_UP + net.rng.random_range(0..SPREAD);
    net.run(died);
    let first = net.rng.random_range(0..size.hosts);
    let dead: BTreeSet<usize> = (0..dying.dead.min(size.hosts - 1)).map(|step| (first + step) % size.hosts).collect();
    dead.iter().for_each(|of| net.nodes[*of].up = false);
    net.downs.clear();
    let (mut told, mut seen) = (BTreeSet::new(), 0);
    while net.now < died + PATIENCE && told.len() < (size.hosts - dead.len()) * dead.len() {
        net.run(net.now + STEP);
        told.extend(net.downs[seen..].iter().filter(|down| dead.contains(&down.of)).map(|down| (down.by, down.of)));
        seen = net.downs.len();
    }
    let of_dead = || net.downs.iter().filter(|down| dead.contains(&down.of)).map(|down| (down.at - died) / 1_000);
    let all = (told.len() == (size.hosts - dead.len()) * dead.len()).then(|| of_dead().max()).flatten();
    (of_dead().min(), all, net.downs.len() - of_dead().count())
}

/// False Downs of a cluster to which nothing happens, and what it sends.
pub(crate) fn quiet(size: Size, lasts: Duration, seed: u64) -> (usize, Sent) {
    let mut net = Net::formed(size, seed);
    net.run(WARM_UP);
    (net.downs, net.sent) = (Vec::new(), Sent::default());
    net.run(WARM_UP + micros(lasts));
    (net.downs.len(), net.sent)
}

/// As [`rekindle_sim::detect::slow`]: Downs of the healthy, those of them at the healthy, and what was sent.
pub(crate) fn slow(size: Size, slow: usize, ill: Ill, lasts: Duration, seed: u64) -> (usize, usize, Sent) {
    let mut net = Net::formed(size, seed);
    net.run(WARM_UP);
    let mut left: Vec<usize> = (0..size.hosts).collect();
    let mut chosen = BTreeSet::new();
    while chosen.len() < slow.min(size.hosts) {
        let place = net.rng.random_range(0..left.len());
        chosen.insert(left.swap_remove(place));
    }
    (net.downs, net.sent) = (Vec::new(), Sent::default());
    let until = net.now + micros(lasts);
    while net.now < until {
        net.set(&chosen, ill, true);
        match ill {
            Ill::Deaf { deaf, free } => {
                net.run(until.min(net.now + micros(deaf)));
                net.set(&chosen, ill, false);
                net.run(until.min(net.now + micros(free)));
            }
            Ill::Starved => net.run(until),
        }
    }
    let healthy = |down: &&Down| !chosen.contains(&down.of);
    let at_healthy = net.downs.iter().filter(healthy).filter(|down| !chosen.contains(&down.by)).count();
    (net.downs.iter().filter(healthy).count(), at_healthy, net.sent)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
