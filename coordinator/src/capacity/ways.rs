//! Which hosts may be lost together.

use rekindle_proto::id::HostName;

use super::LOSSES_MAX;
use super::site::Site;

/// The ways to lose so many hosts, among the heaviest if there are too many.
pub(super) struct Ways<'a> {
    fixed: Option<&'a HostName>,
    among: Vec<&'a HostName>,
    /// Positions in `among`, ascending; `None`: all were given.
    next: Option<Vec<usize>>,
    /// How many there are over all hosts.
    pub(super) of: u64,
}

impl<'a> Ways<'a> {
    pub(super) fn new(site: &Site<'a>, host: Option<&HostName>, lose: usize) -> Self {
        let fixed = host.and_then(|host| site.hosts.get_key_value(host)).map(|(host, _)| *host);
        let mut among: Vec<&HostName> = site.hosts.keys().copied().filter(|other| Some(*other) != fixed).collect();
        let choose = if fixed.is_some() { lose - 1 } else { lose };
        let of = ways(among.len(), choose);
        // The heaviest first: where not all can be tried, those are that leave the least room.
        among.sort_by_cached_key(|host| (std::cmp::Reverse(site.weight(host)), *host));
        while among.len() > choose && ways(among.len(), choose) > LOSSES_MAX {
            among.pop();
        }
        Self { fixed, among, next: Some((0..choose).collect()), of }
    }
}

impl<'a> Iterator for Ways<'a> {
    type Item = Vec<&'a HostName>;

    fn next(&mut self) -> Option<Self::Item> {
        let chosen = self.next.take()?;
        let mut hosts: Vec<&HostName> = self.fixed.into_iter().chain(chosen.iter().map(|at| self.among[*at])).collect();
        hosts.sort();
        let mut following = chosen;
        let (count, all) = (following.len(), self.among.len());
        if let Some(at) = (0..count).rev().find(|at| following[*at] + (count - at) < all) {
            following[at] += 1;
            for later in at + 1..count {
                following[later] = following[later - 1] + 1;
            }
            self.next = Some(following);
        }
        Some(hosts)
    }
}

/// `n` over `k`, up to what a number holds.
fn ways(n: usize, k: usize) -> u64 {
    let mut ways: u128 = 1;
    for step in 0..k.min(n) {
        ways = ways.saturating_mul((n - step) as u128) / (step as u128 + 1);
    }
    if k > n { 0 } else { u64::try_from(ways).unwrap_or(u64::MAX) }
}
