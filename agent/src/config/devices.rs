//! `[[fence_device]]`: each entry by itself, and that no two hosts could ever be fenced through one device.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::policy::{DeviceRule, rules_for};
use rekindle_proto::id::HostName;

use super::checker::Checker;
use super::file::DeviceTable;
use crate::bmc::DeviceAccess;

/// The only driver yet.
const DRIVERS: [&str; 1] = ["ipmi-tool"];
/// IPMI's port (RFC-less; IPMI 2.0, section 13.1.2): left out or written, it is the same device.
const IPMI_PORT: &str = ":623";
/// A topology level (design: 1 to 9).
const LEVELS: (u32, u32) = (1, 9);

pub(super) fn check(
    on: &mut Checker,
    tables: &[DeviceTable],
    own: &HostName,
    voters: &[HostName],
) -> Vec<DeviceAccess> {
    let mut devices: Vec<DeviceAccess> = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let device = entry(on, table, &format!("fence_device[{}]", index + 1));
        devices.push(device);
    }
    let rules: Vec<DeviceRule> = devices.iter().map(|device| device.rule.clone()).collect();
    repeated(on, &rules);
    shared(on, &rules, own, voters);
    devices
}

fn entry(on: &mut Checker, table: &DeviceTable, at: &str) -> DeviceAccess {
    if !is_pattern(&table.hosts) {
        on.refuse(
            &format!("{at}.hosts"),
            "must be a host name, or a pattern with '*'",
            "a host is named as Nova names it: letters, digits, '.', '_' and '-'",
        );
    }
    let level = on.number(&format!("{at}.level"), table.level, 1, LEVELS, "levels are tried from 1 upwards");
    if !DRIVERS.contains(&table.driver.as_str()) {
        on.refuse(
            &format!("{at}.driver"),
            format!("must be one of: {}", DRIVERS.join(", ")),
            "there is no other driver yet; one that were silently ignored would leave the host unfenceable",
        );
    }
    if !is_address(&table.address) {
        on.refuse(
            &format!("{at}.address"),
            "must be a host name or address, perhaps with a port",
            "\"{host}-bmc\", \"10.30.0.7\", \"10.30.0.7:623\": letters, digits and \".-_:[]\", not beginning with '-'",
        );
    }
    if table.username.is_empty() || table.username.starts_with('-') || table.username.contains(char::is_whitespace) {
        on.refuse(
            &format!("{at}.username"),
            "must be a user name, without blanks and not beginning with '-'",
            "it is handed to ipmitool as an argument",
        );
    }
    let suite = on.number(&format!("{at}.cipher_suite"), table.cipher_suite, 17, (3, 17), "3 (SHA-1) or 17 (SHA-256)");
    if !matches!(suite, 3 | 17) {
        on.refuse(
            &format!("{at}.cipher_suite"),
            "must be 3 or 17",
            "the others lack authentication, integrity or encryption (IPMI 2.0, table 22-20)",
        );
    }
    DeviceAccess {
        rule: DeviceRule {
            hosts: table.hosts.clone(),
            level: u8::try_from(level).unwrap_or(1),
            driver: table.driver.clone(),
            address: table.address.clone(),
        },
        username: table.username.clone(),
        password_file: on.path(&format!("{at}.password_file"), &table.password_file),
        cipher_suite: u8::try_from(suite).unwrap_or(17),
    }
}

fn is_pattern(text: &str) -> bool {
    // With every run of `*` replaced by a letter, a pattern is a name.
    HostName::new(&text.replace('*', "a")).is_ok()
}

fn is_address(text: &str) -> bool {
    let text = text.replace("{host}", "h");
    !text.is_empty()
        && !text.starts_with(['-', ':'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'))
}

/// The same device twice in the entries for the same hosts.
fn repeated(on: &mut Checker, rules: &[DeviceRule]) {
    for (index, rule) in rules.iter().enumerate() {
        let same = |other: &DeviceRule| other.hosts == rule.hosts && outlet(&other.address) == outlet(&rule.address);
        if let Some(first) = rules[..index].iter().position(same) {
            on.refuse(
                &format!("fence_device[{}].address", index + 1),
                format!("must not repeat fence_device[{}] for hosts = {:?}", first + 1, rule.hosts),
                "a second entry adds no device; with another user or level it would be unclear which one counts",
            );
        }
    }
}

/// One device for two hosts: fencing one would cut the other's power, and a reading would prove nothing of either.
fn shared(on: &mut Checker, rules: &[DeviceRule], own: &HostName, voters: &[HostName]) {
    const REASON: &str = "a device belongs to one host: fencing one would cut another's power, and its \"off\" would \
                          be proof for neither (I2)";
    for (index, rule) in rules.iter().enumerate() {
        if !rule.is_exact() && !rule.address.contains("{host}") {
            let rule_text = format!("must contain {{host}}, as hosts = {:?} may match several", rule.hosts);
            on.refuse(&format!("fence_device[{}].address", index + 1), rule_text, REASON);
        }
    }
    let mut seen: BTreeMap<String, (HostName, usize)> = BTreeMap::new();
    for host in &candidates(rules, own, voters) {
        for rule in rules_for(rules, host) {
            let index = rules.iter().position(|other| std::ptr::eq(other, rule)).unwrap_or_default();
            let outlet = outlet(&rule.address.replace("{host}", host.as_str()));
            let Some((other, first)) = seen.insert(outlet, (host.clone(), index)) else { continue };
            if other != *host {
                on.refuse(
                    &format!("fence_device[{}].address", index + 1),
                    format!("gives {host} the device of {other}, see fence_device[{}]", first + 1),
                    REASON,
                );
            } else if rules[first].hosts != rule.hosts {
                on.refuse(
                    &format!("fence_device[{}].address", index + 1),
                    format!("gives {host} the same device as fence_device[{}]", first + 1),
                    "two patterns match this host; with another user or level it would be unclear which one counts",
                );
            }
        }
    }
}

/// Hosts the file lets us know of: its voters, its exact names, and those whose device by a pattern would be one that an
/// exact entry gives to somebody else.
fn candidates(rules: &[DeviceRule], own: &HostName, voters: &[HostName]) -> BTreeSet<HostName> {
    let mut hosts: BTreeSet<HostName> = voters.iter().cloned().collect();
    hosts.insert(own.clone());
    let exact: Vec<&DeviceRule> = rules.iter().filter(|rule| rule.is_exact()).collect();
    hosts.extend(exact.iter().filter_map(|rule| HostName::new(&rule.hosts).ok()));
    for pattern in rules.iter().filter(|rule| !rule.is_exact()) {
        let Some((before, after)) = pattern.address.split_once("{host}") else { continue };
        for rule in &exact {
            let address = rule.address.replace("{host}", &rule.hosts);
            let inner = address.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            let host = inner.and_then(|name| HostName::new(name).ok());
            hosts.extend(host.filter(|host| pattern.matches(host)));
        }
    }
    hosts
}

/// An address as the same device would have it: lower case, without the default port.
fn outlet(address: &str) -> String {
    let lower = address.to_ascii_lowercase();
    lower.strip_suffix(IPMI_PORT).unwrap_or(&lower).to_owned()
}
