//! Server groups: what they cost, and that nothing but words comes of them.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_coordinator::ledger::Fate;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;
use rekindle_sim::nova::Openness;
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

fn told(world: &World, what: &str) -> u64 {
    world.counters().get(what).copied().unwrap_or_default()
}

fn world_after(seed: u64, room: Option<usize>, dresses: Vec<Dress>, about_groups: Openness) -> World {
    println!("seed {seed}, groups: {about_groups:?}");
    let plan = Plan { seed, hosts: 5, servers: 4, room, weather: CALM, dresses, ..Plan::default() };
    let mut world = World::build(&plan);
    world.nova.about_groups = about_groups;
    let run = |world: &mut World, seconds| {
        let until = world.now() + Duration::from_secs(seconds);
        world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
    };
    run(&mut world, 40);
    world.kill_host(&host(5), false);
    run(&mut world, 300);
    world
}

/// Three of the four servers that died are in groups that let them go nowhere, whether or not Nova lets us read that.
#[test]
fn nothing_but_words_comes_of_a_group() {
    let groups = || vec![apart("vm-*-0", "galera"), apart("vm-*-1", "etcd"), apart("vm-*-2", "etcd")];
    for seed in 0..3 {
        let calls =
            |world: &World| world.nova.accepted.iter().map(|(server, _)| *server).collect::<BTreeSet<_>>().len();
        let told_by = |openness: Openness| {
            let world = world_after(seed, None, groups(), openness);
            assert_eq!((calls(&world), world.nova.accepted.len()), (4, 1 + 3 * 3), "as many tries as ever");
            for (name, end) in ends(&world) {
                println!("  {name}: {end:?}");
                assert_eq!(end.is_ok(), name == "vm-4-3", "{name}");
                let Err(why) = end else { continue };
                let group = if name == "vm-4-0" { "galera" } else { "etcd" };
                let words = match openness {
                    Openness::Tells => format!("found no host; it is in server group \"{group}\""),
                    Openness::Refuses => "found no host; it is in server group 00000000-".to_owned(),
                    Openness::Hangs => "found no host; its server group was not read within 30 s".to_owned(),
                };
                assert!(why.contains(&words), "{words:?} is not in {why:?}");
                let is_refusal = why.contains("cannot be read") && why.contains("os-server-groups:show");
                assert_eq!(is_refusal, openness == Openness::Refuses, "{why}");
            }
            world
        };
        let world = told_by(Openness::Tells);
        assert_eq!(told(&world, "server groups asked for"), 2, "each once");
        // Of galera four others; of etcd eight, though two servers ask: the dead host's own the ledger knows.
        assert_eq!(told(&world, "members of server groups asked for"), 4 + 8, "each once");
        told_by(Openness::Refuses);
        told_by(Openness::Hangs);
    }
}

/// Whoever is in no group costs no call more, though no host is found for it either.
#[test]
fn servers_without_a_group_cost_no_question() {
    let full = |dresses| world_after(1, Some(4), dresses, Openness::Tells);
    let (alone, grouped) = (full(Vec::new()), full(vec![apart("vm-4-0", "galera"), apart("vm-0-0", "galera")]));
    assert!(ends(&alone).iter().all(|(_, end)| end.as_ref().is_err_and(|why| why.ends_with("found no host"))));
    assert_eq!(told(&alone, "server groups asked for"), 0);
    assert_eq!(told(&grouped, "server groups asked for"), 1);
    assert_eq!(told(&grouped, "members of server groups asked for"), 1);
    let looks = |world: &World| told(world, "servers asked for one by one");
    assert!(looks(&alone) > 0);
    assert_eq!(looks(&alone), looks(&grouped), "the groups of a server are told by looks that are made anyway");
}
