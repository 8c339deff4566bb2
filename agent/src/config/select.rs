//! `[recovery.select]` and `[recovery.order]`: which servers of a dead host are recovered, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_coordinator::recovery::{
    About, CONDITIONS_MAX, Condition, OrderPolicy, RULES_MAX, SelectAction, SelectMode, SelectPolicy, SelectRule,
    WORD_CHARS_MAX,
};

use super::checker::Checker;
use super::file::{
    ErrorServersWord, OrderTable, Patterns, SelectActionWord, SelectModeWord, SelectRuleTable, SelectTable,
};

/// Longest reason of a rule, in characters: it is told with each server that is left behind.
const REASON_CHARS_MAX: usize = 120;

pub(super) fn select(on: &mut Checker, table: &SelectTable) -> SelectPolicy {
    let default = SelectPolicy::default();
    let mark = table.metadata_key.clone().unwrap_or(default.mark);
    word(on, "recovery.select.metadata_key", &mark);
    if mark.starts_with("rekindle:") {
        let why = "that space of keys is rekindle's own; each has its meaning already";
        on.refuse("recovery.select.metadata_key", "must not begin with \"rekindle:\"", why);
    }
    if table.rule.len() > RULES_MAX {
        let why = "the first that fits decides: so many cannot be read by a person at night";
        on.refuse("recovery.select", format!("must have at most {RULES_MAX} rules"), why);
    }
    let rules = table.rule.iter().enumerate();
    let rules = rules.map(|(index, table)| rule(on, &format!("recovery.select.rule[{}]", index + 1), table)).collect();
    SelectPolicy {
        mark,
        mode: match table.mode {
            None => default.mode,
            Some(SelectModeWord::All) => SelectMode::All,
            Some(SelectModeWord::OnlyMarked) => SelectMode::OnlyMarked,
        },
        error_servers: match table.error_servers {
            None => default.error_servers,
            Some(ErrorServersWord::Recover) => true,
            Some(ErrorServersWord::Leave) => false,
        },
        rules,
    }
}

pub(super) fn order(on: &mut Checker, table: &OrderTable) -> OrderPolicy {
    let default = OrderPolicy::default();
    let bounds = (Duration::from_secs(10), Duration::from_secs(1_800));
    let why = "shorter, and no server boots in it; longer, and one that hangs holds up all less urgent ones";
    let given = table.group_timeout.as_deref();
    OrderPolicy {
        wait_for_previous: table.wait_for_previous.unwrap_or(default.wait_for_previous),
        group_timeout: on.duration("recovery.order.group_timeout", given, default.group_timeout, bounds, why),
    }
}

fn rule(on: &mut Checker, at: &str, table: &SelectRuleTable) -> SelectRule {
    let reason = table.reason.clone().unwrap_or_default();
    if reason.chars().count() > REASON_CHARS_MAX || reason.contains(char::is_control) {
        let rule = format!("must be one line of at most {REASON_CHARS_MAX} characters");
        on.refuse(&format!("{at}.reason"), rule, "it is told with each server that is left behind");
    }
    let mut conditions = Vec::new();
    for (key, about, patterns) in [
        ("server_name", About::ServerName, &table.server_name),
        ("project_id", About::ProjectId, &table.project_id),
        ("project_name", About::ProjectName, &table.project_name),
        ("flavor", About::Flavor, &table.flavor),
        ("aggregate", About::Aggregate, &table.aggregate),
    ] {
        conditions.extend(patterns.as_ref().map(|patterns| condition(on, &format!("{at}.{key}"), about, patterns)));
    }
    keyed(on, at, ("metadata", About::Metadata), &table.metadata, &mut conditions);
    keyed(on, at, ("extra_spec", About::ExtraSpec), &table.extra_spec, &mut conditions);
    keyed(on, at, ("image_property", About::ImageProperty), &table.image_property, &mut conditions);
    keyed(on, at, ("aggregate_metadata", About::AggregateMetadata), &table.aggregate_metadata, &mut conditions);
    if conditions.is_empty() {
        let why = "it would fit every server; recovery.select.mode says what becomes of those that no rule fits";
        on.refuse(at, "must have a condition", why);
    }
    if conditions.iter().map(|condition| condition.patterns.len()).sum::<usize>() > CONDITIONS_MAX {
        let why = "nobody can read more of them at night: write another rule";
        on.refuse(at, format!("must have at most {CONDITIONS_MAX} patterns"), why);
    }
    let action = match table.action {
        SelectActionWord::Include => SelectAction::Include,
        SelectActionWord::Exclude => SelectAction::Exclude,
    };
    SelectRule { action, reason, conditions }
}

fn keyed(
    on: &mut Checker,
    at: &str,
    (table, about): (&str, fn(String) -> About),
    given: &BTreeMap<String, Patterns>,
    conditions: &mut Vec<Condition>,
) {
    for (key, patterns) in given {
        let at = format!("{at}.{table}.{key}");
        word(on, &at, key);
        conditions.push(condition(on, &at, about(key.clone()), patterns));
    }
}

fn condition(on: &mut Checker, at: &str, about: About, patterns: &Patterns) -> Condition {
    let patterns = match patterns {
        Patterns::One(pattern) => vec![pattern.clone()],
        Patterns::Many(patterns) => patterns.clone(),
    };
    if patterns.is_empty() {
        on.refuse(at, "must have a pattern", "an empty list fits nothing: the rule would never hold");
    }
    for pattern in &patterns {
        word(on, at, pattern);
    }
    Condition { about, patterns }
}

fn word(on: &mut Checker, at: &str, word: &str) {
    let is_word = !word.is_empty() && word.chars().count() <= WORD_CHARS_MAX && word.trim() == word;
    if !is_word {
        let rule = format!("must be 1 to {WORD_CHARS_MAX} characters, without blanks around them");
        on.refuse(at, rule, "that is how long a key or value can be in OpenStack");
    }
}
