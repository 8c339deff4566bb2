//! A Nova that protects nobody: it accepts a second evacuation of the same server at any task state, and then both copies
//! run (nova/compute/api.py, `evacuate`, since July 2022).
//!
//! It holds a ground truth beside its own beliefs: on which hosts a copy of each server runs, and so writes to its disk. Two
//! at once is a corruption, and is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_coordinator::io::{NovaAnswer, NovaRead};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaError, NovaMigration, NovaServer, NovaService, Text};
use rekindle_proto::id::{HostName, MigrationId, ServerId, ServiceId};
use uuid::Uuid;

/// Nova's `service_down_time`: a service that has not reported for so long is down.
pub const SERVICE_DOWN: Duration = Duration::from_secs(60);

/// The simulated compute API and the guests it knows.
#[derive(Debug, Default)]
pub struct Nova {
    services: BTreeMap<HostName, Service>,
    servers: BTreeMap<ServerId, NovaServer>,
    migrations: Vec<NovaMigration>,
    /// Ground truth: which hosts run a copy of which server.
    running: BTreeMap<ServerId, BTreeSet<HostName>>,
    changed: Vec<ServerId>,
    /// Evacuate calls that were accepted, in order.
    pub accepted: Vec<(ServerId, HostName)>,
    calls_of: BTreeMap<ServerId, usize>,
    /// Every moment at which a server began to run twice.
    pub corruptions: Vec<(ServerId, BTreeSet<HostName>)>,
}

