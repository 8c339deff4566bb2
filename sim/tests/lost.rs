//! A start that waited in the queue of a fenced host runs when it returns: the guest it starts has long been running
//! elsewhere. Such a copy is destroyed; one that was moved back is not.

use std::time::Duration;

use rekindle_proto::id::{HostName, ServerId};
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::World;

/// A host that was fenced and recovered, and that somebody has powered on since; one of its servers.
fn returned(seed: u64) -> (World, HostName, ServerId) {
    let mut world = World::new(seed, 5, 3, 3, CALM);
    let host = HostName::new("cmp-05").expect("legal");
    run(&mut world, 40);
    let server = world.nova.guests_on(&host)[0];
    world.kill_host(&host, false);
    run(&mut world, 60);
    let incident = world.raft.ledger().incidents.values().next().expect("an incident").clone();
    assert_eq!(incident.phase, Phase::Recovered, "{}", world.log().join("\n"));
    world.press_power(&host);
    run(&mut world, 120);
    assert!(world.log().iter().any(|line| line.ends_with("cmp-05 has booted")), "{}", world.log().join("\n"));
    (world, host, server)
}

fn run(world: &mut World, seconds: u64) {
    let until = world.now() + Duration::from_secs(seconds);
    world.run_until(until).expect("no promise is broken");
}

/// Runs on although a promise is broken, which is the point; until it is mended, or for a minute.
fn run_broken(world: &mut World, server: ServerId) {
    let until = world.now() + Duration::from_secs(60);
    while world.nova.copies(server) > 1 && world.now() < until {
        let _ = world.run_until(until);
    }
}

#[test]
fn a_copy_of_what_a_host_lost_is_destroyed() {
    for seed in 0..8 {
        let (mut world, host, server) = returned(seed);
        world.nova.copy_starts(server, &host);
        world.relist(&host);
        run_broken(&mut world, server);
        assert_eq!(world.nova.copies(server), 1, "seed {seed}:\n{}", world.log().join("\n"));
        assert!(!world.nova.guests_on(&host).contains(&server), "seed {seed}: the copy that stays is Nova's");
    }
}

#[test]
fn a_server_that_was_moved_back_is_left_alone() {
    for seed in 0..8 {
        let (mut world, host, server) = returned(seed);
        world.nova.moved(server, &host);
        world.relist(&host);
        run(&mut world, 400);
        assert!(world.nova.guests_on(&host).contains(&server), "seed {seed}:\n{}", world.log().join("\n"));
    }
}
