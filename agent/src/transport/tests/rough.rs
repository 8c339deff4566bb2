//! Networks that are slow, cut and narrow, and a peer that is slow to answer, with much to carry.

use super::relay::Relay;
use super::*;

/// Bytes per second: a snapshot takes seconds.
const SLOW: u64 = 2_000_000;
/// As good as no limit.
const FAST: u64 = 1_000_000_000;
/// Payload of the shortest packet that every QUIC network carries (RFC 9000, section 14).
const NARROWEST: usize = 1_200;
/// A large request: what a connection may carry unread, twice.
const LARGE: usize = 2 * 1024 * 1024;

fn large() -> Request {
    Request::Raft(vec![7; LARGE])
}

/// The connection that requests to a peer go on, whichever that is.
fn bulk(of: &Node, to: MemberId) -> Option<quinn::Connection> {
    of.connection_for(Lane::Requests, to).or_else(|| of.connection(to))
}

#[tokio::test]
async fn words_pass_while_a_slow_reader_stops_the_requests() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (transport, to, member) = (a.transport.clone(), b.addr(), b.id());
        asked.spawn(async move { transport.request(to, member, large(), PATIENCE).await });
    }
    let reply = loop {
        if let TransportEvent::Request { reply, .. } = b.next().await {
            break reply;
        }
    };
    // The others are not read before that one is answered. They did not keep it from being read.
    let sent = || bulk(&a, b.id()).map_or(0, |bulk| bulk.stats().udp_tx.bytes);
    let mut before = 0;
    until("the requests are stuck", || std::mem::replace(&mut before, sent()) == sent() && before > LARGE as u64).await;
    for call in 0..50 {
        a.send(&b, call);
        a.send_datagram(&b, &call.to_be_bytes());
        let (mut heard, mut gossip) = (false, false);
        while !(heard && gossip) {
            match b.next().await {
                TransportEvent::Message { message, .. } => {
                    assert_eq!(message, Message::RollCall { call: CallId(call) });
                    heard = true;
                }
                TransportEvent::Datagram { bytes, .. } => {
                    assert_eq!(bytes, call.to_be_bytes());
                    gossip = true;
                }
                TransportEvent::Request { .. } => panic!("they are stuck"),
                TransportEvent::Connected { .. } => {}
            }
        }
    }
    assert!(asked.try_join_next().is_none(), "no request was answered meanwhile");
    reply.send(Reply::Raft(vec![])).expect("the asker waits");
    let b = b.answering();
    while let Some(reply) = asked.join_next().await {
        reply.expect("no panic").expect("and all are answered in the end");
    }
    drop(b);
}

/// Whether gossip came after a cut before the snapshot's connection, which was cut too, had tried again.
async fn gossip_overtakes(a: &Node, b: &mut Node, relay: &Relay, round: u8) -> bool {
    let (transport, to, member) = (a.transport.clone(), relay.address, b.id());
    let asked = tokio::spawn(async move { transport.request(to, member, large(), PATIENCE).await });
    let sent = || bulk(a, member).map_or(0, |bulk| bulk.stats().udp_tx.datagrams);
    let before = sent();
    until("the snapshot is under way", || sent() > before + 100).await;
    relay.cut(true);
    // Until it has waited long, has tried in vain, and waits twice as long now.
    until("it waits", || {
        let (now, longest) = relay.silences();
        longest > Duration::from_millis(300) && now > Duration::from_millis(20)
    })
    .await;
    let connection = bulk(a, member).expect("under way");
    relay.cut(false);
    let tried = connection.stats().udp_tx.datagrams;
    a.transport.send_datagram(relay.address, member, management(), vec![round]);
    while b.next_datagram().await.2 != [round] {}
    let overtook = connection.stats().udp_tx.datagrams == tried;
    let reply = asked.await.expect("no panic");
    overtook && reply.is_ok_and(|reply| reply == Reply::Raft(b"b".to_vec()))
}

#[tokio::test]
async fn gossip_does_not_wait_behind_a_snapshot() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await.answering());
    let relay = Relay::to(b.addr(), SLOW).await;
    // On a machine that stood still just then, both may come at once. What waits behind the snapshot never overtakes it.
    for round in 0..5 {
        if gossip_overtakes(&a, &mut b, &relay, round).await {
            return;
        }
    }
    panic!("gossip never overtook the snapshot");
}

#[tokio::test]
async fn a_path_that_becomes_narrower_in_the_middle_stops_nothing() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await.answering());
    let (relay, member) = (Relay::to(b.addr(), FAST).await, b.id());
    for (round, passes) in [(1, usize::MAX), (2, NARROWEST)] {
        let (transport, to) = (a.transport.clone(), relay.address);
        let asked = tokio::spawn(async move { transport.request(to, member, large(), PATIENCE).await });
        let before = relay.packets();
        until("the snapshot is under way", || relay.packets() > before + 200).await;
        relay.narrow(passes);
        assert_eq!(asked.await.expect("no panic").expect("answers"), Reply::Raft(b"b".to_vec()));
        for number in 0..20 {
            // Two that fit together into a packet of Ethernet, and one that fills the shortest.
            let sent = [vec![number; 650], vec![number + 100; 650], vec![round; DATAGRAM_BYTES_MAX]];
            for bytes in &sent {
                a.transport.send_datagram(relay.address, member, management(), bytes.clone());
            }
            for bytes in sent {
                assert_eq!(b.next_datagram().await.2, bytes);
            }
        }
    }
    assert_eq!(relay.lengths(), (NARROWEST, 0), "nothing was ever longer");
}
