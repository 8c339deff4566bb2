//! How fast a recovery goes, and what it asks of Nova, in virtual time.

use std::time::Duration;

use rekindle_coordinator::ledger::Incident;
use rekindle_coordinator::policy::Policy;
use rekindle_coordinator::recovery::{AT_ONCE_START, UNANSWERED_MAX, UNCLAIMED_MAX};
use rekindle_coordinator::time::Moment;
use rekindle_proto::admin::AdminRequest;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::nova::{Bears, Peaks};
use rekindle_sim::world::{Plan, World};

/// Short against every step.
const STEP: Duration = Duration::from_millis(5);

/// Issue 4: from the verdict to the first evacuate call, the roll call and both reads of a proof included …
const VERDICT_TO_CALL: Duration = Duration::from_millis(2_500);
/// … and from the committed proof.
const PROOF_TO_CALL: Duration = Duration::from_millis(500);

fn victim() -> HostName {
    HostName::new("cmp-08").expect("legal")
}

fn world(seed: u64, servers: usize) -> World {
    world_by(Policy::default(), seed, servers)
}

fn world_by(policy: Policy, seed: u64, servers: usize) -> World {
    println!("seed {seed}");
    let mut world = World::build(&Plan { seed, hosts: 8, voters: 5, servers, policy, ..Plan::default() });
    run(&mut world, Duration::from_secs(40));
    world
}

fn run(world: &mut World, time: Duration) {
    let until = world.now() + time;
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}\n{}", world.log().join("\n")));
}

fn incident(world: &World) -> Option<&Incident> {
    world.ledger().incidents.values().find(|incident| incident.host == victim())
}

/// Runs until it is so; when that was.
fn until(world: &mut World, what: &str, is: impl Fn(&World) -> bool) -> Moment {
    let end = world.now() + Duration::from_secs(1_200);
    while world.now() < end {
        if is(world) {
            return world.now();
        }
        run(world, STEP);
    }
    panic!("{what}: never\n{}", world.log().join("\n"));
}

fn is_recovered(world: &World) -> bool {
    incident(world).is_some_and(|incident| incident.phase == Phase::Recovered)
}

#[test]
fn the_first_evacuate_call_follows_the_verdict_and_the_proof_in_time() {
    for seed in 1..=4 {
        let mut world = world(seed, 20);
        world.kill_host(&victim(), false);
        let verdict = until(&mut world, "the verdict", |world| incident(world).is_some());
        let proof = until(&mut world, "the proof", |world| incident(world).is_some_and(|it| it.proof.is_some()));
        let call = until(&mut world, "an evacuation", |world| !world.nova.accepted.is_empty());
        println!("verdict to proof {:?}, proof to call {:?}", proof.since(verdict), call.since(proof));
        assert!(call.since(proof) <= PROOF_TO_CALL, "{:?}\n{}", call.since(proof), world.log().join("\n"));
        assert!(call.since(verdict) <= VERDICT_TO_CALL, "{:?}\n{}", call.since(verdict), world.log().join("\n"));
    }
}

/// A list of hundreds of servers is asked for while power is still being read, takes longer than that, and is waited for: to
/// ask for it again after the proof would take its whole time once more.
#[test]
fn a_long_list_that_was_asked_for_ahead_is_waited_for() {
    const LIST: Duration = Duration::from_millis(1_300);
    for seed in 1..=4 {
        let mut world = world(seed, 20);
        world.nova.lists_in = Some(LIST);
        world.kill_host(&victim(), false);
        let proof = until(&mut world, "the proof", |world| incident(world).is_some_and(|it| it.proof.is_some()));
        let call = until(&mut world, "an evacuation", |world| !world.nova.accepted.is_empty());
        println!("proof to call {:?}", call.since(proof));
        assert!(call.since(proof) <= PROOF_TO_CALL, "{:?}\n{}", call.since(proof), world.log().join("\n"));
        until(&mut world, "the recovery", is_recovered);
    }
}

/// A Nova that bears twelve evacuations at once: the pace grows beyond its start, meets the bound, and settles below it
/// instead of beating against it.
#[test]
fn the_pace_finds_what_nova_bears() {
    for (seed, most, each_ms) in [(1, 12, 5), (2, 12, 5), (3, 4, 5), (4, 1_000, 5), (5, 1_000, 200)] {
        let mut world = world(seed, 60);
        world.nova.bears = Some(Bears { most, each: Duration::from_millis(each_ms) });
        world.kill_host(&victim(), false);
        until(&mut world, "the recovery", is_recovered);
        let (peak, refused) = (world.nova.peaks.under_way, world.nova.refused);
        println!("Nova bears {most}, {each_ms} ms each: peak {peak}, {refused} refused");
        let what = format!("seed {seed}: bears {most}, {each_ms} ms each: peak {peak}, {refused} refused");
        match (most, each_ms) {
            (12, _) => assert!(peak > AT_ONCE_START && (1..=30).contains(&refused), "{what}"),
            (4, _) => assert!(refused <= 30, "{what}"),
            (_, 200) => assert!(peak <= 3 * AT_ONCE_START, "{what}"),
            (_, _) => assert!(peak >= 2 * AT_ONCE_START && refused == 0, "{what}"),
        }
        world.judge_liveness().unwrap_or_else(|broken| panic!("{what}: {broken}\n{}", world.log().join("\n")));
    }
}

