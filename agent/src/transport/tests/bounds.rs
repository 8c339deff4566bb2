//! What waits for a peer is bounded, and the oldest goes. Connections are there while they are used.

use super::super::endpoint::DATAGRAM_SEND_BYTES;
use super::super::link::{DATAGRAMS_MAX, MESSAGES_MAX};
use super::*;

// These tests run on one thread: what is sent between two awaits waits at the same time.

#[tokio::test]
async fn of_datagrams_that_wait_for_a_connection_the_oldest_go() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    let too_many = u8::try_from(DATAGRAMS_MAX).expect("few") + 5;
    (0..too_many).for_each(|number| a.send_datagram(&b, &[number]));
    for number in 5..too_many {
        assert_eq!(b.next_datagram().await.2, [number]);
    }
    assert_eq!(a.transport.stats().unsent_datagrams, 5);
}

#[tokio::test]
async fn of_messages_that_wait_for_a_connection_the_oldest_go() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    let too_many = u64::try_from(MESSAGES_MAX).expect("few") + 5;
    (0..too_many).for_each(|call| a.send(&b, call));
    let mut calls = std::collections::BTreeSet::new();
    while calls.len() < MESSAGES_MAX {
        calls.insert(b.next_call().await.1);
    }
    assert_eq!(calls, (5..too_many).collect());
    assert_eq!(a.transport.stats().dropped_messages, 5);
}

/// As when its window is full: nothing is sent before we await.
#[tokio::test]
async fn of_datagrams_that_a_connection_cannot_send_yet_the_oldest_go() {
    let pki = Pki::new("zrh");
    let (a, mut b) = (pki.member("a").await, pki.member("b").await);
    a.send_datagram(&b, &[]);
    b.next_datagram().await;
    until("a is connected", || a.connection(b.id()).is_some()).await;
    (0..100).for_each(|number| a.send_datagram(&b, &[number; 1_000]));
    let mut came = Vec::new();
    while came.last() != Some(&99) {
        came.push(b.next_datagram().await.2[0]);
    }
    assert!(came.len() * 1_000 <= DATAGRAM_SEND_BYTES, "{came:?}");
    assert!(came.len() > 10, "not all were lost: {came:?}");
    assert_eq!(came, (100 - u8::try_from(came.len()).expect("few")..100).collect::<Vec<_>>(), "the newest, in order");
}

/// So a member of 2,000 has as many as there are peers it talked to lately.
#[tokio::test]
async fn connections_are_made_when_needed_and_end_when_idle() {
    let pki = Pki::new("zrh");
    let a = pki.member("a").await;
    let mut peers = Vec::new();
    for number in 0..24 {
        peers.push(pki.member(&format!("p{number}")).await.answering());
    }
    let open = || a.transport.shared().endpoint(0).open_connections();
    for peer in &mut peers {
        a.send_datagram(peer, b"ping");
        peer.next_datagram().await;
    }
    assert!(open() <= peers.len(), "none for requests that nobody made: {}", open());
    for peer in &peers[..3] {
        a.ask(peer).await;
    }
    assert!(open() <= peers.len() + 3, "{}", open());
    until("all are idle, and end", || open() == 0).await;
    assert!(peers.iter().all(|peer| peer.transport.stats().connections <= 2), "nobody dialled again meanwhile");
    // And when they are needed again, they are made again.
    a.ask(&peers[0]).await;
    assert_eq!(open(), 1);
}
