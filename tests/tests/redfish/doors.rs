//! Who is let in, whom we trust, and which of several systems is meant.

use std::time::Duration;

use rekindle_agent::bmc::{RedfishAuth, RedfishTrust};
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState};
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::fake::redfish::{Behaviour, Identity, RedfishRecordKind, SystemSettings, Validity};

use crate::rig::{OTHER, PASSWORD, Rig, UUID, WITHIN, until};

fn one() -> Vec<SystemSettings> {
    vec![SystemSettings::new("1", UUID)]
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
    let Rig { fake, device, _dir, .. } = Rig::new().await;
    let device = device.with_session_idle(Duration::from_millis(200));
    device.read(true, WITHIN).await.power.expect("read");
    until("a session that nobody uses is closed", || fake.sessions() == 0).await;
    device.read(true, WITHIN).await.power.expect("read in another session");
    assert_eq!(fake.record().iter().filter(|line| line.kind == RedfishRecordKind::LoggedIn).count(), 2);
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
    let rig = Rig::with(one(), |settings| settings.auth = RedfishAuth::Basic).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    rig.device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!((rig.count(&RedfishRecordKind::LoggedIn), rig.fake.power()), (0, Power::Off));
}

#[tokio::test]
async fn a_wrong_password_and_a_locked_account_are_told_without_the_password() {
    for auth in [RedfishAuth::Session, RedfishAuth::Basic] {
        let rig = Rig::with(one(), |settings| settings.auth = auth).await;
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
    let dir = tempfile::tempdir().expect("a directory");
    let authority = |identity: &Identity| {
        let path = dir.path().join(uuid::Uuid::new_v4().to_string());
        std::fs::write(&path, &identity.ca_pem).expect("written");
        RedfishTrust::Ca(path)
    };
    let behind = async |identity: &Identity, trust: RedfishTrust| {
        Rig::behind(Some(identity.clone()), one(), |settings| settings.trust = trust).await
    };
    let known = good();
    let rig = behind(&known, authority(&known)).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    // A pin is the certificate itself: it says nothing of dates and names.
    let expired = Identity::new("127.0.0.1", Validity::Expired).expect("a certificate");
    let rig = behind(&expired, RedfishTrust::Pin(expired.sha256)).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));

    let named = Identity::new("bmc.example", Validity::Good).expect("a certificate");
    let refused = [
        (behind(&named, authority(&named)).await, "not valid for name"),
        (behind(&expired, authority(&expired)).await, "expired"),
        (behind(&known, authority(&good())).await, "invalid peer certificate"),
        (behind(&known, RedfishTrust::Pin(good().sha256)).await, "sha256_pin is"),
    ];
    for (rig, says) in &refused {
        let error = rig.device.read(true, WITHIN).await.power.expect_err(says);
        assert!(matches!(error, DeviceError::Unusable(_)) && error.to_string().contains(says), "{says}: {error:?}");
        let error = rig.device.power_off(WITHIN, WITHIN).await.expect_err(says);
        assert!(matches!(error, DeviceError::Unusable(_)), "{says}: {error:?}");
        assert_eq!(rig.kinds(), [], "{says}: it was talked to");
    }
}

#[tokio::test]
async fn plain_http_is_spoken_where_it_is_meant() {
    let rig = Rig::behind(None, one(), |_| {}).await;
    assert_eq!(rig.device.read(true, WITHIN).await.power, Ok(PowerState::On));
    // Neither kind of service takes the other's words for its own.
    let secure = Identity::new("127.0.0.1", Validity::Good).expect("a certificate");
    let rig = Rig::behind(Some(secure), one(), |settings| settings.trust = RedfishTrust::Nobody).await;
    rig.device.read(true, WITHIN).await.power.expect_err("it speaks TLS");
    let rig = Rig::behind(None, one(), |settings| settings.trust = RedfishTrust::Pin([7; 32])).await;
    rig.device.read(true, WITHIN).await.power.expect_err("it speaks no TLS");
    assert_eq!(rig.kinds(), []);
}

#[tokio::test]
async fn nobody_there_is_silence() {
    let Rig { fake, device, _dir, .. } = Rig::new().await;
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
