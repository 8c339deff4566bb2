//! Attempts that another voter executes.

use super::*;
use crate::ledger::FORMAT_WITHOUT_EXECUTORS;
use rekindle_proto::id::StoreId;

fn fence_for(attempt: u32, executor: &str) -> LeaderCommand {
    LeaderCommand::FenceIntentBy {
        executor: host(executor),
        incident: ONE,
        attempt,
        author: US,
        level: 1,
        devices: vec![device("bmc")],
        not_after: WallTime(1_025_000),
        rate: RateClaim::default(),
    }
}

#[test]
fn only_what_names_an_executor_needs_the_later_format() {
    for (command, format) in [(open("x"), 1), (fence_failed(1), 1), (fence_for(2, "b"), LEDGER_FORMAT)] {
        let entry = Entry::new(WallTime(0), Statement::Leader { host: host("a"), term: TERM, command });
        assert_eq!(entry.format, format, "{entry:?}");
    }
}

#[test]
fn an_entry_of_a_later_format_raises_the_ledger_s() {
    let mut log = Log::at_phase(Phase::Fencing);
    let to = LEDGER_FORMAT;
    assert_eq!(log.ledger.format, FORMAT_WITHOUT_EXECUTORS);
    let why = refusal(log.order(OperatorCommand::RaiseFormat { to }));
    assert_eq!(why, "the order is written in a format before 2: it raises nothing");
    assert_eq!(log.ledger.format, FORMAT_WITHOUT_EXECUTORS);
    // Whatever it says, and whether it is refused: whoever does not read it has stopped.
    let statement = Statement::Leader { host: host("a"), term: TERM, command: open("nobody") };
    let entry = Entry { format: to, ..Entry::new(WallTime(0), statement) };
    assert!(!log.ledger.apply(Position { index: LogIndex(99), term: TERM }, &entry).is_applied());
    assert_eq!(log.ledger.format, to);
    log.order(OperatorCommand::RaiseFormat { to }).expect("it is so");
    assert_eq!(
        log.ledger.voters.story.back().map(|line| line.text.to_string()).as_deref(),
        Some("the ledger's format is 2: alice: a reason")
    );
    log.leader(fence_failed(1)).expect("an entry of the format before");
    assert_eq!(log.ledger.format, to, "is never lowered");
}

#[test]
fn who_may_execute_and_who_did_is_kept() {
    let voters = |names: &str| names.split_whitespace().map(|name| (host(name), StoreId(Uuid::from_u128(1)))).collect();
    // (who votes, who is to execute, the refusal)
    let rows = [
        ("", "b", ""),
        ("a b c", "b", ""),
        ("a b c", "d", "d executes no fence attempt: it is no voter"),
        ("a b c", "a", "a is no other voter than the leader and the host itself"),
        ("a b x", "x", "x is no other voter than the leader and the host itself"),
    ];
    for (names, executor, refusal) in rows {
        let mut log = Log::at_phase(Phase::Fencing);
        log.leader(fence_failed(1)).expect("failed");
        log.ledger.voters.voters = voters(names);
        let result = log.leader(fence_for(2, executor));
        let why = if result.is_ok() { String::new() } else { super::refusal(result) };
        assert_eq!(why, refusal, "{names} {executor}");
        let kept = log.ledger.executors.get(&(ONE, 2)).map(HostName::as_str);
        assert_eq!(kept, refusal.is_empty().then_some(executor), "{names} {executor}");
        let told = format!("attempt 2: power off by level 1: bmc, executed by {executor}");
        let story = &log.ledger.incidents[&ONE].story;
        assert_eq!(story.iter().any(|line| line.text.as_str() == told), refusal.is_empty(), "{names} {executor}");
        if refusal.is_empty() {
            log.leader(confirm(2, &[("bmc", 1_000)])).expect("proven");
            let story = &log.ledger.incidents[&ONE].story;
            let by = format!("readings of attempt 2, by {executor}, for a, leader of term 3: ");
            assert!(story.iter().any(|line| line.text.as_str().starts_with(&by)), "{story:?}");
        }
    }
}
