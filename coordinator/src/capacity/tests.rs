//! Tables: what fits where.

use super::*;

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn server(number: u128) -> ServerId {
    ServerId(uuid::Uuid::from_u128(number))
}

fn amounts(vcpu: u64, mb: u64) -> Amounts {
    [("VCPU", vcpu), ("MEMORY_MB", mb)].into_iter().map(|(class, amount)| (class.to_owned(), amount)).collect()
}

fn stock(total: u64) -> Stock {
    Stock { total, reserved: 0, ratio: RATIO_ONE, max_unit: total }
}

/// An open node with so many processors and MB, and servers that want so many.
fn node(name: &str, vcpu: u64, mb: u64, servers: &[(u128, u64, u64)]) -> Node {
    Node {
        host: host(name),
        enabled: true,
        up: true,
        stock: vec![("VCPU".to_owned(), stock(vcpu)), ("MEMORY_MB".to_owned(), stock(mb))],
        servers: servers.iter().map(|(id, vcpu, mb)| (server(*id), amounts(*vcpu, *mb))).collect(),
    }
}

fn reading(nodes: Vec<Node>) -> CapacityReading {
    CapacityReading { at: WallTime(1), nodes, notes: Vec::new() }
}

fn lose(lose: u8, only: Option<&str>) -> CapacityQuestion {
    CapacityQuestion { lose, host: only.map(host), closed: BTreeMap::new(), refuges: BTreeMap::new() }
}

fn unfit(reading: &CapacityReading, question: &CapacityQuestion) -> Vec<(Vec<String>, u32)> {
    let doc = examine(reading, question).expect("answered");
    let name = |loss: &LossLine| (loss.hosts.iter().map(ToString::to_string).collect(), loss.unfit);
    doc.losses.iter().map(name).collect()
}

#[test]
fn what_may_be_given_away_is_total_less_reserved_times_ratio() {
    for (total, reserved, ratio, is) in [
        (64, 0, 4_000_000, 256),
        (64, 2, 4_000_000, 248),
        (64, 0, 1_000_000, 64),
        (10, 0, 1_100_000, 11),
        (7, 0, 1_500_000, 10),
        (128_000, 512, 900_000, 114_739),
        (4, 8, 16_000_000, 0),
        (u64::MAX, 0, 16_000_000, u64::MAX),
    ] {
        let stock = Stock { total, reserved, ratio, max_unit: total };
        assert_eq!(stock.capacity(), is, "({total} - {reserved}) * {ratio}");
    }
}

#[test]
fn ratio_and_reserved_decide_whether_there_is_room() {
    let full = |name: &str, reserved, ratio| {
        let mut node = node(name, 4, 64, &[(1, 4, 1)]);
        node.servers = [(server(name.bytes().map(u128::from).sum()), amounts(4, 1))].into();
        node.stock[0].1 = Stock { total: 4, reserved, ratio, max_unit: 4 };
        node
    };
    for (reserved, ratio, fails) in [
        // Each holds 4 and gives away 4, 8, 6 (2 left), 8 by a ratio of 4 of half.
        (0, RATIO_ONE, 1),
        (0, 2 * RATIO_ONE, 0),
        (1, 2 * RATIO_ONE, 1),
        (2, 4 * RATIO_ONE, 0),
    ] {
        let site = reading(vec![full("a", reserved, ratio), full("b", reserved, ratio)]);
        let doc = examine(&site, &lose(1, None)).expect("answered");
        assert_eq!((doc.failing, doc.survives), (2 * fails, fails == 0), "reserved {reserved}, ratio {ratio}");
    }
}

#[test]
fn any_one_host_may_be_lost_and_still_not_any_two() {
    let site = reading(vec![
        node("a", 8, 800, &[(1, 2, 100), (2, 2, 100)]),
        node("b", 8, 800, &[(3, 2, 100), (4, 2, 100)]),
        node("c", 8, 800, &[(5, 2, 100), (6, 2, 100)]),
    ]);
    assert!(examine(&site, &lose(1, None)).expect("answered").survives);
    let doc = examine(&site, &lose(2, None)).expect("answered");
    assert_eq!((doc.tried, doc.of, doc.failing, doc.survives), (3, 3, 3, false));
    assert!(doc.losses.iter().all(|loss| (loss.servers, loss.unfit) == (4, 2)), "{:?}", doc.losses);
    assert_eq!(doc.losses[0].short, amounts(4, 200));
    // A fourth, empty, host takes them; but its own loss counts among the pairs.
    let mut nodes = site.nodes;
    nodes.push(node("d", 8, 800, &[]));
    let doc = examine(&reading(nodes), &lose(2, None)).expect("answered");
    assert_eq!((doc.tried, doc.failing, doc.survives), (6, 0, true));
}

