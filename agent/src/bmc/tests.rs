//! Against OpenIPMI's `ipmi_sim` (package openipmi): a BMC on a socket, cipher suite 3.

use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rekindle_proto::fact::{DeviceGuid, PowerState};
use tempfile::TempDir;

use super::*;

const PASSWORD: &str = "Bmc-Pa55w0rd";
const GUID: [u8; 16] = *b"\xa1\x23\x45\x67\x89\xab\xcd\xef\xa1\x23\x45\x67\x89\xab\xcd\xef";
const ENOUGH: Duration = Duration::from_secs(20);

/// A simulated BMC. Its machine's power is the file `power`; a file `stuck` makes it accept commands and do nothing,
/// a file `slow` makes it think for a minute first.
struct Sim {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Sim {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let port = UdpSocket::bind("127.0.77.1:0").expect("socket").local_addr().expect("address").port();
        let control = dir.path().join("control");
        write(&control, &CONTROL.replace("DIR", dir.path().to_str().expect("UTF-8")), 0o755);
        write(&dir.path().join("power"), "1", 0o600);
        write(&dir.path().join("password"), &format!("{PASSWORD}\n"), 0o600);
        let lan = LAN.replace("PORT", &port.to_string()).replace("CONTROL", control.to_str().expect("UTF-8"));
        write(&dir.path().join("lan.conf"), &lan.replace("PASSWORD", PASSWORD), 0o600);
        write(&dir.path().join("emu"), EMU, 0o600);
        std::fs::create_dir(dir.path().join("state")).expect("state");
        let child = Command::new("ipmi_sim")
            .current_dir(dir.path())
            .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ipmi_sim: install the package openipmi");
        Self { child, dir, port }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn power(&self) -> String {
        std::fs::read_to_string(self.file("power")).expect("power")
    }

    fn offs(&self) -> usize {
        std::fs::read_to_string(self.file("calls"))
            .unwrap_or_default()
            .lines()
            .filter(|call| call.contains("set power 0"))
            .count()
    }

    fn bmc(&self) -> (Bmc, HostName, DeviceName) {
        open(&format!("127.0.77.1:{}", self.port), &self.file("password"))
    }

