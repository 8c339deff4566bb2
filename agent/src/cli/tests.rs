//! Whole commands against a daemon's real socket.

use std::path::{Path, PathBuf};

use clap::Parser;
use rekindle_coordinator::ledger::{
    OperatorCommand, OperatorOrder, SegmentFields, SegmentHostFields, SegmentOrder, verify_order,
};
use rekindle_proto::admin::{AdminErrorKind, AdminReply, AdminRequest, SignedOrder};
use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::id::{ClusterName, DomainName};
use rekindle_proto::status::Phase;
use tokio::sync::mpsc;

use super::*;
use crate::admin::{AdminSocket, Question, SOCKET_MODE};

/// A daemon that answers from a table, and the place for an operator's files.
struct Daemon {
    dir: tempfile::TempDir,
    orders: mpsc::UnboundedReceiver<SignedOrder>,
}

fn daemon(reply: fn(&AdminRequest) -> Option<AdminReply>) -> Daemon {
    let dir = tempfile::tempdir().expect("a directory");
    let (questions, mut asked) = mpsc::channel::<Question>(4);
    let (seen, orders) = mpsc::unbounded_channel();
    let socket = AdminSocket::bind(&dir.path().join("admin.sock"), SOCKET_MODE).expect("bound");
    tokio::spawn(socket.serve(questions));
    tokio::spawn(async move {
        while let Some((request, sender)) = asked.recv().await {
            if let AdminRequest::Submit { order } = &request {
                seen.send(order.clone()).expect("kept");
            }
            if let Some(reply) = reply(&request) {
                drop(sender.send(reply));
            }
        }
    });
    Daemon { dir, orders }
}

fn samples_of(request: &AdminRequest) -> Option<AdminReply> {
    Some(match request {
        AdminRequest::Status => AdminReply::Status { status: Box::new(samples::busy()) },
        AdminRequest::Members => AdminReply::Members { members: samples::members() },
        AdminRequest::Incidents => AdminReply::Incidents { incidents: vec![samples::story().line] },
        AdminRequest::Incident { id } if id.0 == 14 => AdminReply::Incident { incident: Box::new(samples::story()) },
        AdminRequest::Incident { .. } => error(AdminErrorKind::NotFound, "no such incident"),
        AdminRequest::Why { host } => AdminReply::Why { why: Box::new(samples::why(host.as_str() == "cmp-04")) },
        AdminRequest::FenceTest { host } => {
            let all = samples::devices();
            let devices = all.into_iter().filter(|line| host.as_ref().is_none_or(|host| *host == line.host)).collect();
            AdminReply::FenceTest { devices }
        }
        AdminRequest::Gate { .. } => return None,
        AdminRequest::Brakes => AdminReply::Brakes { brakes: Box::new(samples::brakes()) },
        AdminRequest::Capacity { .. } => AdminReply::Capacity { capacity: Box::new(samples::capacity()) },
        AdminRequest::Voters => AdminReply::Voters { voters: samples::voters() },
        AdminRequest::Segments => AdminReply::Segments { segments: Box::new(samples::segments()) },
        AdminRequest::Submit { .. } => AdminReply::Committed { text: "done".into() },
    })
}

fn error(kind: AdminErrorKind, text: &str) -> AdminReply {
    AdminReply::Error { kind, text: text.into() }
}

impl Daemon {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// The next order that was carried, as every voter would check it.
    async fn order(&mut self) -> OperatorOrder {
        let signed = self.orders.recv().await.expect("carried");
        let ca = pki::certificate(&self.path("pki/ca.pem")).expect("the CA");
        let cluster = ClusterName::new("zrh1").expect("legal");
        let verified = verify_order(&signed, &cluster, &ca, crate::clock::now().wall).expect("accepted");
        assert_eq!(verified.operator.as_str(), "alice");
        verified.order
    }
    async fn run(&self, words: &[&str]) -> (Result<Exit, Failure>, String) {
        run_at(self.dir.path(), words).await
    }
}

async fn run_at(dir: &Path, words: &[&str]) -> (Result<Exit, Failure>, String) {
    let at = |name: &str| dir.join(name).display().to_string();
    let (socket, cert, key) = (at("admin.sock"), at("alice.pem"), at("alice.key"));
    let head = ["rekindle", "--socket", &socket, "--operator-cert", &cert, "--operator-key", &key];
    let cli = Cli::try_parse_from(head.iter().chain(words)).expect("understood");
    let mut out = Vec::new();
    let end = run(&cli, &mut out).await;
    (end, String::from_utf8(out).expect("text"))
}

fn code(end: &Result<Exit, Failure>) -> u8 {
    match end {
        Ok(exit) => exit.code(),
        Err(failure) => failure.exit.code(),
    }
}

