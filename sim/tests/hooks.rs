//! The hooks at the end of an incident are owed by the ledger: a leader that dies when it has closed one leaves them to the
//! next, which runs each once.

use std::time::Duration;

use rekindle_coordinator::hook::HookRule;
use rekindle_coordinator::policy::Policy;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::world::{Plan, World};

/// Short against every step.
const STEP: Duration = Duration::from_millis(1);

fn hook(on: HookPoint) -> HookRule {
    HookRule { on, program: format!("/site/{on}"), timeout: Duration::from_secs(4), hold: false }
}

fn run(world: &mut World, time: Duration) {
    let until = world.now() + time;
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}\n{}", world.log().join("\n")));
}

#[test]
fn a_leader_that_dies_when_it_has_closed_an_incident_leaves_its_hooks_to_the_next() {
    // Whether the begin was committed before the leader died differs; it is run once, or said to be unknown.
    for delay_ms in [0_u64, 1, 2, 3, 5, 8, 20, 100] {
        let what = format!("{delay_ms} ms after the incident was closed");
        let hooks = vec![hook(HookPoint::Recovered)];
        let policy = Policy { hooks, ..Policy::default() };
        let plan = Plan { seed: 70 + delay_ms, hosts: 6, voters: 5, servers: 2, policy, ..Plan::default() };
        let mut world = World::build(&plan);
        run(&mut world, Duration::from_secs(40));
        let host = HostName::new("cmp-06").expect("legal");
        world.kill_host(&host, false);
        let incident = |world: &World| world.ledger().incidents.values().find(|it| it.host == host).cloned();
        let end = world.now() + Duration::from_secs(300);
        while incident(&world).is_none_or(|it| it.phase != Phase::Recovered) {
            assert!(world.now() < end, "never recovered\n{}", world.log().join("\n"));
            run(&mut world, STEP);
        }
        run(&mut world, Duration::from_millis(delay_ms));
        let leader = world.leader().expect("somebody leads");
        world.restart_daemon(&leader);
        run(&mut world, Duration::from_secs(60));
        let closed = incident(&world).expect("one");
        let ended = closed.hooks.iter().filter(|record| record.on == HookPoint::Recovered && record.end.is_some());
        assert_eq!(ended.count(), 1, "{what}: {:?}\n{}", closed.hooks, world.log().join("\n"));
        assert!(!closed.owes_hooks, "{what}: what was run is owed no more");
    }
}
