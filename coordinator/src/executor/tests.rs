//! Through the member's one entrance: what a voter does at whose word, and from when it counts.

use std::net::SocketAddr;

use rekindle_proto::executor::ToldIdentity;
use rekindle_proto::fact::{DeviceError, MemberRole, PowerState};
use rekindle_proto::id::{BootId, ClusterName, Incarnation, LeadershipId, PathName, WallTime};

use super::*;
use crate::Coordinator;
use crate::io::{Input, Peer};
use crate::ledger::{FenceAttempt, Incident, Ledger, VerdictRecord};
use crate::policy::{Policy, Setup};
use crate::time::{Moment, Now};

const TASK: CallId = CallId(70);
const TERM: Term = Term(3);

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn device() -> DeviceName {
    DeviceName("sim@x-bmc".to_owned())
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 7_946))
}

fn at(ms: u64) -> Now {
    Now { mono: Moment::from_micros(ms * 1_000), wall: WallTime(0) }
}

/// Incident 1 of x: its second attempt, of the leader a in term 3, is b's to execute.
fn ledger() -> Ledger {
    let attempt = |attempt, failed: Option<&str>| FenceAttempt {
        attempt,
        term: TERM,
        author: LeadershipId(1),
        level: 1,
        devices: vec![device()],
        not_after: WallTime(0),
        failed: failed.map(Text::new),
        leader: Some(host("a")),
        at: None,
        proof: None,
    };
    let verdict = VerdictRecord { eligible: 3, needed: 3, testimonies: Vec::new(), present: 3, roster: 4, path: None };
    let mut incident = Incident::begun(IncidentId(1), host("x"), WallTime(0), verdict);
    incident.phase = Phase::Fencing;
    incident.attempts = vec![attempt(1, Some("silent")), attempt(2, None)];
    let mut ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
    ledger.incidents.insert(IncidentId(1), incident);
    ledger.executors.insert((IncidentId(1), 2), host("b"));
    ledger
}

/// The voter b, to which Raft names a as leader of term 3.
fn voter(ledger: Ledger) -> Coordinator {
    let setup = Setup {
        cluster: ClusterName::new("zrh1").expect("legal"),
        host: host("b"),
        role: MemberRole::Member,
        boot: BootId(uuid::Uuid::from_u128(1)),
        incarnation: Incarnation(1),
        listen: vec![(PathName::new("management").expect("legal"), address(2))],
        system_uuid: None,
        seeds: Vec::new(),
        voters: ["a", "b", "c"].map(host).to_vec(),
        keepers: ["a", "b", "c"].map(host).to_vec(),
        generation: None,
        operator_ca: Vec::new(),
        devices: Vec::new(),
        policy: Policy::default(),
        seed: 1,
        booted: None,
    };
    let mut voter = Coordinator::new(setup, at(1_000));
    voter.handle(at(1_000), Input::Restored { ledger: Box::new(ledger) });
    voter.handle(at(1_000), Input::Leadership { term: TERM, leader: Some(host("a")) });
    while voter.poll_output().is_some() {}
    voter
}

fn said(from: Peer, word: ExecutorWord) -> Input {
    Input::Message { from, path: PathName::new("management").expect("legal"), message: Message::Executor(word) }
}

/// What `from` says, and what comes of it: words, and orders by their call.
fn hears(voter: &mut Coordinator, now: Now, from: &str, word: ExecutorWord) -> (Vec<ExecutorWord>, Vec<PowerOffOrder>) {
    let last = if from == "a" { 1 } else { 3 };
    let boot = BootId(uuid::Uuid::from_u128(9));
    let peer = Peer { host: host(from), boot, incarnation: Incarnation(1), address: address(last) };
    voter.handle(now, said(peer, word));
    outputs(voter)
}

fn outputs(voter: &mut Coordinator) -> (Vec<ExecutorWord>, Vec<PowerOffOrder>) {
    let (mut words, mut orders) = (Vec::new(), Vec::new());
    while let Some(output) = voter.poll_output() {
        if let Output::PowerOff(order) = output {
            orders.push(order);
        } else if let Output::Message { message: Message::Executor(word), .. } = output {
            words.push(word);
        }
    }
    (words, orders)
}

fn task(incident: u64, attempt: u32, device: DeviceName) -> ExecutorWord {
    ExecutorWord::Task { call: TASK, incident: IncidentId(incident), attempt, device }
}

/// Told at 10 s, it asks.
fn asks(voter: &mut Coordinator) -> CallId {
    let (words, orders) = hears(voter, at(10_000), "a", task(1, 2, device()));
    assert!(orders.is_empty(), "a task is no order");
    match words.as_slice() {
        [ExecutorWord::MayI { question, task: TASK }] => *question,
        other => panic!("it asks, and says nothing else: {other:?}"),
    }
}

fn go(question: CallId, begin_within_ms: u32) -> ExecutorWord {
    ExecutorWord::Go { question, begin_within_ms, kill_within_ms: 20_000, identity: ToldIdentity::Untold }
}

