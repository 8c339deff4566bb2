//! The cloud, by the verbs of `cloud.sh`: each prints JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

/// Longest directory in which libvirt's sockets still have legal names (a unix socket's path has 107 bytes).
const DIRECTORY_BYTES_MAX: usize = 60;

/// A running cloud; it is taken down when this is dropped.
#[derive(Debug)]
pub(crate) struct Cloud {
    script: PathBuf,
    directory: PathBuf,
    pub(crate) status: Value,
}

impl Cloud {
    /// Brings it up, installing what is missing; says how long each stage took.
    pub(crate) fn up() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = root.parent().unwrap_or(root);
        let mut directory = workspace.join("target/cloud");
        if directory.as_os_str().len() > DIRECTORY_BYTES_MAX {
            directory = PathBuf::from("/var/tmp/rekindle-cloud");
        }
        let script = root.join("cloud/cloud.sh");
        let mut cloud = Self { script, directory, status: Value::Null };
        cloud.run(&["down", "--wipe"]);
        cloud.status = cloud.run(&["up"]);
        println!("cloud: {}", cloud.status["seconds"]);
        cloud
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
        command.args(verb).env("CLOUD_DIR", &self.directory).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", self.script.display()));
        if !output.status.success() {
            return None;
        }
        Some(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    pub(crate) fn host(&self, verb: &str, host: &str) -> Value {
        self.run(&["host", verb, host])
    }

    /// The names of the compute hosts.
    pub(crate) fn hosts(&self) -> Vec<Value> {
        self.status["hosts"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn boot(&self, count: usize, host: &str, metadata: &[&str]) -> Value {
        let count = count.to_string();
        let mut verb = vec!["boot", count.as_str(), host];
        for pair in metadata {
            verb.extend(["--meta", pair]);
        }
        self.run(&verb)
    }

    pub(crate) fn server(&self, id: &str) -> Value {
        let servers = self.run(&["servers"]);
        let found = servers.as_array().and_then(|all| all.iter().find(|server| server["id"] == id).cloned());
        found.unwrap_or_else(|| panic!("Nova does not list {id}"))
    }

    pub(crate) fn migrations(&self, host: &str) -> Vec<Value> {
        self.run(&["migrations", host]).as_array().cloned().unwrap_or_default()
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

    /// Each of these servers runs in exactly one libvirtd: the one of the host that Nova names.
    pub(crate) fn assert_domains_match(&self, ids: &[String]) {
        for id in ids {
            let named = self.server(id)["host"].as_str().unwrap_or_default().to_owned();
            let running: Vec<String> = self
                .hosts()
                .iter()
                .filter_map(|host| host["host"].as_str().map(str::to_owned))
                .filter(|host| self.domains(host).contains(id))
                .collect();
            assert_eq!(running, [named], "{id}");
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
    pub(crate) fn wait(&self, what: &str, within: Duration, holds: impl Fn() -> bool) {
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
        if std::env::var_os("REKINDLE_KEEP_CLOUD").is_none() && self.attempt(&["down"]).is_none() {
            eprintln!("cloud.sh down failed: look at {}", self.directory.display());
        }
    }
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