#[tokio::test]
async fn every_question_shows_its_document() {
    let daemon = daemon(samples_of);
    for (words, exit, says) in [
        (&["status"][..], 1, "zrh1   quorate 4 of 5"),
        (&["status", "--json"], 1, "\"cluster\": \"zrh1\""),
        (&["members"], 0, "gossip as cmp-01"),
        (&["incident"], 0, "LEFT BEHIND"),
        (&["incident", "14"], 0, "began 2026-11-21"),
        (&["incident", "14", "--json"], 0, "\"story\""),
        (&["why", "cmp-04"], 0, "protected"),
        (&["why", "cmp-01"], 1, "NOT PROTECTED"),
        (&["fence-test"], 1, "NOT BOUND"),
        (&["fence-test", "cmp-01"], 0, "bound"),
        (&["fence-test", "cmp-09"], 1, "no fence device"),
        (&["segment", "list"], 0, "in none, recovered as with auto: cmp-01"),
        (&["segment", "show", "rack-1"], 0, "rh_priority"),
        (&["segment", "show", "00000000-0000-0000-0000-000000000001", "--json"], 0, "\"name\": \"rack-1\""),
        (&["host", "show", "cmp-04"], 0, "rack-1"),
        (&["host", "show", "cmp-01"], 0, "none: recovered as with auto"),
        (&["sim", "what-if", "--kill", "cmp-02"], 0, "cmp-02: recovered, 22 of 22 servers recovered"),
        (&["sim", "what-if", "--kill", "cmp-02", "--power"], 1, "cmp-02: stuck"),
    ] {
        let (end, out) = daemon.run(words).await;
        assert_eq!(code(&end), exit, "{words:?}: {end:?} {out}");
        assert!(out.contains(says), "{words:?}: {out}");
    }
    let (end, out) = daemon.run(&["incident", "15"]).await;
    let failure = end.expect_err("not found");
    assert_eq!((failure.exit, failure.text.as_str(), out.as_str()), (Exit::Refused, "no such incident", ""));
}

#[tokio::test]
async fn json_is_the_document_itself() {
    let daemon = daemon(samples_of);
    let (_, out) = daemon.run(&["status", "--json"]).await;
    let status: rekindle_proto::status::StatusDoc = serde_json::from_str(&out).expect("the document");
    assert_eq!(status, samples::busy());
}

