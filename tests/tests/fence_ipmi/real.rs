//! The whole driver, with its socket and its clock.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rekindle_agent::bmc::ipmi::{CipherSuite, IpmiTarget, NativeIpmi};
use rekindle_agent::clock::moment;
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState};
use rekindle_tests::fake::bmc::{Behaviour, Bmc, BmcRecordKind, BmcSettings, GuidByteOrder, Power, PowerHook};
use tempfile::TempDir;
use uuid::Uuid;

const USER: &str = "admin";
const PASSWORD: &str = "Bmc-Pa55w0rd";
const KG: &str = "a-key-of-the-BMC";
const GUID: [u8; 16] = *b"\xa1\x23\x45\x67\x89\xab\xcd\xef\xa1\x23\x45\x67\x89\xab\xcd\xef";
/// A deadline no honest run comes near; it only ends a run that hangs.
const ENOUGH: Duration = Duration::from_secs(30);
/// `ipmi_sim` answers within milliseconds, once it listens.
const SOON: Duration = Duration::from_secs(2);

fn target(address: SocketAddr, dir: &Path, suites: &[CipherSuite]) -> IpmiTarget {
    IpmiTarget {
        address: address.ip().to_string(),
        port: address.port(),
        username: USER.to_owned(),
        password_file: written(dir, "password", PASSWORD),
        kg_file: None,
        suites: suites.to_vec(),
    }
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    let mut file = std::fs::File::create(&path).expect("created");
    file.set_permissions(PermissionsExt::from_mode(0o700)).expect("mode");
    file.write_all(text.as_bytes()).expect("written");
    path
}

/// OpenIPMI's simulator (package openipmi): cipher suite 3 only. Its machine's power is the file `power`.
struct Sim {
    child: Child,
    dir: TempDir,
    address: SocketAddr,
}

impl Sim {
    fn start(address: Ipv4Addr, kg: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let port = UdpSocket::bind((address, 0)).expect("socket").local_addr().expect("address").port();
        written(dir.path(), "power", "1");
        let control = written(dir.path(), "control", &CONTROL.replace("DIR", dir.path().to_str().expect("UTF-8")));
        let lan = LAN
            .replace("ADDRESS", &format!("{address} {port}"))
            .replace("CONTROL", control.to_str().expect("UTF-8"))
            .replace("PASSWORD", PASSWORD)
            .replace("KG", &kg.map(|kg| format!("bmc_key \"{kg}\"")).unwrap_or_default());
        written(dir.path(), "lan.conf", &lan);
        written(dir.path(), "emu", EMU);
        std::fs::create_dir(dir.path().join("state")).expect("state");
        let child = Command::new("ipmi_sim")
            .current_dir(dir.path())
            .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ipmi_sim: install the package openipmi");
        Self { child, dir, address: SocketAddr::from((address, port)) }
    }

    fn target(&self) -> IpmiTarget {
        target(self.address, self.dir.path(), &[CipherSuite::Sha1])
    }

    fn power(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("power")).expect("power").trim().to_owned()
    }

    /// Waits until it answers.
    async fn ready(self) -> Self {
        let began = moment();
        loop {
            let driver = NativeIpmi::new(IpmiTarget { kg_file: self.kg(), ..self.target() });
            match driver.open_ahead(moment() + SOON).await {
                Ok(()) => return self,
                Err(error) => assert!(moment().since(began) < ENOUGH, "ipmi_sim does not answer: {error}"),
            }
        }
    }

    fn kg(&self) -> Option<PathBuf> {
        let lan = std::fs::read_to_string(self.dir.path().join("lan.conf")).expect("lan.conf");
        lan.contains("bmc_key").then(|| written(self.dir.path(), "kg", KG))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LAN: &str = r#"name "bmc"
set_working_mc 0x20
  startlan 1
    addr ADDRESS
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
    KG
  endlan
  chassis_control "CONTROL"
  user 1 true  ""      "test" user     10       none md2 md5 straight
  user 2 true  "admin" "PASSWORD"   admin    10       none md2 md5 straight
"#;

const EMU: &str = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";

/// The simulator calls it with an MC address, a verb, and names (and values).
const CONTROL: &str = r#"#!/bin/sh
case "$1" in get|set|check) ;; *) shift ;; esac
verb=$1; shift
if [ "$verb" = get ]; then
  for name; do [ "$name" = power ] && echo "power:$(cat DIR/power)" || echo "$name:0"; done
