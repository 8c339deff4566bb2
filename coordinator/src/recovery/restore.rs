//! How a server comes back in the state in which its owner left it: a table, and the next step from what Nova shows.
//!
//! Nova evacuates a server that is active, stopped or in error (nova/compute/api.py, `evacuate`), and no other. One that is
//! paused, say, is first told to be in error; Nova then builds it as it builds any server in error: running. So that it does
//! not run where its owner had it not run, Nova is asked to leave it stopped where it arrives (microversion 2.95), or it is
//! stopped there by us, where Nova or one of its computes is older.

use rekindle_proto::fact::{NovaServer, Text};
use rekindle_proto::id::{HostName, ServerId};

use super::step::ServerStep;
use crate::ledger::{EndState, Fate, RestorePlan, ServerAct, ServerRecord};
use crate::policy::LockServers;

/// Nova's `power_state` of a running server (nova/compute/power_state.py).
const RUNNING: u8 = 1;

/// What is to become of a server's state. `ran`: whether it ran by its host's own last word from before the suspicion (I6),
/// if that host ever said.
///
/// # Errors
/// Why it is left behind: Nova can do nothing for it, or its owner wants nothing of it.
pub fn restoration(server: &NovaServer, ran: Option<bool>, lock: LockServers) -> Result<RestorePlan, Text> {
    let had_power = ran.unwrap_or(server.standing.power_state == Some(RUNNING));
    let task = server.task_state.as_ref().map(Text::as_str);
    if let Some(task @ ("deleting" | "soft-deleting" | "local_deleting")) = task {
        return Err(Text::new(format!("its owner was deleting it ({task}) when its host died: delete it again")));
    }
    let comes_stopped = |lost: &'static str| (EndState::Stopped, true, Some(lost));
    let (end, resets, lost) = match server.vm_state.as_str() {
        "active" => (EndState::Running, false, None),
        // Nova's own sync has written it, as its host went down, of a server that nobody had stopped.
        "stopped" if ran == Some(true) => (EndState::Running, false, None),
        "stopped" => (EndState::Stopped, false, None),
        "error" => (EndState::Error { running: had_power }, false, None),
        "resized" => {
            let end = if had_power { EndState::Running } else { EndState::Stopped };
            (end, true, Some("its resize can neither be confirmed nor reverted any more"))
        }
        "paused" => comes_stopped("it was paused: what was in its memory is lost"),
        "suspended" => comes_stopped("it was suspended: what was in its memory is lost"),
        "rescued" => comes_stopped("it was in rescue, and is not any more"),
        "shelved" => comes_stopped("it was shelved, and is not any more; its snapshot is kept"),
        "building" => return Err("it was being built, and has never run: delete it, and create it again".into()),
        "shelved_offloaded" => return Err("it is shelved and offloaded: it is on no host, and needs none".into()),
        state @ ("soft-delete" | "soft_deleted" | "deleted") => {
            return Err(Text::new(format!("its owner has deleted it (vm_state {state})")));
        }
        state => return Err(Text::new(format!("vm_state {state}: Nova does not evacuate it"))),
    };
    let lost = match (lost, task) {
        (None, None) => None,
        (Some(lost), None) => Some(lost.to_owned()),
        (None, Some(task)) => Some(cut_short(task)),
        (Some(lost), Some(task)) => Some(format!("{lost}; {}", cut_short(task))),
    };
    let is_error = server.vm_state.as_str() == "error";
    // What Nova would build running.
    let stop_on_arrival = !end.runs() && (resets || is_error);
    let starts = end.runs() && server.vm_state.as_str() == "stopped";
    let alters = resets || is_error || starts;
    let locks = match lock {
        LockServers::Never => false,
        LockServers::Altered => alters,
        LockServers::Always => true,
    };
    // What its owner, or an operator, has locked needs no lock of ours, and stays theirs.
    let locks = locks && !server.standing.locked;
    Ok(RestorePlan { end, resets, locks, stop_on_arrival, lost: lost.map(Text::new) })
}

/// A task that its host has taken with it is not begun again: its owner may not want it any more.
fn cut_short(task: &str) -> String {
    format!("its task {task} was cut short")
}

