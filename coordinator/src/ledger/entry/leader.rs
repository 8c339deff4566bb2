//! What only the leader of its term may write.

use std::net::SocketAddr;

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{
    BootId, HostName, Incarnation, IncidentId, LeadershipId, MigrationId, ProcessName, ServerId, WallTime,
};
use serde::{Deserialize, Serialize};

use super::super::destination::Destination;
use super::super::epoch::VoterBoot;
use super::super::evidence::WatchdogEvidence;
use super::super::hook::HookEnd;
use super::super::power_on::PowerOnCommand;
use super::super::rate::RateClaim;
use super::super::rehearsal::RehearseCommand;
use super::super::reserve::ReserveCommand;
use super::super::restoration::RestoreCommand;
use super::super::unread::QueueCommand;
use super::super::voters::VotersCommand;
use super::{Fate, IntentEnd, PlannedServer, ProofRecord, VerdictRecord};
use crate::order::GuestPower;

/// What the leader may write. Each is an intent before an act, or what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaderCommand {
    /// A quorum of testimony says that the host is gone.
    OpenIncident {
        /// Which host.
        host: HostName,
        /// In which boot it was last heard.
        boot: Option<BootId>,
        /// When it was first suspected.
        suspected_at: WallTime,
        /// On whose word.
        verdict: VerdictRecord,
        /// An evacuation that waits until this host is proven off: the per-domain cap does not hold it.
        needed_by: Option<IncidentId>,
    },
    /// It was heard before any off command.
    Refute {
        /// Which incident.
        incident: IncidentId,
        /// By whom or what.
        why: Text,
    },
    /// We are about to order power off.
    FenceIntent {
        /// Which incident.
        incident: IncidentId,
        /// The next number.
        attempt: u32,
        /// Whose: only this very leadership may act on it.
        author: LeadershipId,
        /// The topology level.
        level: u8,
        /// All devices of that level: each must be proven off.
        devices: Vec<DeviceName>,
        /// No effect of this order is begun after this moment.
        not_after: WallTime,
        /// How long was waited since the last fence that counted.
        rate: RateClaim,
    },
    /// An attempt ended without proof.
    FenceFailed {
        /// Which incident.
        incident: IncidentId,
        /// Which attempt.
        attempt: u32,
        /// Per device, what happened.
        why: Text,
    },
    /// Every device of the attempt's level was read off twice after our own off order.
    ConfirmFence {
        /// Which incident.
        incident: IncidentId,
        /// Which attempt.
        attempt: u32,
        /// The evidence.
        proof: ProofRecord,
    },
    /// Something contradicts the proof: it counts no more.
    VoidProof {
        /// Which incident.
        incident: IncidentId,
        /// What contradicts it.
        why: Text,
    },
    /// Nova has the service forced-down; these are the servers.
    BeginEvacuation {
        /// Which incident.
        incident: IncidentId,
        /// Nova's heartbeat of the service, read after the force-down: if it changes, the host lives.
        heartbeat: Option<Text>,
        /// What is to become of each server.
        servers: Vec<PlannedServer>,
        /// Differences between Nova's list, the agent's last word and open migrations.
        remarks: Vec<Text>,
    },
    /// We are about to ask Nova to evacuate (I11: one open intent a server).
    EvacuateIntent {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// The next number.
        attempt: u32,
        /// Whose: only this very leadership may act on it.
        author: LeadershipId,
        /// The server's newest migration record before this intent: only a newer one is this intent's.
        newest_migration: Option<MigrationId>,
        /// Where to.
        #[serde(default)]
        to: Destination,
    },
    /// The intent is final: nothing will come of it any more.
    CloseIntent {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// Which attempt.
        attempt: u32,
        /// How it ended.
        end: IntentEnd,
    },
    /// A server's fate is known.
    Settle {
        /// Which incident.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
        /// Its fate.
        fate: Fate,
    },
    /// Every server is settled.
    Close {
        /// Which incident.
        incident: IncidentId,
        /// Hooks are to be run now that it is over: whoever leads from now on owes them.
        owes_hooks: bool,
    },
    /// A person is needed.
    Stick {
        /// Which incident.
        incident: IncidentId,
        /// Why, and what to check.
        why: Text,
    },
    /// We are about to stop or start a failed guest in place.
    GuestIntent {
        /// Which guest incident.
        incident: IncidentId,
        /// What.
        power: GuestPower,
    },
    /// A quorum of testimony says that the daemon is gone, and signs of life say that the host is not, or contradict its
    /// device: an incident that begins stuck. Nothing is fenced.
    OpenStuck {
        /// Which host.
        host: HostName,
        /// In which boot it was last heard.
        boot: Option<BootId>,
        /// When it was first suspected.
        suspected_at: WallTime,
        /// On whose word.
        verdict: VerdictRecord,
        /// The signs, and what to check.
        why: Text,
    },
    /// A host that was stuck for its signs of life was heard again, or has lost the last of them.
    EndSigns {
        /// Which incident.
        incident: IncidentId,
        /// Whether its daemon speaks; if not, it is fenced like any other.
        heard: bool,
        /// What happened.
        why: Text,
    },
    /// A failed guest's fate is known.
    SettleGuest {
        /// Which guest incident.
        incident: IncidentId,
        /// Whether it runs again.
        recovered: bool,
        /// What happened.
        why: Text,
    },
    /// Power was lost (or this is the first leader): what was proven before is void.
    BeginEpoch {
        /// The next number.
        number: u64,
        /// Why, for people.
        why: Text,
        /// The voters' boots that say so. Need not say anything for the first epoch.
        voters: Vec<VoterBoot>,
    },
    /// That much of the epoch has passed, and these were heard alive in it.
    MarkEpoch {
        /// Which epoch.
        number: u64,
        /// How much of it has certainly passed, in milliseconds.
        elapsed_ms: u64,
        /// Roster members not yet in the ledger as seen, and where they listen.
        seen: Vec<(HostName, SocketAddr)>,
        /// Voters that booted with the others, only later.
        voters: Vec<VoterBoot>,
    },
    /// A host whose brakes were lifted is heard alive before there was an incident.
    DropLift {
        /// Which host.
        host: HostName,
    },
    /// Something lives at a host that said goodbye.
    AbsentAnswers {
        /// Which host.
        host: HostName,
        /// In which life it said goodbye.
        life: Incarnation,
    },
    /// Time has passed, on the leader's monotonic clock, while something waited for it.
    Elapse {
        /// How much, in milliseconds; at most [`super::super::ELAPSE_MAX_MS`].
        ms: u32,
    },
    /// A new host was heard long enough: it counts from now on.
    EndProbation {
        /// Which.
        host: HostName,
    },
    /// The compute service of a host that rebooted reports again, and its own list of guests is here.
    BeginReboot {
        /// Which reboot.
        incident: IncidentId,
        /// What does not run and did, with its priority.
        servers: Vec<(ServerId, u8)>,
    },
    /// A guest of a reboot is to be started, by a guest incident of its own.
    StartInPlace {
        /// Which reboot.
        incident: IncidentId,
        /// Which server.
        server: ServerId,
    },
    /// Every server of a reboot runs, or has its reason.
    CloseReboot {
        /// Which reboot.
        incident: IncidentId,
    },
    /// A reboot needs a person.
    StickReboot {
        /// Which reboot.
        incident: IncidentId,
        /// Why, and what to check.
        why: Text,
    },
    /// Nothing of this off order can have an effect any more: the leader has waited for it on its own monotonic clock.
    OffSettled {
        /// Of which incident.
        incident: IncidentId,
        /// The last attempt.
        attempt: u32,
    },
    /// The host's own armed watchdog has certainly run out.
    ConfirmWatchdog {
        /// Which incident.
        incident: IncidentId,
        /// The evidence.
        evidence: WatchdogEvidence,
    },
    /// About the voters.
    Voters(VotersCommand),
    /// A fenced host's failure is settled, and it has booted behind its gate: the gate may open, in this boot.
    Admit {
        /// Which.
        host: HostName,
        /// In which boot.
        boot: BootId,
    },
    /// Its compute service runs again, and has cleaned up what was evacuated: it is protected again.
    Readmit {
        /// Which.
        host: HostName,
    },
    /// Nova does not have its compute service forced down any more.
    ServiceBack {
        /// Whose.
        host: HostName,
    },
    /// About the state of a server: locks, resets, stops, starts.
    Restore(RestoreCommand),
    /// A hook is about to be run, by this leadership.
    BeginHook {
        /// For which incident.
        incident: IncidentId,
        /// When it is run.
        on: HookPoint,
        /// Its position in the configuration.
        hook: u8,
        /// Its program, for the story.
        program: Text,
        /// Whose: only this very leadership may run it.
        author: LeadershipId,
    },
    /// A hook has ended, or its leader is gone.
    EndHook {
        /// Of which incident.
        incident: IncidentId,
        /// When it is run.
        on: HookPoint,
        /// Its position in the configuration.
        hook: u8,
        /// How.
        end: HookEnd,
        /// In words.
        text: Text,
    },
    /// The site's webhook has taken an incident's changes of phase, or they were given up.
    Told {
        /// Of which incident.
        incident: IncidentId,
        /// Up to which change.
        number: u32,
    },
    /// About reserved hosts.
    Reserve(ReserveCommand),
    /// No hook of a closed incident is owed any more.
    HooksOver {
        /// Which incident.
        incident: IncidentId,
    },
    /// A process is down for good on a host that lives: we are about to disable its compute service.
    OpenProcess {
        /// Where.
        host: HostName,
        /// Which.
        process: ProcessName,
    },
    /// Nova shows the service as disabled by us.
    ServiceDisabled {
        /// For which process incident.
        incident: IncidentId,
    },
    /// The service is no matter of ours any more.
    EndProcess {
        /// Which process incident.
        incident: IncidentId,
        /// Whether its processes are back; if not, somebody else has taken the service over.
        recovered: bool,
        /// What happened.
        why: Text,
    },
    /// About the rehearsal of a host's fencing.
    Rehearse(RehearseCommand),
    /// About a fenced host that is powered on again.
    PowerOn(PowerOnCommand),
    /// About orders that may lie unread in a host's queue.
    Queue(QueueCommand),
    /// As [`LeaderCommand::FenceIntent`], and another voter executes it. A variant of its own, with all its fields: the other
    /// one's encoding (postcard) has no place for one more, and stores hold it.
    FenceIntentBy {
        /// Who talks to the devices, at the leader's word.
        executor: HostName,
        /// Which incident.
        incident: IncidentId,
        /// The next number.
        attempt: u32,
        /// Whose: only this very leadership may act on it.
        author: LeadershipId,
        /// The topology level.
        level: u8,
        /// All devices of that level: each must be proven off.
        devices: Vec<DeviceName>,
        /// No effect of this order is begun after this moment.
        not_after: WallTime,
        /// How long was waited since the last fence that counted.
        rate: RateClaim,
    },
}
