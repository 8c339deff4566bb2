//! A second target host: what a scenario cannot time.

use std::time::Duration;

use rekindle_coordinator::ledger::{Incident, ServerRecord};
use rekindle_coordinator::policy::Policy;
use rekindle_proto::fact::MigrationKind;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::world::{Plan, World};

fn host(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("legal")
}

/// Host 5 is dead, with one server; on host 1, which Nova's scheduler takes before all others, every rebuild fails.
fn world(seed: u64, evacuate_tries: u32) -> World {
    println!("seed {seed}");
    let policy = Policy { evacuate_tries, ..Policy::default() };
    let plan = Plan { seed, servers: 1, failing: vec![host(1)], policy, ..Plan::default() };
    let mut world = World::build(&plan);
    world.run_until(world.now() + Duration::from_secs(40)).expect("calm");
    world.kill_host(&host(5), false);
    world
}

fn run_until(world: &mut World, done: impl Fn(&World) -> bool) {
    for _ in 0..200_000 {
        if done(world) {
            return;
        }
        world.run_until(world.now() + Duration::from_millis(5)).expect("no promise is broken");
    }
    panic!("it did not come to that:\n{}", world.log().join("\n"));
}

fn incident(world: &World) -> Option<&Incident> {
    world.ledger().incidents.values().find(|incident| incident.host == host(5))
}

fn record(world: &World) -> Option<&ServerRecord> {
    incident(world)?.servers.values().next()
}

fn is_over(world: &World) -> bool {
    incident(world).is_some_and(|incident| incident.phase == Phase::Recovered)
}

/// Where Nova was told to build, or built, in this order.
fn destinations(world: &World) -> Vec<String> {
    let evacuations = world.nova.migrations().iter().filter(|record| record.kind == MigrationKind::Evacuation);
    evacuations.map(|record| record.dest.as_ref().map_or("nowhere".to_owned(), ToString::to_string)).collect()
}

/// The host that we name is full, and refused. That costs no try: with two of them, the third attempt is Nova's own choice,
/// and succeeds where the first had failed.
#[test]
fn a_named_host_that_is_refused_costs_no_try() {
    for seed in 0..6 {
        let mut world = world(seed, 2);
        (2..=4).for_each(|number| world.nova.set_room(&host(number), 1));
        run_until(&mut world, |world| record(world).is_some_and(|record| record.last_failure.is_some()));
        world.nova.set_failing(&host(1), false);
        run_until(&mut world, is_over);
        let story = world.log().join("\n");
        let went = destinations(&world);
        assert_eq!(went.len(), 3, "{went:?}\n{story}");
        assert_eq!((went[0].as_str(), went[2].as_str()), ("cmp-01", "cmp-01"), "{went:?}\n{story}");
        assert_ne!(went[1], "cmp-01", "{went:?}\n{story}");
        let record = record(&world).expect("its server");
        assert_eq!((record.attempts, record.attempts_excused), (3, 1), "{story}");
        assert!(!record.leg.no_host, "it was not the scheduler that chose\n{story}");
        assert_eq!(world.nova.guests_on(&host(1)).len(), 2, "{story}");
    }
}

/// Where no other host can be named, Nova's scheduler is asked again, as it was the first time.
#[test]
fn without_another_host_the_scheduler_is_asked_again() {
    let mut world = world(7, 3);
    for number in 2..=4 {
        let maintenance = rekindle_coordinator::ledger::OperatorCommand::Maintenance { host: host(number), on: true };
        world.order(&maintenance, "its disks are replaced");
    }
    run_until(&mut world, |world| record(world).is_some_and(|record| record.last_failure.is_some()));
    world.nova.set_failing(&host(1), false);
    (2..=4).for_each(|number| world.nova.set_room(&host(number), 1));
    run_until(&mut world, is_over);
    assert_eq!(destinations(&world), ["cmp-01", "cmp-01"], "{}", world.log().join("\n"));
}

/// What is committed is what Nova is asked for.
#[test]
fn the_call_names_the_host_that_is_in_the_ledger() {
    use rekindle_coordinator::ledger::Destination;
    for seed in 10..16 {
        let mut world = world(seed, 3);
        let open = |world: &World| record(world).and_then(|record| record.intent.clone()).map(|open| open.to);
        run_until(&mut world, |world| matches!(open(world), Some(Destination::Named(_))));
        let Some(Destination::Named(named)) = open(&world) else { panic!("just seen") };
        run_until(&mut world, is_over);
        assert_eq!(destinations(&world), ["cmp-01", named.as_str()], "{}", world.log().join("\n"));
        let story = &incident(&world).expect("recovered").story;
        let words = format!("attempt 2: to {named}, if Nova's scheduler lets it");
        assert!(story.iter().any(|line| line.text.as_str().ends_with(&words)), "{story:?}");
    }
}
