//! The whole driver, with its socket and its clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rekindle_agent::bmc::ipmi::NativeIpmi;
use rekindle_agent::bmc::{Endpoint, IpmiSettings, Privilege, SecretSource};
use rekindle_agent::clock::moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, OrderError, PowerState};
use rekindle_proto::id::HostName;
use rekindle_tests::fake::bmc::{Behaviour, Bmc, BmcRecordKind, BmcSettings, GuidByteOrder, Power, PowerHook};
use rekindle_tests::fake::ipmi_sim::IpmiSim;
use uuid::Uuid;

const USER: &str = IpmiSim::USER;
const PASSWORD: &str = IpmiSim::PASSWORD;
const KG: &str = "a-key-of-the-BMC";
const GUID: [u8; 16] = IpmiSim::GUID;
/// A deadline no honest run comes near; it only ends a run that hangs.
const ENOUGH: Duration = Duration::from_secs(30);
/// `ipmi_sim` answers within milliseconds, once it listens.
const SOON: Duration = Duration::from_secs(2);

fn settings(address: SocketAddr, dir: &Path, suite: u8) -> IpmiSettings {
    IpmiSettings {
        endpoint: Endpoint::parse(&address.to_string(), 623).expect("legal"),
        username: USER.to_owned(),
        password: written(dir, "password", PASSWORD),
        k_g: None,
        cipher_suites: vec![suite],
        privilege: Privilege::Operator,
    }
}

fn written(dir: &Path, name: &str, text: &str) -> SecretSource {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
    SecretSource::File(path)
}

fn driver(settings: &IpmiSettings) -> NativeIpmi {
    NativeIpmi::new(settings, &HostName::new("cmp-1").expect("legal"))
}

fn sim_settings(sim: &IpmiSim) -> IpmiSettings {
    IpmiSettings {
        password: SecretSource::File(sim.password_file()),
        k_g: sim.kg_file().map(SecretSource::File),
        ..settings(sim.address(), sim.dir(), 3)
    }
}

/// A simulator that answers.
async fn sim(last: u8, kg: Option<&str>) -> IpmiSim {
    let sim = IpmiSim::start(Ipv4Addr::new(127, 0, 77, last), kg).expect("starts");
    let began = moment();
    while let Err(error) = driver(&sim_settings(&sim)).power_state(moment() + SOON).await {
        assert!(moment().since(began) < ENOUGH, "ipmi_sim does not answer: {error}");
    }
    sim
}

#[tokio::test]
async fn openipmis_bmc_is_read_switched_off_and_on() {
    for (last, kg) in [(3, None), (4, Some(KG))] {
        let sim = sim(last, kg).await;
        let driver = driver(&sim_settings(&sim));
        let end = moment() + ENOUGH;
        assert_eq!(driver.guid(end).await, Ok(DeviceGuid(GUID)));
        assert_eq!(driver.power_state(end).await, Ok(PowerState::On));
        let id = driver.device_id(end).await.expect("told");
        assert_eq!((id.ipmi, id.manufacturer), ((2, 0), 0x1291));
        assert_eq!(driver.power_off(moment(), end).await, Err(OrderError::TooLate));
        assert!(sim.is_on());
        driver.power_off(end, end).await.expect("accepted");
        assert_eq!((sim.is_on(), driver.power_state(end).await), (false, Ok(PowerState::Off)));
        driver.power_off(end, end).await.expect("off is off");
        driver.power_on(end, end).await.expect("accepted");
        assert_eq!((sim.is_on(), driver.power_state(end).await), (true, Ok(PowerState::On)));
    }
}

#[tokio::test]
async fn openipmis_bmc_refuses_what_it_should_and_by_name() {
    let sim = sim(5, Some(KG)).await;
    let good = sim_settings(&sim);
    let dir = sim.dir();
    for (settings, says) in [
        (IpmiSettings { password: written(dir, "other", "another"), ..good.clone() }, "password is not"),
        (IpmiSettings { username: "nobody".to_owned(), ..good.clone() }, "RAKP message 1"),
        (IpmiSettings { k_g: None, ..good.clone() }, "K_g is not"),
        (IpmiSettings { cipher_suites: vec![17], ..good.clone() }, "cipher suite 17"),
    ] {
        let error = driver(&settings).power_state(moment() + ENOUGH).await.expect_err("refused");
        assert!(matches!(error, DeviceError::Credentials(_)) && error.to_string().contains(says), "{says:?}: {error}");
        assert!(!error.to_string().contains("another"), "{error}");
    }
    let both = IpmiSettings { cipher_suites: vec![17, 3], ..good };
    assert_eq!(driver(&both).power_state(moment() + ENOUGH).await, Ok(PowerState::On), "17 refused, then 3");
}

/// The simulator is killed and started again: the session is gone with it.
#[tokio::test]
async fn a_session_that_the_bmc_forgot_is_opened_anew() {
    let mut sim = sim(6, None).await;
    let driver = driver(&sim_settings(&sim));
    assert_eq!(driver.power_state(moment() + ENOUGH).await, Ok(PowerState::On));
    sim.kill().expect("killed");
    let error = driver.power_state(moment() + SOON / 2).await.expect_err("nobody there");
    assert!(matches!(error, DeviceError::Silent(_)), "{error}");
    sim.restart().expect("started again");
    assert_eq!(driver.power_state(moment() + ENOUGH).await, Ok(PowerState::On));
}

