//! The leader dies between any two steps of what is done to a server's state; the next one finishes it.

use std::time::Duration;

use rekindle_coordinator::ledger::{ActEnd, Fate, LeaderCommand, OperatorCommand};
use rekindle_coordinator::ledger::{Incident, RestoreCommand, ServerAct, ServerRecord};
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::status::Phase;
use rekindle_sim::nova::Stops;
use rekindle_sim::world::{Plan, World};

/// Short against every step.
const STEP: Duration = Duration::from_millis(1);
/// A recovery, and a settling time for each act that nobody knows of.
const ENOUGH: Duration = Duration::from_secs(900);

const ACTS: [ServerAct; 6] =
    [ServerAct::Lock, ServerAct::Reset, ServerAct::Mark, ServerAct::Stop, ServerAct::Start, ServerAct::Unlock];

fn world(seed: u64) -> (World, HostName) {
    let plan = Plan { seed, hosts: 6, voters: 5, servers: 20, odd_servers: 100, ..Plan::default() };
    let mut world = World::build(&plan);
    // Either is old: so all acts are seen in every seed.
    world.nova.stops = if seed.is_multiple_of(2) { Stops::OldApi } else { Stops::OldCompute };
    let host = HostName::new("cmp-06").expect("legal");
    run(&mut world, Duration::from_secs(40));
    world.kill_host(&host, false);
    (world, host)
}

fn run(world: &mut World, time: Duration) {
    let until = world.now() + time;
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}\n{}", world.log().join("\n")));
}

/// Runs until a server of the host's incident is as asked for.
fn until(world: &mut World, host: &HostName, is: impl Fn(&ServerRecord) -> bool) -> bool {
    let end = world.now() + Duration::from_secs(120);
    while world.now() < end {
        run(world, STEP);
        let incident = world.ledger().incidents.values().find(|incident| incident.host == *host);
        if incident.is_some_and(|incident| incident.servers.values().any(&is)) {
            return true;
        }
    }
    false
}

fn judge(world: &World, what: &str) {
    world.judge_liveness().unwrap_or_else(|broken| panic!("{what}: {broken}\n{}", world.log().join("\n")));
    assert!(world.ledger().locks.is_empty(), "{what}: {:?}", world.ledger().locks);
}

#[test]
fn a_new_leader_finishes_every_step() {
    for act in ACTS {
        for delay_ms in [0, 8, 60, 200] {
            let what = format!("{act:?}, {delay_ms} ms after its intent");
            let is_open = |record: &ServerRecord| record.restore.act.is_some_and(|open| open.act == act);
            // Not in every seed is there a server of each kind on the host.
            let mut worlds = (delay_ms + 1..delay_ms + 9).map(world);
            let found = worlds.find_map(|(mut world, host)| until(&mut world, &host, is_open).then_some((world, host)));
            let (mut world, host) = found.unwrap_or_else(|| panic!("{what}: never intended"));
            run(&mut world, Duration::from_millis(delay_ms));
            let leader = world.leader().expect("somebody leads");
            world.restart_daemon(&leader);
            run(&mut world, ENOUGH);
            judge(&world, &what);
            let incident = world.ledger().incidents.values().find(|incident| incident.host == host).expect("one");
            assert_eq!(incident.phase, Phase::Recovered, "{what}\n{}", world.log().join("\n"));
            for (server, record) in &incident.servers {
                let is_back = matches!(record.fate, Some(Fate::Recovered { .. }));
                let was_built = record.vm_state.as_str() != "building";
                let fate = &record.fate;
                assert_eq!(is_back, was_built, "{what}: {server}: {fate:?}\n{}", world.log().join("\n"));
            }
        }
    }
}

/// Stuck in the middle, and released by a person: what we locked is unlocked all the same.
#[test]
fn a_lock_outlives_neither_a_stuck_incident_nor_a_released_one() {
    let (mut world, host) = world(3);
    assert!(until(&mut world, &host, |record| record.restore.locked_by_us && record.restore.reset));
    let id = world.ledger().open_incident(&host).expect("open").id;
    world.misled(LeaderCommand::Stick { incident: id, why: "a person is called".into() });
    run(&mut world, Duration::from_millis(50));
    assert!(!world.ledger().locks.is_empty(), "the point of it: {}", world.log().join("\n"));
    run(&mut world, Duration::from_secs(400));
    let stuck: &Incident = &world.ledger().incidents[&id];
    assert_eq!(stuck.phase, Phase::Stuck);
    judge_locks(&world);
    world.order(&OperatorCommand::Release { host }, "it was looked at");
    run(&mut world, Duration::from_secs(60));
    judge_locks(&world);
}

fn judge_locks(world: &World) {
    assert!(world.ledger().locks.is_empty(), "{:?}\n{}", world.ledger().locks, world.log().join("\n"));
    for server in world.nova.servers() {
        let reason = server.standing.lock_reason.as_ref().map_or("", |reason| reason.as_str());
        assert!(!reason.starts_with("rekindle"), "{} is locked by us: {}", server.id, world.log().join("\n"));
    }
}

/// What a leader that has lost its mind may not write.
#[test]
fn the_ledger_refuses_what_is_not_due() {
    let (mut world, host) = world(4);
    assert!(until(&mut world, &host, |record| record.intent.is_some() && record.restore.act.is_none()));
    let incident = world.ledger().open_incident(&host).expect("open").clone();
    let (server, record) = incident.servers.iter().find(|(_, record)| record.intent.is_some()).expect("one");
    let before = world.ledger().incidents[&incident.id].servers[server].restore.clone();
    let intent = |act, number| intend(incident.id, *server, act, number);
    for command in [
        intent(ServerAct::Stop, record.restore.acts + 1),
        intent(ServerAct::Reset, record.restore.acts + 1),
        intent(ServerAct::Unlock, record.restore.acts + 2),
        RestoreCommand::Close { incident: incident.id, server: *server, number: 99, end: ActEnd::Done },
    ] {
        world.misled(LeaderCommand::Restore(command));
        run(&mut world, Duration::from_millis(20));
        let now = &world.ledger().incidents[&incident.id].servers[server];
        if now.intent.is_some() {
            assert_eq!(now.restore, before, "{}", world.log().join("\n"));
        }
    }
}

fn intend(incident: IncidentId, server: ServerId, act: ServerAct, number: u32) -> RestoreCommand {
    RestoreCommand::Intent { incident, server, act, number, author: rekindle_proto::id::LeadershipId(1) }
}
