//! A nova-compute that is down for good on a host that lives: its service is disabled, and enabled again; whatever happens to
//! leaders, hosts and people meanwhile.

use std::time::Duration;

use rekindle_coordinator::ledger::{OperatorCommand, ProcessIncident};
use rekindle_coordinator::order::ServiceChange;
use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::world::{Plan, World};

/// Short against every step.
const STEP: Duration = Duration::from_millis(1);
/// Two restarts, five and ten seconds later, and the verdict five after that.
const DOWN_AFTER: Duration = Duration::from_secs(40);
/// It stays, and what an earlier leader has sent is over.
const BACK_AFTER: Duration = Duration::from_secs(240);

fn world(seed: u64) -> (World, HostName) {
    let plan = Plan { seed, hosts: 6, voters: 5, servers: 3, gates: true, ..Plan::default() };
    let mut world = World::build(&plan);
    run(&mut world, Duration::from_secs(40));
    (world, HostName::new("cmp-06").expect("legal"))
}

fn run(world: &mut World, time: Duration) {
    let until = world.now() + time;
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}\n{}", world.log().join("\n")));
}

fn until(world: &mut World, what: &str, is: impl Fn(&World) -> bool) {
    let end = world.now() + Duration::from_secs(120);
    while !is(world) {
        assert!(world.now() < end, "{what}: never\n{}", world.log().join("\n"));
        run(world, STEP);
    }
}

fn last<'a>(world: &'a World, host: &HostName) -> Option<&'a ProcessIncident> {
    world.ledger().processes.values().rev().find(|incident| incident.host == *host)
}

fn counter(world: &World, what: &'static str) -> u64 {
    world.counters().get(what).copied().unwrap_or(0)
}

fn reason(world: &World, host: &HostName) -> Option<Text> {
    world.nova.disabled_reason(host).cloned()
}

fn is_disabled_by_us(world: &World, host: &HostName) -> bool {
    reason(world, host)
        .is_some_and(|why| why.as_str().starts_with("rekindle: nova-compute is down for good on cmp-06 ("))
}

/// Nothing is left disabled by us that nobody will enable.
fn judge(world: &World, host: &HostName, what: &str) {
    let open = world.ledger().open_process(host);
    let story = world.log().join("\n");
    assert_eq!(is_disabled_by_us(world, host), open.is_some_and(|open| open.disabled), "{what}: {open:?}\n{story}");
    world.judge_liveness().unwrap_or_else(|broken| panic!("{what}: {broken}\n{story}"));
}

#[test]
fn it_is_started_again_then_its_service_is_disabled_and_enabled_when_it_is_back() {
    let (mut world, host) = world(1);
    world.fail_process(&host);
    run(&mut world, DOWN_AFTER);
    assert_eq!(counter(&world, "processes started again"), 2);
    assert!(is_disabled_by_us(&world, &host), "{}", world.log().join("\n"));
    let open = last(&world, &host).expect("one");
    assert_eq!(reason(&world, &host), Some(open.reason()));
    assert!(world.fenced.is_empty());
    // Nova's answer is later than its act: a dead compute is asked.
    run(&mut world, Duration::from_secs(60));
    assert!(last(&world, &host).expect("one").disabled, "{}", world.log().join("\n"));
    world.mend_process(&host);
    run(&mut world, Duration::from_secs(30));
    assert!(is_disabled_by_us(&world, &host), "it has yet to stay");
    run(&mut world, BACK_AFTER);
    assert_eq!(reason(&world, &host), None, "{}", world.log().join("\n"));
    let incident = last(&world, &host).expect("one");
    assert_eq!((incident.phase, incident.turns.len()), (Phase::Recovered, 2));
    assert_eq!(counter(&world, "services set"), 2, "disabled once, enabled once");
    judge(&world, &host, "at the end");
}

#[test]
fn a_service_that_a_person_disabled_stays_so() {
    let (mut world, host) = world(2);
    let by_hand = ServiceChange::Disable { reason: "new memory, anna".into() };
    world.set_service_by_hand(&host, &by_hand);
    world.fail_process(&host);
    run(&mut world, DOWN_AFTER + BACK_AFTER);
    world.mend_process(&host);
    run(&mut world, BACK_AFTER);
    assert_eq!(reason(&world, &host), Some("new memory, anna".into()));
    assert!(world.ledger().processes.is_empty(), "nothing was ours");
    // And one that a person disables while it is disabled by us.
    world.set_service_by_hand(&host, &ServiceChange::Enable);
    world.fail_process(&host);
    run(&mut world, DOWN_AFTER + Duration::from_secs(60));
    assert!(is_disabled_by_us(&world, &host), "{}", world.log().join("\n"));
    world.set_service_by_hand(&host, &by_hand);
    world.mend_process(&host);
    run(&mut world, BACK_AFTER);
    assert_eq!(reason(&world, &host), Some("new memory, anna".into()), "{}", world.log().join("\n"));
    assert_eq!(last(&world, &host).expect("one").phase, Phase::Refuted);
    judge(&world, &host, "at the end");
}

