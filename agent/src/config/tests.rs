//! What a file means, and what is refused.

mod refusals;

use super::*;
use crate::bmc::{DeviceSettings, Privilege, RedfishAuth, RedfishTrust, SecretSource};
use crate::process::ProcessMeans;

pub(super) const FILE: &str = "/etc/rekindle/rekindle.toml";

/// A small file that is taken; `edit` may change it.
pub(super) const GOOD: &str = r#"
[member]
host = "cmp-01"
listen = "10.20.0.11:7946"
[cluster]
name = "zrh1"
voters = ["cmp-01", "cmp-02", "cmp-03"]
seeds = ["cmp-02:7946"]
[detection]
probe_period = "1s"
probe_ack = "300ms"
[[fence_device]]
hosts = "cmp-*"
driver = "ipmi-tool"
address = "{host}-bmc"
username = "rekindle"
password_file = "bmc.password"
[nova]
cloud = "rekindle"
"#;

const DEVICE: &str = "driver = \"ipmi-tool\"\nusername = \"u\"\npassword_file = \"p\"\n";

/// What a file with `[nova]` and nothing else about thresholds means.
fn by_default() -> Policy {
    Policy { capacity_every: Some(std::time::Duration::from_secs(300)), ..Policy::default() }
}

fn hook(lines: &str) -> String {
    format!("{GOOD}\n[[hook]]\n{lines}\n")
}

fn process(lines: &str) -> String {
    format!("{GOOD}\n[[process]]\n{lines}\n")
}

fn notifications(lines: &str) -> String {
    format!("{GOOD}\n[notifications]\n{lines}\n")
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(FILE))
}

fn edit(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the good file");
    GOOD.replacen(from, to, 1)
}

fn device(lines: &str) -> String {
    format!("{GOOD}\n[[fence_device]]\n{DEVICE}{lines}\n")
}

fn after(table: &str, line: &str) -> String {
    edit(table, &format!("{table}\n{line}"))
}

#[test]
fn the_example_is_taken_and_holds_every_key() {
    let text = include_str!("../../../docs/rekindle.toml");
    let config = parse(text).expect("the example is taken");
    assert_eq!(config.policy, by_default(), "what the example leaves out has its default");
    assert_eq!(config.cluster.tls.key, Path::new("/etc/rekindle/cmp-05.key"));
    assert!(config.is_voter());
    // Every commented key, uncommented, is a key we know, and its shown value is the default or harmless.
    let mut open = String::new();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            // The one key that must not be there while another has its default.
            Some(key) if key.starts_with("watchdog = ") => {}
            Some(key) if key.contains(" = ") && key.starts_with(|c: char| c.is_ascii_lowercase()) => open.push_str(key),
            // The keys of a rule are shown indented, and stay closed with it.
            Some(table) if table.starts_with('[') && !table.contains("rule]]") => open.push_str(table),
            Some(_) | None => open.push_str(line),
        }
        open.push('\n');
    }
    let opened = parse(&open).expect("the example with every key is taken");
    let hook = &opened.hooks[0];
    assert_eq!((hook.program.as_path(), hook.rule.hold), (Path::new("/usr/local/sbin/ticket"), false));
    let process = &opened.processes[0];
    assert_eq!(process.means, ProcessMeans::Unit("nova-compute.service".to_owned()));
    assert_eq!((process.rule.restarts, process.rule.disables), (3, true));
    let (hooks, processes) = (vec![hook.rule.clone()], vec![process.rule.clone()]);
    // Off by default, and shown as it would be given.
    assert!(!config.policy.kdump.is_on());
    let kdump =
        rekindle_coordinator::policy::KdumpPolicy { wait: std::time::Duration::from_secs(60), ..config.policy.kdump };
    assert_eq!(opened.policy, Policy { hooks, processes, webhook: true, kdump, ..by_default() });
    let webhook = opened.notifications.webhook.expect("it is shown");
    assert_eq!(webhook.secret_file, Path::new("/etc/rekindle/webhook.secret"));
    assert_eq!(webhook.timeout, std::time::Duration::from_secs(10));
    assert_eq!(opened.nova.map(|nova| nova.timeout), config.nova.map(|nova| nova.timeout));
    assert_eq!(opened.member.state_dir, config.member.state_dir);
    assert_eq!(opened.member.admin_socket, config.member.admin_socket);
    assert_eq!(opened.hypervisor, config.hypervisor);
    assert_eq!(opened.log, config.log);
    for (key, _) in KEYS {
        assert!(text.contains(&format!("{key} =")), "the example does not show {key}");
    }
}

#[test]
fn every_key_is_documented() {
    let manual = include_str!("../../../docs/configuration.md");
    for (key, table) in KEYS {
        assert!(manual.contains(&format!("`{key}`")), "docs/configuration.md does not explain {key} of {table}");
    }
}

