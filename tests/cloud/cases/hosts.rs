//! Hosts that do not stay dead, and hosts that die in the middle of somebody else's recovery.

use std::time::Duration;

use serde_json::{Value, json};

use super::reserved::set_service;
use crate::relay::{Like, Side};
use crate::rig::{Death, RECOVERED_WITHIN, Rig, server};

const SERVERS: usize = 5;

/// A guest that takes so long to be rebuilt can be met under way, with all the others.
const SLOW_SPAWN: &str = "test:spawn-seconds=30";

/// Somebody powers the dead host on in the middle: it is switched off again, its servers are recovered all the same.
pub(super) fn powered_on_by_hand(rig: &Rig) {
    let (victim, _) = rig.victim();
    let ids = rig.active(SERVERS, &victim, &[]);
    let hold = rig.relay.hold(Side::Call, Like::EVACUATE, 3);
    let death = rig.kill(&victim);
    rig.relay.wait_reached(hold, RECOVERED_WITHIN);
    let first = rig.cloud.power_off_us(&victim).expect("it was fenced");
    rig.cloud.host("start", &victim);
    rig.cloud.wait("a second power off", Duration::from_secs(120), || {
        rig.cloud.power_off_us(&victim).is_some_and(|off| off > first)
    });
    rig.relay.release(hold);
    rig.recovered(&death);
    rig.assert_active_elsewhere(&death, &ids);
    rig.back(&victim);
    rig.sweep();
}

/// A destination dies in the middle of its rebuilds: two incidents at once, and each server runs once in the end.
pub(super) fn a_destination_dies(rig: &Rig) {
    let (victim, others) = rig.victim();
    let ids = rig.active(SERVERS, &victim, &[SLOW_SPAWN]);
    let death = rig.kill(&victim);
    let mut second = None;
    // Every compute has read its calls: one that dies before has them in its queue, and they wait for its return.
    rig.cloud.wait("all rebuilds under way", RECOVERED_WITHIN, || {
        let under_way = rig.cloud.migrations(&victim);
        let begun =
            |one: &&Value| one["status"] == "pre-migrating" && ids.iter().any(|id| one["instance_uuid"] == id.as_str());
        let to: Vec<&str> = under_way.iter().filter(begun).filter_map(|one| one["dest_compute"].as_str()).collect();
        second = to.first().map(|host| (*host).to_owned());
        to.len() == SERVERS
    });
    let second = second.expect("a destination");
    println!("    {second} dies as well");
    let other_death = rig.kill_now(&second);
    rig.recovered(&other_death);
    rig.recovered(&Death { after: death.after, ..death.clone() });
    rig.assert_active_elsewhere(&other_death, &ids);
    rig.assert_active_elsewhere(&death, &ids);
    let last = others.iter().find(|host| **host != second).expect("one is left");
    assert!(ids.iter().all(|id| rig.cloud.server(id)["host"] == last.as_str()));
    rig.back(&victim);
    rig.back(&second);
    rig.sweep();
}

/// A destination takes the order out of its queue and dies before its claim: Nova's record names no host and never ends. Its
/// actions tell who had begun, and the server is evacuated once more.
pub(super) fn a_destination_dies_before_its_claim(rig: &Rig) {
    let (victim, others) = rig.victim();
    let ids = rig.active(1, &victim, &[]);
    let knob = |host: &String| rig.cloud.directory().join("hosts").join(host).join("knobs/hang-claim");
    for host in &others {
        std::fs::write(knob(host), "").expect("a knob");
    }
    let death = rig.kill(&victim);
    let mut second = None;
    rig.cloud.wait("a host that has begun", RECOVERED_WITHIN, || {
        second = rig.cloud.begun(&ids[0]);
        second.is_some()
    });
    let second = second.expect("a destination");
    println!("    {second} has taken the order, and dies");
    let records = rig.cloud.migrations(&victim);
    let record = records.iter().find(|one| one["instance_uuid"] == ids[0].as_str()).expect("a record");
    assert!(record["dest_compute"].is_null(), "Nova has begun to name the host before its claim: {record}");
    let other_death = rig.kill_now(&second);
    for host in &others {
        std::fs::remove_file(knob(host)).expect("a knob");
    }
    rig.recovered(&other_death);
    rig.recovered(&Death { after: death.after, ..death.clone() });
    rig.assert_active_elsewhere(&other_death, &ids);
    rig.assert_active_elsewhere(&death, &ids);
    rig.back(&victim);
    rig.back(&second);
    rig.sweep();
}

