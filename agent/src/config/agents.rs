//! `driver = "agent:NAME"`: what a fence agent may be told, and what it must not.

use std::collections::BTreeMap;

use super::checker::Checker;
use super::drivers::{credential, password, username};
use super::file::{DeviceTable, OptionValue};
use super::refusal::sounds_secret;
use crate::bmc::{AgentSettings, DeviceSettings, SecretSource, WHOLE, arrives_whole};

/// Options of one agent. fence_ipmilan knows 60.
const OPTIONS_MAX: usize = 64;
/// Longest name and longest value of an option.
const OPTION_NAME_MAX: usize = 64;
const OPTION_VALUE_MAX: usize = 1_024;
/// Longest address: it is shown in tables, and written with each attempt.
const ADDRESS_MAX: usize = 255;
/// Longest user name.
const USERNAME_MAX: usize = 128;

/// Options whose values are secrets though their names do not say so.
const SECRETS: [&str; 4] = ["hexadecimal_kg", "community", "api_key", "apikey"];

/// Options that are not the site's to give, and why.
const REFUSED: [(&str, &str); 6] = [
    ("action", "each order names its own"),
    ("delay", "an order is begun at once or not at all: it has a time after which nothing of it may begin (I5)"),
    ("verbose", "the agent would write what it sends into the system's log, passwords among it"),
    ("verbose_level", "the agent would write what it sends into the system's log, passwords among it"),
    ("debug", "the agent would write what it sends into a file, passwords among it"),
    ("debug_file", "the agent would write what it sends into a file, passwords among it"),
];

/// `fence_apc`, or an absolute path.
pub(super) fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && !name.contains('/');
    (plain || name.starts_with('/') && !name.ends_with('/')) && name.chars().all(legal)
}

pub(super) fn settings(
    on: &mut Checker,
    table: &DeviceTable,
    name: &str,
    at: &str,
) -> Option<(DeviceSettings, String)> {
    let before = on.refusals.len();
    let mut options = options(on, table, at);
    let mut secrets = secrets(on, table, at);
    if table.username.is_some() {
        let given = username(on, table, at, USERNAME_MAX, "it is handed to the agent as its option username")?;
        twice(on, &options, &["username", "login"], &format!("{at}.username"));
        options.insert("username".to_owned(), given);
    }
    if table.password_file.is_some() || table.password_credential.is_some() {
        let given = password(on, table, at)?;
        if secrets.keys().any(|key| matches!(key.as_str(), "password" | "passwd")) {
            let rule = "must not be given beside password_file or password_credential";
            on.refuse_unshown(&format!("{at}.option_files"), rule, "which password would count?");
        }
        secrets.insert("password".to_owned(), given);
    }
    if let Some(key) = options.keys().find(|key| secrets.contains_key(*key)) {
        on.refuse(&format!("{at}.options.{key}"), "is given as a secret too", "which of them would count?");
    }
    if options.len() + secrets.len() > OPTIONS_MAX {
        on.refuse(&format!("{at}.options"), format!("must be at most {OPTIONS_MAX}"), "no agent knows as many");
    }
    let address = address(on, table, &options, at)?;
    if table.hosts.contains('*')
        && !options.values().any(|value| value.contains("{host}") || value.contains("{address}"))
    {
        let rule =
            format!("must have {{host}} or {{address}} in a value, as hosts = {:?} may match several", table.hosts);
        let why = "the agent would be told the same for each of them, and switch the same machine (I2)";
        on.refuse(&format!("{at}.options"), rule, why);
    }
    let settings = AgentSettings { name: name.to_owned(), options, secrets };
    (on.refusals.len() == before).then_some((DeviceSettings::Agent(settings), address))
}

