//! What is sent arrives, in its bounds.

use super::*;

async fn serve(mut node: Node) {
    while let Some(event) = node.events.recv().await {
        if let TransportEvent::Request { from, request: Request::Raft(mut bytes), reply } = event {
            bytes.extend_from_slice(from.host.as_str().as_bytes());
            reply.send(Reply::Raft(bytes)).expect("the asker waits");
        }
    }
}

#[tokio::test]
async fn two_members_exchange_everything_both_ways() {
    let pki = Pki::new("zrh");
    let (mut a, mut b) = (pki.member("a").await, pki.member("b").await);
    a.send_datagram(&b, b"ping");
    let peer = b.next_peer().await;
    assert_eq!((&peer.host, peer.address), (&a.host, a.addr()), "it is known before it is heard");
    let (from, path, bytes) = b.next_datagram().await;
    assert_eq!((from, path, bytes.as_slice()), (peer.clone(), management(), b"ping".as_slice()));
    b.send_datagram(&a, b"pong");
    assert_eq!(a.next_datagram().await.2, b"pong");
    a.send(&b, 1);
    assert_eq!(b.next_call().await, (peer, 1));
    b.send(&a, 2);
    assert_eq!(a.next_call().await.1, 2);

    let (a_addr, b_addr, a_id, b_id) = (a.addr(), b.addr(), a.id(), b.id());
    let (from_a, from_b) = (a.transport.clone(), b.transport.clone());
    let servers = [tokio::spawn(serve(a)), tokio::spawn(serve(b))];
    let ask = Request::Raft(b"hello from ".to_vec());
    let reply = from_a.request(b_addr, b_id, ask.clone(), PATIENCE).await.expect("answers");
    assert_eq!(reply, Reply::Raft(b"hello from a".to_vec()));
    let reply = from_b.request(a_addr, a_id, ask, PATIENCE).await.expect("answers");
    assert_eq!(reply, Reply::Raft(b"hello from b".to_vec()));
    let snapshot = Request::Raft(vec![7; 8 * 1024 * 1024]);
    let Reply::Raft(bytes) = from_a.request(b_addr, b_id, snapshot, PATIENCE).await.expect("answers") else {
        panic!("another kind of reply");
    };
    assert_eq!(bytes.len(), 8 * 1024 * 1024 + 1);
    assert_eq!(from_a.stats().connections, 2, "one for requests, one for all the rest");
    servers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn three_members_find_each_other_by_seed() {
    let pki = Pki::new("zrh");
    let mut nodes = [pki.member("a").await, pki.member("b").await, pki.member("c").await];
    let seed = nodes[0].addr().to_string();
    nodes[1].transport.dial(seed.clone());
    nodes[2].transport.dial(seed.clone());
    assert_eq!(nodes[1].next_peer().await.host, host("a"));
    assert_eq!(nodes[2].next_peer().await.host, host("a"));
    nodes[1].transport.dial(seed);
    assert_eq!(nodes[1].next_peer().await.host, host("a"), "told again when it is connected already");
    let addresses = nodes.each_ref().map(Node::addr);
    for from in 0..3_usize {
        for to in (0..3_usize).filter(|to| *to != from) {
            let call = Message::RollCall { call: CallId(from as u64) };
            // By address alone, as to a seed.
            nodes[from].transport.send_message(addresses[to], None, management(), call);
            let (peer, call) = nodes[to].next_call().await;
            assert_eq!((peer.host, call), (nodes[from].host.clone(), from as u64));
        }
    }
}

#[tokio::test]
async fn a_seed_that_is_ourselves_is_no_alarm() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let settings = TransportSettings {
        listen: vec![(management(), "0.0.0.0:0".parse().expect("an address"))],
        ..pki.settings("a")
    };
    let node = Node::start(settings).await;
    node.transport.dial(format!("127.0.0.1:{}", node.addr().port()));
    until("the dial failed", || node.transport.stats().failed_dials == 1).await;
    assert_eq!(log.lines(&[]), Vec::<String>::new());
}

#[tokio::test]
async fn each_path_has_its_own_network() {
    let pki = Pki::new("zrh");
    let storage = PathName::new("storage").expect("legal");
    let two_paths = |host: &str| TransportSettings {
        listen: vec![(management(), loopback(0)), (storage.clone(), "127.0.0.2:0".parse().expect("an address"))],
        ..pki.settings(host)
    };
    let (a, mut b) = (Node::start(two_paths("a")).await, Node::start(two_paths("b")).await);
    let to = b.transport.local_addrs().nth(1).expect("two paths").1;
    a.transport.send_datagram(to, b.id(), storage.clone(), b"x".to_vec());
    let (from, path, _) = b.next_datagram().await;
    assert_eq!(path, storage);
    assert_eq!(Some(from.address), a.transport.local_addrs().nth(1).map(|(_, address)| address));
    let probe = Message::Probe { call: CallId(1), path: storage.clone() };
    a.transport.send_message(to, Some(b.id()), storage.clone(), probe);
    let TransportEvent::Message { from: by, .. } = b.next().await else { panic!("another event") };
    assert_eq!(by, from, "a probe goes on the path it is for");
    assert!(a.connection(b.id()).is_none(), "nothing went on the first path");
    let nowhere = PathName::new("tenant").expect("legal");
    a.transport.send_message(to, Some(b.id()), nowhere, Message::RollCall { call: CallId(2) });
    assert_eq!(a.transport.stats().dropped_messages, 1);
}

