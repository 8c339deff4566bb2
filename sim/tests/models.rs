//! The models themselves: each does what its doc says, and the oracle sees what it must.

use std::time::Duration;

use rekindle_coordinator::ledger::OperatorCommand;
use rekindle_proto::id::{HostName, ServerId};
use rekindle_proto::status::Phase;
use rekindle_sim::oracle::Violation;
use rekindle_sim::world::{Bmc, Disk, Plan, Weather, World};

fn world(seed: u64, change: impl FnOnce(&mut Plan)) -> World {
    println!("seed {seed}");
    let mut plan = Plan { seed, ..Plan::default() };
    change(&mut plan);
    let mut world = World::build(&plan);
    run(&mut world, 30);
    world
}

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn run(world: &mut World, seconds: u64) {
    try_run(world, seconds).unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
}

fn try_run(world: &mut World, seconds: u64) -> Result<(), Violation> {
    world.run_until(world.now() + Duration::from_secs(seconds))
}

fn counted(world: &World, what: &str) -> u64 {
    world.counters().get(what).copied().unwrap_or(0)
}

fn phase(world: &World, host: &HostName) -> Option<Phase> {
    let of_host = world.ledger().incidents.values().filter(|incident| incident.host == *host);
    of_host.max_by_key(|incident| incident.id).map(|incident| incident.phase)
}

fn first_guest(world: &World, host: &HostName) -> ServerId {
    world.nova.guests_on(host)[0]
}

/// A leader behind a partition goes on believing in itself, commits nothing, and what it wrote is overwritten.
#[test]
fn an_isolated_leader_believes_in_itself_and_its_tail_is_overwritten() {
    let mut world = world(1, |_| {});
    let old = world.leader().expect("elected");
    let others: Vec<HostName> = world.host_names().into_iter().filter(|host| *host != old).collect();
    world.partition(&[vec![old.clone()], others], None, true);
    run(&mut world, 10);
    let new = world.leader().expect("elected by the others");
    assert_ne!(new, old);
    let mind =
        |world: &World, host: &HostName| world.host(host).and_then(|host| host.coordinator()).and_then(|c| c.leads());
    assert!(mind(&world, &old) < mind(&world, &new) && mind(&world, &old).is_some(), "it still believes");
    world.mend_network();
    run(&mut world, 20);
    assert_eq!(mind(&world, &old), None, "{}", world.log().join("\n"));
    for voter in world.voters() {
        let ledger = world.host(&voter).and_then(|host| host.coordinator()).map(|mind| mind.ledger());
        assert_eq!(ledger, Some(world.ledger()), "{voter}");
    }
}

/// Leaders are deposed, voters restart, writes are torn, disks are slow, fill, and are lost: the voters agree all the same.
#[test]
fn voters_agree_whatever_befalls_them() {
    for seed in 0..10 {
        let mut world = world(seed, |plan| {
            plan.hosts = 6;
            plan.voters = 5;
            plan.weather = Weather { loss_percent: 3, delay_ms: 20, lost_commits_percent: 10, ..Weather::CALM };
        });
        for round in 0..20 {
            let voter = world.voters()[world.random(5)].clone();
            match world.random(7) {
                0 => world.depose(),
                1 => world.restart_daemon(&voter),
                2 => world.tear_next_write(&voter),
                3 => world.set_disk(&voter, Disk::Slow(400)),
                4 => world.set_disk(&voter, Disk::Full),
                5 => world.freeze(&voter, true),
                _ => world.starve(&voter, true),
            }
            // Something to write: an operator who cannot decide.
            world.order(&OperatorCommand::Maintenance { host: host("cmp-06"), on: round % 2 == 0 }, "trying");
            run(&mut world, 4);
            world.heal();
            run(&mut world, 4);
        }
        run(&mut world, 30);
        assert!(counted(&world, "operator orders") == 20 && world.raft.len() > 15, "{:?}", world.counters());
        // Who was stopped for long enough has been switched off.
        for voter in world.voters().into_iter().filter(|voter| !world.is_dead(voter)) {
            let ledger = world.host(&voter).and_then(|host| host.coordinator()).map(|mind| mind.ledger());
            assert_eq!(ledger, Some(world.ledger()), "seed {seed} {voter}");
        }
    }
}

