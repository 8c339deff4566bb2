//! The daemons under test: the very `rekindled` of this build, one a compute host, spoken to by the command `rekindle`.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::Cloud;

/// Runs the daemon or the command, by its first argument: a binary of this very package, so it is never stale.
const ENTRY: &str = env!("CARGO_BIN_EXE_demo");

/// How long the cluster may take for what needs no failure: forming, reading devices, hearing of guests.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// The daemons; they are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Daemons {
    directory: PathBuf,
    hosts: Vec<String>,
    children: RefCell<Vec<(String, Child)>>,
}

impl Daemons {
    /// Certificates, configuration, one daemon a host.
    pub(crate) fn start(cloud: &Cloud) -> Self {
        let directory = cloud.directory().join("rekindle");
        // What an earlier run left is another cluster's.
        if directory.exists() {
            std::fs::remove_dir_all(&directory).expect("an earlier run's directory can be removed");
        }
        std::fs::create_dir_all(&directory).expect("a directory for the daemons");
        let name = |host: &Value| host["host"].as_str().expect("a host has a name").to_owned();
        let hosts: Vec<String> = cloud.hosts().iter().map(name).collect();
        let daemons = Self { directory, hosts, children: RefCell::new(Vec::new()) };
        daemons.certify();
        for (number, host) in cloud.hosts().iter().enumerate() {
            daemons.configure(cloud, host, number + 1);
        }
        for host in daemons.hosts.clone() {
            daemons.start_host(cloud, &host);
        }
        daemons
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    fn certify(&self) {
        let (pki, tls) = (self.path("pki"), self.path("tls"));
        self.command(&["pki", "init", "--cluster", "cloudtest", "--dir", &pki]);
        for host in &self.hosts {
            self.command(&["pki", "issue", host, "--dir", &pki, "--out", &tls]);
        }
        self.command(&["pki", "issue", "--role", "operator", "tester", "--dir", &pki, "--out", &tls]);
    }

    fn configure(&self, cloud: &Cloud, host: &Value, number: usize) {
        let name = host["host"].as_str().unwrap_or_default();
        let seeds: Vec<String> = (1..=self.hosts.len()).map(|number| format!("\"127.0.71.{number}:7946\"")).collect();
        let voters: Vec<String> = self.hosts.iter().map(|host| format!("\"{host}\"")).collect();
        let mut text = format!(
            r#"[member]
host = "{name}"
listen = "127.0.71.{number}:7946"
state_dir = "{state}"
admin_socket = "{socket}"
system_uuid = {uuid}
[cluster]
name = "cloudtest"
seeds = [{seeds}]
voters = [{voters}]
tls = {{ ca = "{ca}", cert = "{tls}/{name}.pem", key = "{tls}/{name}.key" }}
[recovery]
local_disk = "rebuild"
[nova]
cloud = {cloud_name}
clouds_file = {clouds_file}
timeout = "30s"
[libvirt]
uri = {uri}
[log]
target = "stderr"
"#,
            state = self.path(&format!("{name}-state")),
            socket = self.path(&format!("{name}.sock")),
            uuid = host["system_uuid"],
            seeds = seeds.join(", "),
            voters = voters.join(", "),
            ca = self.path("pki/ca.pem"),
            tls = self.path("tls"),
            cloud_name = cloud.status["rekindle"]["cloud"],
            clouds_file = cloud.status["rekindle"]["clouds_file"],
            uri = host["libvirt_uri"],
        );
        for other in cloud.hosts() {
            let bmc = &other["bmc"];
            let address = format!("{}:{}", bmc["address"].as_str().unwrap_or_default(), bmc["port"]);
            text.push_str(&format!(
                "[[fence_device]]\nhosts = {}\nlevel = 1\ndriver = \"ipmi-tool\"\naddress = \"{address}\"\n\
                 username = {}\npassword_file = {}\ncipher_suite = {}\n",
                other["host"], bmc["username"], bmc["password_file"], bmc["cipher_suite"]
            ));
        }
        std::fs::write(self.path(&format!("{name}.toml")), text).expect("a configuration file");
    }

    /// Starts a host's daemon and makes it die with the host.
    pub(crate) fn start_host(&self, cloud: &Cloud, host: &str) {
        let log =
            File::options().create(true).append(true).open(self.path(&format!("{host}.log"))).expect("a log file");
        let child = Command::new(ENTRY)
            .args(["rekindled", "--config", &self.path(&format!("{host}.toml"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rekindled starts");
        cloud.run(&["host", "adopt", host, "rekindled", &child.id().to_string()]);
        let mut children = self.children.borrow_mut();
        // The one before it died with its host.
        for (_, dead) in children.iter_mut().filter(|(name, _)| name == host) {
            let _status = dead.wait();
        }
        children.retain(|(name, _)| name != host);
        children.push((host.to_owned(), child));
    }

    /// Runs the command; what it printed, or what it said and its exit code.
    fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(ENTRY)
            .arg("rekindle")
            .args(arguments)
            .env("REKINDLE_OPERATOR_CERT", self.path("tls/tester.pem"))
            .env("REKINDLE_OPERATOR_KEY", self.path("tls/tester.key"))
            .stdin(Stdio::null())
            .output()
            .expect("rekindle runs");
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // `status` exits 1 while an incident is open: its answer counts nevertheless.
        if output.status.success() || (!output.stdout.is_empty() && output.stdout.starts_with(b"{")) {
            Ok(words(&output.stdout))
        } else {
            Err(format!("{}: {}{}", output.status, words(&output.stdout), words(&output.stderr)))
        }
    }

    fn command(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap_or_else(|words| panic!("rekindle {}: {words}", arguments.join(" ")))
    }

    /// A member whose daemon lives.
    fn socket(&self) -> String {
        let mut children = self.children.borrow_mut();
        let mut newest_first = children.iter_mut().rev();
        let alive = newest_first.find_map(|(host, child)| matches!(child.try_wait(), Ok(None)).then_some(host));
        let host = alive.expect("a daemon lives");
        self.path(&format!("{host}.sock"))
    }

    fn ask(&self, arguments: &[&str]) -> Option<Value> {
        let socket = self.socket();
        let mut all = vec!["--socket", socket.as_str()];
        all.extend(arguments);
        all.push("--json");
        serde_json::from_str(&self.attempt(&all).ok()?).ok()
    }

    /// Gives an order at a living member, again until it is taken or `within` seconds are over; its last refusal.
    pub(crate) fn order_refused(&self, arguments: &[&str], within: u64) -> Option<String> {
        let deadline = Instant::now() + Duration::from_secs(within);
        loop {
            let socket = self.socket();
            let mut all = vec!["--socket", socket.as_str()];
            all.extend(arguments);
            match self.attempt(&all) {
                Ok(_) => return None,
                Err(words) if Instant::now() >= deadline => return Some(words),
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// Gives the roster, and arms: from here on the daemons act.
    pub(crate) fn arm(&self) {
        let lines: Vec<String> = self.hosts.iter().map(|host| format!("[[host]]\nhost = \"{host}\"\n")).collect();
        let (roster, ca) = (self.path("roster.toml"), self.path("pki/ca.pem"));
        std::fs::write(&roster, lines.concat()).expect("a roster file");
        let seconds = SETTLED_WITHIN.as_secs();
        let init = self.order_refused(&["init", "--roster", &roster, "--ca", &ca], seconds);
        assert_eq!(init, None, "logs in {}", self.directory.display());
        assert_eq!(self.order_refused(&["arm", "--reason", "cloud test"], seconds), None);
    }

    fn wait<T>(&self, what: &str, within: Duration, look: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() >= deadline {
                self.print_logs();
                let status = self.ask(&["status"]);
                panic!(
                    "waited {} s for {what}; logs in {}; status {status:?}",
                    within.as_secs(),
                    self.directory.display()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn print_logs(&self) {
        for host in &self.hosts {
            let log = std::fs::read_to_string(Path::new(&self.path(&format!("{host}.log")))).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            println!("--- {host} ---");
            for line in tail.iter().rev() {
                println!("{line}");
            }
        }
    }

    /// Until the leader has heard from that host's libvirt how many guests run.
    pub(crate) fn wait_for_guests(&self, host: &str, guests: usize) {
        self.wait(&format!("{guests} guests on {host}"), SETTLED_WITHIN, || {
            let status = self.ask(&["status"])?;
            let line = status["hosts"].as_array()?.iter().find(|line| line["host"] == host)?.clone();
            (line["guests"] == guests).then_some(())
        });
    }

    /// Until `rekindle why` says that its servers would be recovered.
    pub(crate) fn wait_protected(&self, host: &str) {
        self.wait(&format!("{host} to be protected"), SETTLED_WITHIN, || {
            let why = self.ask(&["why", host])?;
            (why["protected"] == true).then_some(())
        });
    }

    /// Until the newest incident of that host is recovered; its story.
    pub(crate) fn wait_recovered(&self, host: &str, within: Duration) -> Value {
        let id = self.wait(&format!("the recovery of {host}"), within, || {
            let incidents = self.ask(&["incident"])?;
            let lines = incidents.as_array().or_else(|| incidents["incidents"].as_array())?.clone();
            let line = lines.iter().find(|line| line["host"] == host && line["phase"] == "recovered")?;
            line["id"].as_u64()
        });
        let doc = self.ask(&["incident", &id.to_string()]).expect("the incident's story");
        if doc["story"].is_array() { doc } else { doc["incident"].clone() }
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for (_, child) in self.children.borrow_mut().iter_mut() {
            // Those that died with their host are only waited for.
            let _already_dead = child.kill();
            let _status = child.wait();
        }
    }
}
