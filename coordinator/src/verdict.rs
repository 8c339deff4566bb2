//! Is a host gone? Testimony counted against who could have testified.
//!
//! A [`Verdict`] is the only key to an incident, and can be built only here, from a quorum of testimony and an answered
//! roll call. Gossip's *down* rests on one member's timer: it starts a suspicion, and never replaces a verdict.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::{LifeSign, PathFinding, RosterEntry};
use rekindle_proto::id::{BootId, DomainName, HostName, PathName, WallTime};

use crate::ledger::{TestimonyRecord, VerdictRecord};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// Most testimonies a verdict needs. Three independent accusers are what Lifeguard's suspicion (section IV-B) waits for
/// at most, and what medik8s asks its peers for.
pub const TESTIMONIES_NEEDED_MAX: usize = 3;

/// Fewest members that can judge another: one accuser may itself be the one that is cut off.
pub const ELIGIBLE_MIN: usize = 2;

/// How many roster members (hosts and witnesses) must have answered before anything is done: 51 %, rounded up. Exactly
/// half is safe, not live.
#[must_use]
pub fn brake_needs(roster: usize) -> usize {
    if keeps(Guard::RollCall) { (roster * 51).div_ceil(100) } else { 0 }
}

/// How many of `eligible` members must testify; `None` if too few could.
#[must_use]
pub fn testimonies_needed(eligible: usize) -> Option<usize> {
    if !keeps(Guard::Testimony) {
        return Some(1);
    }
    (eligible >= ELIGIBLE_MIN).then(|| eligible.min(TESTIMONIES_NEEDED_MAX))
}

/// A quorum's word that a host is gone.
#[derive(Debug)]
pub struct Verdict {
    host: HostName,
    boot: Option<BootId>,
    suspected_at: WallTime,
    record: VerdictRecord,
}

impl Verdict {
    /// Which host.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }
    /// The boot in which it was last heard.
    #[must_use]
    pub fn boot(&self) -> Option<BootId> {
        self.boot
    }
    /// When it was first suspected.
    #[must_use]
    pub fn suspected_at(&self) -> WallTime {
        self.suspected_at
    }
    /// The evidence.
    #[must_use]
    pub fn record(&self) -> &VerdictRecord {
        &self.record
    }
}

/// Why there is no verdict (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoVerdict {
    /// Not enough members were heard since the suspicion began.
    #[error("{eligible} members could testify; a verdict needs at least {ELIGIBLE_MIN}")]
    TooFewEligible {
        /// How many could.
        eligible: usize,
    },
    /// Not enough of them testified.
    #[error("{given} of {needed} testimonies ({eligible} could testify)")]
    TooFewTestimonies {
        /// How many did.
        given: usize,
        /// How many must.
        needed: usize,
        /// How many could.
        eligible: usize,
    },
    /// A member of its own domain lives, and none has testified.
    #[error("nobody of its own domain {domain} has testified, though somebody lives there")]
    OwnDomainSilent {
        /// The domain.
        domain: DomainName,
    },
    /// The 51 % brake.
    #[error("mass-failure stop: {present} of {roster} answered the roll call; {needed} are needed")]
    TooFewPresent {
        /// How many answered.
        present: usize,
        /// Roster size.
        roster: usize,
        /// How many must.
        needed: usize,
    },
}

/// What the leader knows of one silent host.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// Which host.
    pub host: HostName,
    /// The boot in which it was last heard.
    pub boot: Option<BootId>,
    /// When it began, on our clock.
    pub began: Moment,
    /// The same, for people.
    pub began_wall: WallTime,
    /// Roster members heard since it began, ourselves included.
    pub heard: BTreeSet<HostName>,
    /// Who found it silent on every path (or on the one path that counts), and how.
    pub testimonies: BTreeMap<HostName, Vec<PathFinding>>,
    /// An operator lifted the mass-failure stop for this host. Testimony is needed as ever.
    pub lifted: bool,
    /// The one path that counts, if the operator's matrix lets it suffice.
    pub path: Option<PathName>,
    /// What each of them found to live there.
    pub signs: BTreeMap<HostName, Vec<LifeSign>>,
}

impl Suspicion {
    /// A suspicion that begins now. We hear ourselves.
    #[must_use]
    pub fn new(host: HostName, boot: Option<BootId>, began: Moment, began_wall: WallTime, us: &HostName) -> Self {
        let heard = BTreeSet::from([us.clone()]);
        let (testimonies, signs) = (BTreeMap::new(), BTreeMap::new());
        Self { host, boot, began, began_wall, heard, testimonies, lifted: false, path: None, signs }
    }

