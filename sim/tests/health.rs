//! The leader's own health, and the proof by a host's own watchdog: who leads when a leader is cut from what it needs.

use std::time::Duration;

use rekindle_coordinator::policy::Policy;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::{Bmc, Plan, World};

const SEEDS: u64 = 8;

fn world(seed: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, 5, 3, 3, CALM);
    run(&mut world, 30);
    world
}

fn victim() -> HostName {
    HostName::new("cmp-05").expect("legal")
}

fn run(world: &mut World, seconds: u64) {
    let until = world.now() + Duration::from_secs(seconds);
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
}

fn leader(world: &World) -> HostName {
    world.leader().expect("somebody leads")
}

fn phase(world: &World) -> Option<Phase> {
    world.raft.ledger().incidents.values().find(|incident| incident.host == victim()).map(|incident| incident.phase)
}

/// The leader alone loses Nova, and a host dies: another voter takes over, and the recovery is done by it.
#[test]
fn leadership_moves_from_a_leader_that_loses_nova() {
    for seed in 0..SEEDS {
        let mut world = world(seed);
        let old = leader(&world);
        world.cut_services(&old, true);
        world.kill_host(&victim(), false);
        run(&mut world, 200);
        assert_ne!(leader(&world), old, "{}", world.log().join("\n"));
        assert_eq!(phase(&world), Some(Phase::Recovered), "{}", world.log().join("\n"));
        let next = leader(&world);
        world.cut_services(&old, false);
        run(&mut world, 200);
        assert_eq!(leader(&world), next, "who is fit again does not take leadership back");
    }
}

/// All voters lose Nova: nobody is fitter, so the leader stays, and waits; when Nova is back it goes on.
#[test]
fn a_leader_stays_and_waits_when_nobody_is_fitter() {
    for seed in 0..SEEDS {
        let mut world = world(seed);
        world.set_nova(true);
        // Long enough that every voter has noticed, and said so.
        run(&mut world, 180);
        let old = leader(&world);
        world.kill_host(&victim(), false);
        run(&mut world, 120);
        assert_eq!(leader(&world), old, "one leader: {}", world.log().join("\n"));
        assert!(world.fenced.is_empty(), "it holds its acts: {}", world.log().join("\n"));
        world.set_nova(false);
        run(&mut world, 120);
        assert_eq!(phase(&world), Some(Phase::Recovered), "{}", world.log().join("\n"));
    }
}

/// A cluster whose hosts live under their own watchdogs, and whose victim has a BMC that does not answer.
fn self_fencing(seed: u64) -> World {
    println!("seed {seed}");
    let policy = Policy { self_fence: true, ..Policy::default() };
    let mut world = World::build(&Plan { seed, policy, ..Plan::default() });
    run(&mut world, 40);
    world.host_mut(&victim()).expect("a host").bmc = Bmc::Silent;
    world
}

fn told(world: &World, what: &str) -> Option<f64> {
    let line = world.log().iter().find(|line| line.contains(what))?;
    line.split('s').next()?.parse().ok()
}

/// The victim hears the whole cluster, and is heard by nobody: traffic is not contact, and it must not go on feeding.
#[test]
fn a_host_that_hears_and_is_not_heard_resets_itself_before_it_is_taken_for_off() {
    for seed in 0..SEEDS {
        let mut world = self_fencing(seed);
        for host in world.host_names().iter().filter(|host| **host != victim()) {
            world.block(&victim(), host, None);
        }
        run(&mut world, 400);
        let story = world.log().join("\n");
        assert_eq!(phase(&world), Some(Phase::Recovered), "{story}");
        let reset = told(&world, "the watchdog of cmp-05 runs out").expect("it resets itself");
        let proven = told(&world, "cmp-05 fenced").expect("it is proven off");
        assert!(proven - reset >= 20.0, "reset at {reset}, proven at {proven}:\n{story}");
        assert!(world.fenced.is_empty(), "no device did it");
    }
}

/// A new leader does not know what the old one granted: it waits the whole time from its own election.
#[test]
fn a_new_leader_waits_the_whole_time_again() {
    for seed in 0..SEEDS {
        let mut world = self_fencing(seed);
        world.kill_host(&victim(), false);
        run(&mut world, 50);
        assert_ne!(phase(&world), Some(Phase::Fenced), "{}", world.log().join("\n"));
        let old = leader(&world);
        world.freeze(&old, true);
        run(&mut world, 25);
        world.freeze(&old, false);
        run(&mut world, 375);
        let story = world.log().join("\n");
        let proven = told(&world, "cmp-05 fenced").expect("it is proven off");
        let elected = told(&world, "leads term 2").expect("another leader");
        assert!(proven - elected >= 60.0, "elected after {elected}, proven at {proven}:\n{story}");
    }
}

