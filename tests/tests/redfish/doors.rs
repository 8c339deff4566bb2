//! Who is let in, whom we trust, and which of several systems is meant.

use std::path::PathBuf;
use std::time::Duration;

use rekindle_agent::bmc::{RedfishTrial, RedfishTrialSettings};
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState};
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::fake::redfish::{Behaviour, Identity, RedfishRecordKind, SystemSettings, Validity};

use crate::rig::{OTHER, PASSWORD, Rig, UUID, WITHIN, until};

fn one() -> Vec<SystemSettings> {
    vec![SystemSettings::new("1", UUID)]
}

fn by_authority(settings: &mut RedfishTrialSettings) {
    settings.sha256_pin = None;
    settings.ca_file = Some(PathBuf::from("ca.pem"));
}

#[tokio::test]
async fn one_session_serves_many_calls_and_is_closed_when_nobody_needs_it() {
    let rig = Rig::new().await;
    for _ in 0..20 {
        assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    }
    assert_eq!((rig.count(&RedfishRecordKind::LoggedIn), rig.fake.sessions()), (1, 1));
    let fake = rig.fake.clone();
    drop(rig);
    until("the session of a driver that is gone is closed", || fake.sessions() == 0).await;
    let rig = Rig::with(one(), |settings| settings.session_idle = Some(Duration::from_millis(200))).await;
    rig.device.read(true, WITHIN).await.power.expect("read");
    until("a session that nobody uses is closed", || rig.fake.sessions() == 0).await;
    rig.device.read(true, WITHIN).await.power.expect("read in another session");
    assert_eq!(rig.count(&RedfishRecordKind::LoggedIn), 2);
}

#[tokio::test]
async fn a_reading_that_is_given_up_in_its_login_leaves_no_session_behind() {
    let rig = Rig::new().await;
    rig.fake.behaviour(Behaviour::Slow(Duration::from_millis(300)));
    let given_up = tokio::time::timeout(Duration::from_millis(100), rig.device.read(true, WITHIN)).await;
    assert!(given_up.is_err(), "it had no time to log in");
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!((rig.count(&RedfishRecordKind::LoggedIn), rig.fake.power()), (1, Power::Off));
}

#[tokio::test]
async fn basic_authentication_opens_no_session() {
    let rig = Rig::with(one(), |settings| settings.basic = true).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!((rig.count(&RedfishRecordKind::LoggedIn), rig.fake.power()), (0, Power::Off));
}

