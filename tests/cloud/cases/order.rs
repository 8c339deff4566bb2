//! Groups of priority: the less urgent are moved at once, and run in their turn.

use std::collections::BTreeMap;

use serde_json::json;

use crate::relay::Like;
use crate::rig::{Death, RECOVERED_WITHIN, Rig, server};

/// So long the most urgent server is being built: everything else arrives before it.
const SLOW: &str = "10";

/// The first version of nova-compute that can leave a server stopped where it arrives is 62 (Antelope).
const TOO_OLD: &str = "61";

/// Nobody is started before all that are more urgent run; each is moved by one call, and what was left stopped where it
/// arrived is started by one. (Its guest has run there for a moment: Nova builds it running, and stops it then.)
pub(super) fn servers_run_in_their_order(rig: &Rig) {
    let (victim, _) = rig.victim();
    let (death, ids) = dies_in_order(rig, &victim, true);
    rig.assert_moved_once(&death, &ids.values().cloned().collect::<Vec<_>>());
    let starts = rig.relay.seen(Like::START, death.us);
    for (name, id) in &ids {
        let calls = starts.iter().filter(|call| call.path.contains(id.as_str())).count();
        assert_eq!(calls, usize::from(name != "first"), "start calls for {name}: {starts:?}");
    }
    rig.back(&victim);
    rig.sweep();
}

/// One compute is too old to leave a server stopped where it arrives: the less urgent wait on the dead host.
pub(super) fn servers_wait_for_their_turn_with_an_old_compute(rig: &Rig) {
    let (victim, others) = rig.victim();
    let was = rig.cloud.run(&["compute-version", &others[0], TOO_OLD])["was"].to_string();
    let (death, ids) = dies_in_order(rig, &victim, false);
    rig.assert_active_elsewhere(&death, &ids.values().cloned().collect::<Vec<_>>());
    assert!(rig.relay.seen(Like::START, death.us).is_empty(), "started what was not left stopped");
    rig.cloud.run(&["compute-version", &others[0], &was]);
    // It has seen itself as an old one, and reports no more.
    rig.cloud.host("restart-compute", &others[0]);
    rig.cloud.wait("the compute that was old", RECOVERED_WITHIN, || {
        rig.cloud.run(&["service", &others[0]])["state"] == "up"
    });
    rig.back(&victim);
    rig.sweep();
}

/// Servers of three priorities die with their host and are recovered, looked at all the time.
fn dies_in_order(rig: &Rig, victim: &str, moved_at_once: bool) -> (Death, BTreeMap<String, String>) {
    let with = |name: &str, metadata| {
        let mut server = server(name, victim, "active", json!([]));
        server["metadata"] = metadata;
        server
    };
    let servers = [
        with("first", json!({ "rekindle:priority": "90", "test:spawn-seconds": SLOW })),
        with("second-1", json!({})),
        with("second-2", json!({})),
        with("third", json!({ "rekindle:priority": "10" })),
    ];
    let ids = rig.prepared(victim, &servers);
    let (first, second, third) = (&ids["first"], [&ids["second-1"], &ids["second-2"]], &ids["third"]);
    let death = rig.kill(victim);
    rig.cloud.wait("the dead host's power off", RECOVERED_WITHIN, || {
        rig.cloud.power_off_us(victim).is_some_and(|off| off > death.us)
    });
    let mut waited_stopped = false;
    rig.cloud.wait("all of them", RECOVERED_WITHIN, || {
        // In this order: who is active at the later moment may not have been at the earlier, never the other way round.
        let starts = rig.relay.seen(Like::START, death.us);
        let servers = rig.cloud.servers();
        let is = |id: &str, status: &str| {
            let found = servers.iter().find(|server| server["id"] == id).expect("Nova lists it");
            found["status"] == status && found["task_state"].is_null() && found["host"] != victim
        };
        let begun = |id: &String| starts.iter().any(|call| call.path.contains(id.as_str())) || is(id, "ACTIVE");
        let first_runs = is(first, "ACTIVE");
        let second_runs = first_runs && second.iter().all(|id| is(id, "ACTIVE"));
        for id in second {
            assert!(first_runs || !begun(id), "{id} is started before the more urgent {first}");
        }
        assert!(second_runs || !begun(third), "{third} is started before the more urgent {second:?}");
        waited_stopped = waited_stopped || (!first_runs && second.iter().all(|id| is(id, "SHUTOFF")));
        second_runs && is(third, "ACTIVE")
    });
    assert_eq!(waited_stopped, moved_at_once, "whether the less urgent were moved while the first was being built");
    rig.recovered(&death);
    (death, ids)
}
