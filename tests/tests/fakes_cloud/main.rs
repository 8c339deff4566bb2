//! The simulated cloud, over HTTP as its clients meet it, against its own ground truth.

mod client;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use client::{Client, DEADLINE, credential, field, host};
use rekindle_tests::fake::cloud::{
    CLOUD_NAME, Cloud, CloudBuilder, Disks, Endpoint, EvacuateOutcome, Fault, Span, SpawnFault,
};
use rekindle_tests::fake::guests::{GuestEvent, GuestEventLine, GuestList};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A small cloud with the reports of nova-compute quick enough to watch.
fn small(seed: u64) -> CloudBuilder {
    println!("seed {seed}");
    Cloud::builder()
        .hosts(["cmp-1", "cmp-2", "cmp-3"])
        .servers_per_host(2)
        .seed(seed)
        .heartbeat(Duration::from_millis(50), Duration::from_secs(60))
}

async fn start(builder: CloudBuilder) -> (Cloud, Client) {
    let cloud = builder.start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("binds");
    let client = Client::new(&cloud).await;
    (cloud, client)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn statuses(cloud: &Cloud) -> Vec<&'static str> {
    cloud.migrations().into_iter().map(|migration| migration.status).collect()
}

#[tokio::test]
async fn the_whole_story_of_one_evacuation() {
    let (cloud, nova) = start(small(7)).await;
    let servers = cloud.servers_of(&host("cmp-1"));
    let evacuate = json!({"evacuate": {}});
    let (status, body) = nova.act(servers[0], evacuate.clone()).await;
    assert_eq!((status, &body["badRequest"]["message"]), (400, &json!("Compute service of cmp-1 is still in use.")));

    let before = nova.service("cmp-1").await;
    assert_eq!((&before["state"], &before["status"]), (&json!("up"), &json!("enabled")));
    nova.heartbeat("cmp-1").await;
    nova.kill(&cloud, "cmp-1").await;
    let dead = nova.service("cmp-1").await;
    assert_eq!((&dead["state"], &dead["forced_down"]), (&json!("down"), &json!(true)));
    for _ in 0..2 {
        nova.heartbeat("cmp-2").await;
    }
    assert_eq!(nova.service("cmp-1").await["updated_at"], dead["updated_at"], "a dead host's heartbeat stands still");
    assert!(cloud.running_copies(servers[0]).is_empty());

    for server in &servers {
        let (status, body) = nova.act(*server, evacuate.clone()).await;
        assert_eq!(status, 200);
        assert!(body["adminPass"].is_string());
        let shown = nova.server(*server).await;
        assert_eq!((&shown["status"], &shown["OS-EXT-SRV-ATTR:host"]), (&json!("REBUILD"), &json!("cmp-1")));
    }
    until("both done", || statuses(&cloud) == ["done", "done"]).await;
    for server in &servers {
        let shown = nova.server(*server).await;
        assert_eq!((&shown["status"], &shown["OS-EXT-STS:task_state"]), (&json!("ACTIVE"), &Value::Null));
        let runs_on = cloud.running_copies(*server);
        assert_eq!(json!(runs_on), json!([shown["OS-EXT-SRV-ATTR:host"]]));
    }
    let path = "/os-migrations?migration_type=evacuation&source_compute=cmp-1&status=done";
    let (_, body) = nova.call("GET", path, "2.80", Value::Null).await;
    assert_eq!(body["migrations"].as_array().expect("list").len(), 2);
    assert!(body["migrations"][0]["uuid"].is_string() && body["migrations"][0]["project_id"].is_string());

    let (status, body) = nova.put_service("cmp-1", json!({"forced_down": false})).await;
    assert_eq!(status, 400);
    assert!(body.to_string().contains("`done` evacuation migration records remain"), "{body}");
    cloud.host_returned(&host("cmp-1"));
    until("the clean-up", || statuses(&cloud) == ["completed", "completed"]).await;
    assert!(cloud.guests(&host("cmp-1")).is_empty(), "the old guests are destroyed");
    assert_eq!(nova.service("cmp-1").await["state"], "down", "forced down until somebody says otherwise");
    assert_eq!(nova.put_service("cmp-1", json!({"forced_down": false})).await.0, 200);
    assert_eq!(nova.service("cmp-1").await["state"], "up");
    assert!(cloud.ever_ran_twice().is_empty());
    let accepted = |outcome: &EvacuateOutcome| matches!(outcome, EvacuateOutcome::Accepted(_));
    let outcomes: Vec<_> = cloud.evacuate_calls().iter().map(|call| call.outcome).collect();
    assert!(outcomes[0] == EvacuateOutcome::Refused(400) && outcomes[1..].iter().all(accepted), "{outcomes:?}");
}