/// Without the policy, or without a watchdog, silence proves nothing.
#[test]
fn without_a_watchdog_silence_is_no_proof() {
    let mut world = world(0);
    world.host_mut(&victim()).expect("a host").bmc = Bmc::Silent;
    world.kill_host(&victim(), false);
    run(&mut world, 400);
    assert_eq!(phase(&world), Some(Phase::Stuck), "{}", world.log().join("\n"));
}

/// Nobody is reset whose contact was never lost, and nobody for a change of leader.
#[test]
fn a_change_of_leader_resets_nobody() {
    for seed in 0..SEEDS {
        let mut world = self_fencing(seed);
        for _ in 0..3 {
            let old = leader(&world);
            world.restart_daemon(&old);
            run(&mut world, 40);
        }
        let resets = world.log().iter().filter(|line| line.contains("runs out")).count();
        assert_eq!(resets, 0, "{}", world.log().join("\n"));
    }
}

/// Meant to be fed, and never fed, as something else holds it: the ledger does not count on it.
#[test]
fn a_watchdog_that_never_began_proves_nothing() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let policy = Policy { self_fence: true, ..Policy::default() };
        let mut world = World::build(&Plan { seed, policy, ..Plan::default() });
        world.host_mut(&victim()).expect("a host").watchdog_held = true;
        run(&mut world, 40);
        let record = &world.raft.ledger().hosts[&victim()];
        assert!(record.watchdog.as_ref().is_some_and(|watchdog| watchdog.armed.is_some()), "it asked for leases");
        world.host_mut(&victim()).expect("a host").bmc = Bmc::Silent;
        world.kill_host(&victim(), false);
        run(&mut world, 400);
        assert_eq!(phase(&world), Some(Phase::Stuck), "{}", world.log().join("\n"));
        assert!(world.log().iter().any(|line| line.contains("was armed, and never said to run")), "it is said why");
    }
}

/// A daemon that is told to stop is let out from under its watchdog, and is not reset for its silence; nor is its silence proof.
#[test]
fn who_leaves_is_disarmed_once_the_ledger_does_not_count_on_it() {
    for seed in 0..SEEDS {
        let mut world = self_fencing(seed);
        world.leave_watchdog(&victim());
        run(&mut world, 5);
        let record = &world.raft.ledger().hosts[&victim()];
        assert!(record.watchdog.as_ref().is_some_and(|watchdog| watchdog.armed.is_none()), "it is withdrawn");
        world.stop_daemon(&victim());
        run(&mut world, 60);
        assert!(told(&world, "runs out").is_none(), "{}", world.log().join("\n"));
        world.kill_host(&victim(), false);
        run(&mut world, 400);
        assert_eq!(phase(&world), Some(Phase::Stuck), "{}", world.log().join("\n"));
    }
}

/// Who cannot have it withdrawn stays under it: it is not disarmed by a word of its own.
#[test]
fn who_cannot_be_let_out_is_reset() {
    for seed in 0..SEEDS {
        let mut world = self_fencing(seed);
        let others: Vec<HostName> = world.host_names().into_iter().filter(|host| *host != victim()).collect();
        world.partition(&[others, vec![victim()]], None, false);
        world.leave_watchdog(&victim());
        run(&mut world, 5);
        world.stop_daemon(&victim());
        run(&mut world, 60);
        assert!(told(&world, "the watchdog of cmp-05 runs out").is_some(), "{}", world.log().join("\n"));
    }
}

/// A daemon that dies just before its watchdog would run out has it fed once more by the kernel: counted in the bound, and not
/// fed again by the daemons that come after it without a lease.
#[test]
fn daemons_that_crash_while_cut_off_do_not_feed_it_on() {
    for seed in 0..SEEDS {
        let mut world = self_fencing(seed);
        let others: Vec<HostName> = world.host_names().into_iter().filter(|host| *host != victim()).collect();
        world.partition(&[others, vec![victim()]], None, false);
        let cut = world.now().as_micros() as f64 / 1e6;
        run(&mut world, 22);
        for _ in 0..12 {
            world.restart_daemon(&victim());
            run(&mut world, 3);
        }
        run(&mut world, 340);
        let story = world.log().join("\n");
        let reset = told(&world, "the watchdog of cmp-05 runs out").expect("it resets itself");
        assert!(reset - cut <= 40.0, "cut off at {cut}, reset at {reset}:\n{story}");
        assert_eq!(phase(&world), Some(Phase::Recovered), "{story}");
    }
}
