//! Reserved hosts: what a scenario cannot time.

use std::time::Duration;

use rekindle_coordinator::ledger::JoinState;
use rekindle_coordinator::order::AggregateChange;
use rekindle_coordinator::policy::Policy;
use rekindle_proto::id::HostName;
use rekindle_proto::segment::{RecoveryMethod, SegmentWord};
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::{Dress, Plan, PlannedAggregate, PlannedSegment, World};

fn host(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("legal")
}

fn plan(seed: u64) -> Plan {
    let segment = PlannedSegment {
        name: SegmentWord::new("rack").expect("legal"),
        recovery_method: RecoveryMethod::ReservedHost,
        hosts: (1..=4).map(host).collect(),
        reserved: vec![host(5), host(6)],
        room: None,
    };
    Plan { seed, hosts: 6, gates: true, weather: CALM, segments: vec![segment], ..Plan::default() }
}

fn world(seed: u64) -> World {
    println!("seed {seed}");
    World::build(&plan(seed))
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
        run_until(&mut world, Duration::from_millis(100), is_over);
        assert_eq!(taken(&world), [host(5)], "{}", world.log().join("\n"));
        assert_eq!(world.nova.guests_on(&host(5)).len(), 3, "{}", world.log().join("\n"));
        assert_eq!(world.nova.disabled().collect::<Vec<_>>(), [&host(6)]);
        assert_eq!(world.nova.accepted.len(), 3, "one call a server");
    }
}

const RED: &str = "tenant-red";

/// The dead host, cmp-04, is in an aggregate that its servers are bound to, and in one in which an operator has put the reserved
/// host by hand; a third has nothing to do with it. With one server, which is broken, nothing comes to the reserved host.
fn joining(seed: u64, broken: bool) -> World {
    println!("seed {seed}");
    let aggregate = |name: &str, hosts: Vec<HostName>| PlannedAggregate { name: name.to_owned(), hosts, zone: None };
    let dress = Dress { name: "vm-3-*".to_owned(), aggregate: Some(RED.to_owned()), broken, ..Dress::default() };
    let plan = Plan {
        aggregates: vec![
            aggregate(RED, vec![host(4)]),
            aggregate("by-hand", vec![host(4), host(5)]),
            aggregate("blue", vec![host(1)]),
        ],
        dresses: vec![dress],
        servers: if broken { 1 } else { 3 },
        policy: Policy { add_reserved_host_to_aggregate: true, ..Policy::default() },
        ..plan(seed)
    };
    let mut world = World::build(&plan);
    world.run_until(world.now() + Duration::from_secs(40)).expect("calm");
    world.kill_host(&host(4), false);
    world
}

fn memberships(world: &World) -> Vec<(String, JoinState)> {
    let incidents = world.ledger().incidents.values();
    let taken = incidents.flat_map(|incident| incident.reserve.taken.iter());
    let joins = taken.flat_map(|taken| taken.joins.memberships.iter());
    joins.map(|membership| (membership.name.to_string(), membership.state.clone())).collect()
}

fn red_is(world: &World, state: &JoinState) -> bool {
    memberships(world).iter().any(|(name, of)| name == RED && of == state)
}

fn is_red(world: &World) -> bool {
    world.nova.members(RED).contains(&host(5))
}

fn is_over(world: &World) -> bool {
    let mut incidents = world.ledger().incidents.values();
    incidents.any(|incident| incident.host == host(4) && incident.phase == Phase::Recovered)
}

