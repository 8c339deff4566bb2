//! The lanes, and the driver `ipmi-tool`, against a simulated BMC.

use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use rekindle_coordinator::policy::Unverified;
use rekindle_proto::fact::{DeviceGuid, PowerState};
use rekindle_proto::id::SystemUuid;
use tempfile::TempDir;
use uuid::Uuid;

use super::simulator::{GUID, PASSWORD, Sim, write};
use super::*;

const ENOUGH: Duration = Duration::from_secs(20);

fn bmc(sim: &Sim) -> (Bmc, HostName, DeviceName) {
    open(&format!("127.0.77.1:{}", sim.port), &sim.file("password"))
}

/// One that answers.
async fn ready(sim: &Sim) -> (Bmc, HostName, DeviceName) {
    let (bmc, host, device) = bmc(sim);
    let started = Instant::now();
    loop {
        let reading = bmc.read(&host, &device, false, Duration::from_secs(5)).await;
        if reading.power.is_ok() {
            return (bmc, host, device);
        }
        assert!(started.elapsed() < ENOUGH, "ipmi_sim does not answer: {reading:?}");
    }
}

fn access(address: &str, password_file: &Path, suite: u8) -> DeviceAccess {
    DeviceAccess {
        rule: DeviceRule {
            hosts: "cmp-*".to_owned(),
            level: 1,
            driver: "ipmi-tool".to_owned(),
            address: address.to_owned(),
            unverified: Unverified::Refuse,
        },
        settings: DeviceSettings::IpmiTool(IpmiToolSettings {
            endpoint: Endpoint::parse(address, 623).expect("an address"),
            username: "admin".to_owned(),
            password: SecretSource::File(password_file.to_owned()),
            cipher_suite: suite,
        }),
    }
}

fn open(address: &str, password_file: &Path) -> (Bmc, HostName, DeviceName) {
    let access = access(address, password_file, 3);
    let host = HostName::new("cmp-1").expect("legal");
    let device = access.rule.device(&host);
    (Bmc::open(vec![access]).expect("opens"), host, device)
}

fn times(within: Duration) -> Times {
    let now = clock::moment();
    Times { begin_before: now + Duration::from_secs(1), not_after: now + Duration::from_secs(60), within }
}

/// Every process whose command line has this word, with that line.
fn processes(word: &str) -> Vec<(i32, String)> {
    std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(word).then_some((pid, line))
        })
        .collect()
}

#[tokio::test]
async fn power_is_read_cut_and_read_again() {
    let sim = Sim::start();
    let (bmc, host, device) = ready(&sim).await;
    let reading = bmc.read(&host, &device, true, ENOUGH).await;
    assert_eq!(reading.power, Ok(PowerState::On));
    assert_eq!(reading.guid, Some(Ok(DeviceGuid(GUID))));
    bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), times(ENOUGH)).await.expect("accepted");
    assert_eq!(sim.power().trim(), "0");
    assert_eq!(bmc.read(&host, &device, false, ENOUGH).await.power, Ok(PowerState::Off));
    assert_eq!(sim.offs(), 1);
    bmc.send_on(&host, &device, &DeviceIdentity::Untold, times(ENOUGH)).await.expect("accepted");
    assert_eq!(bmc.read(&host, &device, false, ENOUGH).await.power, Ok(PowerState::On));
}

/// Cables are crossed after the device was bound: right before an order it is asked whose it is.
#[tokio::test]
async fn a_device_that_is_not_the_one_that_is_meant_is_ordered_nothing() {
    let sim = Sim::start();
    let (bmc, host, device) = ready(&sim).await;
    let own = DeviceIdentity::Told(DeviceGuid(GUID));
    for other in [DeviceIdentity::Told(DeviceGuid([7; 16])), DeviceIdentity::Machine(SystemUuid(Uuid::from_u128(7)))] {
        let error = bmc.send_off(&host, &device, (None, &other), times(ENOUGH)).await.expect_err("another's");
        assert!(matches!(error, OrderError::NotSent(DeviceError::Foreign(_))), "{error}");
        let error = bmc.send_on(&host, &device, &other, times(ENOUGH)).await.expect_err("another's");
        assert!(matches!(error, OrderError::NotSent(DeviceError::Foreign(_))), "{error}");
    }
    assert_eq!((sim.offs(), sim.power().as_str()), (0, "1"));
    bmc.send_off(&host, &device, (None, &own), times(ENOUGH)).await.expect("accepted");
    assert_eq!(sim.offs(), 1);
}