    /// Counts what there is.
    ///
    /// `present` are the roster members that answered a roll call begun after the suspicion; `roster` is the whole roster.
    ///
    /// # Errors
    /// [`NoVerdict`] with the figures, when something is missing.
    pub fn judge(
        &self,
        roster: &BTreeMap<HostName, RosterEntry>,
        present: &BTreeSet<HostName>,
    ) -> Result<Verdict, NoVerdict> {
        let may_testify = |host: &&HostName| **host != self.host;
        // Three lists in one order are walked side by side: a storm asks this of every suspect again and again, and looking
        // up each of 2,000 names would be most of what a leader does.
        let eligible = || in_both(self.heard.union(present), roster.keys()).filter(may_testify);
        let count = eligible().count();
        let needed = testimonies_needed(count).ok_or(NoVerdict::TooFewEligible { eligible: count })?;
        let is_eligible = |host: &HostName| {
            may_testify(&host) && roster.contains_key(host) && (self.heard.contains(host) || present.contains(host))
        };
        let given: Vec<(&HostName, &Vec<PathFinding>)> =
            self.testimonies.iter().filter(|(accuser, _)| is_eligible(accuser)).collect();
        if given.len() < needed {
            return Err(NoVerdict::TooFewTestimonies { given: given.len(), needed, eligible: count });
        }
        let domain = roster.get(&self.host).and_then(|entry| entry.domain.as_ref());
        if let Some(domain) = domain {
            let is_neighbour =
                |host: &&HostName| roster.get(*host).is_some_and(|entry| entry.domain.as_ref() == Some(domain));
            if !given.iter().any(|(accuser, _)| is_neighbour(accuser)) && eligible().any(|host| is_neighbour(&host)) {
                return Err(NoVerdict::OwnDomainSilent { domain: domain.clone() });
            }
        }
        let present = in_both(present.iter(), roster.keys()).filter(may_testify).count();
        let must = brake_needs(roster.len());
        if present < must && !self.lifted {
            return Err(NoVerdict::TooFewPresent { present, roster: roster.len(), needed: must });
        }
        let testimonies = given
            .into_iter()
            .map(|(accuser, findings)| {
                let signs = self.signs.get(accuser).cloned().unwrap_or_default();
                TestimonyRecord { accuser: accuser.clone(), findings: findings.clone(), signs, after_ms: 0 }
            })
            .collect();
        let figure = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let record = VerdictRecord {
            eligible: figure(count),
            needed: figure(needed),
            testimonies,
            present: figure(present),
            roster: figure(roster.len()),
            path: self.path.clone(),
        };
        Ok(Verdict { host: self.host.clone(), boot: self.boot, suspected_at: self.began_wall, record })
    }
}

/// What two lists have in common, both in order and without repetition.
fn in_both<'a>(
    some: impl Iterator<Item = &'a HostName>,
    others: impl Iterator<Item = &'a HostName>,
) -> impl Iterator<Item = &'a HostName> {
    let mut others = others.peekable();
    some.filter(move |host| {
        while others.next_if(|other| *other < *host).is_some() {}
        others.next_if_eq(host).is_some()
    })
}

