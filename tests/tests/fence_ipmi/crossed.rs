//! Cables are crossed: the BMC at the address is another machine's, with the same user and password.

use rekindle_agent::bmc::ipmi::{Answer, IpmiError};
use rekindle_proto::fact::{DeviceError, PowerState};
use rekindle_tests::fake::bmc::{Faults, Model};

use super::world::{GUID, Net, Outcome, PASSWORD, USER, World};

fn others(guid: [u8; 16]) -> Model {
    Model::new(USER, PASSWORD, guid, Faults::default())
}

fn is_foreign(result: &Result<Answer, IpmiError>) -> bool {
    matches!(result, Err(IpmiError::NotTheOne(DeviceError::Foreign(_))))
}

#[test]
fn another_machines_bmc_is_ordered_nothing() {
    let mut world = World::new(1, Net::default(), Faults::default());
    world.bmc = others([7; 16]);
    let ordered = world.order(PowerState::Off);
    assert!(is_foreign(&ordered), "{ordered:?}");
    assert!(world.bmc.orders().is_empty());
}

/// The session is warm, and what the BMC told in it a moment ago was right.
#[test]
fn a_session_that_ends_takes_what_was_told_in_it_along() {
    let mut world = World::new(1, Net::default(), Faults::default());
    let outcome = world.fence(|_| {});
    assert!(matches!(outcome, Outcome::ConfirmedOff(_)), "{outcome:?} {:#?}", world.log);
    world.bmc = others([7; 16]);
    for _ in 0..3 {
        let ordered = world.order(PowerState::On);
        assert!(ordered.is_err(), "{ordered:?}");
    }
    assert!(is_foreign(&world.order(PowerState::On)));
    assert!(world.bmc.orders().is_empty());
}

/// Between the order and the readings: what is off is another machine.
#[test]
fn an_off_of_another_machine_proves_nothing() {
    let mut world = World::new(1, Net::default(), Faults::default());
    let mut crossed = false;
    let outcome = world.fence(|world| {
        if !std::mem::replace(&mut crossed, true) {
            world.bmc = others([7; 16]);
            world.bmc.press(world.now, rekindle_tests::fake::bmc::Power::Off);
        }
    });
    assert_eq!(outcome, Outcome::Unknown, "{:#?}", world.log);
    assert!(world.bmc.orders().is_empty(), "{:#?}", world.log);
}

/// A BMC in whose place stands one that tells no GUID any more is not known to be the one.
#[test]
fn its_own_guid_counts_and_is_asked_for_before_every_order() {
    let mut world = World::new(1, Net::default(), Faults::default());
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    let packets = world.bmc.packets();
    assert_eq!(world.order(PowerState::On), Ok(Answer::Accepted));
    assert_eq!(world.bmc.packets() - packets, 2, "its GUID, and the order");
    world.bmc = others(GUID);
    let again: Vec<_> = (0..2).map(|_| world.order(PowerState::Off)).collect();
    assert!(again.contains(&Ok(Answer::Accepted)), "a new session with the same machine: {again:?}");
}