type Point = (&'static str, fn(&World) -> bool);

/// The leader dies at each step of joining: the membership is written down before Nova is asked, the next leader ends what was
/// begun, and the servers that run nowhere else arrive.
#[test]
fn the_next_leader_goes_on_with_the_aggregates_that_were_written_down() {
    let points: [Point; 4] = [
        ("taken", |world| !taken(world).is_empty()),
        ("written down", |world| red_is(world, &JoinState::Intended)),
        ("asked", is_red),
        ("known to be in it", |world| red_is(world, &JoinState::Joined)),
    ];
    for (number, (what, is)) in points.into_iter().enumerate() {
        let mut world = joining(number as u64, false);
        run_until(&mut world, Duration::from_millis(1), |world| {
            assert!(!is_red(world) || !memberships(world).is_empty(), "the ledger first, then Nova");
            is(world)
        });
        assert_eq!(is_red(&world), number > 1, "{what}");
        let leader = world.leader().expect("somebody leads");
        world.crash_daemon(&leader);
        run_until(&mut world, Duration::from_millis(100), is_over);
        let story = world.log().join("\n");
        assert_eq!(memberships(&world), [(RED.to_owned(), JoinState::Joined)], "{what}\n{story}");
        assert_eq!(world.nova.members(RED), [host(4), host(5)], "{what}");
        assert_eq!(world.nova.members("blue"), [host(1)], "{what}");
        assert_eq!(world.nova.guests_on(&host(5)).len(), 3, "{what}\n{story}");
        assert_eq!(taken(&world), [host(5)], "{what}");
    }
}

/// Nothing comes to the reserved host: it leaves what it joined, before it is disabled, and stays where an operator has put it. The
/// leader dies at each step of that, too.
#[test]
fn a_host_that_goes_back_leaves_what_it_joined_and_nothing_else() {
    let points: [Point; 5] = [
        ("nobody dies", is_over),
        ("written down", |world| red_is(world, &JoinState::Intended)),
        ("left in Nova", |world| red_is(world, &JoinState::Joined) && !is_red(world)),
        ("known to have left", |world| red_is(world, &JoinState::Left)),
        ("disabled", |world| red_is(world, &JoinState::Left) && world.nova.disabled().count() == 2),
    ];
    for (number, (what, is)) in points.into_iter().enumerate() {
        let mut world = joining(10 + number as u64, true);
        run_until(&mut world, Duration::from_millis(5), |world| {
            let why = world.nova.disabled_reason(&host(5));
            let is_given_back = why.is_some_and(|why| why.as_str().contains("not needed"));
            assert!(!(is_given_back && is_red(world)), "{what}: first out of it, then disabled");
            is(world)
        });
        if number > 0 {
            let leader = world.leader().expect("somebody leads");
            world.crash_daemon(&leader);
        }
        run_until(&mut world, Duration::from_millis(100), is_over);
        let story = world.log().join("\n");
        assert_eq!(memberships(&world), [(RED.to_owned(), JoinState::Left)], "{what}\n{story}");
        assert_eq!(world.nova.members(RED), [host(4)], "{what}: what was ours\n{story}");
        assert_eq!(world.nova.members("by-hand"), [host(4), host(5)], "{what}: an operator's own\n{story}");
        assert_eq!(world.nova.disabled().collect::<Vec<_>>(), [&host(5), &host(6)], "{what}");
    }
}

/// An operator adds the reserved host by hand in the very moment between our look and our call. It is theirs then, and stays.
#[test]
fn what_an_operator_adds_meanwhile_is_not_taken_out() {
    let mut world = joining(20, true);
    run_until(&mut world, Duration::from_millis(1), |world| red_is(world, &JoinState::Intended));
    assert!(!is_red(&world));
    let red = world.nova.aggregate(RED).expect("there");
    world.nova.set_membership(red, &host(5), AggregateChange::Join).expect("joins");
    run_until(&mut world, Duration::from_millis(100), is_over);
    let story = world.log().join("\n");
    assert_eq!(memberships(&world), [(RED.to_owned(), JoinState::NotOurs)], "{story}");
    assert_eq!(world.nova.members(RED), [host(4), host(5)], "{story}");
}

/// The aggregate is deleted while Nova is being asked to add the host: the recovery goes on without it.
#[test]
fn a_deleted_aggregate_holds_nothing() {
    let mut world = joining(21, true);
    run_until(&mut world, Duration::from_millis(1), |world| red_is(world, &JoinState::Intended));
    let red = world.nova.aggregate(RED).expect("there");
    world.nova.delete_aggregate(red);
    run_until(&mut world, Duration::from_millis(100), is_over);
    let told =
        world.log().iter().filter(|line| line.contains("warning: reserved host does not join aggregate")).count();
    assert_eq!(told, 1, "{}", world.log().join("\n"));
    assert!(matches!(&memberships(&world)[..], [(_, JoinState::Refused(_))]), "{:?}", memberships(&world));
}
