//! Networks that are slow, cut and narrow, with much to carry.

use super::relay::Relay;
use super::*;

/// Bytes per second: a snapshot takes seconds.
const SLOW: u64 = 2_000_000;
/// As good as no limit.
const FAST: u64 = 1_000_000_000;
/// Payload of the shortest packet that every QUIC network carries (RFC 9000, section 14).
const NARROWEST: usize = 1_200;

/// Answers requests, and passes on the datagrams that come.
async fn serve(mut node: Node, datagrams: mpsc::UnboundedSender<Vec<u8>>) {
    while let Some(event) = node.events.recv().await {
        match event {
            TransportEvent::Request { reply, .. } => reply.send(Reply::Raft(vec![1])).expect("the asker waits"),
            TransportEvent::Datagram { bytes, .. } => datagrams.send(bytes).expect("the test listens"),
            TransportEvent::Connected { .. } | TransportEvent::Message { .. } => {}
        }
    }
}

async fn next(datagrams: &mut mpsc::UnboundedReceiver<Vec<u8>>) -> Vec<u8> {
    tokio::time::timeout(PATIENCE, datagrams.recv()).await.expect("in time").expect("runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_does_not_wait_behind_a_snapshot() {
    let pki = Pki::new("zrh");
    let (a, b) = (pki.member("a").await, pki.member("b").await);
    let (relay, member) = (Relay::to(b.addr(), SLOW).await, b.id());
    let (sender, mut datagrams) = mpsc::unbounded_channel();
    let server = tokio::spawn(serve(b, sender));
    let gossip = |bytes: &[u8]| a.transport.send_datagram(relay.address, member, management(), bytes.to_vec());
    gossip(b"before");
    assert_eq!(next(&mut datagrams).await, b"before");

    let (transport, to) = (a.transport.clone(), relay.address);
    let snapshot = Request::Raft(vec![7; 8 * 1024 * 1024]);
    let asked = tokio::spawn(async move { transport.request(to, member, snapshot, PATIENCE).await });
    until("the snapshot is under way", || {
        a.connection_for(Lane::Requests, member).is_some_and(|bulk| bulk.stats().udp_tx.datagrams > 500)
    })
    .await;
    gossip(b"beside it");
    assert_eq!(next(&mut datagrams).await, b"beside it");

    // Cut until the snapshot's connection has waited long, tried again in vain, and waits twice as long now.
    let bulk = a.connection_for(Lane::Requests, member).expect("under way");
    relay.cut(true);
    until("it waits", || {
        let (now, before) = relay.silences();
        before > Duration::from_millis(300) && now > Duration::from_millis(20)
    })
    .await;
    relay.cut(false);
    let tried = bulk.stats().udp_tx.datagrams;
    gossip(b"after the cut");
    assert_eq!(next(&mut datagrams).await, b"after the cut");
    assert_eq!(bulk.stats().udp_tx.datagrams, tried, "it came before the snapshot's next try");
    let reply = asked.await.expect("no panic").expect("answers");
    assert_eq!(reply, Reply::Raft(vec![1]), "and the snapshot arrives");
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_becomes_narrower_stops_nothing() {
    let pki = Pki::new("zrh");
    let (a, b) = (pki.member("a").await, pki.member("b").await);
    let (relay, member) = (Relay::to(b.addr(), FAST).await, b.id());
    let (sender, mut datagrams) = mpsc::unbounded_channel();
    let server = tokio::spawn(serve(b, sender));
    for passes in [usize::MAX, NARROWEST] {
        relay.narrow(passes);
        for number in 0..20 {
            let bytes = vec![number; DATAGRAM_BYTES_MAX];
            a.transport.send_datagram(relay.address, member, management(), bytes.clone());
            assert_eq!(next(&mut datagrams).await, bytes);
        }
        let snapshot = Request::Raft(vec![7; 2 * 1024 * 1024]);
        let reply = a.transport.request(relay.address, member, snapshot, PATIENCE).await;
        assert_eq!(reply.expect("answers"), Reply::Raft(vec![1]));
    }
    assert_eq!(relay.lengths(), (NARROWEST, 0), "nothing was ever longer");
    server.abort();
}
