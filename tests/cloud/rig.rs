//! What the cases share: one cloud with its daemons, hosts that die and come back, and the truth about servers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::{Cloud, now_us};
use crate::daemons::Daemons;
use crate::relay::{Like, Relay};

/// From the kill to the last server running. Generous: the machine may be busy; each case prints its real time.
pub(crate) const RECOVERED_WITHIN: Duration = Duration::from_secs(600);

/// A host's way back: boot, gate, nova-compute, Nova's clean-up, readmission.
const BACK_WITHIN: Duration = Duration::from_secs(480);

/// The one segment that cases make.
pub(crate) const SEGMENT: &str = "spare";

/// One cloud, brought up once for all cases of its size.
#[derive(Debug)]
pub(crate) struct Rig {
    // In this order they end: the daemons before the cloud.
    pub(crate) daemons: Daemons,
    pub(crate) relay: Relay,
    watcher: Watcher,
    pub(crate) cloud: Cloud,
    deaths: Cell<usize>,
}

/// A host that was killed.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) host: String,
    pub(crate) us: i64,
    /// The newest incident before it.
    pub(crate) after: u64,
}

impl Rig {
    pub(crate) fn up(hosts: usize) -> Self {
        let cloud = Cloud::up(hosts);
        let nova: SocketAddr = cloud.status["nova"].as_str().and_then(|at| at.parse().ok()).expect("Nova's address");
        let relay = Relay::before(nova);
        cloud.run(&["endpoint", &format!("http://{}/v2.1", relay.address)]);
        let watcher = Watcher::start(&cloud);
        let daemons = Daemons::start(&cloud);
        daemons.arm();
        for host in cloud.host_names() {
            daemons.wait_protected(&host);
        }
        Self { daemons, relay, watcher, cloud, deaths: Cell::new(0) }
    }

    /// The next host to die, and the others.
    pub(crate) fn victim(&self) -> (String, Vec<String>) {
        let mut hosts = self.cloud.host_names();
        hosts.rotate_left(self.deaths.replace(self.deaths.get() + 1) % 3);
        let victim = hosts.remove(0);
        (victim, hosts)
    }

    /// Active servers there, of which the daemons know; their ids.
    pub(crate) fn active(&self, count: usize, host: &str, metadata: &[&str]) -> Vec<String> {
        let ids = crate::cloud::ids(&self.cloud.boot(count, host, metadata));
        self.daemons.wait_for_guests(host, self.cloud.domains(host).len());
        ids
    }

    /// Servers in given states, of which the daemons know; their ids, by name.
    pub(crate) fn prepared(&self, host: &str, servers: &[Value]) -> BTreeMap<String, String> {
        let ids = self.cloud.prepare(servers);
        self.daemons.wait_for_guests(host, self.cloud.domains(host).len());
        ids
    }

    /// nova-compute, libvirtd and rekindled die at once.
    pub(crate) fn kill(&self, host: &str) -> Death {
        self.daemons.wait_protected(host);
        self.kill_now(host)
    }

    /// The same, where nobody can say whether it is protected.
    pub(crate) fn kill_now(&self, host: &str) -> Death {
        let after = self.daemons.newest_incident();
        let us = now_us();
        self.cloud.host("kill", host);
        Death { host: host.to_owned(), us, after }
    }

    pub(crate) fn recovered(&self, death: &Death) -> Value {
        self.recovered_within(death, RECOVERED_WITHIN)
    }

    pub(crate) fn recovered_within(&self, death: &Death, within: Duration) -> Value {
        let story = self.daemons.wait_recovered(&death.host, death.after, within);
        println!("    {} recovered {} s after its death", death.host, (now_us() - death.us) / 1_000_000);
        story
    }

    /// Each of these servers is active elsewhere, runs once, and was evacuated by one call.
    pub(crate) fn assert_moved_once(&self, death: &Death, ids: &[String]) {
        self.assert_active_elsewhere(death, ids);
        for id in ids {
            let calls = self.evacuations(id, death.us);
            assert_eq!(calls, 1, "{id} was asked to be evacuated {calls} times");
        }
    }

    pub(crate) fn assert_active_elsewhere(&self, death: &Death, ids: &[String]) {
        let servers = self.cloud.servers();
        for id in ids {
            let server = servers.iter().find(|server| server["id"] == id.as_str());
            let server = server.unwrap_or_else(|| panic!("Nova does not list {id}"));
            assert_eq!(server["status"], "ACTIVE", "{server}");
            assert_ne!(server["host"], death.host.as_str(), "{server}");
            assert!(server["task_state"].is_null(), "{server}");
            assert_eq!(server["locked"], false, "{server}");
        }
        self.cloud.assert_domains_match(ids);
        self.assert_never_twice();
    }

    /// Evacuate calls for that server that the daemons have made since then, whether or not Nova has had them.
    pub(crate) fn evacuations(&self, server: &str, since_us: i64) -> usize {
        self.relay.seen(Like::EVACUATE, since_us).iter().filter(|seen| seen.path.contains(server)).count()
    }