/// Nova gives the order to a host that has just died, and that nobody has found dead yet: it lies unread in its queue. Placement
/// tells for whom nova-conductor has claimed; its gate keeps the queue unread, and the server is evacuated once more.
pub(super) fn a_destination_dies_before_it_reads_its_queue(rig: &Rig) {
    let (victim, others) = rig.victim();
    let ids = rig.active(1, &victim, &[]);
    let [second, third] = others.as_slice() else { panic!("three hosts: {others:?}") };
    // So that Nova's scheduler has no other choice.
    disable(rig, third);
    let hold = rig.relay.hold(Side::Call, Like::EVACUATE, 1);
    let death = rig.kill(&victim);
    let other_death = dies_before_it_reads(rig, hold, second, (&victim, &ids[0]), 1);
    enable(rig, third);
    rig.recovered(&other_death);
    rig.recovered(&Death { after: death.after, ..death.clone() });
    rig.assert_active_elsewhere(&other_death, &ids);
    rig.assert_active_elsewhere(&death, &ids);
    rig.back(&victim);
    // It finds the order, and does not carry it out.
    rig.back(second);
    assert_left_rebuilding(rig, &ids[0], third);
    rig.sweep();
}

/// The same happens to the next host that is asked. Nova refuses the first one's order, but leaves the server rebuilding, and in
/// that state it would not refuse the other's: the second gate stays shut until a person has set the server's state.
pub(super) fn two_destinations_die_before_they_read_their_queues(rig: &Rig) {
    let (victim, others) = rig.victim();
    let ids = rig.active(1, &victim, &[]);
    let [second, third, fourth, rest @ ..] = others.as_slice() else { panic!("four hosts: {others:?}") };
    // So that Nova's scheduler has one choice at a time.
    others[1..].iter().for_each(|host| disable(rig, host));
    let hold = rig.relay.hold(Side::Call, Like::EVACUATE, 1);
    let next = rig.relay.hold(Side::Call, Like::EVACUATE, 2);
    let death = rig.kill(&victim);
    let second_death = dies_before_it_reads(rig, hold, second, (&victim, &ids[0]), 1);
    enable(rig, third);
    let third_death = dies_before_it_reads(rig, next, third, (&victim, &ids[0]), 2);
    enable(rig, fourth);
    for death in [&second_death, &third_death, &death] {
        rig.recovered(death);
        rig.assert_active_elsewhere(death, &ids);
    }
    rest.iter().for_each(|host| enable(rig, host));
    rig.back(&victim);
    rig.back(second);
    assert_left_rebuilding(rig, &ids[0], fourth);
    rig.cloud.host("start", third);
    let words = format!("the gate of {third} stays shut: an order to build ");
    rig.daemons.wait("an alarm about the gate", RECOVERED_WITHIN, || {
        let status = rig.daemons.ask(&["status"])?;
        let alarm =
            status["alarms"].as_array()?.iter().filter_map(Value::as_str).find(|alarm| alarm.starts_with(&words));
        alarm.map(|alarm| println!("    {alarm}"))
    });
    let processes = rig.cloud.host("status", third)["processes"].clone();
    assert!(!processes["gate"].is_null() && processes["nova-compute"].is_null(), "{processes}");
    let path = format!("/servers/{}/action", ids[0]);
    rig.cloud.run(&["api", "POST", &path, &json!({ "os-resetState": { "state": "active" } }).to_string()]);
    rig.back(third);
    assert_left_rebuilding(rig, &ids[0], fourth);
    rig.sweep();
}

/// The call to evacuate that server is held; its only possible destination dies, and then gets the order: the `nth` of that server.
fn dies_before_it_reads(rig: &Rig, hold: usize, host: &str, (victim, server): (&str, &str), nth: usize) -> Death {
    rig.relay.wait_reached(hold, RECOVERED_WITHIN);
    // Nova's scheduler must not hear of its death before.
    let told = rig.relay.hold(Side::Call, Like::SERVICE, 1);
    let death = rig.kill_now(host);
    println!("    {host} dies before the order comes");
    rig.relay.release(hold);
    rig.cloud.wait("the order to be sent", RECOVERED_WITHIN, || {
        let mut records = rig.cloud.migrations(victim);
        records.retain(|one| one["instance_uuid"] == server);
        let newest = records.iter().max_by_key(|one| one["id"].as_u64());
        records.len() == nth
            && newest.is_some_and(|one| one["status"] == "accepted" && one["dest_compute"].is_null())
            && rig.cloud.sent(server)
    });
    assert_eq!(rig.cloud.begun(server), None, "{host} has read its queue");
    rig.relay.release(told);
    death
}