async fn ours(number: u8) -> Bmc {
    let hook: PowerHook = Arc::new(|_| Ok(()));
    let settings = BmcSettings {
        username: USER.to_owned(),
        other_users: Vec::new(),
        password: PASSWORD.to_owned(),
        guid: Uuid::from_bytes(GUID),
        guid_byte_order: GuidByteOrder::Rfc,
    };
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 78, number), 0));
    Bmc::start(address, settings, hook).await.expect("binds")
}

#[tokio::test]
async fn our_own_bmc_in_both_suites_and_its_sessions_are_given_back() {
    let dir = tempfile::tempdir().expect("dir");
    for suite in [17, 3] {
        let bmc = ours(1).await;
        let driver = driver(&settings(bmc.address(), dir.path(), suite));
        let end = moment() + ENOUGH;
        // The reading at the first suspicion: it leaves the session open in which the order is given.
        assert_eq!(driver.guid(end).await, Ok(DeviceGuid(GUID)));
        assert_eq!(driver.power_state(end).await, Ok(PowerState::On));
        driver.power_off(end, end).await.expect("accepted");
        let opened = bmc.record().iter().filter(|line| line.kind == BmcRecordKind::SessionOpened).count();
        assert_eq!(opened, 1, "the order was given in the session of the reading");
        assert_eq!((bmc.power(), driver.power_state(end).await), (Power::Off, Ok(PowerState::Off)));
        bmc.behaviour(Behaviour::Restarted);
        assert_eq!(driver.power_state(end).await, Ok(PowerState::Off), "a session that was forgotten");
        assert_eq!(bmc.sessions(), 1);
        drop(driver);
        while bmc.sessions() > 0 {
            assert!(moment() < end, "the session was not closed");
            tokio::task::yield_now().await;
        }
    }
}

/// One driver, called and dropped at any await.
#[tokio::test]
async fn a_dropped_call_does_no_harm_to_the_next() {
    let dir = tempfile::tempdir().expect("dir");
    let bmc = ours(2).await;
    let driver = driver(&settings(bmc.address(), dir.path(), 17));
    let end = moment() + ENOUGH;
    for polls in 0..30 {
        let mut call = Box::pin(driver.power_state(end));
        for _ in 0..polls % 10 {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        assert_eq!(driver.power_state(end).await, Ok(PowerState::On), "after {polls} polls");
    }
}

#[tokio::test]
async fn one_of_64_that_hangs_delays_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let mut bmcs = Vec::new();
    for number in 1..=64 {
        bmcs.push(ours(number + 100).await);
    }
    bmcs[17].behaviour(Behaviour::Silent);
    let end = moment() + ENOUGH;
    let mut fences: Vec<_> = bmcs
        .iter()
        .map(|bmc| {
            let driver = driver(&settings(bmc.address(), dir.path(), 17));
            tokio::spawn(async move {
                driver.power_off(end, end).await.map_err(|error| error.to_string())?;
                let first = driver.power_state(end).await.map_err(|error| error.to_string())?;
                Ok::<_, String>((first, driver.power_state(end).await.map_err(|error| error.to_string())?))
            })
        })
        .collect();
    let hangs = fences.swap_remove(17);
    for fence in fences {
        assert_eq!(fence.await.expect("joined"), Ok((PowerState::Off, PowerState::Off)));
    }
    assert!(!hangs.is_finished(), "the silent one has its time still, and the others are done");
    assert_eq!(bmcs.iter().filter(|bmc| bmc.power() == Power::Off).count(), 63);
    hangs.abort();
}

#[tokio::test]
async fn nobody_there_and_no_such_name_are_silence_and_end_in_time() {
    let dir = tempfile::tempdir().expect("dir");
    let nobody = settings(SocketAddr::from((Ipv4Addr::new(127, 0, 77, 9), 1)), dir.path(), 17);
    let nowhere =
        IpmiSettings { endpoint: Endpoint::parse("no-such-bmc.invalid", 623).expect("legal"), ..nobody.clone() };
    for settings in [&nobody, &nowhere] {
        let driver = driver(settings);
        let end = moment() + Duration::from_millis(700);
        let error = driver.power_state(end).await.expect_err("nobody answers");
        assert!(matches!(error, DeviceError::Silent(_)), "{error}");
        let error = driver.power_off(end, end).await.expect_err("nobody answers");
        assert!(matches!(error, OrderError::TooLate | OrderError::NotSent(DeviceError::Silent(_))), "{error}");
    }
    let unreadable = IpmiSettings { password: SecretSource::File(dir.path().join("none")), ..nobody };
    let error = driver(&unreadable).power_off(moment() + ENOUGH, moment() + ENOUGH).await.expect_err("no password");
    assert!(matches!(error, OrderError::NotSent(DeviceError::Unusable(_))), "{error}");
    let error = driver(&unreadable).power_state(moment() + ENOUGH).await.expect_err("no password");
    assert!(matches!(error, DeviceError::Unusable(_)) && error.to_string().contains("none cannot be read"), "{error}");
}
