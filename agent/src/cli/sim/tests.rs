//! Whole commands, from words to exit code.

use std::path::Path;

use clap::Parser;
use rekindle_sim::report::Report;

use super::super::{Cli, Exit, Failure, run};
use super::hosts;

async fn sim(dir: &Path, words: &[&str]) -> (Result<Exit, Failure>, String) {
    let socket = dir.join("admin.sock").display().to_string();
    let head = ["rekindle", "--socket", &socket, "sim"];
    let cli = Cli::try_parse_from(head.iter().chain(words)).expect("understood");
    let mut out = Vec::new();
    let end = run(&cli, &mut out).await;
    (end, String::from_utf8(out).expect("text"))
}

#[tokio::test]
async fn a_file_is_run_and_judged() {
    let dir = tempfile::tempdir().expect("a directory");
    let story = "name = \"mine\"\nabout = \"A host dies.\"\nend = \"2m\"\n[[event]]\nat = \"30s\"\ndo = \"kill\"\nhosts = \"cmp-05\"\n";
    let file = |name: &str, tail: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{story}{tail}")).expect("written");
        path.display().to_string()
    };
    let good = file("good.toml", "[[expect]]\nfenced = \"cmp-05\"\n");
    let bad = file("bad.toml", "[[expect]]\nfenced = []\n");
    let refused = file("refused.toml", "[[event]]\nat = \"30s\"\ndo = \"kil\"\n");
    let lost = file("lost.toml", "[[event]]\nat = \"20s\"\ndo = \"nova-down\"\n");
    for (words, exit, says) in [
        (&["run", &good][..], 0, "mine: 1 of 1 runs as promised and expected"),
        (&["run", &good, "--seed", "9", "--story"], 0, "cmp-05 recovered"),
        (&["run", &bad], 1, "mine, seed 1: expected powered off: nobody; were: cmp-05"),
        // Nova never comes back: told with the shortest story that shows it.
        (&["run", &lost], 1, "BROKEN liveness never-ends"),
        (&["run", &lost], 1, "# the shortest scenario that still breaks it"),
        (&["run", "one-host-dies"], 0, "3 of 3 runs"),
        (&["run", "01"], 0, "3 of 3 runs"),
        (&["list"], 0, "one-host-dies"),
    ] {
        let (end, out) = sim(dir.path(), words).await;
        let code = end.as_ref().map_or_else(|failure| failure.exit.code(), |exit| exit.code());
        assert_eq!(code, exit, "{words:?}: {end:?} {out}");
        assert!(out.contains(says), "{words:?}: {out}");
    }
    for (words, says) in [
        (&["run", &refused][..], "event 2 (\"kil\")"),
        (&["run", "no-such-scenario"], "neither a file nor a scenario"),
        (&["run", "/dev/zero"], "not a regular file"),
    ] {
        let (end, _) = sim(dir.path(), words).await;
        let failure = end.expect_err("refused");
        assert!(failure.exit == Exit::Refused && failure.text.contains(says), "{words:?}: {failure}");
    }
}

#[tokio::test]
async fn a_random_run_leaves_a_report() {
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("report.json").display().to_string();
    let words = ["random", "--seeds", "3", "--first-seed", "100", "--hosts", "5..6", "--threads", "2", "--json", &json];
    let (end, out) = sim(dir.path(), &words).await;
    assert!(out.contains("3 seeds from 100: 1."), "{out}");
    let text = std::fs::read_to_string(&json).expect("written");
    let report: Report = serde_json::from_str(&text).expect("the document");
    assert_eq!((report.seeds, report.first_seed), (3, 100));
    assert!(
        report.simulated_seconds >= 3.0 * 1_800.0 && report.wall_seconds > 0.0 && !report.faults.is_empty(),
        "{text}"
    );
    assert_eq!(end.expect("ran") == Exit::Done, report.violations.is_empty());
    let (end, _) = sim(dir.path(), &["random", "--seeds", "1", "--json", "/nowhere/report.json"]).await;
    assert!(end.is_err_and(|failure| failure.text.contains("/nowhere/report.json")));
}

#[tokio::test]
async fn what_if_needs_a_daemon() {
    let dir = tempfile::tempdir().expect("a directory");
    let (end, out) = sim(dir.path(), &["what-if", "--kill", "cmp-01"]).await;
    assert_eq!((end.expect_err("nobody answers").exit, out.as_str()), (Exit::NoDaemon, ""));
}

#[test]
fn hosts_are_two_numbers() {
    assert_eq!(hosts("5..64"), Ok(5..=64));
    assert_eq!(hosts("7..7"), Ok(7..=7));
    for text in ["", "5", "5..", "..5", "6..5", "1..5", "5..2001", "a..b", "5..=7"] {
        assert!(hosts(text).is_err_and(|rule| rule.contains("two numbers")), "{text}");
    }
}
