//! Against the emulator of sushy-tools, which is nobody's fake of ours: HTTPS, basic authentication, two systems. Its
//! machines take 1 to 11 s, by chance, to do what it has answered in milliseconds.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rekindle_agent::bmc::{RedfishAuth, RedfishSettings, RedfishTrial, RedfishTrust, SecretSource};
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState};
use rekindle_tests::fake::redfish::{Identity, Validity};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;
use uuid::Uuid;

use crate::rig::{DEADLINE, OTHER, Outcome, PASSWORD, PERMIT, UUID, WITHIN, fence, open, secret, settings};

struct Emulator {
    settings: RedfishSettings,
    dir: TempDir,
    _child: Child,
}

impl Emulator {
    async fn start() -> Self {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/redfish-venv/bin");
        assert!(venv.join("sushy-emulator").exists(), "no emulator: scripts/setup.sh test brings it");
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| dir.path().join(name);
        let identity = Identity::new("127.0.0.1", Validity::Good).expect("a certificate");
        for (name, text) in [("ca", &identity.ca_pem), ("cert", &identity.cert_pem), ("key", &identity.key_pem)] {
            std::fs::write(file(name), text).expect("written");
        }
        let hash = format!("import bcrypt; print(bcrypt.hashpw({PASSWORD:?}.encode(), bcrypt.gensalt(4)).decode())");
        let hash = Command::new(venv.join("python")).args(["-c", &hash]).output().await.expect("runs");
        std::fs::write(file("users"), format!("admin:{}", String::from_utf8_lossy(&hash.stdout))).expect("written");
        let port = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("address").port();
        let system =
            |uuid: Uuid, name: &str| format!("{{'uuid': '{uuid}', 'name': '{name}', 'power_state': 'On', 'nics': []}}");
        let text = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n\
             SUSHY_EMULATOR_SSL_CERT = {:?}\nSUSHY_EMULATOR_SSL_KEY = {:?}\nSUSHY_EMULATOR_AUTH_FILE = {:?}\n\
             SUSHY_EMULATOR_STATE_DIR = {:?}\nSUSHY_EMULATOR_FAKE_DRIVER = True\n\
             SUSHY_EMULATOR_FAKE_SYSTEMS = [{}, {}]\n",
            file("cert"),
            file("key"),
            file("users"),
            dir.path(),
            system(UUID, "cmp-1"),
            system(OTHER, "cmp-2"),
        );
        std::fs::write(file("conf"), text).expect("written");
        let log = std::fs::File::create(file("log")).expect("a log");
        let child = Command::new(venv.join("sushy-emulator"))
            .arg("--config")
            .arg(file("conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let settings = RedfishSettings {
            system: Some(UUID.to_string()),
            auth: RedfishAuth::Basic,
            ..settings(&format!("127.0.0.1:{port}"), dir.path(), RedfishTrust::Ca(file("ca")))
        };
        let emulator = Self { settings, dir, _child: child };
        let device = emulator.device(|_| {});
        let began = Instant::now();
        while let Err(error) = device.read(false, WITHIN).await.power {
            let log = std::fs::read_to_string(emulator.dir.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < DEADLINE, "the emulator does not answer: {error}\n{log}");
            sleep(Duration::from_millis(50)).await;
        }
        emulator
    }

    fn device(&self, change: impl FnOnce(&mut RedfishSettings)) -> RedfishTrial {
        let mut settings = self.settings.clone();
        change(&mut settings);
        open(&settings)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_emulator_is_read_fenced_and_switched_on_again() {
    let emulator = Emulator::start().await;
    let device = emulator.device(|_| {});
    let reading = device.read(true, WITHIN).await;
    assert_eq!(reading.power, Ok(PowerState::On));
    assert_eq!(reading.guid, Some(Ok(DeviceGuid(*UUID.as_bytes()))));
    let fenced = fence(&device, UUID, Duration::from_secs(20), WITHIN, |_| {}).await;
    assert_eq!(fenced.outcome, Outcome::ConfirmedOff, "{fenced:?}");
    assert_eq!(device.read(false, WITHIN).await.power, Ok(PowerState::Off));
    let neighbour = emulator.device(|settings| settings.system = Some(OTHER.to_string()));
    assert_eq!(neighbour.read(false, WITHIN).await.power, Ok(PowerState::On), "another system was cut");
    // Once more, found off: the order is given all the same.
    let fenced = fence(&device, UUID, Duration::from_secs(20), WITHIN, |_| {}).await;
    assert_eq!((fenced.outcome, fenced.answers), (Outcome::ConfirmedOff, vec![Ok(())]));
    device.power_on(PERMIT, WITHIN).await.expect("accepted");
    let began = Instant::now();
    while device.read(false, WITHIN).await.power != Ok(PowerState::On) {
        assert!(began.elapsed() < DEADLINE, "it was never switched on");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_emulator_refuses_strangers_and_is_asked_for_one_system() {
    let emulator = Emulator::start().await;
    let device = emulator.device(|settings| settings.system = None);
    let error = device.read(true, WITHIN).await.power.expect_err("which?");
    assert!(error.to_string().contains("2 systems"), "{error}");
    // By its name it redirects, to an address that is not told by the operator.
    let device = emulator.device(|settings| settings.system = Some("cmp-1".to_owned()));
    let error = device.read(true, WITHIN).await.power.expect_err("redirected");
    assert!(error.to_string().contains("not followed"), "{error}");
    let other = emulator.dir.path().join("other");
    std::fs::create_dir(&other).expect("made");
    let wrong = SecretSource::File(secret(&other, "wrong horse"));
    let device = emulator.device(|settings| settings.password = wrong);
    let error = device.power_off(PERMIT, WITHIN).await.expect_err("refused");
    assert!(matches!(error, DeviceError::Credentials(_)), "{error:?}");
    let device = emulator.device(|settings| settings.trust = RedfishTrust::Pin([0; 32]));
    let error = device.read(true, WITHIN).await.power.expect_err("not pinned");
    assert!(matches!(error, DeviceError::Unusable(_)), "{error:?}");
    assert_eq!(emulator.device(|_| {}).read(false, WITHIN).await.power, Ok(PowerState::On));
}