#[tokio::test]
async fn who_has_an_unread_order_is_known_to_placement_alone() {
    let (cloud, nova) = start(small(8)).await;
    let server = nova.kill(&cloud, "cmp-1").await[0];
    // Nova takes them for alive: they have just reported.
    cloud.host_died(&host("cmp-2"));
    cloud.host_died(&host("cmp-3"));
    let placement = cloud.auth_url().replace("/identity/v3", "/placement");
    let allocations = format!("{placement}/allocations/{server}");
    let held = async || {
        let held = nova.get(&allocations).await["allocations"].clone();
        held.as_object().expect("providers").keys().cloned().collect::<Vec<_>>()
    };
    let mut ids = Vec::new();
    let mut hosts = Vec::new();
    assert_eq!(held().await.len(), 1, "its own");
    nova.act(server, json!({"evacuate": {}})).await;
    let began = Instant::now();
    while ids.len() != 2 {
        assert!(began.elapsed() < DEADLINE, "nobody was chosen");
        ids = held().await;
    }
    for id in &ids {
        let shown = nova.get(&format!("/os-hypervisors/{id}")).await;
        hosts.push(shown["hypervisor"]["service"]["host"].as_str().expect("a host").to_owned());
    }
    assert!(hosts.contains(&"cmp-1".to_owned()) && hosts.iter().any(|host| host != "cmp-1"), "{hosts:?}");
    let records = nova.get(&format!("/os-migrations?instance_uuid={server}")).await;
    let record = &records["migrations"][0];
    assert_eq!((&record["status"], &record["dest_compute"]), (&json!("accepted"), &Value::Null));
    let actions = nova.get(&format!("/servers/{server}/os-instance-actions")).await;
    let request = actions["instanceActions"][0]["request_id"].as_str().expect("a request").to_owned();
    let action = nova.get(&format!("/servers/{server}/os-instance-actions/{request}")).await;
    let events = action["instanceAction"]["events"].as_array().expect("events").clone();
    assert_eq!(events.len(), 1, "nobody has taken it: {events:?}");
    assert_eq!((&events[0]["event"], &events[0]["result"]), (&json!("rebuild_server"), &json!("Success")));
}

#[tokio::test]
async fn a_second_evacuate_is_accepted_and_gives_two_copies() {
    let (cloud, nova) = start(small(8)).await;
    let server = nova.kill(&cloud, "cmp-1").await[0];
    for _ in 0..2 {
        assert_eq!(nova.act(server, json!({"evacuate": {}})).await.0, 200);
    }
    until("both over", || statuses(&cloud).iter().all(|status| matches!(*status, "done" | "failed"))).await;
    assert_eq!(cloud.running_copies(server), [host("cmp-2"), host("cmp-3")]);
    assert_eq!(nova.server(server).await["status"], "ERROR");
    let twice = cloud.ever_ran_twice();
    assert_eq!((twice.len(), twice[0].server, twice[0].hosts.len()), (1, server, 2));
}

#[tokio::test]
async fn a_host_that_is_back_too_early_runs_its_guests_a_second_time() {
    let slow_compute = Duration::from_millis(300);
    let (cloud, nova) = start(small(9).autostart(true).compute_start_time(slow_compute)).await;
    let server = nova.kill(&cloud, "cmp-1").await[0];
    nova.act(server, json!({"evacuate": {}})).await;
    until("done", || statuses(&cloud) == ["done"]).await;
    assert!(cloud.ever_ran_twice().is_empty());
    cloud.host_returned(&host("cmp-1"));
    assert_eq!(cloud.running_copies(server).len(), 2, "autostart comes before nova-compute's clean-up");
    until("the clean-up", || cloud.running_copies(server).len() == 1).await;
    assert_eq!(cloud.ever_ran_twice().len(), 1, "what happened stays on record");
}

