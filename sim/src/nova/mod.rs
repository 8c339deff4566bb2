//! A Nova that protects nobody: it accepts a second evacuation of the same server at any task state, and then both copies
//! run (nova/compute/api.py, `evacuate`, since July 2022).
//!
//! It holds a ground truth beside its own beliefs: on which hosts a copy of each server runs, and so writes to its disk. Two
//! at once is a corruption, and is recorded.

mod aggregates;
mod api;
mod computes;
mod groups;
mod load;
mod scheduler;
mod service;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_coordinator::io::{NovaAnswer, NovaRead};
use rekindle_coordinator::recovery::Lookup;
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{
    GroupPolicy, MigrationKind, MigrationStatus, NovaError, NovaMigration, NovaServer, NovaService, ServerTraits, Text,
};
use rekindle_proto::id::{AggregateId, HostName, MigrationId, ServerId, ServiceId};
use uuid::Uuid;

use crate::world::Dress;
pub use load::Peaks;
pub use states::{OWNERS_REASON, found, wanted};

/// Nova's `service_down_time`: a service that has not reported for so long is down.
pub const SERVICE_DOWN: Duration = Duration::from_secs(60);

/// The simulated compute API and the guests it knows.
#[derive(Debug, Default)]
pub struct Nova {
    services: BTreeMap<HostName, Service>,
    servers: BTreeMap<ServerId, NovaServer>,
    migrations: Vec<NovaMigration>,
    /// For which host Placement has allotted what an evacuation needs: the scheduler's choice, also before any record tells it.
    allotted: BTreeMap<MigrationId, HostName>,
    /// Hosts for which Placement holds something for a server, beside the one where Nova has it.
    placement: BTreeMap<ServerId, BTreeSet<HostName>>,
    /// What has become of each evacuate call, by the record that it made: Nova's actions tell it.
    trails: BTreeMap<MigrationId, Call>,
    /// Ground truth: which hosts run a copy of which server.
    running: BTreeMap<ServerId, BTreeSet<HostName>>,
    changed: Vec<ServerId>,
    /// What ran on a host when it died, and so is defined there: a guest that had been migrated away is not.
    defined: BTreeMap<HostName, BTreeSet<ServerId>>,
    /// Whose process died on a host, and was not started there since: libvirt says so for as long as its host runs.
    died: BTreeMap<HostName, BTreeSet<ServerId>>,
    /// Evacuate calls that were accepted, in order.
    pub accepted: Vec<(ServerId, HostName)>,
    /// Guests that began to run, in order.
    pub begun: Vec<ServerId>,
    calls_of: BTreeMap<ServerId, usize>,
    /// How much it bears; `None`: anything.
    pub bears: Option<Bears>,
    /// How long it takes to list a host's servers; `None`: no time.
    pub lists_in: Option<Duration>,
    /// Evacuate calls it refused because it was too much.
    pub refused: usize,
    /// Most evacuations at once.
    pub peaks: Peaks,
    /// When each of the calls that are being answered will have been.
    answering: Vec<Moment>,
    /// Whether it can leave a server stopped where it arrives.
    pub stops: Stops,
    /// In which state each server was put, whether it ran, and whether its owner had locked it.
    found: BTreeMap<ServerId, (String, bool, bool)>,
    /// Properties of the images that servers were made from.
    images: BTreeMap<Text, BTreeMap<String, Text>>,
    /// Every moment at which a server began to run twice.
    pub corruptions: Vec<(ServerId, BTreeSet<HostName>)>,
    /// For how many servers a host has room, where there is a bound.
    rooms: BTreeMap<HostName, usize>,
    /// Servers whose rebuilds fail, wherever.
    broken: BTreeSet<ServerId>,
    /// Hosts on which every rebuild fails.
    failing: BTreeSet<HostName>,
    groups: Vec<groups::Group>,
    /// How it takes questions about server groups.
    pub about_groups: Openness,
    aggregates: BTreeMap<AggregateId, aggregates::Aggregate>,
    /// Servers that only hosts of one aggregate may run, by its name.
    bound: BTreeMap<ServerId, Text>,
}