#[test]
fn a_named_host_is_in_every_loss() {
    let nodes = ["a", "b", "c", "d"].map(|name| node(name, 8, 800, &[]));
    let doc = examine(&reading(nodes.to_vec()), &lose(2, Some("b"))).expect("answered");
    assert_eq!((doc.tried, doc.of), (3, 3));
    let doc = examine(&reading(nodes.to_vec()), &lose(1, Some("b"))).expect("answered");
    assert_eq!((doc.tried, doc.losses[0].hosts.clone()), (1, vec![host("b")]));
    let error = examine(&reading(nodes.to_vec()), &lose(1, Some("z"))).expect_err("no such host");
    assert!(error.as_str().contains("no compute node of host z"), "{error}");
    assert!(examine(&reading(nodes[..1].to_vec()), &lose(2, None)).is_err());
}

#[test]
fn a_server_that_fits_nowhere_is_named_with_what_it_lacks() {
    let site =
        reading(vec![node("a", 64, 800, &[(1, 48, 100), (2, 1, 100)]), node("b", 8, 800, &[]), node("c", 8, 800, &[])]);
    let doc = examine(&site, &lose(1, Some("a"))).expect("answered");
    let [named] = doc.losses[0].named.as_slice() else { panic!("{:?}", doc.losses[0]) };
    assert_eq!((named.server, doc.losses[0].unfit, doc.losses[0].servers), (server(1), 1, 2));
    assert_eq!(named.why.as_str(), "wants VCPU 48; the most that one host has free is 8");
    assert_eq!(told(&doc.losses[0]), "1 of its 2 servers would find no room; they want MEMORY_MB 100, VCPU 48");
}

#[test]
fn why_there_is_no_room_is_said() {
    let taken = reading(vec![node("a", 64, 800, &[(1, 5, 1), (2, 5, 1)]), node("b", 8, 800, &[])]);
    let split = reading(vec![node("a", 64, 800, &[(1, 5, 500)]), node("b", 8, 100, &[]), node("c", 1, 800, &[])]);
    let mut down = taken.clone();
    down.nodes[1].up = false;
    let mut small = taken.clone();
    small.nodes[1].stock[0].1.max_unit = 4;
    for (site, why) in [
        (taken, "the other lost servers took the room"),
        (split, "no one host has enough of every class free"),
        (down, "no host is left that may receive it"),
        (small, "wants VCPU 5; the most that one host has free is 4"),
    ] {
        let doc = examine(&site, &lose(1, Some("a"))).expect("answered");
        assert_eq!(doc.losses[0].named[0].why.as_str(), why);
    }
}

#[test]
fn only_open_hosts_receive() {
    let site = || vec![node("a", 8, 8, &[(1, 1, 1)]), node("b", 8, 8, &[])];
    let mut down = site();
    down[1].up = false;
    let mut disabled = site();
    disabled[1].enabled = false;
    let maintenance =
        CapacityQuestion { closed: [(host("b"), "maintenance: disk".into())].into(), ..lose(1, Some("a")) };
    for (nodes, question, why) in [
        (site(), lose(1, Some("a")), None),
        (down, lose(1, Some("a")), Some("its compute service is down")),
        (disabled, lose(1, Some("a")), Some("its compute service is disabled")),
        (site(), maintenance, Some("maintenance: disk")),
    ] {
        let doc = examine(&reading(nodes), &question).expect("answered");
        assert_eq!(doc.closed.get(&host("b")).map(Text::as_str), why);
        assert_eq!(doc.losses[0].unfit, u32::from(why.is_some()), "{why:?}");
        assert_eq!(doc.open, 1 + u32::from(why.is_none()));
    }
}

#[test]
fn the_largest_are_placed_first() {
    // 4 and 4 fill one host; begun with the small ones, the last 4 would find 3 and 3.
    let nodes = vec![
        node("a", 64, 8, &[(1, 1, 0), (2, 1, 0), (3, 4, 0), (4, 4, 0)]),
        node("b", 5, 8, &[]),
        node("c", 5, 8, &[]),
    ];
    assert_eq!(unfit(&reading(nodes), &lose(1, Some("a"))), [(vec!["a".to_owned()], 0)]);
}

