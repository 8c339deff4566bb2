//! `[[hook]]`.

use std::time::Duration;

use rekindle_coordinator::hook::{HOOKS_MAX, HookRule};
use rekindle_proto::hook::HookPoint;

use super::checker::Checker;
use super::file::{HookTable, OnFailureWord};
use crate::hook::HookSettings;

/// The time-out if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn check(on: &mut Checker, tables: &[HookTable]) -> Vec<HookSettings> {
    if tables.len() > HOOKS_MAX {
        on.refuse("hook", format!("must be at most {HOOKS_MAX}"), "each may delay a recovery by its time-out");
    }
    let mut hooks = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let key = |name: &str| format!("hook[{}].{name}", index + 1);
        let Some((program, arguments)) = table.command.split_first().filter(|(program, _)| program.starts_with('/'))
        else {
            let why =
                "the leader runs it, whatever its working directory and PATH are: [\"/usr/local/sbin/x\", \"arg\"]";
            on.refuse(&key("command"), "must begin with the absolute path of a program", why);
            continue;
        };
        let hold = table.on_failure == Some(OnFailureWord::Hold);
        let may_hold = match table.on {
            HookPoint::BeforeFence | HookPoint::AfterFence | HookPoint::BeforeEvacuate => true,
            HookPoint::AfterEvacuate | HookPoint::Recovered | HookPoint::Stuck => false,
        };
        if hold && !may_hold {
            let rule = "must be \"continue\" after evacuation, recovery, and where the incident is stuck";
            on.refuse(&key("on_failure"), rule, "there is nothing left to hold");
        }
        let why = "what comes after it waits that long, and its servers with it";
        let bounds = (Duration::from_secs(1), Duration::from_secs(600));
        let timeout = on.duration(&key("timeout"), table.timeout.as_deref(), TIMEOUT, bounds, why);
        let rule = HookRule { on: table.on, program: program.clone(), timeout, hold };
        hooks.push(HookSettings { rule, program: program.into(), arguments: arguments.to_vec() });
    }
    hooks
}
