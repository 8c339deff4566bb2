//! Every way in which a BMC or its network fails, in virtual time.

use std::time::Duration;

use rekindle_agent::bmc::ipmi::{Answer, Ask, CipherSuite, Completion, IpmiError, Status};
use rekindle_proto::fact::{DeviceError, PowerState};
use rekindle_tests::fake::bmc::{Faults, Power};

use super::world::{DEVICE_TIMEOUT, GUID, Net, Outcome, PASSWORD, PERMIT, TRIES, World, login};

/// Runs of what depends on chance.
const SEEDS: u64 = 200;

/// Fences, and sees that what is confirmed is so at both readings.
fn fence(world: &mut World) -> Outcome {
    fence_while(world, |_| ())
}

fn fence_while(world: &mut World, between: impl FnMut(&mut World)) -> Outcome {
    let outcome = world.fence(between);
    assert!(world.may_have_left || world.bmc.orders().is_empty(), "said not sent, and sent: {:#?}", world.log);
    if let Outcome::ConfirmedOff(reads) = outcome {
        for at in reads {
            assert_eq!(world.bmc.power(at), Power::Off, "confirmed off while on: {:#?}", world.log);
        }
    }
    outcome
}

fn confirmed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::ConfirmedOff(_))
}

fn honest() -> World {
    World::new(1, Net::default(), Faults::default())
}

#[test]
fn ok_in_either_suite_with_and_without_kg() {
    for suite in CipherSuite::PREFERENCE {
        for kg in [None, Some(&b"the BMC's own"[..])] {
            let faults = Faults { kg: kg.map(<[u8]>::to_vec), ..Faults::default() };
            let mut world = World::with(1, Net::default(), faults, login(PASSWORD, kg, &[suite]));
            assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
            assert!(confirmed(fence(&mut world)), "{suite:?} {kg:?}: {:#?}", world.log);
            assert_eq!(world.order(PowerState::On), Ok(Answer::Accepted));
            assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
            let numbers: Vec<u8> = world.bmc.orders().iter().map(|(_, number)| *number).collect();
            assert_eq!((numbers.as_slice(), world.bmc.sessions()), ([0, 1].as_slice(), 1));
        }
    }
}

#[test]
fn a_session_is_four_round_trips_and_a_reading_one_more() {
    let mut world = honest();
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
    assert_eq!((world.bmc.packets(), world.bmc.sessions(), world.bmc.orders().len()), (4 + 1, 1, 0));
    assert_eq!(world.call(Ask::Guid, Duration::ZERO, DEVICE_TIMEOUT), Ok(Answer::Guid(GUID)));
    assert!(
        matches!(world.call(Ask::DeviceId, Duration::ZERO, DEVICE_TIMEOUT), Ok(Answer::DeviceId(id)) if id.ipmi == (2, 0))
    );
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    assert_eq!(world.bmc.packets(), 8);
    world.sleep(Duration::from_secs(20));
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::Off)));
    assert_eq!(world.bmc.packets(), 8 + 1, "the session is kept");
    world.sleep(Duration::from_secs(50));
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::Off)));
    assert_eq!(world.bmc.packets(), 9 + 1 + 5, "an old session is closed, not trusted");
    assert_eq!(world.bmc.sessions(), 1);
}

#[test]
fn the_stronger_suite_is_asked_for_first_and_the_one_that_went_is_kept() {
    let faults = Faults { only_sha1: true, ..Faults::default() };
    let mut world = World::new(1, Net::default(), faults.clone());
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
    assert_eq!(world.bmc.packets(), 1 + 5);
    world.sleep(Duration::from_secs(50));
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
    assert_eq!(world.bmc.packets(), 6 + 1 + 5, "suite 17 is not tried again");
    let mut world = World::with(1, Net::default(), faults, login(PASSWORD, None, &[CipherSuite::Sha256]));
    let error = world.power().expect_err("not allowed");
    assert_eq!(error, IpmiError::NoSuite { suite: CipherSuite::Sha256, status: Status(0x11) });
    assert!(matches!(DeviceError::from(error), DeviceError::Credentials(_)));
}

#[test]
fn a_bmc_that_would_not_encrypt_gets_no_session() {
    let mut world = World::new(1, Net::default(), Faults { offers_no_encryption: true, ..Faults::default() });
    assert!(matches!(world.order(PowerState::Off), Err(IpmiError::Downgrade { got: [3, 4, 0], .. })));
    assert_eq!(fence(&mut world), Outcome::Unknown);
    assert!(world.bmc.orders().is_empty());
}

