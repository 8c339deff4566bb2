//! `[[fence_device]]`: each entry by itself, and that no two hosts could ever be fenced through one device.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::policy::{DeviceRule, rules_for};
use rekindle_proto::id::HostName;

use super::checker::Checker;
use super::drivers::{IPMI_PORT, REDFISH_PORT, settings};
use super::file::DeviceTable;
use crate::bmc::{DeviceAccess, DeviceSettings};

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
        devices.extend(entry(on, table, &format!("fence_device[{}]", index + 1)));
    }
    // Between entries only if each by itself is one: else what they have in common is a mistake's.
    if devices.len() == tables.len() {
        repeated(on, &devices);
        shared(on, &devices, own, voters);
    }
    devices
}

fn entry(on: &mut Checker, table: &DeviceTable, at: &str) -> Option<DeviceAccess> {
    if !is_pattern(&table.hosts) {
        on.refuse(
            &format!("{at}.hosts"),
            "must be a host name, or a pattern with '*'",
            "a host is named as Nova names it: letters, digits, '.', '_' and '-'",
        );
    }
    let level = on.number(&format!("{at}.level"), table.level, 1, LEVELS, "levels are tried from 1 upwards");
    let (settings, address) = settings(on, table, at)?;
    let rule = DeviceRule {
        hosts: table.hosts.clone(),
        level: u8::try_from(level).unwrap_or(1),
        driver: table.driver.clone(),
        address,
        unverified: table.unverified.unwrap_or_default(),
    };
    Some(DeviceAccess { rule, settings })
}

fn is_pattern(text: &str) -> bool {
    // With every run of `*` replaced by a letter, a pattern is a name.
    HostName::new(&text.replace('*', "a")).is_ok()
}

/// The same device twice in the entries for the same hosts.
fn repeated(on: &mut Checker, devices: &[DeviceAccess]) {
    for (index, device) in devices.iter().enumerate() {
        let rule = &device.rule;
        let same = |other: &DeviceAccess| {
            other.rule.hosts == rule.hosts
                && other.rule.driver == rule.driver
                && outlet(&other.rule.address) == outlet(&rule.address)
        };
        if let Some(first) = devices[..index].iter().position(same) {
            on.refuse(
                &key(device, index),
                format!("must not repeat fence_device[{}] for hosts = {:?}", first + 1, rule.hosts),
                "a second entry adds no device; with another user or level it would be unclear which one counts",
            );
        }
    }
}

/// What the device goes by.
fn key(device: &DeviceAccess, index: usize) -> String {
    let name = match &device.settings {
        DeviceSettings::Storage(_) => "command",
        DeviceSettings::IpmiTool(_)
        | DeviceSettings::Ipmi(_)
        | DeviceSettings::Redfish(_)
        | DeviceSettings::Agent(_) => "address",
    };
    format!("fence_device[{}].{name}", index + 1)
}

/// One device for two hosts: fencing one would cut the other's power, and a reading would prove nothing of either.
fn shared(on: &mut Checker, devices: &[DeviceAccess], own: &HostName, voters: &[HostName]) {
    const REASON: &str = "a device belongs to one host: fencing one would cut another's power, and its \"off\" would \
                          be proof for neither (I2)";
    let rules: Vec<DeviceRule> = devices.iter().map(|device| device.rule.clone()).collect();
    for (index, rule) in rules.iter().enumerate() {
        if !rule.is_exact() && !rule.address.contains("{host}") {
            let rule_text = format!("must contain {{host}}, as hosts = {:?} may match several", rule.hosts);
            on.refuse(&key(&devices[index], index), rule_text, REASON);
        }
    }
    let mut seen: BTreeMap<String, (HostName, usize)> = BTreeMap::new();
    let mut told: BTreeMap<String, (HostName, usize)> = BTreeMap::new();
    for host in &candidates(&rules, own, voters) {
        for rule in rules_for(&rules, host) {
            let index = rules.iter().position(|other| std::ptr::eq(other, rule)).unwrap_or_default();
            if let Some(words) = agent_words(&devices[index], host)
                && let Some((other, first)) = told.insert(words, (host.clone(), index))
                && other != *host
            {
                let rule_text =
                    format!("tells the agent for {host} what fence_device[{}] tells it for {other}", first + 1);
                on.refuse(&format!("fence_device[{}].options", index + 1), rule_text, REASON);
            }
            let outlet = outlet(&rule.address.replace("{host}", host.as_str()));
            let Some((other, first)) = seen.insert(outlet, (host.clone(), index)) else { continue };
            if other != *host {
                on.refuse(
                    &key(&devices[index], index),
                    format!("gives {host} the device of {other}, see fence_device[{}]", first + 1),
                    REASON,
                );
            } else if rules[first].hosts != rule.hosts && rules[first].driver == rule.driver {
                on.refuse(
                    &key(&devices[index], index),
                    format!("gives {host} the same device as fence_device[{}]", first + 1),
                    "two patterns match this host; with another user or level it would be unclear which one counts",
                );
            }
        }
    }
}

/// What a fence agent is told for this host: two hosts for which it is told the same have one device, by whatever address.
fn agent_words(device: &DeviceAccess, host: &HostName) -> Option<String> {
    let DeviceSettings::Agent(settings) = &device.settings else { return None };
    let address = device.rule.address.replace("{host}", host.as_str());
    let words = settings.options.iter().map(|(name, value)| {
        format!("{name}={}", value.replace("{host}", host.as_str()).replace("{address}", &address))
    });
    let words: Vec<String> = words.collect();
    Some(format!("{} {}", settings.name, words.join("\n")))
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

/// An address as the same device would have it: lower case, without a default port.
fn outlet(address: &str) -> String {
    let lower = address.to_ascii_lowercase();
    let port = [IPMI_PORT, REDFISH_PORT].iter().find_map(|port| lower.strip_suffix(&format!(":{port}")));
    port.unwrap_or(&lower).to_owned()
}
