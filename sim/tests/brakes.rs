//! Brakes in whole clusters: a rack that is cut, a rack that dies, a datacentre that loses its power.

use std::time::Duration;

use rekindle_coordinator::time::Moment;
use rekindle_proto::id::{DomainName, HostName};
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::CALM;
use rekindle_sim::world::World;

fn world(seed: u64, hosts: usize, servers: usize) -> World {
    println!("seed {seed}, {hosts} hosts");
    World::new(seed, hosts, 5, servers, CALM)
}

fn run(world: &mut World, seconds: u64) {
    let until = world.now() + Duration::from_secs(seconds);
    world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
}

/// The last `count` hosts: no voters among them.
fn last(world: &World, count: usize) -> Vec<HostName> {
    let mut hosts = world.host_names();
    hosts.sort_by_key(|host| host.as_str().trim_start_matches("cmp-").parse::<u32>().unwrap_or(0));
    hosts.split_off(hosts.len() - count)
}

fn cut(world: &mut World, hosts: &[HostName], cut: bool) {
    for host in hosts {
        world.cut(host, cut);
    }
}

fn rack(world: &mut World, hosts: &[HostName]) {
    world.label(hosts, &DomainName::new("rack-1").expect("legal"));
}

/// Seconds after `since` at which hosts were fenced for the first time.
fn first_fences(world: &World, since: Moment) -> Vec<u64> {
    let mut seen = std::collections::BTreeSet::new();
    let first = world.fenced.iter().filter(|(_, host)| seen.insert(host.clone()));
    first.map(|(at, _)| at.since(since).as_secs()).collect()
}

/// At no time more than three within a storm's first minute, and then never two within ten seconds.
fn keeps_the_rate(fences: &[u64]) {
    for (number, at) in fences.iter().enumerate().skip(3) {
        let third_before = fences[number - 3];
        assert!(at - third_before >= 28, "four fences within {} s: {fences:?}", at - third_before);
        assert!(at - fences[0] >= 69, "the fourth came {} s after the first: {fences:?}", at - fences[0]);
    }
}

#[test]
fn a_cut_of_ninety_seconds_fences_nobody() {
    for (seed, hosts, labelled) in [(2, 40, false), (3, 60, true)] {
        let mut world = world(seed, hosts, 1);
        let gone = last(&world, 20);
        if labelled {
            rack(&mut world, &gone);
        }
        run(&mut world, 40);
        cut(&mut world, &gone, true);
        run(&mut world, 90);
        cut(&mut world, &gone, false);
        run(&mut world, 90);
        assert!(world.fenced.is_empty(), "{hosts} hosts, labelled {labelled}: {:?}", world.fenced);
        assert_eq!(world.raft.ledger().incidents.len(), 0, "{hosts} hosts, labelled {labelled}");
    }
}

/// Ten minutes are no switch that restarts. In a third of the cluster the silent ones go on after the hold, at the rate; in
/// half of it the mass-failure stop holds them all.
#[test]
fn a_cut_of_ten_minutes_is_a_failure_unless_half_is_gone() {
    let mut third = world(5, 60, 1);
    let gone = last(&third, 20);
    run(&mut third, 40);
    let since = third.now();
    cut(&mut third, &gone, true);
    run(&mut third, 600);
    let fences = first_fences(&third, since);
    assert!(fences.first().is_some_and(|first| *first >= 120), "{fences:?}");
    assert_eq!(fences.len(), 20, "{fences:?}");
    keeps_the_rate(&fences);

    let mut half = world(6, 40, 1);
    let gone = last(&half, 20);
    run(&mut half, 40);
    cut(&mut half, &gone, true);
    run(&mut half, 600);
    assert!(half.fenced.is_empty(), "{:?}", half.fenced);
    assert_eq!(half.raft.ledger().incidents.len(), 0);
}