    /// Waits until it answers.
    async fn ready(&self) -> (Bmc, HostName, DeviceName) {
        let (bmc, host, device) = self.bmc();
        let started = Instant::now();
        loop {
            let reading = bmc.read(&host, &device, false, Duration::from_secs(5)).await;
            if reading.power.is_ok() {
                return (bmc, host, device);
            }
            assert!(started.elapsed() < ENOUGH, "ipmi_sim does not answer: {reading:?}");
        }
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
    addr 127.0.77.1 PORT
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "CONTROL"
  user 1 true  ""      "test" user     10       none md2 md5 straight
  user 2 true  "admin" "PASSWORD"   admin    10       none md2 md5 straight
"#;

const EMU: &str = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";

/// The simulator calls it with an MC address, a verb, and names (and values).
const CONTROL: &str = r#"#!/bin/sh
echo "$*" >> DIR/calls
case "$1" in get|set|check) ;; *) shift ;; esac
verb=$1; shift
if [ "$verb" = get ]; then
  for name; do [ "$name" = power ] && echo "power:$(cat DIR/power)" || echo "$name:0"; done
elif [ "$verb" = set ]; then
  [ -e DIR/slow ] && sleep 60
  [ -e DIR/stuck ] && exit 0
  while [ $# -gt 0 ]; do [ "$1" = power ] && echo "$2" > DIR/power; shift 2 || break; done
fi
exit 0
"#;

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

fn access(address: &str, password_file: &Path) -> DeviceAccess {
    DeviceAccess {
        rule: DeviceRule {
            hosts: "cmp-*".to_owned(),
            level: 1,
            driver: IPMI_TOOL.to_owned(),
            address: address.to_owned(),
        },
        username: "admin".to_owned(),
        password_file: password_file.to_owned(),
        cipher_suite: 3,
    }
}

fn open(address: &str, password_file: &Path) -> (Bmc, HostName, DeviceName) {
    let access = access(address, password_file);
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
    let (bmc, host, device) = sim.ready().await;
    let reading = bmc.read(&host, &device, true, ENOUGH).await;
    assert_eq!(reading.power, Ok(PowerState::On));
    assert_eq!(reading.guid, Some(Ok(DeviceGuid(GUID))));
    bmc.send_off(&host, &device, times(ENOUGH)).await.expect("accepted");
    assert_eq!(sim.power().trim(), "0");
    assert_eq!(bmc.read(&host, &device, false, ENOUGH).await.power, Ok(PowerState::Off));
    assert_eq!(sim.offs(), 1);
    bmc.send_on(&host, &device, times(ENOUGH)).await.expect("accepted");
    assert_eq!(bmc.read(&host, &device, false, ENOUGH).await.power, Ok(PowerState::On));
}

#[tokio::test]
async fn a_device_that_says_yes_and_does_nothing_is_read_as_on() {
    let sim = Sim::start();
    let (bmc, host, device) = sim.ready().await;
    write(&sim.file("stuck"), "", 0o600);
    bmc.send_off(&host, &device, times(ENOUGH)).await.expect("accepted");
    assert_eq!(bmc.read(&host, &device, false, ENOUGH).await.power, Ok(PowerState::On));
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_suite_are_told_from_silence() {
    let sim = Sim::start();
    let (_, host, device) = sim.ready().await;
    write(&sim.file("wrong"), "another-one", 0o600);
    let (bmc, ..) = open(&format!("127.0.77.1:{}", sim.port), &sim.file("wrong"));
    let error = bmc.read(&host, &device, true, ENOUGH).await.power.expect_err("refused");
    assert!(matches!(error, DeviceError::Credentials(_)), "{error}");
    assert!(!error.to_string().contains("another-one"), "{error}");
    let error = bmc.send_off(&host, &device, times(ENOUGH)).await.expect_err("refused");
    assert!(matches!(error, DeviceError::Credentials(_)), "{error}");
    let suite = DeviceAccess { cipher_suite: 17, ..access(&format!("127.0.77.1:{}", sim.port), &sim.file("password")) };
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
    let (bmc, host, device) = sim.ready().await;
    let now = clock::moment();
    let late = Times { begin_before: now, not_after: now + ENOUGH, within: ENOUGH };
    assert_eq!(bmc.send_off(&host, &device, late).await, Err(DeviceError::TooLate));
    let over = Times { begin_before: now + ENOUGH, not_after: now, within: ENOUGH };
    assert_eq!(bmc.send_off(&host, &device, over).await, Err(DeviceError::TooLate));
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
    let off = tokio::spawn(async move { bmc.send_off(&host, &device, order).await });
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
    assert!(matches!(error, DeviceError::Silent(_)), "{error}");
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
    let error = bmc.send_off(&host, &device, order).await.expect_err("nobody answers");
    assert!(matches!(error, DeviceError::Silent(_)), "{error}");
    let mut gave_way = 0;
    for read in reads {
        gave_way += usize::from(matches!(read.await.expect("joined").power, Err(DeviceError::Unusable(_))));
    }
    assert!(gave_way >= 1, "the reading under way was not given up");
}

#[test]
fn refusals_name_the_thing_the_value_and_the_rule() {
    let dir = tempfile::tempdir().expect("dir");
    let good = dir.path().join("good");
    write(&good, PASSWORD, 0o600);
    let open_to_all = dir.path().join("open");
    write(&open_to_all, PASSWORD, 0o640);
    let long = dir.path().join("long");
    write(&long, "123456789012345678901", 0o400);
    let empty = dir.path().join("empty");
    write(&empty, "\n", 0o600);
    let base = access("10.0.0.1", &good);
    let refusal = |access: DeviceAccess| Bmc::open(vec![access]).expect_err("refused").to_string();
    let rule = |change: fn(&mut DeviceRule)| {
        let mut access = base.clone();
        change(&mut access.rule);
        access
    };
    for (access, says) in [
        (rule(|rule| rule.driver = "redfish".into()), "driver = \"redfish\" is not known"),
        (rule(|rule| rule.address = "-f/etc/shadow".into()), "address = \"-f/etc/shadow\" must be host"),
        (rule(|rule| rule.address = "fe80::1".into()), "must have a port from 1 to 65535"),
        (rule(|rule| rule.address = "h:0".into()), "must have a port"),
        (DeviceAccess { username: "-v".into(), ..base.clone() }, "username = \"-v\""),
        (DeviceAccess { cipher_suite: 0, ..base.clone() }, "cipher_suite = 0 must be 17"),
        (DeviceAccess { password_file: open_to_all, ..base.clone() }, "has mode 0640"),
        (DeviceAccess { password_file: long, ..base.clone() }, "it has 21"),
        (DeviceAccess { password_file: empty, ..base.clone() }, "it has 0"),
        (DeviceAccess { password_file: dir.path().join("none"), ..base.clone() }, "cannot be read"),
    ] {
        let said = refusal(access);
        assert!(said.contains(says) && said.contains("cmp-*") && !said.contains(PASSWORD), "{says:?} not in {said:?}");
    }
}

#[test]
fn addresses_have_hosts_and_ports() {
    for (text, is) in [
        ("cmp-1-bmc", Ok(("cmp-1-bmc".to_owned(), 623))),
        ("10.0.0.7:6230", Ok(("10.0.0.7".to_owned(), 6230))),
        ("[fe80::1]:624", Ok(("fe80::1".to_owned(), 624))),
        ("[fe80::1]", Ok(("fe80::1".to_owned(), 623))),
    ] {
        assert_eq!(ipmitool::parse_address(text), is, "{text}");
    }
    for text in ["", ":623", "[x]:1", "[::1", "[::1]1", "a b", "a:b", "a:70000", "-x"] {
        assert!(ipmitool::parse_address(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn only_exact_words_are_a_power_state() {
    let dir = tempfile::tempdir().expect("dir");
    let tool = dir.path().join("tool");
    let run = |says: &'static str| {
        write(&tool, &format!("#!/bin/sh\nprintf '{says}'\n"), 0o755);
        let tool = tool.clone();
        async move { process::run(&tool, &[], ENOUGH).await.expect("runs") }
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
    assert!(ipmitool::accepted(&up, ipmitool::Ask::Off).is_err());
    assert!(ipmitool::accepted(&up, ipmitool::Ask::On).is_ok());
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
    let error = process::run(&tool, &[], Duration::from_millis(500)).await.expect_err("never ends");
    assert!(matches!(error, DeviceError::Silent(_)), "{error}");
    gone_or_there(&mark, false).await;
    write(&tool, "#!/bin/sh\nhead -c 1000000 /dev/zero | tr '\\0' x\necho \"$HOME$USER$LC_ALL\" >&2\n", 0o755);
    let output = process::run(&tool, &[], ENOUGH).await.expect("runs");
    assert!(output.status.success() && output.stdout.len() <= 8 * 1024);
    assert_eq!(output.stderr.trim(), "C", "the environment is cleared");
}
