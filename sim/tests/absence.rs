//! Hosts that go and come back: what is a failure, what is none, and what is done about it.

use std::time::Duration;

use rekindle_coordinator::ledger::{RebootPhase, STARTS_AT_ONCE};
use rekindle_proto::fact::StopReason;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::World;

fn world(seed: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, 5, 3, 3, CALM);
    run(&mut world, 40);
    world
}

fn victim() -> HostName {
    HostName::new("cmp-05").expect("legal")
}

fn run(world: &mut World, seconds: u64) {
    let until = world.now() + Duration::from_secs(seconds);
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", story(world)));
}

fn story(world: &World) -> String {
    world.log().join("\n")
}

/// Nothing was fenced, evacuated, or opened as a dead host.
fn nothing_was_done(world: &World) {
    assert!(world.fenced.is_empty(), "{}", story(world));
    assert!(world.nova.accepted.is_empty(), "{}", story(world));
    assert!(world.raft.ledger().incidents.is_empty(), "{}", story(world));
}

fn all_run_once(world: &World) -> bool {
    world.nova.servers().all(|server| world.nova.copies(server.id) == 1)
}

/// The panic=1 of red-team item 18: back in another boot before the verdict. No fence, no evacuation; what ran is started in
/// place; and by the word of the ledger, not of Nova, which has it that all run on.
#[test]
fn a_host_that_reboots_by_itself_gets_its_guests_back_in_place() {
    for seed in [1, 2, 3, 4] {
        let mut world = world(seed);
        world.kill_host(&victim(), false);
        run(&mut world, 1);
        world.boot_without_guests(&victim());
        run(&mut world, 120);
        assert!(world.fenced.is_empty() && world.nova.accepted.is_empty(), "{}", story(&world));
        let phases: Vec<RebootPhase> = world.raft.ledger().reboots.values().map(|reboot| reboot.phase).collect();
        assert_eq!(phases, [RebootPhase::Recovered], "{}", story(&world));
        assert!(all_run_once(&world), "{}", story(&world));
        assert!(world.nova.servers().filter(|server| server.host.as_ref() == Some(&victim())).count() == 3);
    }
}

/// More guests than are started at once; the leader is restarted while it is at it.
#[test]
fn another_leader_goes_on_starting_guests() {
    println!("seed 5");
    let mut world = World::new(5, 5, 3, 3 * STARTS_AT_ONCE, CALM);
    run(&mut world, 40);
    world.shut_down(&victim(), StopReason::Reboot);
    run(&mut world, 60);
    world.boot_without_guests(&victim());
    run(&mut world, 14);
    let leader = world.leader().expect("somebody leads");
    world.stop_daemon(&leader);
    run(&mut world, 5);
    world.start_again(&leader);
    run(&mut world, 200);
    nothing_was_done(&world);
    assert!(all_run_once(&world), "{}", story(&world));
    assert!(world.raft.ledger().open_reboots().next().is_none(), "{}", story(&world));
}

/// Told to reboot, and back in time: the wait is no failure, the reboot is one, and is mended in place.
#[test]
fn a_told_reboot_is_waited_for() {
    let mut world = world(6);
    world.shut_down(&victim(), StopReason::Reboot);
    run(&mut world, 9 * 60);
    nothing_was_done(&world);
    assert!(world.raft.ledger().absence(&victim()).is_some(), "committed, so that the next leader knows");
    world.boot_without_guests(&victim());
    run(&mut world, 120);
    nothing_was_done(&world);
    assert!(world.raft.ledger().absence(&victim()).is_none(), "taken back by its later life");
    assert!(all_run_once(&world), "{}", story(&world));
}

