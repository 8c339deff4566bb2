//! One order at a time: what is sent, when, and what is made of the answer.

use std::time::Duration;

use rekindle_coordinator::fencing::DeviceIdentity;
use rekindle_proto::fact::{DeviceError, OrderError, PowerState};
use rekindle_proto::id::SystemUuid;
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::fake::redfish::{Behaviour, RedfishRecordKind, SystemSettings};

use crate::rig::{OTHER, Rig, UUID, WITHIN};

fn offering(resets: &[&'static str]) -> Vec<SystemSettings> {
    vec![SystemSettings { resets: resets.to_vec(), ..SystemSettings::new("1", UUID) }]
}

#[tokio::test]
async fn power_is_cut_and_restored_and_read() {
    let rig = Rig::new().await;
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!(rig.fake.power(), Power::Off);
    assert_eq!(rig.device.read(false, WITHIN).await.power, Ok(PowerState::Off));
    rig.device.power_on(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!(rig.fake.power(), Power::On);
    assert_eq!(rig.device.read(false, WITHIN).await.power, Ok(PowerState::On));
    assert_eq!(rig.orders(), ["ForceOff", "On"]);
}

/// Cables are crossed after the device was bound.
#[tokio::test]
async fn another_machines_system_is_ordered_nothing() {
    let own = DeviceIdentity::Machine(SystemUuid(UUID));
    let rig = Rig::with(vec![SystemSettings::new("1", OTHER)], |_| {}).await;
    let error = rig.device.power_off_of(&own, WITHIN, WITHIN).await.expect_err("another's");
    assert!(matches!(error, OrderError::NotSent(DeviceError::Foreign(_))), "{error:?}");
    assert_eq!((rig.orders(), rig.fake.power()), (vec![], Power::On));
    // One whose session is forgotten between the reading and the order is read again: it may be another.
    let rig = Rig::new().await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    let reads = rig.count(&RedfishRecordKind::Read);
    rig.fake.restart();
    rig.device.power_off_of(&own, WITHIN, WITHIN).await.expect("it is the one");
    assert_eq!((rig.orders(), rig.fake.power()), (vec!["ForceOff".to_owned()], Power::Off));
    assert_eq!(rig.count(&RedfishRecordKind::Read), reads + 1, "{:?}", rig.kinds());
}

#[tokio::test]
async fn only_what_is_offered_is_ordered_and_never_a_graceful_shutdown() {
    let rig = Rig::with(offering(&["On", "GracefulShutdown", "PushPowerButton"]), |_| {}).await;
    let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err("not offered");
    assert!(matches!(error, OrderError::NotSent(DeviceError::Refused(_))), "{error:?}");
    assert!(error.to_string().contains("GracefulShutdown") && error.to_string().contains("not ForceOff"), "{error}");
    assert_eq!(rig.orders(), Vec::<String>::new());
    // It need not say what it takes.
    let rig = Rig::with(offering(&[]), |_| {}).await;
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    let rig = Rig::with(offering(&["ForceOff", "ForceOn"]), |_| {}).await;
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    rig.device.power_on(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!((rig.orders(), rig.fake.power()), (vec!["ForceOff".to_owned(), "ForceOn".to_owned()], Power::On));
}

#[tokio::test]
async fn a_409_of_one_that_is_off_is_success_only_after_it_reads_off() {
    let rig = Rig::new().await;
    rig.fake.set_power(Power::Off);
    rig.device.power_off(WITHIN, WITHIN).await.expect("it was off already");
    let kinds = rig.kinds();
    let ordered = kinds.iter().position(|kind| matches!(kind, RedfishRecordKind::Ordered(_))).expect("ordered");
    assert!(kinds[ordered..].contains(&RedfishRecordKind::Read), "not read after the 409: {kinds:?}");
    rig.fake.behaviour(Behaviour::Says("\"PoweringOff\""));
    let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err("not off yet");
    // It has had the order: what is read after it counts.
    let is_refused = matches!(error, OrderError::MaybeSent(DeviceError::Refused(_)));
    assert!(is_refused && error.to_string().contains("409"), "{error:?}");
    let rig = Rig::new().await;
    rig.device.power_on(WITHIN, WITHIN).await.expect("it was on already");
}

#[tokio::test]
async fn a_400_counts_as_already_only_by_its_words_and_the_reading() {
    let rig = Rig::new().await;
    rig.fake.behaviour(Behaviour::RefusesOrders(400, "Server is already powered OFF."));
    let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err("it is on");
    assert!(matches!(error, OrderError::MaybeSent(DeviceError::Refused(_))), "{error:?}");
}

#[tokio::test]
async fn nothing_is_ordered_once_the_permit_is_over() {
    let rig = Rig::new().await;
    assert_eq!(rig.device.power_off(Duration::ZERO, WITHIN).await, Err(OrderError::TooLate));
    assert_eq!(rig.device.power_off(WITHIN, Duration::ZERO).await, Err(OrderError::TooLate));
    assert_eq!(rig.kinds(), []);
    // Set up in time, but not begun in time; then, set up, begun at once.
    rig.fake.behaviour(Behaviour::Slow(Duration::from_millis(300)));
    let permit = Duration::from_millis(200);
    assert_eq!(rig.device.power_off(permit, WITHIN).await, Err(OrderError::TooLate));
    assert_eq!((rig.orders(), rig.fake.power()), (Vec::new(), Power::On));
    rig.device.power_off(permit, WITHIN).await.expect("begun in time");
    assert_eq!((rig.orders().len(), rig.fake.power()), (1, Power::Off));
}

#[tokio::test]
async fn a_version_is_named_only_to_those_who_ask_for_it_and_only_once() {
    let rig = Rig::new().await;
    rig.fake.behaviour(Behaviour::WantsEtag(428));
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!((rig.orders().len(), rig.fake.power()), (2, Power::Off));
    let rig = Rig::new().await;
    rig.fake.behaviour(Behaviour::RefusesOrders(412, "The ETag supplied did not match."));
    let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err("refused");
    assert!(error.to_string().contains("HTTP 412: The ETag supplied did not match."), "{error}");
    assert_eq!(rig.orders().len(), 2);
}

#[tokio::test]
async fn one_reading_is_one_document_and_what_was_read_before_an_order_is_not_told_after_it() {
    let rig = Rig::new().await;
    let reading = rig.device.read(true, WITHIN).await;
    assert_eq!(reading.power, Ok(PowerState::On));
    assert_eq!(rig.count(&RedfishRecordKind::Read), 1);
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!(rig.count(&RedfishRecordKind::Read), 1, "the order goes out by what was just read");
    assert_eq!(rig.device.read(false, WITHIN).await.power, Ok(PowerState::Off));
    assert_eq!(rig.count(&RedfishRecordKind::Read), 2);
}

#[tokio::test]
async fn what_a_service_says_to_a_refusal_is_told() {
    let rig = Rig::new().await;
    rig.fake.behaviour(Behaviour::Busy(7));
    let error = rig.device.read(false, WITHIN).await.power.expect_err("busy");
    let said = error.to_string();
    assert!(said.contains("HTTP 503: Later.") && said.contains("asked again after 7"), "{said}");
    rig.fake.behaviour(Behaviour::Says("\"PoweringOff\""));
    let error = rig.device.read(false, WITHIN).await.power.expect_err("neither");
    assert!(matches!(error, DeviceError::Unusable(_)) && error.to_string().contains("not off yet"), "{error:?}");
}