fn options(on: &mut Checker, table: &DeviceTable, at: &str) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for (name, value) in &table.options {
        let key = format!("{at}.options.{name}");
        let value = match value {
            OptionValue::Text(text) => text.clone(),
            OptionValue::Number(number) => number.to_string(),
            OptionValue::Switch(switch) => u8::from(*switch).to_string(),
        };
        let same = name.replace('-', "_").to_ascii_lowercase();
        if !is_option(name) {
            let rule = "must be an option's name: letters, digits, '.', '_' and '-'";
            on.refuse_unshown(&key, rule, "the agent reads a line NAME=VALUE");
        } else if is_secret(&same) {
            let reason = "a secret lies in a file of its own, mode 0600, which password_file or option_files names, or in \
                          a credential of systemd: password_credential, option_credentials";
            on.refuse_unshown(&key, "must not be in this file", reason);
        } else if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == same) {
            on.refuse(&key, "must not be given", *why);
        } else if same == "missing_as_off" && is_true(&value) {
            on.refuse(&key, "must be \"0\"", "a machine that the agent does not find would count as off");
        } else if !arrives_whole(&value) || value.len() > OPTION_VALUE_MAX {
            on.refuse(&key, format!("{WHOLE}, and have at most {OPTION_VALUE_MAX} bytes"), "it is one line NAME=VALUE");
        } else {
            options.insert(name.clone(), value);
        }
    }
    options
}

fn secrets(on: &mut Checker, table: &DeviceTable, at: &str) -> BTreeMap<String, SecretSource> {
    let mut secrets = BTreeMap::new();
    for (name, file) in &table.option_files {
        let key = format!("{at}.option_files.{name}");
        if !is_option(name) || name == "action" {
            on.refuse(&key, "must be an option's name", "the agent reads a line NAME=VALUE");
        }
        let path = on.path(&key, file);
        secrets.insert(name.clone(), SecretSource::File(path));
    }
    for (name, given) in &table.option_credentials {
        let key = format!("{at}.option_credentials.{name}");
        if !is_option(name) || name == "action" || secrets.contains_key(name) {
            on.refuse(&key, "must be an option's name, not in option_files", "the agent reads a line NAME=VALUE");
        }
        if let Some(source) = credential(on, &key, given) {
            secrets.insert(name.clone(), source);
        }
    }
    secrets
}

/// By what the device goes: as it is written, or else what the agent is told of where it is.
fn address(on: &mut Checker, table: &DeviceTable, options: &BTreeMap<String, String>, at: &str) -> Option<String> {
    let key = format!("{at}.address");
    let first = |names: [&str; 2]| names.iter().find_map(|name| options.get(*name)).cloned();
    let given = table.address.clone().or_else(|| {
        let parts = [first(["ip", "ipaddr"]), first(["plug", "port"])];
        let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.contains("{address}")).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    });
    let Some(address) = given else {
        let reason =
            "it tells this device from every other; without it the options ip and plug do, of which there is neither";
        on.missing(&key, reason);
        return None;
    };
    let legal = !address.is_empty() && address.len() <= ADDRESS_MAX && address.chars().all(|c| c.is_ascii_graphic());
    if !legal || address.contains("{address}") {
        let rule = format!("must be 1 to {ADDRESS_MAX} letters, digits and signs, without blanks");
        on.refuse(&key, rule, "the device goes by it in tables and in the ledger: \"pdu-1/7\"");
        return None;
    }
    if table.address.is_none() && options.values().any(|value| value.contains("{address}")) {
        on.missing(&key, "an option says {address}");
        return None;
    }
    Some(address)
}

fn twice(on: &mut Checker, options: &BTreeMap<String, String>, names: &[&str], key: &str) {
    if let Some(name) = names.iter().find(|name| options.contains_key(**name)) {
        on.refuse(key, format!("must not be given beside options.{name}"), "which of them would count?");
    }
}

fn is_option(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= OPTION_NAME_MAX && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(legal)
}

/// Whether an option's value is a secret. Scripts and files are the names of such.
fn is_secret(name: &str) -> bool {
    let named = name.ends_with("_script") || name.ends_with("_file");
    !named && (sounds_secret(name) || SECRETS.contains(&name))
}

fn is_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "0" | "no" | "off" | "false")
}
