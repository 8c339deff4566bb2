//! What the drivers of fence devices refuse.

use super::*;

/// An entry of this driver, for hosts that no other entry is for.
fn entry(driver: &str, lines: &str) -> String {
    format!("{GOOD}\n[[fence_device]]\nhosts = \"ctl-*\"\ndriver = \"{driver}\"\n{lines}\n")
}

const ENTER: &str = "address = \"{host}-bmc\"\nusername = \"u\"\npassword_file = \"p\"\n";

fn ipmi(lines: &str) -> String {
    entry("ipmi", &format!("{ENTER}{lines}"))
}

fn redfish(lines: &str) -> String {
    entry("redfish", &format!("{ENTER}{lines}"))
}

fn agent(options: &str) -> String {
    entry("agent:fence_apc", &format!("options = {{ {options} }}"))
}

/// Two outlets of one strip, each said to be one host's.
fn outlets(first: &str, second: &str) -> String {
    let outlet = |host: &str, lines: &str| {
        format!("[[fence_device]]\nhosts = \"{host}\"\ndriver = \"agent:fence_apc\"\n{lines}\n")
    };
    format!("{GOOD}\n{}{}", outlet("ctl-1", first), outlet("ctl-2", second))
}

/// What is wrong, and what the refusal must begin and go on with.
pub(super) fn refusals() -> Vec<(String, &'static str, &'static str)> {
    let pin = "ab:".repeat(31) + "ab";
    vec![
        // What a driver takes, and what is another's.
        (
            ipmi("cipher_suite = 3"),
            "fence_device[2].cipher_suite = 3 is not a key of driver = \"ipmi\"",
            "cipher_suites",
        ),
        (ipmi("command = [\"/x\"]"), "fence_device[2].command = [\"/x\"] is not a key of driver", "would be ignored"),
        (redfish(&format!("sha256_pin = \"{pin}\"\nprivilege = \"operator\"")), "fence_device[2].privilege", "auth"),
        (
            entry("storage", "address = \"x\"\ncommand = [\"/x\"]"),
            "fence_device[2].address = \"x\" is not a key",
            "command",
        ),
        (
            agent("ip = \"{host}\"").replace("options", "level = 2\ncipher_suite = 3\noptions"),
            "fence_device[2].cipher_suite = 3 is not a key of driver = \"agent:fence_apc\"",
            "option_files",
        ),
        (
            entry("agent:", "options = { ip = \"{host}\" }"),
            "fence_device[2].driver = \"agent:\" must be one of",
            "fence_apc",
        ),
        (entry("agent:a b", ""), "fence_device[2].driver = \"agent:a b\" must be one of", "fence_apc"),
        (entry("agent:../x", ""), "fence_device[2].driver = \"agent:../x\" must be one of", "fence_apc"),
        // Who enters, and how.
        (entry("ipmi", "username = \"u\"\npassword_file = \"p\""), "fence_device[2].address is missing", "listens"),
        (
            entry("ipmi", "address = \"{host}\"\npassword_file = \"p\""),
            "fence_device[2].username is missing",
            "operator",
        ),
        (
            entry("redfish", "address = \"{host}\"\nusername = \"u\""),
            "fence_device[2].password_file is missing",
            "0600",
        ),
        (
            ipmi("password_credential = \"x\""),
            "fence_device[2].password_credential = \"x\" must not be given beside password_file",
            "count",
        ),
        (
            ipmi("").replace("password_file = \"p\"\n\n", "password_credential = \"../x\"\n"),
            "fence_device[2].password_credential = \"../x\" must be the name of a credential",
            "LoadCredential=",
        ),
        (
            ipmi("").replace("\"u\"", "\"seventeen-letters\""),
            "fence_device[2].username = \"seventeen-letters\" must be a user name of 1 to 16",
            "IPMI",
        ),
        (ipmi("").replace("\"u\"", "\"a:b\""), "fence_device[2].username = \"a:b\" must be a user name", "IPMI"),
        (ipmi("cipher_suites = [17, 0]"), "fence_device[2].cipher_suites = [17, 0] must be 3 or 17", "encryption"),
        (ipmi("cipher_suites = []"), "fence_device[2].cipher_suites = [] must name 17, 3 or both", "order"),
        (ipmi("cipher_suites = [3, 3]"), "fence_device[2].cipher_suites = [3, 3] must name 17, 3 or both", "order"),
        (ipmi("privilege = \"user\""), "fence_device[2].privilege = \"user\" is not understood", "administrator"),
        (
            ipmi("k_g_file = \"k\"\nk_g_credential = \"k\""),
            "fence_device[2].k_g_credential = \"k\" must not be given beside k_g_file",
            "count",
        ),
        (ipmi("k_g = \"hunter2\""), "fence_device[2].k_g is not a key we know", "k_g_file"),
        // By what a BMC is known.
        (redfish(""), "fence_device[2].ca_file is missing, and so is sha256_pin", "password"),
        (
            redfish(&format!("ca_file = \"ca.pem\"\nsha256_pin = \"{pin}\"")),
            "fence_device[2].sha256_pin = ",
            "must not be given beside ca_file",
        ),
        (
            redfish("sha256_pin = \"ab:cd\""),
            "fence_device[2].sha256_pin = \"ab:cd\" must be 32 bytes in hex",
            "openssl",
        ),
        (
            redfish("ca_file = \"ca.pem\"\nsystem = \"a/../b\""),
            "fence_device[2].system = \"a/../b\" must be the Id or the UUID",
            "Systems",
        ),
        (
            redfish("ca_file = \"ca.pem\"\ninsecure_http = true"),
            "fence_device[2].insecure_http = true must not be given beside ca_file",
            "no certificate",
        ),
        (redfish("insecure_http = 1"), "fence_device[2].insecure_http = 1 is not understood", "bool"),
        (redfish("ca_file = \"c\"\nauth = \"none\""), "fence_device[2].auth = \"none\" is not understood", "session"),
        // What an agent must not be told, and what it must.
        (agent("ip = \"a\""), "fence_device[2].options must have {host} or {address}", "the same for each"),
        (agent("lanplus = 1"), "fence_device[2].address is missing", "ip and plug"),
        (agent("ip = \"{address}\""), "fence_device[2].address is missing", "ip and plug"),
        (agent("plug = \"{host}\", ip = \"{address}\""), "fence_device[2].address is missing", "says {address}"),
        (agent("ip = \"{host}\", action = \"on\""), "fence_device[2].options.action = \"on\" must not be", "order"),
        (agent("ip = \"{host}\", delay = 5"), "fence_device[2].options.delay = 5 must not be given", "(I5)"),
        (agent("ip = \"{host}\", verbose = true"), "fence_device[2].options.verbose = true must not be", "log"),
        (agent("ip = \"{host}\", debug-file = \"x\""), "fence_device[2].options.debug-file = \"x\" must", "file"),
        (
            agent("ip = \"{host}\", missing_as_off = 1"),
            "fence_device[2].options.missing_as_off = 1 must be \"0\"",
            "does not find",
        ),
        (agent("ip = \"{host}\", passwd = \"hunter2\""), "fence_device[2].options.passwd must not be in", "0600"),
        (agent("ip = \"{host}\", snmp_priv_passwd = \"hunter2\""), "fence_device[2].options.snmp_priv_passwd", "0600"),
        (agent("ip = \"{host}\", hexadecimal-kg = \"hunter2\""), "fence_device[2].options.hexadecimal-kg must", "0600"),
        (agent("ip = \"{host}\", community = \"hunter2\""), "fence_device[2].options.community must not be in", "0600"),
        (agent("ip = \"{host} \""), "fence_device[2].options.ip = \"{host} \" must not begin or end", "one line"),
        (agent("ip = \"{host}\", x = \"a\\tb\""), "fence_device[2].options.x = ", "one line"),
        (
            agent("ip = \"{host}\", \"a=b\" = \"hunter2\""),
            "fence_device[2].options.a=b must be an option",
            "NAME=VALUE",
        ),
        (
            agent("ip = \"{host}\", username = \"a\"") + "username = \"b\"",
            "fence_device[2].username = \"b\" must not be given beside options.username",
            "count",
        ),
        (
            agent("ip = \"{host}\"") + "password_file = \"p\"\noption_files = { passwd = \"p\" }",
            "fence_device[2].option_files must not be given beside password_file",
            "count",
        ),
        (agent("ip = [1]"), "fence_device[2].options.ip = [1] is not understood", "a whole number"),
        // One outlet for two hosts: by its address, or by what the agent is told.
        (
            outlets("options = { ip = \"pdu\", plug = 7 }", "options = { ip = \"PDU\", plug = \"7\" }"),
            "fence_device[3].address gives ctl-2 the device of ctl-1",
            "(I2)",
        ),
        (
            outlets(
                "address = \"pdu/7\"\noptions = { ip = \"pdu\", plug = 7 }",
                "address = \"pdu/8\"\noptions = { ip = \"pdu\", plug = 7 }",
            ),
            "fence_device[3].options tells the agent for ctl-2 what fence_device[2] tells it for ctl-1",
            "(I2)",
        ),
        // Storage.
        (entry("storage", ""), "fence_device[2].command is missing", "contract"),
        (entry("storage", "command = [\"x\"]"), "fence_device[2].command = [\"x\"] must begin with the abs", "PATH"),
        (
            entry("storage", "command = [\"/x\"]\nunverified = \"yes\""),
            "fence_device[2].unverified = \"yes\" is not understood",
            "accept",
        ),
    ]
}

