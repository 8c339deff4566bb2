//! Detection, measured in virtual time on the very coordinators the daemon runs: how soon a death is known and to whom, what
//! the watching costs while nothing happens, and whom members accuse that hear each other badly. `examples/detect` prints
//! it, `make bench-detect` runs it at every size, `tests/detect.rs` keeps it from growing worse.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_coordinator::policy::Policy;
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use serde::Serialize;

use crate::world::{Belief, Believed, Plan, Weather, World};

/// How long a cluster runs before anything is done to it: every device of the smaller ones has been read by then, and every
/// member has probed.
const WARM_UP: Duration = Duration::from_secs(8);
/// Deaths are spread over so many milliseconds more: no phase of anybody's probe period is preferred.
const SPREAD_MS: usize = 2_000;
/// Longest that a death is watched.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks whether all is known. Times are taken from what happened, not from the looks.
const STEP: Duration = Duration::from_millis(50);

/// A cluster whose detection is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Hypervisors. Five of them vote, of fewer than five three.
    pub hosts: usize,
    /// Part of all datagrams that is lost, in percent; what is lost of a stream is sent again.
    pub loss_percent: u8,
}

impl Size {
    fn plan(self, seed: u64, armed: bool) -> Plan {
        Plan {
            seed,
            hosts: self.hosts,
            voters: if self.hosts >= 5 { 5 } else { 3 },
            servers: 1,
            weather: Weather { loss_percent: self.loss_percent, ..Weather::CALM },
            policy: Policy::default(),
            armed,
            formed: true,
            ..Plan::default()
        }
    }
}

/// A death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dying {
    /// Hosts that die in one moment, neighbours by number.
    pub dead: usize,
    /// Their power goes, under BMCs that live: else their kernels stop.
    pub power: bool,
}

/// What was seen of it: milliseconds since the death; none: not within the patience of the watcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Death {
    /// With which seed.
    pub seed: u64,
    /// Whether one of the dead led.
    pub led: bool,
    /// The first survivor suspected one of them.
    pub suspected: Option<u64>,
    /// The first survivor believed one of them down.
    pub first_down: Option<u64>,
    /// Every survivor believed every one of them down.
    pub all_told: Option<u64>,
    /// The first verdict was ready. Of many dead at once none is while the brake on such events holds.
    pub verdict: Option<u64>,
    /// The first proof was in hand: read off twice.
    pub proof: Option<u64>,
    /// Survivors that somebody believed down.
    pub false_downs: usize,
    /// Verdicts on survivors.
    pub false_verdicts: usize,
}

/// Lets hosts die in a cluster that has run for a while, and watches.
///
/// # Panics
/// If the simulated world breaks a promise of the design: then no figure of it means anything.
#[must_use]
pub fn death(size: Size, dying: Dying, seed: u64) -> Death {
    let mut world = World::build(&size.plan(seed, true));
    world.watch_beliefs();
    let after = Duration::from_millis(world.random(SPREAD_MS) as u64);
    run(&mut world, WARM_UP + after);
    let names = world.host_names();
    let first = world.random(names.len());
    let dead: BTreeSet<usize> = (0..dying.dead.min(names.len() - 1)).map(|step| (first + step) % names.len()).collect();
    let leader = world.leader();
    let died = world.now();
    let mut told = Told::of(names.len(), dead);
    told.take(&world.take_beliefs(), died);
    for ix in &told.dead {
        world.kill_host(&names[*ix], dying.power);
    }
    while world.now() < died + PATIENCE {
        run(&mut world, STEP);
        told.take(&world.take_beliefs(), died);
        let decided = dying.dead > 1 || turned(&world, &names, &told.dead, Phase::Fenced).is_some();
        if told.all_told.is_some() && decided {
            break;
        }
    }
    let since = |at: Option<Moment>| at.map(|at| millis(at.since(died)));
    let is_survivor = |host: &HostName| !told.dead.iter().any(|ix| names[*ix] == *host);
    Death {
        seed,
        led: leader.is_some_and(|leader| !is_survivor(&leader)),
        suspected: since(told.suspected),
        first_down: since(told.first_down),
        all_told: since(told.all_told),
        verdict: since(turned(&world, &names, &told.dead, Phase::Unclean)),
        proof: since(turned(&world, &names, &told.dead, Phase::Fenced)),
        false_downs: told.false_downs,
        false_verdicts: world.ledger().incidents.values().filter(|incident| is_survivor(&incident.host)).count(),
    }
}

