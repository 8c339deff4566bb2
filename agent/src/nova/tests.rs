//! The adapter's own behaviour, against a small Keystone and Nova on a socket.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};

use rekindle_coordinator::order::ServiceChange;
use rekindle_coordinator::recovery::Lookup;
use rekindle_proto::fact::{MigrationStatus, NovaAggregate};
use rekindle_proto::id::AggregateId;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::fake::{Act, Fake, HOST, PASSWORD};
use super::*;
use crate::clock;

const TIMEOUT: Duration = Duration::from_secs(10);
const ENOUGH: Duration = Duration::from_secs(20);

fn soon() -> Moment {
    clock::moment() + ENOUGH
}

fn server_id(n: u128) -> ServerId {
    format!("00000000-0000-0000-0000-{n:012}").parse().expect("uuid")
}

fn host() -> HostName {
    HostName::new(HOST).expect("legal")
}

#[tokio::test]
async fn fifty_refused_callers_cost_one_token() {
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    nova.read(NovaRead::Service(host())).await.expect("first token");
    *fake.valid_from.lock().expect("lock") = 2;
    *fake.keystone_delay.lock().expect("lock") = Duration::from_millis(100);
    let calls = (0..50).map(|_| nova.read(NovaRead::Service(host())));
    for answer in futures::future::join_all(calls).await {
        assert!(matches!(answer, Ok(NovaAnswer::Service(Some(_)))), "{answer:?}");
    }
    assert_eq!(fake.count("POST /v3"), 2);
    nova.read(NovaRead::Service(host())).await.expect("cached");
    assert_eq!(fake.count("POST /v3"), 2, "a token is not fetched per call");
}

#[tokio::test]
async fn a_nova_that_refuses_every_token_does_not_cost_one_each() {
    let fake = Fake::start().await;
    *fake.valid_from.lock().expect("lock") = u32::MAX;
    let nova = fake.nova(TIMEOUT, "");
    for _ in 0..3 {
        let answer = nova.send_evacuate(server_id(1), None, false, soon()).await;
        assert!(matches!(answer, Err(NovaError::Refused { status: 401, .. })), "{answer:?}");
    }
    assert_eq!(fake.count("POST /v3"), 2);
    assert_eq!(fake.count("POST /compute"), 4);
}

