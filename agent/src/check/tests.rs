//! A whole host's files in a directory, then one thing broken at a time.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// A voter's files, all as they should be.
struct Host {
    dir: tempfile::TempDir,
}

fn pki(dir: &Path, words: &[&str]) {
    use clap::Parser;
    let dir = dir.display().to_string();
    let words = ["rekindle", "pki"].into_iter().chain(words.iter().copied()).chain(["--dir", &dir]);
    let cli = crate::cli::Cli::try_parse_from(words).expect("understood");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(crate::cli::run(&cli, &mut Vec::new())).expect("made");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

impl Host {
    fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().expect("a directory") };
        pki(host.dir.path(), &["init", "--cluster", "zrh1"]);
        pki(host.dir.path(), &["issue", "cmp-01"]);
        pki(host.dir.path(), &["issue", "wit-1", "--role", "witness"]);
        std::fs::create_dir(host.at("state")).expect("made");
        set_mode(&host.at("state"), 0o700);
        for (name, text) in [("bmc.password", "hunter2\n"), ("clouds.yaml", "clouds:\n  zrh: {auth: {}}\n")] {
            std::fs::write(host.at(name), text).expect("written");
            set_mode(&host.at(name), 0o600);
        }
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, edit: impl FnOnce(String) -> String) -> Config {
        let text = r#"
[member]
host = "cmp-01"
listen = "127.0.0.1:7946"
state_dir = "state"
admin_socket = "state/admin.sock"
system_uuid = "4c4c4544-0042-3510-8052-b4c04f4a4e31"
[cluster]
name = "zrh1"
voters = ["cmp-01"]
seeds = ["127.0.0.1:7946"]
[[fence_device]]
hosts = "cmp-*"
driver = "ipmi-tool"
address = "{host}-bmc"
username = "rekindle"
password_file = "bmc.password"
[nova]
cloud = "zrh"
[libvirt]
uri = "off"
"#;
        Config::parse(&edit(text.to_owned()), &self.at("rekindle.toml")).expect("taken")
    }

    fn check(&self, edit: impl FnOnce(String) -> String) -> (Report, String) {
        check(&self.config(edit), Adapters::default())
    }
}

fn check(config: &Config, adapters: Adapters) -> (Report, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("built");
    let mut text = String::new();
    let mut tell = |line: &CheckLine| text.push_str(&format!("{line}\n"));
    let report = runtime.block_on(run(config, adapters, &mut tell));
    (report, text)
}

