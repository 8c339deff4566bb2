//! What is done to a server besides being evacuated: it is locked, its state is made one that Nova evacuates, and brought
//! back afterwards. Each act is committed before it is done, so that a new leader finishes it.

use std::collections::BTreeSet;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{ClusterName, IncidentId, LeadershipId, ServerId};
use serde::{Deserialize, Serialize};

/// Refusals by Nova of one act on one server after which it is given up, and the story says so.
pub const ACT_TRIES: u32 = 3;

/// An act on a server, through Nova.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ServerAct {
    /// Keep its owner from acting on it meanwhile: `lock`, with a reason that names the incident.
    Lock,
    /// Lift our own lock: `unlock`.
    Unlock,
    /// Before an evacuation that Nova refuses in its present state: `os-resetState` to error.
    Reset,
    /// It was in error, and is to be so again: `os-resetState` to error, once it has arrived.
    Mark,
    /// It arrived running, and is to be stopped: `os-stop`.
    Stop,
    /// It arrived stopped, and is to run: `os-start`.
    Start,
}

impl ServerAct {
    /// In words: of a server that is …
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Lock => "locked",
            Self::Unlock => "unlocked",
            Self::Reset => "reset to error, to be evacuated",
            Self::Mark => "set to error again",
            Self::Stop => "stopped",
            Self::Start => "started",
        }
    }

    /// Whether it comes before the evacuation.
    #[must_use]
    pub fn is_before(self) -> bool {
        match self {
            Self::Lock | Self::Reset => true,
            Self::Unlock | Self::Mark | Self::Stop | Self::Start => false,
        }
    }
}

/// How a server is to be in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EndState {
    /// Active.
    #[default]
    Running,
    /// Stopped.
    Stopped,
    /// In error, as it was; with or without power.
    Error {
        /// With power.
        running: bool,
    },
}

impl EndState {
    /// Whether it is to have power.
    #[must_use]
    pub fn runs(self) -> bool {
        match self {
            Self::Running => true,
            Self::Stopped => false,
            Self::Error { running } => running,
        }
    }
}

/// What is to become of a server's state. Written when the servers of the dead host are listed, before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestorePlan {
    /// How it is to be in the end.
    pub end: EndState,
    /// Nova evacuates it only once it is told that the server is in error.
    pub resets: bool,
    /// It is locked while its state is not its owner's.
    pub locks: bool,
    /// Nova is to leave it stopped where it arrives: to stay so, or to be started in its turn.
    pub stop_on_arrival: bool,
    /// What cannot be brought back, for the story.
    pub lost: Option<Text>,
}

/// An act that was said, and may still have an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAct {
    /// What.
    pub act: ServerAct,
    /// Its number among the acts on this server, from 1.
    pub number: u32,
    /// Whose: another leadership's act is never sent, only looked for.
    pub author: LeadershipId,
}

/// What was done to a server's state so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restoration {
    /// What is to become of it.
    pub plan: RestorePlan,
    /// We locked it, or may have, and have not unlocked it.
    pub locked_by_us: bool,
    /// Nobody knows whether our lock was put on: it may yet come.
    pub lock_unsure: bool,
    /// Nova was told, before the evacuation, that it is in error.
    pub reset: bool,
    /// Nova was told, after it, that it is in error again.
    pub marked: bool,
    /// The open act, if any. There is none while an evacuate intent is open.
    pub act: Option<OpenAct>,
    /// Acts said so far.
    pub acts: u32,
    /// Refusals of the act that is due.
    pub refusals: u32,
    /// Acts that Nova refuses.
    pub given_up: BTreeSet<ServerAct>,
    /// Why it is not as its owner left it, for the story.
    pub shortfall: Option<Text>,
    /// Nova does not evacuate servers of its kind: no further call changes that.
    pub refused_for_good: bool,
}

/// How Nova refuses an operation for a kind of server: a vTPM, encrypted memory, vDPA ports.
const NOT_SUPPORTED_FOR: &str = "Operation 'evacuate' not supported for";

/// How it refuses one for accelerators.
const NOT_SUPPORTED_WITH: &str = "Feature not supported with instances that";

/// What Nova's refusal of an evacuate call means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server has a task.
    Task,
    /// It is of a kind that Nova does not evacuate: a vTPM, a mediated or attached device, a shared file system.
    ForGood,
    /// It may be taken another time: no valid host, a service still in use, a state that changes.
    MayPass,
}