/// Of TEST-NET-1 (RFC 5737): no machine has it.
#[tokio::test]
async fn a_further_address_may_come_later_and_the_first_may_not() {
    let pki = Pki::new("zrh");
    let absent: SocketAddr = "192.0.2.1:7946".parse().expect("an address");
    let storage = PathName::new("storage").expect("legal");
    let settings = |listen| TransportSettings { listen, ..pki.settings("a") };
    let a = Node::start(settings(vec![(management(), loopback(0)), (storage.clone(), absent)])).await;
    let mut b = pki.member("b").await;
    a.transport.send_datagram(absent, b.id(), storage, b"x".to_vec());
    a.send(&b, 1);
    assert_eq!(b.next_call().await.1, 1, "the first network carries meanwhile");
    let (sender, _events) = mpsc::channel(1);
    let refusal = Transport::start(settings(vec![(management(), absent)]), sender).await.expect_err("refused");
    assert!(matches!(refusal, TransportError::Bind { .. }), "{refusal}");
}

#[tokio::test]
async fn what_is_too_long_is_refused_on_both_sides() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    let long = Message::PushPull { answer: false, state: vec![0; MESSAGE_BYTES_MAX] };
    a.transport.send_message(b.addr(), Some(b.id()), management(), long);
    assert_eq!(a.transport.stats().dropped_messages, 1);
    a.send_datagram(&b, &[0; DATAGRAM_BYTES_MAX + 1]);
    assert_eq!(a.transport.stats().unsent_datagrams, 1);
    let long = Request::Raft(vec![0; REQUEST_BYTES_MAX]);
    let refusal = a.transport.request(b.addr(), b.id(), long, PATIENCE).await;
    assert!(matches!(refusal, Err(TransportError::Codec(CodecError::TooLong { .. }))), "{refusal:?}");

    // A peer that does not keep the rules itself.
    a.send(&b, 1);
    b.next_call().await;
    let connection = a.connection(b.id()).expect("connected");
    let mut stream = connection.open_uni().await.expect("opens");
    // The write may be cut short by the refusal.
    let _ = stream.write_all(&vec![0; MESSAGE_BYTES_MAX + 1]).await;
    let _ = stream.finish();
    log.says(&["a message of more than", "host=\"a\""]).await;
    let mut stream = connection.open_uni().await.expect("opens");
    stream.write_all(&[0xff; 9]).await.expect("writes");
    stream.finish().expect("ends");
    connection.send_datagram(vec![0; 1_150].into()).expect("is sent");
    a.send(&b, 2);
    assert_eq!(b.next_call().await.1, 2, "and the connection lives");
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn a_busy_shell_delays_messages_and_loses_datagrams() {
    let pki = Pki::new("zrh");
    let a = pki.member("a").await;
    let (sender, mut events) = mpsc::channel(1);
    let b = Transport::start(pki.settings("b"), sender).await.expect("starts");
    let send = |call| {
        let call = Message::RollCall { call: CallId(call) };
        a.transport.send_message(b.local_addr(), Some(id("b")), management(), call);
    };
    (0..50).for_each(send);
    until("connected", || a.connection(id("b")).is_some()).await;
    until("datagrams were lost", || {
        a.transport.send_datagram(b.local_addr(), id("b"), management(), b"x".to_vec());
        b.stats().overrun_datagrams > 0
    })
    .await;
    let mut calls = std::collections::BTreeSet::new();
    while calls.len() < 50 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("in time").expect("runs");
        if let TransportEvent::Message { message: Message::RollCall { call }, .. } = event {
            calls.insert(call.0);
        }
    }
    assert_eq!(a.transport.stats().dropped_messages, 0);
}

#[tokio::test]
async fn a_request_nobody_serves_is_refused_and_one_nobody_hears_times_out() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    let (to, member) = (b.addr(), b.id());
    let unserved = tokio::spawn(async move {
        while let Some(event) = b.events.recv().await {
            drop(event);
        }
    });
    let reply = a.transport.request(to, member, Request::Raft(vec![1]), PATIENCE).await.expect("an answer");
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    unserved.abort();
    let hole = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let nobody = hole.local_addr().expect("bound");
    let within = Duration::from_millis(200);
    let silence = a.transport.request(nobody, id("c"), Request::Raft(vec![1]), within).await;
    assert!(matches!(silence, Err(TransportError::Silent { .. })), "{silence:?}");
}
