//! Reserved hosts with real compute services: enabled when one is used, disabled again when nothing came to it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::rig::{Rig, SEGMENT, server};

const SERVERS: usize = 4;

/// All servers go to the reserved host, though another has room, and its service is enabled for it.
pub(super) fn a_reserved_host_takes_over(rig: &Rig) {
    let (victim, others) = rig.victim();
    let reserved = &others[1];
    reserve(rig, &[&victim, &others[0]], reserved);
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
    // While its segment has no reserved host left, no host of it is protected.
    no_segment(rig);
    rig.back(&victim);
    rig.sweep();
}

/// Masakari's fault D: its one server cannot be built on the reserved host, which goes back as it was.
pub(super) fn a_reserved_host_that_got_nothing_goes_back(rig: &Rig) {
    let (victim, others) = rig.victim();
    let reserved = &others[1];
    reserve(rig, &[&victim, &others[0]], reserved);
    let mut broken = server("broken", &victim, "active", json!([]));
    broken["metadata"] = json!({ "test:fail-spawn-on": reserved });
    let ids = rig.prepared(&victim, &[broken]);
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

fn no_segment(rig: &Rig) {
    let refused =
        rig.daemons.order_refused(&["segment", "delete", SEGMENT, "--with-hosts", "--reason", "cloud test"], 60);
    assert_eq!(refused, None);
}

fn is_reserved(rig: &Rig, host: &str) -> Option<bool> {
    rig.daemons.ask(&["host", "show", host])?["place"]["reserved"].as_bool()
}

fn set_service(rig: &Rig, host: &str, body: &Value) {
    let id = rig.cloud.run(&["service", host])["id"].as_str().expect("an id").to_owned();
    rig.cloud.run(&["api", "PUT", &format!("/os-services/{id}"), &body.to_string()]);
}
