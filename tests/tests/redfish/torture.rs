//! Services that do not do what they are told, or do not say what is so. Whatever they do, it is never proven off what
//! is on.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use rekindle_proto::fact::{DeviceError, PowerState};
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::fake::redfish::{Behaviour, RedfishRecordKind, SystemSettings};

use crate::rig::{OTHER, Outcome, Rig, UUID, WITHIN, fence};

/// What one call may take where some never end.
const SHORT: Duration = Duration::from_secs(1);
/// How long one attempt of a fence may last.
const LASTS: Duration = Duration::from_secs(4);

struct Row {
    behaviour: Behaviour,
    outcome: Outcome,
    within: Duration,
    lasts: Duration,
}

fn row(behaviour: Behaviour, outcome: Outcome) -> Row {
    Row { behaviour, outcome, within: SHORT, lasts: LASTS }
}

fn rows(elsewhere: &str) -> Vec<Row> {
    use Outcome::{ConfirmedOff, StillOn, Unknown};
    let ms = Duration::from_millis;
    let mut rows = vec![
        row(Behaviour::Honest, ConfirmedOff),
        // Each reply at nine tenths of the deadline.
        Row { within: ms(2_000), lasts: ms(12_000), ..row(Behaviour::Slow(ms(1_800)), ConfirmedOff) },
        row(Behaviour::SaysOkStaysOn, StillOn),
        Row { lasts: ms(9_000), ..row(Behaviour::OffForShow(ms(5_000)), ConfirmedOff) },
        // Later than every attempt's end: not proven, though it will be off.
        Row { lasts: ms(2_000), ..row(Behaviour::ActsLate(ms(20_000)), StillOn) },
        row(Behaviour::ActsLate(ms(1_500)), ConfirmedOff),
        row(Behaviour::Task(Some(ms(1_200))), ConfirmedOff),
        row(Behaviour::Task(None), StillOn),
        row(Behaviour::WrongPassword, Unknown),
        row(Behaviour::Locked, Unknown),
        row(Behaviour::Silent, Unknown),
        row(Behaviour::Dead, Unknown),
        row(Behaviour::CutsBeforeOrder, StillOn),
        row(Behaviour::CutsAfterOrder, ConfirmedOff),
        row(Behaviour::Garbage, Unknown),
        row(Behaviour::GarbledBody, Unknown),
        row(Behaviour::Oversize, Unknown),
        row(Behaviour::NeverEnds, Unknown),
        row(Behaviour::Busy(5), Unknown),
        row(Behaviour::WantsEtag(428), ConfirmedOff),
        row(Behaviour::WantsEtag(412), ConfirmedOff),
        row(Behaviour::RefusesOrders(409, "The system is busy."), StillOn),
        row(Behaviour::RefusesOrders(400, "Server is already powered OFF."), StillOn),
        row(Behaviour::RefusesOrders(412, "The ETag supplied did not match."), StillOn),
        row(Behaviour::IsMachine(OTHER), Unknown),
        row(Behaviour::Redirects(format!("https://{elsewhere}/redfish/v1/Systems")), Unknown),
        row(Behaviour::Targets("/redfish/v1/Systems/2/Actions/ComputerSystem.Reset".to_owned()), StillOn),
        row(Behaviour::Targets(format!("https://{elsewhere}/redfish/v1/Systems/1/Actions/x")), StillOn),
        row(Behaviour::LeadsTo(format!("https://{elsewhere}/redfish/v1/Systems/1")), Unknown),
        row(Behaviour::LeadsTo(format!("//{elsewhere}/redfish/v1/Systems/1")), Unknown),
        row(Behaviour::LeadsTo(format!("/\\{elsewhere}/redfish/v1/Systems/1")), Unknown),
    ];
    for status in [401, 403, 404, 405, 409, 500, 501, 503] {
        rows.push(row(Behaviour::Http(status), Unknown));
        rows.push(row(Behaviour::RefusesOrders(status, "It was told to refuse."), StillOn));
    }
    for says in ["\"PoweringOff\"", "\"PoweringOn\"", "\"Paused\"", "null", "\"off\"", "\"OFF\"", "0", "[\"Off\"]"] {
        rows.push(row(Behaviour::Says(says), Unknown));
    }
    rows
}

