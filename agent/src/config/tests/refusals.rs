//! Each rule with a file that breaks it, and the words of its refusal.

mod drivers;

use super::*;

/// What is wrong, and what the refusal must begin and go on with.
fn refusals() -> Vec<(String, &'static str, &'static str)> {
    vec![
        // The example of the house style, to the letter.
        (
            edit("\"300ms\"", "\"2s\""),
            "detection.probe_ack = \"2s\" must be under half of detection.probe_period = \"1s\"\n  because ",
            "indirect probes",
        ),
        (edit("\"300ms\"", "\"500ms\""), "detection.probe_ack = \"500ms\" must be under half of", "\"1s\""),
        (edit("\"300ms\"", "300"), "detection.probe_ack = 300 is not understood", "expected a string"),
        (edit("\"300ms\"", "\"300\""), "detection.probe_ack = \"300\" is not a duration", "\"500ms\""),
        (edit("\"300ms\"", "\"-1s\""), "detection.probe_ack = \"-1s\" is not a duration", "unit"),
        (edit("\"1s\"", "\"11s\""), "detection.probe_period = \"11s\" must be \"100ms\" to \"10s\"", "failure"),
        (after("[detection]", "indirect_probes = 0"), "detection.indirect_probes = 0 must be 1 to 10", "SWIM"),
        (after("[detection]", "suspicion_factor = 21"), "detection.suspicion_factor = 21 must be 1 to 20", "refute"),
        (after("[detection]", "probe_ackk = \"1s\""), "detection.probe_ackk is not a key we know", "probe_ack"),
        (
            after("[member]", "watchdog = \"/dev/watchdog0\""),
            "member.watchdog = \"/dev/watchdog0\" must not be there without fencing.self_fence = true",
            "count on it",
        ),
        (
            after("[member]", "watchdog = \"/dev/watchdog\"") + "[fencing]\nself_fence = true\n",
            "member.watchdog = \"/dev/watchdog\" must be \"/dev/watchdog0\"",
            "opening starts it",
        ),
        (format!("{GOOD}[watchdog]\ndevice = \"x\"\n"), "watchdog is not a key we know", "fence_device"),
        (
            format!("{GOOD}[fencing]\nkdump_wait = \"1s\"\n"),
            "fencing.kdump_wait = \"1s\" must be \"5s\" to \"300s\"",
            "boot",
        ),
        (
            format!("{GOOD}[fencing]\nkdump_longest = \"5m\"\n"),
            "fencing.kdump_longest = \"5m\" must not be there without fencing.kdump_wait",
            "no word is listened for",
        ),
        (format!("{GOOD}[fencing]\noff_polls = 1\n"), "fencing.off_polls = 1 must be 2 to 120", "(I2)"),
        (format!("{GOOD}[fencing]\nfence_tries = 0\n"), "fencing.fence_tries = 0 must be 1 to 10", "person"),
        (
            format!("{GOOD}[fencing]\nself_fence = \"yes\"\n"),
            "fencing.self_fence = \"yes\" is not understood",
            "expected a boolean",
        ),
        // What cannot be read back proves nothing here, and no key makes it so.
        (format!("{GOOD}[fencing]\nunverified = \"accept\"\n"), "fencing.unverified is not a key we know", "off_polls"),
        (
            device("hosts = \"a\"\naddress = \"b\"\nunverified = \"accept\""),
            "fence_device[2].unverified = \"accept\" is not a key of driver = \"ipmi-tool\"",
            "once it is read",
        ),
        (
            format!("{GOOD}[fencing]\ndevice_timeout = \"10ms\"\n"),
            "fencing.device_timeout = \"10ms\" must be",
            "round trips",
        ),
        (edit("host = \"cmp-01\"\n", ""), "member.host is missing", "no safe default"),
        (
            edit("\"cmp-01\"\nlisten", "\"cmp 01\"\nlisten"),
            "member.host = \"cmp 01\" is not understood",
            "may hold only",
        ),
        (
            edit("10.20.0.11:7946", "0.0.0.0:7946"),
            "member.listen = \"0.0.0.0:7946\" must be an address of this",
            "told",
        ),
        (edit("10.20.0.11:7946", "[::]:7946"), "member.listen = \"[::]:7946\" must be an address of this host", "told"),
        (edit("10.20.0.11:7946", "10.20.0.11:0"), "member.listen = \"10.20.0.11:0\" must have a port", "find it"),
        (
            edit("10.20.0.11:7946", "cmp-01:7946"),
            "member.listen = \"cmp-01:7946\" must be address:port",
            "names change",
        ),
        (after("[member]", "metrics = \"9794\""), "member.metrics = \"9794\" must be address:port", "10.20"),
        (after("[member]", "role = \"voter\""), "member.role = \"voter\" is not understood", "witness"),
        (after("[member]", "system_uuid = \"x\""), "member.system_uuid = \"x\" is not understood", "UUID"),
        (after("[member]", "labels = { 1x = \"a\" }"), "member.labels.1x = \"a\" must be named by letters", "metric"),
        (after("[member]", "labels = { host = \"a\" }"), "member.labels.host = \"a\" must be named by", "already"),
        (after("[member]", "state_dir = \"\""), "member.state_dir = \"\" must not be empty", "directory"),
        (edit("\"cmp-01\", \"cmp-02\", \"cmp-03\"", "\"cmp-01\", \"cmp-02\""), "cluster.voters = [", "a witness"),
        (edit("\"cmp-02\", \"cmp-03\"", "\"cmp-02\", \"cmp-02\""), "cluster.voters = [", "votes once"),
        (edit("[\"cmp-02:7946\"]", "[]"), "cluster.seeds = [] must name at least one member", "join nobody"),
        (edit("[\"cmp-02:7946\"]", "[\"cmp-02\"]"), "cluster.seeds[1] = \"cmp-02\" must be host:port", "dialling"),
        (edit("[\"cmp-02:7946\"]", "[\"a:1\", \"a:1\"]"), "cluster.seeds[2] = \"a:1\" must be there once", "twice"),
        (
            after("[cluster]", "tls = { cert = \"x\", key = \"x\" }"),
            "cluster.tls.key = \"x\" must be another",
            "given away",
        ),
        (
            device("hosts = \"ctl-*\"\naddress = \"10.0.0.1\""),
            "fence_device[2].address = \"10.0.0.1\" must contain {host}",
            "(I2)",
        ),
        (
            device("hosts = \"cmp-02\"\naddress = \"CMP-03-bmc:623\""),
            "fence_device[1].address = \"{host}-bmc\" gives cmp-03 the device of cmp-02",
            "(I2)",
        ),
        (
            device("hosts = \"cmp-9\"\naddress = \"cmp-77-bmc\""),
            "fence_device[2].address = \"cmp-77-bmc\" gives cmp-9 the device of cmp-77",
            "(I2)",
        ),
        (
            device("hosts = \"cmp-*\"\naddress = \"{host}-bmc\"\nlevel = 2"),
            "fence_device[2].address = \"{host}-bmc\" must not repeat",
            "which one",
        ),
        (
            device("hosts = \"*\"\naddress = \"{host}-bmc\""),
            "fence_device[2].address = \"{host}-bmc\" gives cmp-01 the same device",
            "two patterns",
        ),
        (device("hosts = \"a\"\naddress = \"b\"\nlevel = 10"), "fence_device[2].level = 10 must be 1 to 9", "levels"),
        (device("hosts = \"a\"\naddress = \"b\"\nlevel = 0"), "fence_device[2].level = 0 must be 1 to 9", "levels"),
        (
            device("hosts = \"a\"\naddress = \"b\"\ncipher_suite = 7"),
            "fence_device[2].cipher_suite = 7 must be 3 or 17",
            "IPMI",
        ),
        (device("hosts = \"a b\"\naddress = \"b\""), "fence_device[2].hosts = \"a b\" must be a host name", "Nova"),
        (
            device("hosts = \"a\"\naddress = \"-Hx\""),
            "fence_device[2].address = \"-Hx\" must be host, host:port or",
            "beginning",
        ),
        (
            device("hosts = \"a\"\naddress = \"b\"\npassword = \"hunter2\""),
            "fence_device[2].password must not be in this file",
            "password_file",
        ),
        (
            edit("\"ipmi-tool\"", "\"ilo\""),
            "fence_device[1].driver = \"ilo\" must be one of: ipmi, ipmi-tool, redfish, agent:NAME, storage",
            "unfenceable",
        ),
        (
            edit("username = \"rekindle\"", "username = \"\""),
            "fence_device[1].username = \"\" must be a user name",
            "argument",
        ),
        (edit("hosts = \"cmp-*\"\n", ""), "fence_device[1].hosts is missing", "no safe default"),
        (format!("{GOOD}timeout = \"120s\"\n"), "nova.timeout = \"120s\" must be \"1s\" to \"100s\"", "(I11)"),
        (format!("{GOOD}auth_token = \"hunter2\"\n"), "nova.auth_token must not be in this file", "clouds_file"),
        (format!("{GOOD}[recovery]\nlock = \"maybe\"\n"), "recovery.lock = \"maybe\" is not", "altered"),
        (format!("{GOOD}[recovery]\nlocal_disk = \"maybe\"\n"), "recovery.local_disk = \"maybe\" is not", "rebuild"),
        (
            format!("{GOOD}[fencing]\nafter_recovery = \"on\"\n"),
            "fencing.after_recovery = \"on\" is not",
            "power-on-quarantine",
        ),
        (format!("{GOOD}[recovery]\nreadmission = \"yes\"\n"), "recovery.readmission = \"yes\" is not", "manual"),
        (
            format!("{GOOD}[recovery]\non_shutdown = \"perhaps\"\n"),
            "recovery.on_shutdown = \"perhaps\" must be \"wait DURATION\", \"recover\" or \"ignore\"",
            "left alone",
        ),
        (
            format!("{GOOD}[recovery]\non_shutdown = \"wait 2s\"\n"),
            "recovery.on_shutdown = \"wait 2s\" must be \"10s\" to \"86400s\"",
            "boot",
        ),
        (
            format!("{GOOD}[recovery]\nevacuations_at_once = 0\n"),
            "recovery.evacuations_at_once = 0 must be 1 to",
            "nothing",
        ),
        (format!("{GOOD}[recovery]\nevacuate_tries = 11\n"), "recovery.evacuate_tries = 11 must be 1 to 10", "person"),
        (format!("{GOOD}[libvirt]\nuri = \"yes\"\n"), "libvirt.uri = \"yes\" must be a libvirt URI", "qemu:///system"),
        (
            after("[member]", "role = \"witness\"") + "[libvirt]\nuri = \"qemu:///system\"\n",
            "libvirt.uri = \"qemu:///system\" must be \"off\" where member.role = \"witness\"",
            "no guests",
        ),
        (
            format!("{GOOD}capacity_every = \"1s\"\n"),
            "nova.capacity_every = \"1s\" must be \"30s\" to \"86400s\"",
            "off",
        ),
        (
            hook("on = \"stuck\"\ncommand = [\"ticket\"]"),
            "hook[1].command = [\"ticket\"] must begin with the absolute path of a program",
            "PATH",
        ),
        (process("name = \"a\""), "process[1].unit must be there, or else check", "systemd"),
        (
            process("name = \"a\"\nunit = \"a.service\"\ncheck = [\"/x\"]"),
            "process[1].unit = \"a.service\" must be",
            "not both",
        ),
        (
            process("name = \"a\"\nunit = \"nova-compute\""),
            "process[1].unit = \"nova-compute\" must be the full name",
            "list-units",
        ),
        (
            process("name = \"a\"\nunit = \"--all.service\""),
            "process[1].unit = \"--all.service\" must be the full",
            "list-units",
        ),
        (
            process("name = \"a\"\ncheck = [\"x\"]"),
            "process[1].check = [\"x\"] must begin with the absolute path",
            "PATH",
        ),
        (
            process("name = \"a\"\ncheck = [\"/x\"]\nrestart_attempts = 1"),
            "process[1].restart_attempts = 1 must be 0 without a restart command",
            "start it",
        ),
        (
            process("name = \"a\"\nunit = \"a.service\"\nrestart = [\"/x\"]"),
            "process[1].restart = [\"/x\"] must not",
            "systemd",
        ),
        (
            process("name = \"a\"\nunit = \"a.service\"\n[[process]]\nname = \"a\"\nunit = \"b.service\""),
            "process[2].name = \"a\" must be there once",
            "same file",
        ),
        (hook("on = \"stuck\"\ncommand = []"), "hook[1].command = [] must begin with the absolute path", "PATH"),
        (
            hook("on = \"recovered\"\ncommand = [\"/x\"]\non_failure = \"hold\""),
            "hook[1].on_failure = \"hold\" must be \"continue\"",
            "nothing left to hold",
        ),
        (
            hook("on = \"stuck\"\ncommand = [\"/x\"]\ntimeout = \"1h\""),
            "hook[1].timeout = \"1h\" must be \"1s\" to \"600s\"",
            "waits",
        ),
        (
            (0..17).fold(GOOD.to_owned(), |text, _| text + "[[hook]]\non = \"stuck\"\ncommand = [\"/x\"]\n"),
            "hook",
            "must be at most 16",
        ),
        (
            notifications("webhook = \"https://h.example.org/\""),
            "notifications.webhook_secret_file must be given with notifications.webhook",
            "signature",
        ),
        (
            notifications("webhook_timeout = \"5s\""),
            "notifications.webhook_timeout = \"5s\" needs notifications.webhook",
            "nothing is posted",
        ),
        (notifications("webhook = \"hooks\"\nwebhook_secret_file = \"s\""), "notifications.webhook", "must be a URL"),
        (
            notifications("webhook = \"ftp://h/\"\nwebhook_secret_file = \"s\""),
            "notifications.webhook must be http:// or https://",
            "a host",
        ),
        (
            notifications("webhook = \"https://u:hunter2@h/\"\nwebhook_secret_file = \"s\""),
            "notifications.webhook must hold no user and password",
            "secrets lie in files",
        ),
        (
            notifications("webhook = \"https://h/\"\nwebhook_secret_file = \"s\"\nwebhook_timeout = \"2m\""),
            "notifications.webhook_timeout = \"2m\" must be \"1s\" to \"60s\"",
            "holds up",
        ),
        (
            notifications("socket = \"/run/rekindle/admin.sock\""),
            "notifications.socket = \"/run/rekindle/admin.sock\" must not be member.admin_socket",
            "asked",
        ),
        (format!("{GOOD}[log]\nformat = \"xml\"\n"), "log.format = \"xml\" is not understood", "json"),
    ]
}