#[test]
fn a_new_leader_finishes_every_step() {
    type Is = fn(&World, &HostName) -> bool;
    let points: [(&str, Is); 5] = [
        ("intended", |world, host| last(world, host).is_some()),
        ("disabled in Nova", is_disabled_by_us),
        ("known to be disabled", |world, host| last(world, host).is_some_and(|open| open.disabled)),
        ("well again", |world, host| world.ledger().process_word(host).is_some_and(|word| word.is_well())),
        ("enabled in Nova", |world, host| last(world, host).is_some() && reason(world, host).is_none()),
    ];
    for (number, (what, is)) in points.into_iter().enumerate() {
        for delay_ms in [0, 8, 60, 200] {
            let (mut world, host) = world(10 + number as u64);
            let what = format!("{what}, and {delay_ms} ms");
            world.fail_process(&host);
            if number >= 3 {
                run(&mut world, DOWN_AFTER + Duration::from_secs(60));
                assert!(last(&world, &host).is_some_and(|open| open.disabled), "{what}");
                world.mend_process(&host);
            }
            until(&mut world, &what, |world| is(world, &host));
            run(&mut world, Duration::from_millis(delay_ms));
            let leader = world.leader().expect("somebody leads");
            world.restart_daemon(&leader);
            run(&mut world, Duration::from_secs(100));
            if number < 3 {
                assert!(is_disabled_by_us(&world, &host), "{what}\n{}", world.log().join("\n"));
                world.mend_process(&host);
            }
            run(&mut world, BACK_AFTER);
            assert_eq!(reason(&world, &host), None, "{what}\n{}", world.log().join("\n"));
            assert_eq!(last(&world, &host).expect("one").phase, Phase::Recovered, "{what}");
            judge(&world, &host, &what);
        }
    }
}

/// A host that dies is recovered whatever its processes did before; and nothing is said to Nova about a dead host's service
/// but that it is forced down.
#[test]
fn a_process_failure_hides_no_host_failure() {
    for (number, after_ms) in [0_u64, 20, 100, 1_000, 40_000].into_iter().enumerate() {
        let (mut world, host) = world(30 + number as u64);
        let what = format!("dead {after_ms} ms after its service was disabled");
        world.fail_process(&host);
        until(&mut world, &what, |world| is_disabled_by_us(world, &host));
        run(&mut world, Duration::from_millis(after_ms));
        world.kill_host(&host, false);
        run(&mut world, Duration::from_secs(400));
        let incident = world.ledger().incidents.values().find(|incident| incident.host == host);
        let phase = incident.map(|incident| incident.phase);
        assert_eq!(phase, Some(Phase::Recovered), "{what}\n{}", world.log().join("\n"));
        assert_eq!(counter(&world, "services set on dead hosts"), 0, "{what}\n{}", world.log().join("\n"));
        // It comes back: its service was disabled by us, not by a person.
        world.press_power(&host);
        run(&mut world, Duration::from_secs(600));
        assert_eq!(reason(&world, &host), None, "{what}\n{}", world.log().join("\n"));
        assert_eq!(last(&world, &host).expect("one").phase, Phase::Recovered, "{what}");
        judge(&world, &host, &what);
    }
}

/// A host that dies while its process is being started again, or at any moment of the verdict.
#[test]
fn a_dead_host_is_never_asked() {
    for after_s in (5_u64..36).step_by(3) {
        let (mut world, host) = world(40 + after_s);
        world.fail_process(&host);
        run(&mut world, Duration::from_secs(after_s));
        let set = counter(&world, "services set");
        world.kill_host(&host, false);
        run(&mut world, Duration::from_secs(400));
        let dead = counter(&world, "services set on dead hosts");
        // Whoever is dead for less than a roll call lasts cannot be told from the living.
        assert!(dead <= 1 && set + dead <= 1, "{after_s}: {dead}\n{}", world.log().join("\n"));
        let incident = world.ledger().incidents.values().find(|incident| incident.host == host);
        assert_eq!(incident.map(|it| it.phase), Some(Phase::Recovered), "{after_s}\n{}", world.log().join("\n"));
    }
}

#[test]
fn brakes_hold_here_too() {
    let (mut world, host) = world(50);
    world.order(&OperatorCommand::Arm(false), "a drill");
    run(&mut world, Duration::from_secs(1));
    world.fail_process(&host);
    run(&mut world, DOWN_AFTER + Duration::from_secs(100));
    assert_eq!(reason(&world, &host), None);
    assert!(world.ledger().processes.is_empty());
    world.order(&OperatorCommand::Arm(true), "the drill is over");
    run(&mut world, Duration::from_secs(100));
    assert!(is_disabled_by_us(&world, &host), "{}", world.log().join("\n"));
}