/// A rack of 20 of 64 dies: every host is recovered, at the rate, though only a tenth of the rack at once; and though the
/// leader dies in the middle of it. (40 of 128 goes the same way, for three times the work: the rate's own table has it.)
#[test]
fn a_dead_rack_is_wholly_recovered() {
    let mut world = world(7, 64, 1);
    let gone = last(&world, 20);
    rack(&mut world, &gone);
    run(&mut world, 40);
    let since = world.now();
    for host in &gone {
        world.kill_host(host, false);
    }
    let mut most = 0;
    for step in 0..54 {
        if step == 20 {
            let leader = world.leader().expect("elected");
            world.restart_daemon(&leader);
        }
        run(&mut world, 10);
        most = most.max(world.raft.ledger().open_incidents().count());
    }
    assert!((1..=2).contains(&most), "{most} hosts of the rack at once");
    let ledger = world.raft.ledger();
    let recovered = ledger.incidents.values().filter(|incident| incident.phase == Phase::Recovered).count();
    let open: Vec<String> = ledger.open_incidents().map(|open| format!("{} {}", open.host, open.phase)).collect();
    let fences = first_fences(&world, since);
    assert_eq!((recovered, fences.len()), (20, 20), "{fences:?} {open:?}");
    keeps_the_rate(&fences);
    let (first, last) = (fences[0], fences[19]);
    assert!((120..140).contains(&first), "{fences:?}");
    // 60 s + 17 · 10 s; and a new leader holds those still silent for another 120 s, from when it first saw them so.
    assert!((230..370).contains(&(last - first)), "{} s: {fences:?}", last - first);
}

/// Everything loses its power at once, in the middle of a recovery, and comes back; some racks boot minutes later than
/// others. Nobody who only boots slowly is powered off; what was proven before is proven again.
#[test]
fn a_datacentre_that_comes_back_is_not_fenced() {
    for seed in 10..12 {
        let mut world = world(seed, 9, 2);
        run(&mut world, 40);
        world.nova_down = true;
        let victim = last(&world, 1).remove(0);
        world.kill_host(&victim, true);
        run(&mut world, 60);
        let fenced_before = world.fenced.len();
        assert_eq!(world.raft.ledger().open_incidents().next().map(|open| open.phase), Some(Phase::Fenced));
        let epoch = world.raft.ledger().epoch.number;
        let hosts = world.host_names();
        for host in hosts.iter().filter(|host| **host != victim) {
            world.kill_host(host, true);
        }
        run(&mut world, 30);
        world.nova_down = false;
        let (slow, quick): (Vec<HostName>, Vec<HostName>) =
            hosts.into_iter().filter(|host| *host != victim).partition(|host| last(&world, 4).contains(host));
        for host in &quick {
            world.press_power(host);
        }
        run(&mut world, 200);
        assert_eq!(world.raft.ledger().epoch.number, epoch + 1, "seed {seed}: one loss of power, one epoch");
        let open = world.raft.ledger().open_incidents().next().expect("it is not lost");
        assert_eq!((open.phase, open.proof.is_some()), (Phase::Fencing, false), "seed {seed}: to be proven again");
        let leader = world.leader().expect("elected");
        world.restart_daemon(&leader);
        run(&mut world, 200);
        for host in &slow {
            world.press_power(host);
        }
        run(&mut world, 500);
        assert_eq!(world.raft.ledger().epoch.number, epoch + 1, "seed {seed}: a leader's restart begins none");
        let others: Vec<&(Moment, HostName)> =
            world.fenced.iter().skip(fenced_before).filter(|(_, host)| *host != victim).collect();
        assert!(others.is_empty(), "seed {seed}: {others:?}");
        let done = world.raft.ledger().incidents.values().find(|incident| incident.host == victim);
        assert_eq!(done.map(|incident| incident.phase), Some(Phase::Recovered), "seed {seed}");
    }
}

/// One that never comes back from it is recovered, though no gossip since has heard of it.
#[test]
fn a_host_that_does_not_come_back_with_the_others_is_recovered() {
    let mut world = world(20, 9, 2);
    run(&mut world, 40);
    let lost = last(&world, 1).remove(0);
    let hosts = world.host_names();
    for host in &hosts {
        world.kill_host(host, true);
    }
    run(&mut world, 30);
    for host in hosts.iter().filter(|host| **host != lost) {
        world.press_power(host);
    }
    run(&mut world, 500);
    assert!(world.raft.ledger().incidents.is_empty(), "it may still boot");
    run(&mut world, 400);
    let done = world.raft.ledger().incidents.values().find(|incident| incident.host == lost);
    assert_eq!(done.map(|incident| incident.phase), Some(Phase::Recovered), "{}", world.log().join("\n"));
    assert_eq!(world.raft.ledger().incidents.len(), 1);
}