/// Five answers fill nine tenths of a call: a reading works at once. An order's permit is over before that, so it is sent
/// in the session that the call before it opened.
#[test]
fn slow() {
    for millis in [100, 400, 900] {
        let faults = Faults { answers_after: Duration::from_millis(millis), ..Faults::default() };
        let mut world = World::new(1, Net::default(), faults);
        assert!(confirmed(fence(&mut world)), "{millis} ms: {:#?}", world.log);
        let orders = world.bmc.orders().len();
        assert!((1..=4).contains(&orders), "{millis} ms: ordered {orders} times");
    }
    // Nine tenths of a call for each answer: a handshake is carried from call to call.
    let mut world =
        World::new(1, Net::default(), Faults { answers_after: Duration::from_millis(4_500), ..Faults::default() });
    let opened = (0..12).position(|_| {
        let power = world.power();
        world.sleep(Duration::from_secs(1));
        power == Ok(Answer::Power(PowerState::On))
    });
    assert!(opened.is_some(), "never read: {:?}", world.console);
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)), "and then every time");
}

#[test]
fn says_ok_and_stays_on() {
    let mut world = World::new(1, Net::default(), Faults { ignores_orders: true, ..Faults::default() });
    assert_eq!(fence(&mut world), Outcome::StillOn);
    assert_eq!(world.bmc.orders().len(), usize::try_from(TRIES).expect("small"));
}

/// Off by word, and the machine runs on for 5 s. From outside nobody can tell; that is why a proof is a lease, and void as
/// soon as the host speaks. What the driver owes is that it says what the BMC said, and no more.
#[test]
fn says_off_and_is_on_for_5_s() {
    let faults = Faults { says_what_was_ordered: true, acts_after: Duration::from_secs(5), ..Faults::default() };
    let mut world = World::new(1, Net::default(), faults);
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::Off)), "as it says");
    world.sleep(Duration::from_secs(6));
    assert_eq!((world.power(), world.bmc.power(world.now)), (Ok(Answer::Power(PowerState::Off)), Power::Off));
}

#[test]
fn off_and_on_again_between_two_readings_is_no_off() {
    let mut world = honest();
    let mut reads = 0;
    let outcome = fence_while(&mut world, |world| {
        reads += 1;
        // A person at the button, after each first reading.
        world.bmc.press(world.now, if reads % 2 == 0 { Power::On } else { Power::Off });
    });
    assert_eq!(outcome, Outcome::StillOn, "{:#?}", world.log);
}

#[test]
fn busy_codes_are_waited_out_and_told_at_the_end() {
    for code in [0xC0, 0xC3, 0xD5] {
        let busy = |times| World::new(1, Net::default(), Faults { busy: (code, times), ..Faults::default() });
        let mut world = busy(2);
        assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)), "{code:#x}");
        let mut world = busy(2);
        assert!(confirmed(fence(&mut world)), "{code:#x}: {:#?}", world.log);
        let mut world = busy(u32::MAX);
        let told = IpmiError::Refused { command: "Get Chassis Status", completion: Completion(code) };
        assert_eq!(world.power(), Err(told));
        let error = world.order(PowerState::Off).expect_err("refused");
        assert!(matches!(error, IpmiError::Refused { completion, .. } if completion == Completion(code)), "{error}");
        assert!(matches!(DeviceError::from(error), DeviceError::Refused(_)));
        assert_eq!(fence(&mut world), Outcome::Unknown);
        assert!(world.bmc.packets() < 500, "it asks too often: {}", world.bmc.packets());
    }
}

/// Some makers answer 0xD5 to "off" when it is off. That is an acceptance only after reading so in the same call.
#[test]
fn off_refused_as_not_in_this_state_counts_only_if_it_is_off() {
    let mut world = World::new(1, Net::default(), Faults { refuses_off_when_off: true, ..Faults::default() });
    world.bmc.press(world.now, Power::Off);
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    assert!(world.bmc.orders().is_empty(), "it was refused");
    assert!(confirmed(fence(&mut world)));
    let mut world = World::new(1, Net::default(), Faults { busy: (0xD5, 1), ..Faults::default() });
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    assert_eq!(world.bmc.orders().len(), 1, "it was on, so it was ordered again");
}

#[test]
fn a_wrong_password_is_tried_once_per_call() {
    let mut world = World::new(1, Net::default(), Faults { other_password: true, ..Faults::default() });
    assert_eq!(world.power(), Err(IpmiError::Password));
    // Open Session, message 1, and the word that it will not go on.
    world.sleep(Duration::from_millis(10));
    assert_eq!((world.bmc.packets(), world.bmc.sessions()), (3, 0));
    let error = DeviceError::from(world.order(PowerState::Off).expect_err("refused"));
    assert!(matches!(&error, DeviceError::Credentials(text) if !text.as_str().contains(PASSWORD)), "{error}");
    assert_eq!(fence(&mut world), Outcome::Unknown);
    assert!(world.bmc.orders().is_empty());
    world.bmc.faults().other_password = false;
    assert!(confirmed(fence(&mut world)), "and when it is right again: {:#?}", world.log);
}

