//! What each driver of `[[fence_device]]` needs, and that it is given nothing else.

use std::path::PathBuf;

use super::agents;
use super::checker::Checker;
use super::file::DeviceTable;
use crate::bmc::{
    DeviceSettings, Endpoint, IpmiSettings, IpmiToolSettings, Privilege, RedfishAuth, RedfishSettings, RedfishTrust,
    SecretSource, StorageSettings, is_system,
};

/// IPMI over LAN (IPMI 2.0, section 13.1.2).
pub(super) const IPMI_PORT: u16 = 623;
/// Redfish, and HTTPS.
pub(super) const REDFISH_PORT: u16 = 443;
/// Longest IPMI user name (IPMI 2.0, section 22.28).
const IPMI_USERNAME_MAX: usize = 16;
/// Longest user name of the others: no device is known that takes more.
const USERNAME_MAX: usize = 128;
/// Longest name of a systemd credential (it is a file's name).
const CREDENTIAL_NAME_MAX: usize = 255;
/// What every entry may have.
const COMMON: [&str; 3] = ["hosts", "level", "driver"];

/// Who speaks to a device.
pub(super) enum DriverName<'a> {
    IpmiTool,
    Ipmi,
    Redfish,
    Agent(&'a str),
    Storage,
}

impl<'a> DriverName<'a> {
    /// Reads the name as it is written.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        match text {
            "ipmi-tool" => Some(Self::IpmiTool),
            "ipmi" => Some(Self::Ipmi),
            "redfish" => Some(Self::Redfish),
            "storage" => Some(Self::Storage),
            _ => text.strip_prefix("agent:").filter(|name| agents::is_name(name)).map(Self::Agent),
        }
    }

    /// What an entry of it may have beside what all may have.
    fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::IpmiTool => &["address", "username", "password_file", "password_credential", "cipher_suite"],
            Self::Ipmi => &[
                "address",
                "username",
                "password_file",
                "password_credential",
                "k_g_file",
                "k_g_credential",
                "cipher_suites",
                "privilege",
            ],
            Self::Redfish => &[
                "address",
                "username",
                "password_file",
                "password_credential",
                "system",
                "ca_file",
                "sha256_pin",
                "insecure_http",
                "auth",
            ],
            Self::Agent(_) => &[
                "address",
                "username",
                "password_file",
                "password_credential",
                "options",
                "option_files",
                "option_credentials",
                "unverified",
            ],
            Self::Storage => &["command", "unverified"],
        }
    }
}

