//! The daemons under test: the very `rekindled` of this build, one a compute host, spoken to by the command `rekindle`.

use std::cell::RefCell;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cloud::Cloud;

/// Runs the daemon or the command, by its first argument: a binary of this very package, so it is never stale.
const ENTRY: &str = env!("CARGO_BIN_EXE_demo");

/// How long the cluster may take for what needs no failure: forming, reading devices, hearing of guests.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// Members without guests: they vote and hold the ledger, so that no host's death takes a vote, and whoever leads can die
/// alone.
const WITNESSES: [&str; 3] = ["wit1", "wit2", "wit3"];

/// The daemons. Those of the hosts are the cloud's (they live and die with their host); the witnesses are killed when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Daemons {
    directory: PathBuf,
    hosts: Vec<String>,
    witnesses: RefCell<Vec<(String, Child)>>,
}

impl Daemons {
    /// Certificates, configuration, one daemon a host, each behind a boot gate from its next start on, and three witnesses.
    pub(crate) fn start(cloud: &Cloud) -> Self {
        let directory = cloud.directory().join("rekindle");
        // What an earlier run left is another cluster's.
        if directory.exists() {
            std::fs::remove_dir_all(&directory).expect("an earlier run's directory can be removed");
        }
        std::fs::create_dir_all(&directory).expect("a directory for the daemons");
        let daemons = Self { directory, hosts: cloud.host_names(), witnesses: RefCell::new(Vec::new()) };
        daemons.certify();
        daemons.clouds_file(cloud);
        for (number, host) in cloud.hosts().iter().enumerate() {
            let name = host["host"].as_str().unwrap_or_default();
            let own = format!("system_uuid = {}\n", host["system_uuid"]);
            let libvirt = format!("[libvirt]\nuri = {}\n", host["libvirt_uri"]);
            daemons.configure(cloud, name, number + 1, &own, &libvirt);
            daemons.make_the_hosts(host);
            cloud.host("start", name);
        }
        for (number, witness) in WITNESSES.iter().enumerate() {
            let own = format!("role = \"witness\"\nsystem_uuid = \"00000000-0000-4000-8000-00000000000{number}\"\n");
            daemons.configure(cloud, witness, daemons.hosts.len() + number + 1, &own, "");
            daemons.start_witness(witness);
        }
        daemons
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    fn members(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(String::as_str).chain(WITNESSES)
    }

    /// rekindle's entry, with the interface at which the relay stands.
    fn clouds_file(&self, cloud: &Cloud) {
        let own = cloud.status["rekindle"]["clouds_file"].as_str().unwrap_or_default();
        let text = std::fs::read_to_string(own).expect("the cloud's file");
        let text = text.replace("    region_name:", "    interface: internal\n    region_name:");
        let file = self.path("clouds.yaml");
        std::fs::write(&file, text).expect("a clouds.yaml");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
    }

    /// What the host starts when it boots.
    fn make_the_hosts(&self, host: &Value) {
        let name = host["host"].as_str().unwrap_or_default();
        let knobs = Path::new(host["knobs"].as_str().unwrap_or_default());
        let daemon = format!("exec '{ENTRY}' rekindled --config '{}'\n", self.path(&format!("{name}.toml")));
        let gate = format!("exec '{ENTRY}' rekindle --socket '{}' gate wait\n", self.path(&format!("{name}.sock")));
        std::fs::write(knobs.join("rekindled"), daemon).expect("a knob");
        std::fs::write(knobs.join("gate"), gate).expect("a knob");
    }

    fn certify(&self) {
        let (pki, tls) = (self.path("pki"), self.path("tls"));
        self.command(&["pki", "init", "--cluster", "cloudtest", "--dir", &pki]);
        for host in &self.hosts {
            self.command(&["pki", "issue", host, "--dir", &pki, "--out", &tls]);
        }
        for witness in WITNESSES {
            self.command(&["pki", "issue", "--role", "witness", witness, "--dir", &pki, "--out", &tls]);
        }
        self.command(&["pki", "issue", "--role", "operator", "tester", "--dir", &pki, "--out", &tls]);
    }

    fn configure(&self, cloud: &Cloud, name: &str, number: usize, own: &str, libvirt: &str) {
        let quoted = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
        let seeds = quoted(&mut (1..=self.members().count()).map(|number| format!("\"127.0.71.{number}:7946\"")));
        let voters = quoted(&mut WITNESSES.iter().map(|name| format!("\"{name}\"")));
        let mut text = format!(
            r#"[member]
host = "{name}"
listen = "127.0.71.{number}:7946"
state_dir = "{state}"
admin_socket = "{socket}"
{own}[cluster]
name = "cloudtest"
seeds = [{seeds}]
voters = [{voters}]
tls = {{ ca = "{ca}", cert = "{tls}/{name}.pem", key = "{tls}/{name}.key" }}
[recovery]
local_disk = "rebuild"
add_reserved_host_to_aggregate = true
[recovery.order]
wait_for_previous = true
[nova]
cloud = {cloud_name}
clouds_file = "{clouds_file}"
timeout = "30s"
{libvirt}[log]
target = "stderr"
"#,
            state = self.path(&format!("{name}-state")),
            socket = self.path(&format!("{name}.sock")),
            ca = self.path("pki/ca.pem"),
            tls = self.path("tls"),
            cloud_name = cloud.status["rekindle"]["cloud"],
            clouds_file = self.path("clouds.yaml"),
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

    pub(crate) fn start_witness(&self, name: &str) {
        let log =
            File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).expect("a log file");
        let child = Command::new(ENTRY)
            .args(["rekindled", "--config", &self.path(&format!("{name}.toml"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rekindled starts");
        self.witnesses.borrow_mut().push((name.to_owned(), child));
    }

    pub(crate) fn start_dead_witnesses(&self) {
        for name in WITNESSES {
            if !self.witnesses.borrow().iter().any(|(alive, _)| alive == name) {
                self.start_witness(name);
            }
        }
    }

    /// Kills the daemon that leads; its name.
    pub(crate) fn kill_leader(&self) -> String {
        let leader =
            self.wait("a leader", SETTLED_WITHIN, || Some(self.ask(&["status"])?["leader"].as_str()?.to_owned()));
        let mut witnesses = self.witnesses.borrow_mut();
        let at = witnesses.iter().position(|(name, _)| *name == leader);
        let (name, mut child) = witnesses.remove(at.unwrap_or_else(|| panic!("{leader} leads, and is no witness")));
        child.kill().expect("a daemon can be killed");
        let _status = child.wait();
        name
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

    /// A witness whose daemon lives.
    fn socket(&self) -> String {
        let mut witnesses = self.witnesses.borrow_mut();
        let alive = witnesses.iter_mut().find_map(|(name, child)| matches!(child.try_wait(), Ok(None)).then_some(name));
        let name = alive.expect("a witness lives");
        self.path(&format!("{name}.sock"))
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Option<Value> {
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
        let mut lines: Vec<String> = self.hosts.iter().map(|host| format!("[[host]]\nhost = \"{host}\"\n")).collect();
        lines.extend(WITNESSES.iter().map(|name| format!("[[host]]\nhost = \"{name}\"\nrole = \"witness\"\n")));
        let (roster, ca) = (self.path("roster.toml"), self.path("pki/ca.pem"));
        std::fs::write(&roster, lines.concat()).expect("a roster file");
        let seconds = SETTLED_WITHIN.as_secs();
        let init = self.order_refused(&["init", "--roster", &roster, "--ca", &ca], seconds);
        assert_eq!(init, None, "logs in {}", self.directory.display());
        assert_eq!(self.order_refused(&["arm", "--reason", "cloud test"], seconds), None);
    }

    pub(crate) fn wait<T>(&self, what: &str, within: Duration, look: impl Fn() -> Option<T>) -> T {
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
        for host in WITNESSES {
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
        self.wait(&format!("{host} to be protected"), SETTLED_WITHIN, || self.is_protected(host).then_some(()));
    }

    pub(crate) fn is_protected(&self, host: &str) -> bool {
        self.ask(&["why", host]).is_some_and(|why| why["protected"] == true)
    }

    /// The number of the newest incident, 0 if there was none.
    pub(crate) fn newest_incident(&self) -> u64 {
        self.wait("the list of incidents", SETTLED_WITHIN, || {
            let lines = self.incidents()?;
            Some(lines.iter().filter_map(|line| line["id"].as_u64()).max().unwrap_or(0))
        })
    }

    /// The phase of that host's incident that is newer than `after`, if there is one.
    pub(crate) fn phase(&self, host: &str, after: u64) -> Option<String> {
        let lines = self.incidents()?;
        let newer = |line: &&Value| line["host"] == host && line["id"].as_u64() > Some(after);
        Some(lines.iter().find(newer)?["phase"].as_str()?.to_owned())
    }

    fn incidents(&self) -> Option<Vec<Value>> {
        let incidents = self.ask(&["incident"])?;
        incidents.as_array().or_else(|| incidents["incidents"].as_array()).cloned()
    }

    /// Until the incident of that host that is newer than `after` is recovered; its story.
    pub(crate) fn wait_recovered(&self, host: &str, after: u64, within: Duration) -> Value {
        let id = self.wait(&format!("the recovery of {host}"), within, || {
            let newer = |line: &&Value| line["host"] == host && line["id"].as_u64() > Some(after);
            let lines = self.incidents()?;
            lines.iter().filter(newer).find(|line| line["phase"] == "recovered")?["id"].as_u64()
        });
        self.wait("the incident's story", SETTLED_WITHIN, || {
            let doc = self.ask(&["incident", &id.to_string()])?;
            Some(if doc["story"].is_array() { doc } else { doc["incident"].clone() })
        })
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for (_, child) in self.witnesses.borrow_mut().iter_mut() {
            let _already_dead = child.kill();
            let _status = child.wait();
        }
    }
}