#[tokio::test]
async fn orders_are_signed_and_carried() {
    let mut daemon = daemon(samples_of);
    let pki = daemon.path("pki").display().to_string();
    let here = daemon.path("").display().to_string();
    assert_eq!(code(&daemon.run(&["pki", "init", "--cluster", "zrh1", "--dir", &pki]).await.0), 0);
    let issued = daemon.run(&["pki", "issue", "--role", "operator", "alice", "--dir", &pki, "--out", &here]).await;
    assert_eq!(code(&issued.0), 0, "{:?}", issued.0);
    std::fs::write(daemon.path("roster.toml"), "[[host]]\nhost = \"cmp-01\"\n").expect("written");
    let (roster, ca) = (daemon.path("roster.toml").display().to_string(), format!("{pki}/ca.pem"));
    let host = samples::host("cmp-04");
    let incident = rekindle_proto::id::IncidentId(14);
    let segment = samples::segments().segments[0].uuid;
    let mut nonces = std::collections::BTreeSet::new();
    for (words, command, reason) in [
        (&["arm", "--reason", "go "][..], OperatorCommand::Arm(true), "go"),
        (&["disarm", "--reason", "x"], OperatorCommand::Arm(false), "x"),
        (&["voters", "raise-format", "--reason", "x"], OperatorCommand::RaiseFormat { to: 2 }, "x"),
        (
            &["maintenance", "on", "cmp-04", "--reason", "x"],
            OperatorCommand::Maintenance { host: host.clone(), on: true },
            "x",
        ),
        (
            &["maintenance", "off", "cmp-04", "--reason", "x"],
            OperatorCommand::Maintenance { host: host.clone(), on: false },
            "x",
        ),
        (&["disarm", "--for", "30m", "--reason", "x"], OperatorCommand::DisarmFor { ms: 1_800_000 }, "x"),
        (
            &["host", "enroll", "cmp-04", "--domain", "rack-1", "--reason", "x"],
            OperatorCommand::Enroll {
                entry: RosterEntry {
                    host: host.clone(),
                    role: MemberRole::Member,
                    domain: Some(DomainName::new("rack-1").expect("legal")),
                },
            },
            "x",
        ),
        (
            &["host", "enroll", "cmp-04", "--role", "witness", "--reason", "x"],
            OperatorCommand::Enroll {
                entry: RosterEntry { host: host.clone(), role: MemberRole::Witness, domain: None },
            },
            "x",
        ),
        (&["host", "forget", "cmp-04", "--reason", "x"], OperatorCommand::Forget { host: host.clone() }, "x"),
        (&["resume", "14", "--reason", "x"], OperatorCommand::Resume { incident }, "x"),
        (
            &["voters", "replace", "cmp-01", "cmp-04", "--reason", "x"],
            OperatorCommand::ReplaceVoter { old: samples::host("cmp-01"), new: host.clone() },
            "x",
        ),
        (
            &["segment", "set", "rack-1", "--enabled", "false", "--reason", "x"],
            OperatorCommand::Segment(SegmentOrder::Set {
                id: segment,
                name: None,
                fields: SegmentFields { enabled: Some(false), ..SegmentFields::default() },
            }),
            "x",
        ),
        (
            &["segment", "delete", "00000000-0000-0000-0000-000000000001", "--with-hosts", "--reason", "x"],
            OperatorCommand::Segment(SegmentOrder::Delete { id: segment, with_hosts: true }),
            "x",
        ),
        (
            &["host", "set", "cmp-04", "--reserved", "true", "--reason", "x"],
            OperatorCommand::Segment(SegmentOrder::SetHost {
                host: host.clone(),
                segment: None,
                fields: SegmentHostFields { reserved: Some(true), ..SegmentHostFields::default() },
            }),
            "x",
        ),
        (
            &["host", "set", "cmp-04", "--no-segment", "--reason", "x"],
            OperatorCommand::Segment(SegmentOrder::RemoveHost { host: host.clone() }),
            "x",
        ),
        (&["release", "cmp-04", "--reason", "x"], OperatorCommand::Release { host }, "x"),
    ] {
        let (end, out) = daemon.run(words).await;
        assert_eq!((end, out.as_str()), (Ok(Exit::Done), "done\n"), "{words:?}");
        let order = daemon.order().await;
        assert_eq!((order.command, order.reason.as_str(), order.cluster.as_str()), (command, reason, "zrh1"));
        assert!(crate::clock::now().wall.millis_since(order.signed_at) < 60_000);
        assert!(nonces.insert(order.nonce), "a nonce came twice");
    }
    let (end, _) = daemon.run(&["init", "--roster", &roster, "--ca", &ca]).await;
    assert_eq!(end, Ok(Exit::Done));
    let OperatorCommand::Init { roster, ca } = daemon.order().await.command else { panic!("not an init") };
    assert_eq!(roster.len(), 1);
    assert!(!ca.is_empty());
    // What is not there is refused before anything is sent.
    for words in [&["segment", "set", "rack-9", "--reason", "x"][..], &["host", "set", "cmp-01", "--reason", "x"]] {
        assert_eq!(code(&daemon.run(words).await.0), 1, "{words:?}");
    }
    // Nothing is sent without a reason, or without an operator's key.
    let (end, _) = daemon.run(&["arm", "--reason", " "]).await;
    assert_eq!(code(&end), 1);
    std::fs::remove_file(daemon.path("alice.key")).expect("removed");
    let (end, _) = daemon.run(&["arm", "--reason", "x"]).await;
    assert_eq!(code(&end), 1);
    assert!(daemon.orders.try_recv().is_err());
}

#[tokio::test]
async fn a_rehearsal_is_told_until_it_is_over() {
    let mut daemon = daemon(|request| {
        if matches!(request, AdminRequest::Incidents) {
            let lines = [21, 22, 23].map(|number| samples::rehearsal(number).line);
            return Some(AdminReply::Incidents { incidents: lines.to_vec() });
        }
        if let AdminRequest::Incident { id } = request {
            return Some(AdminReply::Incident { incident: Box::new(samples::rehearsal(id.0)) });
        }
        samples_of(request)
    });
    let dir = daemon.path("pki");
    pki::init(&dir, &ClusterName::new("zrh1").expect("legal")).expect("a CA");
    pki::issue(&dir, "alice", Role::Operator, daemon.dir.path()).expect("issued");
    for (name, exit, says) in [("cmp-01", 0, "passed"), ("cmp-02", 1, "failed"), ("cmp-03", 2, "stuck")] {
        let (end, out) = daemon.run(&["fence-rehearse", name, "--level", "2", "--reason", "new BMC"]).await;
        assert_eq!(code(&end), exit, "{name}: {end:?} {out}");
        assert!(out.contains(says) && out.contains("power off by level 1"), "{out}");
        let order = daemon.order().await;
        let host = rekindle_proto::id::HostName::new(name).expect("legal");
        assert_eq!(order.command, OperatorCommand::Rehearse { host, level: Some(2) });
    }
    let (end, out) = daemon.run(&["fence-rehearse", "cmp-01", "--json", "--reason", "x"]).await;
    assert_eq!(code(&end), 0);
    assert!(out.starts_with('{') && out.contains("\"fences\""), "{out}");
    let (_, out) = daemon.run(&["incident", "21"]).await;
    assert!(out.contains("nobody is moved") && out.contains("by cmp-04 for cmp-05, term 4  level 1"), "{out}");
}

