use std::time::Duration;

use foca::{Header, Member, Message, State};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::id::{CallId, Incarnation};
use rekindle_proto::message::DATAGRAM_BYTES_MAX;

use super::super::identity::Identity;
use super::super::wire::{Packet, STATE_BYTES_MAX, close_state};
use super::super::{MEMBERS_MAX, MemberState, Membership, MembershipError, MembershipOutput};
use super::net::{BIRTH, Net, address, host, settings};
use crate::time::Moment;

pub(super) fn identity(index: usize, incarnation: u64) -> Identity {
    Identity { member: host(index), incarnation: Incarnation(incarnation), address: address(index) }
}

/// A packet from member `from` to member 0 in its first life.
pub(super) fn packet(from: usize, message: Message<Identity>, updates: Vec<Member<Identity>>) -> Vec<u8> {
    let header = Header { src: identity(from, BIRTH), src_incarnation: 0, dst: identity(0, BIRTH), message };
    Packet { header, updates }.close().expect("encodes")
}

/// Everything that can be seen of it from outside.
fn appearance(membership: &Membership) -> impl PartialEq + std::fmt::Debug + use<> {
    let members: Vec<_> = membership.members().cloned().collect();
    (members, membership.full_state(), membership.next_deadline(), membership.incarnation(), format!("{membership:?}"))
}

pub(super) fn drain(membership: &mut Membership) -> Vec<MembershipOutput> {
    std::iter::from_fn(|| membership.poll_output()).collect()
}

/// Member 0, with members 1 and 2 known and alive.
pub(super) fn acquainted(now: Moment) -> Membership {
    let mut membership = Membership::new(settings(0, BIRTH, 7), now);
    for from in [1, 2] {
        membership.datagram(now, host(from), &packet(from, Message::Announce, vec![])).expect("honest");
    }
    drain(&mut membership);
    membership
}

