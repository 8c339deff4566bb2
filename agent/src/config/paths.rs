//! Rules of the networks, of the path matrix, and of where signs of life are looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rekindle_coordinator::life::PORTS_MAX;
use rekindle_coordinator::paths::{PATHS_MAX, PathAction, PathMatrix, PathRule, RULES_MAX};
use rekindle_proto::id::PathName;

use super::MANAGEMENT;
use super::checker::Checker;
use super::file::{PathActionWord, PathRuleTable};

/// In place of an address: this host is not on that network.
const NOT_THERE: &str = "none";

/// An address the others can send to.
pub(super) fn own_address(on: &mut Checker, key: &str, given: &str) -> Option<SocketAddr> {
    let address = on.address(key, given);
    if address.is_some_and(|address| address.ip().is_unspecified() || address.ip().is_multicast()) {
        on.refuse(
            key,
            "must be an address of this host",
            "it is what the other members are told; they cannot send to \"any\" or to a group",
        );
    }
    address
}

/// Where this host listens on each of the cluster's further networks, in their order.
pub(super) fn addresses(
    on: &mut Checker,
    names: &[PathName],
    given: &BTreeMap<PathName, String>,
    listen: Option<SocketAddr>,
) -> Vec<(PathName, SocketAddr)> {
    if names.len() >= PATHS_MAX {
        let rule = format!("must be at most {} names", PATHS_MAX - 1);
        on.refuse(
            "cluster.paths",
            rule,
            "with management they are all that is probed of a host; each costs its own gossip",
        );
    }
    let unique: BTreeSet<&PathName> = names.iter().collect();
    if unique.len() != names.len() || unique.iter().any(|name| name.as_str() == MANAGEMENT) {
        let rule = format!("must name each network once, and not {MANAGEMENT}");
        on.refuse("cluster.paths", rule, "that one is member.listen, and always there");
    }
    for unknown in given.keys().filter(|name| !unique.contains(name)) {
        on.refuse(
            &format!("member.paths.{unknown}"),
            "must be named in cluster.paths",
            "no other host would know of it",
        );
    }
    let mut listening: Vec<(PathName, SocketAddr)> = Vec::new();
    for name in unique.into_iter().filter(|name| name.as_str() != MANAGEMENT) {
        let key = format!("member.paths.{name}");
        let Some(text) = given.get(name) else {
            on.missing(&key, "cluster.paths names that network; write \"none\" if this host is not on it");
            continue;
        };
        if text == NOT_THERE {
            continue;
        }
        let Some(address) = own_address(on, &key, text) else { continue };
        if listen.iter().chain(listening.iter().map(|(_, other)| other)).any(|other| other.ip() == address.ip()) {
            on.refuse(&key, "must have an IP address of its own", "two paths over one network would fail together");
        }
        listening.push((name.clone(), address));
    }
    listening.sort_by_key(|(name, _)| names.iter().position(|other| other == name));
    listening
}

pub(super) fn life_ports(on: &mut Checker, given: Option<&[u16]>) -> Option<Vec<u16>> {
    let ports = given?.to_vec();
    if ports.len() > PORTS_MAX {
        let rule = format!("must name at most {PORTS_MAX} ports");
        on.refuse("detection.life_ports", rule, "every confirmer tries each of them within a second");
    }
    let unique: BTreeSet<u16> = ports.iter().copied().collect();
    if unique.contains(&0) || unique.len() != ports.len() {
        on.refuse("detection.life_ports", "must be TCP ports other than 0, each once", "a service must listen there");
    }
    Some(ports)
}

/// The operator's rows of the path matrix. `further`: the cluster's networks beside management.
pub(super) fn matrix(on: &mut Checker, rules: &[PathRuleTable], further: &[PathName]) -> PathMatrix {
    if rules.len() > RULES_MAX {
        let rule = format!("must be at most {RULES_MAX} entries");
        on.refuse("path_rule", rule, "the first that holds decides: so many cannot be read by a person at night");
    }
    let mut matrix = PathMatrix::default();
    for (index, rule) in rules.iter().enumerate() {
        let (down, up): (BTreeSet<PathName>, BTreeSet<PathName>) =
            (rule.down.iter().cloned().collect(), rule.up.iter().cloned().collect());
        let key = format!("path_rule[{}]", index + 1);
        if down.intersection(&up).next().is_some() {
            on.refuse(&key, "must not name a path both down and up", "it would never hold");
        }
        if let Some(unknown) = down.union(&up).find(|path| path.as_str() != MANAGEMENT && !further.contains(path)) {
            let why = format!("it would never hold; there are {MANAGEMENT}, and what cluster.paths names");
            on.refuse(&key, format!("names {unknown}, which is not a path"), why);
        }
        let lacks_further = !further.is_empty() && !down.iter().any(|path| further.contains(path));
        if rule.action == PathActionWord::Recover && lacks_further && !down.is_empty() {
            let why = "a host that is reached elsewhere must itself say what it lost, and without management it reaches \
                       nobody to say it to";
            on.refuse(&key, "must name a path of cluster.paths in down", why);
        }
        if rule.action != PathActionWord::None && down.is_empty() {
            on.refuse(&key, "must name what is down unless action = \"none\"", "a healthy host must need nothing");
        }
        let action = match rule.action {
            PathActionWord::None => PathAction::None,
            PathActionWord::Alarm => PathAction::Alarm,
            PathActionWord::Recover => PathAction::Recover,
        };
        matrix.rules.push(PathRule { down, up, action });
    }
    matrix
}
