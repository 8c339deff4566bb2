//! Rehearsals: a named, empty host in maintenance is switched off by the devices of one level, and on again, so that it is
//! known before it is needed that they are its own. Never a failure of the host: its silence is what is looked for.
//!
//! ```text
//!  asked ──► off ──► on ──► over
//!  by an     the order,     power comes back: not before nothing
//!  operator  two readings,  of the off order can have an effect
//!            silence        any more (I5)
//! ```
//!
//! What is proven is what a fence needs: when *all* devices of that level read off, this host is silent; and, as it comes
//! back in another boot, it had really gone. So all devices of the level are switched, and they count together or not at all.

use rekindle_proto::fact::{DeviceGuid, DeviceName, Text};
use rekindle_proto::id::{BootId, HostName, IncidentId, LeadershipId, OperatorName, WallTime};
use rekindle_proto::status::{Phase, StoryLine};
use serde::{Deserialize, Serialize};

use super::entry::ProofRecord;
use super::incident::FenceAttempt;
use super::state::Ledger;
use crate::fencing::DeviceIdentity;
use crate::mutant::{Guard, keeps};

/// Rehearsals kept for the story, oldest forgotten first: each host of a large site once, and again after repairs.
pub const REHEARSALS_MAX: usize = 300;

/// Orders to power on of one rehearsal: a device that has not obeyed three has another problem.
pub const ON_TRIES_MAX: u32 = 3;

/// How long nobody must have heard the host, after the second off reading, before its silence counts, in milliseconds. It is
/// asked every second meanwhile, and answered a moment before; gossip tells of a silent member within six.
pub const SILENT_MS: u64 = 10_000;

/// Where a rehearsal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RehearsalStage {
    /// Ordered; whether it may be done is being looked at. Nothing was switched.
    Asked,
    /// The off order is committed: given, or about to be.
    Off,
    /// What it showed is committed. The host is to have power again, and to come back.
    On,
    /// Done with.
    Over,
}

/// What the off order has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// Every device read off twice, and the host fell silent.
    Dark {
        /// The readings.
        proof: ProofRecord,
        /// How long nobody had heard the host since the last device's second off reading, in milliseconds.
        silent_ms: u64,
    },
    /// The devices read off, and the host speaks: they lie, or are another machine's. They are not used before they have
    /// passed another rehearsal.
    Lies {
        /// Who heard it.
        why: Text,
    },
    /// It shows nothing, in one way or the other.
    Nothing {
        /// What happened.
        why: Text,
    },
}

/// How a rehearsal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RehearsalEnd {
    /// Its devices are its own.
    Passed,
    /// They are not, or it is not known; the host has power.
    Failed,
    /// The host has not come back: a person looks at it.
    Stuck,
}

/// A device of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedDevice {
    /// Which.
    pub name: DeviceName,
    /// What it told of its machine just before; `None`: nothing.
    pub guid: Option<DeviceGuid>,
}

/// The last order to power on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// Whose: only this very leadership may act on it.
    pub author: LeadershipId,
    /// When nothing of it is begun any more.
    pub not_after: WallTime,
}

/// One rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Its number, one of the incidents'.
    pub id: IncidentId,
    /// The host.
    pub host: HostName,
    /// By whom.
    pub by: OperatorName,
    /// Why.
    pub reason: Text,
    /// Which level was asked for; `None`: the lowest.
    pub level: Option<u8>,
    /// When it was ordered.
    pub began: WallTime,
    /// When it was over.
    pub ended: Option<WallTime>,
    /// Where it stands.
    pub stage: RehearsalStage,
    /// The boot in which the host was heard just before the off order.
    pub boot: Option<BootId>,
    /// The order to power off.
    pub off: Option<FenceAttempt>,
    /// Its devices, as they were before.
    pub devices: Vec<RehearsedDevice>,
    /// What it showed.
    pub finding: Option<Finding>,
    /// Nothing of the off order can have an effect any more.
    pub off_settled: bool,
    /// The last order to power on.
    pub on: Option<OnAttempt>,
    /// How it ended.
    pub end: Option<RehearsalEnd>,
    /// What happened, in order.
    pub story: Vec<StoryLine>,
}

impl Rehearsal {
    /// What a device of it is held to: what it told just before. `None`: it is none of them, or nothing was ordered yet.
    #[must_use]
    pub fn identity(&self, device: &DeviceName) -> Option<DeviceIdentity> {
        let known = self.devices.iter().find(|known| known.name == *device)?;
        Some(DeviceIdentity::as_told(known.guid))
    }
}

/// What is remembered of a device of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalMark {
    /// By which rehearsal.
    pub rehearsal: IncidentId,
    /// Who ordered it.
    pub by: OperatorName,
    /// When it was over.
    pub at: WallTime,
    /// All devices that were switched with it, in order: it counts only as long as these are its level.
    pub with: Vec<DeviceName>,
    /// What it told of its machine then. One that tells something else later is another device, or another machine's.
    pub guid: Option<DeviceGuid>,
    /// `None`: it passed. Else what spoke against it.
    pub lies: Option<Text>,
}

