//! A host that came back in another boot: its guests died with the old one, and are started where they are.
//!
//! A record of its own, not an [`super::Incident`]: no order to power off, and no evacuation, can name it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::{GUESTS_MAX, Guest, GuestList, Text};
use rekindle_proto::id::{BootId, HostName, IncidentId, OperatorName, ServerId, WallTime};
use rekindle_proto::status::{Phase, StoryLine};
use serde::{Deserialize, Serialize};

use super::incident::tell;
use super::state::Ledger;

/// Guests of one reboot that are being started at once: a host that boots has its hands full.
pub const STARTS_AT_ONCE: usize = 8;

/// The priority of a server whose owner asks for none. Higher ones are started first.
pub const PRIORITY_DEFAULT: u8 = 50;

/// One reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reboot {
    /// Its number, from the same sequence as incidents.
    pub id: IncidentId,
    /// The host.
    pub host: HostName,
    /// The boot that ended.
    pub before: BootId,
    /// The boot that began.
    pub after: BootId,
    /// When the new boot was first heard of.
    pub began: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// Where it stands.
    pub phase: RebootPhase,
    /// What ran when the host last said so in the old boot.
    pub ran: Vec<ServerId>,
    /// What is to become of each, once it is known what must be started.
    pub servers: BTreeMap<ServerId, RebootServer>,
    /// What happened, in order; at most [`super::STORY_LINES_MAX`].
    pub story: Vec<StoryLine>,
}

/// Where a reboot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebootPhase {
    /// Waiting until its compute service reports, and its own fresh list of guests is here.
    Waiting,
    /// Its guests are being started.
    Starting,
    /// Each runs, or has its reason.
    Recovered,
    /// A person is needed.
    Stuck,
    /// Ended without us: by an operator, or because the host failed again.
    Ended,
}

/// One server of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootServer {
    /// Higher ones are started first.
    pub priority: u8,
    /// The guest incident that starts it, once there is one.
    pub guest: Option<IncidentId>,
    /// How it ended: whether it runs, and the words for it.
    pub fate: Option<(bool, Text)>,
}

impl Reboot {
    /// Whether it still needs work or a person.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.phase {
            RebootPhase::Waiting | RebootPhase::Starting | RebootPhase::Stuck => true,
            RebootPhase::Recovered | RebootPhase::Ended => false,
        }
    }

    /// The phase of an incident that comes nearest, for people.
    #[must_use]
    pub fn shown(&self) -> Phase {
        match self.phase {
            RebootPhase::Waiting | RebootPhase::Starting => Phase::Evacuating,
            RebootPhase::Recovered => Phase::Recovered,
            RebootPhase::Stuck => Phase::Stuck,
            RebootPhase::Ended => Phase::Refuted,
        }
    }

    /// The next servers to be started, best first: those without a guest incident or a fate.
    pub fn next_starts(&self) -> Vec<ServerId> {
        let mut waiting: Vec<(std::cmp::Reverse<u8>, ServerId)> = self
            .servers
            .iter()
            .filter(|(_, server)| server.guest.is_none() && server.fate.is_none())
            .map(|(id, server)| (std::cmp::Reverse(server.priority), *id))
            .collect();
        waiting.sort();
        waiting.into_iter().map(|(_, id)| id).collect()
    }

    /// How many are being started now.
    #[must_use]
    pub fn starting(&self) -> usize {
        self.servers.values().filter(|server| server.guest.is_some() && server.fate.is_none()).count()
    }

    /// Adds a line to the story.
    pub(super) fn tell(&mut self, at: WallTime, text: impl Into<Text>, operator: Option<OperatorName>) {
        let phase = self.shown();
        tell(&mut self.story, StoryLine { at, phase, text: text.into(), operator });
    }
}

impl Ledger {
    /// The open reboot of a host, if any. There is at most one.
    #[must_use]
    pub fn open_reboot(&self, host: &HostName) -> Option<&Reboot> {
        self.reboots.values().find(|reboot| reboot.is_open() && reboot.host == *host)
    }

    /// What the ledger holds of a host's guests after this word of it. While its guests are being started after a reboot, those
    /// it does not list (yet) are kept as not running: where their disks lie must not be forgotten, or they would be left
    /// behind if the host failed again.
    #[must_use]
    pub fn guests_said<'a>(&self, host: &HostName, list: &'a GuestList) -> Cow<'a, GuestList> {
        let known = self.hosts.get(host).and_then(|record| record.pulse.as_ref());
        let (Some(reboot), Some(known)) = (self.open_reboot(host), known) else { return Cow::Borrowed(list) };
        let listed: BTreeSet<ServerId> = list.guests.iter().map(|guest| guest.server).collect();
        let kept = known
            .guests
            .guests
            .iter()
            .filter(|guest| !listed.contains(&guest.server))
            .filter(|guest| !list.complete || reboot.ran.contains(&guest.server))
            .map(|guest| Guest { running: false, died: false, ..guest.clone() });
        let mut guests: Vec<Guest> = list.guests.iter().cloned().chain(kept).take(GUESTS_MAX).collect();
        guests.sort();
        Cow::Owned(GuestList { complete: list.complete, guests })
    }

    /// Open reboots, oldest first.
    pub fn open_reboots(&self) -> impl Iterator<Item = &Reboot> {
        self.reboots.values().filter(|reboot| reboot.is_open())
    }
}
