//! Real fence agents (package fence-agents): fence_ipmilan against a simulated BMC, and fence_dummy.

use std::path::Path;
use std::time::Instant;

use rekindle_coordinator::policy::Unverified;
use rekindle_proto::fact::PowerState;
use tempfile::TempDir;

use super::simulator::{PASSWORD, Sim, write};
use super::*;

/// A deadline no honest run comes near.
const ENOUGH: Duration = Duration::from_secs(30);

fn access(name: &str, options: &[(&str, &str)], password: Option<&Path>) -> DeviceAccess {
    let secret = password.map(|file| ("password".to_owned(), SecretSource::File(file.to_owned())));
    DeviceAccess {
        rule: DeviceRule {
            hosts: "cmp-*".to_owned(),
            level: 1,
            driver: format!("agent:{name}"),
            address: "{host}".to_owned(),
            unverified: Unverified::Refuse,
        },
        settings: DeviceSettings::Agent(AgentSettings {
            name: name.to_owned(),
            options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            secrets: secret.into_iter().collect(),
        }),
    }
}

struct Rig {
    bmc: Bmc,
    host: HostName,
    device: DeviceName,
}

impl Rig {
    fn new(access: DeviceAccess) -> Self {
        let host = HostName::new("cmp-1").expect("legal");
        let device = access.rule.device(&host);
        Self { bmc: Bmc::open(vec![access]).expect("opens"), host, device }
    }

    async fn power(&self) -> Result<PowerState, DeviceError> {
        self.bmc.read(&self.host, &self.device, false, ENOUGH).await.power
    }

    async fn off(&self, within: Duration) -> Result<(), OrderError> {
        self.bmc.send_off(&self.host, &self.device, (None, &DeviceIdentity::Untold), times(within)).await
    }

    async fn on(&self) -> Result<(), OrderError> {
        self.bmc.send_on(&self.host, &self.device, &DeviceIdentity::Untold, times(ENOUGH)).await
    }
}

fn times(within: Duration) -> Times {
    let now = clock::moment();
    Times { begin_before: now + ENOUGH, not_after: now + ENOUGH, within }
}

fn ipmilan(sim: &Sim, password: &str, change: &[(&'static str, &'static str)]) -> DeviceAccess {
    let port = sim.port.to_string();
    let usual = [("ip", "127.0.77.1"), ("ipport", port.as_str()), ("username", "admin"), ("power_wait", "0")];
    let mut options = usual.to_vec();
    options.extend([("lanplus", "1"), ("cipher", "3"), ("power_timeout", "3")]);
    options.extend(change);
    access("fence_ipmilan", &options, Some(&sim.file(password)))
}

/// Waits until the simulator answers.
async fn ready(sim: &Sim) -> Rig {
    let rig = Rig::new(ipmilan(sim, "password", &[]));
    let started = Instant::now();
    while let Err(error) = rig.power().await {
        assert!(started.elapsed() < ENOUGH, "fence_ipmilan (package fence-agents): {error}");
    }
    rig
}

#[tokio::test]
async fn fence_ipmilan_reads_and_switches() {
    let sim = Sim::start();
    let rig = ready(&sim).await;
    assert_eq!(rig.power().await, Ok(PowerState::On));
    rig.off(ENOUGH).await.expect("accepted");
    assert_eq!((sim.power().trim(), sim.offs()), ("0", 1));
    assert_eq!(rig.power().await, Ok(PowerState::Off));
    // It sends nothing to a machine that it finds off, and says so: that is no word to be taken, and the reads decide.
    let error = rig.off(ENOUGH).await.expect_err("off already").to_string();
    assert!(error.contains("sent it nothing"), "{error}");
    assert_eq!(sim.offs(), 1);
    rig.on().await.expect("accepted");
    assert_eq!((sim.power().trim(), rig.power().await), ("1", Ok(PowerState::On)));
    let guid = rig.bmc.read(&rig.host, &rig.device, true, ENOUGH).await.guid.expect("asked");
    assert!(matches!(guid, Err(DeviceError::Unusable(_))), "{guid:?}");
}

