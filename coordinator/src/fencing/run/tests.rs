//! What proves, and what does not.

use super::*;
use rekindle_proto::id::{LeadershipId, Term, WallTime};

const ON: DeviceReading = DeviceReading { power: Ok(PowerState::On), guid: None };
const OFF: DeviceReading = DeviceReading { power: Ok(PowerState::Off), guid: None };

fn at(ms: u64) -> Moment {
    Moment::from_micros(ms * 1_000)
}

fn device(name: &str) -> DeviceName {
    DeviceName(name.to_owned())
}

fn run(names: &[&str]) -> FenceRun {
    let attempt = FenceAttempt {
        attempt: 1,
        term: Term(1),
        author: LeadershipId(1),
        level: 1,
        devices: names.iter().map(|name| device(name)).collect(),
        not_after: WallTime(0),
        failed: None,
        leader: None,
        at: None,
        proof: None,
    };
    FenceRun::new(&attempt, at(0), at(25_000), |_| true)
}

#[test]
fn off_twice_a_second_apart_after_the_order_is_proof() {
    let mut run = run(&["a"]);
    let a = device("a");
    assert_eq!(run.next_step(at(0)), RunStep::Order(a.clone()));
    run.ordered(&a, at(0));
    run.read(&a, &OFF, at(10));
    assert!(matches!(run.next_step(at(10)), RunStep::Wait(_)), "the order was not answered yet");
    run.answered(&a, Ok(()));
    run.read(&a, &OFF, at(1_020));
    assert_eq!(run.next_step(at(1_020)), RunStep::Wait(at(2_020)), "one reading is not proof, nor one from before");
    run.read(&a, &OFF, at(1_900));
    assert!(matches!(run.next_step(at(1_900)), RunStep::Wait(_)), "880 ms apart");
    run.read(&a, &OFF, at(2_020));
    let RunStep::Proven(record) = run.next_step(at(2_020)) else { panic!("proven") };
    assert_eq!(record.devices[0].apart_ms, 1_000);
    assert!(record.devices[0].seen_going_off);
}

#[test]
fn an_on_reading_between_starts_anew() {
    let mut run = run(&["a"]);
    let a = device("a");
    run.ordered(&a, at(0));
    run.answered(&a, Ok(()));
    run.read(&a, &OFF, at(0));
    run.read(&a, &ON, at(500));
    run.read(&a, &OFF, at(1_500));
    assert!(!matches!(run.next_step(at(1_500)), RunStep::Proven(_)));
}

#[test]
fn an_unanswered_order_may_still_be_proven_but_silence_is_no_proof() {
    let mut run = run(&["a"]);
    let a = device("a");
    run.ordered(&a, at(0));
    run.answered(&a, Err(OrderError::MaybeSent(DeviceError::Silent("timed out".into()))));
    let silent = DeviceReading { power: Err(DeviceError::Silent("timed out".into())), guid: None };
    for second in 1..25 {
        run.read(&a, &silent, at(second * 1_000));
        assert!(!matches!(run.next_step(at(second * 1_000)), RunStep::Proven(_)));
    }
    let RunStep::Failed(why) = run.next_step(at(25_000)) else { panic!("failed") };
    assert_eq!(why.as_str(), "still not read off twice: a did not answer: timed out");
}

#[test]
fn every_device_of_the_level_must_confirm() {
    let mut run = run(&["a", "b"]);
    for name in ["a", "b"] {
        run.ordered(&device(name), at(0));
        run.answered(&device(name), Ok(()));
    }
    run.read(&device("a"), &OFF, at(0));
    run.read(&device("a"), &OFF, at(1_000));
    run.read(&device("b"), &OFF, at(1_000));
    assert!(!matches!(run.next_step(at(1_000)), RunStep::Proven(_)));
    run.read(&device("b"), &OFF, at(2_000));
    assert!(matches!(run.next_step(at(2_000)), RunStep::Proven(_)));
}

