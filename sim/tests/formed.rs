//! A world that begins as a formed cluster is quiet: nothing has to be found out, and nothing is stormed.

use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_sim::world::{Plan, World};

const HOSTS: usize = 150;

fn formed() -> World {
    World::build(&Plan { seed: 7, hosts: HOSTS, voters: 5, servers: 2, formed: true, ..Plan::default() })
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

#[test]
fn a_formed_cluster_is_led_at_once_and_has_nothing_to_say() {
    let mut world = formed();
    world.run_until(at(1)).expect("no promise is broken");
    assert!(world.leader().is_some(), "the first voter was elected");
    world.run_until(at(20)).expect("no promise is broken");
    let counters = world.counters();
    // The blank of the term, and a mark of the epoch at most: nobody's word is news to the ledger.
    assert!(counters["agreed entries"] <= 3, "{counters:?}");
    // The leader announces itself every five seconds, and each member answers once with its statement.
    assert!(counters["messages"] <= 8 * HOSTS as u64, "{counters:?}");
    assert_eq!(world.suspicions, [], "everybody answers");
    assert_eq!(world.ledger().epoch.seen.len(), HOSTS);
}

/// What everybody knows is of the life in which the world began: a daemon's next life is believed like any other's.
#[test]
fn a_daemon_of_a_formed_cluster_may_start_again() {
    let mut world = formed();
    world.run_until(at(5)).expect("no promise is broken");
    let names = world.host_names();
    let (first, last) = (names[0].clone(), names[HOSTS - 1].clone());
    world.restart_daemon(&last);
    world.run_until(at(30)).expect("no promise is broken");
    assert_eq!(world.fenced, []);
    world.kill_host(&last, false);
    world.run_until(at(90)).expect("no promise is broken");
    let fenced: Vec<_> = world.fenced.iter().map(|(_, host)| host.clone()).collect();
    assert_eq!(fenced, [last], "and its death is seen; {first} leads");
}