#[test]
fn nobody_speaks_in_anothers_name() {
    let now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    let before = appearance(&membership);
    let rumour = vec![Member::down(identity(1, BIRTH))];
    for (from, bytes) in [
        (2, packet(1, Message::Ping(1), vec![])),
        (2, packet(1, Message::Gossip, rumour.clone())),
        (9, packet(1, Message::Gossip, rumour.clone())),
        (2, packet(1, Message::TurnUndead, vec![])),
        (2, packet(0, Message::Gossip, rumour.clone())),
        (0, packet(0, Message::Gossip, rumour)),
    ] {
        let refused = membership.datagram(now, host(from), &bytes);
        assert!(matches!(refused, Err(MembershipError::Source { .. })), "{refused:?}");
        assert_eq!(drain(&mut membership), [], "a packet in another's name was answered");
        assert!(appearance(&membership) == before, "a packet in another's name changed something");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    let before = appearance(&membership);
    let good = packet(1, Message::Gossip, vec![Member::down(identity(2, BIRTH)), Member::alive(identity(3, BIRTH))]);
    let mut long = good.clone();
    long.resize(DATAGRAM_BYTES_MAX + 1, 0);
    let trailing = [good.as_slice(), &[0, 1, 2]].concat();
    let elsewhere = identity(2, BIRTH + 1);
    let elsewhere = Identity { address: address(77), ..elsewhere };
    let header = Header { dst: identity(3, BIRTH), ..Packet::open(&good).expect("good").header };
    let misdirected = Packet { header, updates: vec![] }.close().expect("encodes");
    let mut refused = vec![long, trailing, misdirected];
    refused.extend((0..good.len()).map(|end| good[..end].to_vec()));
    for target in [identity(9, BIRTH), elsewhere, identity(0, 1)] {
        refused.push(packet(1, Message::PingReq { target, probe_number: 3 }, vec![]));
        refused.push(packet(1, Message::IndirectAck { target, probe_number: 3 }, vec![]));
    }
    // A header alone is a packet: what is cut right behind it is an empty gossip.
    let bare = Packet { updates: vec![], ..Packet::open(&good).expect("good") }.close().expect("encodes").len() - 2;
    for bytes in refused.into_iter().filter(|bytes| bytes.len() != bare) {
        assert!(membership.datagram(now, host(1), &bytes).is_err(), "accepted: {bytes:?}");
        assert_eq!(drain(&mut membership), []);
        assert!(appearance(&membership) == before, "changed by {bytes:?}");
    }
    membership.datagram(now, host(1), &good).expect("the good one is accepted");
    assert_eq!(membership.member(host(2)).expect("known").state, MemberState::Down);
}

/// What holds whatever peers say.
fn check(membership: &Membership, what: &str) {
    assert!(membership.member(host(0)).is_none(), "{what}: we are a member of ourselves");
    assert!(membership.members().count() <= MEMBERS_MAX, "{what}: too many members");
    let timers = membership.timers.len();
    assert!(timers <= 7 + 2 * membership.members().count(), "{what}: {timers} timers");
    assert!(membership.seen.len() <= membership.views.len(), "{what}");
}

#[test]
fn rubbish_never_panics() {
    let mut net = Net::formed(5, 1);
    net.record = 400;
    net.kill(4);
    net.run(Duration::from_secs(20));
    let recorded: Vec<_> = net.recorded.iter().filter(|(_, to, _)| *to == 0).cloned().collect();
    assert!(recorded.len() > 50, "only {}", recorded.len());
    let mut rng = StdRng::seed_from_u64(11);
    let mut now = net.now;
    let mut accepted = 0;
    for round in 0..40_000 {
        let (from, _, bytes) = &recorded[rng.random_range(0..recorded.len())];
        let mut bytes = bytes.clone();
        match round % 4 {
            0 => bytes = (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
            1 => bytes.truncate(rng.random_range(0..bytes.len())),
            2 => (0..rng.random_range(1..6)).for_each(|_| {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }),
            // Behind the header's source, so that it is not refused at once.
            _ => (0..rng.random_range(1..6)).for_each(|_| {
                let at = rng.random_range(30..bytes.len());
                bytes[at] = rng.random();
            }),
        }
        let membership = &mut net.nodes[0].membership;
        accepted += u32::from(membership.datagram(now, host(*from), &bytes).is_ok());
        let _ = membership.merge_state(now, host(*from), &bytes);
        now = now + Duration::from_micros(rng.random_range(0..20_000));
        membership.tick(now);
        drain(membership);
        check(membership, &format!("round {round}"));
    }
    assert!(accepted > 1000, "the rubbish was not dangerous enough: {accepted} accepted");
}

fn any_identity(rng: &mut StdRng) -> Identity {
    let lives =
        [0, 1, BIRTH - 1, BIRTH, BIRTH, BIRTH, BIRTH + 1, BIRTH + 2, 1 << 48, (1 << 48) + 1, u64::MAX - 1, u64::MAX];
    let index = rng.random_range(0..8);
    let listens = if rng.random_bool(0.9) { index } else { rng.random_range(0..8) };
    Identity { address: address(listens), ..identity(index, lives[rng.random_range(0..lives.len())]) }
}

fn any_message(rng: &mut StdRng, ours: Identity) -> Message<Identity> {
    let probe_number = rng.random();
    let target = if rng.random_bool(0.2) { ours } else { any_identity(rng) };
    match rng.random_range(0..11) {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target, probe_number },
        3 => Message::IndirectPing { origin: target, probe_number },
        4 => Message::IndirectAck { target, probe_number },
        5 => Message::ForwardedAck { origin: target, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Broadcast,
        9 => Message::TurnUndead,
        _ => Message::Gossip,
    }
}

fn any_update(rng: &mut StdRng, ours: Identity) -> Member<Identity> {
    let id = if rng.random_bool(0.2) { ours } else { any_identity(rng) };
    let swim = [0, 0, 1, 2, 65_534, 65_535][rng.random_range(0..6)];
    Member::new(id, swim, [State::Alive, State::Suspect, State::Down][rng.random_range(0..3)])
}

/// Well-formed lies of every kind, from several members, among ticks.
#[test]
fn lies_never_panic_and_cost_little() {
    for seed in 0..10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut now = Moment::from_micros(1);
        let start = now;
        let mut membership = Membership::new(settings(0, BIRTH, seed), now);
        let mut renewals = 0;
        let mut life = membership.incarnation();
        for round in 0..3000 {
            let ours = Identity { incarnation: membership.incarnation(), ..identity(0, 0) };
            let src = Identity { member: host(rng.random_range(1..8)), ..any_identity(&mut rng) };
            let dst = if rng.random_bool(0.8) { ours } else { Identity { member: host(0), ..any_identity(&mut rng) } };
            let message = any_message(&mut rng, ours);
            let bare = matches!(message, Message::Announce | Message::Broadcast);
            let count = if bare { 0 } else { rng.random_range(0..6) };
            let updates: Vec<_> = (0..count).map(|_| any_update(&mut rng, ours)).collect();
            let header = Header { src, src_incarnation: rng.random(), dst, message };
            let bytes = Packet { header, updates: updates.clone() }.close().expect("encodes");
            let _ = membership.datagram(now, src.member, &bytes);
            if rng.random_bool(0.1) {
                membership.merge_state(now, src.member, &close_state(&updates)).expect("well formed");
            }
            if rng.random_bool(0.5) {
                now = now + Duration::from_micros(rng.random_range(0..300_000));
                membership.tick(now);
            }
            for output in drain(&mut membership) {
                match output {
                    MembershipOutput::PersistIncarnation(next) => {
                        assert!(next > life, "seed {seed}, round {round}: life numbers only rise");
                        (life, renewals) = (next, renewals + 1);
                    }
                    MembershipOutput::Datagram { member, bytes, .. } => {
                        assert_ne!(member, host(0), "seed {seed}, round {round}: sent to ourselves");
                        assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "seed {seed}, round {round}");
                    }
                    MembershipOutput::Changed(_)
                    | MembershipOutput::ProbeFailed { .. }
                    | MembershipOutput::AskOnStream { .. }
                    | MembershipOutput::PushPull { .. }
                    | MembershipOutput::Nack(_) => {}
                }
            }
            assert_eq!(membership.incarnation(), life, "seed {seed}, round {round}: a life that was not persisted");
            check(&membership, &format!("seed {seed}, round {round}"));
        }
        let most = now.since(start).as_millis() / 500 + 1;
        assert!(renewals > 1 && renewals <= most, "seed {seed}: {renewals} writes to disk, at most {most} expected");
    }
}

