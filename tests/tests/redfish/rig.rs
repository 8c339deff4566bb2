//! A fake service with the driver before it, and a fence by the coordinator's rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rekindle_agent::bmc::{Endpoint, RedfishAuth, RedfishSettings, RedfishTrial, RedfishTrust, SecretSource};
use rekindle_agent::clock;
use rekindle_coordinator::fencing::{FenceRun, ReadSpan, RunStep, guid_names};
use rekindle_coordinator::ledger::FenceAttempt;
use rekindle_proto::fact::{DeviceName, DeviceReading, OrderError, PowerState};
use rekindle_proto::id::{HostName, LeadershipId, SystemUuid, Term, WallTime};
use rekindle_tests::fake::redfish::{Identity, Redfish, RedfishRecordKind, ServiceSettings, SystemSettings, Validity};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

pub(crate) const UUID: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
pub(crate) const OTHER: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);
pub(crate) const PASSWORD: &str = "correct horse";
/// What one call may take where nothing is slow.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);
/// For how long the leader's permit lasts.
pub(crate) const PERMIT: Duration = Duration::from_millis(500);
/// A deadline no honest run comes near; it only ends a run that hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Tries of a level, as by default.
const TRIES: u32 = 3;

/// A service, and a driver that knows it.
pub(crate) struct Rig {
    pub(crate) fake: Redfish,
    pub(crate) device: RedfishTrial,
    pub(crate) settings: RedfishSettings,
    pub(crate) _dir: TempDir,
}

impl Rig {
    /// One system, HTTPS with a pin, sessions.
    pub(crate) async fn new() -> Self {
        Self::with(vec![SystemSettings::new("1", UUID)], |_| {}).await
    }

    pub(crate) async fn with(systems: Vec<SystemSettings>, change: impl FnOnce(&mut RedfishSettings)) -> Self {
        let identity = Identity::new("127.0.0.1", Validity::Good).expect("a certificate");
        Self::behind(Some(identity), systems, change).await
    }

    /// `identity` of the service, pinned unless it is changed; without one: plain http.
    pub(crate) async fn behind(
        identity: Option<Identity>,
        systems: Vec<SystemSettings>,
        change: impl FnOnce(&mut RedfishSettings),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let trust = identity.as_ref().map_or(RedfishTrust::Nobody, |identity| RedfishTrust::Pin(identity.sha256));
        let served = ServiceSettings { username: "admin".to_owned(), password: PASSWORD.to_owned(), systems, identity };
        let fake = Redfish::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), served).await.expect("binds");
        let mut settings = settings(&fake.address().to_string(), dir.path(), trust);
        change(&mut settings);
        Self { fake, device: open(&settings), settings, _dir: dir }
    }

    pub(crate) fn kinds(&self) -> Vec<RedfishRecordKind> {
        self.fake.record().into_iter().map(|record| record.kind).collect()
    }

    pub(crate) fn count(&self, kind: &RedfishRecordKind) -> usize {
        self.kinds().iter().filter(|found| *found == kind).count()
    }

    /// Every order it was given.
    pub(crate) fn orders(&self) -> Vec<String> {
        let ordered = |kind| if let RedfishRecordKind::Ordered(kind) = kind { Some(kind) } else { None };
        self.kinds().into_iter().filter_map(ordered).collect()
    }
}

/// What a driver is told of one host's device. Its password is written into that directory.
pub(crate) fn settings(address: &str, dir: &Path, trust: RedfishTrust) -> RedfishSettings {
    RedfishSettings {
        endpoint: Endpoint::parse(address, 443).expect("an endpoint"),
        username: "admin".to_owned(),
        password: SecretSource::File(secret(dir, PASSWORD)),
        system: None,
        trust,
        auth: RedfishAuth::Session,
    }
}

pub(crate) fn open(settings: &RedfishSettings) -> RedfishTrial {
    RedfishTrial::open(settings, &HostName::new("cmp-1").expect("a name")).expect("legal settings")
}

/// A file with a secret, ours alone.
pub(crate) fn secret(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("password");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
    path
}

/// Waits for something that happens by itself.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "never happened: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What the leader knows at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    ConfirmedOff,
    StillOn,
    Unknown,
}

/// How a fence went.
#[derive(Debug)]
pub(crate) struct Fenced {
    pub(crate) outcome: Outcome,
    /// Why its last attempt failed.
    pub(crate) why: String,
    /// What was answered to each order.
    pub(crate) answers: Vec<Result<(), OrderError>>,
}

/// Fences as the leader does: nothing before the device is known to be this machine's, then up to three attempts that
/// last so long each. `within`: what one call may take.
pub(crate) async fn fence(
    device: &RedfishTrial,
    machine: Uuid,
    lasts: Duration,
    within: Duration,
    mut on_read: impl FnMut(&DeviceReading),
) -> Fenced {
    let name = DeviceName("redfish@bmc".to_owned());
    let first = bounded(device.read(true, within)).await;
    let bound = matches!(&first.guid, Some(Ok(guid)) if guid_names(*guid, SystemUuid(machine)));
    let told_another = matches!(&first.guid, Some(Ok(_))) && !bound;
    let mut fenced = Fenced { outcome: Outcome::Unknown, why: format!("{first:?}"), answers: Vec::new() };
    // One that is silent now may have been bound before.
    if told_another {
        return fenced;
    }
    for number in 1..=TRIES {
        let attempt = FenceAttempt {
            attempt: number,
            term: Term(1),
            author: LeadershipId(1),
            level: 1,
            devices: vec![name.clone()],
            not_after: WallTime(0),
            failed: None,
            leader: None,
            at: None,
            proof: None,
        };
        let begun = clock::moment();
        let mut run = FenceRun::new(&attempt, begun, begun + lasts, |_| false);
        loop {
            match run.next_step(clock::moment()) {
                RunStep::Order(_) => {
                    run.ordered(&name, clock::moment());
                    let left = run.deadline().since(clock::moment());
                    let answer = bounded(device.power_off(PERMIT.min(left), within.min(left))).await;
                    fenced.answers.push(answer.clone());
                    run.answered(&name, answer);
                }
                RunStep::Read(_) => {
                    run.reading(&name);
                    let asked = clock::moment();
                    let reading = bounded(device.read(false, within)).await;
                    fenced.outcome = match reading.power {
                        Ok(PowerState::On) => Outcome::StillOn,
                        Ok(PowerState::Off) | Err(_) => Outcome::Unknown,
                    };
                    run.read(&name, &reading, ReadSpan { asked, finished: clock::moment() });
                    on_read(&reading);
                }
                RunStep::Wait(until) => sleep(until.since(clock::moment()).max(Duration::from_millis(1))).await,
                RunStep::Proven(_) => return Fenced { outcome: Outcome::ConfirmedOff, ..fenced },
                RunStep::Failed(why) => {
                    fenced.why = why.to_string();
                    break;
                }
            }
        }
    }
    fenced
}

/// Every call ends, whatever the service does.
async fn bounded<T>(call: impl Future<Output = T>) -> T {
    timeout(DEADLINE, call).await.expect("the call ends by its own deadline")
}
