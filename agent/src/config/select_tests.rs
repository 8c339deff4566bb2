//! `[recovery.select]` and `[recovery.order]`: what is taken, and the words of each refusal.

use std::time::Duration;

use rekindle_coordinator::recovery::{
    About, Condition, OrderPolicy, SelectAction, SelectMode, SelectPolicy, SelectRule,
};

use super::tests::{FILE, GOOD, parse};

fn with(lines: &str) -> String {
    format!("{GOOD}\n{lines}\n")
}

#[test]
fn a_selection_is_taken() {
    let text = with(
        r#"
[recovery.select]
mode = "only-marked"
metadata_key = "ha"
error_servers = "leave"
[[recovery.select.rule]]
action = "exclude"
reason = "Octavia rebuilds its amphorae itself"
server_name = "amphora-*"
project_name = ["octavia", "service"]
[[recovery.select.rule]]
action = "include"
extra_spec = { evacuable = "true" }
image_property = { evacuable = "true" }
[recovery.order]
wait_for_previous = true
group_timeout = "2m"
"#,
    );
    let config = parse(&text).expect("taken");
    let condition = |about: About, patterns: &[&str]| Condition {
        about,
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
    };
    let expected = SelectPolicy {
        mark: "ha".to_owned(),
        mode: SelectMode::OnlyMarked,
        error_servers: false,
        rules: vec![
            SelectRule {
                action: SelectAction::Exclude,
                reason: "Octavia rebuilds its amphorae itself".to_owned(),
                conditions: vec![
                    condition(About::ServerName, &["amphora-*"]),
                    condition(About::ProjectName, &["octavia", "service"]),
                ],
            },
            SelectRule {
                action: SelectAction::Include,
                reason: String::new(),
                conditions: vec![
                    condition(About::ExtraSpec("evacuable".to_owned()), &["true"]),
                    condition(About::ImageProperty("evacuable".to_owned()), &["true"]),
                ],
            },
        ],
    };
    assert_eq!(config.policy.select, expected);
    let order = OrderPolicy { wait_for_previous: true, group_timeout: Duration::from_secs(120) };
    assert_eq!(config.policy.order, order);
    let keys = config.nova.expect("nova").keys;
    assert_eq!(keys, expected.keys(), "the adapter carries what the rules look at");
    assert!(keys.metadata.contains("ha") && keys.image.contains("evacuable"));
}

#[test]
fn each_broken_rule_is_refused_by_name() {
    let rule = |lines: &str| with(&format!("[[recovery.select.rule]]\n{lines}"));
    let long = "x".repeat(256);
    let rules = "[[recovery.select.rule]]\naction = \"include\"\nserver_name = \"x\"\n".repeat(65);
    let many: Vec<String> = (0..33).map(|number| format!("\"p{number}\"")).collect();
    let rows: Vec<(String, String, &str)> = vec![
        (with("[recovery.select]\nmode = \"some\""), "recovery.select.mode = \"some\" is not understood".into(), "all"),
        (with("[recovery.select]\nmodus = \"all\""), "recovery.select.modus is not a key we know".into(), "mode"),
        (
            with("[recovery.select]\nerror_servers = true"),
            "recovery.select.error_servers = true is not understood".into(),
            "configuration.md",
        ),
        (
            with("[recovery.select]\nmetadata_key = \"\""),
            "recovery.select.metadata_key = \"\" must be 1 to 255 characters".into(),
            "OpenStack",
        ),
        (
            with("[recovery.select]\nmetadata_key = \"rekindle:ha\""),
            "recovery.select.metadata_key = \"rekindle:ha\" must not begin with \"rekindle:\"".into(),
            "own",
        ),
        (with(&rules), "recovery.select must have at most 64 rules".into(), "night"),
        (rule("server_name = \"x\""), "recovery.select.rule[1].action is missing".into(), "no safe default"),
        (
            rule("action = \"skip\"\nserver_name = \"x\""),
            "recovery.select.rule[1].action = \"skip\" is not understood".into(),
            "configuration.md",
        ),
        (rule("action = \"exclude\""), "recovery.select.rule[1] must have a condition".into(), "every server"),
        (
            rule("action = \"exclude\"\nserver = \"x\""),
            "recovery.select.rule[1].server is not a key we know".into(),
            "server_name",
        ),
        (
            rule("action = \"exclude\"\nserver_name = []"),
            "recovery.select.rule[1].server_name = [] must have a pattern".into(),
            "never hold",
        ),
        (
            rule("action = \"exclude\"\nserver_name = 7"),
            "recovery.select.rule[1].server_name = 7 is not understood".into(),
            "configuration.md",
        ),
        (
            rule("action = \"exclude\"\nserver_name = \" x\""),
            "recovery.select.rule[1].server_name = \" x\" must be 1 to 255 characters".into(),
            "blanks",
        ),
        (
            rule(&format!("action = \"exclude\"\nmetadata = {{ tier = \"{long}\" }}")),
            format!("recovery.select.rule[1].metadata.tier = \"{long}\" must be 1 to 255"),
            "OpenStack",
        ),
        (
            rule(&format!("action = \"exclude\"\nflavor = [{}]", many.join(", "))),
            "recovery.select.rule[1] must have at most 32 patterns".into(),
            "another rule",
        ),
        (
            rule(&format!("action = \"exclude\"\nserver_name = \"x\"\nreason = \"{long}\"")),
            format!("recovery.select.rule[1].reason = \"{long}\" must be one line of at most 120"),
            "left behind",
        ),
        (
            with("[recovery.order]\ngroup_timeout = \"5s\""),
            "recovery.order.group_timeout = \"5s\" must be \"10s\" to \"1800s\"".into(),
            "holds up",
        ),
        (
            with("[recovery.order]\nwait_for_previous = \"yes\""),
            "recovery.order.wait_for_previous = \"yes\" is not understood".into(),
            "boolean",
        ),
    ];
    for (text, begins, says) in rows {
        let refusal = parse(&text).expect_err(&begins).to_string();
        let rest = refusal.strip_prefix(&format!("{FILE}: ")).unwrap_or_else(|| panic!("{refusal} names no file"));
        assert!(rest.starts_with(&begins), "expected: {begins}\nrefused:  {rest}");
        assert!(rest.contains(says), "{rest}\ndoes not say {says:?}");
    }
}
