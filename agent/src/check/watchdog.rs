//! The host's own watchdog: looked at, never opened.

use rekindle_proto::fact::MemberRole;

use super::CheckLine;
use crate::config::Config;
use crate::watchdog::{BootStatus, Found, LAST_WORDS, Node, holders, is_left_to_us};

const WHAT: &str = "member.watchdog";
const DOCS: &str = "see docs/fencing.md, \"The host's own watchdog\"";

pub(super) async fn watchdog(config: &Config) -> Vec<CheckLine> {
    let Some(node) = config.member.watchdog else {
        let wanted = config.policy.self_fence && config.member.role == MemberRole::Member;
        let figure = "none on this host, and fencing.self_fence = true";
        let mend = "without one its silence proves nothing: name its hardware watchdog";
        return if wanted { vec![CheckLine::warn(WHAT, figure, mend)] } else { Vec::new() };
    };
    let found = match Found::look(node) {
        Ok(found) => found,
        Err(error) => return vec![CheckLine::fail(WHAT, super::chain(&error), DOCS)],
    };
    let figure = format!("{} at {node}: {}", found.identity, found.times.relation());
    let mut lines = vec![CheckLine::fine(WHAT, figure)];
    if found.nowayout {
        let figure = "nowayout: once fed it cannot be stopped, not by a stop of the daemon either";
        lines.push(CheckLine::warn(
            WHAT,
            figure,
            "wanted? then stop the daemon only to start it again at once, or to reboot",
        ));
    }
    lines.extend(ended(found.before));
    lines.extend(held(node, found.active, &holders(node)));
    if let Err(error) = is_left_to_us(node).await {
        lines.push(CheckLine::fail(WHAT, error.to_string(), DOCS));
    }
    lines
}

/// What ended the boot before.
pub(super) fn ended(before: BootStatus) -> Option<CheckLine> {
    let mend = if before.is_reset() { LAST_WORDS } else { "see to the machine: its watchdog says so, not we" };
    before.says_something().then(|| CheckLine::warn(WHAT, before.to_string(), mend))
}

/// Who has it. `active`: somebody started it, whether or not he lives.
pub(super) fn held(node: Node, active: bool, holders: &[String]) -> Option<CheckLine> {
    let strangers: Vec<&str> =
        holders.iter().map(String::as_str).filter(|holder| !holder.starts_with("rekindled ")).collect();
    if !strangers.is_empty() {
        let figure = format!("{node} is held by {}", strangers.join(", "));
        return Some(CheckLine::fail(WHAT, figure, "only one process may feed it: switch that off"));
    }
    match (active, holders.first()) {
        (_, Some(holder)) => Some(CheckLine::fine(WHAT, format!("it runs, fed by {holder}"))),
        (true, None) => {
            let figure = "it runs, and nobody is seen to hold it: unless it is fed soon it resets this host";
            Some(CheckLine::warn(WHAT, figure, "run the check as root to see who holds it"))
        }
        (false, None) => None,
    }
}
