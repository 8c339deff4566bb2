//! The table of rules: who is recovered, who is left behind and by which rule, and what has to be read first.

use std::collections::BTreeMap;

use super::*;
use crate::ledger::PRIORITY_DEFAULT;
use crate::recovery::{PRIORITY_KEY, priority_of};
use rekindle_proto::fact::ServerTraits;
use rekindle_proto::id::{AggregateId, ServerId};
use uuid::Uuid;

/// An active server of the project `p1`, made from the image `i1`, with a flavor `m1.small`.
fn server(name: &str, metadata: &[(&str, &str)]) -> NovaServer {
    NovaServer {
        id: ServerId(Uuid::from_u128(1)),
        name: name.into(),
        host: None,
        vm_state: "active".into(),
        task_state: None,
        metadata: words(metadata),
        traits: ServerTraits {
            project: Some("p1".into()),
            image: Some("i1".into()),
            flavor: Some("m1.small".into()),
            extra_specs: Some(words(&[("evacuable", "True")])),
            groups: None,
        },
        standing: Default::default(),
    }
}

fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, Text> {
    pairs.iter().map(|(key, word)| ((*key).to_owned(), Text::from(*word))).collect()
}

fn rule(action: SelectAction, conditions: &[(About, &str)]) -> SelectRule {
    let condition =
        |(about, pattern): &(About, &str)| Condition { about: about.clone(), patterns: vec![(*pattern).to_owned()] };
    SelectRule { action, reason: String::new(), conditions: conditions.iter().map(condition).collect() }
}

fn policy(mode: SelectMode, rules: Vec<SelectRule>) -> SelectPolicy {
    SelectPolicy { mode, rules, ..SelectPolicy::default() }
}

fn looked() -> Looked {
    Looked {
        images: [("i1".into(), Some(words(&[("evacuable", "true")]))), ("gone".into(), None)].into(),
        projects: [("p1".into(), Some("Octavia".into())), ("gone".into(), None)].into(),
        aggregates: Some(vec![NovaAggregate {
            id: AggregateId(3),
            name: "gpu".into(),
            metadata: words(&[("evacuable", "true")]),
        }]),
        ..Looked::default()
    }
}

/// `recover`, `left: …` or `undecided: …`, in the words an operator reads.
fn said(policy: &SelectPolicy, server: &NovaServer, looked: &Looked) -> String {
    match choose(policy, server, looked) {
        Choice::Recover => "recover".to_owned(),
        Choice::LeaveBehind(why) => format!("left: {why}"),
        Choice::Undecided { lookup, why } => format!("undecided: {why} [{}]", lookup.is_some()),
    }
}

