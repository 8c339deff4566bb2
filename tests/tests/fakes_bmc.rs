//! The fake BMC against the reference client, `ipmitool`, in both cipher suites; its lies; and what bytes at random do
//! to it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rekindle_tests::fake::bmc::{Behaviour, Bmc, BmcRecordKind, BmcSettings, GuidByteOrder, Power, PowerHook};
use tokio::net::UdpSocket;
use uuid::Uuid;

const GUID: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const PASSWORD: &str = "correct horse";
/// A deadline no honest run comes near; it only ends a run that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

struct Rig {
    bmc: Bmc,
    switched: Arc<Mutex<Vec<Power>>>,
}

async fn rig_with(guid_byte_order: GuidByteOrder) -> Rig {
    let switched = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&switched);
    let hook: PowerHook = Arc::new(move |action| {
        seen.lock().expect("not poisoned").push(action);
        Ok(())
    });
    let settings = BmcSettings {
        username: "admin".into(),
        other_users: vec!["other".into()],
        password: PASSWORD.into(),
        guid: GUID,
        guid_byte_order,
    };
    let bmc = Bmc::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), settings, hook).await.expect("binds");
    Rig { bmc, switched }
}

async fn rig() -> Rig {
    rig_with(GuidByteOrder::Smbios).await
}

struct Call {
    suite: &'static str,
    level: &'static str,
    password: &'static str,
    /// `-N` and `-R`: seconds to wait for an answer, and how often to ask again.
    wait: &'static str,
    retries: &'static str,
}

const USUAL: Call = Call { suite: "17", level: "OPERATOR", password: PASSWORD, wait: "2", retries: "3" };

struct Said {
    success: bool,
    text: String,
}

impl Said {
    #[track_caller]
    fn yes(&self, words: &str) {
        assert!(self.success && self.text.contains(words), "wanted {words:?}, got: {}", self.text);
    }
    #[track_caller]
    fn no(&self, words: &str) {
        assert!(!self.success && self.text.contains(words), "wanted a failure with {words:?}, got: {}", self.text);
    }
}

async fn ipmitool(bmc: &Bmc, call: &Call, command: &[&str]) -> Said {
    ipmitool_as("admin", bmc, call, command).await
}

async fn ipmitool_as(user: &str, bmc: &Bmc, call: &Call, command: &[&str]) -> Said {
    let mut password = tempfile::NamedTempFile::new().expect("a file for the password");
    password.as_file().set_permissions(PermissionsExt::from_mode(0o600)).expect("mode");
    writeln!(password, "{}", call.password).expect("writes");
    let output = tokio::process::Command::new("ipmitool")
        .args(["-I", "lanplus", "-H", "127.0.0.1", "-p", &bmc.address().port().to_string(), "-U", user])
        .args(["-C", call.suite, "-L", call.level, "-N", call.wait, "-R", call.retries, "-f"])
        .arg(password.path())
        .args(command)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, output).await.expect("ipmitool ends before the deadline");
    let output = output.expect("ipmitool must be installed for this test: apt-get install ipmitool");
    let text = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned()).concat();
    Said { success: output.status.success(), text }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kinds(bmc: &Bmc) -> Vec<BmcRecordKind> {
    bmc.record().into_iter().map(|record| record.kind).collect()
}

