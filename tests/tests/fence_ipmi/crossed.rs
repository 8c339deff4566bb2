//! Cables are crossed: the BMC at the address is another machine's, with the same user and password.

use std::time::Duration;

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

/// What the BMC told in a session counts in that session, and what is sent in it reaches no other BMC.
#[test]
fn a_session_takes_what_was_told_in_it_along() {
    let mut world = World::new(1, Net::default(), Faults::default());
    let outcome = world.fence(|_| {});
    assert!(matches!(outcome, Outcome::ConfirmedOff(_)), "{outcome:?} {:#?}", world.log);
    world.bmc = others([7; 16]);
    let ordered = world.order(PowerState::On);
    assert!(ordered.is_err(), "sealed for the BMC that was there a moment ago: {ordered:?}");
    world.sleep(Duration::from_secs(4));
    let ordered = world.order(PowerState::On);
    assert!(is_foreign(&ordered), "in a session with the other one: {ordered:?}");
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

#[test]
fn its_own_guid_counts_and_is_asked_for_in_every_session() {
    let mut world = World::new(1, Net::default(), Faults::default());
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    assert_eq!(world.bmc.packets(), 6, "a session, its GUID, and the order");
    assert_eq!(world.order(PowerState::On), Ok(Answer::Accepted));
    assert_eq!(world.bmc.packets(), 7, "in the same session");
    world.bmc = others(GUID);
    world.sleep(Duration::from_secs(50));
    assert_eq!(world.order(PowerState::Off), Ok(Answer::Accepted));
    // The other session is closed where nobody knows it.
    assert_eq!(world.bmc.packets(), 1 + 6, "another session with the same machine");
}
