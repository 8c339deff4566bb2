//! Changes of voters: a dead voter's place is taken, and whatever happens in the middle of that, what was agreed stays
//! agreed, no term has two leaders, and somebody leads in the end.

use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::id::HostName;
use rekindle_sim::world::{Disk, Plan, World};

const MILLI: Duration = Duration::from_millis(1);
/// Moments of a change at which something befalls, in milliseconds after both sets of voters began to vote.
const MOMENTS: [u64; 7] = [0, 1, 2, 3, 5, 8, 20];

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

/// Seven hosts, some voters, some standbys; slow disks make the steps of a change last.
fn world(seed: u64, voters: usize, standbys: usize, slow: bool) -> World {
    let mut world = World::build(&Plan { seed, hosts: 7, voters, standbys, servers: 1, ..Plan::default() });
    if slow {
        for keeper in world.host_names() {
            world.set_disk(&keeper, Disk::Slow(8));
        }
    }
    world
}

fn run(world: &mut World, time: Duration) {
    let until = world.now() + time;
    if let Err(broken) = world.run_until(until) {
        panic!("{broken}\n{}", world.log().join("\n"));
    }
}

/// Runs on until something is so.
fn until(world: &mut World, within: Duration, what: &str, is_so: impl Fn(&World) -> bool) {
    let end = world.now() + within;
    while !is_so(world) {
        assert!(world.now() < end, "{what} within {within:?}:\n{}", world.log().join("\n"));
        run(world, MILLI);
    }
}

fn follower(world: &World) -> HostName {
    let leader = world.leader();
    let lives = |voter: &HostName| Some(voter) != leader.as_ref() && !world.is_dead(voter);
    world.voters().into_iter().find(lives).expect("another voter")
}

/// A voter dies, and its replacement is in the middle: both sets vote.
fn in_the_middle(seed: u64, voters: usize) -> (World, HostName) {
    let mut world = world(seed, voters, 1, true);
    run(&mut world, Duration::from_secs(60));
    let dead = follower(&world);
    world.kill_host(&dead, false);
    until(&mut world, Duration::from_secs(120), "a change of voters", World::is_between_voters);
    (world, dead)
}

/// The dead voter votes no more, as many others do, and the cluster goes on.
fn settles(world: &mut World, voters: usize, dead: &HostName) {
    let replaced =
        |world: &World| world.voters().len() == voters && !world.voters().contains(dead) && !world.is_between_voters();
    until(world, Duration::from_secs(900), "the replacement", replaced);
    run(world, Duration::from_secs(60));
    let agreed = world.raft.len();
    let last = host("cmp-07");
    world.kill_host(&last, false);
    run(world, Duration::from_secs(240));
    assert!(world.raft.len() > agreed, "nothing is agreed any more:\n{}", world.log().join("\n"));
    let ended = world.ledger().incidents.values().any(|incident| incident.host == last && !incident.is_open());
    assert!(ended || world.ledger().open_incident(&last).is_some(), "{last} is forgotten:\n{}", world.log().join("\n"));
}

#[test]
fn a_dead_voter_is_replaced_and_another_may_die() {
    for seed in 0..6 {
        let mut world = world(seed, 3, 1, false);
        run(&mut world, Duration::from_secs(60));
        let dead = follower(&world);
        world.kill_host(&dead, false);
        let replaced = |world: &World| world.voters().len() == 3 && !world.voters().contains(&dead);
        until(&mut world, Duration::from_secs(60), "the replacement of a fenced voter", replaced);
        run(&mut world, Duration::from_secs(60));
        let second = world.leader().expect("somebody leads");
        world.kill_host(&second, false);
        until(&mut world, Duration::from_secs(30), "another leader", |world| {
            world.leader().is_some_and(|leader| leader != second)
        });
        let over = |world: &World| world.ledger().open_incidents().count() == 0 && world.ledger().incidents.len() == 2;
        until(&mut world, Duration::from_secs(120), "the end of both incidents", over);
    }
}

#[test]
fn without_a_standby_the_second_death_is_the_end() {
    let mut world = world(1, 3, 0, false);
    run(&mut world, Duration::from_secs(60));
    for _ in 0..2 {
        let dead = follower(&world);
        world.kill_host(&dead, false);
        run(&mut world, Duration::from_secs(60));
    }
    assert!(!world.can_agree(), "this is what the standby is for");
}

/// Of five voters two are gone then: with three, nobody could agree, before or after.
#[test]
fn a_leader_dies_in_the_middle_of_a_change() {
    for (seed, after) in (0..).zip(MOMENTS) {
        let (mut world, dead) = in_the_middle(seed, 5);
        run(&mut world, MILLI * u32::try_from(after).expect("short"));
        let leader = world.leader().expect("it was in the middle");
        world.kill_host(&leader, false);
        settles(&mut world, 5, &dead);
    }
}

