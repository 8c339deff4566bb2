//! The cloud, by the verbs of `cloud.sh`: each prints JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

/// What booting a few servers may take on a busy machine, in seconds; and each more: two hundred took up to 20 minutes.
const BOOTED_WITHIN_S: usize = 300;
const BOOT_EACH_S: usize = 6;

/// Longest directory in which libvirt's sockets still have legal names (a unix socket's path has 107 bytes).
const DIRECTORY_BYTES_MAX: usize = 60;

/// Nova's default, in seconds: a compute service that a busy machine keeps from reporting must not count as down meanwhile.
/// What recovers servers does not wait for it.
const SERVICE_DOWN_TIME: &str = "60";

/// A running cloud; it is taken down when this is dropped.
#[derive(Debug)]
pub(crate) struct Cloud {
    script: PathBuf,
    directory: PathBuf,
    names: String,
    pub(crate) status: Value,
}

impl Cloud {
    /// Brings it up with so many compute hosts, installing what is missing; says how long each stage took.
    pub(crate) fn up(hosts: usize) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = root.parent().unwrap_or(root);
        let mut directory = workspace.join("target/cloud");
        if directory.as_os_str().len() > DIRECTORY_BYTES_MAX {
            directory = PathBuf::from("/var/tmp/rekindle-cloud");
        }
        let script = root.join("cloud/cloud.sh");
        let names = (1..=hosts).map(|number| format!("cmp{number}")).collect::<Vec<_>>().join(" ");
        let mut cloud = Self { script, directory, names, status: Value::Null };
        let kept = is_kept() && cloud.directory.join("hosts").exists();
        if kept {
            cloud.take_knobs(&cloud.hosts_made());
        } else {
            cloud.run(&["down", "--wipe"]);
        }
        cloud.status = cloud.run(&["up"]);
        if kept {
            cloud.empty();
        }
        println!("cloud: {}", cloud.status["seconds"]);
        cloud
    }

    /// Takes what an earlier run gave these hosts: its daemons and gates. A host that starts would wait at such a gate
    /// for a cluster that is gone.
    fn take_knobs(&self, hosts: &[String]) {
        for host in hosts {
            for knob in ["rekindled", "gate"] {
                // Most often it is there.
                let _absent = std::fs::remove_file(self.directory.join("hosts").join(host).join("knobs").join(knob));
            }
        }
    }

    fn hosts_made(&self) -> Vec<String> {
        let hosts = std::fs::read_dir(self.directory.join("hosts")).expect("the hosts of a kept cloud");
        hosts.filter_map(|host| host.ok()?.file_name().into_string().ok()).collect()
    }

    /// Ends what runs in a cloud that was kept, and begins anew without servers.
    fn empty(&self) {
        for host in self.host_names() {
            self.host("kill", &host);
            self.host("start", &host);
        }
        for host in self.host_names() {
            self.run(&["forced-up", &host]);
        }
        self.run(&["delete"]);
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a verb that must succeed.
    pub(crate) fn run(&self, verb: &[&str]) -> Value {
        self.attempt(verb).unwrap_or_else(|| panic!("cloud.sh {} failed; its words are above", verb.join(" ")))
    }

    /// Runs a verb that may fail.
    pub(crate) fn attempt(&self, verb: &[&str]) -> Option<Value> {
        let mut command = Command::new(&self.script);
        command
            .args(verb)
            .env("CLOUD_DIR", &self.directory)
            .env("CLOUD_HOSTS", &self.names)
            .env("SERVICE_DOWN_TIME", SERVICE_DOWN_TIME)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", self.script.display()));
        if !output.status.success() {
            return None;
        }
        Some(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    pub(crate) fn host(&self, verb: &str, host: &str) -> Value {
        self.run(&["host", verb, host])
    }

    pub(crate) fn host_names(&self) -> Vec<String> {
        self.names.split(' ').map(str::to_owned).collect()
    }

    /// The compute hosts as `cloud.sh` describes them.
    pub(crate) fn hosts(&self) -> Vec<Value> {
        self.status["hosts"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn boot(&self, count: usize, host: &str, metadata: &[&str]) -> Value {
        let seconds = (BOOTED_WITHIN_S + BOOT_EACH_S * count).to_string();
        let count = count.to_string();
        let mut verb = vec!["boot", count.as_str(), host, "--timeout", seconds.as_str()];
        for pair in metadata {
            verb.extend(["--meta", pair]);
        }
        self.run(&verb)
    }

    /// Makes servers in given states (`client.py` says how they are described); their ids, by name.
    pub(crate) fn prepare(&self, servers: &[Value]) -> BTreeMap<String, String> {
        let made = self.run(&["prepare", &Value::from(servers).to_string()]);
        serde_json::from_value(made).expect("names and ids")
    }

    pub(crate) fn servers(&self) -> Vec<Value> {
        self.run(&["servers"]).as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn server(&self, id: &str) -> Value {
        let found = self.servers().into_iter().find(|server| server["id"] == id);
        found.unwrap_or_else(|| panic!("Nova does not list {id}"))
    }

    pub(crate) fn migrations(&self, host: &str) -> Vec<Value> {
        self.run(&["migrations", host]).as_array().cloned().unwrap_or_default()
    }

    /// The host that has begun the newest evacuation of a server, by Nova's actions.
    pub(crate) fn begun(&self, server: &str) -> Option<String> {
        self.event(server, "compute_rebuild_instance")?["host"].as_str().map(str::to_owned)
    }

    /// Whether nova-conductor has sent the order of its newest evacuation.
    pub(crate) fn sent(&self, server: &str) -> bool {
        self.event(server, "rebuild_server").is_some_and(|event| event["result"] == "Success")
    }

    fn event(&self, server: &str, name: &str) -> Option<Value> {
        let path = format!("/servers/{server}/os-instance-actions");
        let actions = self.run(&["api", "GET", &path]);
        let actions = actions["body"]["instanceActions"].as_array()?;
        let newest = actions.iter().find(|action| action["action"] == "evacuate")?["request_id"].as_str()?;
        let action = self.run(&["api", "GET", &format!("{path}/{newest}")]);
        let events = action["body"]["instanceAction"]["events"].as_array()?;
        events.iter().find(|event| event["event"] == name).cloned()
    }

    /// Writing calls that Nova has begun since that moment.
    pub(crate) fn requests(&self, path: &str, since_us: i64) -> Vec<Value> {
        let all = self.run(&["requests", path]).as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|call| call["us"].as_i64().is_some_and(|at| at >= since_us)).collect()
    }

    /// When the BMC had last cut that host's power, in unix microseconds.
    pub(crate) fn power_off_us(&self, host: &str) -> Option<i64> {
        let status = self.host("status", host);
        let log = status["power_log"].as_array()?;
        let off = log.iter().rev().find(|line| line["event"] == "power off")?;
        off["ns"].as_i64().map(|ns| ns / 1_000)
    }

    /// Running domains of a host, by its own libvirtd.
    pub(crate) fn domains(&self, host: &str) -> Vec<String> {
        let listed = self.attempt(&["guests", host]).unwrap_or(Value::Null);
        let all = listed.as_array().cloned().unwrap_or_default();
        let mut running: Vec<String> = all
            .iter()
            .filter(|domain| domain["running"] == true)
            .filter_map(|domain| domain["uuid"].as_str().map(str::to_owned))
            .collect();
        running.sort();
        running
    }

    /// On which hosts a guest of each server runs, by their own libvirtds.
    pub(crate) fn running(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for host in self.host_names() {
            for server in self.domains(&host) {
                found.entry(server).or_default().push(host.clone());
            }
        }
        found
    }

    /// Each of these servers runs in exactly one libvirtd: the one of the host that Nova names.
    pub(crate) fn assert_domains_match(&self, ids: &[String]) {
        let (running, servers) = (self.running(), self.servers());
        for id in ids {
            let server = servers.iter().find(|server| server["id"] == id.as_str());
            let named = server.and_then(|server| server["host"].as_str()).unwrap_or_default();
            assert_eq!(running.get(id).map(Vec::as_slice), Some(&[named.to_owned()][..]), "{id}: {server:?}");
        }
    }

    /// When Nova last changed one of these servers, in unix seconds.
    pub(crate) fn last_update_s(&self, ids: &[String]) -> Option<i64> {
        let migrations = self.run(&["migrations"]).as_array().cloned().unwrap_or_default();
        let of_ids = migrations.iter().filter(|migration| {
            migration["instance_uuid"].as_str().is_some_and(|server| ids.iter().any(|id| id == server))
        });
        of_ids.filter_map(|migration| unix_seconds(migration["updated_at"].as_str()?)).max()
    }

    /// Waits until a condition holds.
    pub(crate) fn wait(&self, what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + within;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "waited {} s for {what}; state in {}",
                within.as_secs(),
                self.directory.display()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if !is_kept() && self.attempt(&["down"]).is_none() {
            eprintln!("cloud.sh down failed: look at {}", self.directory.display());
        }
    }
}

/// For work on the cases: a cloud that runs is used as it is, and left.
fn is_kept() -> bool {
    std::env::var_os("REKINDLE_KEEP_CLOUD").is_some()
}

/// Nova's times: `2026-11-21T02:13:07.000000`, UTC.
fn unix_seconds(text: &str) -> Option<i64> {
    let whole = text.get(..19)?;
    let time: jiff::Timestamp = format!("{whole}Z").parse().ok()?;
    Some(time.as_second())
}

pub(crate) fn ids(servers: &Value) -> Vec<String> {
    let all = servers.as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|server| server["id"].as_str().map(str::to_owned)).collect()
}

pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