fn reads(bmc: &Bmc) -> Vec<Power> {
    let answered = |kind| if let BmcRecordKind::StatusRead { answered } = kind { Some(answered) } else { None };
    kinds(bmc).into_iter().filter_map(answered).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipmitool_reads_and_turns_the_power_in_both_suites() {
    for suite in ["17", "3"] {
        let rig = rig().await;
        let call = Call { suite, ..USUAL };
        ipmitool(&rig.bmc, &call, &["chassis", "power", "status"]).await.yes("Chassis Power is on");
        ipmitool(&rig.bmc, &call, &["chassis", "power", "off"]).await.yes("Down/Off");
        assert_eq!(rig.bmc.power(), Power::Off);
        ipmitool(&rig.bmc, &call, &["chassis", "power", "status"]).await.yes("Chassis Power is off");
        ipmitool(&rig.bmc, &call, &["chassis", "power", "cycle"]).await.no("not supported in present state");
        ipmitool(&rig.bmc, &call, &["chassis", "power", "on"]).await.yes("Up/On");
        assert_eq!(rig.bmc.power(), Power::On);
        ipmitool(&rig.bmc, &call, &["chassis", "power", "cycle"]).await.yes("Cycle");
        ipmitool(&rig.bmc, &call, &["chassis", "power", "reset"]).await.yes("Reset");
        ipmitool(&rig.bmc, &call, &["mc", "info"]).await.yes("IPMI Version              : 2.0");
        assert_eq!(*rig.switched.lock().expect("not poisoned"), [Power::Off, Power::On].repeat(3), "suite {suite}");
        assert_eq!(reads(&rig.bmc), [Power::On, Power::Off]);
        assert_eq!(rig.bmc.sessions(), 0, "ipmitool closes what it opens");
        let record = rig.bmc.record();
        assert!(record.is_sorted_by_key(|line| line.when.at));
        let position = |kind| record.iter().position(|line| line.kind == kind).expect("recorded");
        assert!(position(BmcRecordKind::SessionOpened) < position(BmcRecordKind::Ordered(0)));
        assert!(position(BmcRecordKind::Ordered(0)) < position(BmcRecordKind::PowerOff));
        assert!(
            position(BmcRecordKind::PowerOff) < position(BmcRecordKind::StatusRead { answered: Power::Off }),
            "{record:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chassis_control_needs_the_session_raised_to_operator() {
    use BmcRecordKind::{Ordered, PowerOff, Refused, SessionClosed, SessionOpened};
    let rig = rig().await;
    for suite in ["17", "3"] {
        let user = Call { suite, level: "USER", ..USUAL };
        ipmitool(&rig.bmc, &user, &["chassis", "power", "status"]).await.yes("is on");
        ipmitool(&rig.bmc, &user, &["chassis", "power", "off"]).await.no("Insufficient privilege level");
        assert_eq!(rig.bmc.power(), Power::On);
        assert!(kinds(&rig.bmc).contains(&Refused(0xD4)));
        // One session, lowered to USER and raised again: refused at the first, done at the second.
        let mut script = tempfile::NamedTempFile::new().expect("a script");
        let words = "raw 0x06 0x3b 0x02\nraw 0x00 0x02 0x00\nraw 0x06 0x3b 0x03\nraw 0x00 0x02 0x00\n";
        script.write_all(words.as_bytes()).expect("writes");
        let before = rig.bmc.record().len();
        let call = Call { suite, ..USUAL };
        ipmitool(&rig.bmc, &call, &["exec", script.path().to_str().expect("text")]).await;
        let wanted = [SessionOpened, Refused(0xD4), Ordered(0), PowerOff, SessionClosed];
        assert_eq!(kinds(&rig.bmc)[before..], wanted, "suite {suite}");
        rig.bmc.set_power(Power::On);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_opens_nothing() {
    let rig = rig().await;
    for suite in ["17", "3"] {
        let wrong = Call { suite, password: "incorrect horse", ..USUAL };
        ipmitool(&rig.bmc, &wrong, &["chassis", "power", "off"]).await.no("");
        rig.bmc.behaviour(Behaviour::WrongPassword);
        ipmitool(&rig.bmc, &Call { suite, ..USUAL }, &["chassis", "power", "off"]).await.no("");
        rig.bmc.behaviour(Behaviour::Honest);
    }
    assert_eq!(rig.bmc.power(), Power::On);
    assert!(!kinds(&rig.bmc).contains(&BmcRecordKind::SessionOpened), "{:?}", kinds(&rig.bmc));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipmitool_reads_the_guid_in_every_byte_order() {
    for (order, name) in
        [(GuidByteOrder::Smbios, "smbios"), (GuidByteOrder::Rfc, "rfc4122"), (GuidByteOrder::Ipmi, "ipmi")]
    {
        let rig = rig_with(order).await;
        let said = ipmitool(&rig.bmc, &USUAL, &["mc", "guid", name]).await;
        let bare = said.text.replace('-', "").to_lowercase();
        assert!(said.success && bare.contains(&GUID.simple().to_string()), "{order:?}: {}", said.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipmitool_finds_the_best_suite_and_discovers_the_bmc() {
    let rig = rig().await;
    ipmitool(&rig.bmc, &USUAL, &["channel", "getciphers", "ipmi"]).await.yes("17");
    let port = rig.bmc.address().port().to_string();
    let output = tokio::process::Command::new("ipmitool")
        .args(["-I", "lanplus", "-H", "127.0.0.1", "-p", &port, "-U", "admin", "-E", "-L", "USER"])
        .args(["chassis", "power", "status"])
        .env("IPMI_PASSWORD", PASSWORD)
        .output()
        .await
        .expect("ipmitool must be installed for this test: apt-get install ipmitool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let ping = [0x06, 0, 0xFF, 0x06, 0, 0, 0x11, 0xBE, 0x80, 0x2A, 0, 0];
    socket.send_to(&ping, rig.bmc.address()).await.expect("sends");
    let mut pong = [0; 64];
    let length = tokio::time::timeout(DEADLINE, socket.recv(&mut pong)).await.expect("answers").expect("receives");
    assert_eq!((length, pong[8], pong[9]), (28, 0x40, 0x2A));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lie_is_told_as_documented() {
    let rig = rig().await;
    let bmc = &rig.bmc;

    bmc.behaviour(Behaviour::SaysOkStaysOn);
    ipmitool(bmc, &USUAL, &["chassis", "power", "off"]).await.yes("Down/Off");
    ipmitool(bmc, &USUAL, &["chassis", "power", "status"]).await.yes("is on");
    assert_eq!(bmc.power(), Power::On);

    bmc.behaviour(Behaviour::LiesOff);
    ipmitool(bmc, &USUAL, &["chassis", "power", "status"]).await.yes("is off");
    ipmitool(bmc, &USUAL, &["chassis", "power", "off"]).await.yes("Down/Off");
    assert_eq!((bmc.power(), reads(bmc).last()), (Power::On, Some(&Power::Off)));
    assert!(rig.switched.lock().expect("not poisoned").is_empty(), "nothing was done so far");

    bmc.behaviour(Behaviour::Busy);
    ipmitool(bmc, &USUAL, &["chassis", "power", "off"]).await.no("Node busy");
    assert_eq!(bmc.power(), Power::On);

    bmc.behaviour(Behaviour::StaysOff);
    ipmitool(bmc, &USUAL, &["chassis", "power", "off"]).await.yes("Down/Off");
    ipmitool(bmc, &USUAL, &["chassis", "power", "on"]).await.yes("Up/On");
    ipmitool(bmc, &USUAL, &["chassis", "power", "status"]).await.yes("is off");
    assert_eq!(bmc.power(), Power::Off);

    bmc.behaviour(Behaviour::Silent);
    let impatient = Call { wait: "1", retries: "1", ..USUAL };
    ipmitool(bmc, &impatient, &["chassis", "power", "on"]).await.no("Unable to establish");
    assert_eq!(bmc.power(), Power::Off);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bmc_is_silent_to_one_user_and_not_to_another() {
    let rig = rig().await;
    let (bmc, order, status) = (&rig.bmc, ["chassis", "power", "off"], ["chassis", "power", "status"]);
    bmc.silent_to(Some("other"));
    let impatient = Call { wait: "1", retries: "1", ..USUAL };
    ipmitool_as("other", bmc, &impatient, &order).await.no("Unable to establish");
    assert!(bmc.ordered_by().is_empty() && bmc.power() == Power::On);
    ipmitool(bmc, &USUAL, &order).await.yes("Down/Off");
    assert_eq!(bmc.ordered_by().into_iter().collect::<Vec<_>>(), ["admin"]);
    bmc.silent_to(None);
    ipmitool_as("other", bmc, &USUAL, &status).await.yes("Chassis Power is off");
    ipmitool_as("stranger", bmc, &USUAL, &status).await.no("");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_bmc_executes_what_its_caller_gave_up_on() {
    let rig = rig().await;
    rig.bmc.behaviour(Behaviour::Slow(Duration::from_secs(4)));
    let impatient = Call { wait: "1", retries: "1", ..USUAL };
    let began = Instant::now();
    assert!(!ipmitool(&rig.bmc, &impatient, &["chassis", "power", "off"]).await.success, "the answer came too early");
    let gave_up = began.elapsed();
    until("the order is executed late", || rig.bmc.power() == Power::Off).await;
    assert!(gave_up < DEADLINE);

    rig.bmc.behaviour(Behaviour::ActsLate(Duration::from_millis(400)));
    ipmitool(&rig.bmc, &USUAL, &["chassis", "power", "on"]).await.yes("Up/On");
    until("the late act", || rig.bmc.power() == Power::On).await;
    let record = kinds(&rig.bmc);
    let last = |kind| record.iter().rposition(|known| *known == kind).expect("recorded");
    assert!(last(BmcRecordKind::SessionClosed) < last(BmcRecordKind::PowerOn), "answered first: {record:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_button_and_a_failing_hook() {
    let broken = Arc::new(AtomicBool::new(true));
    let (calls, fails) = (Arc::new(AtomicU32::new(0)), Arc::clone(&broken));
    let counted = Arc::clone(&calls);
    let hook: PowerHook = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        if fails.load(Ordering::Relaxed) { Err(io::Error::other("no such process")) } else { Ok(()) }
    });
    let settings = BmcSettings {
        username: "admin".into(),
        other_users: Vec::new(),
        password: PASSWORD.into(),
        guid: GUID,
        guid_byte_order: GuidByteOrder::Smbios,
    };
    assert!(!format!("{settings:?}").contains(PASSWORD));
    let bmc = Bmc::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), settings, hook).await.expect("binds");
    ipmitool(&bmc, &USUAL, &["chassis", "power", "off"]).await.no("");
    assert_eq!(bmc.power(), Power::On, "an order the hook refused changed nothing");
    broken.store(false, Ordering::Relaxed);
    bmc.press(Power::Off).await.expect("the hook works again");
    bmc.press(Power::Off).await.expect("nothing to do");
    assert_eq!((bmc.power(), calls.load(Ordering::Relaxed)), (Power::Off, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_cut_packets_do_it_no_harm() {
    let rig = rig().await;
    let seed = 0x5EED_0B3C;
    println!("seed {seed:#x}");
    let mut random = StdRng::seed_from_u64(seed);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    socket.connect(rig.bmc.address()).await.expect("connects");
    let mut open = vec![6, 0, 0xFF, 7, 6, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 4, 0, 0, 1, 2, 3, 4];
    for (kind, number) in [(0, 3), (1, 4), (2, 1)] {
        open.extend([kind, 0, 0, 8, number, 0, 0, 0]);
    }
    let plain = vec![6, 0, 0xFF, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 0x18, 0xC8, 0x81, 0, 0x38, 0x8E, 4, 0xB5];
    let ping = vec![0x06, 0, 0xFF, 0x06, 0, 0, 0x11, 0xBE, 0x80, 0x2A, 0, 0];
    for round in 0..4000_u32 {
        let mut packet = match round % 4 {
            0 => open.clone(),
            1 => plain.clone(),
            2 => ping.clone(),
            _ => {
                let mut noise = vec![0; random.random_range(0..200)];
                random.fill_bytes(&mut noise);
                // A handshake message whose header is right, so that the noise reaches what reads the message.
                let length = u8::try_from(noise.len().saturating_sub(16)).expect("short");
                let head = [6, 0, 0xFF, 7, 6, random.random_range(0x10..0x16), 0, 0, 0, 0, 0, 0, 0, 0, length, 0];
                noise.iter_mut().zip(head).for_each(|(to, from)| *to = from);
                noise
            }
        };
        for _ in 0..random.random_range(0..3_u32) {
            if !packet.is_empty() {
                let at = random.random_range(0..packet.len());
                packet[at] = random.random();
            }
        }
        if random.random_bool(0.3) {
            packet.truncate(random.random_range(0..=packet.len()));
        }
        socket.send(&packet).await.expect("sends");
        if round % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    ipmitool(&rig.bmc, &USUAL, &["chassis", "power", "status"]).await.yes("is on");
    assert!(rig.bmc.sessions() <= 16);
}
