use std::time::Duration;

use rekindle_proto::id::Incarnation;

use super::super::MemberState::{Alive, Down};
use super::super::{MembershipOutput, REJOIN_PERIOD};
use super::net::{BIRTH, Net};

const MINUTE: Duration = Duration::from_secs(60);

fn heals_within(net: &mut Net, bound: Duration, what: &str) -> Duration {
    let healed_at = net.now;
    net.heal();
    let whole = net.run_until(bound, Net::whole);
    whole.unwrap_or_else(|| panic!("{what}: not whole {bound:?} after the network healed")).since(healed_at)
}

#[test]
fn members_form_from_one_seed() {
    for count in [3, 5, 32] {
        for seed in 0..10 {
            let mut net = Net::strangers(count, seed);
            (1..count).for_each(|index| net.meet(index, 0));
            let start = net.now;
            let whole = net.run_until(MINUTE, Net::whole).expect("whole within a minute").since(start);
            assert!(whole < Duration::from_secs(5), "seed {seed}: {count} members needed {whole:?}");
        }
    }
}

#[test]
fn a_partition_heals() {
    let mut worst = Duration::ZERO;
    for seed in 0..30 {
        let mut net = Net::formed(5, seed);
        net.cut(&[3, 4]);
        net.run(MINUTE / 2);
        for (us, them) in [(0, 3), (0, 4), (2, 3), (3, 0), (4, 2)] {
            assert_eq!(net.state(us, them), Some(Down), "seed {seed}: the cut was not seen");
        }
        assert_eq!(net.state(3, 4), Some(Alive), "seed {seed}");
        worst =
            worst.max(heals_within(&mut net, 2 * REJOIN_PERIOD + Duration::from_secs(1), &format!("seed {seed}, 3|2")));
        net.run(MINUTE / 6);
        assert!(net.whole(), "seed {seed}: not whole for long");
    }
    println!("3|2 heals within {worst:?}");
}

/// The larger side of a cut comes out of it without having doubted itself, whether a connection is made anew or not.
#[test]
fn the_larger_side_stays_calm() {
    let (mut downs, mut renewed) = (0, 0);
    for seed in 0..5 {
        for reconnect in [false, true] {
            let mut net = Net::formed(32, seed);
            let (larger, smaller): (Vec<_>, Vec<_>) = (0..32).partition(|index| *index < 20);
            net.cut(&smaller);
            net.run(MINUTE);
            let healed = net.now;
            if reconnect {
                net.heal();
                net.meet(20, 0);
            }
            heals_within(&mut net, MINUTE, &format!("seed {seed}, 20|12"));
            net.run(MINUTE);
            downs += net.downs(&larger, &larger, healed);
            let life = |index: &usize| net.nodes[*index].membership.incarnation();
            renewed += larger.iter().filter(|index| life(index) > Incarnation(BIRTH)).count();
        }
    }
    assert_eq!((downs, renewed), (0, 0), "false downs among the larger side, and members of it that began a new life");
}

#[test]
fn halves_of_a_large_cluster_heal() {
    let mut worst = Duration::ZERO;
    for seed in 0..5 {
        let mut net = Net::formed(32, seed);
        net.cut(&(16..32).collect::<Vec<_>>());
        net.run(MINUTE);
        worst = worst.max(heals_within(&mut net, MINUTE, &format!("seed {seed}, 16|16")));
    }
    println!("16|16 heals within {worst:?}");
}

#[test]
fn two_who_believed_to_be_alone_meet_again() {
    for seed in 0..10 {
        let mut net = Net::formed(2, seed);
        net.cut(&[1]);
        net.run(MINUTE);
        assert_eq!((net.state(0, 1), net.state(1, 0)), (Some(Down), Some(Down)), "seed {seed}");
        heals_within(&mut net, 2 * REJOIN_PERIOD, &format!("seed {seed}, 1|1"));
    }
}

/// The rumours of one that was cut off must not bring down those who were not.
#[test]
fn one_that_was_cut_off_disturbs_nobody_when_it_returns() {
    for (count, seeds) in [(5, 8), (64, 1)] {
        let cases = [(10, false), (30, true), (30, false), (120, true), (120, false), (600, true)];
        for (seed, (length, reconnect)) in (0..seeds).flat_map(|seed| cases.map(|case| (seed, case))) {
            let mut net = Net::formed(count, seed);
            let others: Vec<_> = (1..count).collect();
            net.cut(&[0]);
            net.run(Duration::from_secs(length));
            assert!(others.iter().all(|us| net.state(*us, 0) == Some(Down)), "seed {seed}: it was not missed");
            if (count == 5 && length > 10) || length == 600 {
                assert!(others.iter().all(|them| net.state(0, *them) == Some(Down)), "seed {seed}: it did not notice");
            }
            let healed = net.now;
            if reconnect {
                net.heal();
                net.meet(0, 1);
            }
            heals_within(&mut net, MINUTE, &format!("seed {seed}, 1|{}", count - 1));
            net.run(MINUTE);
            assert_eq!(net.downs(&others, &others, healed), 0, "seed {seed}, {length} s: its rumours were believed");
            for index in others {
                let life = net.nodes[index].membership.incarnation();
                assert_eq!(life, Incarnation(BIRTH), "seed {seed}, {length} s: member {index} had to begin a new life");
            }
            assert!(net.nodes[0].membership.incarnation() > Incarnation(BIRTH), "seed {seed}");
        }
    }
}

