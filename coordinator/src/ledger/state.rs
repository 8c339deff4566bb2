//! The state of the ledger: a plain value, equal on every voter that has applied the same entries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use rekindle_proto::fact::{DeviceName, GateReport, GuestList, MemberRole, RosterEntry, Text};
use rekindle_proto::id::{
    BootId, ClusterName, HostName, IncidentId, LogIndex, OperatorName, ServerId, SystemUuid, WallTime,
};
use serde::{Deserialize, Serialize};

use super::FORMAT_WITHOUT_EXECUTORS;
use super::absence::Absence;
use super::clock::{DisarmLimit, LedgerTime};
use super::epoch::Epoch;
use super::flap::Flap;
use super::incident::{GuestIncident, Incident, ServerRecord};
use super::lift::Lift;
use super::power_on::PowerOn;
use super::process::{ProcessBook, ProcessIncident};
use super::rate::FenceRate;
use super::reboot::Reboot;
use super::rehearsal::{Rehearsal, RehearsalMark};
use super::segments::Segments;
use super::unread::Queues;
use super::voters::VoterBook;
use super::watchdog::WatchdogRecord;

/// Everything agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The format it is written in.
    pub format: u32,
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// The last entry applied.
    pub applied: LogIndex,
    /// The CA of operator certificates; empty until the first roster is given.
    pub operator_ca: Vec<u8>,
    /// Hosts and witnesses; empty until the first roster is given.
    pub roster: BTreeMap<HostName, RosterEntry>,
    /// Whether we act.
    pub arming: Arming,
    /// What is known of each host of the roster.
    pub hosts: BTreeMap<HostName, HostRecord>,
    /// Failures of hosts, open and closed.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// Failures of guests, open and closed.
    pub guest_incidents: BTreeMap<IncidentId, GuestIncident>,
    /// The last number given to an incident.
    pub last_incident: IncidentId,
    /// Orders already applied, oldest first.
    pub nonces: VecDeque<[u8; 16]>,
    /// The present epoch: what was proven before it is void.
    pub epoch: Epoch,
    /// How fast hosts were fenced lately.
    pub rate: FenceRate,
    /// Brakes lifted by operators, by host.
    pub lifts: BTreeMap<HostName, Lift>,
    /// Where each host listened when it was last seen in a new epoch: one that does not come back from a loss of power must
    /// be asked for somewhere.
    pub addresses: BTreeMap<HostName, SocketAddr>,
    /// Time that leaders have seen pass while something waited.
    pub time: LedgerTime,
    /// When a disarm ends by itself.
    pub disarm_limit: Option<DisarmLimit>,
    /// Enrolled, and not yet counted: neither targets nor part of [`Ledger::roster`].
    pub probation: BTreeMap<HostName, RosterEntry>,
    /// Hosts that came back in another boot, open and closed.
    pub reboots: BTreeMap<IncidentId, Reboot>,
    /// Who keeps the ledger.
    pub voters: VoterBook,
    /// Servers that we locked, or may have, and the incidents for which we did. Whatever becomes of these, the locks are
    /// lifted.
    #[serde(default)]
    pub locks: BTreeSet<(IncidentId, ServerId)>,
    /// Groups of hosts with a recovery method.
    #[serde(default)]
    pub segments: Segments,
    /// Processes that were down for good on living hosts, open and closed.
    #[serde(default)]
    pub processes: BTreeMap<IncidentId, ProcessIncident>,
    /// Rehearsals of fencing, under way and over.
    #[serde(default)]
    pub rehearsals: BTreeMap<IncidentId, Rehearsal>,
    /// How often what is remembered of rehearsed devices has changed: whoever follows it need not compare it all.
    #[serde(default)]
    pub rehearsed_changes: u64,
    /// Servers of which an order may lie unread in the queue of a host that died with it.
    #[serde(default)]
    pub unread: BTreeMap<ServerId, Queues>,
    /// Who executed an attempt that the leader did not execute itself. Stays the last field: a ledger of format 1 ends
    /// before it, and is read as one without ([`FORMAT_WITHOUT_EXECUTORS`](super::FORMAT_WITHOUT_EXECUTORS)).
    pub executors: BTreeMap<(IncidentId, u32), HostName>,
}