#[test]
fn says_ok_stays_on_fails_with_that_reason() {
    let mut run = run(&["a"]);
    let a = device("a");
    run.ordered(&a, at(0));
    run.answered(&a, Ok(()));
    run.read(&a, &ON, at(24_000));
    let RunStep::Failed(why) = run.next_step(at(25_000)) else { panic!("failed") };
    assert_eq!(why.as_str(), "still not read off twice: a still reads on after our off order");
}

#[test]
fn wrong_credentials_end_the_attempt_at_once() {
    let mut run = run(&["a"]);
    let a = device("a");
    run.ordered(&a, at(0));
    run.answered(&a, Err(OrderError::MaybeSent(DeviceError::Credentials("RAKP 2".into()))));
    let refused = DeviceReading { power: Err(DeviceError::Credentials("RAKP 2".into())), guid: None };
    run.read(&a, &refused, at(100));
    assert!(matches!(run.next_step(at(100)), RunStep::Failed(_)));
    // Where the order surely was not sent there is nothing to read for.
    let mut run = self::run(&["a"]);
    run.ordered(&a, at(0));
    run.answered(&a, Err(OrderError::NotSent(DeviceError::Credentials("RAKP 2".into()))));
    let RunStep::Failed(why) = run.next_step(at(20)) else { panic!("failed") };
    assert_eq!(why.as_str(), "refused: a refused our credentials: RAKP 2; the order was not sent");
}

#[test]
fn a_word_is_taken_only_where_nothing_can_be_read_and_the_operator_says_so() {
    let unusable = || DeviceReading { power: Err(DeviceError::Unusable("no status".into())), guid: None };
    let silent = || DeviceReading { power: Err(DeviceError::Silent("timed out".into())), guid: None };
    type Row = (bool, Result<(), OrderError>, Vec<DeviceReading>, Option<bool>);
    // (accepted, its answer, its readings a second apart, whether it is proven, and verified)
    let rows: Vec<Row> = vec![
        (true, Ok(()), vec![unusable(), unusable()], Some(false)),
        (false, Ok(()), vec![unusable(), unusable()], None),
        (true, Ok(()), vec![unusable()], None),
        (true, Err(OrderError::MaybeSent(DeviceError::Refused("no".into()))), vec![unusable(), unusable()], None),
        (true, Err(OrderError::MaybeSent(DeviceError::Silent("no".into()))), vec![unusable(), unusable()], None),
        (true, Ok(()), vec![silent(), silent(), silent()], None),
        // It can be read after all.
        (true, Ok(()), vec![unusable(), ON, unusable(), unusable()], None),
        (true, Ok(()), vec![unusable(), OFF, unusable()], None),
        (true, Ok(()), vec![OFF, OFF], Some(true)),
    ];
    for (accepted, answer, readings, expected) in rows {
        let mut run = run(&["a"]).accepting(|_| accepted);
        let a = device("a");
        run.ordered(&a, at(0));
        run.answered(&a, answer.clone());
        for (second, reading) in readings.iter().enumerate() {
            run.read(&a, reading, at(1_000 * (second as u64 + 1)));
        }
        let proven = match run.next_step(at(10_000)) {
            RunStep::Proven(record) => Some(!record.devices[0].unverified),
            RunStep::Order(_) | RunStep::Read(_) | RunStep::Wait(_) | RunStep::Failed(_) => None,
        };
        assert_eq!(proven, expected, "{accepted} {answer:?} {readings:?}");
    }
}

#[test]
fn an_order_that_came_too_late_is_given_again() {
    let mut run = run(&["a"]);
    let a = device("a");
    run.ordered(&a, at(0));
    run.answered(&a, Err(OrderError::TooLate));
    assert_eq!(run.next_step(at(0)), RunStep::Order(a));
}

