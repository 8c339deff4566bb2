//! The record of one failure, and which phase may follow which.

use std::collections::BTreeMap;

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::id::{
    BootId, HostName, IncidentId, LeadershipId, MigrationId, OperatorName, ServerId, Term, WallTime,
};
use rekindle_proto::status::{Phase, StoryLine};
use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::entry::{Fate, ProofRecord, VerdictRecord};
use super::evidence::Evidence;
use super::hook::HookRecord;
use super::reserve::{Leg, Reserve};
use super::restoration::Restoration;
use super::{Outcome, STORY_LINES_MAX};
use crate::mutant::{Guard, keeps};
use crate::order::GuestPower;

/// Changes of phase kept with an incident: it has about six, and each resumption or voided proof adds three.
pub const TURNS_MAX: usize = 64;

/// Whether `to` may follow `from`. One row a phase, no default.
#[must_use]
pub fn may_follow(from: Phase, to: Phase) -> bool {
    match from {
        Phase::Suspect => matches!(to, Phase::Unclean | Phase::Refuted),
        Phase::Unclean => matches!(to, Phase::Fencing | Phase::Refuted | Phase::Stuck),
        // Refuted: heard before the first off order was given.
        Phase::Fencing => matches!(to, Phase::Fenced | Phase::Refuted | Phase::Stuck),
        // Back to fencing: the proof was voided.
        Phase::Fenced => matches!(to, Phase::Evacuating | Phase::Fencing | Phase::Stuck),
        Phase::Evacuating => matches!(to, Phase::Recovered | Phase::Fencing | Phase::Stuck),
        // Resumed by an operator: proven again, whatever was proven before. Or ended by one: the host is released.
        Phase::Stuck => matches!(to, Phase::Fencing | Phase::Refuted),
        Phase::Recovered | Phase::Refuted => false,
    }
}

/// One failure of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// The host.
    pub host: HostName,
    /// The boot in which it was last heard.
    pub boot: Option<BootId>,
    /// When it was first suspected.
    pub began: WallTime,
    /// When it was recovered or refuted.
    pub ended: Option<WallTime>,
    /// Where it stands. Changed only along [`may_follow`].
    pub phase: Phase,
    /// On whose word.
    pub verdict: VerdictRecord,
    /// Every order to power off, oldest first.
    pub attempts: Vec<FenceAttempt>,
    /// How many of `attempts` were before the last resumption: they no longer count against the limit.
    pub attempts_before_resume: u32,
    /// The valid proof, if any.
    pub proof: Option<Proof>,
    /// How many proofs were voided.
    pub voided: u32,
    /// Nova's heartbeat after force-down.
    pub heartbeat: Option<Text>,
    /// Its servers, once listed.
    pub servers: BTreeMap<ServerId, ServerRecord>,
    /// What happened, in order; at most [`STORY_LINES_MAX`].
    pub story: Vec<StoryLine>,
    /// The last attempt of which a leader has said that nothing can come of it any more; 0: none yet.
    pub off_settled: u32,
    /// Stuck only because something lives there although its daemon is silent: looked at again and again, never an end.
    #[serde(default)]
    pub awaits_signs: bool,
    /// Hooks begun for it, oldest first.
    #[serde(default)]
    pub hooks: Vec<HookRecord>,
    /// Its changes of phase, oldest first; the last [`TURNS_MAX`].
    #[serde(default)]
    pub turns: Vec<Turn>,
    /// The last change that the site's webhook has taken, or that was given up; 0: none yet.
    #[serde(default)]
    pub told: u32,
    /// By which method its servers find their hosts, and the reserved ones taken for them.
    #[serde(default)]
    pub reserve: Reserve,
    /// It is over, and hooks that are run then are not.
    #[serde(default)]
    pub owes_hooks: bool,
}

/// One change of phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its number, from 1.
    pub number: u32,
    /// When.
    pub at: WallTime,
    /// The phase before.
    pub from: Phase,
    /// The phase after.
    pub to: Phase,
    /// The evidence, or the reason.
    pub text: Text,
}

