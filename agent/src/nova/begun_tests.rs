//! The order of an evacuation, followed through Nova's actions and Placement's allocations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::io::{NovaAnswer, NovaRead, Trail};
use rekindle_proto::fact::NovaError;
use rekindle_proto::id::{MigrationId, ServerId};
use serde_json::{Value, json};

use super::fake::Fake;

const SERVER: &str = "00000000-0000-0000-0000-000000000007";
const POOL: u32 = 90;

fn uuid(number: u32) -> String {
    format!("00000000-0000-0000-0001-{number:012}")
}

/// Nova, in which the newest evacuation of the server was sent by nova-conductor, and taken by nobody.
async fn sent() -> Arc<Fake> {
    let fake = Fake::start().await;
    let at = |second: u32| format!("2026-11-21T10:00:{second:02}.000000");
    let action = json!({"action": "evacuate", "request_id": "req-2", "start_time": at(20)});
    let event = json!({"event": "rebuild_server", "start_time": at(20), "finish_time": at(21), "result": "Success",
        "host": "controller", "traceback": null});
    let mut shown = action.clone();
    shown["events"] = json!([event]);
    let record = json!({"id": 5, "uuid": uuid(5), "instance_uuid": SERVER, "status": "accepted",
        "migration_type": "evacuation", "source_compute": "cmp-1", "dest_compute": null, "created_at": at(20),
        "updated_at": null});
    let actions = format!("/compute/v2.1/servers/{SERVER}/os-instance-actions");
    put(&fake, &format!("{actions}/req-2"), 200, json!({ "instanceAction": shown }));
    put(&fake, &actions, 200, json!({"instanceActions": [action]}));
    put(&fake, "/compute/v2.1/os-migrations", 200, json!({"migrations": [record]}));
    // Hosts 1 to 3 with a NUMA cell each, a pool, and a node that Nova does not know.
    let row = |id: u32, root: u32| json!({"uuid": uuid(id), "root_provider_uuid": uuid(root)});
    let rows = [row(1, 1), row(11, 1), row(2, 2), row(12, 2), row(3, 3), row(POOL, POOL), row(80, 80)];
    put(&fake, "/placement/resource_providers", 200, json!({ "resource_providers": rows }));
    for number in [1, 2, 3] {
        let hypervisor = json!({"id": uuid(number), "hypervisor_hostname": format!("cmp-{number}.example.org"),
            "hypervisor_type": "QEMU", "state": "down", "status": "enabled",
            "service": {"host": format!("cmp-{number}"), "id": uuid(40 + number), "disabled_reason": null}});
        put(&fake, &format!("/compute/v2.1/os-hypervisors/{}", uuid(number)), 200, json!({ "hypervisor": hypervisor }));
    }
    fake
}

fn put(fake: &Fake, path: &str, status: u16, body: Value) {
    fake.others.lock().expect("lock").insert(path.to_owned(), (status, body));
}

fn hold(fake: &Fake, held: &[(u32, &str)]) {
    let held: BTreeMap<String, Value> =
        held.iter().map(|(id, class)| (uuid(*id), json!({"generation": 3, "resources": { *class: 2 }}))).collect();
    put(fake, &format!("/placement/allocations/{SERVER}"), 200, json!({"allocations": held, "project_id": "p"}));
}

async fn trail(fake: &Fake) -> Result<Option<Trail>, NovaError> {
    let server: ServerId = SERVER.parse().expect("uuid");
    let nova = fake.nova(Duration::from_secs(10), "");
    let answer = nova.read(NovaRead::Begun { server, migration: MigrationId(5) }).await?;
    let NovaAnswer::Begun(trail) = answer else { panic!("{answer:?}") };
    Ok(trail)
}

#[tokio::test]
async fn placement_tells_the_hosts_of_a_sent_order() {
    let fake = sent().await;
    for (what, held, expected) in [
        ("source and destination", vec![(1, "VCPU"), (2, "VCPU")], Some("cmp-1 cmp-2")),
        ("in their NUMA cells", vec![(11, "PCPU"), (1, "MEMORY_MB"), (12, "PCPU")], Some("cmp-1 cmp-2")),
        ("a pool is no host", vec![(1, "VCPU"), (2, "VCPU"), (POOL, "DISK_GB")], Some("cmp-1 cmp-2")),
        ("three", vec![(1, "VCPU"), (2, "VCPU"), (3, "VCPU")], Some("cmp-1 cmp-2 cmp-3")),
        ("a node that Nova does not know", vec![(1, "VCPU"), (2, "VCPU"), (80, "MEMORY_MB")], None),
        ("a provider that was deleted", vec![(1, "VCPU"), (2, "VCPU"), (70, "DISK_GB")], None),
        ("nothing", vec![], None),
    ] {
        hold(&fake, &held);
        let hosts = trail(&fake).await.expect("read").map(|trail| {
            let Trail::Sent { allotted } = trail else { panic!("{what}: {trail:?}") };
            allotted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(hosts.as_deref(), expected, "{what}");
    }
    let (headers, _) = fake.last(&format!("GET /placement/allocations/{SERVER}"));
    assert_eq!(headers["openstack-api-version"], "placement 1.14");
}

#[tokio::test]
async fn what_placement_does_not_answer_tells_nothing() {
    let fake = sent().await;
    hold(&fake, &[(1, "VCPU"), (2, "VCPU")]);
    let hypervisor = format!("/compute/v2.1/os-hypervisors/{}", uuid(2));
    put(&fake, &hypervisor, 503, json!({}));
    assert!(trail(&fake).await.is_err(), "half of the hosts are no answer");
    let gone = json!({"itemNotFound": {"code": 404, "message": "Compute host could not be found."}});
    put(&fake, &hypervisor, 404, gone);
    assert_eq!(trail(&fake).await, Ok(None), "its compute node was deleted");
    put(&fake, &format!("/placement/allocations/{SERVER}"), 500, json!({"errors": []}));
    assert!(trail(&fake).await.is_err());
}