/// What a cluster costs and gets wrong while nothing happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quiet {
    /// With which seed.
    pub seed: u64,
    /// Virtual time.
    pub seconds: u64,
    /// Times that a member suspected a living one.
    pub false_suspects: usize,
    /// Times that a member believed a living one down.
    pub false_downs: usize,
    /// Suspicions of a leader.
    pub suspicions: usize,
    /// Verdicts on living hosts.
    pub false_verdicts: usize,
    /// What was sent.
    pub sent: Sent,
}

/// What was sent, by all members together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sent {
    /// SWIM datagrams.
    pub datagrams: u64,
    /// Their bytes, without those of QUIC, UDP and IP.
    pub bytes: u64,
    /// Messages on streams, of every kind.
    pub messages: u64,
}

/// Runs a cluster to which nothing happens.
///
/// # Panics
/// As [`death`].
#[must_use]
pub fn quiet(size: Size, lasts: Duration, seed: u64) -> Quiet {
    let mut world = World::build(&size.plan(seed, true));
    run(&mut world, WARM_UP);
    world.watch_beliefs();
    let (before, suspicions) = (sent(&world), world.suspicions.len());
    let until = world.now() + lasts;
    let (mut suspects, mut downs) = (0, 0);
    while world.now() < until {
        // Not all at once: what is written down meanwhile takes room.
        let step = Duration::from_secs(60).min(until.since(world.now()));
        run(&mut world, step);
        for belief in world.take_beliefs() {
            match belief.state {
                Believed::Alive => {}
                Believed::Suspect => suspects += 1,
                Believed::Down => downs += 1,
            }
        }
    }
    let is_new = |(_, _, phase): &&(Moment, HostName, Phase)| *phase == Phase::Suspect;
    Quiet {
        seed,
        seconds: lasts.as_secs(),
        false_suspects: suspects,
        false_downs: downs,
        suspicions: world.suspicions[suspicions..].iter().filter(is_new).count(),
        false_verdicts: world.ledger().incidents.len(),
        sent: sent(&world).since(before),
    }
}

/// What is wrong with members that are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// Nothing reaches them or leaves them for so long, then everything does for so long, and so on; their timers run.
    Deaf {
        /// How long nothing does.
        deaf: Duration,
        /// How long everything does.
        free: Duration,
    },
    /// They get to what they hear only every second or two; their timers run.
    Starved,
}

/// Whom a cluster accuses, some members of which are slow. After the experiments of Lifeguard (arXiv 1707.00788, section V).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slow {
    /// With which seed.
    pub seed: u64,
    /// Times that anybody believed a healthy member down.
    pub false_downs: usize,
    /// The same, where who believed it was healthy too.
    pub at_healthy: usize,
    /// What was sent.
    pub sent: Sent,
}