/// One committed order to power off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// In which term it was committed.
    pub term: Term,
    /// Whose: another leadership's attempt is never continued, only repeated.
    pub author: LeadershipId,
    /// The topology level.
    pub level: u8,
    /// The devices.
    pub devices: Vec<DeviceName>,
    /// When nothing of it is begun any more.
    pub not_after: WallTime,
    /// `Some`: over, without proof.
    pub failed: Option<Text>,
    /// Who led, and gave the orders.
    #[serde(default)]
    pub leader: Option<HostName>,
    /// When it was committed.
    #[serde(default)]
    pub at: Option<WallTime>,
    /// The readings that proved it, for the story: what counts is the incident's own proof.
    #[serde(default)]
    pub proof: Option<ProofRecord>,
}

/// A committed, not voided, proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The attempt it belongs to.
    pub attempt: u32,
    /// What it rests on.
    pub evidence: Evidence,
    /// When it was committed.
    pub at: WallTime,
}

/// One server of the incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Its name.
    pub name: Text,
    /// Nova's `vm_state` before we touched it.
    pub vm_state: Text,
    /// Evacuate intents so far.
    pub attempts: u32,
    /// How many of them do not count against the limit: before the last resumption, certainly not sent, or to a host of our
    /// own choice that Nova's scheduler refused.
    pub attempts_excused: u32,
    /// The open one, if any.
    pub intent: Option<OpenIntent>,
    /// Why the last closed attempt did not bring it back.
    pub last_failure: Option<Text>,
    /// Its fate, once known.
    pub fate: Option<Fate>,
    /// What is done to its state.
    #[serde(default)]
    pub restore: Restoration,
    /// How urgent it is, 0 to 100.
    #[serde(default = "super::entry::priority_default")]
    pub priority: u8,
    /// Whether it bears the mark of the selection.
    #[serde(default)]
    pub marked: bool,
    /// What had to be read, when it was planned, before it is known whether it is to be evacuated at all. Whoever leads
    /// decides that before its first attempt.
    #[serde(default)]
    pub undecided: Option<Text>,
    /// Where it stands in its method.
    #[serde(default)]
    pub leg: Leg,
    /// What kept its last closed attempt from a place, if it was that: its server group may be why.
    #[serde(default)]
    pub unplaced: Option<Unplaced>,
}

/// How an evacuation came to no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unplaced {
    /// Nova's scheduler found no host, or no room on the one that was asked for.
    NoHost,
    /// It chose one, and that one failed it. Nova's late check of server groups is told like any other failure there.
    AtDestination,
}

/// An evacuate intent that may still have an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIntent {
    /// Its number, from 1.
    pub attempt: u32,
    /// Whose: another leadership's intent is waited out, its call may be on the way.
    pub author: LeadershipId,
    /// The newest migration record before it.
    pub newest_migration: Option<MigrationId>,
    /// Where it was to be built.
    #[serde(default)]
    pub to: Destination,
}

/// A guest that failed on a healthy host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestIncident {
    /// Its number.
    pub id: IncidentId,
    /// The host.
    pub host: HostName,
    /// The guest.
    pub server: ServerId,
    /// When it failed.
    pub began: WallTime,
    /// When its fate was known.
    pub ended: Option<WallTime>,
    /// The last step we said we would take.
    pub intent: Option<GuestPower>,
    /// Stops and starts said so far.
    pub steps: u32,
    /// Whether it runs again; `None`: not known yet.
    pub recovered: Option<bool>,
    /// What happened, in order.
    pub story: Vec<StoryLine>,
}

impl GuestIncident {
    /// A guest that is down, with nothing done about it yet.
    pub(crate) fn begun(id: IncidentId, host: HostName, server: ServerId, at: WallTime, what: impl Into<Text>) -> Self {
        let line = StoryLine { at, phase: Phase::Unclean, text: what.into(), operator: None };
        Self { id, host, server, began: at, ended: None, intent: None, steps: 0, recovered: None, story: vec![line] }
    }

    /// Whether it still needs work or a person.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.recovered.is_none()
    }
}