#[test]
fn only_the_leader_has_it_do_only_what_its_own_ledger_shows_as_its_own() {
    type Change = fn(&mut Ledger);
    let other = || DeviceName("sim@y-bmc".to_owned());
    let same: Change = |_| {};
    // (who says so, what of, what is different in its ledger, why it refuses)
    let rows: Vec<(&str, ExecutorWord, Change, &str)> = vec![
        ("c", task(1, 2, device()), same, "c does not lead, as far as is known here"),
        ("a", task(2, 2, device()), same, "incident 2 is not known here"),
        ("a", task(1, 1, device()), same, "attempt 1 is not under way here"),
        ("a", task(1, 3, device()), same, "attempt 3 is not under way here"),
        ("a", task(1, 2, other()), same, "attempt 2 has no device sim@y-bmc"),
        ("a", task(1, 2, device()), |it| it.executors.clear(), "attempt 2 is not b's to execute"),
        (
            "a",
            task(1, 2, device()),
            |it| {
                it.executors.insert((IncidentId(1), 2), HostName::new("c").expect("legal"));
            },
            "attempt 2 is not b's to execute",
        ),
        ("a", task(1, 2, device()), |it| last(it).failed = Some("over".into()), "attempt 2 is not under way here"),
        ("a", task(1, 2, device()), |it| last(it).term = Term(2), "attempt 2 is of term 2, and a leads in term 3"),
        (
            "a",
            task(1, 2, device()),
            |it| it.incidents.get_mut(&IncidentId(1)).expect("there").phase = Phase::Stuck,
            "incident 1 is stuck here",
        ),
    ];
    for (from, word, change, why) in rows {
        let mut ledger = ledger();
        change(&mut ledger);
        let (words, orders) = hears(&mut voter(ledger), at(10_000), from, word);
        assert_eq!(words, vec![ExecutorWord::Refused { task: TASK, why: Text::new(why) }]);
        assert!(orders.is_empty(), "{why}");
    }
    asks(&mut voter(ledger()));
}

fn last(ledger: &mut Ledger) -> &mut FenceAttempt {
    ledger.incidents.get_mut(&IncidentId(1)).and_then(|incident| incident.attempts.last_mut()).expect("there")
}

#[test]
fn a_go_counts_from_the_question_and_is_spent_once() {
    let too_late = || vec![ExecutorWord::Done { task: TASK, result: Err(OrderError::TooLate) }];
    // (what the leader grants, when it is heard, whether it is begun), asked at 10 s
    let rows = [
        (500, 10_100, true),
        (500, 10_499, true),
        (500, 10_500, false),
        (300, 10_299, true),
        (300, 10_300, false),
        // No word makes a permit longer.
        (60_000, 10_500, false),
        (0, 10_000, false),
    ];
    for (granted, heard, begins) in rows {
        let mut voter = voter(ledger());
        let question = asks(&mut voter);
        let (words, orders) = hears(&mut voter, at(heard), "a", go(question, granted));
        let times: Vec<(Moment, Moment)> = orders.iter().map(|it| (it.begin_before(), it.not_after())).collect();
        let begin_before = at(10_000 + u64::from(granted.min(500))).mono;
        let expected = if begins { vec![(begin_before, at(30_000).mono)] } else { Vec::new() };
        assert_eq!(times, expected, "{granted} {heard}");
        assert_eq!(words, if begins { Vec::new() } else { too_late() }, "{granted} {heard}");
        // The same word again gives nothing.
        let (words, orders) = hears(&mut voter, at(heard), "a", go(question, granted));
        assert!(words.is_empty() && orders.is_empty(), "{granted} {heard}");
    }
}

#[test]
fn a_go_of_another_or_of_a_leader_that_is_gone_begins_nothing() {
    let mut voter = voter(ledger());
    let question = asks(&mut voter);
    let (words, orders) = hears(&mut voter, at(10_010), "c", go(question, 500));
    assert!(words.is_empty() && orders.is_empty(), "c was not asked");
    let (words, orders) = hears(&mut voter, at(10_020), "a", go(CallId(question.0 + 1), 500));
    assert!(words.is_empty() && orders.is_empty(), "that was not asked");
    voter.handle(at(10_030), Input::Leadership { term: Term(4), leader: Some(host("c")) });
    outputs(&mut voter);
    let (words, orders) = hears(&mut voter, at(10_040), "a", go(question, 500));
    assert_eq!(words, vec![ExecutorWord::Done { task: TASK, result: Err(OrderError::TooLate) }]);
    assert!(orders.is_empty(), "another leads");
}

#[test]
fn what_came_of_it_is_told_to_who_ordered_it() {
    let mut voter = voter(ledger());
    let question = asks(&mut voter);
    let (_, orders) = hears(&mut voter, at(10_100), "a", go(question, 500));
    let call = orders.first().expect("ordered").call();
    let result = Err(OrderError::MaybeSent(DeviceError::Silent("timed out".into())));
    voter.handle(at(15_000), Input::PowerOffDone { call, result: result.clone() });
    assert_eq!(outputs(&mut voter).0, vec![ExecutorWord::Done { task: TASK, result }]);

    let read = |call| ExecutorWord::Read { call: CallId(call), host: host("x"), device: device(), within_ms: 60_000 };
    let ask = |voter: &mut Coordinator, from: &str, call| {
        let peer = Peer {
            host: host(from),
            boot: BootId(uuid::Uuid::from_u128(9)),
            incarnation: Incarnation(1),
            address: address(1),
        };
        voter.handle(at(16_000), said(peer, read(call)));
        std::iter::from_fn(|| voter.poll_output()).find_map(|output| {
            let Output::ReadDevice { call, guid: true, within, .. } = output else { return None };
            Some((call, within))
        })
    };
    assert_eq!(ask(&mut voter, "c", 80), None, "c does not lead");
    let (own, within) = ask(&mut voter, "a", 81).expect("it reads");
    assert_eq!(within, Policy::default().device_timeout, "no word makes a reading longer");
    let reading = DeviceReading { power: Ok(PowerState::Off), guid: None };
    let finished = at(16_500).mono;
    voter.handle(at(16_500), Input::DeviceRead { call: own, reading: reading.clone(), finished });
    assert_eq!(outputs(&mut voter).0, vec![ExecutorWord::Reading { call: CallId(81), reading }]);
}
