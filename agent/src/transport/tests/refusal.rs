//! Strangers and liars are refused, and both sides say so.

use super::super::refusals::Kind;
use super::*;

/// `bad` and `good` dial each other; neither is told of the other, and each logs both being refused and refusing.
async fn refuse_each_other(bad: Node, good: Node, words: &[&str], log: &Log) {
    for (from, to) in [(&bad, &good), (&good, &bad)] {
        from.send(to, 1);
        let refused: Vec<&str> = ["refused a peer"].iter().chain(words).copied().collect();
        log.says(&refused).await;
        let was_refused: Vec<&str> = ["a peer refused us"].iter().chain(words).copied().collect();
        log.says(&was_refused).await;
        until("both know", || bad.transport.stats().refusals > 0 && good.transport.stats().refusals > 0).await;
        lock(&log.0).clear();
        // The limit on warnings per address would hide the second direction's.
        *lock(&bad.transport.shared().quieter.said) = BTreeMap::new();
        *lock(&good.transport.shared().quieter.said) = BTreeMap::new();
    }
    for mut node in [bad, good] {
        assert_eq!(node.transport.stats().connections, 0);
        assert!(node.events.try_recv().is_err(), "nobody is accepted");
    }
}

fn lasting_a_year() -> Validity {
    Validity::beginning(SystemTime::now(), LEAF_VALIDITY)
}

#[tokio::test]
async fn a_strangers_ca() {
    let (log, _guard) = Log::capture();
    let (ours, theirs) = (Pki::new("zrh"), Pki::new("zrh"));
    let (bad, good) = (theirs.member("x").await, ours.member("a").await);
    refuse_each_other(bad, good, &["rekindle://zrh/member/", "BadSignature"], &log).await;
}

#[tokio::test]
async fn another_cluster_under_the_same_ca() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let settings = TransportSettings { cluster: name("gva"), ..pki.settings("x") };
    let issued = pki.issue("gva", CertRole::Member, "x", lasting_a_year());
    let settings = TransportSettings { tls: pki.write("x", &issued), ..settings };
    let (bad, good) = (Node::start(settings).await, pki.member("a").await);
    for (from, to) in [(&bad, &good), (&good, &bad)] {
        from.send(to, 1);
        // Each finds the other wanting by itself, so each of the two refuses.
        log.says(&["refused a peer", "rekindle://gva/member/x: its certificate is for another cluster; this is zrh"])
            .await;
        log.says(&["refused a peer", "rekindle://zrh/member/a: its certificate is for another cluster; this is gva"])
            .await;
        lock(&log.0).clear();
        *lock(&bad.transport.shared().quieter.said) = BTreeMap::new();
        *lock(&good.transport.shared().quieter.said) = BTreeMap::new();
    }
    assert_eq!((bad.transport.stats().connections, good.transport.stats().connections), (0, 0));
}

#[tokio::test]
async fn an_expired_certificate() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let (hour, now) = (Duration::from_secs(3_600), SystemTime::now());
    let issued = pki.issue("zrh", CertRole::Member, "x", Validity { from: now - 2 * hour, until: now - hour });
    let settings = pki.settings("x");
    let settings = TransportSettings { tls: pki.write("x", &issued), ..settings };
    let (bad, good) = (Node::start(settings).await, pki.member("a").await);
    log.says(&["our own certificate is not valid now"]).await;
    refuse_each_other(bad, good, &["rekindle://zrh/member/x", "expired"], &log).await;
}

#[tokio::test]
async fn an_operators_certificate() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let issued = pki.issue("zrh", CertRole::Operator, "x", lasting_a_year());
    let settings = pki.settings("x");
    let settings = TransportSettings { tls: pki.write("x", &issued), ..settings };
    let (bad, good) = (Node::start_unchecked(settings), pki.member("a").await);
    refuse_each_other(bad, good, &["rekindle://zrh/operator/x", "cannot join"], &log).await;
}

#[tokio::test]
async fn a_member_that_claims_anothers_name() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let truly = pki.settings("x");
    let bad = Node::start_unchecked(TransportSettings { host: host("b"), ..truly });
    // Dialled under its certified name, so that the hello itself is what is wrong.
    let good = pki.member("a").await;
    let liar = Node { host: host("x"), ..bad };
    refuse_each_other(liar, good, &["rekindle://zrh/member/x", "names host b"], &log).await;
}

/// Dials with x's good certificate and says what it is told to; how the connection was closed.
async fn say(pki: &Pki, to: &Node, words: &[u8]) -> String {
    let x = Node::start_unchecked(pki.settings("x"));
    let shared = x.transport.shared();
    let dialling = shared.endpoint(0).connect_with(shared.client(Lane::Words), to.addr(), "x").expect("dials");
    let connection = dialling.await.expect("is connected, though not accepted");
    let (mut send, _receive) = connection.open_bi().await.expect("opens");
    let length = u16::try_from(words.len()).expect("short").to_be_bytes();
    send.write_all(&[&length, words].concat()).await.expect("writes");
    tokio::time::timeout(PATIENCE, connection.closed()).await.expect("is closed").to_string()
}

