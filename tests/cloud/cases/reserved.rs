//! Reserved hosts with real compute services: enabled when one is used, disabled again when nothing came to it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::relay::Like;
use crate::rig::{Rig, SEGMENT, server};

const SERVERS: usize = 4;

/// All servers go to the reserved host, though another has room; its service is enabled for it, and it joins the aggregate
/// of the dead host.
pub(super) fn a_reserved_host_takes_over(rig: &Rig) {
    let (victim, others) = rig.victim();
    let reserved = &others[1];
    reserve(rig, &[&victim, &others[0]], reserved);
    let aggregate = aggregate_of(rig, &victim);
    let ids = rig.active(SERVERS, &victim, &[]);
    let death = rig.kill(&victim);
    let story = rig.recovered(&death);
    rig.assert_moved_once(&death, &ids);
    for id in &ids {
        assert_eq!(rig.cloud.server(id)["host"], reserved.as_str(), "{story}");
    }
    let service = rig.cloud.run(&["service", reserved]);
    assert_eq!(service["status"], "enabled", "{service}");
    assert_eq!(is_reserved(rig, reserved), Some(false), "a host that was used is an ordinary one");
    assert_eq!(members(rig, aggregate), [victim.as_str(), reserved.as_str()]);
    no_aggregate(rig, aggregate);
    // While its segment has no reserved host left, no host of it is protected.
    no_segment(rig);
    rig.back(&victim);
    rig.sweep();
}

/// Masakari's fault D: its one server cannot be built on the reserved host, which goes back as it was: disabled, and out of
/// the aggregate it had joined.
pub(super) fn a_reserved_host_that_got_nothing_goes_back(rig: &Rig) {
    let (victim, others) = rig.victim();
    let reserved = &others[1];
    reserve(rig, &[&victim, &others[0]], reserved);
    let mut broken = server("broken", &victim, "active", json!([]));
    broken["metadata"] = json!({ "test:fail-spawn-on": reserved });
    let ids = rig.prepared(&victim, &[broken]);
    let aggregate = aggregate_of(rig, &victim);
    let death = rig.kill(&victim);
    let story = rig.recovered(&death);
    let line = Rig::line(&story, &ids["broken"]);
    println!("    {line}");
    assert_eq!(line["state"], "left-behind", "{line}");
    let service = rig.cloud.run(&["service", reserved]);
    let reason = service["disabled_reason"].as_str().unwrap_or_default();
    assert_eq!(service["status"], "disabled", "{service}");
    assert!(reason.starts_with("rekindle: "), "{service}");
    assert_eq!(is_reserved(rig, reserved), Some(true));
    assert_eq!(members(rig, aggregate), [victim.as_str()], "{story}");
    let joined = rig.relay.seen(Like::JOIN, death.us);
    assert!(joined.iter().any(|call| call.body.contains(reserved)), "it has never been in the aggregate: {joined:?}");
    no_aggregate(rig, aggregate);
    rig.assert_never_twice();
    set_service(rig, reserved, &json!({ "status": "enabled" }));
    no_segment(rig);
    rig.back(&victim);
    rig.sweep();
}

/// One segment of all hosts, one of them kept free.
fn reserve(rig: &Rig, hosts: &[&String], reserved: &String) {
    set_service(rig, reserved, &json!({ "status": "disabled", "disabled_reason": "reserved" }));
    let mut text = format!("[[segment]]\nname = \"{SEGMENT}\"\nrecovery_method = \"reserved_host\"\n");
    for host in hosts {
        writeln!(text, "[[segment.host]]\nname = \"{host}\"").expect("a string takes all");
    }
    writeln!(text, "[[segment.host]]\nname = \"{reserved}\"\nreserved = true").expect("a string takes all");
    let file = rig.cloud.directory().join("segments.toml");
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    let refused = rig.daemons.order_refused(&["apply", &file, "--yes", "--reason", "cloud test"], 60);
    assert_eq!(refused, None);
    assert_eq!(is_reserved(rig, reserved), Some(true));
}

/// A new aggregate with that host in it.
fn aggregate_of(rig: &Rig, host: &str) -> u64 {
    let made =
        rig.cloud.run(&["api", "POST", "/os-aggregates", &json!({ "aggregate": { "name": "rack" } }).to_string()]);
    let id = made["body"]["aggregate"]["id"].as_u64().unwrap_or_else(|| panic!("an aggregate was not made: {made}"));
    change_aggregate(rig, id, "add_host", host);
    id
}

fn members(rig: &Rig, aggregate: u64) -> Vec<String> {
    let shown = rig.cloud.run(&["api", "GET", &format!("/os-aggregates/{aggregate}")]);
    let hosts = shown["body"]["aggregate"]["hosts"].as_array().cloned().unwrap_or_default();
    hosts.iter().filter_map(|host| host.as_str().map(str::to_owned)).collect()
}

fn no_aggregate(rig: &Rig, aggregate: u64) {
    for host in members(rig, aggregate) {
        change_aggregate(rig, aggregate, "remove_host", &host);
    }
    rig.cloud.run(&["api", "DELETE", &format!("/os-aggregates/{aggregate}")]);
}

fn change_aggregate(rig: &Rig, aggregate: u64, action: &str, host: &str) {
    let body = json!({ action: { "host": host } }).to_string();
    rig.cloud.run(&["api", "POST", &format!("/os-aggregates/{aggregate}/action"), &body]);
}

fn no_segment(rig: &Rig) {
    let refused =
        rig.daemons.order_refused(&["segment", "delete", SEGMENT, "--with-hosts", "--reason", "cloud test"], 60);
    assert_eq!(refused, None);
}

fn is_reserved(rig: &Rig, host: &str) -> Option<bool> {
    rig.daemons.ask(&["host", "show", host])?["place"]["reserved"].as_bool()
}

pub(super) fn set_service(rig: &Rig, host: &str, body: &Value) {
    let id = rig.cloud.run(&["service", host])["id"].as_str().expect("an id").to_owned();
    rig.cloud.run(&["api", "PUT", &format!("/os-services/{id}"), &body.to_string()]);
}
