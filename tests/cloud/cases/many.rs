//! Many servers on one host, and many hosts.

use std::time::Duration;

use crate::relay::Like;
use crate::rig::Rig;

/// Servers on the host that dies.
const SERVERS: usize = 200;

/// All of them; the machine has two cores for the whole cloud.
const RECOVERED_WITHIN: Duration = Duration::from_secs(900);

/// Two hundred servers of one host are recovered over ten, each by one call, and the host comes back clean.
pub(super) fn two_hundred_servers(rig: &Rig) {
    let (victim, _) = rig.victim();
    let ids = rig.active(SERVERS, &victim, &[]);
    let death = rig.kill(&victim);
    rig.recovered_within(&death, RECOVERED_WITHIN);
    let calls = rig.relay.seen(Like::EVACUATE, death.us);
    let all = rig.relay.count_since(death.us);
    let first = calls.first().map_or(0, |call| call.us - death.us);
    println!(
        "    first evacuate {} ms after the kill, {} evacuate calls, {all} calls in all",
        first / 1_000,
        calls.len()
    );
    if let Some(last) = rig.cloud.last_update_s(&ids) {
        println!("    last server running {} s after the kill (Nova's whole seconds)", last - death.us / 1_000_000);
    }
    rig.assert_moved_once(&death, &ids);
    rig.back(&victim);
    rig.sweep();
}