/// Whether Nova can leave a server stopped where it arrives (microversion 2.95).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stops {
    /// It can.
    #[default]
    Known,
    /// Its API is older: it does not know the microversion.
    OldApi,
    /// A compute is older: its API refuses, in the words of Nova 34.
    OldCompute,
}

/// How a Nova takes questions about server groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Openness {
    /// It answers.
    #[default]
    Tells,
    /// Its policy does not let us read them: 403.
    Refuses,
    /// It never answers, and nobody says so.
    Hangs,
}

/// What load does to a Nova: it answers evacuate calls the slower the more evacuations are under way, and refuses them
/// (429) beyond a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bears {
    /// Answer time, for each evacuation under way.
    pub each: Duration,
    /// So many evacuations at once, and no more.
    pub most: usize,
}

#[derive(Debug)]
struct Service {
    id: ServiceId,
    forced_down: bool,
    alive: bool,
    heartbeat: u64,
    reported: Moment,
    /// Not to be scheduled to, and why.
    disabled: Option<Text>,
    /// Casts that wait for it.
    queue: Vec<Cast>,
}

/// What a compute service is told to do, and finds in its queue when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cast {
    /// `rebuild_instance`.
    Rebuild(Rebuild),
    /// `start_instance` or `stop_instance`.
    Power(ServerId, bool),
}

/// How far the order of an evacuate call has come, by the events of its action.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    /// nova-conductor has sent it.
    Sent,
    /// That host has taken it out of its queue; `lives: false`: and died with it.
    Taken { host: HostName, lives: bool },
    /// That host has ended it.
    Ended { host: HostName, done: bool },
    /// No host was found.
    NoHost,
}

/// What an accepted evacuation does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// The record that its call made.
    pub call: MigrationId,
    /// The record that it is carried out under: the oldest of its server that is `accepted`.
    pub migration: MigrationId,
    /// The server.
    pub server: ServerId,
    /// Where the new copy is to run.
    pub dest: HostName,
    /// It is left stopped.
    pub stops: bool,
}

/// A step of Nova's own, some time after the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// A cast reaches the queue of a compute service.
    Cast(HostName, Cast),
    /// The destination claims what the rebuild needs; from then on its record names it.
    Claim(Rebuild),
    /// A rebuild's guest starts, or not.
    Finish(Rebuild),
    /// A live migration switches over: the guest runs at the destination, whatever Nova's record says.
    SwitchOver(MigrationId),
    /// Its record is completed.
    Complete(MigrationId),
}

impl Nova {
    /// Adds a host with its compute service.
    pub fn add_host(&mut self, host: HostName) {
        let id = ServiceId(Uuid::from_u128(0x5e_0000 + self.services.len() as u128));
        let service = Service {
            id,
            forced_down: false,
            alive: true,
            heartbeat: 0,
            reported: Moment::ZERO,
            disabled: None,
            queue: Vec::new(),
        };
        self.services.insert(host, service);
    }

    /// Boots a server on a host.
    pub fn boot(&mut self, server: ServerId, name: &str, host: &HostName) {
        let record = NovaServer {
            id: server,
            name: name.into(),
            host: Some(host.clone()),
            vm_state: "active".into(),
            task_state: None,
            metadata: BTreeMap::new(),
            standing: Default::default(),
            traits: ServerTraits { image: Some("".into()), ..ServerTraits::default() },
        };
        self.servers.insert(server, record);
        self.runs(server, host);
    }

    /// What the owner and the operator have said about a server, and what it was made from.
    pub fn dress(&mut self, server: ServerId, dress: &Dress) {
        let Some(record) = self.servers.get_mut(&server) else { return };
        let words = |words: &BTreeMap<String, String>| -> BTreeMap<String, Text> {
            words.iter().map(|(key, word)| (key.clone(), Text::from(word.as_str()))).collect()
        };
        record.metadata.extend(words(&dress.metadata));
        if dress.broken {
            self.broken.insert(server);
        }
        if let Some(aggregate) = &dress.aggregate {
            self.bound.insert(server, Text::from(aggregate.as_str()));
        }
        if let Some(project) = &dress.project {
            record.traits.project = Some(Text::from(project.as_str()));
        }
        if !dress.image_property.is_empty() {
            let id = Text::new(format!("image of {}", dress.name));
            self.images.insert(id.clone(), words(&dress.image_property));
            record.traits.image = Some(id);
        }
        let policies =
            [(&dress.apart, GroupPolicy::AntiAffinity { most: 1 }), (&dress.together, GroupPolicy::Affinity)];
        for (name, policy) in policies {
            if let Some(name) = name {
                self.join(server, name, policy);
            }
        }
    }