/// What the leader may write of rehearsals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RehearseCommand {
    /// It may not be done, or not be done now. Nothing was switched.
    Refuse {
        /// Which.
        id: IncidentId,
        /// Why.
        why: Text,
    },
    /// We are about to order power off.
    Off {
        /// Which.
        id: IncidentId,
        /// Whose: only this very leadership may act on it.
        author: LeadershipId,
        /// The boot in which the host was just heard.
        boot: BootId,
        /// The topology level.
        level: u8,
        /// All devices of that level.
        devices: Vec<RehearsedDevice>,
        /// No effect of this order is begun after this moment.
        not_after: WallTime,
    },
    /// What the off order has shown.
    Found {
        /// Which.
        id: IncidentId,
        /// What.
        finding: Finding,
    },
    /// Nothing of the off order can have an effect any more: the leader has waited for it on its own monotonic clock.
    OffSettled {
        /// Which.
        id: IncidentId,
    },
    /// We are about to order power on.
    On {
        /// Which.
        id: IncidentId,
        /// The next number.
        attempt: u32,
        /// Whose: only this very leadership may act on it.
        author: LeadershipId,
        /// No effect of this order is begun after this moment.
        not_after: WallTime,
    },
    /// It is over.
    End {
        /// Which.
        id: IncidentId,
        /// How.
        end: RehearsalEnd,
        /// In words.
        why: Text,
    },
    /// A rehearsed device read off while its host was heard: it counts no more.
    Unbind {
        /// Whose.
        host: HostName,
        /// Which.
        device: DeviceName,
        /// What spoke against it.
        why: Text,
    },
}

impl Rehearsal {
    /// Whether it is still under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stage != RehearsalStage::Over
    }

    /// Whether the host's silence is what is looked for.
    #[must_use]
    pub fn explains_silence(&self) -> bool {
        match self.stage {
            RehearsalStage::Off | RehearsalStage::On => true,
            RehearsalStage::Asked | RehearsalStage::Over => false,
        }
    }

    /// The incident's phase that comes nearest, for people.
    #[must_use]
    pub fn shown(&self) -> Phase {
        match (self.stage, self.end) {
            (RehearsalStage::Asked, _) => Phase::Unclean,
            (RehearsalStage::Off, _) => Phase::Fencing,
            (RehearsalStage::On, _) => Phase::Fenced,
            (RehearsalStage::Over, Some(RehearsalEnd::Passed)) => Phase::Recovered,
            (RehearsalStage::Over, Some(RehearsalEnd::Stuck)) => Phase::Stuck,
            (RehearsalStage::Over, Some(RehearsalEnd::Failed) | None) => Phase::Refuted,
        }
    }

    /// Whether an order to power it on may be given by this leadership (I5).
    #[must_use]
    pub fn may_power_on(&self, author: LeadershipId) -> bool {
        let is_settled = self.off_settled || !keeps(Guard::OffSettled);
        self.stage == RehearsalStage::On && is_settled && self.on.is_some_and(|on| on.author == author)
    }
}

impl Ledger {
    /// The rehearsal under way, if any. There is at most one in the cluster.
    #[must_use]
    pub fn open_rehearsal(&self) -> Option<&Rehearsal> {
        self.rehearsals.values().find(|rehearsal| rehearsal.is_open())
    }

    /// The same, if it is of this host.
    #[must_use]
    pub fn rehearsal_of(&self, host: &HostName) -> Option<&Rehearsal> {
        self.open_rehearsal().filter(|rehearsal| rehearsal.host == *host)
    }

    /// The last rehearsal of a host.
    #[must_use]
    pub fn last_rehearsal(&self, host: &HostName) -> Option<&Rehearsal> {
        self.rehearsals.values().rev().find(|rehearsal| rehearsal.host == *host)
    }

    /// Whether a host may be switched off and on to rehearse its fencing, as far as the ledger knows.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_rehearse(&self, host: &HostName) -> Result<(), Text> {
        let no = |why: String| Err(Text::new(why));
        if !self.is_hypervisor(host) {
            return no(format!("{host} is not a hypervisor of the roster"));
        }
        if !self.arming.armed {
            return no(format!("disarmed: {}: nobody is switched off meanwhile, nor on again", self.arming.reason));
        }
        if let Some(open) = self.open_incident(host) {
            return no(format!("incident {} of {host} is open", open.id));
        }
        if let Some(reboot) = self.open_reboot(host) {
            return no(format!("incident {} of {host} is open: it rebooted", reboot.id));
        }
        let Some(record) = self.host(host) else { return no(format!("nothing is known of {host}")) };
        if let Some(id) = record.quarantine {
            return no(format!("{host} is quarantined since incident {id}"));
        }
        if !keeps(Guard::RehearsedEmpty) {
            return Ok(());
        }
        if record.maintenance.is_none() {
            return no(format!("{host} is not in maintenance: `rekindle maintenance on {host}` first"));
        }
        match &record.pulse {
            None => no(format!("{host} has never said what runs there")),
            Some(pulse) if !pulse.guests.complete => {
                no(format!("its hypervisor has not said what runs on {host}: its last list is not complete"))
            }
            Some(pulse) if !pulse.guests.guests.is_empty() => {
                let (all, guests) = (pulse.guests.guests.len(), &pulse.guests.guests);
                let running = guests.iter().filter(|guest| guest.running).count();
                no(format!("{host} is not empty: {all} guests by its own last list, {running} of them running"))
            }
            Some(_) => Ok(()),
        }
    }
}