#[test]
fn every_driver_is_taken_as_it_is_meant() {
    use rekindle_coordinator::policy::Unverified;
    let settings = |text: &str| {
        let config = parse(text).unwrap_or_else(|error| panic!("{error}"));
        let device = config.devices.last().expect("an entry").clone();
        (device.rule, device.settings)
    };
    let (rule, DeviceSettings::Ipmi(found)) =
        settings(&ipmi("k_g_file = \"kg/{host}\"\nprivilege = \"administrator\""))
    else {
        panic!("ipmi")
    };
    assert_eq!((rule.address.as_str(), found.cipher_suites.as_slice()), ("{host}-bmc", &[17, 3][..]));
    assert_eq!(found.k_g, Some(SecretSource::File("/etc/rekindle/kg/{host}".into())));
    assert_eq!((found.privilege, found.endpoint.port()), (Privilege::Administrator, 623));

    let (rule, DeviceSettings::Redfish(found)) = settings(&redfish("ca_file = \"ca.pem\"\nsystem = \"{host}\"")) else {
        panic!("redfish")
    };
    assert_eq!((rule.address.as_str(), found.endpoint.port()), ("{host}-bmc/{host}", 443));
    assert_eq!((found.trust, found.auth), (RedfishTrust::Ca("/etc/rekindle/ca.pem".into()), RedfishAuth::Session));
    let (_, DeviceSettings::Redfish(found)) = settings(&redfish("insecure_http = true")) else { panic!("redfish") };
    assert_eq!(found.trust, RedfishTrust::Nobody);

    let lines = "username = \"apc\"\npassword_credential = \"pdu\"\noption_files = { snmp_priv_passwd = \"p\" }";
    let text = agent("ip = \"pdu-1\", plug = \"{host}\", snmp_version = 3, ssl = true") + lines;
    let (rule, DeviceSettings::Agent(found)) = settings(&text) else { panic!("agent") };
    assert_eq!((rule.driver.as_str(), rule.address.as_str()), ("agent:fence_apc", "pdu-1/{host}"));
    assert_eq!(rule.unverified, Unverified::Refuse, "nothing is believed that was not asked for");
    let options: Vec<(&str, &str)> =
        found.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        options,
        [("ip", "pdu-1"), ("plug", "{host}"), ("snmp_version", "3"), ("ssl", "1"), ("username", "apc")]
    );
    assert_eq!(found.secrets["password"], SecretSource::Credential("pdu".to_owned()));
    assert_eq!(found.secrets["snmp_priv_passwd"], SecretSource::File("/etc/rekindle/p".into()));

    let text =
        entry("storage", "level = 2\ncommand = [\"/usr/local/sbin/ceph-fence\", \"vms\"]\nunverified = \"accept\"");
    let (rule, DeviceSettings::Storage(found)) = settings(&text) else { panic!("storage") };
    assert_eq!((rule.address.as_str(), rule.unverified), ("ceph-fence/{host}", Unverified::Accept));
    assert_eq!(
        (found.program.as_path(), found.arguments.as_slice()),
        (Path::new("/usr/local/sbin/ceph-fence"), &["vms".to_owned()][..])
    );

    // Two ways to one BMC are two devices of one host.
    let both = ipmi("").replace("ctl-*", "cmp-*");
    assert_eq!(parse(&both).expect("taken").devices.len(), 2);
    settings(&outlets("options = { ip = \"pdu\", plug = 7 }", "options = { ip = \"pdu\", plug = 8 }"));
}
