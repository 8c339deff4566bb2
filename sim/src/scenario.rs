//! Seeded faults, then healing, then judgement.

use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;

use crate::oracle::{Violation, all_end, none_lost};
use crate::world::{Bmc, Weather, World};

/// How long the cluster is given to form.
const FORMING: Duration = Duration::from_secs(30);
/// How long faults go on.
const CHAOS: Duration = Duration::from_secs(120);
/// How long it is watched afterwards in any case: late calls and lost answers have come to their end.
const HEALING: Duration = Duration::from_secs(240);
/// How long it is given to finish: settling times of lost calls, retries, and the longest wait for another host's word.
const PATIENCE: Duration = Duration::from_secs(2_400);
/// Between two looks whether it has finished.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What came of one seed.
#[derive(Debug)]
pub struct Report {
    /// Which.
    pub seed: u64,
    /// Hosts in it.
    pub hosts: usize,
    /// What was done to it.
    pub faults: Vec<&'static str>,
    /// Incidents that ended recovered.
    pub recovered: usize,
    /// Incidents that ended stuck.
    pub stuck: usize,
    /// The broken promise, if one was.
    pub violation: Option<Violation>,
    /// The story.
    pub log: Vec<String>,
}

/// Runs one random scenario: 3 to 9 hosts, up to three faults, then healing. Hosts of odd seeds have boot gates.
#[must_use]
pub fn random(seed: u64) -> Report {
    let gates = seed % 2 == 1;
    drawn(seed, gates, |weather| {
        // Without a gate nothing keeps them apart.
        if weather.meddling_percent != 0 && !gates {
            weather.leftover_percent = 0;
        }
    })
}

/// The same seed, but always with people who power fenced hosts on, and with rebuilds that fail and leave copies: what boot
/// gates are for.
#[must_use]
pub fn meddled(seed: u64, gates: bool) -> Report {
    drawn(seed, gates, |weather| {
        weather.meddling_percent = 80;
        weather.failed_rebuilds_percent = 50;
        weather.leftover_percent = 60;
    })
}

fn drawn(seed: u64, gates: bool, change: impl Fn(&mut Weather)) -> Report {
    let mut plan = World::new(seed, 3, 1, 0, CALM);
    let hosts = 3 + plan.random(7);
    let voters = if hosts >= 5 { 5 } else { 3 };
    let meddling_percent = [0, 0, 50][plan.random(3)];
    let mut weather = Weather {
        loss_percent: [0, 0, 1, 5][plan.random(4)],
        lost_answers_percent: [0, 0, 20][plan.random(3)],
        failed_rebuilds_percent: [0, 0, 20][plan.random(3)],
        slow_calls_percent: [0, 0, 30][plan.random(3)],
        lost_commits_percent: [0, 0, 5][plan.random(3)],
        meddling_percent,
        leftover_percent: 40,
        dying_destination: plan.random(4) == 0,
    };
    let servers = 1 + plan.random(6);
    change(&mut weather);
    let mut world = World::new(seed.wrapping_add(1), hosts, voters, servers, weather);
    if gates {
        world.install_gates();
    }
    let mut faults = Vec::new();
    let violation = story(&mut world, &mut faults).err();
    let count =
        |phase: Phase| world.raft.ledger().incidents.values().filter(|incident| incident.phase == phase).count();
    Report {
        seed,
        hosts,
        faults,
        recovered: count(Phase::Recovered),
        stuck: count(Phase::Stuck),
        violation,
        log: world.log().to_vec(),
    }
}

/// Nothing goes wrong by itself.
pub const CALM: Weather = Weather {
    loss_percent: 0,
    lost_answers_percent: 0,
    failed_rebuilds_percent: 0,
    slow_calls_percent: 0,
    lost_commits_percent: 0,
    meddling_percent: 0,
    leftover_percent: 0,
    dying_destination: false,
};

