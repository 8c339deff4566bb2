//! Does something live at a host whose daemon is silent?
//!
//! A dead agent is not a dead host: its guests may run on, and to fence it would kill what works. But the signs differ.
//! *Userland* signs (a service's banner, a Nova heartbeat that changes) need a process of the host. *Kernel* signs (port
//! unreachable, a TCP reset) are also given by firewalls, proxies and a machine with the same address, and by a kernel whose
//! processes all hang. So kernel signs count only from two witnesses on the host's own network, only where nothing answers
//! for hosts that are proven off, and only for [`LAPSE`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use rekindle_proto::fact::{LIFE_SIGNS_MAX, LifeGrade, LifeSign, Text};
use rekindle_proto::id::HostName;

use crate::time::Moment;

/// How long kernel signs hold without a sign of userland: what a busy machine may be deaf for, and a hung one never is.
pub const LAPSE: Duration = Duration::from_secs(180);

/// How long a sign speaks for the present. Whoever has given testimony is asked again after 15 s; this is three rounds.
pub const SIGN_AGE_MAX: Duration = Duration::from_secs(45);

/// Members on the host's own network that must see a kernel sign.
pub const KERNEL_WITNESSES: usize = 2;

/// How long one member may look for signs: three tries over a second.
pub const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// TCP ports that are tried. Few: each is a connection from every confirmer.
pub const PORTS_MAX: usize = 4;

/// A network, as far as an address shows it: the first 24 bits of an IPv4, the first 64 of an IPv6 address. On larger
/// networks this finds fewer witnesses than there are; on smaller ones the router's word would be taken for a witness'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self(IpAddr::from([a, b, c, 0]))
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
        }
    }
}

/// What the signs amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Life {
    /// Nothing that counts.
    #[default]
    None,
    /// Agent down, host alive.
    Alive(LifeGrade),
    /// A kernel answers, and no process has for [`LAPSE`].
    Lapsed,
}

/// The signs of one host, by who saw them.
#[derive(Debug, Clone, Default)]
pub struct LifeBook {
    seen: BTreeMap<HostName, (Moment, Vec<LifeSign>)>,
    userland: Option<Moment>,
    kernel_since: Option<Moment>,
}

impl LifeBook {
    /// What a member found now. It replaces what the same member found before.
    pub fn note(&mut self, witness: &HostName, signs: &[LifeSign], now: Moment) {
        let mut signs = signs.to_vec();
        signs.truncate(LIFE_SIGNS_MAX);
        if signs.iter().any(|sign| sign.grade() == LifeGrade::Userland) {
            self.userland = Some(now);
        }
        self.seen.insert(witness.clone(), (now, signs));
    }

    /// Our own reading of Nova: the heartbeat changed. It stands beside what we found by ourselves.
    pub fn note_heartbeat(&mut self, us: &HostName, now: Moment) {
        self.userland = Some(now);
        let (at, signs) = self.seen.entry(us.clone()).or_insert((now, Vec::new()));
        *at = now;
        if !signs.contains(&LifeSign::Heartbeat) {
            signs.push(LifeSign::Heartbeat);
        }
    }

    /// Whether anybody saw anything, though it may not count.
    #[must_use]
    pub fn any(&self, now: Moment) -> bool {
        self.fresh(now).any(|(_, sign)| sign.grade() == LifeGrade::Kernel) || self.userland_is_fresh(now)
    }

    /// What the signs amount to now. `is_neighbour`: on the host's own network; `dead_are_silent`: nothing on it is known to
    /// answer for hosts that are proven off.
    pub fn judge(&mut self, now: Moment, is_neighbour: impl Fn(&HostName) -> bool, dead_are_silent: bool) -> Life {
        let mut witnesses: Vec<&HostName> = self
            .fresh(now)
            .filter(|(witness, sign)| sign.grade() == LifeGrade::Kernel && is_neighbour(witness))
            .map(|(witness, _)| witness)
            .collect();
        witnesses.dedup();
        let kernel = dead_are_silent && witnesses.len() >= KERNEL_WITNESSES;
        self.kernel_since = kernel.then(|| self.kernel_since.unwrap_or(now));
        if self.userland_is_fresh(now) {
            return Life::Alive(LifeGrade::Userland);
        }
        let Some(since) = self.kernel_since else { return Life::None };
        let since = self.userland.map_or(since, |seen| seen.max(since));
        if now.since(since) < LAPSE { Life::Alive(LifeGrade::Kernel) } else { Life::Lapsed }
    }

    /// Each sign and who saw it, for people.
    #[must_use]
    pub fn tell(&self, now: Moment) -> Vec<Text> {
        let mut by_sign: BTreeMap<LifeSign, Vec<&str>> = BTreeMap::new();
        for (witness, sign) in self.fresh(now) {
            by_sign.entry(sign).or_default().push(witness.as_str());
        }
        by_sign.into_iter().map(|(sign, who)| Text::new(format!("{sign} ({})", who.join(", ")))).collect()
    }