/// Whether we act, since when, why, by whose word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arming {
    /// A fresh cluster is not armed.
    pub armed: bool,
    /// Since when.
    pub at: WallTime,
    /// By whom; `None`: never yet changed.
    pub by: Option<OperatorName>,
    /// Why.
    pub reason: Text,
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostRecord {
    /// In maintenance, and why.
    pub maintenance: Option<Text>,
    /// Fenced and not yet released: the incident.
    pub quarantine: Option<IncidentId>,
    /// Its last own word.
    pub pulse: Option<Pulse>,
    /// It said goodbye, and has not come back.
    pub absence: Option<Absence>,
    /// How often it went down and came up lately.
    pub flap: Flap,
    /// The boot whose guests an incident has dealt with: that it is over is no news.
    pub accounted: Option<BootId>,
    /// Its watchdog, if it ever armed one.
    pub watchdog: Option<WatchdogRecord>,
    /// Its last word about its boot gate.
    pub gate: Option<GateWord>,
    /// The boot in which its gate was opened by a leader, though it is quarantined: its failure is settled, and its compute
    /// service must run to clean up after it.
    pub admitted: Option<BootId>,
    /// The incident by which its compute service was forced down in Nova, until it is known not to be any more.
    pub forced_down: Option<IncidentId>,
    /// Its processes.
    #[serde(default)]
    pub processes: ProcessBook,
    /// What rehearsals have shown of its fence devices.
    #[serde(default)]
    pub rehearsed: BTreeMap<DeviceName, RehearsalMark>,
    /// The orders to power it on after its last incident.
    #[serde(default)]
    pub power_on: Option<PowerOn>,
}

/// A host's own word about its boot gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateWord {
    /// When.
    pub at: WallTime,
    /// In which boot.
    pub boot: BootId,
    /// What.
    pub report: GateReport,
}

/// A host's own word about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// When.
    pub at: WallTime,
    /// In which boot.
    pub boot: BootId,
    /// Its machine's UUID.
    pub system_uuid: Option<SystemUuid>,
    /// Its guests.
    pub guests: GuestList,
}

impl Ledger {
    /// The empty ledger of a cluster: no roster, disarmed.
    #[must_use]
    pub fn new(cluster: ClusterName) -> Self {
        Self {
            format: FORMAT_WITHOUT_EXECUTORS,
            cluster,
            applied: LogIndex(0),
            operator_ca: Vec::new(),
            roster: BTreeMap::new(),
            arming: Arming { armed: false, at: WallTime(0), by: None, reason: "a fresh cluster".into() },
            hosts: BTreeMap::new(),
            incidents: BTreeMap::new(),
            guest_incidents: BTreeMap::new(),
            last_incident: IncidentId(0),
            nonces: VecDeque::new(),
            epoch: Epoch::default(),
            rate: FenceRate::default(),
            lifts: BTreeMap::new(),
            addresses: BTreeMap::new(),
            time: LedgerTime::default(),
            disarm_limit: None,
            probation: BTreeMap::new(),
            reboots: BTreeMap::new(),
            voters: VoterBook::default(),
            locks: BTreeSet::new(),
            segments: Segments::default(),
            processes: BTreeMap::new(),
            rehearsals: BTreeMap::new(),
            rehearsed_changes: 0,
            unread: BTreeMap::new(),
            executors: BTreeMap::new(),
        }
    }

    /// The open incident of a host, if any. There is at most one (I5).
    #[must_use]
    pub fn open_incident(&self, host: &HostName) -> Option<&Incident> {
        self.incidents.values().find(|incident| incident.is_open() && incident.host == *host)
    }

    /// The incident, other than this one, that has an open evacuate intent for that server.
    #[must_use]
    pub fn open_intent_elsewhere(&self, incident: IncidentId, server: ServerId) -> Option<&Incident> {
        let is_open = |record: &ServerRecord| record.intent.is_some();
        self.incidents.values().find(|other| other.id != incident && other.servers.get(&server).is_some_and(is_open))
    }

    /// Open incidents of single guests, whose fate is not known yet.
    pub fn open_guest_incidents(&self) -> impl Iterator<Item = &GuestIncident> {
        self.guest_incidents.values().filter(|guest| guest.is_open())
    }

    /// Open incidents, oldest first.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values().filter(|incident| incident.is_open())
    }

    /// Whether the roster names this host as a hypervisor.
    #[must_use]
    pub fn is_hypervisor(&self, host: &HostName) -> bool {
        self.roster.get(host).is_some_and(|entry| entry.role == MemberRole::Member)
    }

    /// What is known of a host.
    #[must_use]
    pub fn host(&self, host: &HostName) -> Option<&HostRecord> {
        self.hosts.get(host)
    }

    /// Whether, and by whom, the brakes were lifted for this host's incident.
    #[must_use]
    pub fn lift_of(&self, host: &HostName) -> Option<&Lift> {
        self.lifts.get(host)
    }

    /// How many roster members must answer before anything is done: 51 % of the roster, rounded up.
    #[must_use]
    pub fn quorum_needed(&self) -> usize {
        crate::verdict::brake_needs(self.roster.len())
    }
}
