//! Reserved hosts: what a scenario cannot time.

use std::time::Duration;

use rekindle_proto::id::HostName;
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::{Plan, PlannedSegment, World};

fn host(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("legal")
}

fn world(seed: u64) -> World {
    println!("seed {seed}");
    let segment = PlannedSegment {
        name: SegmentWord::new("rack").expect("legal"),
        recovery_method: RecoveryMethod::ReservedHost,
        hosts: (1..=4).map(host).collect(),
        reserved: vec![host(5), host(6)],
        room: None,
    };
    let plan = Plan { seed, hosts: 6, gates: true, weather: CALM, segments: vec![segment], ..Plan::default() };
    World::build(&plan)
}

fn run_until(world: &mut World, step: Duration, done: impl Fn(&World) -> bool) {
    for _ in 0..20_000 {
        if done(world) {
            return;
        }
        world.run_until(world.now() + step).expect("no promise is broken");
    }
    panic!("it did not come to that:\n{}", world.log().join("\n"));
}

fn taken(world: &World) -> Vec<HostName> {
    let incidents = world.ledger().incidents.values();
    incidents.flat_map(|incident| incident.reserve.taken.iter().map(|taken| taken.host.clone())).collect()
}

/// The leader dies in the very moment in which the ledger says that a reserved host is taken, before it is enabled: the next
/// one enables that host and takes no other.
#[test]
fn the_next_leader_goes_on_with_the_reserved_host_that_was_taken() {
    for seed in 0..6 {
        let mut world = world(seed);
        world.run_until(world.now() + Duration::from_secs(40)).expect("calm");
        world.kill_host(&host(4), false);
        run_until(&mut world, Duration::from_millis(1), |world| !taken(world).is_empty());
        assert_eq!(world.nova.disabled().count(), 2, "the ledger first, then Nova");
        let leader = world.leader().expect("somebody leads");
        world.crash_daemon(&leader);
        let is_over = |world: &World| {
            let mut incidents = world.ledger().incidents.values();
            incidents.any(|incident| incident.host == host(4) && incident.phase == Phase::Recovered)
        };
        run_until(&mut world, Duration::from_millis(100), is_over);
        assert_eq!(taken(&world), [host(5)], "{}", world.log().join("\n"));
        assert_eq!(world.nova.guests_on(&host(5)).len(), 3, "{}", world.log().join("\n"));
        assert_eq!(world.nova.disabled().collect::<Vec<_>>(), [&host(6)]);
        assert_eq!(world.nova.accepted.len(), 3, "one call a server");
    }
}