#[tokio::test]
async fn a_hung_host_is_silent_and_runs_on() {
    let (cloud, nova) = start(small(10)).await;
    cloud.host_hung(&host("cmp-1"));
    let server = cloud.servers_of(&host("cmp-1"))[0];
    let seen = nova.service("cmp-1").await["updated_at"].clone();
    nova.put_service("cmp-1", json!({"forced_down": true})).await;
    assert_eq!(cloud.running_copies(server), [host("cmp-1")]);
    nova.act(server, json!({"evacuate": {}})).await;
    until("done", || statuses(&cloud) == ["done"]).await;
    assert_eq!(cloud.ever_ran_twice().len(), 1, "evacuating from a host that is not off");
    assert_eq!(nova.service("cmp-1").await["updated_at"], seen);
    cloud.host_returned(&host("cmp-1"));
    nova.heartbeat("cmp-1").await;
    assert_eq!(statuses(&cloud), ["done"], "no clean-up without a restart");
    assert_eq!(cloud.running_copies(server).len(), 2);
}

#[tokio::test]
async fn a_start_cast_to_a_dead_host_is_done_when_it_returns() {
    let builder = small(11).each_server(|_, _, spec| spec.vm_state = "stopped".into());
    let (cloud, nova) = start(builder).await;
    let server = nova.kill(&cloud, "cmp-1").await[0];
    assert_eq!(nova.act(server, json!({"os-start": null})).await.0, 202);
    nova.act(server, json!({"evacuate": {}})).await;
    until("done", || statuses(&cloud) == ["done"]).await;
    assert!(cloud.running_copies(server).is_empty(), "it was stopped, and is");
    cloud.host_returned(&host("cmp-1"));
    until("the cast replays", || cloud.running_copies(server) == [host("cmp-1")]).await;
}

#[tokio::test]
async fn from_2_95_on_the_guest_arrives_stopped() {
    let (cloud, nova) = start(small(12).each_server(|_, _, spec| spec.disks = Disks::Local)).await;
    let server = nova.kill(&cloud, "cmp-1").await[0];
    let path = format!("/servers/{server}/action");
    assert_eq!(nova.call("POST", &path, "2.94", json!({"evacuate": {"force": true}})).await.0, 400);
    assert_eq!(nova.call("POST", &path, "2.95", json!({"evacuate": {}})).await.0, 200);
    until("done", || statuses(&cloud) == ["done"]).await;
    assert_eq!(nova.server(server).await["status"], "SHUTOFF");
    assert!(cloud.running_copies(server).is_empty() && cloud.data_lost(server));
    assert_eq!(nova.act(server, json!({"os-start": null})).await.0, 202);
    until("started", || cloud.running_copies(server).len() == 1).await;
    assert_eq!(nova.act(server, json!({"lock": {"locked_reason": "evacuating"}})).await.0, 202);
    assert_eq!(nova.server(server).await["locked_reason"], "evacuating");
    assert_eq!(nova.act(server, json!({"unlock": null})).await.0, 202);
    assert_eq!(nova.server(server).await["locked"], false);
}

#[tokio::test]
async fn every_one_of_2500_servers_is_on_some_page() {
    let (cloud, nova) = start(Cloud::builder().hosts(["cmp-1", "cmp-2"]).servers_per_host(2500).seed(13)).await;
    let wanted: BTreeSet<String> = cloud.servers_of(&host("cmp-1")).iter().map(ToString::to_string).collect();
    for (limit, pages) in [("", 3), ("&limit=500", 6), ("&limit=5000", 3)] {
        let mut next = Some(format!("/servers/detail?all_tenants=1&host=cmp-1{limit}"));
        let (mut found, mut read) = (Vec::new(), 0);
        while let Some(path) = next {
            let body = nova.get(&path).await;
            found.extend(body["servers"].as_array().expect("list").iter().map(|it| it["id"].clone()));
            next = body["servers_links"][0]["href"].as_str().map(str::to_owned);
            read += 1;
        }
        assert_eq!((found.len(), read), (2500, pages), "{limit:?}: a full last page is followed by an empty one");
        let found: BTreeSet<String> = found.iter().map(|id| id.as_str().expect("text").to_owned()).collect();
        assert!(found == wanted);
    }
    assert_eq!(nova.get("/servers/detail?host=cmp-1").await["servers"], json!([]), "without all_tenants: none");
    assert_eq!(nova.call("GET", "/servers?all_tenants=1&marker=none", "2.94", Value::Null).await.0, 400);
}