/// The settings of one entry, and by which address its device goes. `None`: something was refused.
pub(super) fn settings(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<(DeviceSettings, String)> {
    let Some(driver) = DriverName::parse(&table.driver) else {
        on.refuse(
            &format!("{at}.driver"),
            "must be one of: ipmi, ipmi-tool, redfish, agent:NAME, storage",
            "a driver that were silently ignored would leave the host unfenceable; \"agent:fence_apc\" is ClusterLabs' agent of that name",
        );
        return None;
    };
    inapplicable(on, &driver, table, at);
    match driver {
        DriverName::IpmiTool => {
            let endpoint = endpoint(on, table, at, IPMI_PORT);
            let username = ipmi_username(on, table, at);
            let password = password(on, table, at);
            let cipher_suite = suite(on, &format!("{at}.cipher_suite"), table.cipher_suite.unwrap_or(17));
            let (endpoint, address) = endpoint?;
            let (username, password, cipher_suite) = (username?, password?, cipher_suite?);
            Some((DeviceSettings::IpmiTool(IpmiToolSettings { endpoint, username, password, cipher_suite }), address))
        }
        DriverName::Ipmi => ipmi(on, table, at),
        DriverName::Redfish => redfish(on, table, at),
        DriverName::Agent(name) => agents::settings(on, table, name, at),
        DriverName::Storage => storage(on, table, at),
    }
}

/// Keys that are another driver's: they would say what nobody hears.
fn inapplicable(on: &mut Checker, driver: &DriverName<'_>, table: &DeviceTable, at: &str) {
    let own = driver.keys();
    let strange = |key: &String| !COMMON.contains(&key.as_str()) && !own.contains(&key.as_str());
    for key in on.keys(at).into_iter().filter(strange) {
        let rule = format!("is not a key of driver = {:?}", table.driver);
        let reason = if key == "unverified" {
            "this driver reads power, and an off counts once it is read (I2)".to_owned()
        } else {
            format!("it would be ignored; this driver takes {}", own.join(", "))
        };
        on.refuse(&format!("{at}.{key}"), rule, reason);
    }
}

fn ipmi(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<(DeviceSettings, String)> {
    let endpoint = endpoint(on, table, at, IPMI_PORT);
    let username = ipmi_username(on, table, at);
    let password = password(on, table, at);
    let (file, credential) = (table.k_g_file.as_deref(), table.k_g_credential.as_deref());
    let k_g = match file.or(credential) {
        None => None,
        Some(_) => Some(secret(on, at, "k_g", file, credential)?),
    };
    let key = format!("{at}.cipher_suites");
    let given = table.cipher_suites.clone().unwrap_or_else(|| vec![17, 3]);
    let suites: Option<Vec<u8>> = given.iter().map(|&number| suite(on, &key, number)).collect();
    if given.is_empty() || given.iter().enumerate().any(|(index, suite)| given[..index].contains(suite)) {
        on.refuse(&key, "must name 17, 3 or both, each once", "they are tried in this order");
        return None;
    }
    let (endpoint, address) = endpoint?;
    let settings = IpmiSettings {
        endpoint,
        username: username?,
        password: password?,
        k_g,
        cipher_suites: suites?,
        privilege: table.privilege.unwrap_or(Privilege::Operator),
    };
    Some((DeviceSettings::Ipmi(settings), address))
}

fn redfish(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<(DeviceSettings, String)> {
    let endpoint = endpoint(on, table, at, REDFISH_PORT);
    let username = username(on, table, at, USERNAME_MAX, "HTTP's basic authentication ends the name at a colon");
    let password = password(on, table, at);
    let trust = trust(on, table, at);
    let system = table.system.clone();
    if system.as_ref().is_some_and(|system| !is_system(&system.replace("{host}", "h"))) {
        on.refuse(
            &format!("{at}.system"),
            "must be the Id or the UUID of a system",
            "the last part of its path below /redfish/v1/Systems, or what its resource says under UUID",
        );
        return None;
    }
    let (endpoint, address) = endpoint?;
    // A chassis has several systems behind one address: each is a device of its own.
    let address = system.as_ref().map_or_else(|| address.clone(), |system| format!("{address}/{system}"));
    let auth = table.auth.unwrap_or(RedfishAuth::Session);
    let settings = RedfishSettings { endpoint, username: username?, password: password?, system, trust: trust?, auth };
    Some((DeviceSettings::Redfish(settings), address))
}

fn trust(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<RedfishTrust> {
    const WHY: &str = "whoever stands between could read the password and say that the host is off: a BMC's certificate \
                       is known by the CA that issued it, or by its own SHA-256 (`openssl x509 -noout -fingerprint -sha256`)";
    match (table.ca_file.as_deref(), table.sha256_pin.as_deref()) {
        (None, None) if table.insecure_http => Some(RedfishTrust::Nobody),
        _ if table.insecure_http => {
            let rule = "must not be given beside ca_file or sha256_pin";
            on.refuse(&format!("{at}.insecure_http"), rule, "plain http has no certificate to know it by");
            None
        }
        (Some(file), None) => Some(RedfishTrust::Ca(on.path(&format!("{at}.ca_file"), file))),
        (None, Some(pin)) => {
            let parsed = pin_bytes(pin);
            if parsed.is_none() {
                let rule = "must be 32 bytes in hexadecimal digits, perhaps with colons";
                on.refuse(&format!("{at}.sha256_pin"), rule, WHY);
            }
            parsed.map(RedfishTrust::Pin)
        }
        (None, None) => {
            on.refuse(&format!("{at}.ca_file"), "is missing, and so is sha256_pin", WHY);
            None
        }
        (Some(_), Some(_)) => {
            on.refuse(&format!("{at}.sha256_pin"), "must not be given beside ca_file", WHY);
            None
        }
    }
}

fn pin_bytes(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..32).map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()).collect();
    bytes?.try_into().ok()
}

fn storage(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<(DeviceSettings, String)> {
    let key = format!("{at}.command");
    if table.command.is_empty() {
        on.missing(
            &key,
            "it names the program that cuts a host off from its storage: docs/fencing.md has its contract",
        );
        return None;
    }
    let Some((program, arguments)) = table.command.split_first().filter(|(program, _)| program.starts_with('/')) else {
        let why = "the leader runs it, whatever its working directory and PATH are: [\"/usr/local/sbin/x\", \"arg\"]";
        on.refuse(&key, "must begin with the absolute path of a program", why);
        return None;
    };
    let program = PathBuf::from(program);
    let name = program.file_name()?.to_string_lossy().into_owned();
    Some((
        DeviceSettings::Storage(StorageSettings { program, arguments: arguments.to_vec() }),
        format!("{name}/{{host}}"),
    ))
}

/// Where it listens, and that address as it is written.
fn endpoint(on: &mut Checker, table: &DeviceTable, at: &str, port: u16) -> Option<(Endpoint, String)> {
    let key = format!("{at}.address");
    let Some(address) = table.address.clone() else {
        on.missing(&key, "it says where the device listens: \"{host}-bmc\", \"10.30.0.7\"");
        return None;
    };
    match Endpoint::parse(&address, port) {
        Ok(endpoint) => Some((endpoint, address)),
        Err(rule) => {
            on.refuse(
                &key,
                rule,
                "letters, digits, '.', '_' and '-', not beginning with '-': \"{host}-bmc\", \"10.30.0.7:623\"",
            );
            None
        }
    }
}

fn ipmi_username(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<String> {
    username(
        on,
        table,
        at,
        IPMI_USERNAME_MAX,
        "IPMI 2.0 has room for no more, and ipmitool is handed it as an argument",
    )
}

pub(super) fn username(on: &mut Checker, table: &DeviceTable, at: &str, max: usize, why: &str) -> Option<String> {
    let key = format!("{at}.username");
    let Some(name) = table.username.clone() else {
        on.missing(&key, "it names the user as whom we switch; operator privilege is enough");
        return None;
    };
    let legal = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if name.is_empty() || name.len() > max || name.starts_with('-') || !legal {
        let rule =
            format!("must be a user name of 1 to {max} characters, without blanks and colons, not beginning with '-'");
        on.refuse(&key, rule, why);
        return None;
    }
    Some(name)
}

pub(super) fn password(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<SecretSource> {
    secret(on, at, "password", table.password_file.as_deref(), table.password_credential.as_deref())
}

/// A secret in a file, or handed over by systemd; one of both.
fn secret(
    on: &mut Checker,
    at: &str,
    what: &str,
    file: Option<&str>,
    credential: Option<&str>,
) -> Option<SecretSource> {
    let (file_key, credential_key) = (format!("{at}.{what}_file"), format!("{at}.{what}_credential"));
    match (file, credential) {
        (Some(file), None) => Some(SecretSource::File(on.path(&file_key, file))),
        (None, Some(name)) => self::credential(on, &credential_key, name),
        (None, None) => {
            on.missing(&file_key, "a file with the secret, mode 0600; or password_credential, a credential of systemd");
            None
        }
        (Some(_), Some(_)) => {
            on.refuse(&credential_key, format!("must not be given beside {what}_file"), "which of them would count?");
            None
        }
    }
}

/// A credential of systemd, by name.
pub(super) fn credential(on: &mut Checker, key: &str, name: &str) -> Option<SecretSource> {
    let plain = name.replace("{host}", "h");
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !plain.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !plain.chars().all(legal)
        || plain.len() > CREDENTIAL_NAME_MAX
    {
        let rule = "must be the name of a credential: letters, digits, '.', '_' and '-'";
        on.refuse(key, rule, "the unit names it: LoadCredential=bmc.password:/etc/rekindle/bmc.password");
        return None;
    }
    Some(SecretSource::Credential(name.to_owned()))
}

fn suite(on: &mut Checker, key: &str, number: i64) -> Option<u8> {
    let suite = u8::try_from(number).ok().filter(|suite| matches!(suite, 3 | 17));
    if suite.is_none() {
        let why =
            "17 is SHA-256, 3 SHA-1; the others lack authentication, integrity or encryption (IPMI 2.0, table 22-20)";
        on.refuse(key, "must be 3 or 17", why);
    }
    suite
}