#[test]
fn a_locked_account_a_full_table_and_a_user_who_is_no_operator() {
    for (status, kind) in [(0x0D, "credentials"), (0x01, "refused"), (0x12, "refused")] {
        let mut world = World::new(1, Net::default(), Faults { login_status: Some(status), ..Faults::default() });
        let error = world.power().expect_err("refused");
        assert_eq!(error, IpmiError::Handshake { asked: "RAKP message 1", status: Status(status) });
        let is_credentials = matches!(DeviceError::from(error), DeviceError::Credentials(_));
        assert_eq!(is_credentials, kind == "credentials", "{status:#x}");
        assert_eq!(fence(&mut world), Outcome::Unknown);
        world.bmc.faults().login_status = None;
        assert!(confirmed(fence(&mut world)), "{status:#x}");
    }
    for code in [0x80, 0x81, 0xD4] {
        let mut world = World::new(1, Net::default(), Faults { raise_code: Some(code), ..Faults::default() });
        let error = world.order(PowerState::Off).expect_err("no operator");
        assert!(matches!(&error, IpmiError::Privilege { .. }), "{error}");
        assert_eq!(fence(&mut world), Outcome::Unknown);
        world.sleep(Duration::from_millis(10));
        assert_eq!(world.bmc.sessions(), 0, "sessions are given back");
    }
}

#[test]
fn a_third_of_all_packets_lost() {
    let mut ends = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed, Net { loss: 0.3, ..Net::default() }, Faults::default());
        // As the leader does it: a look when the host is suspect, and then the fence.
        let _ = world.reading();
        ends += u64::from(confirmed(fence(&mut world)));
        assert!(world.bmc.sessions() <= 16);
    }
    println!("{ends} of {SEEDS} confirmed");
    // The permit of an order leaves room for few copies: what is not confirmed is unknown, and tried again later.
    assert!(ends * 4 >= SEEDS * 3, "only {ends} of {SEEDS} were confirmed");
}

#[test]
fn duplicates_reorders_garbage_oversize_and_loss_together() {
    let mut ends = 0;
    for seed in 0..SEEDS {
        let late = Duration::from_millis(if seed % 2 == 0 { 400 } else { 30 });
        let net = Net { loss: 0.1, twice: 0.4, late, garbage: 0.4 };
        let mut world = World::new(seed, net, Faults::default());
        let is_confirmed = confirmed(fence(&mut world));
        if !is_confirmed {
            println!("seed {seed}: {:#?}", world.log);
        }
        ends += u64::from(is_confirmed);
    }
    // An order whose answers are late and lost is unknown, and tried again later.
    assert!(ends * 10 >= SEEDS * 9, "only {ends} of {SEEDS} were confirmed");
}

/// A late answer to an earlier reading is not the answer to this one, however late it is.
#[test]
fn late_answers_are_of_the_past() {
    for seed in 0..SEEDS {
        let net = Net { late: Duration::from_secs(9), twice: 0.3, ..Net::default() };
        let mut world = World::new(seed, net, Faults::default());
        for round in 0..40 {
            let power = if round % 2 == 0 { Power::Off } else { Power::On };
            world.bmc.press(world.now, power);
            if let Ok(answer) = world.power() {
                let said = if power == Power::Off { PowerState::Off } else { PowerState::On };
                assert_eq!(answer, Answer::Power(said), "seed {seed} round {round}");
            }
        }
    }
}

#[test]
fn dies_at_any_packet() {
    for at in 1..14 {
        let mut world = World::new(1, Net::default(), Faults { dies_at: Some(at), ..Faults::default() });
        let outcome = fence(&mut world);
        // A fence without a failure has ten: a session of four, GUID, off, GUID, power, GUID, power.
        assert_eq!(confirmed(outcome), at > 10, "dead at packet {at}: {:#?}", world.log);
        assert!(confirmed(outcome) || outcome == Outcome::Unknown, "dead at packet {at}");
    }
}

#[test]
fn restarts_at_any_packet() {
    for at in 1..14 {
        let mut world = World::new(1, Net::default(), Faults { restarts_at: Some(at), ..Faults::default() });
        assert!(confirmed(fence(&mut world)), "restarted at packet {at}: {:#?}", world.log);
    }
}

/// The order is carried out and its answer lost with the session: a second one finds the power off.
#[test]
fn a_bmc_that_restarts_as_its_host_loses_power() {
    let mut world = World::new(1, Net::default(), Faults { restarts_with_power: true, ..Faults::default() });
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
    assert!(confirmed(fence(&mut world)), "{:#?}", world.log);
}