#[test]
fn one_server_on_two_hosts_is_moved_once_and_said() {
    let nodes = vec![node("a", 8, 8, &[(1, 5, 1)]), node("b", 8, 8, &[(1, 5, 1)]), node("c", 8, 8, &[])];
    let doc = examine(&reading(nodes), &lose(2, None)).expect("answered");
    assert!(doc.notes.iter().any(|note| note.as_str().starts_with("1 servers hold resources on several hosts")));
    // With a and b lost it is moved to c, once; with either of them left, what it holds there is not free.
    let failing: Vec<&[HostName]> = doc.losses.iter().map(|loss| loss.hosts.as_slice()).collect();
    assert_eq!(failing, [[host("a"), host("c")], [host("b"), host("c")]]);
}

#[test]
fn nested_providers_and_several_nodes_of_a_host_go_together() {
    let mut nested = node("a", 4, 8, &[]);
    nested.stock.push(("VCPU".to_owned(), stock(4)));
    let nodes = vec![nested, node("a", 8, 8, &[(1, 1, 1)]), node("b", 1, 8, &[(2, 8, 1)])];
    let site = reading(nodes);
    let doc = examine(&site, &lose(1, None)).expect("answered");
    assert_eq!(doc.tried, 2);
    let class = |name: &str| doc.classes.iter().find(|line| line.class == name).expect("there");
    assert_eq!((class("VCPU").capacity, class("VCPU").used, class("VCPU").most_free), (17, 9, 8));
    // b gives away less than it holds: no room, and no underflow.
    assert_eq!(unfit(&site, &lose(1, Some("a"))), [(vec!["a".to_owned()], 1)]);
}

#[test]
fn a_large_site_is_answered_within_bounds_and_says_what_was_left_out() {
    let nodes: Vec<Node> = (0..600_u64)
        .map(|at| {
            let base = u128::from(at) * 100;
            // All alike but one, which is heavier: it must be among those that are tried.
            let mut node = node(&format!("cmp-{at}"), 32, 1_000, &[(base + 1, 32, 1), (base + 2, 0, 1)]);
            if at == 431 {
                node.stock[0].1 = stock(64);
                node.servers.insert(server(base + 3), amounts(32, 1));
            }
            node
        })
        .collect();
    let doc = examine(&reading(nodes), &lose(2, None)).expect("answered");
    assert_eq!(doc.of, 600 * 599 / 2);
    assert!(doc.tried < doc.of && doc.tried <= LOSSES_MAX, "{}", doc.tried);
    assert!(doc.notes.iter().any(|note| note.as_str().starts_with("not every loss was tried")));
    assert_eq!((doc.failing, doc.losses.len()), (doc.tried, SHOWN_MAX));
    assert!(doc.losses[0].hosts.contains(&host("cmp-431")), "{:?}", doc.losses[0].hosts);
}

/// Reserved hosts count for the hosts of their segment, as its method uses them, and for nobody else.
#[test]
fn reserved_hosts_have_room_for_their_segment() {
    let disabled = |name: &str, vcpu: u64, up: bool| Node { enabled: false, up, ..node(name, vcpu, vcpu, &[]) };
    // "a" has two servers of 4; "b" has room for one of them; "r" is reserved.
    let site = |room: u64, up: bool| {
        reading(vec![node("a", 8, 8, &[(1, 4, 4), (2, 4, 4)]), node("b", 4, 4, &[]), disabled("r", room, up)])
    };
    let rows = [
        ("no method uses it", None, 8, true, 1),
        ("and the others", Some(false), 4, true, 0),
        ("and the others, it is small", Some(false), 2, true, 1),
        ("it alone", Some(true), 8, true, 0),
        ("it alone, and it has room for one", Some(true), 4, true, 1),
        ("it alone, and its service is down", Some(true), 8, false, 2),
    ];
    for (name, only, room, up, expected) in rows {
        let refuge = only.map(|only| (host("a"), Refuge { hosts: [host("r")].into(), only }));
        let question = CapacityQuestion { refuges: refuge.into_iter().collect(), ..lose(1, Some("a")) };
        assert_eq!(unfit(&site(room, up), &question), [(vec!["a".to_owned()], expected)], "{name}");
    }
}