/// A late order was refused: that is how Nova leaves the server, which still runs, and where it was.
fn assert_left_rebuilding(rig: &Rig, id: &str, host: &str) {
    rig.assert_never_twice();
    rig.cloud.assert_domains_match(&[id.to_owned()]);
    let server = rig.cloud.server(id);
    assert_eq!((&server["host"], &server["status"]), (&json!(host), &json!("REBUILD")), "{server}");
}

fn disable(rig: &Rig, host: &str) {
    set_service(rig, host, &json!({ "status": "disabled", "disabled_reason": "not now" }));
}

fn enable(rig: &Rig, host: &str) {
    set_service(rig, host, &json!({ "status": "enabled" }));
}

/// Claims and spawns that fail on one host succeed on the other; what fits nowhere is left behind, and says why.
pub(super) fn refusals(rig: &Rig) {
    let (victim, others) = rig.victim();
    let (bad, both) = (&others[0], others.join(" "));
    let with = |name: &str, metadata: Value| {
        let mut server = server(name, &victim, "active", json!([]));
        server["metadata"] = metadata;
        server
    };
    let mut servers = vec![
        with("claim-fails-once", json!({ "test:fail-claim-on": bad })),
        with("spawn-fails-once", json!({ "test:fail-spawn-on": bad })),
        with("claim-fails-everywhere", json!({ "test:fail-claim-on": both })),
    ];
    for (name, host) in [("apart-1", &victim), ("apart-2", &others[0]), ("apart-3", &others[1])] {
        let mut member = server(name, host, "active", json!([]));
        member["apart"] = "apart".into();
        servers.push(member);
    }
    let ids = rig.prepared(&victim, &servers);
    let death = rig.kill(&victim);
    let story = rig.recovered(&death);
    for name in ["claim-fails-once", "spawn-fails-once"] {
        let line = Rig::line(&story, &ids[name]);
        println!("    {name}: {line}");
        assert_eq!(line["state"], "recovered", "{line}");
    }
    rig.assert_active_elsewhere(&death, &[ids["claim-fails-once"].clone()]);
    for name in ["claim-fails-once", "spawn-fails-once", "claim-fails-everywhere"] {
        assert_tried_elsewhere(rig, &victim, &ids[name]);
    }
    for name in ["claim-fails-everywhere", "apart-1"] {
        let line = Rig::line(&story, &ids[name]);
        println!("    {name}: {line}");
        assert_eq!(line["state"], "left-behind", "{line}");
        assert!(line["reason"].as_str().is_some_and(|why| !why.is_empty()), "{line}");
    }
    // Every host that is left has a member of its group: Nova says "no valid host", and rekindle why.
    let why = Rig::line(&story, &ids["apart-1"])["reason"].as_str().unwrap_or_default().to_owned();
    for words in
        ["server group \"apart\"", "anti-affinity: Nova builds it on no host that has 1", "apart-2 on", "apart-3 on"]
    {
        assert!(why.contains(words), "{words:?} is not in {why:?}");
    }
    rig.assert_never_twice();
    rig.back(&victim);
    rig.sweep();
}

/// Where a server's first evacuation failed on the host where it was built, the second went to another one. Which host comes
/// first is Nova's choice: one that happened to choose well has nothing to tell.
fn assert_tried_elsewhere(rig: &Rig, victim: &str, server: &str) {
    let mut records = rig.cloud.migrations(victim);
    records.retain(|record| record["instance_uuid"] == server && record["source_compute"] == victim);
    records.sort_by_key(|record| record["id"].as_u64());
    if let [first, second, ..] = records.as_slice()
        && first["status"] == "failed"
    {
        let hosts = (&first["dest_compute"], &second["dest_compute"]);
        println!("    {server}: failed on {}, then tried on {}", hosts.0, hosts.1);
        assert_ne!(hosts.0, hosts.1, "tried again where it had failed: {records:?}");
    }
}