/// Lines that depend on the machine the test runs on.
fn without_machine(text: &str) -> String {
    text.lines()
        .filter(|line| !line.contains("system UUID") && !line.contains("ipmitool"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_whole_host_passes() {
    let (_, text) = Host::new().check(|text| text);
    let rest = without_machine(&text);
    assert!(!rest.contains("FAIL"), "{rest}");
    for says in [
        "ok    certificate identity: member cmp-01 of zrh1",
        "ok    certificate chain: issued by the cluster CA",
        "ok    certificate and key: belong together",
        "ok    member.listen: 127.0.0.1:7946 is an address of this machine",
        "ok    own fence devices: level 1 ipmi-tool@cmp-01-bmc",
        "ok    cloud: zrh is in ",
        "warn  libvirt.uri: off on a hypervisor; ",
    ] {
        assert!(rest.contains(says), "{says:?} is not in\n{rest}");
    }
    assert!(!text.contains("hunter2"), "a password is shown");
}

#[test]
fn each_fault_is_named() {
    type Break = fn(&Host);
    let faults: [(&str, Break, &str, &str); 19] = [
        ("", |host| set_mode(&host.at("cmp-01.key"), 0o640), "FAIL  certificate key: ", "chmod 0600"),
        ("", |host| std::fs::remove_file(host.at("cmp-01.key")).expect("gone"), "FAIL  certificate key: ", "pki issue"),
        ("", |host| std::fs::remove_file(host.at("cmp-01.pem")).expect("gone"), "FAIL  certificate: ", "pki issue"),
        ("", |host| std::fs::remove_file(host.at("ca.pem")).expect("gone"), "FAIL  cluster CA: ", "pki init"),
        (
            "",
            |host| assert!(std::fs::copy(host.at("wit-1.key"), host.at("cmp-01.key")).is_ok()),
            "FAIL  certificate and key: do not belong together",
            "pki issue",
        ),
        (
            "",
            |host| {
                let other = Host::new();
                std::fs::copy(other.at("ca.pem"), host.at("ca.pem")).expect("copied");
            },
            "FAIL  certificate chain: is not issued by the cluster CA",
            "same `rekindle pki init`",
        ),
        (
            "name = \"zrh1\"|name = \"ams1\"",
            |_| {},
            "FAIL  certificate identity: is of cluster zrh1",
            "cluster.name is ams1",
        ),
        (
            "voters|tls = { cert = \"wit-1.pem\", key = \"wit-1.key\" }\nvoters",
            |_| {},
            "FAIL  certificate identity: is of wit-1",
            "member.host is cmp-01",
        ),
        (
            "[member]|[member]\nrole = \"witness\"",
            |_| {},
            "FAIL  certificate identity: is of a member, member.role is witness",
            "--role",
        ),
        ("127.0.0.1:7946\"\nstate|192.0.2.1:7946\"\nstate", |_| {}, "FAIL  member.listen: 192.0.2.1:7946", "ip addr"),
        (
            "[member]|[member]\nmetrics = \"0.0.0.0:9794\"",
            |_| {},
            "warn  member.metrics: 0.0.0.0:9794 is served",
            "loopback",
        ),
        ("", |host| set_mode(&host.at("state"), 0o755), "warn  member.state_dir: ", "chmod 0700"),
        ("", |host| std::fs::remove_dir(host.at("state")).expect("gone"), "warn  member.state_dir: ", "StateDirectory"),
        (
            "seeds = [\"127.0.0.1:7946\"]|seeds = [\"x.invalid:1\"]",
            |_| {},
            "FAIL  seeds: none can be resolved",
            "nobody",
        ),
        ("[nova]\ncloud = \"zrh\"\n|", |_| {}, "FAIL  nova: not configured", "may lead"),
        ("cloud = \"zrh\"|cloud = \"ams\"", |_| {}, "FAIL  cloud: ams is not under `clouds`", "nova.cloud"),
        ("", |host| set_mode(&host.at("bmc.password"), 0o644), "FAIL  fence device password: ", "chmod 0600"),
        ("uri = \"off\"|uri = \"qemu:///system\"", |_| {}, "warn  voter beside guests: ", "breaks out"),
        ("cmp-*|ctl-*", |_| {}, "warn  own fence devices: no [[fence_device]] matches cmp-01", "never recovered"),
    ];
    for (edit, break_it, begins, says) in faults {
        let host = Host::new();
        break_it(&host);
        let (_, text) = host.check(|text| match edit.split_once('|') {
            Some((from, to)) => {
                assert!(text.contains(from), "{from:?}");
                text.replacen(from, to, 1)
            }
            None => text,
        });
        let line =
            text.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no {begins:?} in\n{text}"));
        assert!(line.contains(says), "{line:?} does not say {says:?}");
        assert!(!text.contains("hunter2"));
    }
}

#[test]
fn secrets_on_a_non_voter_are_named() {
    let host = Host::new();
    let (_, text) = host.check(|text| text.replacen("voters = [\"cmp-01\"]", "voters = [\"cmp-02\"]", 1));
    assert_eq!(text.matches("lies on a non-voter").count(), 2, "{text}");
    assert!(!text.contains("ipmitool"), "{text}");
}

#[test]
fn adapters_are_tried_and_given_up() {
    let config = Host::new().config(|text| text);
    let adapters = Adapters {
        nova: Some(Box::pin(async { Err("401\nfrom Keystone".to_owned()) })),
        hypervisor: Some(Box::pin(async { Ok("3 guests".to_owned()) })),
        devices: vec![("ipmi-tool@cmp-01-bmc".to_owned(), Box::pin(std::future::pending()))],
    };
    let (report, text) = check(&config, adapters);
    assert!(text.contains("FAIL  nova: 401 from Keystone; "), "{text}");
    assert!(text.contains("ok    hypervisor: 3 guests\n"), "{text}");
    assert!(text.contains("FAIL  fence device ipmi-tool@cmp-01-bmc: no answer within 60 s; "), "{text}");
    assert_eq!(report.exit_code(), 1);
    assert_eq!(Report { fine: 3, warnings: 2, failures: 0 }.exit_code(), 0);
    assert_eq!(report.fine + report.warnings + report.failures, text.lines().count());
}

#[test]
fn who_holds_the_watchdog_is_named() {
    use super::watchdog::held;
    let node = crate::watchdog::Node::parse("/dev/watchdog0").expect("legal");
    let ours = "rekindled (process 7)".to_owned();
    let systemd = "systemd (process 1)".to_owned();
    // (somebody started it, who holds it, the line)
    let rows: [(bool, &[&String], &str); 5] = [
        (false, &[], ""),
        (true, &[&ours], "ok    member.watchdog: it runs, fed by rekindled (process 7)"),
        (true, &[&ours, &systemd], "FAIL  member.watchdog: /dev/watchdog0 is held by systemd (process 1); only one"),
        (false, &[&systemd], "FAIL  member.watchdog: /dev/watchdog0 is held by systemd"),
        (true, &[], "warn  member.watchdog: it runs, and nobody is seen to hold it"),
    ];
    for (active, holders, expected) in rows {
        let holders: Vec<String> = holders.iter().map(|holder| (*holder).clone()).collect();
        let line = held(node, active, &holders).map(|line| line.to_string()).unwrap_or_default();
        assert!(line.starts_with(expected) && line.is_empty() == expected.is_empty(), "{line:?}, not {expected:?}");
    }
}

#[test]
fn a_watchdog_that_is_not_there_is_said() {
    let host = Host::new();
    let fencing = |text: String| format!("{text}\n[fencing]\nself_fence = true\n");
    let (_, text) = host.check(fencing);
    assert!(text.contains("warn  member.watchdog: none on this host, and fencing.self_fence = true"), "{text}");
    // The last number that Linux gives: no machine has so many.
    let (report, text) =
        host.check(|text| fencing(text.replacen("[member]", "[member]\nwatchdog = \"/dev/watchdog31\"", 1)));
    assert!(text.contains("FAIL  member.watchdog: /dev/watchdog31 is not there"), "{text}");
    assert_eq!(report.exit_code(), 1);
}