#[test]
fn each_broken_rule_is_refused_by_name() {
    parse(GOOD).expect("the good file is taken");
    for (text, begins, says) in refusals().into_iter().chain(drivers::refusals()) {
        let refusal = parse(&text).expect_err(begins).to_string();
        let rest = refusal.strip_prefix(&format!("{FILE}: ")).unwrap_or_else(|| panic!("{refusal} names no file"));
        assert!(rest.starts_with(begins), "expected: {begins}\nrefused:  {rest}");
        assert!(rest[begins.len()..].contains(says) || begins.contains(says), "{rest}\ndoes not say {says:?}");
        assert!(!rest.contains("hunter2"), "a secret is shown: {rest}");
        assert_eq!(rest.lines().count() % 2, 0, "a rule, then a reason: {rest}");
    }
}

#[test]
fn all_broken_rules_are_told_at_once() {
    let text = edit("\"300ms\"", "\"2s\"").replace("10.20.0.11:7946\"", "0.0.0.0:7946\"");
    let ConfigError::Refused { refusals, .. } = parse(&text).expect_err("refused") else { panic!("not a refusal") };
    let keys: Vec<&str> = refusals.iter().map(|refusal| refusal.key.as_str()).collect();
    assert_eq!(keys, ["member.listen", "detection.probe_ack"]);
}
