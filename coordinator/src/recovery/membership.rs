//! Which aggregate a reserved host joins next, and which it leaves.

use rekindle_proto::fact::NovaAggregate;

use crate::ledger::{JOINS_MAX, JoinState, Joins, Membership};

/// What is to be done next for a reserved host that joins the aggregates of a dead one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextJoin<'a> {
    /// That one is to be written down.
    Record(&'a NovaAggregate),
    /// Nova is to be asked for that one, which was written down.
    Ask(&'a Membership),
    /// There are more than are joined.
    Full,
    /// Nothing: it is in all of them, or as far as Nova lets it.
    Nothing,
}

/// The next step of joining. One that is written down, and of which nothing came yet, is asked for whatever the lists say: a
/// leader before us may have asked, and to ask twice does no harm.
#[must_use]
pub fn next_join<'a>(dead: &'a [NovaAggregate], own: &[NovaAggregate], joins: &'a Joins) -> NextJoin<'a> {
    if joins.given_up.is_some() {
        return NextJoin::Nothing;
    }
    if let Some(open) = joins.memberships.iter().find(|membership| membership.state == JoinState::Intended) {
        return NextJoin::Ask(open);
    }
    let is_new = |aggregate: &&NovaAggregate| {
        let recorded = joins.state_of(aggregate.id);
        !own.iter().any(|known| known.id == aggregate.id)
            && recorded.is_none_or(|state| state.may_become(&JoinState::Intended))
    };
    match dead.iter().filter(is_new).min_by_key(|aggregate| aggregate.id) {
        None => NextJoin::Nothing,
        Some(again) if joins.state_of(again.id).is_some() => NextJoin::Record(again),
        Some(_) if joins.memberships.len() >= JOINS_MAX => NextJoin::Full,
        Some(next) => NextJoin::Record(next),
    }
}

/// The aggregate that a host leaves next, the last joined first: of those alone that it is in by us, or may be.
#[must_use]
pub fn next_leave(joins: &Joins) -> Option<&Membership> {
    joins.ours().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::id::AggregateId;
    use std::collections::BTreeMap;

    type Recorded = Vec<(u64, JoinState)>;

    fn aggregates(ids: &[u64]) -> Vec<NovaAggregate> {
        let row = |id: &u64| NovaAggregate { id: AggregateId(*id), name: "a".into(), metadata: BTreeMap::new() };
        ids.iter().map(row).collect()
    }

    fn joins(states: &[(u64, JoinState)]) -> Joins {
        let row = |(id, state): &(u64, JoinState)| Membership {
            id: AggregateId(*id),
            name: "a".into(),
            state: state.clone(),
        };
        Joins { memberships: states.iter().map(row).collect(), given_up: None }
    }

    #[test]
    fn the_table_of_joining() {
        use JoinState::{Intended, Joined, Left, NotOurs, Refused, Stays};
        let why = || "x".into();
        // The dead host's, the reserved host's, what is recorded; r: to be written down, a: Nova is asked.
        let rows: Vec<(&[u64], &[u64], Recorded, &str)> = vec![
            (&[], &[], vec![], "nothing"),
            (&[], &[1, 2], vec![], "nothing"),
            (&[2, 1], &[], vec![], "r1"),
            (&[1, 2], &[1], vec![], "r2"),
            (&[1, 2], &[1, 2, 3], vec![], "nothing"),
            (&[1, 2], &[], vec![(1, Intended)], "a1"),
            // A leader before us may have added it: it is asked for again, and what came of it is written down.
            (&[1, 2], &[1], vec![(1, Intended)], "a1"),
            // Begun is ended, whatever became of the dead host's aggregates.
            (&[], &[], vec![(1, Joined), (2, Intended)], "a2"),
            (&[1, 2], &[], vec![(1, Joined)], "r2"),
            // An operator has taken it out again, or Nova refused: it is not tried twice.
            (&[1], &[], vec![(1, Joined)], "nothing"),
            (&[1], &[], vec![(1, NotOurs)], "nothing"),
            (&[1, 2], &[], vec![(1, Refused(why()))], "r2"),
            (&[1], &[], vec![(1, Stays(why()))], "nothing"),
            // Its incident was resumed when it had begun to go back.
            (&[1], &[], vec![(1, Left)], "r1"),
            (&[1], &[1], vec![(1, Left)], "nothing"),
        ];
        for (dead, own, recorded, expected) in rows {
            let (dead_list, own_list, joins) = (aggregates(dead), aggregates(own), joins(&recorded));
            let said = match next_join(&dead_list, &own_list, &joins) {
                NextJoin::Record(aggregate) => format!("r{}", aggregate.id),
                NextJoin::Ask(membership) => format!("a{}", membership.id),
                NextJoin::Full => "full".to_owned(),
                NextJoin::Nothing => "nothing".to_owned(),
            };
            assert_eq!(said, expected, "{dead:?} {own:?} {recorded:?}");
        }
    }

    #[test]
    fn it_ends_at_the_bound_and_when_it_is_given_up() {
        let most = JOINS_MAX as u64;
        let all: Vec<u64> = (1..=most + 1).collect();
        let recorded: Vec<(u64, JoinState)> = (1..=most).map(|id| (id, JoinState::Joined)).collect();
        assert_eq!(next_join(&aggregates(&all), &[], &joins(&recorded)), NextJoin::Full);
        assert_eq!(next_join(&aggregates(&all[..JOINS_MAX]), &[], &joins(&recorded)), NextJoin::Nothing);
        let given_up = Joins { given_up: Some("403".into()), ..joins(&[(1, JoinState::Intended)]) };
        assert_eq!(next_join(&aggregates(&all), &[], &given_up), NextJoin::Nothing);
        assert!(next_leave(&given_up).is_some(), "it may be in it");
    }

    #[test]
    fn only_what_is_ours_is_left_and_the_last_first() {
        use JoinState::{Intended, Joined, Left, NotOurs, Refused, Stays};
        let rows: Vec<(Recorded, Option<u64>)> = vec![
            (vec![], None),
            (vec![(1, Joined), (2, Joined)], Some(2)),
            (vec![(1, Joined), (2, Left)], Some(1)),
            (vec![(1, Joined), (2, Intended)], Some(2)),
            (vec![(1, NotOurs), (2, Refused("x".into())), (3, Left), (4, Stays("x".into()))], None),
        ];
        for (recorded, expected) in rows {
            assert_eq!(next_leave(&joins(&recorded)).map(|next| next.id.0), expected, "{recorded:?}");
        }
    }
}
