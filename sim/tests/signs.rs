//! A dead agent is not a dead host, and one lost network is not a dead host.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_coordinator::paths::{PathAction, PathRule};
use rekindle_coordinator::policy::{OnAgentDeath, Policy};
use rekindle_proto::id::{HostName, PathName};
use rekindle_proto::status::Phase;
use rekindle_sim::world::{Bmc, Plan, World};

fn host(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("legal")
}

fn victim() -> HostName {
    host(5)
}

/// A cluster that has run for 30 s.
fn formed(plan: Plan) -> World {
    println!("seed {}", plan.seed);
    let mut world = World::build(&plan);
    run(&mut world, 30);
    world
}

fn run(world: &mut World, seconds: u64) {
    let until = world.now() + Duration::from_secs(seconds);
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", story(world)));
}

fn story(world: &World) -> String {
    world.log().join("\n")
}

fn phase(world: &World) -> Option<Phase> {
    let incidents = &world.ledger().incidents;
    incidents.values().rfind(|incident| incident.host == victim()).map(|incident| incident.phase)
}

fn assert_nobody_fenced(world: &World) {
    assert!(world.fenced.is_empty(), "{}", story(world));
}

fn agent_death(on_agent_death: OnAgentDeath) -> Plan {
    Plan { policy: Policy { on_agent_death, ..Policy::default() }, ..Plan::default() }
}

fn two_paths(rules: Vec<PathRule>) -> Plan {
    let mut policy = Policy::default();
    policy.paths.rules = rules;
    Plan { paths: 2, policy, ..Plan::default() }
}

fn storage_recovers() -> Vec<PathRule> {
    let storage = PathName::new("storage").expect("legal");
    vec![PathRule { down: BTreeSet::from([storage]), up: BTreeSet::new(), action: PathAction::Recover }]
}

/// Killed, and its restart blocked, on a host that lives: half an hour of alarm, whatever the policy. Then the host dies too.
#[test]
fn a_killed_agent_on_a_living_host_fences_nobody() {
    for policy in [OnAgentDeath::Alarm, OnAgentDeath::Fence] {
        let mut world = formed(agent_death(policy));
        world.crash_daemon(&victim());
        run(&mut world, 1_800);
        assert_nobody_fenced(&world);
        assert_eq!(phase(&world), None, "{}", story(&world));
        assert!(story(&world).contains("agent down, host alive"), "{}", story(&world));
        world.kill_host(&victim(), false);
        run(&mut world, 240);
        assert_eq!(phase(&world), Some(Phase::Recovered), "{}", story(&world));
    }
}

/// A daemon that is stopped (`SIGSTOP`) holds its port: no kernel refuses it. Userland still speaks.
#[test]
fn a_stopped_agent_on_a_living_host_fences_nobody() {
    let mut world = formed(Plan::default());
    world.freeze(&victim(), true);
    run(&mut world, 1_800);
    assert_nobody_fenced(&world);
    world.freeze(&victim(), false);
    run(&mut world, 60);
    assert_eq!(phase(&world), None, "{}", story(&world));
}

/// A kernel alone speaks for three minutes; then a person is called, or the host is fenced, as configured.
#[test]
fn a_kernel_whose_processes_hang_lapses() {
    for (policy, ends) in [(OnAgentDeath::Alarm, Phase::Stuck), (OnAgentDeath::Fence, Phase::Recovered)] {
        let mut world = formed(agent_death(policy));
        world.hang(&victim(), true);
        run(&mut world, 170);
        assert_nobody_fenced(&world);
        assert_eq!(phase(&world), None, "{}", story(&world));
        run(&mut world, 300);
        assert_eq!(phase(&world), Some(ends), "{policy:?}: {}", story(&world));
        assert_eq!(world.fenced.is_empty(), ends == Phase::Stuck, "{}", story(&world));
    }
}

/// Stuck is never an end: the daemon comes back, or the kernel dies as well.
#[test]
fn what_is_stuck_for_its_signs_is_looked_at_again() {
    for dies in [true, false] {
        let mut world = formed(Plan::default());
        world.hang(&victim(), true);
        run(&mut world, 470);
        assert_eq!(phase(&world), Some(Phase::Stuck), "{}", story(&world));
        if dies {
            world.kill_host(&victim(), false);
        } else {
            world.hang(&victim(), false);
            world.start_again(&victim());
        }
        run(&mut world, 240);
        let ends = if dies { Phase::Recovered } else { Phase::Refuted };
        assert_eq!(phase(&world), Some(ends), "{}", story(&world));
        assert_eq!(world.fenced.is_empty(), !dies, "{}", story(&world));
    }
}

