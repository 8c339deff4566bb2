//! Orders to power off, with what the devices said; and hosts for which none would help.

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::status::FenceLine;

use crate::context::Context;
use crate::leader::Leader;
use crate::ledger::{FenceAttempt, OffReads};

/// The history of an incident's orders. `executor`: who executed which for the leader.
pub(super) fn fences<'a>(
    attempts: impl Iterator<Item = &'a FenceAttempt>,
    executor: impl Fn(u32) -> Option<&'a HostName>,
) -> Vec<FenceLine> {
    attempts.map(|attempt| fence_line(attempt, executor(attempt.attempt))).collect()
}

fn fence_line(attempt: &FenceAttempt, executor: Option<&HostName>) -> FenceLine {
    let read = |reads: &OffReads| {
        if reads.unverified {
            return Text::new(format!("{}: it said so, UNVERIFIED: nothing can be read of it", reads.device));
        }
        let before = if reads.seen_going_off { "on before the order" } else { "not seen on before the order" };
        let OffReads { device, after_ms, apart_ms, .. } = reads;
        Text::new(format!("{device}: {before}, off {after_ms} ms after it, off again {apart_ms} ms later"))
    };
    let (result, readings): (&str, Vec<Text>) = match (&attempt.proof, &attempt.failed) {
        (Some(proof), None) => ("proven", proof.devices.iter().map(read).collect()),
        // Proven, and contradicted or ended later.
        (Some(proof), Some(why)) => ("proven", proof.devices.iter().map(read).chain([why.clone()]).collect()),
        (None, Some(why)) => ("failed", vec![why.clone()]),
        (None, None) => ("under-way", Vec::new()),
    };
    FenceLine {
        attempt: attempt.attempt,
        at: attempt.at,
        by: attempt.leader.clone(),
        executor: executor.cloned(),
        term: attempt.term,
        level: attempt.level,
        devices: attempt.devices.iter().map(ToString::to_string).collect(),
        not_after: attempt.not_after,
        result: result.into(),
        readings,
    }
}

/// Hosts that no level of their devices could prove off, by what was last read.
pub(super) fn unfenceable(cx: &Context<'_>, leader: Option<&Leader>) -> Vec<HostName> {
    let Some(leader) = leader else { return Vec::new() };
    let mut hosts: Vec<HostName> =
        cx.ledger.targets().filter(|host| !leader.device_book().is_fenceable(host)).cloned().collect();
    hosts.sort();
    hosts
}
