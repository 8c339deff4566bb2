//! What a scrape shows after what was fed in, over real HTTP.

use std::sync::Arc;

use rekindle_proto::fact::{MemberRole, OrderError, PowerState};
use rekindle_proto::id::{DomainName, HostName, IncidentId, PathName, ServerId, Term};
use rekindle_proto::status::PathLine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{CONNECTION_LIFE, CONNECTIONS_MAX};
use super::*;

fn metrics() -> Metrics {
    Metrics::new(&Member {
        host: HostName::new("cmp-01").expect("legal"),
        listen: "127.0.0.1:7946".parse().expect("an address"),
        paths: Vec::new(),
        state_dir: "/nonexistent".into(),
        admin_socket: "/nonexistent/admin.sock".into(),
        metrics: None,
        domain: Some(DomainName::new("rack-1").expect("legal")),
        labels: [("row".to_owned(), "b".to_owned())].into(),
        role: MemberRole::Member,
        system_uuid: None,
        record: false,
        watchdog: None,
    })
}

fn shows(metrics: &Metrics, line: &str) {
    let text = metrics.encoded();
    assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
}

async fn request(stream: &mut TcpStream, path: &str) {
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("sent");
}

async fn got(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    request(&mut stream, path).await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    text
}

#[test]
fn every_method_shows() {
    let metrics = metrics();
    shows(
        &metrics,
        "rekindle_member_info{domain=\"rack-1\",host=\"cmp-01\",role=\"member\",row=\"b\",version=\"0.1.0\"} 1",
    );
    let host = HostName::new("cmp-02").expect("legal");
    metrics.event(&Event::Phase { incident: None, number: 0, host, phase: Phase::Suspect, text: "x".into() });
    metrics.event(&Event::Leader { term: Term(7), leader: None, us: true });
    let server = ServerId(uuid::Uuid::nil());
    metrics.event(&Event::Server { incident: IncidentId(1), server, text: "x".into(), bad: true });
    metrics.event(&Event::Warning { host: None, text: "x".into() });
    metrics.power_off(Ok(()));
    metrics.power_off(Err(&OrderError::TooLate));
    metrics.power_off(Err(&OrderError::NotSent(DeviceError::Credentials("x".into()))));
    let silent = DeviceReading { power: Err(DeviceError::Silent("x".into())), guid: None };
    metrics.device_read(&silent);
    metrics.device_read(&DeviceReading { power: Ok(PowerState::On), guid: None });
    metrics.evacuate(Ok(()));
    metrics.evacuate(Err(&NovaError::Unknown("x".into())));
    metrics.nova_error(&NovaError::Refused { status: 403, text: "x".into() });
    metrics.dropped("datagram");
    metrics.loop_turn(Duration::from_millis(1));
    for line in [
        "rekindle_phase_changes_total{phase=\"suspect\"} 1",
        "rekindle_term 7",
        "rekindle_leads 1",
        "rekindle_servers_bad_total 1",
        "rekindle_warnings_total 1",
        "rekindle_power_offs_total{result=\"accepted\"} 1",
        "rekindle_power_offs_total{result=\"too-late\"} 1",
        "rekindle_power_offs_total{result=\"not-sent\"} 1",
        "rekindle_device_errors_total{kind=\"credentials\"} 1",
        "rekindle_device_errors_total{kind=\"silent\"} 1",
        "rekindle_device_errors_total{kind=\"too-late\"} 1",
        "rekindle_evacuates_total{result=\"accepted\"} 1",
        "rekindle_evacuates_total{result=\"unknown\"} 1",
        "rekindle_nova_errors_total{kind=\"refused\"} 1",
        "rekindle_dropped_total{what=\"datagram\"} 1",
        "rekindle_loop_turn_seconds_count 1",
    ] {
        shows(&metrics, line);
    }
}

#[test]
fn the_picture_is_taken_over_and_forgotten() {
    let metrics = metrics();
    let mut status = crate::cli::samples::busy();
    metrics.status(&status);
    shows(&metrics, "rekindle_hosts{state=\"alive\"} 4");
    shows(&metrics, "rekindle_hosts{state=\"evacuating\"} 1");
    shows(&metrics, "rekindle_incidents_open{phase=\"evacuating\"} 1");
    shows(&metrics, "rekindle_armed 1");
    shows(&metrics, "rekindle_roster 5");
    assert!(!metrics.encoded().contains("rekindle_path_hosts{"), "one network is not shown apart");
    let on = |path: &str, state: &str, lost| PathLine {
        path: PathName::new(path).expect("legal"),
        state: state.into(),
        lost,
    };
    for host in &mut status.hosts {
        let fails = host.host.as_str() == "cmp-04";
        let storage = if fails { "down" } else { "alive" };
        host.paths = vec![on("management", "alive", false), on("storage", storage, fails)];
    }
    metrics.status(&status);
    shows(&metrics, "rekindle_path_hosts{path=\"storage\",state=\"alive\"} 4");
    shows(&metrics, "rekindle_path_hosts{path=\"storage\",state=\"down\"} 1");
    shows(&metrics, "rekindle_path_hosts{path=\"management\",state=\"down\"} 0");
    shows(&metrics, "rekindle_path_lost_hosts{path=\"storage\"} 1");
    status.incidents.clear();
    status.hosts.iter_mut().for_each(|host| host.state = "a word of tomorrow".into());
    metrics.status(&status);
    shows(&metrics, "rekindle_hosts{state=\"alive\"} 0");
    shows(&metrics, "rekindle_hosts{state=\"other\"} 5");
    shows(&metrics, "rekindle_incidents_open{phase=\"evacuating\"} 0");
    metrics.gossip(&crate::cli::samples::members());
    shows(&metrics, "rekindle_members{state=\"suspect\"} 1");
}

#[tokio::test]
async fn both_pages_are_served() {
    let metrics = Arc::new(metrics());
    let server = MetricsServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
    let address = server.address();
    tokio::spawn(server.serve(Arc::clone(&metrics)));
    assert!(got(address, "/healthz").await.starts_with("HTTP/1.1 503"), "no turn yet");
    metrics.loop_turn(Duration::from_millis(1));
    assert!(got(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let page = got(address, "/metrics").await;
    assert!(page.contains("openmetrics-text") && page.trim_end().ends_with("# EOF"), "{page}");
    assert!(got(address, "/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn idle_connections_give_their_places_back() {
    let server = MetricsServer::bind("127.0.0.1:0".parse().expect("an address")).await.expect("bound");
    let address = server.address();
    tokio::spawn(server.serve(Arc::new(metrics())));
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(TcpStream::connect(address).await.expect("connects"));
    }
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let page = tokio::time::timeout(CONNECTION_LIFE * 2, got(address, "/metrics")).await.expect("a place came free");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(began.elapsed() >= CONNECTION_LIFE - Duration::from_secs(1), "waited for a place: {:?}", began.elapsed());
    drop(idle);
}
