//! The state behind the API, and the ground truth beside it: which guest really runs where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::id::{HostName, MigrationId, ServerId};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::builder::{Disks, ServerSpec, Settings};
use super::fault::Faults;
use super::groups::Group;
use super::keystone::Tokens;
use super::placement::{self, Inventory};
use super::{EvacuateCall, GuestStart, PowerCall, PowerHook, RanTwice, RequestLine};
use crate::fake::guests::{GuestEvent, GuestLine, GuestNotice};
use crate::fake::record::{Records, When};

/// Notices a slow reader of a guests socket may lag behind before it gets a fresh list instead.
const NOTICES_MAX: usize = 256;

/// What a host's machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    Up,
    /// Cut off or frozen: nothing answers, **its guests run on**.
    Hung,
    Off,
}

/// A message in a compute's queue. It outlives the process that was to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cast {
    Start(ServerId),
    Stop(ServerId),
    Rebuild(MigrationId),
    FinishRebuild(MigrationId),
}

/// A guest as the hypervisor of one host knows it. Whether it runs: [`Server::running_on`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guest {
    /// It ran when the machine lost its power: libvirt's autostart starts it again.
    ran_at_power_loss: bool,
}

pub(super) struct Host {
    pub(super) service: Uuid,
    pub(super) number: u64,
    pub(super) machine: Machine,
    /// The nova-compute process exists.
    pub(super) compute: bool,
    /// Since when it reports, and the last report before that.
    reporting_since: Option<Instant>,
    last_report: Instant,
    pub(super) boots: u64,
    pub(super) disabled: bool,
    pub(super) disabled_reason: Option<String>,
    pub(super) forced_down: bool,
    pub(super) autostart: bool,
    pub(super) guests: BTreeMap<ServerId, Guest>,
    pub(super) casts: Vec<Cast>,
    pub(super) list_complete: bool,
    pub(super) notices: broadcast::Sender<GuestNotice>,
    /// By resource class.
    pub(super) inventories: BTreeMap<String, Inventory>,
}

impl Host {
    /// Whether nova-compute does its work.
    pub(super) fn works(&self) -> bool {
        self.machine == Machine::Up && self.compute
    }

    /// nova-compute begins or ceases to report, as the machine and the process now are.
    pub(super) fn report(&mut self, now: Instant, every: Duration) {
        self.last_report = self.last_seen(now, every);
        if self.works() {
            self.last_report = now;
            self.reporting_since = Some(now);
        } else {
            self.reporting_since = None;
        }
    }

    /// The latest report: `updated_at` of the service.
    pub(super) fn last_seen(&self, now: Instant, every: Duration) -> Instant {
        let Some(since) = self.reporting_since else { return self.last_report };
        let whole = now.duration_since(since).as_nanos() / every.as_nanos().max(1);
        let beats = u32::try_from(whole).unwrap_or(u32::MAX);
        since.checked_add(every.saturating_mul(beats)).unwrap_or(now)
    }
}

pub(super) struct Server {
    pub(super) spec: ServerSpec,
    pub(super) host: HostName,
    pub(super) vm_state: String,
    pub(super) task_state: Option<&'static str>,
    pub(super) power_state: u8,
    pub(super) locked: Option<Option<String>>,
    pub(super) created: SystemTime,
    pub(super) updated: SystemTime,
    /// A server with a local disk was rebuilt from its image.
    pub(super) data_lost: bool,
    /// The ground truth: where its guest really runs.
    running_on: BTreeSet<HostName>,
    /// Its migration records, oldest first.
    pub(super) migrations: Vec<MigrationId>,
}

#[derive(Debug, Clone)]
pub(super) struct Migration {
    pub(super) id: MigrationId,
    pub(super) uuid: Uuid,
    pub(super) server: ServerId,
    pub(super) source: HostName,
    pub(super) dest: Option<HostName>,
    pub(super) status: &'static str,
    pub(super) created: SystemTime,
    pub(super) updated: SystemTime,
    /// The host the caller or the scheduler chose, before that host claimed.
    pub(super) chosen: Option<HostName>,
    /// When nova-conductor had sent it, or found no host.
    pub(super) sent: Option<SystemTime>,
    /// The host that has taken it out of its queue.
    pub(super) taken: Option<HostName>,
    /// From microversion 2.95: the guest is left stopped.
    pub(super) leave_stopped: bool,
    /// The server's vm_state when the destination claimed it.
    pub(super) vm_state_before: String,
    /// Which boot of the destination claimed it.
    pub(super) dest_boot: u64,
}