/// One row; an error is what was wrong with it.
async fn suffer(row: Row) -> Result<(), String> {
    let rig = Rig::new().await;
    rig.fake.behaviour(row.behaviour.clone());
    let fenced = fence(&rig.device, UUID, row.lasts, row.within, |_| {}).await;
    let (power, orders) = (rig.fake.power(), rig.orders());
    let told = format!("{:?}: {fenced:?}, orders {orders:?}", row.behaviour);
    if fenced.outcome == Outcome::ConfirmedOff && power != Power::Off {
        return Err(format!("PROVEN OFF, AND IS ON: {told}"));
    }
    if orders.iter().any(|kind| kind != "ForceOff") {
        return Err(format!("something else than ForceOff was ordered: {told}"));
    }
    if told.contains(crate::rig::PASSWORD) || told.contains("token-") {
        return Err(format!("a secret was told: {told}"));
    }
    if fenced.outcome == row.outcome { Ok(()) } else { Err(format!("{:?} was expected: {told}", row.outcome)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_service_does_nothing_is_proven_off_that_is_on() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("binds");
    elsewhere.set_nonblocking(true).expect("set");
    let address = elsewhere.local_addr().expect("address").to_string();
    let results = join_all(rows(&address).into_iter().map(suffer)).await;
    let wrong: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(elsewhere.accept().is_err(), "somebody was led astray");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_machine_is_not_touched() {
    let rig = Rig::new().await;
    rig.fake.behaviour(Behaviour::IsMachine(OTHER));
    fence(&rig.device, UUID, LASTS, WITHIN, |_| {}).await;
    assert_eq!(rig.orders(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_somebody_restores_between_two_readings_is_seen() {
    let rig = Rig::new().await;
    let fake = rig.fake.clone();
    let mut restored = 0;
    let fenced = fence(&rig.device, UUID, LASTS, WITHIN, |reading| {
        if reading.power == Ok(PowerState::Off) {
            fake.set_power(Power::On);
            restored += 1;
        }
    })
    .await;
    assert_eq!((fenced.outcome, restored), (Outcome::StillOn, 3), "{fenced:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_and_one_that_restarts_in_a_session_are_met_again() {
    let rig = Rig::new().await;
    let reading = rig.device.read(true, WITHIN).await;
    assert_eq!(reading.power, Ok(PowerState::On));
    rig.fake.restart();
    assert_eq!(rig.device.read(false, WITHIN).await.power, Ok(PowerState::On));
    assert_eq!(rig.count(&RedfishRecordKind::LoggedIn), 2, "{:?}", rig.kinds());
    rig.fake.behaviour(Behaviour::Dead);
    let error = rig.device.read(false, WITHIN).await.power.expect_err("dead");
    assert!(matches!(error, DeviceError::Silent(_)), "{error:?}");
    rig.fake.behaviour(Behaviour::Honest);
    rig.fake.restart();
    let fenced = fence(&rig.device, UUID, LASTS, WITHIN, |_| {}).await;
    assert_eq!((fenced.outcome, rig.orders().len()), (Outcome::ConfirmedOff, 1), "{fenced:?}");
    // Between a reading and its order.
    let rig = Rig::new().await;
    rig.device.read(true, WITHIN).await.power.expect("read");
    rig.fake.restart();
    rig.device.power_off(WITHIN, WITHIN).await.expect("a session that is lost is no refusal");
    assert_eq!((rig.fake.power(), rig.orders().len()), (Power::Off, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_delays_none_of_sixty_three_others() {
    const SERVICES: usize = 64;
    const HANGS: usize = 17;
    let mut rigs = Vec::new();
    for number in 0..SERVICES {
        let rig = Rig::behind(None, vec![SystemSettings::new("1", UUID)], |_| {}).await;
        if number == HANGS {
            rig.fake.behaviour(Behaviour::Silent);
        }
        rigs.push(rig);
    }
    let fences = rigs.iter().enumerate().map(|(number, rig)| async move {
        (number, fence(&rig.device, UUID, Duration::from_secs(20), Duration::from_secs(10), |_| {}).await)
    });
    let mut fences: FuturesUnordered<_> = fences.collect();
    let mut off = BTreeSet::new();
    while let Some((number, fenced)) = fences.next().await {
        assert_ne!(number, HANGS, "the one that hangs ended before {} others", SERVICES - 1 - off.len());
        assert_eq!(fenced.outcome, Outcome::ConfirmedOff, "{number}: {fenced:?}");
        assert_eq!(rigs[number].fake.power(), Power::Off);
        off.insert(number);
        if off.len() == SERVICES - 1 {
            break;
        }
    }
    assert_eq!(off.len(), SERVICES - 1);
    assert_eq!(rigs[HANGS].fake.power(), Power::On);
}
