//! What the scheduler and the nova-compute processes do.
//!
//! The life of an evacuation follows nova/conductor/manager.py and nova/compute/manager.py (`rebuild_instance`,
//! `_destroy_evacuated_instances`): `accepted` → `pre-migrating` once a destination claims → `done` when the guest runs
//! there, and only then does the server's host change → `completed` when the source's nova-compute starts again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt;
use rekindle_proto::id::{HostName, MigrationId, ServerId};

use super::builder::Disks;
use super::fault::SpawnFault;
use super::world::{Cast, Machine, Migration, World};
use super::{PowerAction, Shared};
use crate::fake::guests::{GuestEvent, GuestNotice};

/// The longest we pretend that a spawn takes when it never ends.
const NEVER: Duration = Duration::from_secs(86_400);

impl Shared {
    /// An accepted evacuation goes its way.
    pub(super) fn begin_evacuation(self: &Arc<Self>, id: MigrationId) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let wait = {
                let mut world = shared.world();
                let range = world.settings.schedule_time.clone();
                jitter(&mut world, &range)
            };
            tokio::time::sleep(wait).await;
            let Some(host) = shared.world().schedule(id) else { return };
            shared.cast(&host, Cast::Rebuild(id));
        });
    }

    /// Hands a message to a compute: done now if it works, else queued until it does.
    pub(super) fn cast(self: &Arc<Self>, host: &HostName, cast: Cast) {
        {
            let mut world = self.world();
            let Some(state) = world.hosts.get_mut(host) else { return };
            if !state.works() {
                state.casts.push(cast);
                return;
            }
        }
        self.run(host, cast);
    }

    fn run(self: &Arc<Self>, host: &HostName, cast: Cast) {
        let (shared, host) = (Arc::clone(self), host.clone());
        match cast {
            Cast::Rebuild(id) => {
                let Some(spawn_time) = shared.world().claim(&host, id) else { return };
                tokio::spawn(async move {
                    tokio::time::sleep(spawn_time).await;
                    shared.world().finish(&host, id);
                });
            }
            Cast::FinishRebuild(id) => shared.world().finish(&host, id),
            Cast::Start(server) => shared.power(host, server, PowerAction::Start, cast),
            Cast::Stop(server) => shared.power(host, server, PowerAction::Stop, cast),
        }
    }

    /// A compute does a start or stop; with a real hypervisor behind it, there first.
    fn power(self: Arc<Self>, host: HostName, server: ServerId, action: PowerAction, cast: Cast) {
        let (wait, hook) = {
            let world = self.world();
            (world.settings.power_time, world.power_hook.clone())
        };
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(hook) = hook {
                let place = host.clone();
                let done = tokio::task::spawn_blocking(move || hook(&place, server, action)).await;
                if let Err(why) = done.unwrap_or_else(|panic| Err(panic.to_string())) {
                    tracing::warn!(%host, %server, ?action, why, "the hypervisor did not");
                    // The action's task_state goes, the vm_state stays (`revert_task_state` in nova/compute/manager.py).
                    self.world().set_server(server, None, None);
                    return;
                }
            }
            self.world().power(&host, cast);
        });
    }

    pub(super) fn hang(&self, host: &HostName) {
        let mut world = self.world();
        let every = world.settings.report_every;
        if let Some(host) = world.hosts.get_mut(host).filter(|host| host.machine == Machine::Up) {
            host.machine = Machine::Hung;
            host.report(Instant::now(), every);
            host.tell(GuestNotice::Changed);
        }
    }

    pub(super) fn return_host(self: &Arc<Self>, host: &HostName) {
        let mut world = self.world();
        let every = world.settings.report_every;
        let Some(state) = world.hosts.get_mut(host) else { return };
        match state.machine {
            Machine::Up => {}
            Machine::Hung => {
                state.machine = Machine::Up;
                state.report(Instant::now(), every);
                state.tell(GuestNotice::Changed);
                let casts = if state.works() { std::mem::take(&mut state.casts) } else { Vec::new() };
                drop(world);
                casts.into_iter().for_each(|cast| self.run(host, cast));
            }
            Machine::Off => {
                let boot = world.boot(host);
                let wait = world.settings.compute_start_time;
                drop(world);
                let (shared, host) = (Arc::clone(self), host.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let same_boot = {
                        let world = shared.world();
                        let now = world.hosts.get(&host);
                        now.is_some_and(|now| Some(now.boots) == boot && now.machine == Machine::Up)
                    };
                    if same_boot {
                        shared.set_compute(&host, true);
                    }
                });
            }
        }
    }

    pub(super) fn set_compute(self: &Arc<Self>, host: &HostName, runs: bool) {
        let mut world = self.world();
        let every = world.settings.report_every;
        let Some(state) = world.hosts.get_mut(host) else { return };
        if state.compute == runs || state.machine == Machine::Off || (runs && state.machine == Machine::Hung) {
            return;
        }
        state.compute = runs;
        if !runs {
            // What this process had under way dies with it.
            state.boots += 1;
            state.report(Instant::now(), every);
            return;
        }
        world.clean_up(host);
        let resume = world.settings.resume_guests;
        if resume {
            world.resume_guests(host);
        }
        let Some(state) = world.hosts.get_mut(host) else { return };
        state.report(Instant::now(), every);
        let casts = if state.works() { std::mem::take(&mut state.casts) } else { Vec::new() };
        drop(world);
        casts.into_iter().for_each(|cast| self.run(host, cast));
    }
}

