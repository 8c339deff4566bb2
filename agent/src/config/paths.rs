//! Rules of the path matrix, and of where signs of life are looked for.

use std::collections::BTreeSet;

use rekindle_coordinator::life::PORTS_MAX;
use rekindle_coordinator::paths::{PathAction, PathMatrix, PathRule, RULES_MAX};
use rekindle_proto::id::PathName;

use super::MANAGEMENT;
use super::checker::Checker;
use super::file::{PathActionWord, PathRuleTable};

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

/// The operator's rows of the path matrix.
pub(super) fn matrix(on: &mut Checker, rules: &[PathRuleTable]) -> PathMatrix {
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
        // MANAGEMENT is the only path this version gossips on.
        if let Some(unknown) = down.union(&up).find(|path| path.as_str() != MANAGEMENT) {
            on.refuse(&key, format!("names {unknown}, which is not a path"), "see [paths]: it would never hold");
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
