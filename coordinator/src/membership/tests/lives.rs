//! One's own lives: who is called dead says no, once a period and at once, and nobody brings deaths out of isolation.

use std::time::Duration;

use foca::{Header, Member, Message, State};
use rekindle_proto::id::Incarnation;

use super::super::identity::Identity;
use super::super::wire::{Packet, close_state, open_state};
use super::super::{MemberState, Membership, MembershipOutput};
use super::hostile::{acquainted, drain, identity, packet};
use super::net::{BIRTH, host};
use crate::time::Moment;

#[test]
fn being_called_dead_costs_one_write_a_period_and_is_answered_at_once() {
    let mut now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    let mut lives = 0;
    for round in 0..200 {
        let header = Packet::open(&packet(1, Message::TurnUndead, vec![])).expect("good").header;
        let header = Header { dst: Identity { incarnation: membership.incarnation(), ..identity(0, 0) }, ..header };
        let bytes = Packet { header, updates: vec![] }.close().expect("encodes");
        membership.datagram(now, host(1), &bytes).expect("well formed");
        let outputs = drain(&mut membership);
        lives += outputs.iter().filter(|output| matches!(output, MembershipOutput::PersistIncarnation(_))).count();
        if round == 0 {
            assert!(matches!(outputs[0], MembershipOutput::PersistIncarnation(_)), "{outputs:?}");
            assert!(sent(&outputs, 1).any(|packet| packet.header.message == Message::Announce), "{outputs:?}");
        }
        now = now + Duration::from_millis(10);
    }
    // 200 times in two seconds, a period is half a second.
    assert_eq!(lives, 4);
}

/// Even if all it says at the beginning of a new life is lost, a member goes on probing.
#[test]
fn a_new_life_does_not_wait_to_be_heard() {
    let mut now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    membership.datagram(now, host(1), &packet(1, Message::TurnUndead, vec![])).expect("well formed");
    drain(&mut membership);
    let mut pings = 0;
    while let Some(next) = membership.next_deadline().filter(|next| next.since(Moment::ZERO) < Duration::from_secs(3)) {
        now = next;
        membership.tick(now);
        let outputs = drain(&mut membership);
        let all = sent(&outputs, 1).chain(sent(&outputs, 2));
        pings += all.filter(|packet| matches!(packet.header.message, Message::Ping(_))).count();
    }
    assert!(pings > 0, "silent since its new life began");
}

#[test]
fn who_knows_an_older_life_of_ours_is_told_of_this_one() {
    let now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    for older in [BIRTH - 1, 0] {
        let header = Packet::open(&packet(1, Message::Ping(9), vec![])).expect("good").header;
        let bytes = Packet { header: Header { dst: identity(0, older), ..header }, updates: vec![] };
        membership.datagram(now, host(1), &bytes.close().expect("encodes")).expect("well formed");
        let outputs = drain(&mut membership);
        assert!(sent(&outputs, 1).any(|packet| packet.header.message == Message::Announce), "{older}: {outputs:?}");
        assert_eq!(membership.incarnation(), Incarnation(BIRTH));
    }
}

/// Whoever may have been cut off keeps to itself whom it believes down; whoever believes the teller dead does not listen.
#[test]
fn states_carry_no_deaths_out_of_isolation() {
    let now = Moment::from_micros(1);
    let downs = |membership: &Membership| {
        let members = open_state(&membership.full_state()).expect("well formed");
        members.iter().filter(|member| member.state() == State::Down).count()
    };
    let mut membership = acquainted(now);
    let alive = |index| Member::alive(identity(index, BIRTH));
    let others = close_state(&[alive(3), alive(4), Member::down(identity(5, BIRTH))]);
    membership.merge_state(now, host(1), &others).expect("well formed");
    assert_eq!(downs(&membership), 1, "of six, five live: the sixth is told of");
    let deaths = close_state(&[1, 2, 3].map(|index| Member::down(identity(index, BIRTH))));
    let mut other = acquainted(now);
    other.merge_state(now, host(1), &others).expect("well formed");
    membership.merge_state(now, host(4), &deaths).expect("well formed");
    assert_eq!(downs(&membership), 0, "of six, two live: it may be we who are cut off");

    other.merge_state(now, host(2), &close_state(&[Member::down(identity(1, BIRTH))])).expect("well formed");
    assert_eq!(other.member(host(1)).expect("known").state, MemberState::Down);
    let by_the_dead = close_state(&[alive(1), Member::down(identity(2, BIRTH)), alive(6)]);
    other.merge_state(now, host(1), &by_the_dead).expect("well formed");
    assert_eq!(other.member(host(2)).expect("known").state, MemberState::Alive, "the dead was believed");
    assert_eq!(other.member(host(6)).expect("known").state, MemberState::Alive);
}

/// Datagrams to that member, in order.
pub(super) fn sent(outputs: &[MembershipOutput], to: usize) -> impl Iterator<Item = Packet> {
    outputs.iter().filter_map(move |output| match output {
        MembershipOutput::Datagram { member, bytes, .. } if *member == host(to) => {
            Some(Packet::open(bytes).expect("ours"))
        }
        MembershipOutput::Datagram { .. }
        | MembershipOutput::PersistIncarnation(_)
        | MembershipOutput::Changed(_)
        | MembershipOutput::ProbeFailed { .. }
        | MembershipOutput::AskOnStream { .. }
        | MembershipOutput::PushPull { .. }
        | MembershipOutput::Nack(_) => None,
    })
}