fn jitter(world: &mut World, range: &Range<Duration>) -> Duration {
    if range.is_empty() { range.start } else { world.random.random_range(range.clone()) }
}

impl World {
    /// Chooses a destination: up, enabled, not the source; the least loaded, by lot among equals.
    fn schedule(&mut self, id: MigrationId) -> Option<HostName> {
        let migration = self.migration(id)?.clone();
        let now = Instant::now();
        let fits = |world: &Self, name: &HostName| {
            *name != migration.source
                && world.hosts.get(name).is_some_and(|host| !host.disabled)
                && world.is_up(name, now)
                && migration.chosen.as_ref().is_none_or(|chosen| chosen == name)
                && !world.keeps_apart(migration.server, name)
        };
        let names: Vec<HostName> = self.hosts.keys().filter(|name| fits(self, name)).cloned().collect();
        let coming = self.coming();
        let mut best: Option<(usize, u32, HostName)> = None;
        for name in names {
            let guests = self.hosts.get(&name).map_or(0, |host| host.guests.len());
            let load = guests + coming.get(&name).copied().unwrap_or(0);
            let candidate = (load, self.random.random(), name);
            if best.as_ref().is_none_or(|best| candidate < *best) {
                best = Some(candidate);
            }
        }
        let refused = self.faults.no_valid_host();
        let Some((_, _, host)) = best.filter(|_| !refused) else {
            self.set_migration(id, "error");
            self.set_server(migration.server, Some("error"), None);
            self.migration(id)?.sent = Some(SystemTime::now());
            return None;
        };
        let migration = self.migration(id)?;
        (migration.chosen, migration.sent) = (Some(host.clone()), Some(SystemTime::now()));
        Some(host)
    }

    /// How many guests are on their way to each host.
    fn coming(&self) -> BTreeMap<HostName, usize> {
        let mut coming = BTreeMap::new();
        let records = self.under_way.iter().filter_map(|id| self.migrations.get(usize::try_from(id.0).ok()? - 1));
        for host in records.filter_map(|migration| migration.chosen.clone()) {
            *coming.entry(host).or_insert(0) += 1;
        }
        coming
    }

    /// The destination claims: how long its spawn will take, or `None` when it failed.
    fn claim(&mut self, host: &HostName, id: MigrationId) -> Option<Duration> {
        let server = self.migration(id)?.server;
        self.migration(id)?.taken = Some(host.clone());
        if self.faults.met_by_spawn_of(host, SpawnFault::ClaimFails) {
            self.set_migration(id, "failed");
            self.set_server(server, None, None);
            return None;
        }
        let (vm_state, boot) = (self.servers.get(&server)?.vm_state.clone(), self.hosts.get(host)?.boots);
        let migration = self.migration(id)?;
        migration.dest = Some(host.clone());
        migration.vm_state_before = vm_state;
        migration.dest_boot = boot;
        self.set_migration(id, "pre-migrating");
        self.set_server(server, None, Some("rebuild_spawning"));
        if self.faults.met_by_spawn_of(host, SpawnFault::NeverEnds) {
            return Some(NEVER);
        }
        let range = self.settings.spawn_time.clone();
        Some(jitter(self, &range))
    }

