//! Nova and Keystone fail while servers are recovered, and a call hangs on its way.

use std::time::Duration;

use crate::relay::{Like, Side};
use crate::rig::{RECOVERED_WITHIN, Rig};

const SERVERS: usize = 5;

/// So long is looked at what is not to happen: longer than it takes a leader to be elected and to look at Nova.
const NOTHING_FOR: Duration = Duration::from_secs(12);

/// nova-api is stopped and started while evacuate calls are on their way to it.
pub(super) fn nova_restarted(rig: &Rig) {
    with_calls_under_way(rig, |rig| {
        rig.cloud.run(&["plane", "stop", "nova-api"]);
        rig.cloud.run(&["plane", "start", "nova-api"]);
    });
}

/// The token with which they were sent is revoked, and Nova, whose memory of it is lost, refuses them.
pub(super) fn token_revoked(rig: &Rig) {
    let old = with_calls_under_way(rig, |rig| {
        let (token, file) = (rig.relay.last_token(), rig.cloud.directory().join("revoked-token"));
        std::fs::write(&file, &token).expect("a file");
        rig.cloud.run(&["revoke", &file.display().to_string()]);
        rig.cloud.run(&["plane", "stop", "nova-api"]);
        rig.cloud.run(&["plane", "start", "nova-api"]);
        token
    });
    assert_ne!(rig.relay.last_token(), old, "a new token is used");
}

fn with_calls_under_way<T>(rig: &Rig, fault: impl FnOnce(&Rig) -> T) -> T {
    let (victim, _) = rig.victim();
    let ids = rig.active(SERVERS, &victim, &[]);
    let hold = rig.relay.hold_all(Side::Call, Like::EVACUATE);
    let death = rig.kill(&victim);
    rig.relay.wait_reached(hold, RECOVERED_WITHIN);
    let told = fault(rig);
    rig.relay.release(hold);
    rig.recovered(&death);
    rig.assert_active_elsewhere(&death, &ids);
    assert_eq!(rig.cloud.migrations(&victim).iter().filter(|one| one["status"] == "done").count(), SERVERS);
    rig.back(&victim);
    rig.sweep();
    told
}

/// Keystone is down when the host dies, and Nova knows no token: the host is fenced, and its servers wait for Keystone.
pub(super) fn keystone_down(rig: &Rig) {
    let (victim, _) = rig.victim();
    let ids = rig.active(SERVERS, &victim, &[]);
    rig.daemons.wait_protected(&victim);
    for (verb, service) in [("stop", "keystone"), ("stop", "nova-api"), ("start", "nova-api")] {
        rig.cloud.run(&["plane", verb, service]);
    }
    let death = rig.kill_now(&victim);
    rig.daemons.wait("the fenced host", RECOVERED_WITHIN, || {
        let phase = rig.daemons.phase(&victim, death.after)?;
        ["fenced", "evacuating"].contains(&phase.as_str()).then_some(())
    });
    std::thread::sleep(NOTHING_FOR);
    assert_ne!(rig.daemons.phase(&victim, death.after).as_deref(), Some("recovered"));
    assert_ne!(rig.daemons.phase(&victim, death.after).as_deref(), Some("stuck"), "it waits, and needs nobody");
    rig.cloud.run(&["plane", "start", "keystone"]);
    rig.recovered(&death);
    rig.assert_active_elsewhere(&death, &ids);
    rig.back(&victim);
    rig.sweep();
}

/// An evacuate call hangs on its way to Nova, its leader dies, and it arrives when another has long been leading.
pub(super) fn a_call_hangs(rig: &Rig) {
    let (victim, _) = rig.victim();
    let ids = rig.active(SERVERS, &victim, &[]);
    let hold = rig.relay.hold(Side::Call, Like::EVACUATE, 1);
    let death = rig.kill(&victim);
    rig.relay.wait_reached(hold, RECOVERED_WITHIN);
    let leader = rig.daemons.kill_leader();
    println!("    {leader} led, and is dead; its call hangs");
    std::thread::sleep(NOTHING_FOR);
    for id in &ids {
        assert!(rig.evacuations(id, death.us) <= 1, "{id} was asked for again while the first call was open");
    }
    rig.relay.release(hold);
    rig.recovered(&death);
    rig.assert_moved_once(&death, &ids);
    rig.daemons.start_dead_witnesses();
    rig.back(&victim);
    rig.sweep();
}