impl Migration {
    pub(super) fn under_way(&self) -> bool {
        matches!(self.status, "accepted" | "pre-migrating")
    }
}

pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) random: StdRng,
    pub(super) hosts: BTreeMap<HostName, Host>,
    pub(super) servers: BTreeMap<ServerId, Server>,
    /// Oldest first. Listings go the other way round.
    pub(super) order: Vec<ServerId>,
    pub(super) migrations: Vec<Migration>,
    /// Those that are accepted or pre-migrating.
    pub(super) under_way: BTreeSet<MigrationId>,
    pub(super) twice: Vec<RanTwice>,
    pub(super) starts: Records<GuestStart>,
    pub(super) evacuate_calls: Records<EvacuateCall>,
    pub(super) power_calls: Records<PowerCall>,
    /// A real hypervisor, if there is one.
    pub(super) power_hook: Option<PowerHook>,
    pub(super) requests: Records<RequestLine>,
    pub(super) requests_begun: u64,
    pub(super) faults: Faults,
    pub(super) tokens: Tokens,
    pub(super) groups: Vec<Group>,
}

impl World {
    pub(super) fn new(settings: Settings, hosts: Vec<HostName>) -> Self {
        let mut random = StdRng::seed_from_u64(settings.seed);
        let tokens = Tokens::new(&mut random);
        let mut world = Self {
            random,
            hosts: BTreeMap::new(),
            servers: BTreeMap::new(),
            order: Vec::new(),
            migrations: Vec::new(),
            under_way: BTreeSet::new(),
            twice: Vec::new(),
            starts: Records::default(),
            evacuate_calls: Records::default(),
            power_calls: Records::default(),
            power_hook: None,
            requests: Records::default(),
            requests_begun: 0,
            faults: Faults::default(),
            tokens,
            groups: Vec::new(),
            settings,
        };
        for name in hosts {
            world.add_host(name);
        }
        world
    }

    fn add_host(&mut self, name: HostName) {
        let now = Instant::now();
        let mut host = Host {
            service: self.fresh_uuid(),
            number: self.hosts.len() as u64 + 10,
            machine: Machine::Up,
            compute: true,
            reporting_since: None,
            last_report: now,
            boots: 1,
            disabled: false,
            disabled_reason: None,
            forced_down: false,
            autostart: self.settings.autostart,
            guests: BTreeMap::new(),
            casts: Vec::new(),
            list_complete: true,
            notices: broadcast::Sender::new(NOTICES_MAX),
            inventories: placement::inventories(),
        };
        host.report(now, self.settings.report_every);
        self.hosts.insert(name, host);
    }

    /// A new server with its guest on this host, running if its vm_state says so.
    pub(super) fn add_server(&mut self, host: &HostName, spec: ServerSpec) -> ServerId {
        let id = ServerId(self.fresh_uuid());
        let runs = spec.vm_state == "active";
        let created = SystemTime::now();
        let server = Server {
            host: host.clone(),
            vm_state: spec.vm_state.clone(),
            task_state: None,
            power_state: if runs { 1 } else { 4 },
            locked: None,
            created,
            updated: created,
            data_lost: false,
            running_on: BTreeSet::new(),
            migrations: Vec::new(),
            spec,
        };
        self.servers.insert(id, server);
        self.order.push(id);
        if let Some(host) = self.hosts.get_mut(host) {
            host.guests.insert(id, Guest::default());
        }
        if runs {
            self.start_guest(host, id);
        }
        id
    }