fn story(world: &mut World, faults: &mut Vec<&'static str>) -> Result<(), Violation> {
    world.run_until(Moment::ZERO + FORMING)?;
    let chaos_ends = Moment::ZERO + FORMING + CHAOS;
    for _ in 0..1 + world.random(3) {
        let pause = Duration::from_millis(u64::try_from(world.random(30_000)).unwrap_or(0));
        let at = (world.now() + pause).min(chaos_ends);
        world.run_until(at)?;
        faults.push(inflict(world));
    }
    world.run_until(chaos_ends)?;
    heal(world);
    let mut until = chaos_ends + HEALING;
    world.run_until(until)?;
    while all_end(&world.raft).is_err() && until < chaos_ends + PATIENCE && world.can_act() {
        until = until + LOOK_EVERY;
        world.run_until(until)?;
    }
    if !world.can_act() {
        return Ok(());
    }
    all_end(&world.raft)?;
    none_lost(&world.nova, &world.raft).or_else(|lost| excuse(world, lost))
}

/// A host that died while a brake held is watched, not recovered: that is not a loss by us.
fn excuse(world: &World, lost: Violation) -> Result<(), Violation> {
    let dead = world.host_names().into_iter().filter(|host| !lives(world, host)).count();
    let several = dead * 100 > world.host_names().len() * 20 || dead >= 2;
    if several { Ok(()) } else { Err(lost) }
}

fn lives(world: &World, host: &HostName) -> bool {
    world.host(host).is_some_and(|host| host.powered) && !world.nova.guests_on(host).is_empty()
}

fn inflict(world: &mut World) -> &'static str {
    let hosts = world.host_names();
    let leader = world.raft.leader().cloned();
    let victim = match (world.random(3), leader) {
        (0, Some(leader)) => leader,
        _ => hosts[world.random(hosts.len())].clone(),
    };
    let kind = world.random(9);
    if world.host(&victim).is_some_and(|host| !host.powered) {
        world.tell(format!("the BMC of {victim} goes away"));
        if let Some(host) = world.host_mut(&victim) {
            host.bmc = Bmc::Silent;
        }
        return "BMC away during recovery";
    }
    match kind {
        0 | 1 => {
            world.kill_host(&victim, false);
            "crash"
        }
        2 => {
            world.kill_host(&victim, true);
            "power"
        }
        3 => {
            world.tell(format!("{victim} freezes"));
            if let Some(host) = world.host_mut(&victim) {
                host.frozen = true;
            }
            "freeze"
        }
        4 => {
            world.tell(format!("{victim} is cut off"));
            if let Some(host) = world.host_mut(&victim) {
                host.cut = true;
            }
            "cut"
        }
        5 => {
            world.restart_daemon(&victim);
            "daemon restart"
        }
        6 => {
            let behaviour = [Bmc::Silent, Bmc::StaysOn, Bmc::WrongPassword][world.random(3)];
            world.tell(format!("the BMC of {victim} is {behaviour:?}; then it dies"));
            if let Some(host) = world.host_mut(&victim) {
                host.bmc = behaviour;
            }
            world.kill_host(&victim, false);
            "crash with a bad BMC"
        }
        7 => {
            world.tell("Nova is away");
            world.nova_down = true;
            world.kill_host(&victim, false);
            "crash while Nova is away"
        }
        _ => {
            let guests = world.nova.guests_on(&victim);
            if let Some(guest) = guests.first() {
                world.kill_guest(*guest);
            }
            "guest"
        }
    }
}

fn heal(world: &mut World) {
    world.tell("everything heals");
    world.nova_down = false;
    world.weather.meddling_percent = 0;
    world.weather.dying_destination = false;
    for host in world.host_names() {
        if let Some(host) = world.host_mut(&host) {
            host.frozen = false;
            host.cut = false;
            if !host.powered && host.bmc == Bmc::Silent {
                host.bmc = Bmc::Honest;
            }
        }
    }
}