#[tokio::test]
async fn a_token_can_be_revoked_midway_and_expires() {
    let (cloud, nova) = start(small(14).token_life(Duration::from_millis(700))).await;
    cloud.revoke_tokens_after(2);
    for wanted in [200, 200, 401, 401] {
        assert_eq!(nova.call("GET", "/os-services", "2.53", Value::Null).await.0, wanted);
    }
    let nova = Client::new(&cloud).await;
    let began = Instant::now();
    while nova.call("GET", "/os-services", "2.53", Value::Null).await.0 == 200 {
        assert!(began.elapsed() < DEADLINE, "the token never expired");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut wrong = credential(&cloud);
    wrong["auth"]["identity"]["application_credential"]["secret"] = json!("no");
    let reply = nova.http.post(format!("{}/auth/tokens", cloud.auth_url())).json(&wrong).send().await;
    assert_eq!(reply.expect("answers").status(), 401);
}

#[tokio::test]
async fn a_cut_connection_does_not_tell_whether_it_was_done() {
    let (cloud, nova) = start(small(15)).await;
    let servers = nova.kill(&cloud, "cmp-1").await;
    let path = format!("/servers/{}/action", servers[0]);
    for (fault, migrations) in [(Fault::DropBefore, 0), (Fault::DropAfter, 1)] {
        cloud.fault(Endpoint::Evacuate, fault, Span::Next(1));
        let answer = nova.try_call("POST", &path, "2.94", json!({"evacuate": {}})).await;
        assert!(answer.is_err(), "{fault:?}: {answer:?}");
        assert_eq!(cloud.migrations().len(), migrations, "{fault:?}");
        assert_eq!(cloud.requests().last().expect("logged").status, None);
    }
    // A caller that goes away while Nova is slow has given its order all the same.
    cloud.fault(Endpoint::Evacuate, Fault::Latency(Duration::from_millis(300)), Span::Next(1));
    let url = format!("{}/servers/{}/action", nova.url, servers[1]);
    let hasty = nova.http.post(url).header("X-Auth-Token", &nova.token).json(&json!({"evacuate": {}}));
    let hasty = tokio::spawn(hasty.send());
    let asked = || cloud.requests().iter().filter(|line| line.endpoint == Endpoint::Evacuate).count();
    until("it is sent", || asked() == 3).await;
    hasty.abort();
    until("it is done late", || cloud.migrations().len() == 2).await;
}

#[tokio::test]
async fn proxies_throttles_and_hangs() {
    let (cloud, nova) = start(small(16)).await;
    cloud.fault(Endpoint::Services, Fault::Http(503), Span::Next(2));
    for wanted in [503, 503, 200] {
        let (status, body) = nova.call("GET", "/os-services", "2.53", Value::Null).await;
        assert_eq!((status, body.is_null()), (wanted, wanted == 503), "a proxy's page is not JSON");
    }
    cloud.fault(Endpoint::Any, Fault::Throttled(7), Span::UntilCleared);
    let reply = nova.http.get(format!("{}/servers", nova.url)).send().await.expect("answers");
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &"7".parse().expect("value")));
    cloud.clear_faults();
    cloud.fault(Endpoint::Token, Fault::Http(503), Span::For(DEADLINE));
    let url = format!("{}/auth/tokens", cloud.auth_url());
    assert_eq!(nova.http.post(url).json(&credential(&cloud)).send().await.expect("answers").status(), 503);
    nova.get("/os-services").await;
    cloud.fault(Endpoint::Servers, Fault::Hang, Span::Next(1));
    let hung = nova.http.get(format!("{}/servers", nova.url)).header("X-Auth-Token", &nova.token);
    let hung = tokio::spawn(hung.send());
    let last = || cloud.requests().pop().expect("logged");
    until("it is sent", || last().endpoint == Endpoint::Servers).await;
    let line = last();
    nova.get("/servers").await;
    assert!(!hung.is_finished(), "others are answered, this one is not");
    assert_eq!((line.endpoint, line.status), (Endpoint::Servers, None));
}

