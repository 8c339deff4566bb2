//! `[[process]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_coordinator::process::{ProcessRule, RESTARTS_MAX};
use rekindle_proto::process::PROCESSES_MAX;

use super::checker::Checker;
use super::file::{OnDownWord, ProcessTable};
use crate::process::{ProcessMeans, ProcessSettings};

/// Restarts of a process that can be started, if nothing is said.
const RESTARTS: u32 = 3;
/// The wait before the first of them, if nothing is said.
const DELAY: Duration = Duration::from_secs(5);
/// Longest name, in bytes: it is part of the reason that Nova shows.
const NAME_BYTES_MAX: usize = 64;
/// What systemd manages and a process may be.
const SUFFIXES: [&str; 3] = [".service", ".socket", ".target"];

pub(super) fn check(on: &mut Checker, tables: &[ProcessTable]) -> Vec<ProcessSettings> {
    if tables.len() > PROCESSES_MAX {
        on.refuse(
            "process",
            format!("must be at most {PROCESSES_MAX}"),
            "each word about one is written to the ledger",
        );
    }
    let mut names = BTreeSet::new();
    let mut settings = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let key = |name: &str| format!("process[{}].{name}", index + 1);
        if !names.insert(&table.name) {
            on.refuse(&key("name"), "must be there once", "the same file lists another process of that name");
        }
        if table.name.as_str().len() > NAME_BYTES_MAX {
            let rule = format!("must have at most {NAME_BYTES_MAX} bytes");
            on.refuse(&key("name"), rule, "it is part of the reason that Nova shows");
        }
        let Some(means) = means(on, table, key) else { continue };
        let startable = !matches!(means, ProcessMeans::Commands { restart: None, .. });
        let default = if startable { RESTARTS } else { 0 };
        let why = "each further one comes twice as late as the last; after ten a person should look";
        let restarts = on.number(&key("restart_attempts"), table.restart_attempts, default, (0, RESTARTS_MAX), why);
        if restarts > 0 && !startable {
            on.refuse(&key("restart_attempts"), "must be 0 without a restart command", "nothing would start it");
        }
        let why = "systemd's own restarts go first; after five minutes nobody is waiting for it any more";
        let bounds = (Duration::from_secs(1), Duration::from_secs(300));
        let delay = on.duration(&key("restart_delay"), table.restart_delay.as_deref(), DELAY, bounds, why);
        let disables = table.on_down != Some(OnDownWord::Alarm);
        let rule = ProcessRule { name: table.name.clone(), restarts, delay, disables };
        settings.push(ProcessSettings { rule, means });
    }
    settings
}

/// By systemd, or by commands of the site; never by both.
fn means(on: &mut Checker, table: &ProcessTable, key: impl Fn(&str) -> String) -> Option<ProcessMeans> {
    match (&table.unit, &table.check) {
        (Some(unit), None) => {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c);
            let begins_well = unit.starts_with(|c: char| c.is_ascii_alphanumeric());
            if !begins_well || !unit.chars().all(legal) || !SUFFIXES.iter().any(|suffix| unit.ends_with(suffix)) {
                let why = "\"nova-compute.service\"; what systemd calls it, `systemctl list-units` shows";
                on.refuse(&key("unit"), "must be the full name of a service, socket or target unit", why);
                return None;
            }
            if table.restart.is_some() {
                on.refuse(&key("restart"), "must not be there beside unit", "systemd starts its units");
            }
            Some(ProcessMeans::Unit(unit.clone()))
        }
        (None, Some(check)) => {
            for (name, command) in [("check", Some(check)), ("restart", table.restart.as_ref())] {
                let is_absolute = |command: &Vec<String>| command.first().is_some_and(|it| it.starts_with('/'));
                if command.is_some_and(|command| !is_absolute(command)) {
                    let why = "it is run whatever the working directory and PATH are: [\"/usr/bin/podman\", …]";
                    on.refuse(&key(name), "must begin with the absolute path of a program", why);
                }
            }
            Some(ProcessMeans::Commands { check: check.clone(), restart: table.restart.clone() })
        }
        (Some(_), Some(_)) | (None, None) => {
            let why = "a unit is asked of systemd; anything else by a command that ends with 0 while it runs";
            on.refuse(&key("unit"), "must be there, or else check; not both", why);
            None
        }
    }
}
