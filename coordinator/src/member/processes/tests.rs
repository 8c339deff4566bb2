//! What is done about a process, moment by moment.

use super::*;

fn rule(restarts: u32) -> ProcessRule {
    let name = ProcessName::new("nova-compute").expect("legal");
    ProcessRule { name, restarts, delay: Duration::from_secs(5), disables: true }
}

fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn failed() -> ProcessSeen {
    ProcessSeen::Failed("exit-code".into())
}

/// Walks through moments; at each something may be seen, and then one thing is said and perhaps done.
fn walk(restarts: u32, rows: &[(u64, Option<ProcessSeen>, ProcessStanding, bool)]) {
    let mut watched = Watched::new(rule(restarts), at(0));
    for (second, seen, standing, restarted) in rows {
        if let Some(seen) = seen {
            watched.take(at(*second), seen.clone());
        }
        let step = watched.judge(at(*second), None);
        assert_eq!(step == Step::Restart, *restarted, "at {second} s: {step:?}");
        assert_eq!(watched.standing, *standing, "at {second} s: {}", watched.text);
    }
}

#[test]
fn a_failed_process_is_started_ever_more_slowly_and_then_given_up() {
    use ProcessStanding::{Down, Running, Settling, Troubled};
    walk(
        2,
        &[
            (0, Some(ProcessSeen::Running { run: 1 }), Settling, false),
            (59, None, Settling, false),
            (60, None, Running, false),
            (100, Some(failed()), Troubled, false),
            (104, None, Troubled, false),
            (105, None, Troubled, true),
            (106, Some(ProcessSeen::Running { run: 2 }), Settling, false),
            (110, Some(failed()), Troubled, false),
            (119, None, Troubled, false),
            (120, None, Troubled, true),
            (121, None, Troubled, false),
            (125, None, Troubled, false),
            (126, None, Down, false),
            // Down for good: not started any more, and not back by a sign of life.
            (1_000, None, Down, false),
            (1_001, Some(ProcessSeen::Running { run: 3 }), Down, false),
            (1_060, None, Down, false),
            (1_061, None, Running, false),
            // All restarts are there again.
            (2_000, Some(failed()), Troubled, false),
            (2_005, None, Troubled, true),
        ],
    );
}

#[test]
fn what_its_init_system_starts_and_what_somebody_stopped_is_not_started_by_us() {
    use ProcessStanding::{Down, Running, Settling, Troubled};
    let stopped = || Some(ProcessSeen::Stopped("inactive".into()));
    walk(
        3,
        &[
            (0, Some(ProcessSeen::Running { run: 1 }), Settling, false),
            (60, None, Running, false),
            (100, Some(ProcessSeen::Starting), Troubled, false),
            (399, None, Troubled, false),
            (400, None, Down, false),
            (500, Some(ProcessSeen::Running { run: 2 }), Down, false),
            (560, None, Running, false),
            (600, stopped(), Troubled, false),
            (719, None, Troubled, false),
            (720, None, Down, false),
        ],
    );
}

#[test]
fn what_comes_and_goes_is_down_though_it_runs_at_times() {
    let mut watched = Watched::new(rule(3), at(0));
    let mut said = Vec::new();
    for second in (0..400).step_by(5) {
        let seen = match second % 10 {
            0 => ProcessSeen::Running { run: second },
            _ => ProcessSeen::Starting,
        };
        watched.take(at(second), seen);
        assert_ne!(watched.judge(at(second), None), Step::Restart, "{second}");
        said.push(watched.standing);
    }
    assert_eq!(said.last(), Some(&ProcessStanding::Down));
    let first = said.iter().position(|standing| *standing == ProcessStanding::Down);
    assert_eq!(first, Some(61), "after five minutes of it");
    // The same process seen again and again is one run.
    watched.take(at(400), ProcessSeen::Running { run: 7 });
    watched.take(at(430), ProcessSeen::Running { run: 7 });
    watched.judge(at(460), None);
    assert_eq!(watched.standing, ProcessStanding::Running);
}

#[test]
fn nothing_is_started_behind_a_closed_gate_nor_at_the_end() {
    let closed = GateReport { installed: true, state: GateState::Closed { why: "incident 1 is open".into() } };
    let open = GateReport { installed: true, state: GateState::OpenedByLedger };
    let table =
        [(Some(&closed), false, true), (Some(&open), false, false), (None, false, false), (Some(&open), true, true)];
    for (gate, stopping, holds) in table {
        let mut watched = Watched::new(rule(1), at(0));
        watched.take(at(0), failed());
        let mut processes = Processes { watched: Some(vec![watched]), stopping };
        processes.judge(at(0), gate);
        let (_, restarts) = processes.judge(at(5), gate);
        assert_eq!(restarts.is_empty(), holds, "{gate:?} {stopping}");
        let standing = processes.report().expect("said").processes[0].standing;
        assert_eq!(standing == ProcessStanding::Unknown, holds);
    }
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let mut watched = Watched::new(rule(1), at(0));
    watched.take(at(0), failed());
    watched.judge(at(0), None);
    assert_eq!(watched.judge(at(5), None), Step::Restart);
    watched.restarting = Some((CallId(1), at(105)));
    assert_eq!(watched.judge(at(104), None), Step::Look(Some(at(105))));
    watched.judge(at(105), None);
    watched.judge(at(110), None);
    assert_eq!(watched.standing, ProcessStanding::Down);
}