impl Incident {
    /// A suspicion, with nothing told or done yet.
    pub(crate) fn begun(id: IncidentId, host: HostName, began: WallTime, verdict: VerdictRecord) -> Self {
        Self {
            id,
            host,
            boot: None,
            began,
            ended: None,
            phase: Phase::Suspect,
            verdict,
            attempts: Vec::new(),
            attempts_before_resume: 0,
            proof: None,
            voided: 0,
            heartbeat: None,
            servers: BTreeMap::new(),
            story: Vec::new(),
            off_settled: 0,
            awaits_signs: false,
            hooks: Vec::new(),
            turns: Vec::new(),
            told: 0,
            owes_hooks: false,
            reserve: Reserve::default(),
        }
    }

    /// Whether it still needs work or a person.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.phase {
            Phase::Recovered | Phase::Refuted => false,
            Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Fenced | Phase::Evacuating | Phase::Stuck => true,
        }
    }

    /// The last order to power off.
    #[must_use]
    pub fn last_attempt(&self) -> Option<&FenceAttempt> {
        self.attempts.last()
    }

    /// Whether no off order of any term can still have an effect: only then may the host be powered on, released or
    /// readmitted (I5). By ledger order and a leader's monotonic clock, never by the wall clock.
    #[must_use]
    pub fn is_off_settled(&self) -> bool {
        !keeps(Guard::OffSettled) || self.last_attempt().is_none_or(|last| last.attempt <= self.off_settled)
    }

    /// Changes the phase if [`may_follow`] allows it.
    pub(super) fn turn(&mut self, to: Phase, at: WallTime, text: impl Into<Text>) -> Result<(), Outcome> {
        if !may_follow(self.phase, to) {
            return Err(Outcome::refused(format!("incident {} is {}: {to} may not follow", self.id, self.phase)));
        }
        let text = text.into();
        let number = self.turns.last().map_or(0, |turn| turn.number).saturating_add(1);
        if self.turns.len() >= TURNS_MAX {
            self.turns.remove(0);
        }
        self.turns.push(Turn { number, at, from: self.phase, to, text: text.clone() });
        self.phase = to;
        self.tell(at, text, None);
        Ok(())
    }

    /// Adds a line to the story, unless it is full.
    pub(super) fn tell(&mut self, at: WallTime, text: impl Into<Text>, operator: Option<OperatorName>) {
        tell(&mut self.story, StoryLine { at, phase: self.phase, text: text.into(), operator });
    }
}

/// Adds a line unless the story is full; the last line then says so.
pub(super) fn tell(story: &mut Vec<StoryLine>, line: StoryLine) {
    if story.len() + 1 < STORY_LINES_MAX {
        story.push(line);
    } else if story.len() < STORY_LINES_MAX {
        story.push(StoryLine { text: "the story is full; later lines are only in the log".into(), ..line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Phase; 8] = [
        Phase::Suspect,
        Phase::Unclean,
        Phase::Fencing,
        Phase::Fenced,
        Phase::Evacuating,
        Phase::Recovered,
        Phase::Refuted,
        Phase::Stuck,
    ];

    #[test]
    fn the_phase_table() {
        let row = |from: Phase| -> String {
            let to: Vec<String> = ALL.iter().filter(|to| may_follow(from, **to)).map(ToString::to_string).collect();
            format!("{from} -> {}", to.join(" "))
        };
        let table: Vec<String> = ALL.iter().map(|from| row(*from)).collect();
        assert_eq!(
            table,
            [
                "suspect -> unclean refuted",
                "unclean -> fencing refuted stuck",
                "fencing -> fenced refuted stuck",
                "fenced -> fencing evacuating stuck",
                "evacuating -> fencing recovered stuck",
                "recovered -> ",
                "refuted -> ",
                "stuck -> fencing refuted",
            ]
        );
    }

    #[test]
    fn nothing_is_evacuated_that_was_not_fenced() {
        for from in ALL {
            assert_eq!(may_follow(from, Phase::Evacuating), from == Phase::Fenced, "{from}");
            assert_eq!(may_follow(from, Phase::Fenced), from == Phase::Fencing, "{from}");
        }
    }
}