/// A voter whose disk was lost counts for no quorum until it has a seat again; away for long, it is brought up by a snapshot.
#[test]
fn a_late_voter_gets_a_snapshot() {
    let mut world = world(2, |_| {});
    let late = world.voters().into_iter().find(|voter| Some(voter) != world.leader().as_ref()).expect("three");
    let other = world.voters().into_iter().find(|voter| *voter != late && Some(voter) != world.leader().as_ref());
    let other = other.expect("three");
    world.lose_disk(&late);
    run(&mut world, 10);
    world.cut(&other, true);
    assert!(!world.can_agree(), "an empty store is no voter: {}", world.log().join("\n"));
    world.cut(&other, false);
    for other in world.voters().into_iter().filter(|other| *other != late) {
        world.block(&late, &other, None);
        world.block(&other, &late, None);
    }
    for round in 0..320 {
        world.order(&OperatorCommand::Maintenance { host: host("cmp-05"), on: round % 2 == 0 }, "to and fro");
        run(&mut world, 1);
    }
    assert!(world.raft.len() > 220, "{}", world.raft.len());
    world.mend_network();
    run(&mut world, 10);
    assert!(counted(&world, "snapshots installed") >= 1, "{:?}", world.counters());
    let mind = world.host(&late).and_then(|host| host.coordinator()).map(|mind| mind.ledger());
    assert_eq!(mind, Some(world.ledger()));
    world.cut(&other, true);
    assert!(world.can_agree(), "a store that was given the seat votes: {}", world.log().join("\n"));
}

/// A BMC that executes late: the host goes off after the attempt was given up, within the time that is waited for it.
#[test]
fn a_late_bmc_is_waited_for() {
    for seed in 0..5 {
        let mut world = world(seed, |_| {});
        world.set_bmc(&host("cmp-05"), Bmc::Late(20));
        world.kill_host(&host("cmp-05"), false);
        run(&mut world, 200);
        assert_eq!(phase(&world, &host("cmp-05")), Some(Phase::Recovered), "{}", world.log().join("\n"));
    }
}

/// Crossed cables: neither machine is switched off in the other's stead.
#[test]
fn crossed_bmcs_switch_nobody_off() {
    let mut world = world(3, |_| {});
    world.cross_bmcs(&host("cmp-04"), &host("cmp-05"));
    run(&mut world, 700);
    world.kill_host(&host("cmp-05"), false);
    run(&mut world, 200);
    assert_eq!(phase(&world, &host("cmp-05")), Some(Phase::Stuck), "{}", world.log().join("\n"));
    assert!(world.fenced.is_empty() && world.nova.accepted.is_empty());
    world.judge_liveness().expect("stuck for a cause");
}

/// A live migration has switched over when its source dies: Nova's record names the dead host, the guest runs elsewhere.
#[test]
fn a_guest_that_has_moved_is_not_built_again() {
    let mut met = 0;
    for seed in 0..12 {
        let mut world = world(seed, |_| {});
        let (source, dest) = (host("cmp-05"), host("cmp-04"));
        let server = first_guest(&world, &source);
        world.migrate(server, &dest);
        for _ in 0..250 {
            world.run_until(world.now() + Duration::from_millis(100)).expect("no promise is broken");
            let runs_there = world.nova.copies_on(server).any(|host| *host == dest);
            if runs_there && world.nova.server(server).and_then(|server| server.host.clone()) == Some(source.clone()) {
                met += 1;
                break;
            }
        }
        world.kill_host(&source, false);
        run(&mut world, 300);
        assert_eq!(world.nova.copies(server), 1, "{}", world.log().join("\n"));
    }
    assert!(met >= 6, "only {met} seeds met the case");
}

