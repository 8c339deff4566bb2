//! A host dies with its servers, from the kill to its return.

use serde_json::Value;

use crate::rig::{Death, Rig};

/// Servers booted on the host that is to die, beside the one that does not consent.
const SERVERS: usize = 6;

/// It is off before anything is evacuated; who consents runs elsewhere, once, by one call; who does not stays, named. The
/// host returns through its gate, and Nova cleans it up.
pub(super) fn a_dead_host(rig: &Rig) {
    let (victim, _) = rig.victim();
    let kept = rig.active(1, &victim, &["rekindle:local_disk=leave"]).remove(0);
    let ids = rig.active(SERVERS, &victim, &[]);
    let death = rig.kill(&victim);
    let incident = rig.recovered(&death);
    rig.assert_moved_once(&death, &ids);
    let evacuations = rig.cloud.migrations(&victim);
    assert_eq!(evacuations.len(), SERVERS, "one evacuation each: {evacuations:?}");

    // The host was off before the first evacuate, by the BMC's record and by Nova's.
    let off = rig.cloud.power_off_us(&victim).expect("the BMC was never told to power off");
    let calls = rig.cloud.requests("/action", death.us);
    let first = calls.iter().filter_map(|call| call["us"].as_i64()).min().expect("no evacuate call");
    assert!(off < first, "power off at {off} us, first evacuate at {first} us");

    // The server that did not consent stays behind, with its reason.
    let line = Rig::line(&incident, &kept);
    assert_eq!(line["state"], "left-behind", "{line}");
    assert!(line["reason"].as_str().is_some_and(|why| why.contains("local disk")), "{line}");
    assert_eq!(rig.cloud.server(&kept)["host"], victim);
    print_times(rig, &incident, &death, off, first, &ids);

    rig.back(&victim);
    assert_eq!(rig.cloud.domains(&victim), [kept], "what was left behind runs there again, and nothing else");
    rig.cloud.assert_domains_match(&ids);
    rig.sweep();
}

fn print_times(rig: &Rig, incident: &Value, death: &Death, off: i64, first: i64, ids: &[String]) {
    let story = incident["story"].as_array().cloned().unwrap_or_default();
    let phase = |name: &str| {
        let line = story.iter().find(|line| line["phase"] == name);
        line.and_then(|line| line["at"].as_i64()).map(|ms| seconds(ms * 1_000 - death.us))
    };
    let last = rig.cloud.last_update_s(ids).map(|at| seconds(at * 1_000_000 - death.us));
    println!("    seconds since the kill, {} servers", ids.len());
    for (what, when) in [
        ("detected", phase("suspect")),
        ("verdict", phase("unclean")),
        ("power off", Some(seconds(off - death.us))),
        ("fenced", phase("fenced")),
        ("first evacuation", Some(seconds(first - death.us))),
        ("last server running (Nova's whole seconds)", last),
        ("recovered", phase("recovered")),
    ] {
        println!("      {what:<42} {}", when.unwrap_or_else(|| "-".to_owned()));
    }
}

fn seconds(us: i64) -> String {
    format!("{:>6}.{:02}", us / 1_000_000, (us % 1_000_000).abs() / 10_000)
}