/// Every key of the file.
const KEYS: [(&str, &str); 96] = [
    ("host", "member"),
    ("listen", "member"),
    ("paths", "member"),
    ("paths", "cluster"),
    ("state_dir", "member"),
    ("admin_socket", "member"),
    ("metrics", "member"),
    ("domain", "member"),
    ("labels", "member"),
    ("role", "member"),
    ("system_uuid", "member"),
    ("record", "member"),
    ("watchdog", "member"),
    ("name", "cluster"),
    ("voters", "cluster"),
    ("standbys", "cluster"),
    ("seeds", "cluster"),
    ("tls", "cluster"),
    ("probe_period", "detection"),
    ("probe_ack", "detection"),
    ("indirect_probes", "detection"),
    ("on_agent_death", "detection"),
    ("life_ports", "detection"),
    ("suspicion_factor", "detection"),
    ("device_timeout", "fencing"),
    ("off_polls", "fencing"),
    ("fence_tries", "fencing"),
    ("self_fence", "fencing"),
    ("after_recovery", "fencing"),
    ("kdump_wait", "fencing"),
    ("kdump_longest", "fencing"),
    ("hosts", "fence_device"),
    ("level", "fence_device"),
    ("driver", "fence_device"),
    ("address", "fence_device"),
    ("username", "fence_device"),
    ("password_file", "fence_device"),
    ("password_credential", "fence_device"),
    ("cipher_suite", "fence_device"),
    ("cipher_suites", "fence_device"),
    ("privilege", "fence_device"),
    ("k_g_file", "fence_device"),
    ("k_g_credential", "fence_device"),
    ("system", "fence_device"),
    ("ca_file", "fence_device"),
    ("sha256_pin", "fence_device"),
    ("auth", "fence_device"),
    ("options", "fence_device"),
    ("option_files", "fence_device"),
    ("option_credentials", "fence_device"),
    ("command", "fence_device"),
    ("unverified", "fence_device"),
    ("evacuations_at_once", "recovery"),
    ("evacuate_tries", "recovery"),
    ("local_disk", "recovery"),
    ("lock", "recovery"),
    ("on_shutdown", "recovery"),
    ("readmission", "recovery"),
    ("add_reserved_host_to_aggregate", "recovery"),
    ("mode", "recovery.select"),
    ("metadata_key", "recovery.select"),
    ("error_servers", "recovery.select"),
    ("action", "recovery.select.rule"),
    ("reason", "recovery.select.rule"),
    ("server_name", "recovery.select.rule"),
    ("project_id", "recovery.select.rule"),
    ("project_name", "recovery.select.rule"),
    ("flavor", "recovery.select.rule"),
    ("aggregate", "recovery.select.rule"),
    ("metadata", "recovery.select.rule"),
    ("extra_spec", "recovery.select.rule"),
    ("image_property", "recovery.select.rule"),
    ("aggregate_metadata", "recovery.select.rule"),
    ("wait_for_previous", "recovery.order"),
    ("group_timeout", "recovery.order"),
    ("cloud", "nova"),
    ("clouds_file", "nova"),
    ("timeout", "nova"),
    ("capacity_every", "nova"),
    ("socket", "notifications"),
    ("webhook", "notifications"),
    ("webhook_secret_file", "notifications"),
    ("webhook_ca_file", "notifications"),
    ("webhook_timeout", "notifications"),
    ("on", "hook"),
    ("command", "hook"),
    ("on_failure", "hook"),
    ("unit", "process"),
    ("check", "process"),
    ("restart", "process"),
    ("restart_attempts", "process"),
    ("restart_delay", "process"),
    ("on_down", "process"),
    ("uri", "libvirt"),
    ("format", "log"),
    ("target", "log"),
];

#[test]
fn defaults_are_the_designs() {
    let config = parse(&edit("probe_period = \"1s\"\nprobe_ack = \"300ms\"\n", "")).expect("taken");
    assert_eq!(config.policy, by_default());
    assert_eq!(config.member.state_dir, Path::new("/var/lib/rekindle"));
    assert_eq!(config.member.admin_socket, Path::new("/run/rekindle/admin.sock"));
    assert_eq!(config.hypervisor, HypervisorSettings::Libvirt("qemu:///system".to_owned()));
    let DeviceSettings::IpmiTool(device) = &config.devices[0].settings else { panic!("it says ipmi-tool") };
    assert_eq!(device.cipher_suite, 17);
    assert_eq!(config.devices[0].rule.level, 1);
    assert_eq!(config.ledger(0).expect("a voter").dir, Path::new("/var/lib/rekindle/ledger"));
}