#[tokio::test]
async fn a_device_that_says_yes_and_does_nothing_is_read_as_on() {
    let sim = Sim::start();
    let (bmc, host, device) = ready(&sim).await;
    write(&sim.file("stuck"), "", 0o600);
    bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), times(ENOUGH)).await.expect("accepted");
    assert_eq!(bmc.read(&host, &device, false, ENOUGH).await.power, Ok(PowerState::On));
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_suite_are_told_from_silence() {
    let sim = Sim::start();
    let (_, host, device) = ready(&sim).await;
    write(&sim.file("wrong"), "another-one", 0o600);
    let (bmc, ..) = open(&format!("127.0.77.1:{}", sim.port), &sim.file("wrong"));
    let error = bmc.read(&host, &device, true, ENOUGH).await.power.expect_err("refused");
    assert!(matches!(error, DeviceError::Credentials(_)), "{error}");
    assert!(!error.to_string().contains("another-one"), "{error}");
    let error =
        bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), times(ENOUGH)).await.expect_err("refused");
    // ipmitool does not tell whether it was before or after the order.
    assert!(matches!(error, OrderError::MaybeSent(DeviceError::Credentials(_))), "{error}");
    let mut broken = access(&format!("127.0.77.1:{}", sim.port), &sim.file("password"), 3);
    let DeviceSettings::IpmiTool(settings) = &mut broken.settings else { panic!("{broken:?}") };
    settings.password = SecretSource::File(sim.file("{host}"));
    let error = Bmc::open(vec![broken])
        .expect("opens")
        .send_off(&host, &device, (None, &DeviceIdentity::Untold), times(ENOUGH))
        .await;
    assert!(matches!(&error, Err(OrderError::NotSent(DeviceError::Unusable(_)))), "no password file: {error:?}");
    let suite = access(&format!("127.0.77.1:{}", sim.port), &sim.file("password"), 17);
    let bmc = Bmc::open(vec![suite]).expect("opens");
    let error = bmc.read(&host, &device, false, ENOUGH).await.power.expect_err("refused");
    assert!(matches!(error, DeviceError::Credentials(_)), "{error}");
    assert_eq!(sim.power(), "1");
}

#[tokio::test]
async fn nothing_listening_is_silence_and_bounded() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("password");
    write(&file, PASSWORD, 0o600);
    let (bmc, host, device) = open("127.0.77.9:1", &file);
    let within = Duration::from_secs(2);
    let started = Instant::now();
    let reading = bmc.read(&host, &device, true, within).await;
    assert!(matches!(reading.power, Err(DeviceError::Silent(_))), "{reading:?}");
    assert!(matches!(reading.guid, Some(Err(DeviceError::Silent(_)))), "{reading:?}");
    assert!(started.elapsed() < within + ENOUGH);
}

#[tokio::test]
async fn a_late_order_starts_nothing() {
    let sim = Sim::start();
    let (bmc, host, device) = ready(&sim).await;
    let now = clock::moment();
    let late = Times { begin_before: now, not_after: now + ENOUGH, within: ENOUGH };
    assert_eq!(bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), late).await, Err(OrderError::TooLate));
    let over = Times { begin_before: now + ENOUGH, not_after: now, within: ENOUGH };
    assert_eq!(bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), over).await, Err(OrderError::TooLate));
    assert_eq!((sim.offs(), sim.power().as_str()), (0, "1"));
}

