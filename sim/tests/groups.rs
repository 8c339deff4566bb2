//! Server groups: what they cost, and that nothing but words comes of them.

use std::time::Duration;

use rekindle_coordinator::ledger::Fate;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::scenario::{CALM, Dress};
use rekindle_sim::world::{Plan, World};

fn host(number: usize) -> HostName {
    HostName::new(&format!("cmp-{number:02}")).expect("legal")
}

fn apart(name: &str, group: &str) -> Dress {
    Dress { name: name.to_owned(), apart: Some(group.to_owned()), ..Dress::default() }
}

/// The end of a host's servers, by name: where it runs, or why not.
fn ends(world: &World) -> Vec<(String, Result<String, String>)> {
    let incident = world.ledger().incidents.values().next().expect("an incident");
    assert_eq!(incident.phase, Phase::Recovered, "{}", world.log().join("\n"));
    let records = incident.servers.values();
    let mut ends: Vec<(String, Result<String, String>)> = records
        .map(|record| {
            let end = match record.fate.as_ref().expect("settled") {
                Fate::Recovered { to } => Ok(to.to_string()),
                Fate::LeftBehind { why } => Err(why.to_string()),
                Fate::Deleted => Err("deleted".to_owned()),
            };
            (record.name.to_string(), end)
        })
        .collect();
    ends.sort();
    ends
}

fn told(world: &World, what: &str) -> usize {
    world.counters.get(what).copied().unwrap_or_default()
}

/// `hides`: Nova's policy does not let us read groups.
fn world_after(seed: u64, dresses: Vec<Dress>, hides: bool) -> World {
    println!("seed {seed}, hides {hides}");
    let plan = Plan { seed, hosts: 5, servers: 4, weather: CALM, dresses, ..Plan::default() };
    let mut world = World::build(&plan);
    world.nova.hides_groups = hides;
    let mut run = |world: &mut World, seconds| {
        let until = world.now() + Duration::from_secs(seconds);
        world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
    };
    run(&mut world, 40);
    world.kill_host(&host(5), false);
    run(&mut world, 300);
    world
}

/// Three of the four servers that died are in groups that let them go nowhere; whether or not we may read that.
#[test]
fn a_policy_that_hides_groups_changes_nothing_but_the_words() {
    let groups = || vec![apart("vm-*-0", "galera"), apart("vm-*-1", "etcd"), apart("vm-*-2", "etcd")];
    for seed in 0..3 {
        let (seen, hidden) = (world_after(seed, groups(), false), world_after(seed, groups(), true));
        assert_eq!(seen.nova.accepted.len(), hidden.nova.accepted.len(), "as many calls");
        let (seen_ends, hidden_ends) = (ends(&seen), ends(&hidden));
        for ((name, with), (_, without)) in seen_ends.iter().zip(&hidden_ends) {
            println!("  {name}: {with:?} / {without:?}");
            assert_eq!(with.is_ok(), without.is_ok(), "{name}");
            assert_eq!(with.is_ok(), name == "vm-4-3", "{name}");
            if let (Err(with), Err(without)) = (with, without) {
                let group = if name == "vm-4-0" { "galera" } else { "etcd" };
                assert!(with.contains(&format!("found no host; it is in server group \"{group}\"")), "{with}");
                assert!(without.contains("found no host; it is in server group 00000000"), "{without}");
                assert!(without.contains("cannot be read") && without.contains("os-server-groups:show"), "{without}");
            }
        }
        assert_eq!(told(&seen, "server groups asked for"), 2, "each once");
        // Four others of the one, and eight of the other, four of which are the first four's neighbours.
        assert_eq!(told(&seen, "members of server groups asked for"), 4 + 8, "only those that the ledger does not know");
    }
}

/// Whoever is in no group costs no call more, though no host is found for it either.
#[test]
fn servers_without_a_group_cost_no_question() {
    let full = |dresses| {
        let mut plan = Plan { seed: 1, hosts: 5, servers: 4, weather: CALM, dresses, ..Plan::default() };
        plan.room = Some(4);
        let mut world = World::build(&plan);
        world.run_until(world.now() + Duration::from_secs(40)).expect("calm");
        world.kill_host(&host(5), false);
        world.run_until(world.now() + Duration::from_secs(300)).expect("no promise is broken");
        world
    };
    let (alone, grouped) = (full(Vec::new()), full(vec![apart("vm-4-0", "galera"), apart("vm-0-0", "galera")]));
    assert!(ends(&alone).iter().all(|(_, end)| end.as_ref().is_err_and(|why| why.ends_with("found no host"))));
    assert_eq!(told(&alone, "server groups asked for"), 0);
    assert_eq!(told(&grouped, "server groups asked for"), 1);
    assert_eq!(told(&grouped, "members of server groups asked for"), 1);
    let looks = |world: &World| told(world, "servers asked for one by one");
    assert!(looks(&alone) > 0);
    assert_eq!(looks(&alone), looks(&grouped), "the groups of a server are told by looks that are made anyway");
}
