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
use crate::mutant::{Guard, keeps};
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
    let locks = locks && (!server.standing.locked || !keeps(Guard::OwnersLock));
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
    if !keeps(Guard::ArrivedFirst) && restore.acts == 0 {
        return act_after(record, server);
    }
    let is_free = !server.standing.locked || !keeps(Guard::OwnersLock);
    if restore.plan.locks && !restore.locked_by_us && is_free && is_open(ServerAct::Lock) {
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
    if !keeps(Guard::EndState) {
        return None;
    }
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
            | ServerStep::GiveUp(_)
            | ServerStep::Wait(_) => None,
            ServerStep::Evacuate { .. } => (!keeps(Guard::ArrivedFirst)).then_some(Self { server }),
        }
    }

    /// Which.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Restoration;
    use rekindle_proto::fact::ServerStanding;
    use uuid::Uuid;

    fn server(vm_state: &str, task: &str, power: u8) -> NovaServer {
        NovaServer {
            id: ServerId(Uuid::nil()),
            name: "web-1".into(),
            host: None,
            vm_state: vm_state.into(),
            task_state: (!task.is_empty()).then(|| task.into()),
            metadata: Default::default(),
            traits: Default::default(),
            standing: ServerStanding { power_state: Some(power), ..ServerStanding::default() },
        }
    }

    fn record(vm_state: &str, plan: RestorePlan) -> ServerRecord {
        ServerRecord {
            name: "web-1".into(),
            vm_state: vm_state.into(),
            attempts: 0,
            attempts_excused: 0,
            intent: None,
            last_failure: None,
            fate: None,
            restore: Restoration::of(plan),
            priority: 50,
            marked: false,
            undecided: None,
            leg: Default::default(),
            unplaced: None,
        }
    }

    /// Everything that is done to a server, by Nova as it is, from its dead host to its end: the acts in order, where Nova
    /// builds it, and how it is in the end. `old`: a Nova that does not know evacuations that leave a server stopped.
    fn story(vm_state: &str, task: &str, power: u8, ran: Option<bool>, old: bool) -> String {
        let mut now = server(vm_state, task, power);
        let plan = match restoration(&now, ran, LockServers::Altered) {
            Ok(plan) => plan,
            Err(why) => return format!("left behind: {why}"),
        };
        let mut record = record(vm_state, plan);
        let mut said = Vec::new();
        while let Some(act) = act_before(&record, &now) {
            said.push(format!("{act:?}"));
            match act {
                ServerAct::Lock => record.restore.locked_by_us = true,
                ServerAct::Reset => {
                    record.restore.reset = true;
                    now = server("error", "", power);
                }
                ServerAct::Unlock | ServerAct::Mark | ServerAct::Stop | ServerAct::Start => panic!("{act:?} before"),
            }
        }
        assert!(matches!(now.vm_state.as_str(), "active" | "stopped" | "error"), "Nova refuses {now:?}");
        let stops = now.vm_state.as_str() == "stopped" || (record.restore.plan.stop_on_arrival && !old);
        said.push(if stops { "evacuated, stopped" } else { "evacuated" }.to_owned());
        now = server(if stops { "stopped" } else { "active" }, "", if stops { 4 } else { 1 });
        while let Some(act) = act_after(&record, &now) {
            said.push(format!("{act:?}"));
            now.vm_state = match act {
                ServerAct::Stop => "stopped".into(),
                ServerAct::Start => "active".into(),
                ServerAct::Mark => {
                    record.restore.marked = true;
                    "error".into()
                }
                ServerAct::Lock | ServerAct::Unlock | ServerAct::Reset => panic!("{act:?} after"),
            };
        }
        format!("{} = {}", said.join(", "), now.vm_state)
    }

    #[test]
    fn the_table_of_states() {
        const RUNS: u8 = 1;
        const OFF: u8 = 4;
        let (unknown, ran, idle) = (None, Some(true), Some(false));
        let simple = "evacuated = active";
        let stays = "evacuated, stopped = stopped";
        let altered = "Lock, Reset, evacuated, stopped = stopped";
        let rows = [
            ("active", "", RUNS, ran, simple),
            ("active", "", OFF, unknown, simple),
            // Shut down from within a minute ago, and Nova does not know yet: Nova's word stands.
            ("active", "", RUNS, idle, simple),
            ("active", "rebooting", RUNS, ran, simple),
            ("active", "powering-off", RUNS, ran, simple),
            (
                "active",
                "deleting",
                RUNS,
                ran,
                "left behind: its owner was deleting it (deleting) when its host died: delete it again",
            ),
            ("stopped", "", OFF, idle, stays),
            ("stopped", "", OFF, unknown, stays),
            ("stopped", "powering-on", OFF, idle, stays),
            // Nova's sync, as its host went down in order.
            ("stopped", "", OFF, ran, "Lock, evacuated, stopped, Start = active"),
            ("error", "", OFF, idle, "Lock, evacuated, stopped, Mark = error"),
            ("error", "", RUNS, unknown, "Lock, evacuated, Mark = error"),
            ("error", "", OFF, ran, "Lock, evacuated, Mark = error"),
            ("error", "powering-off", OFF, idle, "Lock, evacuated, stopped, Mark = error"),
            ("resized", "", RUNS, ran, "Lock, Reset, evacuated = active"),
            ("resized", "resize_reverting", RUNS, ran, "Lock, Reset, evacuated = active"),
            ("resized", "", OFF, idle, altered),
            ("paused", "", 3, ran, altered),
            ("paused", "unpausing", 3, ran, altered),
            ("suspended", "", OFF, idle, altered),
            ("suspended", "resuming", OFF, idle, altered),
            ("rescued", "", RUNS, ran, altered),
            ("rescued", "unrescuing", RUNS, ran, altered),
            ("shelved", "", OFF, idle, altered),
            ("shelved", "shelving_offloading", OFF, idle, altered),
            (
                "shelved_offloaded",
                "",
                OFF,
                unknown,
                "left behind: it is shelved and offloaded: it is on no host, and needs none",
            ),
            (
                "building",
                "spawning",
                0,
                unknown,
                "left behind: it was being built, and has never run: delete it, and create it again",
            ),
            ("soft-delete", "", OFF, idle, "left behind: its owner has deleted it (vm_state soft-delete)"),
            ("folding", "", RUNS, ran, "left behind: vm_state folding: Nova does not evacuate it"),
        ];
        for (state, task, power, was, expected) in rows {
            assert_eq!(story(state, task, power, was, false), expected, "{state} {task} {power} {was:?}");
            let old = expected.replace("Reset, evacuated, stopped", "Reset, evacuated, Stop");
            let old = match state {
                "error" => old.replace("evacuated, stopped, Mark", "evacuated, Stop, Mark"),
                _ => old,
            };
            assert_eq!(story(state, task, power, was, true), old, "{state} {task} {power} {was:?}, an old Nova");
        }
    }

    #[test]
    fn what_cannot_be_brought_back_is_said() {
        let lost = |state: &str, task: &str| {
            let plan = restoration(&server(state, task, 1), None, LockServers::Never).expect("evacuated");
            plan.lost.map(|lost| lost.to_string()).unwrap_or_default()
        };
        assert_eq!(lost("active", ""), "");
        assert_eq!(lost("active", "rebooting"), "its task rebooting was cut short");
        assert_eq!(lost("paused", ""), "it was paused: what was in its memory is lost");
        let both = "it was suspended: what was in its memory is lost; its task resuming was cut short";
        assert_eq!(lost("suspended", "resuming"), both);
    }

    #[test]
    fn who_is_locked() {
        use LockServers::{Altered, Always, Never};
        for (policy, state, locked, expected) in [
            (Never, "paused", false, false),
            (Altered, "active", false, false),
            (Altered, "stopped", false, false),
            (Altered, "paused", false, true),
            (Altered, "error", false, true),
            (Always, "active", false, true),
            // Its owner's lock stays, and is nobody else's to lift.
            (Always, "active", true, false),
            (Altered, "paused", true, false),
        ] {
            let mut found = server(state, "", 1);
            found.standing.locked = locked;
            let plan = restoration(&found, None, policy).expect("evacuated");
            assert_eq!(plan.locks, expected, "{policy:?} {state} {locked}");
            // Locked since it was listed: not by us.
            let since = NovaServer { standing: ServerStanding { locked: true, ..found.standing.clone() }, ..found };
            assert_ne!(act_before(&record(state, plan), &since), Some(ServerAct::Lock));
        }
    }

    #[test]
    fn a_lock_is_known_by_its_reason() {
        let ours = Text::from("rekindle zrh1: incident 7, being recovered");
        let mut found = server("active", "", 1);
        assert!(!is_locked_by(&found, &ours));
        found.standing = ServerStanding { locked: true, lock_reason: None, ..found.standing };
        assert!(!is_locked_by(&found, &ours));
        found.standing.lock_reason = Some("rekindle zrh1: incident 8, being recovered".into());
        assert!(!is_locked_by(&found, &ours));
        found.standing.lock_reason = Some(ours.clone());
        assert!(is_locked_by(&found, &ours));
    }

    #[test]
    fn what_an_act_shows() {
        let reason = Text::from("ours");
        let rows = [
            (ServerAct::Reset, "paused", "", false),
            (ServerAct::Reset, "error", "", true),
            (ServerAct::Reset, "error", "rebuilding", false),
            (ServerAct::Mark, "active", "", false),
            (ServerAct::Stop, "active", "", false),
            (ServerAct::Stop, "active", "powering-off", true),
            (ServerAct::Stop, "stopped", "", true),
            (ServerAct::Start, "stopped", "", false),
            (ServerAct::Start, "stopped", "powering-on", true),
            (ServerAct::Start, "active", "", true),
            (ServerAct::Lock, "active", "", false),
            (ServerAct::Unlock, "active", "", true),
        ];
        for (act, state, task, expected) in rows {
            assert_eq!(shows(act, &server(state, task, 1), &reason), expected, "{act:?} {state} {task}");
        }
    }
}