/// A device that never answers: a socket nobody reads. `ipmitool` then tries for several seconds.
fn mute() -> (UdpSocket, TempDir, String) {
    let socket = UdpSocket::bind("127.0.77.2:0").expect("socket");
    let address = format!("127.0.77.2:{}", socket.local_addr().expect("address").port());
    let dir = tempfile::tempdir().expect("dir");
    write(&dir.path().join("password"), PASSWORD, 0o600);
    (socket, dir, address)
}

#[tokio::test]
async fn at_its_deadline_a_driver_is_killed_with_its_children_and_never_shows_the_password() {
    let (_socket, dir, address) = mute();
    let file = dir.path().join("password");
    let (bmc, host, device) = open(&address, &file);
    let mark = file.to_str().expect("UTF-8").to_owned();
    let now = clock::moment();
    let order = Times { begin_before: now + ENOUGH, not_after: now + Duration::from_secs(2), within: ENOUGH };
    let off = tokio::spawn(async move { bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), order).await });
    let started = Instant::now();
    let seen = loop {
        let seen = processes(&mark);
        if !seen.is_empty() {
            break seen;
        }
        assert!(started.elapsed() < ENOUGH, "the driver never ran");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(seen.iter().all(|(_, line)| line.contains("chassis power off")), "{seen:?}");
    assert_eq!(processes(PASSWORD), [], "the password is in a command line");
    let error = off.await.expect("joined").expect_err("nobody answered");
    assert!(matches!(error, OrderError::MaybeSent(DeviceError::Silent(_))), "{error}");
    assert_eq!(processes(&mark), [], "the driver outlived its order");
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_driver_along() {
    let (_socket, dir, address) = mute();
    let file = dir.path().join("password");
    let (bmc, host, device) = open(&address, &file);
    let mark = file.to_str().expect("UTF-8").to_owned();
    let read = tokio::spawn(async move { bmc.read(&host, &device, false, ENOUGH).await });
    gone_or_there(&mark, true).await;
    read.abort();
    gone_or_there(&mark, false).await;
}

async fn gone_or_there(mark: &str, there: bool) {
    let started = Instant::now();
    while processes(mark).is_empty() == there {
        assert!(started.elapsed() < ENOUGH, "driver there: {}", !there);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_power_off_goes_before_readings() {
    let (_socket, dir, address) = mute();
    let file = dir.path().join("password");
    let (bmc, host, device) = open(&address, &file);
    let bmc = Arc::new(bmc);
    let mark = file.to_str().expect("UTF-8").to_owned();
    let reads: Vec<_> = (0..3)
        .map(|_| {
            let (bmc, host, device) = (Arc::clone(&bmc), host.clone(), device.clone());
            tokio::spawn(async move { bmc.read(&host, &device, false, ENOUGH * 2).await })
        })
        .collect();
    gone_or_there(&mark, true).await;
    assert_eq!(processes(&mark).len(), 1, "one command at a time");
    let now = clock::moment();
    let order = Times { begin_before: now + ENOUGH, not_after: now + ENOUGH, within: Duration::from_millis(300) };
    let error = bmc.send_off(&host, &device, (None, &DeviceIdentity::Untold), order).await.expect_err("nobody answers");
    assert!(matches!(error, OrderError::MaybeSent(DeviceError::Silent(_))), "{error}");
    let mut gave_way = 0;
    for read in reads {
        gave_way += usize::from(matches!(read.await.expect("joined").power, Err(DeviceError::Unusable(_))));
    }
    assert!(gave_way >= 1, "the reading under way was not given up");
}

#[test]
fn what_cannot_be_used_is_refused_before_it_is_needed() {
    let dir = tempfile::tempdir().expect("dir");
    let good = dir.path().join("good");
    write(&good, PASSWORD, 0o600);
    let open_to_all = dir.path().join("open");
    write(&open_to_all, PASSWORD, 0o640);
    let long = dir.path().join("long");
    write(&long, "123456789012345678901", 0o400);
    Bmc::open(vec![access("10.0.0.1", &good, 17)]).expect("taken");
    // Another host's own secret is looked for when that host is fenced.
    Bmc::open(vec![access("10.0.0.1", &dir.path().join("{host}"), 17)]).expect("taken");
    let mut exact = access("10.0.0.1", &dir.path().join("{host}"), 17);
    exact.rule.hosts = "cmp-1".to_owned();
    for (access, says) in [
        (access("10.0.0.1", &open_to_all, 17), "has mode 0640"),
        (access("10.0.0.1", &long, 17), "it has 21"),
        (access("10.0.0.1", &dir.path().join("none"), 17), "cannot be read"),
        (exact, "/cmp-1 cannot be read"),
    ] {
        let error = Bmc::open(vec![access]).expect_err(says);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let said = format!("{error}: {cause}");
        assert!(said.contains(says) && said.contains("cmp-") && !said.contains(PASSWORD), "{says:?} not in {said:?}");
    }
}

#[tokio::test]
async fn a_device_is_one_hosts() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("password");
    write(&file, PASSWORD, 0o600);
    // Refused where the configuration is read; here it slipped through.
    let (bmc, host, device) = open("127.0.77.9:1", &file);
    let within = Duration::from_millis(1);
    bmc.read(&host, &device, false, within).await.power.expect_err("nobody answers");
    let other = HostName::new("cmp-2").expect("legal");
    let error = bmc.read(&other, &device, false, within).await.power.expect_err("another's").to_string();
    assert!(error.contains("is the device of cmp-1, not of cmp-2"), "{error}");
    let error =
        bmc.send_off(&other, &device, (None, &DeviceIdentity::Untold), times(ENOUGH)).await.expect_err("another's");
    assert!(matches!(error, OrderError::NotSent(DeviceError::Unusable(_))), "{error}");
}

#[tokio::test]
async fn only_exact_words_are_a_power_state() {
    let dir = tempfile::tempdir().expect("dir");
    let tool = dir.path().join("tool");
    let run = |says: &'static str| {
        write(&tool, &format!("#!/bin/sh\nprintf '{says}'\n"), 0o755);
        let tool = tool.clone();
        async move { process::run_fed(&tool, &[], process::Feed::default(), ENOUGH).await.expect("runs") }
    };
    assert_eq!(ipmitool::power_state(&run("Chassis Power is off\\n").await), Ok(PowerState::Off));
    for says in [
        "",
        "off",
        "Chassis Power is offline",
        "Chassis Power is off\\nChassis Power is on",
        "Chassis Power is Off",
        "x Chassis Power is off",
        "Chassis Power Control: Down/Off",
    ] {
        let state = ipmitool::power_state(&run(says).await);
        assert!(matches!(state, Err(DeviceError::Unusable(_))), "{says:?}: {state:?}");
    }
    let up = run("Chassis Power Control: Up/On\\n").await;
    assert!(ipmitool::accepted(&up, ipmitool::OFF_PROMISED).is_err());
    assert!(ipmitool::accepted(&up, ipmitool::ON_PROMISED).is_ok());
    assert!(ipmitool::guid(&run(" 01 02 03").await).is_err());
}

#[tokio::test]
async fn what_a_driver_forks_dies_with_it_and_its_chatter_is_bounded() {
    let dir = tempfile::tempdir().expect("dir");
    let tool = dir.path().join("tool");
    let sleeper = dir.path().join("sleeper-of-this-test");
    symlink("/bin/sleep", &sleeper).expect("link");
    let mark = sleeper.to_str().expect("UTF-8").to_owned();
    write(&tool, &format!("#!/bin/sh\n{mark} 600 &\nwait\n"), 0o755);
    let error = process::run_fed(&tool, &[], process::Feed::default(), Duration::from_millis(500))
        .await
        .expect_err("never ends");
    assert!(matches!(error, DeviceError::Silent(_)), "{error}");
    gone_or_there(&mark, false).await;
    write(&tool, "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\necho \"$HOME$USER$LC_ALL\" >&2\n", 0o755);
    let output = process::run_fed(&tool, &[], process::Feed::default(), ENOUGH).await.expect("runs");
    assert!(output.status.success() && output.stdout.len() <= 8 * 1024);
    assert_eq!(output.stderr.trim(), "C", "the environment is cleared");
}
