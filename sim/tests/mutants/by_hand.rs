//! Stories that no coordinator tells of itself: a leader that has lost its mind.

use std::time::Duration;

use rekindle_coordinator::ledger::{Fate, Incident, LeaderCommand, OperatorCommand};
use rekindle_coordinator::policy::Policy;
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::status::Phase;
use rekindle_sim::oracle::Violation;
use rekindle_sim::world::{Bmc, Plan, Weather, World};

/// Between two looks for a phase: short against every step of a recovery.
const STEP: Duration = Duration::from_millis(1);
/// Longer than any order's not-after, and the minute after it: then a host may be let back.
const OFF_SETTLED: Duration = Duration::from_secs(120);

/// A leader that has lost its mind gives an evacuation up and, when the host was let back, says that a server of it runs.
///
/// # Errors
/// The broken promise.
pub(crate) fn written_into_a_closed_incident(seed: u64) -> Result<(), Violation> {
    let mut world = World::new(seed, 5, 3, 3, Weather::CALM);
    let host = HostName::new("cmp-05").expect("legal");
    pass(&mut world, Duration::from_secs(30))?;
    world.kill_host(&host, false);
    let (incident, server) = evacuating(&mut world, &host)?;
    world.misled(LeaderCommand::Stick { incident, why: "it seems hopeless".into() });
    pass(&mut world, OFF_SETTLED)?;
    world.order(&OperatorCommand::Release { host: host.clone() }, "it was looked at");
    pass(&mut world, Duration::from_secs(2))?;
    let known = &world.ledger().incidents[&incident];
    assert_eq!(known.phase, Phase::Refuted, "seed {seed}: released\n{}", world.log().join("\n"));
    let to = HostName::new("cmp-01").expect("legal");
    world.misled(LeaderCommand::Settle { incident, server, fate: Fate::Recovered { to } });
    pass(&mut world, Duration::from_secs(2))
}

/// A host asks for its first lease, and never begins to feed, as something else holds its watchdog. Then it is cut off.
///
/// # Errors
/// The broken promise.
pub(crate) fn armed_and_never_fed(seed: u64) -> Result<(), Violation> {
    let policy = Policy { self_fence: true, ..Policy::default() };
    let mut world = World::build(&Plan { seed, policy, ..Plan::default() });
    let host = HostName::new("cmp-05").expect("legal");
    world.host_mut(&host).expect("a host").watchdog_held = true;
    pass(&mut world, Duration::from_secs(30))?;
    world.host_mut(&host).expect("a host").bmc = Bmc::Silent;
    let others: Vec<HostName> = world.host_names().into_iter().filter(|other| *other != host).collect();
    world.partition(&[others, vec![host]], None, false);
    pass(&mut world, Duration::from_secs(300))
}

fn evacuating(world: &mut World, host: &HostName) -> Result<(IncidentId, ServerId), Violation> {
    let until = world.now() + Duration::from_secs(60);
    while world.now() < until {
        pass(world, STEP)?;
        let is_ready = |incident: &&Incident| incident.phase == Phase::Evacuating;
        if let Some(incident) = world.ledger().open_incident(host).filter(is_ready) {
            let server = incident.servers.keys().next().copied().expect("it had servers");
            return Ok((incident.id, server));
        }
    }
    panic!("{host} is not evacuated within a minute:\n{}", world.log().join("\n"))
}

fn pass(world: &mut World, time: Duration) -> Result<(), Violation> {
    let until: Moment = world.now() + time;
    world.run_until(until)
}