#[test]
fn invented_members_do_not_fill_the_memory() {
    let now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    for first in (100..2 * MEMBERS_MAX).step_by(20) {
        let invented = (first..first + 20).map(|index| Member::alive(identity(index, BIRTH))).collect();
        membership.datagram(now, host(1), &packet(1, Message::Gossip, invented)).expect("well formed");
        drain(&mut membership);
    }
    assert_eq!(membership.members().count(), MEMBERS_MAX);
    let state = membership.full_state();
    assert!(state.len() <= STATE_BYTES_MAX);
    let mut other = Membership::new(settings(3, BIRTH, 7), now);
    other.merge_state(now, host(0), &state).expect("what we push can be pulled");
    assert_eq!(other.members().count(), MEMBERS_MAX);
    let late = packet(50, Message::Ping(1), vec![]);
    assert_eq!(membership.datagram(now, host(50), &late), Err(MembershipError::Full { from: host(50) }));
    membership.datagram(now, host(2), &packet(2, Message::Ping(1), vec![])).expect("known members are still heard");
    assert!(other.merge_state(now, host(0), &vec![0; STATE_BYTES_MAX + 1]).is_err());
}

/// One member says of another that it has lived, and is dead, in a life far ahead.
#[test]
fn one_liar_cannot_kill_for_good() {
    for life in [BIRTH, BIRTH + 1, 1 << 48, (1 << 48) + 1, u64::MAX] {
        let mut net = Net::formed(5, 3);
        let start = net.now;
        for us in [1, 2, 4] {
            for state in [State::Down, State::Alive] {
                let lie = close_state(&[Member::new(identity(3, life), 65_535, state)]);
                let now = net.now;
                net.nodes[us].membership.merge_state(now, host(0), &lie).expect("well formed");
            }
        }
        let whole =
            net.run_until(Duration::from_secs(20), |net| net.now > start + Duration::from_secs(5) && net.whole());
        assert!(whole.is_some(), "{life}: not whole again");
        net.run(Duration::from_secs(30));
        assert!(net.whole(), "{life}: not whole for long");
    }
}

/// A leader's word that somebody is gone is about one life of one we know. It ends the suspicion of who was suspect; who was
/// alive is suspect by it, and refutes that in the same life.
#[test]
fn a_word_of_death_is_about_one_life() {
    let now = Moment::from_micros(1);
    let mut membership = acquainted(now);
    membership.learn_gone(
        now,
        &[(host(1), Incarnation(BIRTH + 1)), (host(1), Incarnation(1)), (host(9), Incarnation(BIRTH))],
    );
    membership.learn_gone(now, &[(host(0), Incarnation(BIRTH))]);
    assert_eq!(drain(&mut membership), []);
    for state in [MemberState::Suspect, MemberState::Down] {
        membership.learn_gone(now, &[(host(1), Incarnation(BIRTH)), (host(1), Incarnation(BIRTH))]);
        assert_eq!(membership.member(host(1)).expect("known").state, state);
        assert_eq!(membership.member(host(2)).expect("known").state, MemberState::Alive);
    }

    for (words, is_new_life) in [(1, false), (2, true)] {
        let mut net = Net::formed(5, 3);
        let (start, life) = (net.now, net.nodes[3].membership.incarnation());
        for us in (0..words).flat_map(|_| [0, 1, 2, 4]) {
            net.nodes[us].membership.learn_gone(start, &[(host(3), life)]);
        }
        let later = start + Duration::from_secs(5);
        let whole = net.run_until(Duration::from_secs(20), |net| net.now > later && net.whole());
        assert!(whole.is_some(), "who is called gone falsely stays so");
        assert_eq!(net.nodes[3].membership.incarnation() > life, is_new_life, "told {words} times");
    }
}