    fn fresh(&self, now: Moment) -> impl Iterator<Item = (&HostName, LifeSign)> {
        let is_fresh = move |at: Moment| now.since(at) < SIGN_AGE_MAX;
        let seen = self.seen.iter().filter(move |(_, (at, _))| is_fresh(*at));
        seen.flat_map(|(witness, (_, signs))| signs.iter().map(move |sign| (witness, *sign)))
    }

    fn userland_is_fresh(&self, now: Moment) -> bool {
        self.userland.is_some_and(|seen| now.since(seen) < SIGN_AGE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREACHABLE: LifeSign = LifeSign::PortUnreachable;
    const RESET: LifeSign = LifeSign::Reset { port: 22 };
    const BANNER: LifeSign = LifeSign::Banner { port: 22 };

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    /// One row: what each of `a`, `b` (neighbours) and `z` (of another network) sees, whether the dead are silent there, and
    /// what it amounts to at once and after three minutes of the same.
    #[test]
    fn the_table_of_signs() {
        use Life::{Alive, Lapsed, None};
        use LifeGrade::{Kernel, Userland};
        type Row<'a> = (&'a str, &'a [(&'a str, &'a [LifeSign])], bool, Life, Life);
        let rows: &[Row<'_>] = &[
            ("nothing", &[("a", &[]), ("b", &[]), ("z", &[])], true, None, None),
            ("one witness", &[("a", &[UNREACHABLE])], true, None, None),
            ("one witness, two signs", &[("a", &[UNREACHABLE, RESET])], true, None, None),
            ("two neighbours", &[("a", &[UNREACHABLE]), ("b", &[UNREACHABLE])], true, Alive(Kernel), Lapsed),
            ("two kinds of kernel sign", &[("a", &[RESET]), ("b", &[UNREACHABLE])], true, Alive(Kernel), Lapsed),
            ("a router between", &[("a", &[UNREACHABLE]), ("z", &[UNREACHABLE])], true, None, None),
            ("the dead answer too", &[("a", &[UNREACHABLE]), ("b", &[UNREACHABLE])], false, None, None),
            ("a banner", &[("a", &[BANNER])], true, Alive(Userland), Alive(Userland)),
            ("a banner through a router", &[("z", &[BANNER])], true, Alive(Userland), Alive(Userland)),
            ("a banner where the dead answer", &[("a", &[BANNER])], false, Alive(Userland), Alive(Userland)),
            ("both", &[("a", &[BANNER]), ("b", &[UNREACHABLE])], true, Alive(Userland), Alive(Userland)),
        ];
        for (name, signs, dead_are_silent, at_once, later) in rows {
            let mut book = LifeBook::default();
            let mut judged = Vec::new();
            for seconds in (0..=180).step_by(15) {
                for (witness, signs) in *signs {
                    book.note(&host(witness), signs, at(seconds));
                }
                judged.push(book.judge(at(seconds), |witness| witness.as_str() != "z", *dead_are_silent));
            }
            assert_eq!((judged[0], judged[judged.len() - 1]), (*at_once, *later), "{name}");
            assert!(judged[..12].iter().all(|life| life == at_once), "{name}: {judged:?}");
        }
    }

    #[test]
    fn what_is_not_seen_again_counts_no_more() {
        let mut book = LifeBook::default();
        book.note(&host("a"), &[BANNER], at(0));
        assert_eq!(book.judge(at(44), |_| true, true), Life::Alive(LifeGrade::Userland));
        assert_eq!(book.judge(at(45), |_| true, true), Life::None);
        book.note(&host("a"), &[UNREACHABLE], at(50));
        book.note(&host("b"), &[UNREACHABLE], at(50));
        assert_eq!(book.judge(at(50), |_| true, true), Life::Alive(LifeGrade::Kernel));
        book.note(&host("b"), &[], at(60));
        assert_eq!(book.judge(at(60), |_| true, true), Life::None, "b no longer sees it");
    }

    /// Three minutes count from the last sign of userland, and begin anew when kernel signs were interrupted.
    #[test]
    fn the_three_minutes_begin_with_the_last_process_seen() {
        let mut book = LifeBook::default();
        let mut lapsed_at = None;
        for seconds in (0..600).step_by(15) {
            let signs: &[LifeSign] = if seconds <= 150 { &[BANNER, UNREACHABLE] } else { &[UNREACHABLE] };
            book.note(&host("a"), signs, at(seconds));
            book.note(&host("b"), &[UNREACHABLE], at(seconds));
            if book.judge(at(seconds), |_| true, true) == Life::Lapsed {
                lapsed_at = lapsed_at.or(Some(seconds));
            }
        }
        assert_eq!(lapsed_at, Some(330));
    }

    #[test]
    fn a_network_is_a_prefix() {
        for (a, b, same) in [
            ("10.0.0.1", "10.0.0.200", true),
            ("10.0.0.1", "10.0.1.1", false),
            ("fd00::1", "fd00::2:1", true),
            ("fd00::1", "fd00:0:0:1::1", false),
            ("::ffff:10.0.0.1", "10.0.0.9", true),
        ] {
            let network = |text: &str| Network::of(text.parse().expect("an address"));
            assert_eq!(network(a) == network(b), same, "{a} {b}");
        }
    }
}