elif [ "$verb" = set ]; then
  while [ $# -gt 0 ]; do [ "$1" = power ] && echo "$2" > DIR/power; shift 2 || break; done
fi
exit 0
"#;

#[tokio::test]
async fn openipmis_bmc_is_read_switched_off_and_on() {
    for (kg, address) in [(None, Ipv4Addr::new(127, 0, 77, 3)), (Some(KG), Ipv4Addr::new(127, 0, 77, 4))] {
        let sim = Sim::start(address, kg).ready().await;
        let driver = NativeIpmi::new(IpmiTarget { kg_file: sim.kg(), ..sim.target() });
        let end = moment() + ENOUGH;
        assert_eq!(driver.guid(end).await, Ok(DeviceGuid(GUID)));
        assert_eq!(driver.power_state(end).await, Ok(PowerState::On));
        let id = driver.device_id(end).await.expect("told");
        assert_eq!((id.ipmi, id.manufacturer), ((2, 0), 0x1291));
        assert_eq!(driver.power_off(moment(), end).await, Err(DeviceError::TooLate));
        assert_eq!(sim.power(), "1");
        driver.power_off(end, end).await.expect("accepted");
        assert_eq!((sim.power().as_str(), driver.power_state(end).await), ("0", Ok(PowerState::Off)));
        driver.power_off(end, end).await.expect("off is off");
        driver.power_on(end, end).await.expect("accepted");
        assert_eq!((sim.power().as_str(), driver.power_state(end).await), ("1", Ok(PowerState::On)));
    }
}

#[tokio::test]
async fn openipmis_bmc_refuses_what_it_should_and_by_name() {
    let sim = Sim::start(Ipv4Addr::new(127, 0, 77, 5), Some(KG)).ready().await;
    let good = IpmiTarget { kg_file: sim.kg(), ..sim.target() };
    let dir = sim.dir.path();
    for (target, says) in [
        (IpmiTarget { password_file: written(dir, "other", "another"), ..good.clone() }, "password is not"),
        (IpmiTarget { username: "nobody".to_owned(), ..good.clone() }, "RAKP message 1"),
        (IpmiTarget { kg_file: None, ..good.clone() }, "K_g is not"),
        (IpmiTarget { suites: vec![CipherSuite::Sha256], ..good.clone() }, "cipher suite 17"),
    ] {
        let error = NativeIpmi::new(target).power_state(moment() + ENOUGH).await.expect_err("refused");
        assert!(matches!(error, DeviceError::Credentials(_)) && error.to_string().contains(says), "{says:?}: {error}");
        assert!(!error.to_string().contains("another"), "{error}");
    }
    let both = IpmiTarget { suites: CipherSuite::PREFERENCE.to_vec(), ..good };
    assert_eq!(NativeIpmi::new(both).power_state(moment() + ENOUGH).await, Ok(PowerState::On), "17 refused, then 3");
}

/// The simulator is killed and started again: the session is gone with it.
#[tokio::test]
async fn a_session_that_the_bmc_forgot_is_opened_anew() {
    let mut sim = Sim::start(Ipv4Addr::new(127, 0, 77, 6), None).ready().await;
    let driver = NativeIpmi::new(sim.target());
    assert_eq!(driver.power_state(moment() + ENOUGH).await, Ok(PowerState::On));
    sim.child.kill().expect("killed");
    sim.child.wait().expect("reaped");
    let error = driver.power_state(moment() + SOON / 2).await.expect_err("nobody there");
    assert!(matches!(error, DeviceError::Silent(_)), "{error}");
    sim.child = Command::new("ipmi_sim")
        .current_dir(sim.dir.path())
        .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started again");
    assert_eq!(driver.power_state(moment() + ENOUGH).await, Ok(PowerState::On));
}

async fn ours(number: u8) -> Bmc {
    let hook: PowerHook = Arc::new(|_| Ok(()));
    let settings = BmcSettings {
        username: USER.to_owned(),
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
    for suite in CipherSuite::PREFERENCE {
        let bmc = ours(1).await;
        let driver = NativeIpmi::new(target(bmc.address(), dir.path(), &[suite]));
        let end = moment() + ENOUGH;
        driver.open_ahead(end).await.expect("opens");
        assert_eq!(bmc.record().iter().map(|line| line.kind).collect::<Vec<_>>(), [BmcRecordKind::SessionOpened]);
        assert_eq!(driver.guid(end).await, Ok(DeviceGuid(GUID)));
        driver.power_off(end, end).await.expect("accepted");
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
    let driver = NativeIpmi::new(target(bmc.address(), dir.path(), &[CipherSuite::Sha256]));
    let end = moment() + ENOUGH;
    for polls in 0..30 {
        let mut call = Box::pin(driver.power_state(end));
        for _ in 0..polls % 10 {
            let _ = futures::poll!(&mut call);
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
            let driver = NativeIpmi::new(target(bmc.address(), dir.path(), &[CipherSuite::Sha256]));
            tokio::spawn(async move {
                driver.power_off(end, end).await?;
                let first = driver.power_state(end).await?;
                Ok::<_, DeviceError>((first, driver.power_state(end).await?))
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
    let nobody = target(SocketAddr::from((Ipv4Addr::new(127, 0, 77, 9), 1)), dir.path(), &[CipherSuite::Sha256]);
    let nowhere = IpmiTarget { address: "no-such-bmc.invalid".to_owned(), ..nobody.clone() };
    for target in [nobody.clone(), nowhere] {
        let driver = NativeIpmi::new(target);
        let end = moment() + Duration::from_millis(700);
        let error = driver.power_state(end).await.expect_err("nobody answers");
        assert!(matches!(error, DeviceError::Silent(_)), "{error}");
        let error = driver.power_off(end, end).await.expect_err("nobody answers");
        assert!(matches!(error, DeviceError::TooLate | DeviceError::Silent(_)), "{error}");
    }
    let unreadable = IpmiTarget { password_file: dir.path().join("none"), ..nobody };
    let error = NativeIpmi::new(unreadable).power_state(moment() + ENOUGH).await.expect_err("no password");
    assert!(matches!(error, DeviceError::Unusable(_)) && error.to_string().contains("none cannot be read"), "{error}");
}
