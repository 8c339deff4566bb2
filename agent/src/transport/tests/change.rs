//! Restarts, simultaneous dials, renewed certificates, the dead.

use super::*;

#[tokio::test]
async fn when_both_dial_at_once_one_connection_stays_and_nothing_is_lost() {
    for round in 0..20 {
        let pki = Pki::new("zrh");
        let (mut a, mut b) = (pki.member("a").await, pki.member("b").await);
        for call in 0..40 {
            a.send(&b, call);
            b.send(&a, call);
            if call % 10 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for node in [&mut a, &mut b] {
            let mut calls = std::collections::BTreeSet::new();
            while calls.len() < 40 {
                calls.insert(node.next_call().await.1);
            }
        }
        // Both agree in the end: what one sends on is what the other sends on.
        until("both use the same connection", || {
            let (Some(of_a), Some(of_b)) = (a.connection(b.id()), b.connection(a.id())) else { return false };
            of_a.side() != of_b.side()
        })
        .await;
        assert_eq!(a.transport.stats().dropped_messages + b.transport.stats().dropped_messages, 0, "round {round}");
    }
}

/// A daemon in a runtime of its own, which can be killed without a word to anybody.
struct Killable {
    runtime: Option<tokio::runtime::Runtime>,
    calls: mpsc::UnboundedReceiver<(Peer, u64)>,
    address: SocketAddr,
}

impl Killable {
    fn start(settings: TransportSettings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (sender, calls) = mpsc::unbounded_channel();
        let (ready, address) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let mut node = Node::start(settings).await;
            ready.send(node.addr()).expect("the test waits");
            loop {
                let call = node.next_call().await;
                if sender.send(call).is_err() {
                    return;
                }
            }
        });
        let address = address.recv().expect("starts");
        Self { runtime: Some(runtime), calls, address }
    }

    /// Without closing anything, as SIGKILL does.
    async fn kill(mut self) -> SocketAddr {
        let runtime = self.runtime.take().expect("runs");
        let address = self.address;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.expect("ends");
        address
    }

    async fn next_call(&mut self) -> (Peer, u64) {
        tokio::time::timeout(PATIENCE, self.calls.recv()).await.expect("in time").expect("runs")
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn a_restarted_peer_is_noticed_by_its_reset_and_the_message_arrives() {
    let pki = Pki::new("zrh");
    let mut a = pki.member("a").await;
    let settings = pki.settings("b");
    let mut b = Killable::start(settings.clone());
    let message = |call| Message::RollCall { call: CallId(call) };
    a.transport.send_message(b.address, Some(id("b")), management(), message(1));
    b.next_call().await;
    let first = a.next_peer().await;
    let old = a.connection(id("b")).expect("connected");
    let address = b.kill().await;
    assert!(old.close_reason().is_none(), "nobody told us");

    let boot = BootId(Uuid::new_v4());
    let again =
        TransportSettings { boot, incarnation: Incarnation(2), listen: vec![(management(), address)], ..settings };
    let mut b = Killable::start(again);
    let start = Instant::now();
    a.transport.send_message(address, Some(id("b")), management(), message(2));
    // The first may come again: the former life may have died before it could acknowledge it.
    while b.next_call().await.1 != 2 {}
    assert!(start.elapsed() < Duration::from_secs(3), "by the reset, not by the idle time-out: {:?}", start.elapsed());
    assert_eq!(old.close_reason(), Some(quinn::ConnectionError::Reset));
    let second = a.next_peer().await;
    assert_eq!((second.boot, second.incarnation), (boot, Incarnation(2)));
    assert_ne!(first.boot, second.boot);
}

#[tokio::test]
async fn a_restarted_peer_that_speaks_first_replaces_its_former_life() {
    let pki = Pki::new("zrh");
    let mut a = pki.member("a").await;
    let settings = pki.settings("b");
    let mut b = Killable::start(settings.clone());
    a.transport.send_message(b.address, Some(id("b")), management(), Message::RollCall { call: CallId(1) });
    b.next_call().await;
    a.next_peer().await;
    let old = a.connection(id("b")).expect("connected");
    b.kill().await;
    // On another port and with another reset key: only the hello can tell.
    let again = TransportSettings { boot: BootId(Uuid::new_v4()), reset_key: rand_key(), ..settings };
    let mut b = Node::start(again).await;
    b.send(&a, 2);
    let peer = a.next_peer().await;
    assert_eq!(peer.address, b.addr());
    assert_eq!(a.next_call().await.1, 2);
    assert_eq!(old.close_reason(), Some(quinn::ConnectionError::LocallyClosed));
    a.send(&b, 3);
    // The first may come again: the former life may have died before it could acknowledge it.
    while b.next_call().await.1 != 3 {}
}

#[tokio::test]
async fn a_renewed_certificate_is_used_after_a_reload() {
    let pki = Pki::new("zrh");
    let settings = pki.settings("a");
    let (a, mut b) = (Node::start(settings.clone()).await, pki.member("b").await);
    let shown = |node: &Node, peer: MemberId| {
        let identity = node.connection(peer)?.peer_identity()?;
        let chain = identity.downcast::<Vec<rustls_pki_types::CertificateDer<'static>>>().ok()?;
        Some(chain.first()?.to_vec())
    };
    a.send(&b, 1);
    b.next_call().await;
    let before = shown(&b, a.id()).expect("connected");
    let old = b.connection(a.id()).expect("connected");

    std::fs::write(&settings.tls.certificate, "no certificate").expect("writes");
    a.transport.reload_tls().expect_err("is refused");
    a.send(&b, 2);
    assert_eq!(b.next_call().await.1, 2, "and the old ones stay in use");

    let renewed = pki.issue("zrh", CertRole::Member, "a", Validity::beginning(SystemTime::now(), LEAF_VALIDITY));
    pki.write("a", &renewed);
    a.transport.reload_tls().expect("reloads");
    // b may still send on the old connection: that arrives too.
    a.send(&b, 3);
    assert_eq!(b.next_call().await.1, 3);
    until("b sees the new certificate", || {
        shown(&b, a.id()).is_some_and(|shown| shown == renewed.certificate_der && shown != before)
    })
    .await;
    until("the old connection is closed", || old.close_reason().is_some()).await;
    // Now b dials: a shows the new one as a listener too.
    b.transport.drop_peer(a.id());
    until("both are without a connection", || a.connection(b.id()).is_none() && b.connection(a.id()).is_none()).await;
    b.send(&a, 4);
    until("b is connected", || b.connection(a.id()).is_some()).await;
    assert_eq!(b.connection(a.id()).map(|connection| connection.side()), Some(quinn::Side::Client));
    assert_eq!(shown(&b, a.id()), Some(renewed.certificate_der));
    assert_eq!(a.transport.stats().dropped_messages, 0);
}

#[tokio::test]
async fn a_dead_address_neither_blocks_nor_storms() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    let hole = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let nobody = hole.local_addr().expect("bound");
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < Duration::from_secs(4) {
        let one = Instant::now();
        a.transport.send_datagram(nobody, id("c"), management(), vec![0; 1_000]);
        let call = Message::RollCall { call: CallId(sent) };
        a.transport.send_message(nobody, Some(id("c")), management(), call);
        assert!(one.elapsed() < Duration::from_millis(200), "sending does not wait");
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 1 s of dialling and 0.25 s, 0.5 s … of pause each: at most 4 have ended by now, on however slow a machine.
    let stats = a.transport.stats();
    assert!((1..=4).contains(&stats.failed_dials), "{stats:?}");
    assert!(stats.dropped_messages >= sent.saturating_sub(64 + 5), "{stats:?} of {sent}");
    assert!(stats.unsent_datagrams > 0, "{stats:?}");
    assert_eq!(log.lines(&["dropped a message"]).len(), 1, "said once, and counted");
    a.send(&b, 1);
    assert_eq!(b.next_call().await.1, 1, "others are reached meanwhile");
}

#[tokio::test]
async fn an_address_that_refuses_at_once_is_not_stormed_either() {
    let pki = Pki::new("zrh");
    let (a, b) = (pki.member("a").await, pki.member("b").await);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        a.transport.send_datagram(b.addr(), id("c"), management(), b"x".to_vec());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // At 0 s, 0.25 s, 0.75 s and 1.75 s.
    let stats = a.transport.stats();
    assert!((1..=4).contains(&stats.failed_dials), "{stats:?}");
}

#[tokio::test]
async fn a_dropped_peer_is_not_sent_what_was_under_way() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    a.send(&b, 0);
    b.next_call().await;
    for round in 1..20 {
        (0..10).for_each(|_| a.send(&b, 2 * round - 1));
        // A few turns: some are sent and not acknowledged when the connection is closed.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        a.transport.drop_peer(b.id());
        a.transport.set_incarnation(Incarnation(round + 1));
        a.send(&b, 2 * round);
        loop {
            let (from, call) = b.next_call().await;
            let expected = if from.incarnation == Incarnation(round + 1) { 2 * round } else { 2 * round - 1 };
            assert_eq!(call, expected, "round {round}");
            if call == 2 * round {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_late_gets_what_waited_for_it() {
    let pki = Pki::new("zrh");
    let a = pki.member("a").await;
    let settings = pki.settings("b");
    let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let call = Message::RollCall { call: CallId(1) };
    a.transport.send_message(free, Some(id("b")), management(), call);
    until("a first dial failed", || a.transport.stats().failed_dials == 1).await;
    let mut b = Node::start(TransportSettings { listen: vec![(management(), free)], ..settings }).await;
    assert_eq!(b.next_call().await.1, 1);
}

#[tokio::test]
async fn a_dropped_peer_is_disconnected_and_a_stopped_one_says_goodbye() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    a.send(&b, 1);
    b.next_call().await;
    let of_b = b.connection(a.id()).expect("connected");
    a.transport.drop_peer(b.id());
    let reason = |connection: &quinn::Connection| match connection.close_reason() {
        Some(quinn::ConnectionError::ApplicationClosed(close)) => Some(close.error_code),
        _ => None,
    };
    until("b knows", || reason(&of_b) == Some(close::DROPPED)).await;
    a.transport.set_incarnation(Incarnation(9));
    a.send(&b, 2);
    assert_eq!(b.next_call().await.0.incarnation, Incarnation(9), "told in the next hello");
    let of_b = b.connection(a.id()).expect("connected again");
    let Node { transport, .. } = a;
    transport.close().await;
    until("b knows", || reason(&of_b) == Some(close::STOPPING)).await;
}