/// The oracle sees two copies: an operator's own os-start, waiting in a dead host's queue, runs there when it returns.
#[test]
fn a_cast_is_replayed_and_the_oracle_sees_two_copies() {
    let mut world = world(5, |_| {});
    let victim = host("cmp-05");
    let server = first_guest(&world, &victim);
    world.kill_host(&victim, false);
    let (to, cast) = world.nova.power(server, true).expect("it is somewhere");
    assert_eq!(world.nova.cast(&to, cast), None, "the service is dead: the cast waits");
    run(&mut world, 120);
    assert_eq!(phase(&world, &victim), Some(Phase::Recovered));
    world.press_power(&victim);
    let broken = try_run(&mut world, 120).expect_err("two copies");
    assert!(matches!(broken, Violation::RunsTwice { .. }), "{broken}");
}

/// Clocks that drift and jump change nothing that matters.
#[test]
fn drifting_clocks_change_nothing() {
    for seed in 0..5 {
        let mut world = world(seed, |_| {});
        for (name, ppm, jump) in [
            ("cmp-01", 500, -3_600_000),
            ("cmp-02", -500, 86_400_000),
            // Faster than the kernel disciplines a clock, its second between two off readings would be none (`READS_APART`).
            ("cmp-03", 500, 1_000),
            ("cmp-04", -50_000, 0),
        ] {
            world.drift(&host(name), ppm);
            world.jump_wall(&host(name), jump);
        }
        world.kill_host(&host("cmp-05"), false);
        run(&mut world, 200);
        assert_eq!(phase(&world, &host("cmp-05")), Some(Phase::Recovered), "{}", world.log().join("\n"));
    }
}

/// A stopped process, a stopped machine and a starved process lose time, not promises.
#[test]
fn stopped_and_starved_hosts_come_back() {
    for seed in 0..8 {
        let mut world = world(seed, |plan| plan.hosts = 7);
        let leader = world.leader().expect("elected");
        match seed % 3 {
            0 => world.freeze(&leader, true),
            1 => world.suspend(&leader, true),
            _ => world.starve(&leader, true),
        }
        run(&mut world, 2 + seed);
        world.kill_host(&host("cmp-07"), false);
        run(&mut world, 5);
        world.heal();
        run(&mut world, 400);
        world.judge_liveness().unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
    }
}

/// Bursts, duplicates, reordering and delay: nobody is fenced for them, and a dead host is found.
#[test]
fn rough_weather_fences_nobody() {
    for seed in 0..4 {
        let mut world = world(seed, |plan| {
            plan.hosts = 9;
            plan.weather = Weather {
                loss_percent: 2,
                burst_percent: 5,
                duplicate_percent: 5,
                reorder_percent: 10,
                delay_ms: 30,
                ..Weather::CALM
            };
        });
        run(&mut world, 600);
        assert!(world.fenced.is_empty(), "{}", world.log().join("\n"));
        world.kill_host(&host("cmp-09"), false);
        run(&mut world, 300);
        assert_eq!(phase(&world, &host("cmp-09")), Some(Phase::Recovered), "{}", world.log().join("\n"));
    }
}

/// One-way cuts: who hears and is not heard, and the other way round.
#[test]
fn a_one_way_cut_is_no_death() {
    for (seed, deaf) in [(0, true), (1, false), (2, true), (3, false)] {
        let mut world = world(seed, |_| {});
        let victim = host("cmp-05");
        for other in world.host_names().into_iter().filter(|other| *other != victim) {
            if deaf {
                world.block(&other, &victim, None);
            } else {
                world.block(&victim, &other, None);
            }
        }
        run(&mut world, 60);
        world.mend_network();
        world.heal();
        run(&mut world, 300);
        world.judge_liveness().unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
    }
}
