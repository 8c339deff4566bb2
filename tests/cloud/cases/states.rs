//! Servers in every state die with their host, and come back as `docs/recovery.md` says.

use serde_json::{Value, json};

use crate::rig::Rig;

/// How a server was, and what has to be of it afterwards.
struct Row {
    name: &'static str,
    /// Calls to it, in order; `"@victim"` and `"@other"` stand for hosts.
    actions: &'static str,
    metadata: &'static str,
    vm_state: &'static str,
    task_state: Option<&'static str>,
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// `active`, and its guest runs where Nova says.
    Runs,
    /// `stopped`; no host runs it.
    Stopped,
    /// `error`; its guest runs where Nova says.
    ErrorRuns,
    /// The same; or left behind, if Nova would have it on no host but the one it was resized from: that still has the old guest
    /// (`InstanceExists`), and the scheduler does not know.
    RunsWhereItMay,
    /// Left behind, with a reason in which this stands.
    Left(&'static str),
    /// On no host, and no concern of this incident.
    Untouched,
}

const PLAIN: Row =
    Row { name: "", actions: "[]", metadata: "{}", vm_state: "active", task_state: None, end: End::Runs };

const ROWS: &[Row] = &[
    Row { name: "active", ..PLAIN },
    Row { name: "stopped", actions: r#"[{"os-stop":null}]"#, vm_state: "stopped", end: End::Stopped, ..PLAIN },
    Row {
        name: "error",
        actions: r#"[{"os-resetState":{"state":"error"}}]"#,
        vm_state: "error",
        end: End::ErrorRuns,
        ..PLAIN
    },
    Row {
        name: "resized",
        actions: r#"[{"migrate":{"host":"@victim"}}]"#,
        vm_state: "resized",
        end: End::RunsWhereItMay,
        ..PLAIN
    },
    Row { name: "paused", actions: r#"[{"pause":null}]"#, vm_state: "paused", end: End::Stopped, ..PLAIN },
    Row { name: "suspended", actions: r#"[{"suspend":null}]"#, vm_state: "suspended", end: End::Stopped, ..PLAIN },
    Row { name: "rescued", actions: r#"[{"rescue":{}}]"#, vm_state: "rescued", end: End::Stopped, ..PLAIN },
    Row { name: "shelved", actions: r#"[{"shelve":null}]"#, vm_state: "shelved", end: End::Stopped, ..PLAIN },
    Row {
        name: "offloaded",
        actions: r#"[{"shelve":null},{"shelveOffload":null}]"#,
        vm_state: "shelved_offloaded",
        end: End::Untouched,
        ..PLAIN
    },
    // Somebody else's locks stay, with their reasons.
    Row { name: "locked", actions: r#"[{"lock":{"locked_reason":"mine"}}]"#, ..PLAIN },
    Row {
        name: "paused-and-locked",
        actions: r#"[{"pause":null},{"lock":{"locked_reason":"mine too"}}]"#,
        vm_state: "paused",
        end: End::Stopped,
        ..PLAIN
    },
    // A task that was under way died with the host.
    Row {
        name: "rebooting",
        actions: r#"[{"reboot":{"type":"SOFT"}}]"#,
        metadata: r#"{"test:hang":"reboot"}"#,
        task_state: Some("reboot_started"),
        ..PLAIN
    },
    Row {
        name: "powering-off",
        actions: r#"[{"os-stop":null}]"#,
        metadata: r#"{"test:hang":"power-off"}"#,
        task_state: Some("powering-off"),
        ..PLAIN
    },
    Row {
        name: "pausing",
        actions: r#"[{"pause":null}]"#,
        metadata: r#"{"test:hang":"pause"}"#,
        task_state: Some("pausing"),
        ..PLAIN
    },
    Row {
        name: "cold-migrating",
        actions: r#"[{"migrate":{"host":"@other"}}]"#,
        metadata: r#"{"test:hang":"migrate"}"#,
        task_state: Some("resize_migrating"),
        ..PLAIN
    },
    Row {
        name: "live-migrating",
        actions: r#"[{"os-migrateLive":{"host":"@other","block_migration":"auto"}}]"#,
        metadata: r#"{"test:hang":"live-migration"}"#,
        task_state: Some("migrating"),
        ..PLAIN
    },
    Row {
        name: "building",
        metadata: r#"{"test:spawn-seconds":"600"}"#,
        vm_state: "building",
        task_state: Some("spawning"),
        end: End::Left("has never run"),
        ..PLAIN
    },
    Row { name: "vtpm", end: End::Left("vTPM"), ..PLAIN },
];

pub(super) fn every_state(rig: &Rig) {
    let (victim, others) = rig.victim();
    let wanted: Vec<Value> = ROWS.iter().map(|row| described(row, &victim, &others[0])).collect();
    let ids = rig.prepared(&victim, &wanted);
    let before = rig.cloud.servers();
    let death = rig.kill(&victim);
    let story = rig.recovered(&death);
    let (after, running) = (rig.cloud.servers(), rig.cloud.running());
    let wrong: Vec<String> = ROWS
        .iter()
        .filter_map(|row| {
            let id = &ids[row.name];
            let of = |servers: &[Value]| {
                servers.iter().find(|server| server["id"] == id.as_str()).cloned().unwrap_or_default()
            };
            let hosts = running.get(id).cloned().unwrap_or_default();
            let why = wrong(row.end, &of(&before), &of(&after), &hosts, &victim, &story)?;
            Some(format!("{}: {why}\n      was {}\n      is {}, runs on {hosts:?}", row.name, of(&before), of(&after)))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n    "));
    rig.assert_never_twice();
    for (name, id) in ids.iter().filter(|(name, _)| *name != "resized") {
        assert!(rig.evacuations(id, death.us) <= 1, "{name} was asked to be evacuated more than once");
    }
    rig.back(&victim);
    rig.sweep();
}

/// What is not as it has to be.
fn wrong(end: End, before: &Value, after: &Value, hosts: &[String], victim: &str, story: &Value) -> Option<String> {
    let id = after["id"].as_str().unwrap_or_default();
    if (&before["locked"], &before["locked_reason"]) != (&after["locked"], &after["locked_reason"]) {
        return Some("its lock is not as it was".to_owned());
    }
    let is_moved = after["host"] != victim && after["task_state"].is_null();
    let runs_there = hosts.len() == 1 && after["host"] == hosts[0].as_str();
    let state = |wanted: &str| after["vm_state"] == wanted;
    let is_right = match end {
        End::Runs => is_moved && state("active") && runs_there,
        End::RunsWhereItMay => {
            let is_left = || Rig::line(story, id)["state"] == "left-behind" && hosts.is_empty();
            is_moved && state("active") && runs_there || is_left()
        }
        End::Stopped => is_moved && state("stopped") && hosts.is_empty(),
        End::ErrorRuns => is_moved && state("error") && runs_there,
        End::Untouched => state("shelved_offloaded") && !story["servers"].to_string().contains(id),
        End::Left(reason) => {
            let line = Rig::line(story, id);
            let says = line["reason"].as_str().is_some_and(|text| text.contains(reason));
            if line["state"] != "left-behind" || !says {
                return Some(format!("the story says {line}"));
            }
            after["host"] == victim && hosts.is_empty()
        }
    };
    (!is_right).then(|| format!("not as wanted: {end:?}"))
}

fn described(row: &Row, victim: &str, other: &str) -> Value {
    let actions = row.actions.replace("@victim", victim).replace("@other", other);
    let mut server =
        json!({ "name": row.name, "host": victim, "vm_state": row.vm_state, "task_state": row.task_state });
    server["actions"] = serde_json::from_str(&actions).expect("calls");
    server["metadata"] = serde_json::from_str(row.metadata).expect("metadata");
    match row.name {
        // It is migrated to the host that dies.
        "resized" => {
            server["host"] = other.into();
            server["ends_on"] = victim.into();
        }
        "offloaded" => server["ends_on"] = Value::Null,
        "vtpm" => server["flavor"] = "vtpm".into(),
        _ => {}
    }
    server
}
