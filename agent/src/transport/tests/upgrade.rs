//! A daemon of before knows one connection for everything. It is understood, and understands.

use rekindle_proto::message::{ALPN, ALPN_WORDS};

use super::*;

/// As all spoke before requests had a connection of their own.
fn of_before(settings: TransportSettings) -> Node {
    let only = || vec![ALPN.to_vec()];
    Node::start_speaking(settings, Protocols { accepted: only(), words: only(), requests: only() }).answering()
}

/// What two members say to each other, all of it.
async fn converse(a: &mut Node, b: &mut Node) {
    a.ask(b).await;
    b.ask(a).await;
    a.send(b, 1);
    assert_eq!(b.next_call().await.1, 1);
    b.send(a, 2);
    assert_eq!(a.next_call().await.1, 2);
    a.send_datagram(b, b"ping");
    assert_eq!(b.next_datagram().await.2, b"ping");
    b.send_datagram(a, b"pong");
    assert_eq!(a.next_datagram().await.2, b"pong");
}

/// Connections so far, failed dials, refusals.
fn counted(node: &Node) -> (u64, u64, u64) {
    let stats = node.transport.stats();
    (stats.connections, stats.failed_dials, stats.refusals)
}

#[tokio::test]
async fn an_older_daemon_is_talked_to_on_its_one_connection_whoever_dials() {
    for newer_dials in [true, false] {
        for begins_with_a_request in [true, false] {
            let pki = Pki::new("zrh");
            let (mut newer, mut older) = (pki.member("n").await.answering(), of_before(pki.settings("o")));
            let (dialler, listener) = if newer_dials { (&newer, &mut older) } else { (&older, &mut newer) };
            if begins_with_a_request {
                futures::future::join_all((0..8).map(|_| dialler.ask(listener))).await;
            } else {
                dialler.send(listener, 0);
                assert_eq!(listener.next_call().await.1, 0);
            }
            converse(&mut newer, &mut older).await;
            let case = format!("the newer dials: {newer_dials}, for a request: {begins_with_a_request}");
            assert_eq!((counted(&newer), counted(&older)), ((1, 0, 0), (1, 0, 0)), "{case}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_upgraded_gets_a_second_connection_and_none_when_it_is_put_back() {
    let pki = Pki::new("zrh");
    let mut a = pki.member("a").await.answering();
    let settings = pki.settings("b");
    for (life, older) in [(1, true), (2, false), (3, true), (4, false)] {
        let settings = TransportSettings { incarnation: Incarnation(life), ..settings.clone() };
        let mut b = if older { of_before(settings) } else { Node::start(settings).await.answering() };
        converse(&mut a, &mut b).await;
        assert_eq!(a.connection_for(Lane::Requests, b.id()).is_none(), older, "life {life}");
        assert_eq!(counted(&b).0, if older { 1 } else { 2 }, "life {life}");
        let member = b.id();
        b.transport.close().await;
        until("a knows that b has stopped", || a.connection(member).is_none()).await;
    }
    assert_eq!((counted(&a).1, counted(&a).2), (0, 0), "no dial was in vain");
}

/// What a peer can make us hold is bounded for a connection: it has one for requests, not two.
#[tokio::test]
async fn a_request_among_words_is_not_served() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    a.send(&b, 1);
    b.next_call().await;
    let words = a.connection(b.id()).expect("connected");
    let protocol = words.handshake_data().and_then(|any| any.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
    assert_eq!(protocol.and_then(|agreed| agreed.protocol).as_deref(), Some(ALPN_WORDS));
    let (mut send, _receive) = words.open_bi().await.expect("opens");
    let misplaced = encode(&Request::Raft(vec![2]), REQUEST_BYTES_MAX).expect("encodes");
    send.write_all(&misplaced).await.expect("is written");
    send.finish().expect("ends");
    send.stopped().await.expect("b has it");

    let (transport, to, member) = (a.transport.clone(), b.addr(), b.id());
    let asked = tokio::spawn(async move { transport.request(to, member, Request::Raft(vec![3]), PATIENCE).await });
    loop {
        if let TransportEvent::Request { request, reply, .. } = b.next().await {
            assert_eq!(request, Request::Raft(vec![3]));
            reply.send(Reply::Raft(vec![])).expect("the asker waits");
            break;
        }
    }
    asked.await.expect("no panic").expect("is answered");
}
