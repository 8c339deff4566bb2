//! What may be written to the ledger, by whom. The submitter is the type: a member's entry can hold nothing but that
//! member's own statement, whoever forwards it.

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::{DeviceName, GuestEvent, GuestList, MigrationStatus, PathFinding, RosterEntry, Text};
use rekindle_proto::id::{
    BootId, ClusterName, HostName, IncidentId, LeadershipId, MigrationId, ServerId, SystemUuid, Term, WallTime,
};
use serde::{Deserialize, Serialize};

use super::LEDGER_FORMAT;
use super::voters::{Seat, VotersCommand};
use crate::order::GuestPower;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The ledger format it is written in ([`LEDGER_FORMAT`]).
    pub format: u32,
    /// When it was proposed, on the then leader's wall clock. For the story and for certificates.
    pub at: WallTime,
    /// Who says it, and what.
    pub statement: Statement,
}

impl Entry {
    /// An entry in the present format.
    #[must_use]
    pub fn new(at: WallTime, statement: Statement) -> Self {
        Self { format: LEDGER_FORMAT, at, statement }
    }
}

/// Who says it, and what: each submitter has its own vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// The leader of that term. Refused if the entry was committed in another term.
    Leader {
        /// Which host led.
        host: HostName,
        /// In which term.
        term: Term,
        /// What.
        command: LeaderCommand,
    },
    /// A member of the roster, about itself. The leader vouches that it came over that member's own connection.
    Member {
        /// Who.
        host: HostName,
        /// In which boot.
        boot: BootId,
        /// What.
        statement: MemberStatement,
    },
    /// An operator. Checked by every voter: certificate, role, cluster, signature, age, repetition.
    Operator(SignedOrder),
}

/// What a member may say of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberStatement {
    /// Who I am and what runs here.
    Pulse {
        /// My machine's UUID.
        system_uuid: Option<SystemUuid>,
        /// My guests.
        guests: GuestList,
    },
    /// A guest of mine failed.
    GuestFailed {
        /// Which.
        server: ServerId,
        /// How.
        event: GuestEvent,
    },
}

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
    /// A failed guest's fate is known.
    SettleGuest {
        /// Which guest incident.
        incident: IncidentId,
        /// Whether it runs again.
        recovered: bool,
        /// What happened.
        why: Text,
    },
    /// About the voters.
    Voters(VotersCommand),
}

/// On whose word a host was judged gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// How many could have testified.
    pub eligible: u32,
    /// How many had to.
    pub needed: u32,
    /// Who did, and what each found.
    pub testimonies: Vec<TestimonyRecord>,
    /// Roster members who answered the roll call.
    pub present: u32,
    /// Roster size at that moment.
    pub roster: u32,
}

/// One member's testimony.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestimonyRecord {
    /// Who.
    pub accuser: HostName,
    /// What it found, per path.
    pub findings: Vec<PathFinding>,
}

/// The evidence that a host is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRecord {
    /// The topology level whose devices all confirmed.
    pub level: u8,
    /// Each device's readings.
    pub devices: Vec<OffReads>,
}

/// Two (or more) off readings of one device, after our own off order to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffReads {
    /// Which device.
    pub device: DeviceName,
    /// Whether it said *on* before our order and *off* after it. If not, somebody may be power-cycling the host: it is
    /// watched closely for a minute.
    pub seen_going_off: bool,
    /// Milliseconds between the first and the last off reading. At least 1,000.
    pub apart_ms: u64,
}

/// What is to become of a server of the dead host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedServer {
    /// Which.
    pub server: ServerId,
    /// Its name.
    pub name: Text,
    /// Nova's `vm_state` before we touched it.
    pub vm_state: Text,
    /// `None`: to be evacuated. Else why it is left behind.
    pub left_behind: Option<Text>,
}

/// How an evacuate intent ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntentEnd {
    /// Certainly not sent.
    NotSent(Text),
    /// Nova refused it (4xx).
    Refused(Text),
    /// A newer migration record of the server is final.
    Migration {
        /// Which record.
        id: MigrationId,
        /// How it ended.
        status: MigrationStatus,
        /// Where it went.
        dest: Option<HostName>,
    },
    /// No newer migration record appeared in the settling time after the call.
    NoneAppeared,
}

/// A server's fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Nova shows it on another host, its migration done, no task under way.
    Recovered {
        /// Where.
        to: HostName,
    },
    /// Not recovered by us.
    LeftBehind {
        /// Why.
        why: Text,
    },
    /// Deleted by its owner meanwhile.
    Deleted,
}

/// What an operator signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorOrder {
    /// For this cluster only.
    pub cluster: ClusterName,
    /// Random: the same order is not applied twice.
    pub nonce: [u8; 16],
    /// When it was signed, on the operator's wall clock.
    pub signed_at: WallTime,
    /// Why. Never empty.
    pub reason: Text,
    /// What.
    pub command: OperatorCommand,
}

/// What an operator may order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorCommand {
    /// The first roster. Once.
    Init {
        /// Hosts and witnesses.
        roster: Vec<RosterEntry>,
        /// The CA (DER) whose operator certificates the ledger accepts from now on.
        ca: Vec<u8>,
    },
    /// Act (`true`) or only watch (`false`).
    Arm(bool),
    /// Take a host out of, or back under, protection.
    Maintenance {
        /// Which host.
        host: HostName,
        /// In or out.
        on: bool,
    },
    /// Try a stuck incident again.
    Resume {
        /// Which.
        incident: IncidentId,
    },
    /// Let a recovered incident's host back: the operator has seen that Nova cleaned up, or that the host is empty.
    Release {
        /// Which host.
        host: HostName,
    },
    /// Put a standby in a voter's place.
    ReplaceVoter {
        /// The voter.
        old: HostName,
        /// The standby.
        new: HostName,
    },
    /// One survivor goes on alone: too many voters were lost for a quorum.
    RecoverQuorum(QuorumRecovery),
}

/// What is signed to recover a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumRecovery {
    /// The generation it begins: one more than the present.
    pub generation: u64,
    /// Who goes on, with which store.
    pub survivor: Seat,
    /// Voters that the operator has seen to be off.
    pub stated_off: Vec<HostName>,
}