#[test]
fn a_restart_with_an_old_life_number_is_overcome() {
    for seed in 0..10 {
        for (pause, old) in [(0, BIRTH), (0, BIRTH - 5000), (0, 1), (20, BIRTH), (20, BIRTH - 5000), (20, 1)] {
            let what = format!("seed {seed}: back after {pause} s as {old}");
            let mut net = Net::formed(5, seed);
            net.kill(2);
            net.run(Duration::from_secs(pause));
            let expected = if pause == 0 { Alive } else { Down };
            assert_eq!(net.state(0, 2), Some(expected), "{what}");
            net.restart(2, old);
            net.meet(2, 0);
            let whole = net.run_until(2 * REJOIN_PERIOD, Net::whole);
            assert!(whole.is_some(), "{what}: not whole");
            let life = net.nodes[2].membership.incarnation();
            let persisted = MembershipOutput::PersistIncarnation(life);
            if (pause, old) != (0, BIRTH) {
                assert!(life > Incarnation(old), "{what}: {life}");
                assert!(net.nodes[2].outputs.iter().any(|(_, output)| *output == persisted), "{what}: not persisted");
            }
        }
    }
}

#[test]
fn an_old_life_number_is_overcome_by_gossip_alone() {
    for seed in 0..10 {
        let mut net = Net::formed(5, seed);
        net.kill(2);
        net.run(Duration::from_secs(20));
        net.restart(2, 7);
        let (id, address) = (net.nodes[0].id, net.nodes[0].address);
        let life = net.nodes[0].membership.incarnation();
        let now = net.now;
        net.nodes[2].membership.connected(now, id, life, address);
        net.run(Duration::from_millis(1));
        assert!(net.run_until(4 * REJOIN_PERIOD, Net::whole).is_some(), "seed {seed}");
    }
}

#[test]
fn a_restart_with_a_new_life_number_is_seen_at_once() {
    let mut net = Net::formed(5, 1);
    net.kill(2);
    net.run(Duration::from_millis(300));
    net.restart(2, BIRTH + 60_000);
    let start = net.now;
    net.meet(2, 0);
    let whole = net.run_until(MINUTE, Net::whole).expect("whole").since(start);
    assert!(whole < Duration::from_secs(2), "{whole:?}");
    assert_eq!(net.downs(&[0, 1, 3, 4], &[2], start), 0);
}

#[test]
fn a_stalled_process_accuses_nobody() {
    for seed in 0..20 {
        for millis in [400, 700, 1500, 20_000] {
            let mut net = Net::formed(5, seed);
            let others = [1, 2, 3, 4];
            // The worst moment: a probe has just gone out, and its answer will wait unread.
            let probes = net.pings[0];
            net.run_until(MINUTE, |net| net.pings[0] > probes).expect("probes");
            let start = net.now;
            net.freeze(0, Duration::from_millis(millis));
            net.run(Duration::from_millis(millis) + MINUTE);
            assert_eq!(net.failed_probes(0, start), 0, "seed {seed}: after {millis} ms asleep");
            assert_eq!(net.downs(&[0, 1, 2, 3, 4], &others, start), 0, "seed {seed}: after {millis} ms asleep");
            assert!(net.whole(), "seed {seed}: after {millis} ms asleep");
        }
    }
}

/// Members that neither hear nor are heard for 16.4 s in every 17.4 s, while their timers run (Lifeguard's anomaly): only
/// they themselves may be called dead.
#[test]
fn the_starved_accuse_nobody_who_is_healthy() {
    for (count, starved) in [(32, 1), (32, 4), (32, 8)] {
        let mut net = Net::formed(count, 3);
        let (starved, healthy): (Vec<_>, Vec<_>) = (0..count).partition(|index| *index < starved);
        let start = net.now;
        for _ in 0..7 {
            net.isolate(&starved);
            net.run(Duration::from_millis(16_400));
            net.heal();
            net.run(Duration::from_millis(1000));
        }
        let (anywhere, at_healthy) = (net.downs(&starved, &healthy, start), net.downs(&healthy, &healthy, start));
        println!(
            "{} of {count} starved: healthy called dead {anywhere} times by them, {at_healthy} by the healthy",
            starved.len()
        );
        assert_eq!((anywhere, at_healthy), (0, 0), "{} of {count} starved", starved.len());
        assert!(
            net.run_until(2 * MINUTE, Net::whole).is_some(),
            "{} of {count} starved: not whole again",
            starved.len()
        );
    }
}
