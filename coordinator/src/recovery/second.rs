//! A second target host: after a server's evacuation has failed on the host where it was built, the next attempt names
//! another. Nova has no weigher that knows of failed rebuilds: asked freely, its scheduler tends to choose the same host
//! again, and all the more where nothing ever comes up there, so that it stays the emptiest.
//!
//! The scheduler examines the named host like any other, and may refuse it. A choice of ours that it refuses costs the server
//! nothing: that attempt does not count, and the next one is the scheduler's own.

use rekindle_proto::id::{HostName, ServerId};

use super::PER_DESTINATION_MAX;

/// What is known of a host that might be named for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Which.
    pub host: &'a HostName,
    /// Alive in gossip.
    pub is_alive: bool,
    /// Somebody doubts that it lives.
    pub is_suspected: bool,
    /// Nothing in the ledger forbids it ([`crate::ledger::Ledger::may_be_named`]).
    pub is_allowed: bool,
    /// An evacuation of this server has failed there, or Nova's scheduler has refused it.
    pub has_failed: bool,
    /// Rebuilds under way there, of whatever server.
    pub rebuilding: usize,
}

/// Where a server goes whose last evacuation failed where it was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Second {
    /// To that host.
    Host(HostName),
    /// Nowhere yet: each host that could be named has [`PER_DESTINATION_MAX`] rebuilds under way.
    Busy,
    /// There is none: Nova's scheduler chooses.
    None,
}

/// Chooses the host with the fewest rebuilds under way. Between equal ones the server's id decides: servers that failed
/// together do not all go to the first by name, and every leader would choose alike.
#[must_use]
pub fn second_host<'a>(server: ServerId, places: impl Iterator<Item = Place<'a>>) -> Second {
    let is_fit = |place: &Place<'_>| place.is_alive && !place.is_suspected && place.is_allowed && !place.has_failed;
    let fit: Vec<Place<'a>> = places.filter(is_fit).collect();
    let Some(fewest) = fit.iter().map(|place| place.rebuilding).min() else { return Second::None };
    if fewest >= PER_DESTINATION_MAX {
        return Second::Busy;
    }
    let equal: Vec<&HostName> = fit.iter().filter(|place| place.rebuilding == fewest).map(|place| place.host).collect();
    let spread = server.0.as_u128() % (equal.len().max(1) as u128);
    let chosen = usize::try_from(spread).ok().and_then(|at| equal.get(at));
    chosen.map_or(Second::None, |host| Second::Host((*host).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    /// Each word is a host: its name, then what is against it (`s`ilent, suspecte`d`, `f`orbidden, `x` failed there), then
    /// the rebuilds under way.
    fn choose(server: u128, words: &str) -> String {
        let parts: Vec<(HostName, &str, usize)> = words
            .split_whitespace()
            .map(|word| {
                let mut parts = word.split('/');
                let (name, against) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
                (host(name), against, parts.next().map_or(0, |count| count.parse().expect("a number")))
            })
            .collect();
        let places = parts.iter().map(|(host, against, rebuilding)| Place {
            host,
            is_alive: !against.contains('s'),
            is_suspected: against.contains('d'),
            is_allowed: !against.contains('f'),
            has_failed: against.contains('x'),
            rebuilding: *rebuilding,
        });
        match second_host(ServerId(Uuid::from_u128(server)), places) {
            Second::Host(host) => host.to_string(),
            Second::Busy => "busy".to_owned(),
            Second::None => "none".to_owned(),
        }
    }

    #[test]
    fn the_table_of_second_hosts() {
        for (name, words, expected) in [
            ("nobody", "", "none"),
            ("only the one where it failed", "a/x", "none"),
            ("not where it failed, however idle", "a/x/0 b//5", "b"),
            ("not a silent one", "a/s b//5", "b"),
            ("not a suspected one", "a/d b//5", "b"),
            ("not one that the ledger forbids", "a/f b//5", "b"),
            ("everything against somebody", "a/s b/d c/f d/x e/sdfx", "none"),
            ("the fewest rebuilds", "a//3 b//1 c//2", "b"),
            ("the fewest of those that are fit", "a/x/0 b//4 c//3 d/s/1", "c"),
            ("one place is left", "a//10 b//9", "b"),
            ("each has its fill", "a//10 b//11", "busy"),
            ("each that is fit has its fill", "a/x/0 b//10", "busy"),
        ] {
            for server in 0..4 {
                assert_eq!(choose(server, words), expected, "{name}, server {server}");
            }
        }
    }

    #[test]
    fn equal_hosts_are_spread_over_the_servers_and_the_same_again_each_time() {
        let chosen: Vec<String> = (0..6).map(|server| choose(server, "a b c/x d//1 e")).collect();
        assert_eq!(chosen, (0..6).map(|server| choose(server, "a b c/x d//1 e")).collect::<Vec<_>>());
        let distinct: BTreeSet<&str> = chosen.iter().map(String::as_str).collect();
        assert_eq!(distinct, ["a", "b", "e"].into());
    }
}