/// In which order members are asked to testify: first one of the target's own domain (a rack that is cut off as a whole
/// still hears itself), then the others, one domain after the other, so that the first few are as far apart as they can be.
#[must_use]
pub fn confirmers_in_order<'a>(
    target: &HostName,
    candidates: &[&'a HostName],
    roster: &BTreeMap<HostName, RosterEntry>,
) -> Vec<&'a HostName> {
    let domain_of = |host: &HostName| roster.get(host).and_then(|entry| entry.domain.clone());
    let own = domain_of(target);
    let mut neighbours = Vec::new();
    // Unlabelled hosts are each their own domain.
    let mut others: BTreeMap<(Option<DomainName>, Option<&HostName>), Vec<&'a HostName>> = BTreeMap::new();
    for &host in candidates.iter().filter(|host| **host != target) {
        let domain = domain_of(host);
        if own.is_some() && domain == own {
            neighbours.push(host);
        } else {
            let alone = if domain.is_none() { Some(host) } else { None };
            others.entry((domain, alone)).or_default().push(host);
        }
    }
    let mut order: Vec<&HostName> = neighbours.iter().take(1).copied().collect();
    let rounds = others.values().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        order.extend(others.values().filter_map(|hosts| hosts.get(round)));
    }
    order.extend(neighbours.iter().skip(1));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::fact::MemberRole;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn roster(names: &[(&str, &str)]) -> BTreeMap<HostName, RosterEntry> {
        let entry = |(name, domain): &(&str, &str)| {
            let domain = (!domain.is_empty()).then(|| DomainName::new(domain).expect("legal"));
            (host(name), RosterEntry { host: host(name), role: MemberRole::Member, domain })
        };
        names.iter().map(entry).collect()
    }

    fn hosts(names: &str) -> BTreeSet<HostName> {
        names.split_whitespace().map(host).collect()
    }

    #[test]
    fn the_brake_table() {
        let table: Vec<(usize, usize)> = [1, 2, 3, 4, 5, 6, 7, 10, 20, 49, 50, 100, 128, 2_000]
            .into_iter()
            .map(|roster| (roster, brake_needs(roster)))
            .collect();
        assert_eq!(
            table,
            [
                (1, 1),
                (2, 2),
                (3, 2),
                (4, 3),
                (5, 3),
                (6, 4),
                (7, 4),
                (10, 6),
                (20, 11),
                (49, 25),
                (50, 26),
                (100, 51),
                (128, 66),
                (2_000, 1_020)
            ]
        );
        for roster in 1..=2_000 {
            assert!(2 * brake_needs(roster) > roster, "half of {roster} must never be enough");
        }
    }

    #[test]
    fn the_testimony_table() {
        let table: Vec<Option<usize>> = (0..6).map(testimonies_needed).collect();
        assert_eq!(table, [None, None, Some(2), Some(3), Some(3), Some(3)]);
    }

    /// One row: who was heard, who testified, who answered the roll; and what comes of it.
    #[test]
    fn the_verdict_table() {
        let unlabelled: &[(&str, &str)] = &[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("x", "")];
        let racks: &[(&str, &str)] = &[("a", "r1"), ("b", "r1"), ("c", "r2"), ("d", "r2"), ("x", "r1")];
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str, &'a str);
        let rows: &[Row<'_>] = &[
            ("three of four", unlabelled, "a b c d", "a b c", "a b c d", "verdict 3 of 4"),
            ("two of four", unlabelled, "a b c d", "a b", "a b c d", "2 of 3 testimonies (4 could testify)"),
            ("three suffice of three present", unlabelled, "a b c", "a b c", "a b c", "verdict 3 of 3"),
            (
                "heard in the roll call counts as eligible",
                unlabelled,
                "a b",
                "a b",
                "a b c",
                "2 of 3 testimonies (3 could testify)",
            ),
            (
                "two heard, two testify, brake",
                unlabelled,
                "a b",
                "a b",
                "a b",
                "mass-failure stop: 2 of 5 answered the roll call; 3 are needed",
            ),
            ("alone", unlabelled, "a", "a", "a", "1 members could testify; a verdict needs at least 2"),
            (
                "the target does not judge itself",
                unlabelled,
                "a x",
                "a x",
                "a x",
                "1 members could testify; a verdict needs at least 2",
            ),
            (
                "strangers do not count",
                unlabelled,
                "a s t",
                "a s t",
                "a b c s t",
                "1 of 3 testimonies (3 could testify)",
            ),
            ("a testimony of one not heard", unlabelled, "a b", "a c d", "a b", "1 of 2 testimonies (2 could testify)"),
            ("own domain testified", racks, "a b c d", "a c d", "a b c d", "verdict 3 of 4"),
            ("own domain lives, silent", racks, "a b c d", "c d", "a b c d", "2 of 3 testimonies (4 could testify)"),
            (
                "own domain dead",
                racks,
                "c d",
                "c d",
                "c d",
                "mass-failure stop: 2 of 5 answered the roll call; 3 are needed",
            ),
        ];
        for (name, members, heard, testified, present, expected) in rows {
            let mut suspicion = Suspicion::new(host("x"), None, Moment::ZERO, WallTime(0), &host("a"));
            suspicion.heard = hosts(heard);
            suspicion.testimonies = hosts(testified).into_iter().map(|accuser| (accuser, Vec::new())).collect();
            let said = match suspicion.judge(&roster(members), &hosts(present)) {
                Ok(verdict) => {
                    format!("verdict {} of {}", verdict.record().testimonies.len(), verdict.record().eligible)
                }
                Err(reason) => reason.to_string(),
            };
            assert_eq!(&said, expected, "{name}");
        }
    }

    #[test]
    fn somebody_of_the_own_domain_must_testify() {
        let members = roster(&[("a", "r1"), ("b", "r2"), ("c", "r2"), ("d", "r3"), ("x", "r1")]);
        let mut suspicion = Suspicion::new(host("x"), None, Moment::ZERO, WallTime(0), &host("b"));
        suspicion.heard = hosts("a b c d");
        suspicion.testimonies = hosts("b c d").into_iter().map(|accuser| (accuser, Vec::new())).collect();
        let refusal = suspicion.judge(&members, &hosts("a b c d")).expect_err("a lives in r1 and is silent");
        assert_eq!(refusal, NoVerdict::OwnDomainSilent { domain: DomainName::new("r1").expect("legal") });
        suspicion.testimonies.insert(host("a"), Vec::new());
        assert!(suspicion.judge(&members, &hosts("a b c d")).is_ok());
    }

    #[test]
    fn confirmers_are_spread_over_domains() {
        let members = roster(&[
            ("a", "r1"),
            ("b", "r1"),
            ("c", "r2"),
            ("d", "r2"),
            ("e", "r3"),
            ("f", ""),
            ("g", ""),
            ("x", "r1"),
        ]);
        let all: Vec<HostName> = members.keys().cloned().collect();
        let candidates: Vec<&HostName> = all.iter().collect();
        let order: Vec<&str> =
            confirmers_in_order(&host("x"), &candidates, &members).into_iter().map(HostName::as_str).collect();
        assert_eq!(order, ["a", "f", "g", "c", "e", "d", "b"]);
    }
}
