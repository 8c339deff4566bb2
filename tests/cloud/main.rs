//! The real cloud test: a host dies under a real Nova, is fenced by a real BMC simulator, and its servers run elsewhere.
//!
//! Nothing here is ours but the daemons under test: Keystone, Placement, Glance, Nova, libvirtd and OpenIPMI as released
//! (`README.md` beside this file). What happened is read from *their* records: Nova's API and request log, the BMC's
//! power log, the domains in each host's libvirtd.

mod cloud;
mod daemons;

use std::time::Duration;

use cloud::Cloud;
use daemons::Daemons;

/// Servers booted on the host that is to die, beside the one that does not consent.
const SERVERS: usize = 6;

/// The host that dies.
const VICTIM: &str = "cmp1";

/// From the kill to the last server running. Generous: the machine may be busy; `make cloud-test` prints the real figures.
const RECOVERED_WITHIN: Duration = Duration::from_secs(180);

#[test]
fn a_dead_host_is_fenced_and_its_servers_run_elsewhere() {
    let cloud = Cloud::up();
    let daemons = Daemons::start(&cloud);
    daemons.arm();

    let consenting = cloud.boot(SERVERS, VICTIM, &[]);
    let keeping = cloud.boot(1, VICTIM, &["rekindle:local_disk=leave"]);
    let (ids, kept) = (cloud::ids(&consenting), cloud::ids(&keeping)[0].clone());
    daemons.wait_for_guests(VICTIM, SERVERS + 1);
    daemons.wait_protected(VICTIM);

    println!("killing {VICTIM}: nova-compute, libvirtd and rekindled at once");
    let killed = cloud::now_us();
    cloud.host("kill", VICTIM);
    let incident = daemons.wait_recovered(VICTIM, RECOVERED_WITHIN);

    // Nova's own word: every consenting server is ACTIVE elsewhere, and was evacuated once.
    for id in &ids {
        let server = cloud.server(id);
        assert_eq!(server["status"], "ACTIVE", "{server}");
        assert_ne!(server["host"], VICTIM, "{server}");
        assert!(server["task_state"].is_null(), "{server}");
    }
    let calls = cloud.requests("/action", killed);
    for id in &ids {
        let path = format!("/servers/{id}/action");
        let of_it = calls.iter().filter(|call| call["path"].as_str().is_some_and(|at| at.ends_with(&path))).count();
        assert_eq!(of_it, 1, "{id} was acted upon {of_it} times: {calls:?}");
    }
    let evacuations = cloud.migrations(VICTIM);
    assert_eq!(evacuations.len(), SERVERS, "one evacuation each: {evacuations:?}");

    // The host was off before the first evacuate, by the BMC's record and by Nova's.
    let off = cloud.power_off_us(VICTIM).expect("the BMC was never told to power off");
    let first = calls.iter().filter_map(|call| call["us"].as_i64()).min().expect("no evacuate call");
    assert!(off < first, "power off at {off} us, first evacuate at {first} us");

    // The guests' own truth: each runs once, in the libvirtd of the host that Nova names.
    cloud.assert_domains_match(&ids);

    // The server that did not consent stays behind, with its reason.
    let line = incident["servers"].as_array().and_then(|all| all.iter().find(|line| line["server"] == kept.as_str()));
    let line = line.unwrap_or_else(|| panic!("{kept} is not in the incident: {incident}"));
    assert_eq!(line["state"], "left-behind", "{line}");
    assert!(line["reason"].as_str().is_some_and(|why| why.contains("local disk")), "{line}");
    assert_eq!(cloud.server(&kept)["host"], VICTIM);

    print_times(&incident, killed, off, first, &cloud, &ids);

    // The host returns: Nova cleans up what was evacuated, and only that.
    cloud.host("start", VICTIM);
    daemons.start_host(&cloud, VICTIM);
    cloud.wait("Nova to clean up the returned host", Duration::from_secs(120), || {
        let done = cloud.migrations(VICTIM).iter().all(|migration| migration["status"] == "completed");
        let domains = cloud.domains(VICTIM);
        done && domains == [kept.clone()]
    });
    cloud.assert_domains_match(&ids);
    assert_eq!(
        cloud.run(&["service", VICTIM])["forced_down"],
        true,
        "nothing is scheduled there before it is protected"
    );
    assert_eq!(daemons.order_refused(&["release", VICTIM, "--reason", "too early?"], 60), None);
    daemons.wait_protected(VICTIM);
    println!("{VICTIM} is protected again");
    // It has no boot gate, so a person released it; that Nova may use it again follows by itself.
    cloud.wait("Nova to be told that the host is back", Duration::from_secs(120), || {
        let service = cloud.run(&["service", VICTIM]);
        service["forced_down"] == false && service["state"] == "up" && service["status"] == "enabled"
    });
}

fn print_times(incident: &serde_json::Value, killed: i64, off: i64, first: i64, cloud: &Cloud, ids: &[String]) {
    let story = incident["story"].as_array().cloned().unwrap_or_default();
    let phase = |name: &str| {
        let line = story.iter().find(|line| line["phase"] == name);
        line.and_then(|line| line["at"].as_i64()).map(|ms| seconds(ms * 1_000 - killed))
    };
    let last = cloud.last_update_s(ids).map(|at| seconds(at * 1_000_000 - killed));
    println!("seconds since the kill, {} servers", ids.len());
    for (what, when) in [
        ("detected", phase("suspect")),
        ("verdict", phase("unclean")),
        ("power off", Some(seconds(off - killed))),
        ("fenced", phase("fenced")),
        ("first evacuation", Some(seconds(first - killed))),
        ("last server running (Nova's whole seconds)", last),
        ("recovered", phase("recovered")),
    ] {
        println!("  {what:<42} {}", when.unwrap_or_else(|| "-".to_owned()));
    }
}

fn seconds(us: i64) -> String {
    format!("{:>6}.{:02}", us / 1_000_000, (us % 1_000_000).abs() / 10_000)
}