#[tokio::test]
async fn destinations_fail_in_each_way() {
    let (cloud, nova) = start(small(17)).await;
    let servers = nova.kill(&cloud, "cmp-1").await;
    let all: Vec<_> = [
        (SpawnFault::NoValidHost, "error", "error", 0),
        (SpawnFault::ClaimFails, "failed", "active", 0),
        (SpawnFault::SpawnFails, "failed", "error", 0),
        (SpawnFault::SpawnFailsGuestRuns, "failed", "error", 1),
    ]
    .into();
    for (number, (fault, migration, vm_state, copies)) in all.into_iter().enumerate() {
        let server = servers[0];
        cloud.change_server(server, |spec| spec.vm_state = "active".into());
        cloud.spawn_fault(fault, None, 1);
        assert_eq!(nova.act(server, json!({"evacuate": {}})).await.0, 200);
        until("over", || statuses(&cloud)[number] == migration).await;
        let (shown_on, shown, task) = cloud.shown(server).expect("known");
        assert_eq!((shown_on, shown.as_str(), task), (host("cmp-1"), vm_state, None), "{fault:?}");
        assert_eq!(cloud.running_copies(server).len(), copies, "{fault:?}");
    }
    cloud.change_server(servers[1], |spec| spec.vm_state = "paused".into());
    assert_eq!(nova.act(servers[1], json!({"evacuate": {}})).await.0, 409);
}

#[tokio::test]
async fn disabling_a_host_that_just_died_blocks_unless_forced_down() {
    let blocked = Duration::from_millis(400);
    let (cloud, nova) = start(small(18).rpc_timeout(blocked)).await;
    let disable = json!({"status": "disabled", "disabled_reason": "dead"});
    cloud.host_died(&host("cmp-1"));
    let began = Instant::now();
    assert_eq!(nova.put_service("cmp-1", disable).await.0, 200);
    assert!(began.elapsed() >= blocked, "Nova calls the dead compute");
    cloud.host_died(&host("cmp-2"));
    let both = json!({"status": "disabled", "disabled_reason": "dead", "forced_down": true});
    let (status, body) = nova.put_service("cmp-2", both).await;
    assert_eq!((status, &body["service"]["disabled_reason"]), (200, &json!("dead")));
    let lines = cloud.requests();
    assert!(lines.iter().filter(|line| line.endpoint == Endpoint::UpdateService).count() == 2);
    assert_eq!(nova.put_service("cmp-3", json!({"disabled_reason": "x"})).await.0, 400);
    assert_eq!(nova.put_service("cmp-3", json!({"frozen": true})).await.0, 400);
}

#[tokio::test]
async fn microversions_are_negotiated_in_both_headers() {
    let (cloud, nova) = start(small(19)).await;
    let url = format!("{}/os-services", nova.url);
    for (header, value, shown) in [
        ("X-OpenStack-Nova-API-Version", "2.53", "2.53"),
        ("OpenStack-API-Version", "compute 2.80", "2.80"),
        ("OpenStack-API-Version", "compute latest", "2.104"),
    ] {
        let reply = nova.http.get(&url).header("X-Auth-Token", &nova.token).header(header, value).send().await;
        let reply = reply.expect("answers");
        assert_eq!(reply.headers()["openstack-api-version"], format!("compute {shown}").as_str());
        assert_eq!(reply.headers()["x-openstack-nova-api-version"], shown);
    }
    let old = nova.call("GET", "/os-services?binary=nova-compute", "2.1", Value::Null).await.1;
    assert!(old["services"][0]["id"].is_u64() && old["services"][0].get("forced_down").is_none(), "{old}");
    assert_eq!(nova.call("GET", "/os-services", "2.999", Value::Null).await.0, 406);
    let root = nova.http.get(format!("http://{}/compute/", cloud.address())).send().await.expect("answers");
    let root: Value = root.json().await.expect("JSON");
    assert_eq!(root["versions"][0]["version"], "2.104");
}