#[tokio::test]
async fn a_wrong_password_and_a_locked_account_are_told_without_the_password() {
    for basic in [false, true] {
        let rig = Rig::with(one(), |settings| settings.basic = basic).await;
        for behaviour in [Behaviour::WrongPassword, Behaviour::Locked] {
            rig.fake.behaviour(behaviour);
            let error = rig.device.read(false, WITHIN).await.power.expect_err("refused");
            assert!(matches!(error, DeviceError::Credentials(_)), "{error:?}");
            assert!(!error.to_string().contains(PASSWORD), "{error}");
            let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err("refused");
            assert!(matches!(error, DeviceError::Credentials(_)), "{error:?}");
        }
        // Two calls of each behaviour, and each knocked once.
        assert_eq!(rig.count(&RedfishRecordKind::Refused), 4, "{:?}", rig.kinds());
        assert_eq!(rig.orders(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_certificate_counts_by_its_authority_and_name_or_by_its_pin() {
    let good = || Identity::new("127.0.0.1", Validity::Good).expect("a certificate");
    let rig = Rig::behind(Some(good()), one(), by_authority).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    let expired = Identity::new("127.0.0.1", Validity::Expired).expect("a certificate");
    // A pin is the certificate itself: it says nothing of dates and names.
    let rig = Rig::behind(Some(expired.clone()), one(), |_| {}).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));

    let other_name = Identity::new("bmc.example", Validity::Good).expect("a certificate");
    let (known, other) = (good(), good());
    let dir = tempfile::tempdir().expect("a directory");
    let stranger = dir.path().join("stranger.pem");
    std::fs::write(&stranger, &other.ca_pem).expect("written");
    let mut refused: Vec<(Rig, &str)> = vec![
        (Rig::behind(Some(other_name), one(), by_authority).await, "not valid for name"),
        (Rig::behind(Some(expired), one(), by_authority).await, "expired"),
    ];
    let unknown = |settings: &mut RedfishTrialSettings| {
        by_authority(settings);
        settings.ca_file = Some(stranger.clone());
    };
    refused.push((Rig::behind(Some(good()), one(), unknown).await, "UnknownIssuer"));
    let mismatch = |settings: &mut RedfishTrialSettings| settings.sha256_pin = Some(other.sha256.clone());
    refused.push((Rig::behind(Some(known.clone()), one(), mismatch).await, known.sha256.as_str()));
    for (rig, says) in &refused {
        let error = rig.device.read(true, WITHIN).await.power.expect_err(says);
        assert!(matches!(error, DeviceError::Unusable(_)) && error.to_string().contains(says), "{says}: {error:?}");
        let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err(says);
        assert!(matches!(error, DeviceError::Unusable(_)), "{says}: {error:?}");
        assert_eq!(rig.kinds(), [], "{says}: it was talked to");
    }
}

#[tokio::test]
async fn plain_http_wants_consent_or_loopback() {
    let rig = Rig::behind(None, one(), |_| {}).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    let mut settings = rig.settings.clone();
    settings.address = "http://192.0.2.1".to_owned();
    let refused = RedfishTrial::open(settings.clone()).expect_err("in clear");
    assert!(refused.contains("insecure_http"), "{refused}");
    settings.insecure_http = true;
    RedfishTrial::open(settings).expect("with consent");
}

#[tokio::test]
async fn nobody_there_is_silence() {
    let Rig { fake, device, .. } = Rig::new().await;
    drop(fake);
    let error = device.read(true, WITHIN).await.power.expect_err("nobody");
    assert!(matches!(error, DeviceError::Silent(_)), "{error:?}");
    let error = device.power_off(WITHIN, WITHIN).await.expect_err("nobody");
    assert!(matches!(error, DeviceError::Silent(_)), "{error:?}");
}

#[tokio::test]
async fn of_several_systems_one_must_be_named_and_only_that_is_touched() {
    let both = || vec![SystemSettings::new("Blade1", OTHER), SystemSettings::new("Blade2", UUID)];
    let rig = Rig::with(both(), |_| {}).await;
    let error = rig.device.read(true, WITHIN).await.power.expect_err("which?");
    assert!(error.to_string().contains("2 systems, Blade1, Blade2"), "{error}");
    let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err("which?");
    assert!(matches!(error, DeviceError::Unusable(_)), "{error:?}");
    assert_eq!(rig.orders(), Vec::<String>::new());
    for name in ["Blade2".to_owned(), UUID.to_string(), UUID.to_string().to_uppercase()] {
        let rig = Rig::with(both(), |settings| settings.system = Some(name)).await;
        let guid = rig.device.read(true, WITHIN).await.guid;
        assert_eq!(guid, Some(Ok(DeviceGuid(*UUID.as_bytes()))));
        rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
        assert_eq!((rig.fake.power_of("Blade1"), rig.fake.power_of("Blade2")), (Power::On, Power::Off));
    }
    for name in ["Blade3".to_owned(), uuid::Uuid::from_u128(7).to_string()] {
        let rig = Rig::with(both(), |settings| settings.system = Some(name)).await;
        rig.device.read(true, WITHIN).await.power.expect_err("no such system");
        rig.device.power_off(WITHIN, WITHIN).await.expect_err("no such system");
        assert_eq!(rig.orders(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_system_known_by_its_uuid_that_is_another_now_is_not_read() {
    let rig = Rig::with(one(), |settings| settings.system = Some(UUID.to_string())).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    rig.fake.behaviour(Behaviour::IsMachine(OTHER));
    let error = rig.device.read(false, WITHIN).await.power.expect_err("another");
    assert!(error.to_string().contains("no longer"), "{error}");
    rig.device.power_off(WITHIN, WITHIN).await.expect_err("another");
    assert_eq!(rig.orders(), Vec::<String>::new());
}
