//! Who executes an attempt: the leader, or another voter (BMC networks differ).

use rekindle_proto::id::{DomainName, HostName};

/// The attempt before, at the same level and by the same leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Another voter executed it.
    pub delegated: bool,
    /// It failed only because a device was silent to whoever executed it: no device refused us, named another machine, or read
    /// *on* after the order.
    pub unreached: bool,
}

/// A voter that could execute it: alive as heard, neither the leader nor the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub host: HostName,
    /// Its domain, if it has a label.
    pub domain: Option<DomainName>,
}

/// Other voters, those outside the leader's own domain first: what cuts the leader from a BMC may cut its domain.
#[must_use]
pub fn in_turn(own: Option<&DomainName>, mut candidates: Vec<Candidate>) -> Vec<HostName> {
    let is_near = |candidate: &Candidate| own.is_some() && candidate.domain.as_ref() == own;
    candidates.sort_by(|a, b| (is_near(a), &a.host).cmp(&(is_near(b), &b.host)));
    candidates.into_iter().map(|candidate| candidate.host).collect()
}

/// Who executes the next attempt; `None`: the leader itself. It begins each level; where it did not reach a device the next
/// attempt is another voter's, each in its turn (`delegated`: how many were before), and then it is the leader's again. A voter
/// that has just read what was silent to the leader (`reaches`) needs no such trying, unless a device has refused us.
#[must_use]
pub fn executor(
    before: Option<Before>,
    delegated: usize,
    voters: &[HostName],
    reaches: Option<HostName>,
) -> Option<HostName> {
    match before {
        Some(Before { unreached: false, .. }) => None,
        None | Some(Before { delegated: true, unreached: true }) => reaches,
        Some(Before { delegated: false, unreached: true }) => {
            reaches.or_else(|| voters.get(delegated.checked_rem(voters.len())?).cloned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn candidates(list: &str) -> Vec<Candidate> {
        let one = |word: &str| {
            let (name, domain) = word.split_once('@').map_or((word, None), |(name, domain)| (name, Some(domain)));
            Candidate { host: host(name), domain: domain.map(|name| DomainName::new(name).expect("legal")) }
        };
        list.split_whitespace().map(one).collect()
    }

    #[test]
    fn the_table_of_executors() {
        let own = |unreached| Some(Before { delegated: false, unreached });
        let theirs = |unreached| Some(Before { delegated: true, unreached });
        // (the attempt before, delegated so far, others that vote, who executes)
        let rows = [
            (None, 0, "b c", None),
            (own(false), 0, "b c", None),
            (own(true), 0, "b c", Some("b")),
            (own(true), 1, "b c", Some("c")),
            (own(true), 2, "b c", Some("b")),
            (own(true), 0, "", None),
            (theirs(true), 1, "b c", None),
            (theirs(false), 1, "b c", None),
        ];
        for (before, delegated, voters, expected) in rows {
            let voters: Vec<HostName> = voters.split_whitespace().map(host).collect();
            let chosen = executor(before, delegated, &voters, None);
            assert_eq!(chosen.as_ref().map(HostName::as_str), expected, "{before:?} {delegated} {voters:?}");
            let is_barred = before.is_some_and(|before| !before.unreached);
            let reaches = executor(before, delegated, &voters, Some(host("c")));
            assert_eq!(reaches, (!is_barred).then(|| host("c")), "whoever reaches it is asked to: {before:?}");
        }
    }

    #[test]
    fn another_domain_is_preferred() {
        // (the leader's domain, candidates, their turn)
        let rows = [
            (Some("r1"), "b@r1 c@r2 d", "c d b"),
            (Some("r1"), "c@r1 b@r1", "b c"),
            (None, "c@r1 b d@r2", "b c d"),
            (Some("r1"), "", ""),
        ];
        for (own, list, expected) in rows {
            let own = own.map(|name| DomainName::new(name).expect("legal"));
            let turn = in_turn(own.as_ref(), candidates(list));
            let names: Vec<&str> = turn.iter().map(HostName::as_str).collect();
            assert_eq!(names.join(" "), expected, "{own:?} {list}");
        }
    }
}