/// Where something answered for a host that is proven off, no kernel's answer is believed any more: hosts that die there are
/// not taken for living ones.
#[test]
fn a_firewall_that_answers_for_the_dead_is_found_out() {
    let mut world = formed(Plan { hosts: 8, ..Plan::default() });
    world.kill_host(&host(8), false);
    let is_fencing = |world: &World| world.ledger().open_incidents().any(|incident| incident.phase == Phase::Fencing);
    for _ in 0..1_000 {
        if is_fencing(&world) {
            break;
        }
        let until = world.now() + Duration::from_millis(20);
        world.run_until(until).expect("no promise is broken");
    }
    world.answer_for_the_dead(true);
    run(&mut world, 240);
    assert!(story(&world).contains("something on its network answers for it"), "{}", story(&world));
    world.kill_host(&victim(), false);
    run(&mut world, 120);
    assert_eq!(phase(&world), Some(Phase::Recovered), "{}", story(&world));
}

/// Something lives there and its BMC reads off: one of them is not about this machine.
#[test]
fn life_and_a_device_that_reads_off_contradict_each_other() {
    let mut world = formed(Plan::default());
    world.set_bmc(&victim(), Bmc::SaysOff);
    world.crash_daemon(&victim());
    run(&mut world, 120);
    assert_eq!(phase(&world), Some(Phase::Stuck), "{}", story(&world));
    assert!(story(&world).contains("contradiction"), "{}", story(&world));
    assert_nobody_fenced(&world);
}

/// Storage fails for all, management carries: nobody is fenced, not even where the matrix lets storage suffice.
#[test]
fn a_storage_network_that_fails_for_all_fences_nobody() {
    for rules in [Vec::new(), storage_recovers()] {
        let mut world = formed(two_paths(rules));
        for host in world.host_names() {
            world.cut_path(&host, 1, true);
        }
        run(&mut world, 900);
        assert_nobody_fenced(&world);
        assert!(world.ledger().incidents.is_empty(), "{}", story(&world));
    }
}

/// One host loses one network. By default that is an alarm; the host dies later all the same.
#[test]
fn one_lost_path_is_an_alarm() {
    for path in [0, 1] {
        let mut world = formed(two_paths(Vec::new()));
        world.cut_path(&victim(), path, true);
        run(&mut world, 900);
        assert_nobody_fenced(&world);
        assert!(world.ledger().incidents.is_empty(), "path {path}: {}", story(&world));
        assert!(!story(&world).contains("suspect"), "path {path}: it is not even suspect: {}", story(&world));
        world.kill_host(&victim(), false);
        run(&mut world, 120);
        assert_eq!(phase(&world), Some(Phase::Recovered), "path {path}: {}", story(&world));
    }
}

/// Nothing gets from the others to one host, or from one host to the others, on one path: the other path carries.
#[test]
fn one_way_cuts_fence_nobody() {
    for inward in [true, false] {
        for path in [Some(0), Some(1)] {
            let mut world = formed(two_paths(Vec::new()));
            for other in world.host_names().into_iter().filter(|other| *other != victim()) {
                let (from, to) = if inward { (&other, &victim()) } else { (&victim(), &other) };
                world.block(from, to, path);
            }
            run(&mut world, 600);
            assert_nobody_fenced(&world);
            assert!(world.ledger().incidents.is_empty(), "inward {inward} {path:?}: {}", story(&world));
        }
    }
}

/// The matrix lets storage suffice, and the host itself says that it is lost there: it is fenced and its servers move.
#[test]
fn the_matrix_lets_storage_suffice_with_the_hosts_own_word() {
    let mut world = formed(two_paths(storage_recovers()));
    world.cut_path(&victim(), 1, true);
    run(&mut world, 180);
    assert_eq!(phase(&world), Some(Phase::Recovered), "{}", story(&world));
    assert_eq!(world.fenced.len(), 1);
}

/// The same, and two hosts still hear each other there: neither is lost by its own word, whatever the others find.
#[test]
fn without_the_hosts_own_word_one_path_never_suffices() {
    let mut world = formed(two_paths(storage_recovers()));
    world.partition(&[(1..=3).map(host).collect(), vec![host(4), host(5)]], Some(1), false);
    run(&mut world, 600);
    assert_nobody_fenced(&world);
    assert!(story(&world).contains("suspect: no answer to a probe on storage"), "{}", story(&world));
}

/// It gets its network back before it is fenced: it says so, and nothing happens.
#[test]
fn a_path_that_comes_back_fences_nobody() {
    let mut world = formed(two_paths(storage_recovers()));
    world.cut_path(&victim(), 1, true);
    run(&mut world, 3);
    world.cut_path(&victim(), 1, false);
    run(&mut world, 300);
    assert_nobody_fenced(&world);
}
