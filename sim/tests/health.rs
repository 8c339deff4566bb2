//! The leader's own health, and the proof by a host's own watchdog: who leads when a leader is cut from what it needs.

use std::time::Duration;

use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::World;

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
    world.raft.leader().cloned().expect("somebody leads")
}

fn phase(world: &World) -> Option<Phase> {
    world.raft.ledger().incidents.values().find(|incident| incident.host == victim()).map(|incident| incident.phase)
}

fn cut_from_nova(world: &mut World, host: &HostName, cut: bool) {
    world.tell(format!("{host} {} Nova", if cut { "loses" } else { "reaches" }));
    world.host_mut(host).expect("a host").nova_cut = cut;
}

/// The leader alone loses Nova, and a host dies: another voter takes over, and the recovery is done by it.
#[test]
fn leadership_moves_from_a_leader_that_loses_nova() {
    for seed in 0..SEEDS {
        let mut world = world(seed);
        let old = leader(&world);
        cut_from_nova(&mut world, &old, true);
        world.kill_host(&victim(), false);
        run(&mut world, 200);
        assert_ne!(leader(&world), old, "{}", world.log().join("\n"));
        assert_eq!(phase(&world), Some(Phase::Recovered), "{}", world.log().join("\n"));
        let terms = world.raft.term();
        cut_from_nova(&mut world, &old, false);
        run(&mut world, 200);
        assert_eq!(world.raft.term(), terms, "who is fit again does not take leadership back");
    }
}

/// All voters lose Nova: nobody is fitter, so the leader stays, and waits; when Nova is back it goes on.
#[test]
fn a_leader_stays_and_waits_when_nobody_is_fitter() {
    for seed in 0..SEEDS {
        let mut world = world(seed);
        let (old, term) = (leader(&world), world.raft.term());
        world.nova_down = true;
        // Long enough that every voter has noticed, and said so.
        run(&mut world, 180);
        let led_before = leader(&world);
        world.kill_host(&victim(), false);
        run(&mut world, 120);
        assert_eq!(leader(&world), led_before, "one leader: {}", world.log().join("\n"));
        assert!(world.raft.term().0 <= term.0 + 2, "no running to and fro from {old}: {}", world.log().join("\n"));
        assert!(world.fenced.is_empty(), "it holds its acts: {}", world.log().join("\n"));
        world.nova_down = false;
        run(&mut world, 120);
        assert_eq!(phase(&world), Some(Phase::Recovered), "{}", world.log().join("\n"));
    }
}
