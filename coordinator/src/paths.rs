//! Several networks: what a pattern of failures means.
//!
//! A host that is silent on every path may be dead; one that is silent on one of several has lost a network. A failed storage
//! switch must not power off a cloud, host by host: so the default is an alarm, and `recover` on part of the paths is the
//! operator's own choice, under rules of its own (see `leader/path_cases.rs`).

use std::collections::BTreeSet;

use rekindle_proto::id::{HostName, PathName};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::membership::{MemberState, Membership};

/// Networks of a cluster: management, storage, tenant, and as many again. Each is a SWIM of its own.
pub const PATHS_MAX: usize = 6;

/// Most rules of a matrix: every pattern of six paths is 64.
pub const RULES_MAX: usize = 64;

/// What to do about a host, by which of its paths are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PathAction {
    /// Nothing.
    None,
    /// Tell people, naming the path.
    Alarm,
    /// Ask for a verdict: the host may be fenced, and its servers moved.
    Recover,
}

/// One row of the matrix: holds when all of `down` are down and all of `up` are up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// These are down.
    pub down: BTreeSet<PathName>,
    /// These are up. What is named in neither may be either.
    pub up: BTreeSet<PathName>,
    /// Then this.
    pub action: PathAction,
}

/// The first rule that holds decides. If none does: all paths down is [`PathAction::Recover`], some is [`PathAction::Alarm`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathMatrix {
    /// The operator's own rows, in order; at most [`RULES_MAX`].
    pub rules: Vec<PathRule>,
}

impl PathMatrix {
    /// What this pattern means: each path, and whether the host is down on it.
    #[must_use]
    pub fn decide<'a>(&self, vector: impl Iterator<Item = (&'a PathName, bool)>) -> PathAction {
        let (mut down, mut up) = (BTreeSet::new(), BTreeSet::new());
        for (path, is_down) in vector {
            if is_down {
                down.insert(path)
            } else {
                up.insert(path)
            };
        }
        let holds = |rule: &&PathRule| {
            rule.down.iter().all(|path| down.contains(path)) && rule.up.iter().all(|path| up.contains(path))
        };
        match self.rules.iter().find(holds) {
            Some(rule) => rule.action,
            None if down.is_empty() => PathAction::None,
            None if up.is_empty() => PathAction::Recover,
            None => PathAction::Alarm,
        }
    }

    /// Whether any pattern with a living path may end in a verdict.
    #[must_use]
    pub fn is_opt_in(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == PathAction::Recover)
    }
}

impl Context<'_> {
    /// Every path's gossip, the first one first.
    pub(crate) fn gossips(&self) -> impl Iterator<Item = &Membership> {
        std::iter::once(self.membership).chain(self.further)
    }

    /// A host on each path, as we hear it; `None`: never seen there.
    pub(crate) fn path_states(&self, host: &HostName) -> impl Iterator<Item = (&PathName, Option<MemberState>)> {
        let member = self.heard.member(host);
        self.gossips().map(move |gossip| (gossip.path(), gossip.member(member).map(|view| view.state)))
    }

    /// Whether a further path hears it, whatever the first one says.
    pub(crate) fn is_heard_further(&self, host: &HostName) -> bool {
        if self.further.is_empty() {
            return false;
        }
        let member = self.heard.member(host);
        let is_alive = |gossip: &Membership| gossip.member(member).is_some_and(|view| view.state == MemberState::Alive);
        self.further.iter().any(is_alive)
    }

    /// Further paths on which this host is down and we are not alone: not our loss, as far as we can tell.
    pub(crate) fn paths_down(&self, host: &HostName) -> Vec<&PathName> {
        let member = self.heard.member(host);
        let is_down = |gossip: &&Membership| {
            gossip.member(member).is_some_and(|view| view.state == MemberState::Down) && !hears_nobody(gossip)
        };
        self.further.iter().filter(is_down).map(Membership::path).collect()
    }
}

/// Whether we are lost on that path: we know members there, and hear none.
pub(crate) fn hears_nobody(gossip: &Membership) -> bool {
    let mut known = gossip.members().peekable();
    known.peek().is_some() && known.all(|view| view.state != MemberState::Alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> BTreeSet<PathName> {
        text.split_whitespace().map(|name| PathName::new(name).expect("legal")).collect()
    }

    fn decide(matrix: &PathMatrix, down: &str) -> PathAction {
        let (all, down) = (names("management storage tenant"), names(down));
        matrix.decide(all.iter().map(|path| (path, down.contains(path))))
    }

    const PATTERNS: [&str; 8] = [
        "",
        "management",
        "storage",
        "tenant",
        "management storage",
        "management tenant",
        "storage tenant",
        "management storage tenant",
    ];

    #[test]
    fn by_default_only_all_paths_together_ask_for_a_verdict() {
        let matrix = PathMatrix::default();
        use PathAction::{Alarm, None, Recover};
        assert_eq!(
            PATTERNS.map(|down| decide(&matrix, down)),
            [None, Alarm, Alarm, Alarm, Alarm, Alarm, Alarm, Recover]
        );
        assert!(!matrix.is_opt_in());
        let only = names("management");
        assert_eq!(matrix.decide(only.iter().map(|path| (path, true))), Recover, "one path is all paths");
    }

    /// Masakari's Consul matrix, row by row: recovery when storage is down and tenant too, whatever management says, and
    /// when management and storage are; else nothing.
    #[test]
    fn a_matrix_can_say_what_masakaris_says() {
        use PathAction::{None, Recover};
        let rule = |down: &str, action| PathRule { down: names(down), up: names(""), action };
        let matrix = PathMatrix {
            rules: vec![rule("storage tenant", Recover), rule("management storage", Recover), rule("", None)],
        };
        assert_eq!(
            PATTERNS.map(|down| decide(&matrix, down)),
            [None, None, None, None, Recover, None, Recover, Recover]
        );
        assert!(matrix.is_opt_in());
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        use PathAction::{Alarm, None, Recover};
        let rule = |down: &str, up: &str, action| PathRule { down: names(down), up: names(up), action };
        let matrix = PathMatrix { rules: vec![rule("storage", "management", Recover), rule("storage", "", Alarm)] };
        assert_eq!(
            PATTERNS.map(|down| decide(&matrix, down)),
            [None, Alarm, Recover, Alarm, Alarm, Alarm, Recover, Alarm],
            "all down is only an alarm here: the operator's rule says so"
        );
    }
}