#[tokio::test]
async fn osauth_logs_in_both_ways_and_lists() {
    use osauth::identity::{ApplicationCredential, Password, Scope};
    let (cloud, _) = start(small(20)).await;
    let (by_credential, by_password) = (cloud.clouds_yaml(true), cloud.clouds_yaml(false));
    assert!(by_credential.contains(CLOUD_NAME));
    let id = field(&by_credential, "application_credential_id");
    let secret = field(&by_credential, "application_credential_secret");
    let credential = ApplicationCredential::new(cloud.auth_url(), id, secret).expect("a URL");
    let password = field(&by_password, "password");
    let project = Scope::Project {
        project: osauth::common::IdOrName::Name("service".into()),
        domain: Some(osauth::common::IdOrName::Name("Default".into())),
    };
    let password = Password::new(cloud.auth_url(), "rekindle", password, "Default").expect("a URL").with_scope(project);
    for session in [osauth::Session::new(credential).await, osauth::Session::new(password).await] {
        let compute = session.expect("logs in").adapter(osauth::services::COMPUTE);
        let call = compute.get(&["os-services"]).api_version(osauth::ApiVersion(2, 53));
        let found: Value = call.query(&[("binary", "nova-compute")]).fetch().await.expect("lists");
        assert_eq!(found["services"].as_array().expect("list").len(), 3);
    }
}

#[tokio::test]
async fn the_guests_socket_tells_the_truth_of_its_host() {
    let (cloud, nova) = start(small(21)).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (one, two) = (host("cmp-1"), host("cmp-2"));
    let socket = cloud.serve_guests(&one, &directory.path().join("cmp-1.sock")).expect("binds");
    let (read, mut write) = UnixStream::connect(socket.path()).await.expect("connects").into_split();
    let mut lines = BufReader::new(read).lines();
    let mut line = async || tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("a line").expect("reads");
    let servers = cloud.servers_of(&one);

    let list: GuestList = serde_json::from_str(&line().await.expect("a list")).expect("a list");
    assert!(list.complete && list.guests.len() == 2 && list.guests.iter().all(|guest| guest.running));
    write.write_all(b"li").await.expect("writes");
    cloud.guest_failed(servers[0]);
    let event: GuestEventLine = serde_json::from_str(&line().await.expect("an event")).expect("an event");
    assert_eq!((event.event, event.server), (GuestEvent::Failed, servers[0]));
    let list: GuestList = serde_json::from_str(&line().await.expect("a list")).expect("a list");
    assert_eq!(list.guests.iter().filter(|guest| guest.running).count(), 1);
    for complete in [false, true] {
        cloud.set_guest_list_complete(&one, complete); // The half word waits through this.
        assert!(line().await.expect("a list").ends_with(&format!("\"complete\":{complete}}}")));
    }
    write.write_all(b"st\n").await.expect("writes");
    let again: GuestList = serde_json::from_str(&line().await.expect("asked for")).expect("a list");
    assert_eq!(again, list);
    cloud.set_guest_list_complete(&one, false);
    assert!(line().await.expect("a list").ends_with("\"complete\":false}"));

    let mut chatter = UnixStream::connect(socket.path()).await.expect("connects");
    chatter.write_all(&[b'x'; 4096]).await.expect("writes");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, chatter.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a line without end ends the connection");

    cloud.host_died(&one);
    assert_eq!(line().await, None, "a dead host's connections end");
    let other = cloud.serve_guests(&two, &directory.path().join("cmp-2.sock")).expect("binds");
    let mut lines = BufReader::new(UnixStream::connect(other.path()).await.expect("connects")).lines();
    lines.next_line().await.expect("reads").expect("the first list");
    nova.put_service("cmp-1", json!({"forced_down": true})).await;
    nova.put_service("cmp-3", json!({"status": "disabled"})).await;
    nova.act(servers[1], json!({"evacuate": {}})).await;
    let event = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("in time").expect("reads");
    assert_eq!(event, Some(format!("{{\"event\":\"running\",\"server\":\"{}\"}}", servers[1])));
}