/// Makes so many members slow, chosen at random, for that time. Nobody is fenced: it is about gossip.
///
/// # Panics
/// As [`death`].
#[must_use]
pub fn slow(size: Size, slow: usize, ill: Ill, lasts: Duration, seed: u64) -> Slow {
    let mut world = World::build(&size.plan(seed, false));
    run(&mut world, WARM_UP);
    world.watch_beliefs();
    let names = world.host_names();
    let chosen = choose(&mut world, names.len(), slow);
    let before = sent(&world);
    let until = world.now() + lasts;
    let set = |world: &mut World, on: bool| {
        for ix in &chosen {
            match ill {
                Ill::Deaf { .. } => world.cut(&names[*ix], on),
                Ill::Starved => world.starve(&names[*ix], on),
            }
        }
    };
    while world.now() < until {
        let left = until.since(world.now());
        set(&mut world, true);
        match ill {
            Ill::Deaf { deaf, free } => {
                run(&mut world, deaf.min(left));
                set(&mut world, false);
                let left = until.since(world.now());
                run(&mut world, free.min(left));
            }
            Ill::Starved => run(&mut world, left),
        }
    }
    let sent = sent(&world).since(before);
    let is_slow = |ix: &usize| chosen.contains(ix);
    let downs = world.take_beliefs().into_iter().filter(|belief| belief.state == Believed::Down);
    let of_healthy: Vec<Belief> = downs.filter(|belief| !is_slow(&belief.of)).collect();
    Slow {
        seed,
        false_downs: of_healthy.len(),
        at_healthy: of_healthy.iter().filter(|belief| !is_slow(&belief.by)).count(),
        sent,
    }
}

fn choose(world: &mut World, of: usize, wanted: usize) -> BTreeSet<usize> {
    let mut left: Vec<usize> = (0..of).collect();
    (0..wanted.min(of)).map(|_| left.swap_remove(world.random(left.len()))).collect()
}

/// Who was told of the dead when.
#[derive(Debug)]
struct Told {
    hosts: usize,
    dead: BTreeSet<usize>,
    /// Whether each survivor believes each of the dead down.
    down: BTreeMap<(usize, usize), bool>,
    suspected: Option<Moment>,
    first_down: Option<Moment>,
    all_told: Option<Moment>,
    false_downs: usize,
}

impl Told {
    fn of(hosts: usize, dead: BTreeSet<usize>) -> Self {
        Self { hosts, dead, down: BTreeMap::new(), suspected: None, first_down: None, all_told: None, false_downs: 0 }
    }

    fn take(&mut self, beliefs: &[Belief], died: Moment) {
        for belief in beliefs.iter().filter(|belief| belief.at > died && !self.dead.contains(&belief.by)) {
            if !self.dead.contains(&belief.of) {
                self.false_downs += usize::from(belief.state == Believed::Down);
                continue;
            }
            let is_down = belief.state == Believed::Down;
            if belief.state == Believed::Suspect {
                self.suspected.get_or_insert(belief.at);
            }
            if is_down {
                self.first_down.get_or_insert(belief.at);
            }
            self.down.insert((belief.by, belief.of), is_down);
            let pairs = (self.hosts - self.dead.len()) * self.dead.len();
            if is_down && self.down.len() == pairs && self.all_told.is_none() && self.down.values().all(|down| *down) {
                self.all_told = Some(belief.at);
            }
        }
    }
}

/// When the first of these hosts reached that phase, by the ledger: times in it are those at which a leader proposed.
fn turned(world: &World, names: &[HostName], hosts: &BTreeSet<usize>, to: Phase) -> Option<Moment> {
    let is_one = |host: &HostName| hosts.iter().any(|ix| names[*ix] == *host);
    let incidents = world.ledger().incidents.values().filter(|incident| is_one(&incident.host));
    let turns = incidents.flat_map(|incident| &incident.turns).filter(|turn| turn.to == to);
    turns.map(|turn| world.moment_of(turn.at)).min()
}

fn sent(world: &World) -> Sent {
    let counters = world.counters();
    let of = |what: &str| counters.get(what).copied().unwrap_or(0);
    Sent { datagrams: of("datagrams"), bytes: of("datagram bytes"), messages: of("messages") }
}

impl Sent {
    fn since(self, before: Self) -> Self {
        Self {
            datagrams: self.datagrams - before.datagrams,
            bytes: self.bytes - before.bytes,
            messages: self.messages - before.messages,
        }
    }
}

fn run(world: &mut World, lasts: Duration) {
    let until = world.now() + lasts;
    if let Err(broken) = world.run_until(until) {
        panic!("{broken}:\n{}", world.log().join("\n"));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