    pub(super) fn fresh_uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.random()).into_uuid()
    }

    /// Nova's opinion of a host's compute service: not forced down, and heard of lately.
    pub(super) fn is_up(&self, host: &HostName, now: Instant) -> bool {
        self.hosts.get(host).is_some_and(|host| {
            let seen = host.last_seen(now, self.settings.report_every);
            !host.forced_down && now.duration_since(seen) <= self.settings.service_down_after
        })
    }

    pub(super) fn migration(&mut self, id: MigrationId) -> Option<&mut Migration> {
        // Numbers count from 1 and records are never deleted.
        let at = usize::try_from(id.0.checked_sub(1)?).ok()?;
        self.migrations.get_mut(at)
    }

    pub(super) fn set_migration(&mut self, id: MigrationId, status: &'static str) {
        if let Some(migration) = self.migration(id) {
            migration.status = status;
            migration.updated = SystemTime::now();
            if !migration.under_way() {
                self.under_way.remove(&id);
            }
        }
    }

    /// Sets what the API shows of a server. `None` leaves the vm_state.
    pub(super) fn set_server(&mut self, id: ServerId, vm_state: Option<&str>, task_state: Option<&'static str>) {
        if let Some(server) = self.servers.get_mut(&id) {
            if let Some(vm_state) = vm_state {
                vm_state.clone_into(&mut server.vm_state);
            }
            server.task_state = task_state;
            server.updated = SystemTime::now();
        }
    }

    /// Where a server's guest really runs.
    pub(super) fn running_copies(&self, server: ServerId) -> Vec<HostName> {
        self.servers.get(&server).map_or_else(Vec::new, |server| server.running_on.iter().cloned().collect())
    }

    /// Starts a guest, defining it if need be; false when the machine is off or the guest ran already. Two copies at any
    /// moment are noted for good.
    pub(super) fn start_guest(&mut self, on: &HostName, id: ServerId) -> bool {
        let Some(host) = self.hosts.get_mut(on).filter(|host| host.machine != Machine::Off) else { return false };
        let Some(server) = self.servers.get_mut(&id) else { return false };
        host.guests.entry(id).or_default();
        if !server.running_on.insert(on.clone()) {
            return false;
        }
        host.tell(GuestNotice::Event(GuestEvent::Running, id));
        self.starts.push(GuestStart { when: When::now(), server: id, host: on.clone() });
        if server.running_on.len() > 1 {
            let hosts = server.running_on.iter().cloned().collect();
            self.twice.push(RanTwice { when: When::now(), server: id, hosts });
        }
        true
    }

    /// Ends a guest's run; `event` says how its watchers are told.
    pub(super) fn stop_guest(&mut self, on: &HostName, id: ServerId, event: GuestEvent) {
        let Some(host) = self.hosts.get_mut(on) else { return };
        let ran = self.servers.get_mut(&id).is_some_and(|server| server.running_on.remove(on));
        let gone = event == GuestEvent::Undefined && host.guests.remove(&id).is_some();
        if ran || gone {
            host.tell(GuestNotice::Event(event, id));
        }
    }

    /// The machine loses its power: every guest on it stops.
    pub(super) fn cut_power(&mut self, on: &HostName, now: Instant) {
        let every = self.settings.report_every;
        let Some(host) = self.hosts.get_mut(on) else { return };
        host.machine = Machine::Off;
        host.compute = false;
        host.report(now, every);
        for (id, guest) in &mut host.guests {
            let ran = self.servers.get_mut(id).is_some_and(|server| server.running_on.remove(on));
            guest.ran_at_power_loss |= ran;
        }
        host.tell(GuestNotice::Changed);
    }

    /// The machine boots; libvirt starts what ran before, if it is to. The number of this boot.
    pub(super) fn boot(&mut self, on: &HostName) -> Option<u64> {
        let host = self.hosts.get_mut(on)?;
        host.machine = Machine::Up;
        host.boots += 1;
        let (boot, autostart) = (host.boots, host.autostart);
        let mut ran = Vec::new();
        for (server, guest) in &mut host.guests {
            if std::mem::replace(&mut guest.ran_at_power_loss, false) && autostart {
                ran.push(*server);
            }
        }
        host.tell(GuestNotice::Changed);
        for server in ran {
            self.start_guest(on, server);
        }
        Some(boot)
    }

    /// The guests of a host, as its hypervisor lists them.
    pub(super) fn guest_lines(&self, on: &HostName) -> Vec<GuestLine> {
        let Some(host) = self.hosts.get(on) else { return Vec::new() };
        let line = |id: &ServerId| GuestLine {
            server: *id,
            running: self.servers.get(id).is_some_and(|server| server.running_on.contains(on)),
            disks: self.servers.get(id).map_or(Disks::Unknown, |server| server.spec.disks),
        };
        host.guests.keys().map(line).collect()
    }
}

impl Host {
    /// Nobody may be listening; that is no error.
    pub(super) fn tell(&self, notice: GuestNotice) {
        drop(self.notices.send(notice));
    }
}