#[tokio::test]
async fn an_evacuation_is_sent_as_nova_wants_it() {
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    assert_eq!(nova.send_evacuate(server_id(7), None, false, soon()).await, Ok(NovaAnswer::Accepted));
    let (headers, body) = fake.last(&format!("POST /compute/v2.1/servers/{}/action", server_id(7)));
    assert_eq!(&body[..], br#"{"evacuate":{}}"#);
    assert_eq!(headers["content-length"], body.len().to_string().as_str());
    assert!(!headers.contains_key("transfer-encoding"), "WSGI servers do not take chunks");
    assert_eq!(headers["openstack-api-version"], "compute 2.68");
    assert_eq!(headers["x-openstack-nova-api-version"], "2.68");
    assert_eq!(nova.send_evacuate(server_id(7), None, true, soon()).await, Ok(NovaAnswer::Accepted));
    assert_eq!(fake.last("POST /compute").0["openstack-api-version"], "compute 2.95");
    nova.send_guest_power(server_id(7), GuestPower::Start, soon()).await.expect("accepted");
    assert_eq!(&fake.last("POST /compute").1[..], br#"{"os-start":null}"#);
    assert_eq!(fake.count("POST /v3"), 1);
}

#[tokio::test]
async fn acts_on_a_server_are_sent_as_nova_wants_them() {
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    let reason = Text::from("rekindle zrh1: incident 7");
    for (act, version, body) in [
        (ServerAct::Lock, "2.73", r#"{"lock":{"locked_reason":"rekindle zrh1: incident 7"}}"#),
        (ServerAct::Unlock, "2.73", r#"{"unlock":null}"#),
        (ServerAct::Reset, "2.1", r#"{"os-resetState":{"state":"error"}}"#),
        (ServerAct::Mark, "2.1", r#"{"os-resetState":{"state":"error"}}"#),
        (ServerAct::Stop, "2.1", r#"{"os-stop":null}"#),
        (ServerAct::Start, "2.1", r#"{"os-start":null}"#),
    ] {
        let answer = nova.send_server_act(server_id(7), act, &reason, soon()).await;
        assert_eq!(answer, Ok(NovaAnswer::Accepted), "{act:?}");
        let (headers, sent) = fake.last(&format!("POST /compute/v2.1/servers/{}/action", server_id(7)));
        assert_eq!(std::str::from_utf8(&sent).expect("text"), body, "{act:?}");
        assert_eq!(headers["openstack-api-version"], format!("compute {version}").as_str(), "{act:?}");
    }
    let late = nova.send_server_act(server_id(7), ServerAct::Stop, &reason, clock::moment()).await;
    assert!(matches!(late, Err(NovaError::NotSent(_))), "{late:?}");
}

#[tokio::test]
async fn an_answer_is_a_refusal_only_if_nova_itself_refused() {
    const JSON: &str = "application/json";
    const CONFLICT: &str = r#"{"conflictingRequest": {"code": 409, "message": "Cannot 'evacuate' instance"}}"#;
    const NOT_FOUND: &str = r#"{"itemNotFound": {"code": 404, "message": "Instance could not be found."}}"#;
    const PAGE: &str = "<html><body><h1>503 Service Unavailable</h1></body></html>";
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    let mut calls = 0;
    for (status, kind, body, refused) in [
        (400, JSON, r#"{"badRequest": {"code": 400, "message": "Compute service of cmp-1 is still in use."}}"#, true),
        (403, JSON, r#"{"forbidden": {"code": 403, "message": "Policy doesn't allow"}}"#, true),
        (404, JSON, NOT_FOUND, true),
        (409, JSON, CONFLICT, true),
        (413, JSON, r#"{"overLimit": {"code": 413, "message": "Quota exceeded"}}"#, true),
        (429, JSON, r#"{"overLimit": {"code": 429, "message": "Slow down"}}"#, true),
        (404, JSON, r#"{"message": "no Route matched with those values"}"#, false),
        (403, "text/html", PAGE, false),
        (408, JSON, r#"{"requestTimeout": {"code": 408, "message": "x"}}"#, false),
        (499, "text/html", PAGE, false),
        (500, JSON, r#"{"computeFault": {"code": 500, "message": "Unexpected API Error."}}"#, false),
        (502, "text/html", PAGE, false),
        (503, "text/html", PAGE, false),
        (504, "text/html", PAGE, false),
        (302, "text/html", "", false),
        (200, "text/html", PAGE, false),
    ] {
        fake.set_act(Act::Answer(status, kind, body));
        let answer = nova.send_evacuate(server_id(1), None, false, soon()).await.expect_err("not accepted");
        let is_refused = matches!(&answer, NovaError::Refused { status: said, .. } if *said == status);
        let is_unknown = matches!(answer, NovaError::Unknown(_));
        assert_eq!((is_refused, is_unknown), (refused, !refused), "{status} {body}: {answer}");
        calls += 1;
        assert_eq!(fake.count("POST /compute"), calls, "{status}: sent again");
    }
    assert_eq!(fake.count("GET /elsewhere") + fake.count("POST /elsewhere"), 0, "followed a redirect");
}

#[tokio::test]
async fn silence_after_the_request_is_unknown() {
    let fake = Fake::start().await;
    fake.set_act(Act::Hang);
    let nova = fake.nova(Duration::from_secs(2), "");
    nova.wire.introduction().await.expect("a token beforehand");
    let answer = nova.send_evacuate(server_id(1), None, false, soon()).await;
    assert!(matches!(answer, Err(NovaError::Unknown(_))), "{answer:?}");
    assert_eq!(fake.count("POST /compute"), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_is_unknown_and_one_that_never_was_is_not_sent() {
    let fake = Fake::start().await;
    let breaking = TcpListener::bind("127.0.0.1:0").await.expect("socket");
    let closed = StdListener::bind("127.0.0.1:0").expect("socket").local_addr().expect("address");
    let address = breaking.local_addr().expect("address");
    *fake.regions.lock().expect("lock") = BTreeMap::from([
        ("breaks".to_owned(), format!("http://{address}/v2.1")),
        ("closed".to_owned(), format!("http://{closed}/v2.1")),
    ]);
    let accepted = tokio::spawn(async move {
        let (mut stream, _) = breaking.accept().await.expect("accepted");
        let mut request = [0; 4096];
        stream.read(&mut request).await.expect("read")
    });
    let answer = fake.nova(TIMEOUT, "    region_name: breaks\n").send_evacuate(server_id(1), None, false, soon()).await;
    assert!(matches!(answer, Err(NovaError::Unknown(_))), "{answer:?}");
    assert!(accepted.await.expect("joined") > 0);
    let nova = fake.nova(TIMEOUT, "    region_name: closed\n");
    let answer = nova.send_evacuate(server_id(1), None, false, soon()).await;
    assert!(matches!(answer, Err(NovaError::NotSent(_))), "{answer:?}");
    let answer = nova.read(NovaRead::Service(host())).await;
    assert!(matches!(answer, Err(NovaError::NotSent(_))), "{answer:?}");
}

#[tokio::test]
async fn an_expired_permit_sends_nothing_not_even_for_a_token() {
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    let now = clock::moment();
    for answer in [
        nova.send_evacuate(server_id(1), None, false, now).await,
        nova.mark_forced_down(&host(), now).await,
        nova.send_guest_power(server_id(1), GuestPower::Stop, now).await,
    ] {
        assert!(matches!(answer, Err(NovaError::NotSent(_))), "{answer:?}");
    }
    assert_eq!(fake.count(""), 0);
}

#[tokio::test]
async fn a_permit_that_passes_while_the_token_is_fetched_sends_no_act() {
    let fake = Fake::start().await;
    *fake.keystone_delay.lock().expect("lock") = Duration::from_millis(1500);
    let nova = fake.nova(TIMEOUT, "");
    let answer = nova.send_evacuate(server_id(1), None, false, clock::moment() + Duration::from_secs(1)).await;
    assert!(matches!(answer, Err(NovaError::NotSent(_))), "{answer:?}");
    assert_eq!((fake.count("POST /v3"), fake.count("POST /compute")), (1, 0));
}

/// A connection may take seconds to come about. Here the listener's queue is full until the permit has passed.
#[tokio::test]
async fn a_permit_that_passes_while_connecting_sends_no_act() {
    let fake = Fake::start().await;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    socket.listen(0).expect("listens");
    let listener = StdListener::from(socket);
    let address = listener.local_addr().expect("address");
    *fake.regions.lock().expect("lock") = BTreeMap::from([("full".to_owned(), format!("http://{address}/v2.1"))]);
    let nova = fake.nova(TIMEOUT, "");
    nova.wire.introduction().await.expect("a token beforehand");
    let filling = TcpStream::connect(address).expect("fills the queue");
    let begin_before = clock::moment() + Duration::from_millis(700);
    let act = tokio::spawn(async move { nova.send_evacuate(server_id(1), None, false, begin_before).await });
    while clock::moment() < begin_before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(filling);
    listener.set_nonblocking(true).expect("async");
    let listener = TcpListener::from_std(listener).expect("async");
    let mut bytes = Vec::new();
    // The one that filled the queue, then ours, which sends nothing.
    for _ in 0..2 {
        let (mut stream, _) =
            tokio::time::timeout(ENOUGH, listener.accept()).await.expect("in time").expect("accepted");
        tokio::time::timeout(ENOUGH, stream.read_to_end(&mut bytes)).await.expect("in time").expect("read");
    }
    let answer = act.await.expect("joined");
    assert!(matches!(answer, Err(NovaError::NotSent(_))), "{answer:?}");
    assert_eq!(String::from_utf8_lossy(&bytes), "", "something was sent after the permit had passed");
}

#[tokio::test]
async fn every_page_is_read() {
    let fake = Fake::start().await;
    *fake.servers.lock().expect("lock") = (0..2_300).map(server_id).collect();
    *fake.migrations.lock().expect("lock") = 350;
    let nova = fake.nova(TIMEOUT, "");
    let Ok(NovaAnswer::Servers(servers)) = nova.read(NovaRead::Servers(host())).await else { panic!("no servers") };
    assert_eq!(servers.len(), 2_300);
    let Ok(NovaAnswer::Migrations(found)) = nova.read(NovaRead::Migrations(host())).await else { panic!("none") };
    assert_eq!(found.len(), (1..=350).filter(|id| id % 3 != 0).count());
    assert!(found.iter().all(|migration| migration.status == MigrationStatus::Done));
    assert!(found.iter().any(|migration| migration.dest == Some(host())));
    assert!(found.windows(2).all(|pair| pair[0].id < pair[1].id));
}

/// The newest only, whatever more there is: that is what makes the question cheap.
#[tokio::test]
async fn news_of_evacuations_are_one_call() {
    let fake = Fake::start().await;
    *fake.migrations.lock().expect("lock") = 350;
    let nova = fake.nova(TIMEOUT, "");
    let Ok(NovaAnswer::Migrations(found)) = nova.read(NovaRead::NewestEvacuations { rows: 9 }).await else {
        panic!("none")
    };
    // Nova leaves hidden ones out of a page after it has cut it.
    assert_eq!(found.iter().map(|record| record.id.0).collect::<Vec<_>>(), [350, 349, 347, 346, 344, 343]);
    assert_eq!(fake.count("GET /compute/v2.1/os-migrations"), 1);
}

#[tokio::test]
async fn a_server_that_nova_does_not_have_is_deleted_but_a_page_of_a_proxy_is_not() {
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    assert_eq!(nova.read(NovaRead::Server(server_id(1))).await, Ok(NovaAnswer::Server(None)));
    *fake.regions.lock().expect("lock") =
        BTreeMap::from([("one".to_owned(), format!("http://{}/wrong/v2.1", fake.address))]);
    let answer = fake.nova(TIMEOUT, "").read(NovaRead::Server(server_id(1))).await;
    assert!(matches!(answer, Err(NovaError::Unknown(_))), "{answer:?}");
}

#[tokio::test]
async fn a_host_is_forced_down_and_read_again() {
    let fake = Fake::start().await;
    let nova = fake.nova(TIMEOUT, "");
    let Ok(NovaAnswer::Service(Some(service))) = nova.mark_forced_down(&host(), soon()).await else { panic!("no") };
    assert!(service.forced_down && !service.up);
    let (headers, body) = fake.last("PUT /compute/v2.1/os-services/");
    assert_eq!(
        (&body[..], headers["openstack-api-version"].as_bytes()),
        (&br#"{"forced_down":true}"#[..], &b"compute 2.53"[..])
    );
    let stranger = HostName::new("cmp-9").expect("legal");
    assert_eq!(nova.mark_forced_down(&stranger, soon()).await, Ok(NovaAnswer::Service(None)));
    assert_eq!(fake.count("PUT"), 1);
    nova.change_service(&host(), &ServiceChange::LetBack, soon()).await.expect("let back");
    assert_eq!(&fake.last("PUT /compute/v2.1/os-services/").1[..], br#"{"forced_down":false}"#);
}

#[tokio::test]
async fn region_and_interface_choose_the_endpoint_and_doubt_is_an_error() {
    let fake = Fake::start().await;
    let url = |name: &str| format!("http://{}/compute{name}", fake.address);
    *fake.regions.lock().expect("lock") =
        BTreeMap::from([("one".to_owned(), url("/v2.1")), ("two".to_owned(), url("-two"))]);
    let said = fake.nova(TIMEOUT, "").check().await.expect_err("two regions").to_string();
    assert!(said.contains("region_name") && said.contains("public in two"), "{said}");
    let said = fake.nova(TIMEOUT, "    region_name: three\n").check().await.expect_err("no such region").to_string();
    assert!(said.contains("in region three") && said.contains("public in one"), "{said}");
    fake.nova(TIMEOUT, "    region_name: one\n").read(NovaRead::Service(host())).await.expect("region one");
    fake.nova(TIMEOUT, "    region_name: two\n    interface: internal\n").read(NovaRead::Service(host())).await.ok();
    assert_eq!(fake.count("GET /compute-two-internal/v2.1/os-services"), 1);
}

#[tokio::test]
async fn keystones_refusal_is_told_without_the_password() {
    let fake = Fake::start().await;
    *fake.keystone_refuses.lock().expect("lock") = true;
    let nova = fake.nova(TIMEOUT, "");
    let error = nova.send_evacuate(server_id(1), None, false, soon()).await.expect_err("no token");
    assert!(matches!(error, NovaError::NotSent(_)), "{error}");
    let said = format!("{error} {nova:?}");
    assert!(said.contains("401") && said.contains("clouds.yaml") && !said.contains(PASSWORD), "{said}");
    assert_eq!(fake.count("POST /compute"), 0);
}

#[tokio::test]
async fn check_says_who_we_are_and_what_was_found() {
    let fake = Fake::start().await;
    let url = format!("http://{}/compute/v2.1", fake.address);
    let nova = fake.nova(TIMEOUT, "");
    let words = nova.check().await.expect("all well");
    assert!(words.contains("user rekindle in project service with roles: admin") && words.contains(&url), "{words}");
    assert!(words.contains("1 compute services, 1 up: cmp-1") && words.contains("migration records"), "{words}");
    assert_eq!(fake.count("PUT") + fake.count("POST /compute"), 0, "a check changed something");
}

#[tokio::test]
async fn what_rules_need_is_looked_up_and_silence_is_never_none_such() {
    let fake = Fake::start().await;
    let keys = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    *fake.keys.lock().expect("lock") =
        SelectKeys { image: keys(&["os_ha"]), aggregate: keys(&["evacuable"]), ..SelectKeys::default() };
    let found = |path: &str, status: u16, body: serde_json::Value| {
        fake.others.lock().expect("lock").insert(path.to_owned(), (status, body));
    };
    found("/image/v2/images/i1", 200, json!({ "id": "i1", "os_ha": "false", "hw_disk_bus": "virtio" }));
    found(
        "/image/v2/images/gone",
        404,
        json!({ "message": "No image found with ID gone", "code": "404 Not Found", "title": "Not Found" }),
    );
    found("/image/v2/images/proxy", 404, json!({ "message": "no Route matched with those values" }));
    found("/image/v2/images/broken", 503, json!({}));
    found("/identity/v3/projects/p1", 200, json!({ "project": { "id": "p1", "name": "octavia" } }));
    found("/identity/v3/projects/gone", 404, json!({ "error": { "code": 404, "title": "Not Found", "message": "x" } }));
    found("/identity/v3/projects/proxy", 404, json!({ "message": "no Route" }));
    let aggregate = |id: u64, name: &str, on: &str| json!({ "id": id, "name": name, "hosts": [on], "metadata": { "evacuable": "true", "x": "y" } });
    let rows = json!({ "aggregates": [aggregate(3, "gpu", "cmp-1"), aggregate(4, "ssd", "cmp-2")] });
    found("/compute/v2.1/os-aggregates", 200, rows);
    let nova = fake.nova(TIMEOUT, "");
    let words = |key: &str, word: &str| BTreeMap::from([(key.to_owned(), Text::from(word))]);
    let rows: Vec<(Lookup, Option<NovaAnswer>)> = vec![
        (Lookup::Image("i1".into()), Some(NovaAnswer::Image(Some(words("os_ha", "false"))))),
        (Lookup::Image("gone".into()), Some(NovaAnswer::Image(None))),
        (Lookup::Image("proxy".into()), None),
        (Lookup::Image("broken".into()), None),
        (Lookup::Image("unheard-of".into()), None),
        (Lookup::Project("p1".into()), Some(NovaAnswer::Project(Some("octavia".into())))),
        (Lookup::Project("gone".into()), Some(NovaAnswer::Project(None))),
        (Lookup::Project("proxy".into()), None),
        (
            Lookup::Aggregates,
            Some(NovaAnswer::Aggregates(vec![NovaAggregate {
                id: AggregateId(3),
                name: "gpu".into(),
                metadata: words("evacuable", "true"),
            }])),
        ),
    ];
    for (lookup, expected) in rows {
        let answer = nova.read(NovaRead::Look { host: host(), lookup: lookup.clone() }).await;
        match expected {
            Some(expected) => assert_eq!(answer, Ok(expected), "{lookup}"),
            None => assert!(matches!(answer, Err(NovaError::Unknown(_))), "{lookup}: {answer:?}"),
        }
    }
    assert_eq!(fake.count("POST /v3/auth/tokens"), 1, "one token for all of them");
    let (headers, _) = fake.last("GET /image/v2/images/i1");
    assert_eq!(headers["accept"], "application/json", "or Glance answers pages");
}