#[tokio::test]
async fn an_order_without_an_answer_is_unknown() {
    let refusing = |kind: AdminErrorKind| Failure::reply(kind, "x").exit.code();
    assert_eq!(refusing(AdminErrorKind::NoLeader), 3);
    assert_eq!(refusing(AdminErrorKind::Refused), 1);
    assert_eq!(refusing(AdminErrorKind::Unknown), 4);
    let daemon = daemon(|_| None);
    let dir = daemon.path("");
    pki::init(&dir, &ClusterName::new("zrh1").expect("legal")).expect("a CA");
    pki::issue(&dir, "alice", Role::Operator, &dir).expect("issued");
    let (end, _) = daemon.run(&["arm", "--reason", "x"]).await;
    assert_eq!(code(&end), 4, "{end:?}");
    let (end, _) = daemon.run(&["members"]).await;
    assert_eq!(code(&end), 3, "a question changes nothing: {end:?}");
    // A daemon that dies with the order in its hands; and none at all.
    std::fs::remove_file(daemon.path("admin.sock")).expect("removed");
    let listener = std::os::unix::net::UnixListener::bind(daemon.path("admin.sock")).expect("bound");
    let dying = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accepted");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut String::new()).expect("an order");
    });
    let (end, _) = daemon.run(&["arm", "--reason", "x"]).await;
    assert_eq!(code(&end), 4, "{end:?}");
    dying.join().expect("ended");
    let (end, _) = daemon.run(&["arm", "--reason", "x"]).await;
    assert_eq!(code(&end), 3, "{end:?}");
}

#[tokio::test]
async fn without_a_daemon_it_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (end, out) = run_at(dir.path(), &["status"]).await;
    let failure = end.expect_err("no daemon");
    assert_eq!((failure.exit.code(), out.as_str()), (3, ""));
    assert!(failure.text.contains("no daemon at") && failure.text.contains("admin.sock"), "{}", failure.text);
}

#[test]
fn exit_codes_of_status() {
    let change = |edit: &dyn Fn(&mut rekindle_proto::status::StatusDoc)| {
        let mut status = samples::calm();
        edit(&mut status);
        Exit::of_status(&status).code()
    };
    assert_eq!(change(&|_| {}), 0);
    assert_eq!(change(&|status| status.armed = Some(false)), 0, "disarmed is calm, and said");
    assert_eq!(change(&|status| status.incidents = vec![samples::story()]), 1);
    for state in ["suspect", "down", "absent", "unseen", "quarantined"] {
        assert_eq!(change(&|status| status.hosts[0].state = state.into()), 1, "{state}");
    }
    assert_eq!(
        change(&|status| {
            status.hosts[0].state = "down".into();
            status.hosts[0].maintenance = true;
        }),
        0
    );
    assert_eq!(change(&|status| status.alive = 2), 2);
    assert_eq!(change(&|status| status.leader = None), 2);
    assert_eq!(change(&|status| status.armed = None), 2);
    assert_eq!(
        change(&|status| {
            status.incidents = vec![samples::story()];
            status.incidents[0].line.phase = Phase::Stuck;
        }),
        2
    );
}

#[test]
fn the_command_line_is_whole() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    for words in [&["arm"][..], &["maintenance", "on", "cmp-01"], &["fence-test", "a b"], &["status", "--force"]] {
        assert!(Cli::try_parse_from(["rekindle"].iter().chain(words)).is_err(), "{words:?}");
    }
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("4 the outcome is unknown"), "{help}");
}

#[test]
fn every_command_is_documented() {
    use clap::CommandFactory;
    let manual = include_str!("../../../docs/commands.md");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let below: Vec<String> =
            command.get_subcommands().map(|below| format!("{name} {}", below.get_name())).collect();
        for name in if below.is_empty() { vec![name.to_owned()] } else { below } {
            assert!(manual.contains(&format!("`rekindle {name}")), "docs/commands.md does not tell of {name}");
        }
    }
    for exit in [Exit::Done, Exit::Refused, Exit::Usage, Exit::NoDaemon, Exit::Unknown] {
        assert!(manual.contains(&format!("\n| {} | ", exit.code())), "docs/commands.md does not tell of exit {exit:?}");
    }
}