#[tokio::test]
async fn fence_ipmilan_fails_and_the_machine_is_never_called_off() {
    let sim = Sim::start();
    let rig = ready(&sim).await;
    // It says yes to everything and stays on.
    write(&sim.file("stuck"), "", 0o600);
    let error = rig.off(ENOUGH).await.expect_err("it never went off").to_string();
    assert!(error.contains("Timed out waiting to power OFF"), "{error}");
    assert_eq!(rig.power().await, Ok(PowerState::On));
    // A wrong password, which no word of the agent may show.
    write(&sim.file("wrong"), "another-one", 0o600);
    let wrong = Rig::new(ipmilan(&sim, "wrong", &[]));
    let errors = [
        wrong.power().await.map_err(|error| error.to_string()).map(|_| ()),
        wrong.off(ENOUGH).await.map_err(|error| error.to_string()),
    ];
    for error in errors {
        let error = error.expect_err("refused");
        assert!(!error.contains("another-one") && !error.contains(PASSWORD), "{error}");
    }
    // Arguments that it does not like: agents end with 1 or 2 then, and 2 alone is not off.
    let strange = Rig::new(ipmilan(&sim, "password", &[("ipport", "not-a-port")]));
    strange.power().await.expect_err("no such port");
    assert_eq!(sim.power().trim(), "1");
}

#[tokio::test]
async fn fence_ipmilan_is_killed_at_its_deadline() {
    let sim = Sim::start();
    let rig = ready(&sim).await;
    write(&sim.file("slow"), "", 0o600);
    let error = rig.off(Duration::from_secs(2)).await.expect_err("the BMC thinks for a minute");
    assert!(matches!(error, OrderError::MaybeSent(DeviceError::Silent(_))), "{error}");
    // It was given the port on its command line, as was the ipmitool that it started.
    let mark = format!("-p {}", sim.port);
    let left = || -> Vec<String> {
        let lines = std::fs::read_dir("/proc").expect("proc").flatten();
        let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(&mark)).collect()
    };
    let started = Instant::now();
    while !left().is_empty() {
        assert!(started.elapsed() < ENOUGH, "outlived its order: {:?}", left());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_fence_ipmilan_knows_is_checked_before_it_is_needed() {
    let sim = Sim::start();
    let inspect = async |change: &[(&'static str, &'static str)], without: &str| {
        let DeviceSettings::Agent(mut settings) = ipmilan(&sim, "password", change).settings else {
            panic!("an agent")
        };
        settings.options.remove(without);
        Bmc::inspect_agent(&settings).await
    };
    inspect(&[], "").await.expect("all is well");
    inspect(&[("ipaddr", "127.0.77.1")], "ip").await.expect("an old name is a name");
    for (change, without, says) in [
        (&[("lanpluss", "1")][..], "", "options.lanpluss is not an option"),
        (&[("privlvl", "root")], "", "one of: callback, user, operator, administrator"),
        (&[("lanplus", "perhaps")], "", "must be of type boolean"),
        (&[], "lanplus", "IPMI 1.5"),
    ] {
        let error = inspect(change, without).await.expect_err(says);
        assert!(error.contains(says), "{says:?} is not in {error:?}");
    }
    let DeviceSettings::Agent(strip) = access("fence_apc", &[("ipaddr", "pdu-1"), ("login", "apc")], None).settings
    else {
        panic!("an agent")
    };
    let error = Bmc::inspect_agent(&strip).await.expect_err("an outlet is not named");
    assert!(error.contains("options.plug is required") && !error.contains("options.ip "), "{error}");
}

#[tokio::test]
async fn fence_dummy_keeps_its_state_in_a_file() {
    let dir = TempDir::new().expect("dir");
    let file = dir.path().join("status");
    write(&file, "on", 0o600);
    let status = file.to_str().expect("UTF-8");
    let rig = Rig::new(access("fence_dummy", &[("status_file", status)], None));
    assert_eq!(rig.power().await, Ok(PowerState::On));
    rig.off(ENOUGH).await.expect("accepted");
    assert_eq!(rig.power().await, Ok(PowerState::Off));
    rig.on().await.expect("accepted");
    assert_eq!(rig.power().await, Ok(PowerState::On));
    write(&file, "unknown", 0o600);
    rig.power().await.expect_err("neither on nor off");
    rig.off(ENOUGH).await.expect_err("it does not know what it does");
    // The agent that always fails to switch.
    let rig = Rig::new(access("fence_dummy", &[("type", "fail"), ("plug", "1"), ("power_timeout", "1")], None));
    rig.off(ENOUGH).await.expect_err("it fails");
    let hangs = [("status_file", status), ("random_sleep_range", "1")];
    write(&file, "on", 0o600);
    let rig = Rig::new(access("fence_dummy", &hangs, None));
    let error = rig.off(Duration::from_millis(900)).await.expect_err("it sleeps for a second");
    assert!(matches!(error, OrderError::MaybeSent(DeviceError::Silent(_))), "{error}");
    assert_eq!(std::fs::read_to_string(&file).expect("status"), "on", "killed before it acted");
}