impl Refusal {
    /// By Nova's own words: `409: …`. A conflict that is about no state is about the server itself; so is a bad request that
    /// is not supported for servers of its kind (Nova 34 answers 400 for a vTPM: `Operation 'evacuate' not supported for
    /// vTPM-enabled instance`).
    #[must_use]
    pub fn of(why: &Text) -> Self {
        let text = why.as_str();
        if text.starts_with("400") && (text.contains(NOT_SUPPORTED_FOR) || text.contains(NOT_SUPPORTED_WITH)) {
            return Self::ForGood;
        }
        match (text.starts_with("409"), text.contains("task_state"), text.contains("vm_state")) {
            (true, true, _) => Self::Task,
            (true, false, false) => Self::ForGood,
            (true, false, true) | (false, ..) => Self::MayPass,
        }
    }
}

impl Restoration {
    /// A server of that plan, with nothing done yet.
    #[must_use]
    pub fn of(plan: RestorePlan) -> Self {
        Self { plan, ..Self::default() }
    }

    /// Nova refused an evacuate call. Until 2022 it did so whenever the server had a task, whose end its host has taken with it
    /// (nova/compute/api.py, `evacuate`: `check_instance_state`): such a server's state is reset first.
    pub(super) fn refused(&mut self, why: &Text) {
        match Refusal::of(why) {
            Refusal::Task => {
                self.plan.resets = true;
                self.plan.stop_on_arrival |= !self.plan.end.runs();
            }
            Refusal::ForGood => self.refused_for_good = true,
            Refusal::MayPass => {}
        }
    }

    /// It holds no lock of ours any more.
    pub(super) fn unlocked(&mut self) {
        self.locked_by_us = false;
        self.lock_unsure = false;
    }

    /// An operator resumed its incident: what Nova refused before may be tried again.
    pub(super) fn resume(&mut self) {
        self.refusals = 0;
        self.given_up.clear();
        self.shortfall = None;
        self.refused_for_good = false;
    }
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActEnd {
    /// Nova took it, or the server shows it.
    Done,
    /// A lock of which nobody knows whether it was put on: counted as ours, and looked for when it is lifted.
    Unsure,
    /// Nothing was seen of it for as long as a call can be on its way.
    NoEffect,
    /// Certainly not sent.
    NotSent(Text),
    /// Nova refused it.
    Refused(Text),
}

/// What the leader writes about a server's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreCommand {
    /// We are about to act on it. One open act a server.
    Intent {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// What.
        act: ServerAct,
        /// The next number.
        number: u32,
        /// Whose: only this very leadership may send it.
        author: LeadershipId,
    },
    /// The act is over.
    Close {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// Which act.
        number: u32,
        /// How.
        end: ActEnd,
    },
    /// What is due cannot be done any more.
    GiveUp {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// What.
        act: ServerAct,
        /// Why, for the story.
        why: Text,
    },
    /// The server was read, and holds no lock of ours.
    LockGone {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
    },
}

/// The reason of our locks: by it we know them again, whoever leads.
#[must_use]
pub fn lock_reason(cluster: &ClusterName, incident: IncidentId) -> Text {
    Text::new(format!("rekindle {cluster}: incident {incident}, being recovered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novas_refusals_are_told_apart_by_its_own_words() {
        for (words, means) in [
            (
                "400: HTTP 400: Operation 'evacuate' not supported for vTPM-enabled instance (d70d6ea9).",
                Refusal::ForGood,
            ),
            ("400: HTTP 400: Feature not supported with instances that have accelerators.", Refusal::ForGood),
            ("400: HTTP 400: Compute service of cmp2 is still in use.", Refusal::MayPass),
            ("409: HTTP 409: Feature not supported until computes have not been updated.", Refusal::ForGood),
            ("409: HTTP 409: Cannot 'evacuate' instance d70d6ea9 while it is in task_state rebuilding", Refusal::Task),
            ("409: HTTP 409: Cannot 'evacuate' instance d70d6ea9 while it is in vm_state paused", Refusal::MayPass),
            ("500: HTTP 500: Unexpected API Error.", Refusal::MayPass),
        ] {
            assert_eq!(Refusal::of(&words.into()), means, "{words}");
        }
    }
}