/// Somebody switches the host off for a moment, while we are not let in to order anything.
#[test]
fn off_readings_before_an_order_that_may_have_left_never_count() {
    let silent = || DeviceError::Silent("no answer to RAKP message 1".into());
    for (answer, proves) in [
        (Ok(()), true),
        (Err(OrderError::MaybeSent(silent())), true),
        (Err(OrderError::NotSent(silent())), false),
        (Err(OrderError::NotSent(DeviceError::Unusable("ipmitool is not on PATH".into()))), false),
        (Err(OrderError::TooLate), false),
    ] {
        let mut run = run(&["a"]);
        let a = device("a");
        run.ordered(&a, at(0));
        run.answered(&a, answer.clone());
        for second in 1..=5 {
            run.read(&a, &OFF, at(1_000 * second));
        }
        assert_eq!(matches!(run.next_step(at(5_000)), RunStep::Proven(_)), proves, "{answer:?}");
        assert_eq!(run.reads_off(), proves, "{answer:?}");
        if !proves {
            assert_eq!(run.next_step(at(5_000)), RunStep::Order(a.clone()), "{answer:?}");
            run.ordered(&a, at(5_000));
            run.answered(&a, Ok(()));
            run.read(&a, &OFF, at(5_900));
            assert!(!matches!(run.next_step(at(5_900)), RunStep::Proven(_)), "one reading after the order, {answer:?}");
            run.read(&a, &OFF, at(6_900));
            let RunStep::Proven(record) = run.next_step(at(6_900)) else { panic!("proven after {answer:?}") };
            assert_eq!((record.devices[0].apart_ms, record.devices[0].after_ms), (1_000, 900), "{answer:?}");
            assert!(!record.devices[0].seen_going_off, "it was off before our order, {answer:?}");
        }
    }
}

#[test]
fn what_was_not_sent_is_read_a_second_later_and_then_ordered_until_the_time_is_over() {
    let mut run = run(&["a"]);
    let a = device("a");
    let mut now = 0;
    let mut orders = 0;
    let why = loop {
        match run.next_step(at(now)) {
            RunStep::Order(_) => {
                orders += 1;
                run.ordered(&a, at(now));
                now += 200;
                let full = DeviceError::Refused("no place".into());
                run.answered(&a, Err(OrderError::NotSent(full)));
            }
            RunStep::Read(_) => {
                run.reading(&a);
                assert!(matches!(run.next_step(at(now)), RunStep::Wait(_)), "not while it is read");
                run.read(&a, &ON, at(now));
            }
            RunStep::Wait(until) => now = until.since(at(0)).as_millis().try_into().expect("short"),
            RunStep::Proven(record) => panic!("{record:?}"),
            RunStep::Failed(why) => break why,
        }
    };
    assert_eq!((orders, now), (25, 25_000), "one a second");
    assert_eq!(why.as_str(), "still not read off twice: a refused the command: no place; the order was not sent");
    assert!(!run.is_unheard());
}

#[test]
fn a_device_that_was_too_silent_to_be_ordered_has_not_had_its_order() {
    let mut run = run(&["a"]);
    let a = device("a");
    run.ordered(&a, at(0));
    run.answered(&a, Err(OrderError::NotSent(DeviceError::Silent("nobody there".into()))));
    assert!(run.is_unheard());
    run.ordered(&a, at(1_000));
    run.answered(&a, Ok(()));
    assert!(!run.is_unheard());
}

/// Cables are crossed while the attempt runs.
#[test]
fn a_device_that_turns_out_to_be_anothers_ends_the_attempt_and_what_it_has_read() {
    let foreign = || DeviceError::Foreign("its GUID is cmp-4's".into());
    let theirs = || DeviceReading { power: Err(foreign()), guid: None };
    let a = device("a");
    // (what the order comes to, readings a second apart; each ends so)
    let rows: Vec<(Result<(), OrderError>, Vec<DeviceReading>, &str)> = vec![
        (Err(OrderError::NotSent(foreign())), vec![], "; the order was not sent"),
        (Err(OrderError::MaybeSent(foreign())), vec![], ""),
        (Ok(()), vec![theirs()], ""),
        (Ok(()), vec![OFF, theirs()], ""),
        (Ok(()), vec![OFF, OFF, theirs()], ""),
    ];
    for (answer, readings, more) in rows {
        let mut run = run(&["a", "b"]);
        run.ordered(&a, at(0));
        run.answered(&a, answer.clone());
        for (second, reading) in readings.iter().enumerate() {
            run.read(&a, reading, at(1_000 * (second as u64 + 1)));
        }
        let RunStep::Failed(why) = run.next_step(at(5_000)) else { panic!("{answer:?} {readings:?}") };
        let expected =
            format!("not this host's device: a is another machine's: its GUID is cmp-4's{more}; b was not ordered");
        assert_eq!(why.as_str(), expected, "{answer:?} {readings:?}");
        assert!(run.last_offs().is_empty() && !run.reads_off(), "{answer:?} {readings:?}");
    }
}

