//! What the silence of a host is worth, by its own watchdog, in words.

use rekindle_proto::fact::{MemberRole, Text};
use rekindle_proto::id::HostName;
use rekindle_proto::status::GuardLine;

use crate::context::Context;
use crate::ledger::{ArmedWatchdog, not_armed};

/// The watchdog under which it lives; else why there is none.
fn watchdog<'a>(cx: &Context<'a>, host: &HostName) -> Result<&'a ArmedWatchdog, Text> {
    let ledger = cx.ledger;
    let boot = ledger.host(host).and_then(|record| record.pulse.as_ref()).map(|pulse| pulse.boot);
    let running = boot.and_then(|boot| ledger.running_watchdog(host, boot));
    running.ok_or_else(|| not_armed(ledger, host, boot))
}

/// A line of `why`. No brake: it is the last level, for when no device can say *off*.
pub(super) fn guard(cx: &Context<'_>, host: &HostName) -> GuardLine {
    let text = match watchdog(cx, host) {
        _ if !cx.setup.policy.self_fence => {
            "self_fence = false: only a fence device, or a person, can say that it is off".into()
        }
        Ok(armed) => Text::new(format!(
            "self_fence = true, {} is armed: where no fence device can say off, its silence can",
            armed.watchdog.device
        )),
        Err(why) => Text::new(format!("self_fence = true, and proves nothing: {why}")),
    };
    GuardLine { guard: "self-fence".into(), passes: true, text }
}

/// A note of `status`, for hypervisors, where the policy counts on watchdogs.
pub(super) fn note(cx: &Context<'_>, host: &HostName) -> Option<Text> {
    let is_member = cx.ledger.entry_of(host).is_some_and(|entry| entry.role == MemberRole::Member);
    if !is_member || !cx.setup.policy.self_fence {
        return None;
    }
    Some(match watchdog(cx, host) {
        Ok(_) => "self-fence armed".into(),
        Err(why) => Text::new(format!("no self-fence: {why}")),
    })
}
