//! The daemon that leads dies in the middle of somebody else's incident, at ten points, and stays dead until it is over.

use std::time::Duration;

use serde_json::{Value, json};

use crate::relay::{Like, Side};
use crate::rig::{Death, RECOVERED_WITHIN, Rig, server};

/// What is held goes on so long after the leader's death: as late as its successor may already look.
const LATE: Duration = Duration::from_millis(1_500);

/// How slowly the BMC obeys, where the leader is to die meanwhile, in seconds.
const SLOW_BMC: &str = "3";

/// How long servers are built, where the leader is to die after that, in seconds.
const SLOW_SPAWN: &str = "6";

/// Servers to be evacuated.
const SERVERS: usize = 5;

/// Where the leader dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// A member suspects the host.
    Suspect,
    /// The verdict is in the ledger.
    Unclean,
    /// The BMC has its off order, and has not obeyed yet.
    OffOrdered,
    /// The proof is in the ledger; Nova has not heard yet.
    BeforeForceDown,
    /// Nova has forced it down; the leader does not know.
    ForceDownUnanswered,
    /// Nova has taken the first evacuate; the leader does not know.
    FirstEvacuate,
    /// The same of the third of five.
    Middle,
    /// The last of five is on its way to Nova.
    LastEvacuate,
    /// An unlock is on its way to Nova.
    Unlock,
    /// All servers run again; the leader does not know.
    Closing,
}

/// Each server runs once, by one evacuate call, as it was, unlocked; the host comes back.
pub(super) fn killed_at(rig: &Rig, at: At) {
    let (victim, _) = rig.victim();
    let plain = |number| {
        let mut plain = server(&format!("plain-{number}"), &victim, "active", json!([]));
        if at == At::Closing {
            plain["metadata"] = json!({ "test:spawn-seconds": SLOW_SPAWN });
        }
        plain
    };
    let mut servers: Vec<Value> = (1..SERVERS).map(plain).collect();
    servers.push(server("paused", &victim, "paused", json!([{ "pause": null }])));
    let mut ids = rig.prepared(&victim, &servers);
    let paused = ids.remove("paused").expect("a paused server");
    let active: Vec<String> = ids.into_values().collect();

    let slow = rig.cloud.directory().join("hosts").join(&victim).join("bmc/slow");
    let hold = hold(rig, at);
    if at == At::OffOrdered {
        std::fs::write(&slow, SLOW_BMC).expect("a knob");
    }
    let death = rig.kill(&victim);
    let hold = reach(rig, at, hold, &death, &[&active[..], std::slice::from_ref(&paused)].concat());
    let leader = rig.daemons.kill_leader();
    println!("    {leader} led, and is dead");
    if let Some(hold) = hold {
        std::thread::sleep(LATE);
        rig.relay.release(hold);
    }
    rig.recovered(&death);
    rig.assert_moved_once(&death, &active);
    assert_eq!(rig.evacuations(&paused, death.us), 1, "{paused}");
    let server = rig.cloud.server(&paused);
    assert_eq!((&server["vm_state"], &server["locked"]), (&json!("stopped"), &json!(false)), "{server}");
    assert_eq!(rig.cloud.running().get(&paused), None, "a paused server comes back stopped");
    if at == At::OffOrdered {
        std::fs::remove_file(&slow).expect("a knob");
    }
    rig.daemons.start_dead_witnesses();
    rig.back(&victim);
    rig.sweep();
}

/// What has to be held for the leader to be met there.
fn hold(rig: &Rig, at: At) -> Option<usize> {
    match at {
        // Before the evacuations begin, the migrations are read: they are held when all have begun.
        At::Suspect | At::Unclean | At::OffOrdered | At::Closing => None,
        At::BeforeForceDown => Some(rig.relay.hold(Side::Call, Like::SERVICE, 1)),
        At::ForceDownUnanswered => Some(rig.relay.hold(Side::Answer, Like::SERVICE, 1)),
        At::FirstEvacuate => Some(rig.relay.hold(Side::Answer, Like::EVACUATE, 1)),
        At::Middle => Some(rig.relay.hold(Side::Answer, Like::EVACUATE, 3)),
        At::LastEvacuate => Some(rig.relay.hold(Side::Call, Like::EVACUATE, SERVERS)),
        At::Unlock => Some(rig.relay.hold(Side::Call, Like::UNLOCK, 1)),
    }
}

/// Waits until the leader is there, and gives back what is held. The first phases may last but milliseconds: then it dies in
/// a later one.
fn reach(rig: &Rig, at: At, hold: Option<usize>, death: &Death, servers: &[String]) -> Option<usize> {
    let is_told = |what: &str, look: &dyn Fn() -> bool| {
        rig.daemons.wait(what, RECOVERED_WITHIN, || look().then_some(()));
    };
    match (at, hold) {
        (At::Suspect, _) => is_told("a suspicion", &|| {
            let status = rig.daemons.ask(&["status"]).unwrap_or_default();
            let line =
                status["hosts"].as_array().and_then(|all| all.iter().find(|line| line["host"] == death.host.as_str()));
            line.is_some_and(|line| line["state"] != "alive")
        }),
        (At::Unclean, _) => is_told("a verdict", &|| rig.daemons.phase(&death.host, death.after).is_some()),
        (At::OffOrdered, _) => is_told("an off order", &|| {
            let calls = rig.cloud.directory().join("hosts").join(&death.host).join("bmc/calls.log");
            let lines = std::fs::read_to_string(calls).unwrap_or_default();
            let since = |line: &&str| {
                let ns = line.split(' ').next().and_then(|ns| ns.parse::<i64>().ok());
                ns.is_some_and(|ns| ns / 1_000 >= death.us)
            };
            lines.lines().filter(since).any(|line| line.contains(" set "))
        }),
        (At::Closing, _) => return Some(reach_closing(rig, death, servers)),
        (_, Some(hold)) => rig.relay.wait_reached(hold, RECOVERED_WITHIN),
        (_, None) => {}
    }
    hold
}

/// Waits until all servers run elsewhere, of which the leader hears nothing.
fn reach_closing(rig: &Rig, death: &Death, servers: &[String]) -> usize {
    rig.cloud.wait("the last evacuate", RECOVERED_WITHIN, || {
        rig.relay.seen(Like::EVACUATE, death.us).iter().filter(|seen| seen.status.is_some()).count() == SERVERS
    });
    let hold = rig.relay.hold_all(Side::Answer, Like::MIGRATIONS);
    rig.cloud.wait("all servers to be moved", RECOVERED_WITHIN, || {
        let all = rig.cloud.servers();
        servers.iter().all(|id| {
            all.iter().any(|server| {
                server["id"] == id.as_str() && server["host"] != death.host.as_str() && server["task_state"].is_null()
            })
        })
    });
    hold
}