/// BMC networks differ: only what another way could mend is tried by another voter.
#[test]
fn what_another_voter_may_reach() {
    let silent = || DeviceError::Silent("timed out".into());
    let unread = || DeviceReading { power: Err(silent()), guid: None };
    let refused = || DeviceError::Credentials("RAKP 2".into());
    // (what the order comes to, readings a second apart, whether it is only that the device is not reached)
    let rows: Vec<(Result<(), OrderError>, Vec<DeviceReading>, bool)> = vec![
        (Err(OrderError::NotSent(silent())), vec![unread()], true),
        (Err(OrderError::NotSent(silent())), vec![ON], true),
        (Err(OrderError::MaybeSent(silent())), vec![unread()], true),
        (Ok(()), vec![unread(), unread()], true),
        (Ok(()), vec![OFF, unread()], true),
        (Ok(()), vec![ON], false),
        (Ok(()), vec![ON, unread()], false),
        (Err(OrderError::MaybeSent(silent())), vec![ON], false),
        (Err(OrderError::NotSent(refused())), vec![unread()], false),
        (Err(OrderError::MaybeSent(refused())), vec![], false),
        (Err(OrderError::NotSent(DeviceError::Foreign("cmp-4's".into()))), vec![unread()], false),
        (Err(OrderError::NotSent(DeviceError::Refused("busy".into()))), vec![ON], false),
        (Err(OrderError::NotSent(DeviceError::Unusable("no ipmitool".into()))), vec![], false),
        (Err(OrderError::TooLate), vec![], false),
    ];
    for (answer, readings, expected) in rows {
        let mut run = run(&["a", "b"]);
        for name in ["a", "b"] {
            run.ordered(&device(name), at(0));
        }
        run.answered(&device("a"), answer.clone());
        run.answered(&device("b"), Ok(()));
        run.read(&device("b"), &OFF, at(500));
        for (second, reading) in readings.iter().enumerate() {
            run.read(&device("a"), reading, at(1_000 * (second as u64 + 1)));
        }
        assert_eq!(run.is_unreached(), expected, "{answer:?} {readings:?}");
    }
    // One that refuses us is one too many, whoever else is silent.
    let mut run = run(&["a", "b"]);
    for (name, error) in [("a", silent()), ("b", refused())] {
        run.ordered(&device(name), at(0));
        run.answered(&device(name), Err(OrderError::NotSent(error)));
    }
    assert!(!run.is_unreached());
}

/// When, between asking and answer, a device was read nobody knows.
#[test]
fn the_second_between_two_readings_counts_from_the_end_of_the_one_to_the_asking_of_the_other() {
    let span = |asked, finished| ReadSpan { asked: at(asked), finished: at(finished) };
    // (the first reading, the second, whether they prove, and how far apart they are)
    let rows = [
        (span(100, 110), span(1_110, 1_120), Some(1_000)),
        (span(100, 110), span(1_109, 1_900), None),
        (span(100, 900), span(1_200, 1_900), None),
        (span(100, 900), span(1_900, 5_000), Some(1_000)),
    ];
    for (first, second, apart) in rows {
        let mut run = run(&["a"]);
        let a = device("a");
        run.ordered(&a, at(0));
        run.answered(&a, Ok(()));
        run.read(&a, &OFF, first);
        run.read(&a, &OFF, second);
        let proven = match run.next_step(second.finished) {
            RunStep::Proven(record) => Some(record.devices[0].apart_ms),
            RunStep::Order(_) | RunStep::Read(_) | RunStep::Wait(_) | RunStep::Failed(_) => None,
        };
        assert_eq!(proven, apart, "{first:?} {second:?}");
        // A lease counts from the asking.
        assert_eq!(run.last_offs()[&a].asked(), second.asked);
    }
}