#[test]
fn the_table_of_modes_and_marks() {
    use SelectMode::{All, OnlyMarked};
    let mark = |word: &'static str| vec![("HA_Enabled", word)];
    type Row = (SelectMode, Vec<(&'static str, &'static str)>, &'static str);
    let rows: Vec<Row> = vec![
        (All, vec![], "recover"),
        (All, mark("false"), "recover"),
        (All, vec![(EXCLUDE_KEY, "true")], "left: its own metadata rekindle:exclude = true"),
        (All, vec![(EXCLUDE_KEY, "no")], "recover"),
        (All, vec![(EXCLUDE_KEY, "perhaps")], "recover"),
        (OnlyMarked, vec![], "left: not marked"),
        (OnlyMarked, mark("True"), "recover"),
        (OnlyMarked, mark(" yes "), "recover"),
        (OnlyMarked, mark("1"), "recover"),
        (OnlyMarked, mark("on"), "recover"),
        (OnlyMarked, mark("false"), "left: not marked"),
        (OnlyMarked, mark("ture"), "left: not marked"),
        (OnlyMarked, vec![("HA_Enabled", "true"), (EXCLUDE_KEY, "1")], "left: its own"),
    ];
    for (mode, metadata, expected) in rows {
        let was = said(&policy(mode, Vec::new()), &server("web-1", &metadata), &looked());
        assert!(was.starts_with(expected), "{mode:?} {metadata:?}: {was}");
    }
    let own_key = SelectPolicy { mark: "ha".to_owned(), ..policy(OnlyMarked, Vec::new()) };
    assert_eq!(said(&own_key, &server("web-1", &[("ha", "true")]), &looked()), "recover");
    let mut broken = server("web-1", &[("HA_Enabled", "true")]);
    broken.vm_state = "error".into();
    assert_eq!(said(&SelectPolicy::default(), &broken, &looked()), "recover");
    let healthy_only = SelectPolicy { error_servers: false, ..SelectPolicy::default() };
    assert!(said(&healthy_only, &broken, &looked()).starts_with("left: vm_state error: recovery.select.error_servers"));
    assert_eq!(said(&healthy_only, &server("web-1", &[]), &looked()), "recover");
}

#[test]
fn the_table_of_conditions() {
    let key = |key: &str| key.to_owned();
    let rows: Vec<(About, &str, bool)> = vec![
        (About::ServerName, "amphora-*", true),
        (About::ServerName, "web-*", false),
        (About::ProjectId, "p1", true),
        (About::ProjectId, "p", false),
        (About::ProjectName, "octavia", true),
        (About::ProjectName, "service", false),
        (About::Flavor, "m1.*", true),
        (About::Metadata(key("tier")), "dev*", true),
        (About::Metadata(key("tier")), "prod", false),
        (About::Metadata(key("absent")), "*", false),
        (About::ExtraSpec(key("evacuable")), "true", true),
        (About::ExtraSpec(key("absent")), "*", false),
        (About::ImageProperty(key("evacuable")), "true", true),
        (About::ImageProperty(key("absent")), "*", false),
        (About::Aggregate, "gpu", true),
        (About::Aggregate, "ssd", false),
        (About::AggregateMetadata(key("evacuable")), "true", true),
        (About::AggregateMetadata(key("absent")), "*", false),
    ];
    for (about, pattern, fits) in rows {
        let name = format!("{about} {pattern}");
        let exclude = policy(SelectMode::All, vec![rule(SelectAction::Exclude, &[(about.clone(), pattern)])]);
        let include = policy(SelectMode::OnlyMarked, vec![rule(SelectAction::Include, &[(about, pattern)])]);
        let server = server("amphora-5f0b", &[("tier", "Development")]);
        let was = said(&exclude, &server, &looked());
        assert_eq!(was.starts_with("left: excluded by rule 1 of recovery.select: "), fits, "{name}: {was}");
        assert_eq!(said(&include, &server, &looked()) == "recover", fits, "{name}");
    }
}

#[test]
fn the_first_rule_that_fits_decides_and_is_named() {
    use SelectAction::{Exclude, Include};
    let named = |pattern: &'static str| (About::ServerName, pattern);
    let project = (About::ProjectName, "octavia");
    let octavia =
        SelectRule { reason: "Octavia rebuilds them itself".to_owned(), ..rule(Exclude, &[named("amphora-*")]) };
    let rows = [
        (vec![rule(Include, &[named("*-1")]), rule(Exclude, &[named("amphora-*")])], "amphora-1", "recover"),
        (
            vec![rule(Include, &[named("*-1")]), rule(Exclude, &[named("amphora-*")])],
            "amphora-2",
            "left: excluded by rule 2 of recovery.select: server_name like \"amphora-*\"",
        ),
        (
            vec![octavia],
            "amphora-2",
            "left: excluded by rule 1 of recovery.select (Octavia rebuilds them itself): server_name like \"amphora-*\"",
        ),
        // Both conditions must hold.
        (vec![rule(Exclude, &[named("amphora-*"), project.clone()])], "web-1", "recover"),
        (
            vec![rule(Exclude, &[named("amphora-*"), project])],
            "amphora-1",
            "left: excluded by rule 1 of recovery.select: server_name like \"amphora-*\", project_name like \"octavia\"",
        ),
    ];
    for (rules, name, expected) in rows {
        assert_eq!(said(&policy(SelectMode::All, rules), &server(name, &[]), &looked()), expected, "{name}");
    }
}

#[test]
fn what_was_not_read_or_told_is_never_taken_for_no() {
    let exclude = |conditions: &[(About, &str)]| policy(SelectMode::All, vec![rule(SelectAction::Exclude, conditions)]);
    let image = (About::ImageProperty("evacuable".to_owned()), "false");
    let project = (About::ProjectName, "octavia");
    let group = (About::Aggregate, "gpu");
    let spec = (About::ExtraSpec("evacuable".to_owned()), "false");
    let name = (About::ServerName, "amphora-*");
    let nothing = Looked::default();
    let untold = NovaServer { traits: ServerTraits::default(), ..server("amphora-1", &[]) };
    let from_volume =
        NovaServer { traits: ServerTraits { image: Some("".into()), ..ServerTraits::default() }, ..untold.clone() };
    let plain = server("amphora-1", &[]);
    let rows = [
        (
            exclude(std::slice::from_ref(&image)),
            &plain,
            "undecided: rule 1 of recovery.select needs the properties of image i1 [true]",
        ),
        (
            exclude(std::slice::from_ref(&project)),
            &plain,
            "undecided: rule 1 of recovery.select needs the name of project p1 [true]",
        ),
        (
            exclude(std::slice::from_ref(&group)),
            &plain,
            "undecided: rule 1 of recovery.select needs the aggregates of its host [true]",
        ),
        (exclude(&[group, name.clone()]), &server("web-1", &[]), "recover"),
        (exclude(&[name.clone(), image.clone()]), &untold, "undecided: rule 1 of recovery.select needs image_property"),
        (
            exclude(&[spec]),
            &untold,
            "undecided: rule 1 of recovery.select needs extra_spec \"evacuable\", and Nova does",
        ),
        (
            exclude(&[project]),
            &untold,
            "undecided: rule 1 of recovery.select needs project_name, and Nova does not tell",
        ),
        (exclude(&[image]), &from_volume, "recover"),
        (exclude(&[(About::ProjectId, "p1")]), &untold, "undecided: "),
        (exclude(&[(About::Flavor, "m1.*")]), &untold, "undecided: "),
    ];
    for (policy, server, expected) in rows {
        let was = said(&policy, server, &nothing);
        assert!(was.starts_with(expected), "{expected}: {was}");
    }
}

#[test]
fn only_keys_that_are_looked_at_are_carried() {
    let about = [
        About::Metadata("tier".to_owned()),
        About::ExtraSpec("evacuable".to_owned()),
        About::ImageProperty("os".to_owned()),
        About::AggregateMetadata("gpu".to_owned()),
    ];
    let rules = about.into_iter().map(|about| rule(SelectAction::Exclude, &[(about, "x")])).collect();
    let keys = policy(SelectMode::All, rules).keys();
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
    assert_eq!(keys.metadata, set(&["HA_Enabled", "tier"]));
    assert_eq!((keys.extra_specs, keys.image, keys.aggregate), (set(&["evacuable"]), set(&["os"]), set(&["gpu"])));
}

#[test]
fn words_that_nobody_understands_are_named() {
    let rows = [
        (("HA_Enabled", "ture"), "not marked"),
        ((EXCLUDE_KEY, "perhaps"), "not excluded"),
        ((PRIORITY_KEY, "high"), "the default"),
        ((PRIORITY_KEY, "101"), "the default"),
    ];
    for (word, expected) in rows {
        let server = server("web-1", &[word]);
        let remarks = misread(&SelectPolicy::default(), &server);
        assert_eq!(remarks.len(), 1, "{word:?}: {remarks:?}");
        let text = remarks[0].as_str();
        assert!(text.contains(word.0) && text.contains(word.1) && text.contains(expected), "{text}");
        assert_eq!(priority_of(&server), PRIORITY_DEFAULT);
    }
    assert!(
        misread(&SelectPolicy::default(), &server("web-1", &[("HA_Enabled", "no"), (PRIORITY_KEY, "0")])).is_empty()
    );
}