/// Told to reboot, and not back after ten minutes, under a leader that never heard the goodbye itself: an incident like any
/// other, with verdict and fence.
#[test]
fn a_told_reboot_that_does_not_end_is_a_failure() {
    let mut world = world(7);
    world.shut_down(&victim(), StopReason::Reboot);
    run(&mut world, 5 * 60);
    for host in world.host_names() {
        world.restart_daemon(&host);
        run(&mut world, 20);
    }
    nothing_was_done(&world);
    run(&mut world, 9 * 60);
    let phases: Vec<Phase> = world.raft.ledger().incidents.values().map(|incident| incident.phase).collect();
    assert_eq!(phases, [Phase::Recovered], "{}", story(&world));
    assert!(all_run_once(&world), "{}", story(&world));
}

/// Its daemon was stopped, its kernel was seen to answer, and then it died: when its kernel answers no more on any network it
/// is suspect like any other. A new leader, which never saw it answer, knows that from the ledger.
#[test]
fn a_death_behind_a_goodbye_is_a_failure() {
    for (seed, leader_goes) in [(8, false), (13, true)] {
        let mut world = world(seed);
        world.stop_daemon(&victim());
        run(&mut world, 600);
        nothing_was_done(&world);
        assert!(world.raft.ledger().absence(&victim()).is_some_and(|absence| absence.answered), "{}", story(&world));
        world.kill_host(&victim(), false);
        if leader_goes {
            let leader = world.leader().expect("somebody leads");
            world.restart_daemon(&leader);
        }
        run(&mut world, 180);
        let phases: Vec<Phase> = world.raft.ledger().incidents.values().map(|incident| incident.phase).collect();
        assert_eq!(phases, [Phase::Recovered], "{}", story(&world));
        assert_eq!(world.fenced.len(), 1, "{}", story(&world));
        assert!(all_run_once(&world), "{}", story(&world));
    }
}

/// Host and daemon went together, a moment after the goodbye: nobody ever saw its kernel, and a firewall may hide it. Nothing
/// is done, and that is an alarm. It is heard again in another boot: a reboot.
#[test]
fn a_death_behind_a_goodbye_that_nobody_saw_is_mended_when_it_is_back() {
    let mut world = world(8);
    world.stop_daemon(&victim());
    world.kill_host(&victim(), false);
    run(&mut world, 3_600);
    nothing_was_done(&world);
    world.boot_without_guests(&victim());
    run(&mut world, 120);
    nothing_was_done(&world);
    assert!(all_run_once(&world), "{}", story(&world));
}

/// Every daemon is restarted, one after the other, by the book: no incident, no fence, no reboot.
#[test]
fn a_rolling_restart_of_all_daemons_is_no_failure() {
    for (seed, pause) in [(9, 2), (10, 20), (11, 150)] {
        let mut world = world(seed);
        for host in world.host_names() {
            world.stop_daemon(&host);
            run(&mut world, pause);
            world.start_again(&host);
            run(&mut world, 15);
        }
        run(&mut world, 120);
        nothing_was_done(&world);
        assert!(world.raft.ledger().reboots.is_empty(), "{}", story(&world));
        assert!(world.raft.ledger().hosts.values().all(|host| host.absence.is_none()), "{}", story(&world));
        assert!(world.can_act());
    }
}

/// Twice in half an hour: the second time its guests are left to a person, with the reason.
#[test]
fn a_flapping_host_is_left_to_a_person() {
    let mut world = world(12);
    for _ in 0..2 {
        world.kill_host(&victim(), false);
        run(&mut world, 1);
        world.boot_without_guests(&victim());
        run(&mut world, 300);
        world.list_guests(&victim());
        run(&mut world, 5);
    }
    let ledger = world.raft.ledger();
    let phases: Vec<RebootPhase> = ledger.reboots.values().map(|reboot| reboot.phase).collect();
    assert_eq!(phases, [RebootPhase::Recovered, RebootPhase::Stuck], "{}", story(&world));
    let hold = ledger.flap_hold(&victim()).expect("quarantined");
    assert!(hold.as_str().contains("2 times within 30 minutes"), "{hold}");
    assert!(world.fenced.is_empty(), "{}", story(&world));
    // It is no brake: a flapping host that dies for good is recovered elsewhere.
    world.kill_host(&victim(), false);
    run(&mut world, 120);
    assert!(all_run_once(&world), "{}", story(&world));
}