#[derive(Debug)]
struct Service {
    id: ServiceId,
    forced_down: bool,
    alive: bool,
    heartbeat: u64,
    reported: Moment,
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

/// A step of Nova's own, some time after the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// A cast reaches the queue of a compute service.
    Cast(HostName, Cast),
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
        let service =
            Service { id, forced_down: false, alive: true, heartbeat: 0, reported: Moment::ZERO, queue: Vec::new() };
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
        };
        self.servers.insert(server, record);
        self.runs(server, host);
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

    /// A host lost its power or its kernel: nothing runs there any more.
    pub fn host_died(&mut self, host: &HostName, now: Moment) {
        let _ = now;
        for (server, hosts) in &mut self.running {
            if hosts.remove(host) {
                self.changed.push(*server);
            }
        }
        if let Some(service) = self.services.get_mut(host) {
            service.alive = false;
        }
    }

    /// A host runs again, in a new boot. Its compute service first deletes what was evacuated (nova/compute/manager.py,
    /// `_destroy_evacuated_instances`: records accepted, pre-migrating or done), then everything else Nova has there runs
    /// (`resume_guests_state_on_host_boot`), then it reads its queue. Gives back what it finds there.
    #[must_use]
    pub fn host_returned(&mut self, host: &HostName, now: Moment) -> Vec<Cast> {
        let Some(service) = self.services.get_mut(host) else { return Vec::new() };
        service.alive = true;
        service.heartbeat += 1;
        service.reported = now;
        let queue = std::mem::take(&mut service.queue);
        let moved = |server: ServerId| {
            self.migrations.iter().any(|record| {
                record.server == server
                    && record.kind == MigrationKind::Evacuation
                    && record.source.as_ref() == Some(host)
                    && record.status != MigrationStatus::Failed
            })
        };
        let here = self
            .servers
            .values()
            .filter(|server| server.host.as_ref() == Some(host) && server.vm_state.as_str() == "active");
        let restarted: Vec<ServerId> = here.map(|server| server.id).filter(|server| !moved(*server)).collect();
        for server in restarted {
            self.runs(server, host);
        }
        // A rebuild that was under way here when the host died is given up, and its server in error.
        for record in &mut self.migrations {
            let is_queued =
                queue.iter().any(|cast| matches!(cast, Cast::Rebuild(rebuild) if rebuild.migration == record.id));
            if record.status == MigrationStatus::UnderWay
                && record.kind == MigrationKind::Evacuation
                && record.dest.as_ref() == Some(host)
                && !is_queued
            {
                record.status = MigrationStatus::Failed;
                record.status_text = "failed".into();
                if let Some(server) = self.servers.get_mut(&record.server) {
                    server.task_state = None;
                }
            }
        }
        queue
    }

    /// A host runs again, in a new boot, and nobody starts its guests: `resume_guests_state_on_host_boot = false`, Nova's
    /// default.
    pub fn host_returned_empty(&mut self, host: &HostName, now: Moment) {
        if let Some(service) = self.services.get_mut(host) {
            service.alive = true;
            service.heartbeat += 1;
            service.reported = now;
        }
    }

    /// Every service that lives and can reach Nova reports.
    pub fn heartbeat(&mut self, now: Moment, reaches: impl Fn(&HostName) -> bool) {
        for (host, service) in &mut self.services {
            if service.alive && reaches(host) {
                service.heartbeat += 1;
                service.reported = now;
            }
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// Never; the world adds outages.
    pub fn read(&self, request: &NovaRead, now: Moment) -> Result<NovaAnswer, NovaError> {
        Ok(match request {
            NovaRead::Service(host) => NovaAnswer::Service(self.service(host, now)),
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

    fn is_up(service: &Service, now: Moment) -> bool {
        !service.forced_down && now.since(service.reported) < SERVICE_DOWN
    }

    fn service(&self, host: &HostName, now: Moment) -> Option<NovaService> {
        let service = self.services.get(host)?;
        Some(NovaService {
            id: service.id,
            host: host.clone(),
            up: Self::is_up(service, now),
            enabled: true,
            forced_down: service.forced_down,
            heartbeat: Some(Text::new(service.heartbeat.to_string())),
        })
    }

    /// Marks a service forced-down.
    pub fn force_down(&mut self, host: &HostName, now: Moment) -> NovaAnswer {
        if let Some(service) = self.services.get_mut(host) {
            service.forced_down = true;
        }
        NovaAnswer::Service(self.service(host, now))
    }

    /// Somebody clears the mark. Nova refuses while evacuations from there are `done` and not cleaned up.
    pub fn clear_forced_down(&mut self, host: &HostName) {
        let waits =
            |record: &NovaMigration| record.source.as_ref() == Some(host) && record.status == MigrationStatus::Done;
        if let Some(service) = self.services.get_mut(host)
            && (service.alive || !self.migrations.iter().any(waits))
        {
            service.forced_down = false;
        }
    }

    /// Takes an evacuate call. Whatever task is under way, it is accepted, if the service is down.
    ///
    /// # Errors
    /// Nova's own refusals: no such server, service in use, no valid host.
    pub fn evacuate(
        &mut self,
        server: ServerId,
        now: Moment,
        pick: impl Fn(usize) -> usize,
    ) -> Result<Rebuild, NovaError> {
        let refused = |status: u16, text: &str| NovaError::Refused { status, text: text.into() };
        let record = self.servers.get(&server).ok_or_else(|| refused(404, "no such server"))?;
        let source = record.host.clone().ok_or_else(|| refused(400, "no host"))?;
        if self.services.get(&source).is_some_and(|service| Self::is_up(service, now)) {
            return Err(refused(400, "Compute service is still in use."));
        }
        let candidates: Vec<HostName> = self
            .services
            .iter()
            .filter(|(host, service)| Self::is_up(service, now) && **host != source)
            .map(|(host, _)| host.clone())
            .collect();
        if candidates.is_empty() {
            return Err(refused(400, "No valid host was found."));
        }
        let dest = candidates[pick(candidates.len())].clone();
        let migration = self.record(server, MigrationKind::Evacuation, "accepted", &source, &dest);
        if let Some(record) = self.servers.get_mut(&server) {
            record.task_state = Some("rebuilding".into());
        }
        *self.calls_of.entry(server).or_default() += 1;
        self.accepted.push((server, source));
        Ok(Rebuild { migration, server, dest })
    }

    fn record(
        &mut self,
        server: ServerId,
        kind: MigrationKind,
        text: &str,
        source: &HostName,
        dest: &HostName,
    ) -> MigrationId {
        let id = MigrationId(self.migrations.len() as u64 + 1);
        self.migrations.push(NovaMigration {
            id,
            server,
            kind,
            status: MigrationStatus::UnderWay,
            status_text: text.into(),
            source: Some(source.clone()),
            dest: Some(dest.clone()),
        });
        id
    }

    fn migration_mut(&mut self, id: MigrationId) -> Option<&mut NovaMigration> {
        self.migrations.get_mut(usize::try_from(id.0).ok()?.checked_sub(1)?)
    }

    /// A live migration begins; `None` if it cannot.
    pub fn migrate(&mut self, server: ServerId, dest: &HostName) -> Option<MigrationId> {
        let record = self.servers.get_mut(&server)?;
        let source = record.host.clone()?;
        let able = |host: &HostName| self.services.get(host).is_some_and(|service| service.alive);
        if source == *dest || record.task_state.is_some() || !able(&source) || !able(dest) {
            return None;
        }
        record.task_state = Some("migrating".into());
        Some(self.record(server, MigrationKind::LiveMigration, "running", &source, dest))
    }

    /// The guest runs at the destination now, and no more at the source; Nova's record says nothing of it yet.
    pub fn switch_over(&mut self, id: MigrationId) -> bool {
        let Some(NovaMigration { server, source: Some(source), dest: Some(dest), .. }) =
            self.migration_mut(id).cloned()
        else {
            return false;
        };
        let ran = self.running.get(&server).is_some_and(|hosts| hosts.contains(&source));
        let dest_lives = self.services.get(&dest).is_some_and(|service| service.alive);
        if !ran || !dest_lives {
            // Its source has died, or its destination: the record stays as it is until somebody cleans up.
            return false;
        }
        self.ends(server, &source);
        self.runs(server, &dest);
        true
    }

    /// The source's compute service has told Nova; without it nobody does.
    pub fn complete(&mut self, id: MigrationId) {
        let Some(record) = self.migration_mut(id) else { return };
        let (server, source, dest) = (record.server, record.source.clone(), record.dest.clone());
        let source_lives = source.is_some_and(|source| self.services.get(&source).is_some_and(|service| service.alive));
        if !source_lives {
            return;
        }
        if let Some(record) = self.migration_mut(id) {
            record.status = MigrationStatus::Completed;
            record.status_text = "completed".into();
        }
        if let Some(server) = self.servers.get_mut(&server) {
            server.task_state = None;
            server.host = dest;
        }
    }

    /// A cast arrives: it is done now, or waits for the service to come back. Gives back what must follow.
    #[must_use]
    pub fn cast(&mut self, host: &HostName, cast: Cast) -> Option<Stage> {
        let service = self.services.get_mut(host)?;
        if !service.alive {
            service.queue.push(cast);
            return None;
        }
        match cast {
            // nova/compute/manager.py, `_do_rebuild_instance`: `instance.save(expected_task_state=[REBUILDING])`. One that is
            // read from the queue when the server has long arrived elsewhere fails there.
            Cast::Rebuild(rebuild) if !self.is_rebuilding(rebuild.server) => {
                if let Some(record) = self.migration_mut(rebuild.migration).filter(|record| !record.status.is_final()) {
                    record.status = MigrationStatus::Failed;
                    record.status_text = "failed".into();
                }
                None
            }
            Cast::Rebuild(rebuild) => {
                if let Some(record) = self.migration_mut(rebuild.migration) {
                    record.status_text = "pre-migrating".into();
                }
                Some(Stage::Finish(rebuild))
            }
            Cast::Power(server, start) => {
                // libvirt's power-on defines the domain anew from Nova's record, whoever has moved it meanwhile.
                if start {
                    self.runs(server, host);
                } else {
                    self.ends(server, host);
                }
                None
            }
        }
    }

    fn is_rebuilding(&self, server: ServerId) -> bool {
        let task = self.servers.get(&server).and_then(|record| record.task_state.as_ref());
        task.is_some_and(|task| task.as_str() == "rebuilding")
    }

    /// The rebuild's guest starts, or it fails, or its destination is dead (then nobody says anything). A failed one may leave
    /// its guest running, where Nova does not look (measured on Nova 34).
    pub fn finish(&mut self, rebuild: &Rebuild, fails: bool, leaves_copy: bool) {
        let is_over = self.migration_mut(rebuild.migration).is_none_or(|record| record.status.is_final());
        if is_over || !self.services.get(&rebuild.dest).is_some_and(|service| service.alive) {
            return;
        }
        if !fails || leaves_copy {
            self.runs(rebuild.server, &rebuild.dest);
        }
        if let Some(record) = self.migration_mut(rebuild.migration) {
            record.status = if fails { MigrationStatus::Failed } else { MigrationStatus::Done };
            record.status_text = if fails { "failed" } else { "done" }.into();
        }
        if let Some(server) = self.servers.get_mut(&rebuild.server) {
            server.task_state = None;
            if !fails {
                server.host = Some(rebuild.dest.clone());
            }
        }
    }

    /// A guest's process died where Nova has it.
    pub fn guest_died(&mut self, server: ServerId) {
        if let Some(host) = self.servers.get(&server).and_then(|record| record.host.clone()) {
            self.ends(server, &host);
        }
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

    /// An accepted stop or start: the state is written at once, the cast goes to where the server is.
    pub fn power(&mut self, server: ServerId, start: bool) -> Option<(HostName, Cast)> {
        let record = self.servers.get_mut(&server)?;
        record.vm_state = if start { "active" } else { "stopped" }.into();
        record.host.clone().map(|host| (host, Cast::Power(server, start)))
    }

    fn runs(&mut self, server: ServerId, host: &HostName) {
        let hosts = self.running.entry(server).or_default();
        if hosts.insert(host.clone()) {
            self.changed.push(server);
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
