//! A Nova that protects nobody: it accepts a second evacuation of the same server at any task state, and then both copies
//! run (nova/compute/api.py, `evacuate`, since July 2022).

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::io::{NovaAnswer, NovaRead};
use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaError, NovaMigration, NovaServer, NovaService, Text};
use rekindle_proto::id::{HostName, MigrationId, ServerId, ServiceId};
use uuid::Uuid;

/// The simulated compute API and the guests it knows.
#[derive(Debug, Default)]
pub struct Nova {
    services: BTreeMap<HostName, Service>,
    servers: BTreeMap<ServerId, NovaServer>,
    migrations: Vec<NovaMigration>,
    /// Ground truth: which hosts run a copy of which server.
    running: BTreeMap<ServerId, BTreeSet<HostName>>,
    /// Evacuate calls that were accepted, in order.
    pub accepted: Vec<(ServerId, HostName)>,
}

#[derive(Debug)]
struct Service {
    forced_down: bool,
    alive: bool,
    heartbeat: u64,
}

/// What an accepted evacuation does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// Its record.
    pub migration: MigrationId,
    /// The server.
    pub server: ServerId,
    /// Where the new copy is to run.
    pub dest: HostName,
}

impl Nova {
    /// Adds a host with its compute service.
    pub fn add_host(&mut self, host: HostName) {
        self.services.insert(host, Service { forced_down: false, alive: true, heartbeat: 0 });
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
        };
        self.servers.insert(server, record);
        self.running.entry(server).or_default().insert(host.clone());
    }

    /// Every server and where Nova believes it is.
    pub fn servers(&self) -> impl Iterator<Item = &NovaServer> {
        self.servers.values()
    }

    /// Ground truth: on which hosts a server runs.
    #[must_use]
    pub fn copies(&self, server: ServerId) -> usize {
        self.running.get(&server).map_or(0, BTreeSet::len)
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

    /// A host lost its power or its kernel: nothing runs there any more.
    pub fn host_died(&mut self, host: &HostName) {
        for hosts in self.running.values_mut() {
            hosts.remove(host);
        }
        if let Some(service) = self.services.get_mut(host) {
            service.alive = false;
        }
    }

    /// A host runs again, in a new boot. Its compute service first deletes what was evacuated (nova/compute/manager.py,
    /// `_destroy_evacuated_instances`: records accepted, pre-migrating or done), then everything else Nova has there runs.
    pub fn host_returned(&mut self, host: &HostName) {
        if let Some(service) = self.services.get_mut(host) {
            service.alive = true;
            service.heartbeat += 1;
        }
        let moved = |server: ServerId| {
            self.migrations.iter().any(|record| {
                record.server == server
                    && record.source.as_ref() == Some(host)
                    && record.status != MigrationStatus::Failed
            })
        };
        let here = self.servers.values().filter(|server| server.host.as_ref() == Some(host));
        let restarted: Vec<ServerId> = here.map(|server| server.id).filter(|server| !moved(*server)).collect();
        for server in restarted {
            self.running.entry(server).or_default().insert(host.clone());
        }
    }

    /// Every service that lives and can reach Nova reports.
    pub fn heartbeat(&mut self, reaches: impl Fn(&HostName) -> bool) {
        for (host, service) in &mut self.services {
            if service.alive && reaches(host) {
                service.heartbeat += 1;
            }
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// Never; the world adds outages.
    pub fn read(&self, request: &NovaRead) -> Result<NovaAnswer, NovaError> {
        Ok(match request {
            NovaRead::Service(host) => NovaAnswer::Service(self.service(host)),
            NovaRead::Servers(host) => NovaAnswer::Servers(
                self.servers.values().filter(|server| server.host.as_ref() == Some(host)).cloned().collect(),
            ),
            NovaRead::Migrations(host) => NovaAnswer::Migrations(
                self.migrations
                    .iter()
                    .filter(|record| record.source.as_ref() == Some(host) || record.dest.as_ref() == Some(host))
                    .cloned()
                    .collect(),
            ),
            NovaRead::MigrationsOf(server) => NovaAnswer::Migrations(
                self.migrations.iter().filter(|record| record.server == *server).cloned().collect(),
            ),
            NovaRead::Server(server) => NovaAnswer::Server(self.servers.get(server).cloned()),
        })
    }

    fn service(&self, host: &HostName) -> Option<NovaService> {
        let service = self.services.get(host)?;
        Some(NovaService {
            id: ServiceId(Uuid::from_u128(1)),
            host: host.clone(),
            up: service.alive && !service.forced_down,
            enabled: true,
            forced_down: service.forced_down,
            heartbeat: Some(Text::new(service.heartbeat.to_string())),
        })
    }

    /// Marks a service forced-down.
    pub fn force_down(&mut self, host: &HostName) -> NovaAnswer {
        if let Some(service) = self.services.get_mut(host) {
            service.forced_down = true;
        }
        NovaAnswer::Service(self.service(host))
    }

    /// Takes an evacuate call. Whatever task is under way, it is accepted, if the service is down.
    ///
    /// # Errors
    /// Nova's own refusals: no such server, service in use, no valid host.
    pub fn evacuate(&mut self, server: ServerId, pick: impl Fn(usize) -> usize) -> Result<Rebuild, NovaError> {
        let refused = |status: u16, text: &str| NovaError::Refused { status, text: text.into() };
        let record = self.servers.get(&server).ok_or_else(|| refused(404, "no such server"))?;
        let source = record.host.clone().ok_or_else(|| refused(400, "no host"))?;
        if self.services.get(&source).is_some_and(|service| service.alive && !service.forced_down) {
            return Err(refused(400, "Compute service is still in use."));
        }
        let candidates: Vec<HostName> = self
            .services
            .iter()
            .filter(|(host, service)| service.alive && !service.forced_down && **host != source)
            .map(|(host, _)| host.clone())
            .collect();
        if candidates.is_empty() {
            return Err(refused(400, "No valid host was found."));
        }
        let dest = candidates[pick(candidates.len())].clone();
        let migration = MigrationId(u64::try_from(self.migrations.len()).unwrap_or(0) + 1);
        self.migrations.push(NovaMigration {
            id: migration,
            server,
            kind: MigrationKind::Evacuation,
            status: MigrationStatus::UnderWay,
            status_text: "accepted".into(),
            source: Some(source.clone()),
            dest: Some(dest.clone()),
        });
        if let Some(record) = self.servers.get_mut(&server) {
            record.task_state = Some("rebuilding".into());
        }
        self.accepted.push((server, source));
        Ok(Rebuild { migration, server, dest })
    }

    /// The rebuild's guest starts, or it fails, or its destination is dead. A failed one may leave its guest running, where
    /// Nova does not look (measured on Nova 34).
    pub fn finish(&mut self, rebuild: &Rebuild, fails: bool, leaves_copy: bool) {
        let dest_lives = self.services.get(&rebuild.dest).is_some_and(|service| service.alive);
        let succeeds = dest_lives && !fails;
        if succeeds || (dest_lives && leaves_copy) {
            self.running.entry(rebuild.server).or_default().insert(rebuild.dest.clone());
        }
        if let Some(record) = self.migrations.iter_mut().find(|record| record.id == rebuild.migration) {
            record.status = if succeeds { MigrationStatus::Done } else { MigrationStatus::Failed };
            record.status_text = if succeeds { "done" } else { "failed" }.into();
        }
        if let Some(server) = self.servers.get_mut(&rebuild.server) {
            server.task_state = None;
            if succeeds {
                server.host = Some(rebuild.dest.clone());
            }
        }
    }

    /// A guest's process died on a healthy host.
    pub fn guest_died(&mut self, server: ServerId) {
        if let Some(hosts) = self.running.get_mut(&server) {
            hosts.clear();
        }
    }

    /// One copy of a server ends.
    pub fn copy_ends(&mut self, server: ServerId, host: &HostName) {
        if let Some(hosts) = self.running.get_mut(&server) {
            hosts.remove(host);
        }
    }

    /// A copy starts where Nova does not have the server: a start that waited in the host's queue, or libvirt's own doing.
    pub fn copy_starts(&mut self, server: ServerId, host: &HostName) {
        self.running.entry(server).or_default().insert(host.clone());
    }

    /// A server was moved, orderly, and runs there.
    pub fn moved(&mut self, server: ServerId, host: &HostName) {
        self.running.insert(server, BTreeSet::from([host.clone()]));
        if let Some(record) = self.servers.get_mut(&server) {
            record.host = Some(host.clone());
        }
    }

    /// Stops or starts a server where it is.
    pub fn power(&mut self, server: ServerId, start: bool) {
        let Some(record) = self.servers.get_mut(&server) else { return };
        record.vm_state = if start { "active" } else { "stopped" }.into();
        let Some(host) = record.host.clone() else { return };
        let hosts = self.running.entry(server).or_default();
        // A cast to a dead service waits in its queue; nobody here plays it back.
        let alive = self.services.get(&host).is_some_and(|service| service.alive);
        if start && alive {
            hosts.insert(host);
        } else if alive {
            hosts.remove(&host);
        }
    }
}