/// What has to be done to a server on its dead host before it is evacuated.
#[must_use]
pub fn act_before(record: &ServerRecord, server: &NovaServer) -> Option<ServerAct> {
    let restore = &record.restore;
    let is_open = |act| !restore.given_up.contains(&act);
    if restore.plan.locks && !restore.locked_by_us && !server.standing.locked && is_open(ServerAct::Lock) {
        return Some(ServerAct::Lock);
    }
    (restore.plan.resets && !restore.reset && is_open(ServerAct::Reset)).then_some(ServerAct::Reset)
}

/// Why a server is not to be evacuated after all; `None`: it is.
#[must_use]
pub fn hopeless(record: &ServerRecord) -> Option<Fate> {
    let restore = &record.restore;
    let last = || record.last_failure.clone().unwrap_or_else(|| "no reason given".into());
    if restore.refused_for_good {
        return Some(Fate::LeftBehind { why: Text::new(format!("Nova does not evacuate it: {}", last())) });
    }
    let is_stuck = restore.plan.resets && !restore.reset && restore.given_up.contains(&ServerAct::Reset);
    is_stuck.then(|| {
        let why = format!("vm_state {}: Nova does not evacuate it, and did not let us reset it", record.vm_state);
        Fate::LeftBehind { why: Text::new(why) }
    })
}

/// What has to be done to a server that has arrived, as it was read there.
#[must_use]
pub fn act_after(record: &ServerRecord, server: &NovaServer) -> Option<ServerAct> {
    let restore = &record.restore;
    let due = match (restore.plan.end, server.vm_state.as_str()) {
        (EndState::Running, "stopped") => ServerAct::Start,
        (EndState::Stopped, "active") => ServerAct::Stop,
        (EndState::Error { running: true }, "stopped") => ServerAct::Start,
        (EndState::Error { running: false }, "active") => ServerAct::Stop,
        (EndState::Error { .. }, "active" | "stopped") if !restore.marked => ServerAct::Mark,
        (EndState::Running | EndState::Stopped | EndState::Error { .. }, _) => return None,
    };
    if !restore.given_up.contains(&due) {
        return Some(due);
    }
    // What could not be stopped or started is still in error.
    let marks = matches!(restore.plan.end, EndState::Error { .. }) && !restore.marked;
    (marks && !restore.given_up.contains(&ServerAct::Mark)).then_some(ServerAct::Mark)
}

/// Whether a server, read after an act was called, shows it.
#[must_use]
pub fn shows(act: ServerAct, server: &NovaServer, reason: &Text) -> bool {
    let task = server.task_state.as_ref().map(Text::as_str);
    let state = server.vm_state.as_str();
    match act {
        ServerAct::Lock => is_locked_by(server, reason),
        ServerAct::Unlock => !is_locked_by(server, reason),
        ServerAct::Reset | ServerAct::Mark => state == "error" && task.is_none(),
        ServerAct::Stop => state == "stopped" || task == Some("powering-off"),
        ServerAct::Start => state == "active" || task == Some("powering-on"),
    }
}

/// Whether the lock on a server is the one with that reason.
#[must_use]
pub fn is_locked_by(server: &NovaServer, reason: &Text) -> bool {
    server.standing.locked && server.standing.lock_reason.as_ref() == Some(reason)
}

/// Proof that a server has arrived: its move is done, it was read on another host than the dead one with nothing under way,
/// and that host lives beyond doubt. A stop or start sent to any other host waits in its queue, and is carried out when
/// nobody wants it any more (design, section 5).
#[derive(Debug)]
pub struct Arrival {
    server: ServerId,
}

impl Arrival {
    /// From the next step of a server that was read just now, and whether its new host is beyond doubt.
    #[must_use]
    pub(crate) fn of(server: ServerId, step: &ServerStep, is_sound: impl FnOnce(&HostName) -> bool) -> Option<Self> {
        match step {
            ServerStep::Settle(Fate::Recovered { to }) => is_sound(to).then_some(Self { server }),
            ServerStep::Settle(Fate::LeftBehind { .. } | Fate::Deleted)
            | ServerStep::ReadServer { .. }
            | ServerStep::Wait(_)
            | ServerStep::Evacuate { .. } => None,
        }
    }

    /// Which.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
}
