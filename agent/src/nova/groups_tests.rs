//! Server groups against a small Nova on a socket: what it says, what it refuses, and what is made of either.

use std::time::Duration;

use rekindle_coordinator::io::{NovaAnswer, NovaRead};
use rekindle_coordinator::recovery::Lookup;
use rekindle_proto::id::HostName;
use serde_json::json;

use super::super::Nova;
use super::super::fake::{Fake, HOST};
use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn uuid(n: usize) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

fn group_id(n: usize) -> ServerGroupId {
    uuid(n).parse().expect("uuid")
}

fn server_id(n: usize) -> ServerId {
    uuid(n).parse().expect("uuid")
}

fn answers(fake: &Fake, path: &str, status: u16, body: Value) {
    fake.others.lock().expect("lock").insert(format!("/compute/v2.1/{path}"), (status, body));
}

async fn look(nova: &Nova, lookup: Lookup) -> Result<NovaAnswer, NovaError> {
    nova.read(NovaRead::Look { host: HostName::new(HOST).expect("legal"), lookup }).await
}

#[tokio::test]
async fn a_group_is_read_by_its_id_and_silence_is_never_none_such() {
    let fake = Fake::start().await;
    let group = |n: usize, policy: &str, rules: Value, members: Vec<String>| {
        answers(
            &fake,
            &format!("os-server-groups/{}", uuid(n)),
            200,
            json!({ "server_group": { "id": uuid(n), "name": "db", "policy": policy, "rules": rules,
                "members": members, "project_id": "p1", "user_id": "u1" } }),
        );
    };
    let two = || vec![uuid(2), uuid(1)];
    group(1, "affinity", json!({}), two());
    group(2, "anti-affinity", json!({}), two());
    group(3, "anti-affinity", json!({ "max_server_per_host": 3 }), two());
    group(4, "anti-affinity", json!({ "max_server_per_host": "2" }), two());
    group(5, "soft-anti-affinity", json!({}), two());
    group(6, "affinity", json!({}), (0..GROUP_MEMBERS_MAX + 5).map(uuid).collect());
    group(7, "affinity", json!({}), vec!["nonsense".to_owned()]);
    answers(&fake, &format!("os-server-groups/{}", uuid(8)), 200, json!({ "server_groups": [] }));
    answers(&fake, &format!("os-server-groups/{}", uuid(9)), 502, json!({}));
    let refusal = "Policy doesn't allow os_compute_api:os-server-groups:show to be performed.";
    let forbidden = json!({ "forbidden": { "code": 403, "message": refusal } });
    answers(&fake, &format!("os-server-groups/{}", uuid(10)), 403, forbidden);
    let nova = fake.nova(TIMEOUT, "");
    let apart = |most| GroupPolicy::AntiAffinity { most };
    for (n, policy) in [
        (1, GroupPolicy::Affinity),
        (2, apart(1)),
        (3, apart(3)),
        (4, apart(2)),
        (5, GroupPolicy::Wish("soft-anti-affinity".into())),
    ] {
        let members = vec![server_id(1), server_id(2)];
        let expected = NovaServerGroup { id: group_id(n), name: "db".into(), policy, members, more: 0 };
        let answer = look(&nova, Lookup::Group(group_id(n))).await;
        assert_eq!(answer, Ok(NovaAnswer::ServerGroup(Some(expected))), "group {n}");
    }
    let Ok(NovaAnswer::ServerGroup(Some(large))) = look(&nova, Lookup::Group(group_id(6))).await else {
        panic!("a large group is cut, not refused")
    };
    assert_eq!((large.members.len(), large.more), (GROUP_MEMBERS_MAX, 5));
    for n in [7, 8] {
        let answer = look(&nova, Lookup::Group(group_id(n))).await;
        assert!(matches!(answer, Err(NovaError::Malformed(_))), "group {n}: {answer:?}");
    }
    let answer = look(&nova, Lookup::Group(group_id(9))).await;
    assert!(matches!(answer, Err(NovaError::Unknown(_))), "{answer:?}");
    let error = look(&nova, Lookup::Group(group_id(10))).await.expect_err("forbidden");
    assert!(matches!(&error, NovaError::Refused { status: 403, text } if text.as_str().contains(refusal)), "{error}");
    let gone = look(&nova, Lookup::Group(group_id(11))).await;
    assert_eq!(gone, Ok(NovaAnswer::ServerGroup(None)), "the fake answers as Nova: 404 with its own fault");
    let (headers, _) = fake.last("GET /compute/v2.1/os-server-groups");
    assert_eq!(headers["openstack-api-version"], "compute 2.64");
    assert_eq!(fake.count("GET /compute/v2.1/os-server-groups/"), fake.count("GET /compute/v2.1/os-server-groups"));
}

#[tokio::test]
async fn a_server_tells_its_groups_and_a_member_where_it_is() {
    let fake = Fake::start().await;
    let rows = [
        (json!([uuid(7)]), Some(vec![group_id(7)])),
        (json!([]), Some(vec![])),
        (json!([uuid(7), "nonsense", 4]), Some(vec![group_id(7)])),
        (json!(null), None),
        (json!("nonsense"), None),
    ];
    let nova = fake.nova(TIMEOUT, "");
    for (field, expected) in rows {
        let body = json!({ "server": { "id": uuid(1), "name": "db-1", "OS-EXT-SRV-ATTR:host": "cmp-2",
            "OS-EXT-STS:vm_state": "active", "server_groups": field.clone() } });
        answers(&fake, &format!("servers/{}", uuid(1)), 200, body);
        let alone = nova.read(NovaRead::Server(server_id(1))).await;
        let member = look(&nova, Lookup::Member(server_id(1))).await;
        assert_eq!(alone, member, "{field}");
        let Ok(NovaAnswer::Server(Some(server))) = alone else { panic!("{field}: {alone:?}") };
        assert_eq!(server.traits.groups, expected, "{field}");
        assert_eq!(server.host, HostName::new("cmp-2").ok(), "{field}");
    }
    assert_eq!(look(&nova, Lookup::Member(server_id(2))).await, Ok(NovaAnswer::Server(None)));
    let (headers, _) = fake.last("GET /compute/v2.1/servers/");
    assert_eq!(headers["openstack-api-version"], "compute 2.73", "2.71 is the first that tells groups");
}