#[tokio::test]
async fn a_hello_for_another_cluster_or_none_at_all() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let good = pki.member("a").await;
    let hello = rekindle_proto::message::Hello {
        cluster: name("gva"),
        host: host("x"),
        boot: BootId(Uuid::new_v4()),
        incarnation: Incarnation(1),
        listen: loopback(1),
    };
    let closed = say(&pki, &good, &encode(&hello, 1_000).expect("encodes")).await;
    assert!(closed.contains("its hello is for cluster gva; this is zrh"), "{closed}");
    log.says(&["refused a peer", "rekindle://zrh/member/x", "its hello is for cluster gva"]).await;
    for words in [&[0xff; 30][..], &[0; 60_000][..]] {
        let closed = say(&pki, &good, words).await;
        assert!(closed.contains("its hello cannot be understood"), "{closed}");
    }
    assert_eq!(good.transport.stats().connections, 0);
}

#[tokio::test]
async fn another_member_at_the_address() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let (mut a, mut b) = (pki.member("a").await, pki.member("b").await);
    let call = Message::RollCall { call: CallId(1) };
    a.transport.send_message(b.addr(), Some(id("c")), management(), call);
    log.says(&["refused a peer", "rekindle://zrh/member/b", "another member"]).await;
    log.says(&["a peer refused us"]).await;
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
    a.send(&b, 2);
    assert_eq!(b.next_call().await.1, 2, "but b itself is welcome");
}

#[tokio::test]
async fn a_second_daemon_with_our_certificate() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let (first, second) = (pki.member("a").await, pki.member("a").await);
    first.transport.dial(second.addr().to_string());
    log.says(&["refused a peer", "two daemons run with one certificate"]).await;
    log.says(&["a peer refused us", "two daemons run with one certificate"]).await;
}

#[tokio::test]
async fn our_own_files_are_checked_at_the_start() {
    let pki = Pki::new("zrh");
    let start = |settings: TransportSettings| async {
        Transport::start(settings, mpsc::channel(1).0).await.expect_err("is refused").to_string()
    };
    let wrong_host = start(TransportSettings { host: host("b"), ..pki.settings("a") }).await;
    assert!(wrong_host.contains("it is for host a, but this is b"), "{wrong_host}");
    let wrong_cluster = start(TransportSettings { cluster: name("gva"), ..pki.settings("a") }).await;
    assert!(wrong_cluster.contains("for cluster zrh, but this is gva"), "{wrong_cluster}");
    let mut settings = pki.settings("a");
    settings.tls = pki.write("a", &pki.issue("zrh", CertRole::Operator, "a", lasting_a_year()));
    assert!(start(settings).await.contains("is an operator's"));
    let mut settings = pki.settings("a");
    settings.tls.ca = Pki::new("zrh").settings("z").tls.ca;
    let no_ca = start(settings).await;
    assert!(no_ca.contains("z.ca"), "the other authority's directory is gone: {no_ca}");
    let other = Pki::new("zrh");
    let mut settings = pki.settings("a");
    settings.tls.ca = other.settings("z").tls.ca;
    let stranger = start(settings).await;
    assert!(stranger.contains("is not this host's certificate"), "{stranger}");
    let mut settings = pki.settings("a");
    settings.tls.key = pki.settings("b").tls.key;
    assert!(start(settings).await.contains("TLS refuses"));
    let settings = pki.settings("a");
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    std::fs::set_permissions(&settings.tls.key, open).expect("changes the mode");
    assert!(start(settings).await.contains("cannot use the key"));
}

#[tokio::test]
async fn who_stops_or_is_too_busy_refuses_nobody() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let (a, b) = (pki.member("a").await, pki.member("b").await);
    b.transport.shared().endpoint(0).close(close::STOPPING, b"");
    a.send(&b, 1);
    until("the dial has failed", || a.transport.stats().failed_dials > 0).await;
    let is_said = lock(&a.transport.shared().quieter.said).keys().any(|(_, kind)| *kind == Kind::NotNow);
    assert!(is_said && log.lines(&["refused"]).is_empty());
    assert_eq!(a.transport.stats().refusals, 0);
    // What ends while it is being made; and, for comparison, what TLS ends.
    for (code, is_refusal) in [
        (quinn::TransportErrorCode::APPLICATION_ERROR, false),
        (quinn::TransportErrorCode::CONNECTION_REFUSED, false),
        (quinn::TransportErrorCode::crypto(42), true),
    ] {
        let closed = quinn::ConnectionClose { error_code: code, frame_type: None, reason: Default::default() };
        let error = quinn::ConnectionError::ConnectionClosed(closed);
        assert_eq!(a.transport.shared().quieter.unaccepted(b.addr(), &error), is_refusal, "{code}");
    }
}