#[test]
fn another_machines_guid_is_told_as_it_is() {
    let mut world = honest();
    world.bmc = rekindle_tests::fake::bmc::Model::new(super::world::USER, PASSWORD, [7; 16], Faults::default());
    assert_eq!(world.call(Ask::Guid, Duration::ZERO, DEVICE_TIMEOUT), Ok(Answer::Guid([7; 16])));
    assert_eq!(fence(&mut world), Outcome::Unknown, "its power says nothing of ours");
    assert!(world.bmc.orders().is_empty(), "and it is ordered nothing");
}

#[test]
fn an_off_that_is_executed_late_is_on_until_then() {
    for seconds in [3, 12, 30] {
        let faults = Faults { acts_after: Duration::from_secs(seconds), ..Faults::default() };
        let mut world = World::new(1, Net::default(), faults);
        let outcome = fence(&mut world);
        assert!(confirmed(outcome) || outcome == Outcome::StillOn, "{seconds} s: {outcome:?}");
    }
}

#[test]
fn an_order_whose_time_is_over_is_not_sent_and_its_copies_are_not_either() {
    let mut world = honest();
    assert_eq!(world.call(Ask::Order(PowerState::Off), Duration::ZERO, DEVICE_TIMEOUT), Err(IpmiError::TooLate));
    assert_eq!(world.bmc.packets(), 0);
    // The session takes longer than the permit lasts.
    let faults = Faults { answers_after: Duration::from_millis(200), ..Faults::default() };
    let mut world = World::new(1, Net::default(), faults);
    assert_eq!(world.order(PowerState::Off), Err(IpmiError::TooLate));
    assert_eq!(world.order(PowerState::Off), Err(IpmiError::TooLate), "it has a session, and asks whose it is");
    assert!(world.bmc.orders().is_empty());
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted), "what was reached of it is kept");
    // A BMC that never answers orders: every copy of one was sent within its permit.
    for seed in 0..SEEDS {
        let net = Net { loss: 0.5, late: Duration::from_millis(200), ..Net::default() };
        let mut world = World::new(seed, net, Faults::default());
        let ordered = world.now;
        let result = world.order(PowerState::Off);
        world.sleep(Duration::from_secs(5));
        let last = world.bmc.orders().last().map(|(at, _)| *at);
        let latest = ordered + PERMIT + Duration::from_millis(201);
        assert!(last.is_none_or(|at| at < latest), "seed {seed}: ordered {last:?}, after {latest:?}: {result:?}");
        assert!(last.is_none() || result != Err(IpmiError::TooLate), "seed {seed}: an order was sent, and it said not");
        assert!(last.is_none() || world.may_have_left, "seed {seed}: an order was sent, and it said not: {result:?}");
    }
}

#[test]
fn an_order_without_an_answer_says_that_it_may_have_been_heard() {
    let mut world = honest();
    assert_eq!(world.reading(), Some(PowerState::On));
    world.bmc.faults().answers_after = Duration::from_secs(60);
    let began = world.now;
    let error = world.order(PowerState::Off).expect_err("no answer");
    assert!(matches!(error, IpmiError::Silent { ordered: true, .. }), "{error}");
    assert!(world.now < began + DEVICE_TIMEOUT, "the time for readings is not spent on waiting for it");
    assert_eq!(world.bmc.power(world.now), Power::Off);
}

#[test]
fn silence_ends_at_the_end_of_the_call() {
    let mut world = World::new(1, Net { loss: 1.0, ..Net::default() }, Faults::default());
    let began = world.now;
    let error = world.power().expect_err("no answer");
    assert_eq!(
        (error.clone(), world.now - began),
        (IpmiError::Silent { asked: "RMCP+ Open Session Request", ordered: false }, DEVICE_TIMEOUT)
    );
    assert!(matches!(DeviceError::from(error), DeviceError::Silent(_)));
    assert!(matches!(world.order(PowerState::Off), Err(IpmiError::Silent { ordered: false, .. })));
    assert_eq!(fence(&mut world), Outcome::Unknown);
}

/// A reading gives way to an order: what is begun takes the place of what was.
#[test]
fn a_call_that_is_given_up_leaves_a_usable_session() {
    let mut world = honest();
    assert_eq!(world.power(), Ok(Answer::Power(PowerState::On)));
    for round in 0..200 {
        // Given up after the question was sent.
        world.ask_and_give_up(Ask::Power);
        let wanted = if round % 2 == 0 { PowerState::Off } else { PowerState::On };
        assert_eq!(world.order(wanted), Ok(Answer::Accepted), "round {round}");
        assert_eq!(world.power(), Ok(Answer::Power(wanted)), "round {round}");
    }
}
