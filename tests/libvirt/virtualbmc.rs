//! The driver `ipmi` against VirtualBMC, the BMC that OpenStack's own tests give to libvirt's machines: here a real one, before
//! a machine of our libvirtd. Its power is the domain's, as virsh tells it.
//!
//! `scripts/setup.sh test` brings it, under `target/virtualbmc-venv`.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rekindle_agent::bmc::ipmi::NativeIpmi;
use rekindle_agent::bmc::{Endpoint, IpmiSettings, Privilege, SecretSource};
use rekindle_agent::clock::moment;
use rekindle_proto::fact::{DeviceError, OrderError, PowerState};
use rekindle_proto::id::HostName;
use tempfile::TempDir;

use crate::host::{Guest, Host, PATIENCE};

const MACHINE: &str = "metal";
const USER: &str = "admin";
const PASSWORD: &str = "Bmc-Pa55w0rd";

/// It answers within milliseconds, and is a program of Python's on a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// A running `vbmcd` with one machine. It ends with this.
struct VirtualBmc {
    daemon: Child,
    dir: TempDir,
    port: u16,
}

impl VirtualBmc {
    /// Starts it with the files that `vbmc add` and `vbmc start` would have written, and waits until it answers.
    async fn start(host: &Host) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/virtualbmc-venv/bin/vbmcd");
        assert!(program.exists(), "no VirtualBMC: scripts/setup.sh test brings it");
        let dir = TempDir::with_prefix("rekindle-vbmc-").expect("a directory");
        let place = dir.path();
        let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let control = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let own = format!(
            "[default]\nconfig_dir = {0}/machines\npid_file = {0}/machines/pid\nserver_port = {control}\n",
            place.display()
        );
        let machine = format!(
            "[VirtualBMC]\ndomain_name = {MACHINE}\nusername = {USER}\npassword = {PASSWORD}\naddress = 127.0.0.1\n\
             port = {port}\nlibvirt_uri = {}\nactive = True\n",
            host.uri_to_order()
        );
        fs::create_dir_all(place.join("machines").join(MACHINE)).expect("made");
        fs::write(place.join("machines").join(MACHINE).join("config"), machine).expect("written");
        fs::write(place.join("conf"), own).expect("written");
        let log = fs::File::create(place.join("log")).expect("a log");
        let daemon = Command::new(program)
            .arg("--foreground")
            .env("VIRTUALBMC_CONFIG", place.join("conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("starts");
        let mut bmc = Self { daemon, dir, port };
        let began = moment();
        while let Err(error) = bmc.driver(PASSWORD, &[3]).power_state(moment() + SOON).await {
            let log = fs::read_to_string(bmc.dir.path().join("log")).unwrap_or_default();
            let runs = matches!(bmc.daemon.try_wait(), Ok(None));
            assert!(runs && moment().since(began) < PATIENCE, "VirtualBMC does not answer: {error}\n{log}");
        }
        bmc
    }

    fn driver(&self, password: &str, suites: &[u8]) -> NativeIpmi {
        let file = self.dir.path().join(password);
        fs::write(&file, password).expect("written");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("mode");
        let settings = IpmiSettings {
            endpoint: Endpoint::parse(&format!("127.0.0.1:{}", self.port), 623).expect("legal"),
            username: USER.to_owned(),
            password: SecretSource::File(file),
            k_g: None,
            cipher_suites: suites.to_vec(),
            privilege: Privilege::Operator,
        };
        NativeIpmi::new(&settings, &HostName::new("cmp-1").expect("legal"))
    }
}

impl Drop for VirtualBmc {
    fn drop(&mut self) {
        // Told, and not killed: it ends the process of its machine with itself.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.daemon.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn virtualbmc_is_read_switched_off_and_on() {
    let host = Host::start();
    host.start_guest(MACHINE, Guest::Sleeper);
    let state = || host.virsh(&["domstate", MACHINE]).trim().to_owned();
    let bmc = VirtualBmc::start(&host).await;
    let driver = bmc.driver(PASSWORD, &[3]);
    let end = moment() + PATIENCE;
    assert_eq!((driver.power_state(end).await, state()), (Ok(PowerState::On), "running".to_owned()));
    // It cannot say whose machine it is: it counts after a rehearsal only.
    let error = driver.guid(end).await.expect_err("it has none");
    assert!(error.to_string().contains("completion code 0xc1"), "{error}");
    assert_eq!(driver.power_off(moment(), end).await, Err(OrderError::TooLate));
    assert_eq!(state(), "running");
    for _ in ["on", "off already"] {
        driver.power_off(end, end).await.expect("accepted");
        assert_eq!((driver.power_state(end).await, state()), (Ok(PowerState::Off), "shut off".to_owned()));
    }
    driver.power_on(end, end).await.expect("accepted");
    assert_eq!((driver.power_state(end).await, state()), (Ok(PowerState::On), "running".to_owned()));

    // Whatever suite it is asked for, it answers with the algorithms of 3.
    for suites in [&[17][..], &[17, 3]] {
        let error = bmc.driver(PASSWORD, suites).power_state(end).await.expect_err("weaker than asked for");
        let is_named = error.to_string().contains("cipher suite 17 was asked for");
        assert!(matches!(error, DeviceError::Credentials(_)) && is_named, "{suites:?}: {error}");
    }
    let error = bmc.driver("another", &[3]).power_state(end).await.expect_err("refused");
    assert!(matches!(error, DeviceError::Credentials(_)), "{error}");
    assert!(error.to_string().contains("password is not"), "{error}");

    // Its libvirtd is gone, its machine is not: nothing that it says then may read as off, or as done.
    host.signal_libvirtd("KILL");
    let error = driver.power_state(moment() + SOON).await.expect_err("it does not know");
    assert!(error.to_string().contains("completion code 0xff"), "{error}");
    let error = driver.power_off(moment() + SOON, moment() + SOON).await.expect_err("it cannot");
    assert!(!matches!(error, OrderError::NotSent(_) | OrderError::TooLate), "it was told: {error}");
    host.restart_libvirtd();
    assert_eq!((driver.power_state(end).await, state()), (Ok(PowerState::On), "running".to_owned()));
}