    /// The destination's spawn ends, one way or another.
    fn finish(&mut self, on: &HostName, id: MigrationId) {
        let Some(migration) = self.migration(id).cloned() else { return };
        let server = migration.server;
        let Some(host) = self.hosts.get_mut(on) else { return };
        if host.boots != migration.dest_boot || !host.compute || host.machine == Machine::Off {
            return; // The process that would have finished it is gone: the record stays `pre-migrating`.
        }
        if host.machine == Machine::Hung {
            host.casts.push(Cast::FinishRebuild(id));
            return;
        }
        if self.faults.met_by_spawn_of(on, SpawnFault::SpawnFails) {
            return self.fail(id, server);
        }
        if self.faults.met_by_spawn_of(on, SpawnFault::SpawnFailsGuestRuns) {
            self.start_guest(on, server);
            return self.fail(id, server);
        }
        if !self.start_guest(on, server) {
            return self.fail(id, server); // The guest is there already: a twin evacuation chose the same host.
        }
        // A newer evacuation has changed the task_state under this one: its last save fails, and its guest runs on.
        let siblings = self.servers.get(&server).map_or_else(Vec::new, |server| server.migrations.clone());
        let superseded = siblings.iter().any(|other| *other > id);
        if superseded {
            return self.fail(id, server);
        }
        self.set_migration(id, "done");
        let failed_since = |other: &Migration| other.status == "failed" && other.updated > migration.created;
        let twin_failed = siblings.iter().any(|other| self.migration(*other).is_some_and(|other| failed_since(other)));
        let stops = migration.leave_stopped || migration.vm_state_before == "stopped";
        if stops {
            self.stop_guest(on, server, GuestEvent::Stopped);
        }
        let vm_state = match (twin_failed, stops) {
            (true, _) => "error",
            (false, true) => "stopped",
            (false, false) => "active",
        };
        self.set_server(server, Some(vm_state), None);
        if let Some(server) = self.servers.get_mut(&server) {
            server.host = on.clone();
            server.power_state = if stops { 4 } else { 1 };
            server.data_lost |= server.spec.disks != Disks::Shared;
        }
    }

    fn fail(&mut self, id: MigrationId, server: ServerId) {
        self.set_migration(id, "failed");
        self.set_server(server, Some("error"), None);
    }

    /// A starting nova-compute destroys the guests that were evacuated from it, and completes one record of each:
    /// also of those whose rebuild is still under way.
    fn clean_up(&mut self, host: &HostName) {
        let mut newest = BTreeMap::new();
        for migration in &self.migrations {
            if migration.source == *host && (migration.under_way() || migration.status == "done") {
                newest.insert(migration.server, migration.id);
            }
        }
        for (server, id) in newest {
            self.stop_guest(host, server, GuestEvent::Undefined);
            self.set_migration(id, "completed");
        }
    }

    fn resume_guests(&mut self, host: &HostName) {
        let own = self.servers.iter().filter(|(_, server)| server.host == *host && server.power_state == 1);
        let own: Vec<ServerId> = own.map(|(id, _)| *id).collect();
        for server in own {
            self.start_guest(host, server);
        }
    }

    /// A compute does what a start or stop told it, for whichever server the message names, wherever Nova now has it.
    fn power(&mut self, on: &HostName, cast: Cast) {
        let Some(host) = self.hosts.get_mut(on) else { return };
        if !host.works() {
            host.casts.push(cast);
            return;
        }
        match cast {
            Cast::Start(server) => {
                self.start_guest(on, server);
                self.set_server(server, Some("active"), None);
                self.set_power_state(server, 1);
            }
            Cast::Stop(server) => {
                self.stop_guest(on, server, GuestEvent::Stopped);
                self.set_server(server, Some("stopped"), None);
                self.set_power_state(server, 4);
            }
            Cast::Rebuild(_) | Cast::FinishRebuild(_) => {}
        }
    }

    fn set_power_state(&mut self, server: ServerId, power_state: u8) {
        if let Some(server) = self.servers.get_mut(&server) {
            server.power_state = power_state;
        }
    }
}