    /// The hypervisors' own word, all the time since the cloud came up.
    pub(crate) fn assert_never_twice(&self) {
        let lines = std::fs::read_to_string(&self.watcher.file).unwrap_or_default();
        assert_eq!(lines, "", "guests ran on two hosts at once");
    }

    /// The line of that server in an incident's story.
    pub(crate) fn line(story: &Value, server: &str) -> Value {
        let lines = story["servers"].as_array().cloned().unwrap_or_default();
        let line = lines.into_iter().find(|line| line["server"] == server);
        line.unwrap_or_else(|| panic!("{server} is not in the incident: {story}"))
    }

    /// The dead host boots: its gate opens, Nova cleans up, it is protected and used again. Where a person has to look
    /// first (something was left behind, or the host comes and goes), one does.
    pub(crate) fn back(&self, host: &str) {
        let began = now_us();
        self.cloud.host("start", host);
        let mut released = false;
        let mut protected = false;
        let mut restarted_for = None;
        self.cloud.wait(&format!("{host} to come back"), BACK_WITHIN, || {
            // Of several records of one server a starting nova-compute completes one: again for each that the note counts.
            let asked = self.notes(host).into_iter().find(|note| note.contains("restart nova-compute"));
            if asked.is_some() && asked != restarted_for {
                self.cloud.host("restart-compute", host);
                restarted_for = asked;
            }
            if !released && self.needs_a_person(host) {
                released = true;
                let refused = self.daemons.order_refused(&["release", host, "--reason", "seen to it"], 60);
                assert_eq!(refused, None);
            }
            protected = protected || self.daemons.is_protected(host);
            protected && {
                let service = self.cloud.run(&["service", host]);
                service["forced_down"] == false && service["state"] == "up" && service["status"] == "enabled"
            }
        });
        let left = self.cloud.migrations(host);
        let left: Vec<&Value> = left
            .iter()
            .filter(|migration| migration["source_compute"] == host && migration["status"] == "done")
            .collect();
        assert!(left.is_empty(), "Nova has not cleaned up: {left:?}");
        self.assert_never_twice();
        let how = if released { "when a person had released it" } else { "by itself" };
        println!("    {host} is back after {} s, {how}", (now_us() - began) / 1_000_000);
    }

    fn needs_a_person(&self, host: &str) -> bool {
        let asks = |note: &String| note.contains("left behind") || note.contains("flapping");
        self.notes(host).iter().any(|note| note.starts_with("not back: ") && asks(note))
    }

    /// What the daemons say of a host.
    fn notes(&self, host: &str) -> Vec<String> {
        let Some(status) = self.daemons.ask(&["status"]) else { return Vec::new() };
        let line = status["hosts"].as_array().and_then(|all| all.iter().find(|line| line["host"] == host));
        let notes = line.and_then(|line| line["notes"].as_array());
        notes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Deletes every server: the next case begins with none.
    pub(crate) fn sweep(&self) {
        self.relay.release_all();
        self.cloud.run(&["delete"]);
    }

    /// After a failed case: whatever is dead boots, and whatever a person is asked for is answered.
    pub(crate) fn mend(&self) {
        self.relay.release_all();
        for service in ["keystone", "nova-api"] {
            self.cloud.run(&["plane", "start", service]);
        }
        self.daemons.start_dead_witnesses();
        // There may be none.
        self.daemons.order_refused(&["segment", "delete", SEGMENT, "--with-hosts", "--reason", "the case failed"], 0);
        for host in self.cloud.host_names() {
            // Again and again: while its incident is open, a host that somebody starts is switched off.
            self.cloud.wait(&format!("{host} to be mended"), BACK_WITHIN, || {
                self.cloud.host("start", &host);
                self.daemons.order_refused(&["release", &host, "--reason", "the case before failed"], 0);
                self.cloud.attempt(&["forced-up", &host, "--timeout", "20"]).is_some()
            });
        }
        self.sweep();
        for host in self.cloud.host_names() {
            self.daemons.wait_protected(&host);
        }
        self.watcher.forget();
    }
}

/// A server for [`Cloud::prepare`].
pub(crate) fn server(name: &str, host: &str, vm_state: &str, actions: Value) -> Value {
    json!({ "name": name, "host": host, "vm_state": vm_state, "task_state": null, "actions": actions })
}

/// Looks for guests that run twice, from the first case to the last.
#[derive(Debug)]
struct Watcher {
    child: Child,
    file: PathBuf,
}

impl Watcher {
    fn start(cloud: &Cloud) -> Self {
        let file = cloud.directory().join("twice.log");
        std::fs::write(&file, "").expect("the watcher's file");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cloud/guests.py");
        let directories = cloud.hosts().into_iter().filter_map(|host| host["directory"].as_str().map(str::to_owned));
        let child = Command::new("/usr/bin/python3")
            .args(["-B", script, "watch"])
            .arg(&file)
            .args(directories)
            .stdin(Stdio::null())
            .spawn()
            .expect("the watcher starts");
        Self { child, file }
    }

    fn forget(&self) {
        std::fs::write(&self.file, "").expect("the watcher's file");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _status = self.child.wait();
    }
}