/// The ledger only mirrors who votes. A leader that dies between the change and its mirror leaves voters there that are
/// gone, and whoever follows must not wait for their word: another dies with it, so that of the five in the ledger only
/// two are left, and of the five that vote three (seed 520706).
#[test]
fn a_leader_dies_before_the_ledger_mirrors_a_change() {
    for seed in 0..4 {
        let (mut world, dead) = in_the_middle(seed, 5);
        let agreed = |world: &World| world.log().iter().rfind(|line| line.contains("agreed: ")).cloned();
        let is_final = |world: &World| agreed(world).is_some_and(|line| line.ends_with(" vote"));
        until(&mut world, Duration::from_secs(10), "the end of the change", is_final);
        assert!(world.ledger().voters.voters.contains_key(&dead), "seed {seed}: mirrored already");
        let (leader, second) = (world.leader().expect("it has changed the voters"), follower(&world));
        world.kill_host(&second, false);
        world.kill_host(&leader, false);
        let known = |world: &World| world.ledger().incidents.values().any(|incident| incident.host == leader);
        until(&mut world, Duration::from_secs(240), "an incident of the leader", known);
    }
}

#[test]
fn a_leader_restarts_or_is_deposed_in_the_middle_of_a_change() {
    for (seed, after) in (10..).zip(MOMENTS) {
        let (mut world, dead) = in_the_middle(seed, 3);
        run(&mut world, MILLI * u32::try_from(after).expect("short"));
        if seed % 2 == 0 {
            let leader = world.leader().expect("it was in the middle");
            world.restart_daemon(&leader);
        } else {
            world.depose();
        }
        settles(&mut world, 3, &dead);
    }
}

/// The leader is alone on its side, or with the standby that was to come.
#[test]
fn a_partition_in_the_middle_of_a_change() {
    for (seed, after) in (20..).zip(MOMENTS) {
        let (mut world, dead) = in_the_middle(seed, 3);
        run(&mut world, MILLI * u32::try_from(after).expect("short"));
        let leader = world.leader().expect("it was in the middle");
        let mut side = vec![leader];
        if seed % 2 == 0 {
            side.push(host("cmp-04"));
        }
        let others = world.host_names().into_iter().filter(|host| !side.contains(host)).collect();
        world.partition(&[side, others], None, false);
        run(&mut world, Duration::from_secs(40));
        world.mend_network();
        settles(&mut world, 3, &dead);
    }
}

/// Its own new store takes the seat of the one that was lost, after the minute that makes it dead.
#[test]
fn a_voter_whose_disk_was_lost_votes_again_with_a_new_store() {
    for seed in 0..6 {
        let mut world = world(seed, 3, 0, false);
        run(&mut world, Duration::from_secs(60));
        let lost = if seed % 2 == 0 { follower(&world) } else { world.leader().expect("somebody leads") };
        world.lose_disk(&lost);
        let before = world.now();
        let told = |world: &World| world.log().iter().any(|line| line.contains("(store 2)") && line.ends_with(" vote"));
        until(&mut world, Duration::from_secs(120), "its return", told);
        assert!(world.now().since(before) >= Duration::from_secs(55), "not before it is dead");
        run(&mut world, Duration::from_secs(5));
        assert!(world.voters().contains(&lost) && world.voters().len() == 3);
        // Now it counts: another may be lost.
        let other = world.voters().into_iter().find(|voter| *voter != lost).expect("three voters");
        world.kill_host(&other, false);
        run(&mut world, Duration::from_secs(60));
        assert!(world.can_agree(), "seed {seed}:\n{}", world.log().join("\n"));
        let incident = world.ledger().incidents.values().find(|incident| incident.host == other);
        assert!(incident.is_some_and(|incident| !incident.is_open()), "seed {seed}:\n{}", world.log().join("\n"));
    }
}

#[test]
fn nobody_is_told_of_voters_where_nothing_can_change() {
    let mut world = World::new(1, 5, 3, 1, rekindle_sim::world::Weather::CALM);
    world.run_until(Moment::ZERO + Duration::from_secs(120)).expect("no promise is broken");
    assert!(world.ledger().voters.voters.is_empty(), "stories of before there were standbys stay what they were");
}

/// What the ledger refuses for ten minutes is not asked of it each second.
#[test]
fn a_second_replacement_waits_without_a_word() {
    let mut world = world(3, 5, 2, false);
    run(&mut world, Duration::from_secs(60));
    let mut dead = Vec::new();
    for _ in 0..2 {
        dead.push(follower(&world));
        world.kill_host(&dead[dead.len() - 1], false);
        run(&mut world, Duration::from_secs(120));
    }
    let votes = |world: &World| world.voters().into_iter().filter(|voter| dead.contains(voter)).count();
    assert_eq!(votes(&world), 1, "one was replaced, the other waits");
    let refused = |world: &World| world.counters().get("refused entries").copied().unwrap_or(0);
    let (before, agreed) = (refused(&world), world.raft.len());
    run(&mut world, Duration::from_secs(240));
    assert!(refused(&world) - before <= 10, "{} refusals in four minutes", refused(&world) - before);
    println!("{} entries in four minutes", world.raft.len() - agreed);
    until(&mut world, Duration::from_secs(400), "the second replacement", |world| votes(world) == 0);
}
