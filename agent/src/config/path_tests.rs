//! Further networks: what is taken, and what is refused.

use super::tests::{GOOD, parse};

const STORAGE: &str = "storage = \"10.40.0.11:7946\"";

/// The good file with these networks, addresses and rules.
fn text(paths: &str, addresses: &str, rules: &str) -> String {
    let text = GOOD.replace("name = \"zrh1\"", &format!("name = \"zrh1\"\npaths = {paths}"));
    format!("{text}[member.paths]\n{addresses}\n{rules}\n")
}

fn rule(lines: &str) -> String {
    format!("[[path_rule]]\n{lines}")
}

#[test]
fn each_network_has_an_address_of_this_host_in_the_clusters_order() {
    let both = "storage = \"10.40.0.11:7946\"\ntenant = \"[fd00::11]:7000\"";
    let rules = rule("down = [\"storage\", \"tenant\"]\nup = [\"management\"]\naction = \"recover\"\n")
        + &rule("down = [\"management\"]\naction = \"none\"");
    let config = parse(&text("[\"tenant\", \"storage\"]", both, &rules)).expect("taken");
    let listen: Vec<(String, String)> =
        config.listen().iter().map(|(path, address)| (path.to_string(), address.to_string())).collect();
    let expected = [("management", "10.20.0.11:7946"), ("tenant", "[fd00::11]:7000"), ("storage", "10.40.0.11:7946")];
    assert_eq!(listen, expected.map(|(path, address)| (path.to_owned(), address.to_owned())));
    assert!(config.policy.paths.is_opt_in());
    // A witness may be on one network alone, and has the rules of all.
    let elsewhere =
        parse(&text("[\"storage\"]", "storage = \"none\"", &rule("down = [\"storage\"]\naction = \"recover\"")));
    assert_eq!(elsewhere.expect("taken").listen().len(), 1);
    assert_eq!(parse(GOOD).expect("taken").listen().len(), 1);
}

#[test]
fn each_rule_of_networks_is_refused_in_its_words() {
    let six = "[\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]";
    let storage = "[\"storage\"]";
    let recover = |down: &str| rule(&format!("down = [{down}]\naction = \"recover\""));
    let given = |address: &str| format!("storage = \"{address}\"");
    for (paths, addresses, rules, says) in [
        (storage, String::new(), String::new(), "member.paths.storage is missing"),
        (
            "[]",
            STORAGE.to_owned(),
            String::new(),
            "member.paths.storage = \"10.40.0.11:7946\" must be named in cluster.paths",
        ),
        (
            storage,
            format!("{STORAGE}\nstroage = \"x\""),
            String::new(),
            "member.paths.stroage = \"x\" must be named in",
        ),
        (
            "[\"storage\", \"storage\"]",
            STORAGE.to_owned(),
            String::new(),
            "cluster.paths = [\"storage\", \"storage\"] must name each",
        ),
        (
            "[\"management\"]",
            String::new(),
            String::new(),
            "cluster.paths = [\"management\"] must name each network once, and not",
        ),
        (
            storage,
            given("0.0.0.0:7946"),
            String::new(),
            "member.paths.storage = \"0.0.0.0:7946\" must be an address of this host",
        ),
        (storage, given("[ff02::1]:7946"), String::new(), "must be an address of this host"),
        (storage, given("10.40.0.11:0"), String::new(), "member.paths.storage = \"10.40.0.11:0\" must have a port"),
        (
            storage,
            given("storage-1:7946"),
            String::new(),
            "member.paths.storage = \"storage-1:7946\" must be address:port",
        ),
        (storage, given("10.20.0.11:7946"), String::new(), "must have an IP address of its own"),
        (storage, given("10.20.0.11:7947"), String::new(), "must have an IP address of its own"),
        (
            "[\"storage\", \"tenant\"]",
            format!("{STORAGE}\ntenant = \"10.40.0.11:7946\""),
            String::new(),
            "member.paths.tenant = \"10.40.0.11:7946\" must have an IP address of its own",
        ),
        (six, String::new(), String::new(), "must be at most 5 names"),
        ("[\"my net\"]", String::new(), String::new(), "cluster.paths"),
        (storage, STORAGE.to_owned(), recover("\"tenant\""), "path_rule[1] names tenant, which is not a path"),
        (
            storage,
            STORAGE.to_owned(),
            recover("\"management\""),
            "path_rule[1] must name a path of cluster.paths in down",
        ),
    ] {
        let refusal = parse(&text(paths, &addresses, &rules)).expect_err(says).to_string();
        assert!(refusal.contains(says), "wanted {says:?}: {refusal}");
    }
}