#[test]
fn signs_of_life_and_path_rules() {
    use rekindle_coordinator::paths::PathAction;
    use rekindle_coordinator::policy::OnAgentDeath;
    let with = |detection: &str, rules: &str| {
        parse(
            &edit("probe_period", &format!("{detection}\nprobe_period")).replace("[nova]", &format!("{rules}\n[nova]")),
        )
    };
    let rule = "[[path_rule]]\ndown = [\"management\"]\naction = \"alarm\"\n";
    let config = with("on_agent_death = \"fence\"\nlife_ports = [22, 16509]", rule).expect("taken");
    assert_eq!(config.policy.on_agent_death, OnAgentDeath::Fence);
    assert_eq!(config.policy.life_ports, [22, 16509]);
    assert_eq!(config.policy.paths.rules[0].action, PathAction::Alarm);
    for (detection, rules, key) in [
        ("life_ports = [1, 2, 3, 4, 5]", "", "detection.life_ports"),
        ("life_ports = [22, 22]", "", "detection.life_ports"),
        ("life_ports = [0]", "", "detection.life_ports"),
        ("", "[[path_rule]]\ndown = [\"storage\"]\naction = \"recover\"\n", "path_rule[1]"),
        ("", "[[path_rule]]\ndown = [\"management\"]\nup = [\"management\"]\naction = \"alarm\"\n", "path_rule[1]"),
        ("", "[[path_rule]]\naction = \"recover\"\n", "path_rule[1]"),
    ] {
        let refusal = with(detection, rules).expect_err(key).to_string();
        assert!(refusal.contains(key), "{refusal}");
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let text = edit(
        "[nova]\ncloud",
        "[recovery]\nlocal_disk = \"rebuild\"\nlock = \"always\"\non_shutdown = \"ignore\"\nreadmission = \"manual\"\nevacuate_tries = 5\nadd_reserved_host_to_aggregate = true\n[nova]\ntimeout = \"10s\"\ncloud",
    ) + "[libvirt]\nuri = \"guests+unix:///run/guests.sock\"\n[log]\ntarget = \"stderr\"\nformat = \"json\"\n";
    let config = parse(&text).expect("taken");
    assert_eq!(config.policy.on_shutdown, rekindle_coordinator::ledger::OnShutdown::Ignore);
    assert_eq!(config.policy.local_disk, rekindle_coordinator::policy::LocalDisk::Rebuild);
    assert_eq!(config.policy.readmission, rekindle_coordinator::policy::Readmission::Manual);
    assert_eq!(config.policy.lock, rekindle_coordinator::policy::LockServers::Always);
    assert_eq!(config.policy.evacuate_tries, 5);
    assert!(!config.policy.self_fence, "only where it is asked for");
    assert!(!parse(GOOD).expect("taken").policy.add_reserved_host_to_aggregate, "as in Masakari");
    assert!(config.policy.add_reserved_host_to_aggregate);
    let fences = parse(&(after("[member]", "watchdog = \"/dev/watchdog1\"") + "[fencing]\nself_fence = true\n"));
    let fences = fences.expect("taken");
    assert!(fences.policy.self_fence);
    assert_eq!(fences.member.watchdog.expect("there").to_string(), "/dev/watchdog1");
    let on = parse(&format!("{GOOD}[fencing]\nafter_recovery = \"power-on-quarantine\"\n")).expect("taken");
    assert_eq!(on.policy.after_recovery, rekindle_coordinator::policy::AfterRecovery::PowerOnQuarantine);
    assert_eq!(config.policy.after_recovery, rekindle_coordinator::policy::AfterRecovery::LeaveOff);
    assert_eq!(config.policy.probe_period.as_millis(), 1_000);
    assert_eq!(config.nova.as_ref().expect("nova").timeout.as_secs(), 10);
    assert_eq!(config.hypervisor, HypervisorSettings::Socket("/run/guests.sock".into()));
    assert_eq!(config.log, LogSettings { format: LogFormat::Json, target: LogTarget::Stderr });
    assert_eq!(config.device_rules()[0].address, "{host}-bmc");
    let witness = parse(&after("[member]", "role = \"witness\"")).expect("taken");
    assert_eq!(witness.hypervisor, HypervisorSettings::Off);
    let member = parse(&edit("\"cmp-01\", \"cmp-02\", \"cmp-03\"", "\"cmp-02\"")).expect("taken");
    assert!(!member.is_voter() && member.ledger(0).is_none());
}

#[test]
fn what_is_not_toml_is_refused_without_showing_it() {
    let error = parse(&format!("{GOOD}password = \"hunter2\nx = 1\n")).expect_err("refused").to_string();
    let line = GOOD.lines().count() + 1;
    assert!(error.starts_with(&format!("{FILE}: line {line}: is not TOML")), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nonexistent/rekindle.toml")).expect_err("refused").to_string();
    assert_eq!(error, "/nonexistent/rekindle.toml: cannot be read");
}

#[test]
fn relative_paths_begin_at_the_file() {
    let config = parse(&after("[member]", "state_dir = \"state\"\nadmin_socket = \"/run/x.sock\"")).expect("taken");
    assert_eq!(config.member.state_dir, Path::new("/etc/rekindle/state"));
    assert_eq!(config.member.admin_socket, Path::new("/run/x.sock"));
    let DeviceSettings::IpmiTool(device) = &config.devices[0].settings else { panic!("it says ipmi-tool") };
    assert_eq!(device.password, SecretSource::File("/etc/rekindle/bmc.password".into()));
    assert_eq!(config.nova.expect("nova").clouds_file, Path::new("/etc/rekindle/clouds.yaml"));
}