/// An answer on a stream is an answer to one question, of one member.
#[test]
fn an_answer_to_another_question_saves_nobody() {
    for (right, failed) in [(true, 0), (false, 1)] {
        let mut now = Moment::from_micros(1);
        let mut membership = Membership::new(settings(0, BIRTH, 7), now);
        membership.datagram(now, host(1), &packet(1, Message::Announce, vec![])).expect("honest");
        let (mut asked, mut failures) = (0, 0);
        while failures + asked < 2 && now < Moment::from_micros(3_000_000) {
            now = membership.next_deadline().expect("timers");
            membership.tick(now);
            for output in drain(&mut membership) {
                match output {
                    MembershipOutput::AskOnStream { member } => {
                        asked += 1;
                        membership.asked_on_stream(member, CallId(7));
                        membership.answered_on_stream(now, host(2), CallId(7));
                        membership.answered_on_stream(now, host(1), CallId(if right { 7 } else { 6 }));
                    }
                    MembershipOutput::ProbeFailed { .. } => failures += 1,
                    MembershipOutput::Datagram { .. }
                    | MembershipOutput::PersistIncarnation(_)
                    | MembershipOutput::Changed(_)
                    | MembershipOutput::PushPull { .. }
                    | MembershipOutput::Nack(_) => {}
                }
            }
        }
        assert_eq!(failures, failed, "asked {asked} times");
    }
}

/// A member's suspicion that has died out before the suspect heard of it: it is told with the next probe.
#[test]
fn a_suspect_is_told() {
    let mut now = Moment::from_micros(1);
    let mut us = Membership::new(settings(0, BIRTH, 7), now);
    let mut them = Membership::new(settings(1, BIRTH, 7), now);
    us.datagram(now, host(1), &packet(1, Message::Announce, vec![])).expect("honest");
    let rumour = close_state(&[Member::new(identity(1, BIRTH), 0, State::Suspect)]);
    us.merge_state(now, host(2), &rumour).expect("well formed");
    let gossip_dies_out = now + Duration::from_secs(5);
    let end = now + Duration::from_secs(7);
    while let Some(next) = us.next_deadline().into_iter().chain(them.next_deadline()).min().filter(|next| *next < end) {
        now = next;
        us.tick(now);
        them.tick(now);
        for output in drain(&mut us) {
            let MembershipOutput::Datagram { bytes, .. } = output else { continue };
            let mut packet = Packet::open(&bytes).expect("ours");
            if now < gossip_dies_out {
                packet.updates.clear();
            }
            them.datagram(now, host(0), &packet.close().expect("encodes")).expect("honest");
        }
        for output in drain(&mut them) {
            let MembershipOutput::Datagram { bytes, .. } = output else { continue };
            us.datagram(now, host(1), &bytes).expect("honest");
        }
        if now < gossip_dies_out {
            assert_eq!(us.member(host(1)).expect("known").state, MemberState::Suspect, "the rumour got through: {now}");
        }
    }
    assert_eq!(us.member(host(1)).expect("known").state, MemberState::Alive, "never told, so suspect for ever");
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let story = |seed| {
        let mut net = Net::strangers(8, seed);
        net.loss = 0.05;
        (1..8).for_each(|index| net.meet(index, 0));
        net.run(Duration::from_secs(10));
        net.cut(&[1, 2, 3]);
        net.run(Duration::from_secs(20));
        net.heal();
        net.kill(7);
        net.run(Duration::from_secs(10));
        net.restart(7, 5);
        net.meet(7, 4);
        net.run(Duration::from_secs(30));
        (net.trace, net.sent, net.bytes)
    };
    for seed in 0..5 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
        assert_ne!(story(seed), story(seed + 1), "seed {seed}");
    }
}
