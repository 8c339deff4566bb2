//! Laws of merging what others know (SWIM, section 4.2: an update wins by life, then by SWIM incarnation, then by state):
//! the order of tellers, and telling twice, change nothing.

use foca::{Member, State};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rekindle_proto::id::Incarnation;

use super::super::identity::Identity;
use super::super::wire::close_state;
use super::super::{MemberState, Membership};
use super::net::{BIRTH, address, host, settings};
use crate::time::Moment;

/// A statement about members 1 to 6, in one of three lives, by a member that is none of them.
fn statement(rng: &mut StdRng) -> Vec<u8> {
    let member = |rng: &mut StdRng| {
        let index = rng.random_range(1..7);
        let incarnation = Incarnation(BIRTH + rng.random_range(0..3));
        let id = Identity { member: host(index), incarnation, address: address(index) };
        let state = [State::Alive, State::Suspect, State::Down][rng.random_range(0..3)];
        Member::new(id, rng.random_range(0..4), state)
    };
    let count = rng.random_range(1..5);
    close_state(&(0..count).map(|_| member(rng)).collect::<Vec<_>>())
}

/// What came of these statements: each member's life, and whether it lives.
fn merged<'a>(statements: impl Iterator<Item = &'a Vec<u8>>) -> Vec<(Incarnation, MemberState)> {
    let now = Moment::from_micros(1);
    let mut membership = Membership::new(settings(0, BIRTH, 7), now);
    for statement in statements {
        membership.merge_state(now, host(9), statement).expect("well formed");
    }
    membership.members().map(|view| (view.incarnation, view.state)).collect()
}

#[test]
fn the_order_of_tellers_changes_nothing_and_telling_twice_neither() {
    for seed in 0..2_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..6);
        let statements: Vec<Vec<u8>> = (0..count).map(|_| statement(&mut rng)).collect();
        let once = merged(statements.iter());
        let mut shuffled = statements.clone();
        shuffled.shuffle(&mut rng);
        assert_eq!(once, merged(shuffled.iter()), "seed {seed}: another order, another outcome");
        let twice = statements.iter().chain(&shuffled);
        assert_eq!(once, merged(twice), "seed {seed}: told twice, another outcome");
    }
}