    /// Every server and where Nova believes it is.
    pub fn servers(&self) -> impl Iterator<Item = &NovaServer> {
        self.servers.values()
    }

    /// A server, as Nova has it.
    #[must_use]
    pub fn server(&self, server: ServerId) -> Option<&NovaServer> {
        self.servers.get(&server)
    }

    /// Every migration record, oldest first.
    #[must_use]
    pub fn migrations(&self) -> &[NovaMigration] {
        &self.migrations
    }

    /// Ground truth: on how many hosts a server runs.
    #[must_use]
    pub fn copies(&self, server: ServerId) -> usize {
        self.running.get(&server).map_or(0, BTreeSet::len)
    }

    /// Ground truth: on which hosts a server runs.
    pub fn copies_on(&self, server: ServerId) -> impl Iterator<Item = &HostName> {
        self.running.get(&server).into_iter().flatten()
    }

    /// Servers with more than one running copy.
    pub fn doubles(&self) -> impl Iterator<Item = (&ServerId, &BTreeSet<HostName>)> {
        self.running.iter().filter(|(_, hosts)| hosts.len() > 1)
    }

    /// Guests running on a host, by its own hypervisor's word.
    #[must_use]
    pub fn guests_on(&self, host: &HostName) -> Vec<ServerId> {
        self.running.iter().filter(|(_, hosts)| hosts.contains(host)).map(|(server, _)| *server).collect()
    }

    /// Evacuate calls of a server that were accepted.
    #[must_use]
    pub fn calls(&self, server: ServerId) -> usize {
        self.calls_of.get(&server).copied().unwrap_or(0)
    }

    /// A server whose copies have changed since it was last asked.
    pub(crate) fn take_changed(&mut self) -> Option<ServerId> {
        self.changed.pop()
    }

    fn migration_mut(&mut self, id: MigrationId) -> Option<&mut NovaMigration> {
        self.migrations.get_mut(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// A guest's process died where Nova has it.
    pub fn guest_died(&mut self, server: ServerId) {
        if let Some(host) = self.servers.get(&server).and_then(|record| record.host.clone()) {
            if self.copies_on(server).any(|on| *on == host) {
                self.died.entry(host.clone()).or_default().insert(server);
            }
            self.ends(server, &host);
        }
    }

    /// Guests that died on a host, by its own hypervisor's word.
    pub fn died_on(&self, host: &HostName) -> impl Iterator<Item = ServerId> {
        self.died.get(host).into_iter().flatten().copied()
    }

    /// One copy of a server ends.
    pub fn copy_ends(&mut self, server: ServerId, host: &HostName) {
        self.ends(server, host);
    }

    /// A copy starts where Nova does not have the server: a start that waited in the host's queue, or libvirt's own doing.
    pub fn copy_starts(&mut self, server: ServerId, host: &HostName) {
        self.runs(server, host);
    }

    /// A server was moved, orderly, and runs there.
    pub fn moved(&mut self, server: ServerId, host: &HostName) {
        for other in self.running.get(&server).cloned().unwrap_or_default() {
            self.ends(server, &other);
        }
        self.runs(server, host);
        if let Some(record) = self.servers.get_mut(&server) {
            record.host = Some(host.clone());
        }
    }

    fn runs(&mut self, server: ServerId, host: &HostName) {
        if let Some(died) = self.died.get_mut(host) {
            died.remove(&server);
        }
        let hosts = self.running.entry(server).or_default();
        if hosts.insert(host.clone()) {
            self.changed.push(server);
            self.begun.push(server);
            if hosts.len() > 1 {
                self.corruptions.push((server, hosts.clone()));
            }
        }
    }

    fn ends(&mut self, server: ServerId, host: &HostName) {
        if self.running.get_mut(&server).is_some_and(|hosts| hosts.remove(host)) {
            self.changed.push(server);
        }
    }
}