/// Calls that are sent together, before the first of them has claimed anything, are scheduled to one host; and what is sent
/// beyond the workers of Nova's API waits in our own queue there. The bounds of both are used, and kept: by a Nova that is slow
/// to answer the one, by one that is fast the other.
#[test]
fn few_calls_wait_for_their_answer_and_few_for_their_claim() {
    for (seed, each_ms) in [(1, 40), (2, 40), (3, 0), (4, 0)] {
        let mut world = world(seed, 60);
        world.nova.bears = Some(Bears { most: 1_000, each: Duration::from_millis(each_ms) });
        world.kill_host(&victim(), false);
        until(&mut world, "the recovery", is_recovered);
        let Peaks { under_way, unclaimed, calls } = world.nova.peaks;
        let what = format!(
            "seed {seed}, {each_ms} ms each: {under_way} under way, {unclaimed} unclaimed, {calls} unanswered at their most"
        );
        println!("{what}");
        assert!(calls <= UNANSWERED_MAX && unclaimed <= UNCLAIMED_MAX, "{what}");
        let is_used = if each_ms > 0 { calls == UNANSWERED_MAX } else { unclaimed == UNCLAIMED_MAX };
        assert!(is_used && under_way > UNCLAIMED_MAX, "{what}");
    }
}

/// The leader's daemon dies in the middle: the next one goes on at the pace the ledger shows, within the bound.
#[test]
fn a_new_leader_goes_on_at_the_pace() {
    let mut world = world(6, 60);
    world.kill_host(&victim(), false);
    let settled = |world: &World| {
        incident(world).map_or(0, |it| it.servers.values().filter(|record| record.fate.is_some()).count())
    };
    until(&mut world, "half of it", |world| settled(world) >= 20);
    let leader = world.leader().expect("somebody leads");
    world.restart_daemon(&leader);
    let open = incident(&world).expect("open").servers.values().filter(|record| record.intent.is_some()).count();
    assert!(open > AT_ONCE_START, "the point of it: {open} under way");
    until(&mut world, "the recovery", is_recovered);
    world.judge_liveness().unwrap_or_else(|broken| panic!("{broken}\n{}", world.log().join("\n")));
}

/// Readings of capacity that have begun, and those that were stopped.
fn readings(world: &World) -> (u64, u64) {
    let counters = world.counters();
    let count = |what| counters.get(what).copied().unwrap_or(0);
    (count("capacity readings"), count("capacity readings stopped"))
}

/// Hundreds of calls, which recovery would have to share Nova with: they end at the suspicion, and none begin before its end.
#[test]
fn capacity_is_not_read_while_a_host_is_silent_or_recovered() {
    // So often that one is under way whenever the host dies, and another is due many times while it is recovered.
    let policy = Policy { capacity_every: Some(Duration::from_secs(2)), ..Policy::default() };
    let mut world = world_by(policy, 7, 60);
    until(&mut world, "a reading", |world| readings(world).0 > 0);
    let (begun, stopped) = readings(&world);
    assert_eq!(stopped, 0, "nobody was silent");
    world.kill_host(&victim(), false);
    until(&mut world, "the end of what was under way", |world| readings(world).1 > 0);
    assert!(incident(&world).is_none(), "it is not waited for a verdict\n{}", world.log().join("\n"));
    let (silent, at_silence) = (world.now(), readings(&world).0);
    assert!(at_silence <= begun + 2, "before it was suspect");
    let recovered = until(&mut world, "the recovery", is_recovered);
    assert!(recovered.since(silent) > Duration::from_secs(8), "too soon for another to have been due");
    assert_eq!(readings(&world).0, at_silence, "begun while a host was recovered");
    until(&mut world, "the next reading", |world| readings(world).0 > at_silence);
}

/// An operator who asks waits for it, and may want to know just then.
#[test]
fn a_reading_that_an_operator_waits_for_is_not_stopped() {
    let policy = Policy { capacity_every: Some(Duration::from_secs(300)), ..Policy::default() };
    let mut world = world_by(policy, 8, 20);
    until(&mut world, "a reading", |world| readings(world).0 > 0);
    let leader = world.leader().expect("somebody leads");
    let answer = world.inquire(&leader, AdminRequest::Capacity { lose: 1, host: None });
    assert!(answer.is_none(), "the reading was over: {answer:?}");
    world.kill_host(&victim(), false);
    until(&mut world, "the recovery", is_recovered);
    assert_eq!(readings(&world), (1, 0));
}
