//! Both ends on a real socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_proto::admin::{AdminErrorKind, AdminReply, AdminRequest, LINE_BYTES_MAX, SignedOrder};
use rekindle_proto::id::{HostName, IncidentId};
use rekindle_proto::status::MembersDoc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::server::{CONNECTIONS_MAX, IDLE_MAX};
use super::*;

const WITHIN: Duration = Duration::from_secs(20);

fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("admin.sock");
    (dir, path)
}

/// A shell that answers `members` and drops every other question.
fn answering() -> mpsc::Sender<Question> {
    let (sender, mut receiver) = mpsc::channel::<Question>(4);
    tokio::spawn(async move {
        while let Some((request, reply)) = receiver.recv().await {
            if request == AdminRequest::Members {
                let members = MembersDoc { told_by: HostName::new("cmp-01").expect("legal"), members: Vec::new() };
                reply.send(AdminReply::Members { members }).expect("somebody waits");
            }
        }
    });
    sender
}

fn start(path: &Path) -> tokio::task::JoinHandle<()> {
    let socket = AdminSocket::bind(path, SOCKET_MODE).expect("bound");
    tokio::spawn(socket.serve(answering()))
}

fn kind(reply: &AdminReply) -> Option<AdminErrorKind> {
    if let AdminReply::Error { kind, .. } = reply { Some(*kind) } else { None }
}

#[tokio::test]
async fn a_question_is_answered() {
    let (_dir, path) = socket();
    start(&path);
    let reply = ask(&path, &AdminRequest::Members, WITHIN).await.expect("answered");
    assert!(matches!(reply, AdminReply::Members { members } if members.told_by.as_str() == "cmp-01"));
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, SOCKET_MODE);
    assert!(!path.with_extension("sock.new").exists());
}

#[tokio::test]
async fn an_unanswered_order_is_unknown_and_an_unanswered_question_is_not() {
    let (_dir, path) = socket();
    start(&path);
    let order = SignedOrder { certificate: vec![1], order: vec![2], signature: vec![3] };
    let reply = ask(&path, &AdminRequest::Submit { order }, WITHIN).await.expect("answered");
    assert_eq!(kind(&reply), Some(AdminErrorKind::Unknown));
    let reply = ask(&path, &AdminRequest::Incident { id: IncidentId(1) }, WITHIN).await.expect("answered");
    assert_eq!(kind(&reply), Some(AdminErrorKind::NoLeader));
}

#[tokio::test]
async fn nonsense_is_answered_and_the_connection_goes_on() {
    let (_dir, path) = socket();
    start(&path);
    let mut stream = BufReader::new(UnixStream::connect(&path).await.expect("connects"));
    for (line, says) in
        [("{\"ask\":\"moon\"}\n", "malformed"), ("\u{0}\n", "malformed"), ("{\"ask\":\"members\"}\n", "members")]
    {
        stream.write_all(line.as_bytes()).await.expect("sent");
        let mut reply = String::new();
        stream.read_line(&mut reply).await.expect("answered");
        assert!(reply.contains(says), "{line:?}: {reply}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_refused_at_its_bound() {
    let (_dir, path) = socket();
    start(&path);
    let mut stream = UnixStream::connect(&path).await.expect("connects");
    stream.write_all(&vec![b' '; LINE_BYTES_MAX + 1]).await.expect("taken up to the bound");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("answered and closed");
    assert!(reply.contains("malformed") && reply.contains("at most"), "{reply}");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let (_dir, path) = socket();
    start(&path);
    let mut stream = UnixStream::connect(&path).await.expect("connects");
    stream.write_all(b"{\"ask\":").await.expect("sent");
    tokio::time::pause();
    let mut rest = Vec::new();
    tokio::time::timeout(IDLE_MAX * 2, stream.read_to_end(&mut rest)).await.expect("closed in time").expect("closed");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn more_connections_than_places_are_turned_away_and_places_come_free() {
    let (_dir, path) = socket();
    start(&path);
    let mut taken = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = BufReader::new(UnixStream::connect(&path).await.expect("connects"));
        stream.write_all(b"{\"ask\":\"members\"}\n").await.expect("sent");
        stream.read_line(&mut String::new()).await.expect("answered");
        taken.push(stream);
    }
    let error = ask(&path, &AdminRequest::Members, WITHIN).await.expect_err("turned away");
    assert!(matches!(error, AdminClientError::Closed { .. }), "{error}");
    drop(taken);
    let deadline = tokio::time::Instant::now() + WITHIN;
    while ask(&path, &AdminRequest::Members, WITHIN).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no place came free");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let (_dir, path) = socket();
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "the stale socket lies there");
    let first = AdminSocket::bind(&path, SOCKET_MODE).expect("the stale one is replaced");
    let error = AdminSocket::bind(&path, SOCKET_MODE).expect_err("a live one is not");
    assert!(matches!(error, AdminServeError::InUse { .. }), "{error}");
    drop(first);
    assert!(!path.exists(), "removed with its daemon");
    std::fs::write(&path, "precious").expect("written");
    let error = AdminSocket::bind(&path, SOCKET_MODE).expect_err("a file is not replaced");
    assert!(matches!(error, AdminServeError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
}

#[tokio::test]
async fn the_client_tells_what_is_wrong() {
    let (_dir, path) = socket();
    let error = ask(&path, &AdminRequest::Status, WITHIN).await.expect_err("nobody there");
    assert!(matches!(error, AdminClientError::NoDaemon { .. }) && !error.was_sent(), "{error}");

    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let deaf = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().expect("accepted");
        first.write_all(b"half a rep").expect("sent");
        first.shutdown(std::net::Shutdown::Write).expect("shut");
        let (mut second, _) = listener.accept().expect("accepted");
        second.write_all(b"{\"reply\":\"moon\"}\n").expect("sent");
        let (mut third, _) = listener.accept().expect("accepted");
        drop(third.read_to_end(&mut Vec::new()));
    });
    let error = ask(&path, &AdminRequest::Status, WITHIN).await.expect_err("cut short");
    assert!(matches!(error, AdminClientError::Closed { .. }) && error.was_sent(), "{error}");
    let error = ask(&path, &AdminRequest::Status, WITHIN).await.expect_err("not ours");
    assert!(matches!(error, AdminClientError::Malformed { .. }), "{error}");
    let error = ask(&path, &AdminRequest::Status, Duration::from_millis(50)).await.expect_err("silent");
    assert!(matches!(error, AdminClientError::TimedOut { .. }) && error.was_sent(), "{error}");
    deaf.join().expect("ended");
}

#[tokio::test]
async fn serving_ends_with_the_shell() {
    let (_dir, path) = socket();
    let (sender, receiver) = mpsc::channel(1);
    let socket = AdminSocket::bind(&path, SOCKET_MODE).expect("bound");
    let served = tokio::spawn(socket.serve(sender));
    drop(receiver);
    tokio::time::timeout(WITHIN, served).await.expect("ends").expect("well");
    assert!(!path.exists());
}
