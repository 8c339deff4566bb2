//! A cloud: Keystone v3 and Nova over HTTP, as a client of the real ones meets them, faults included.
//!
//! Behind the API is the ground truth: which guest really runs on which host. What Nova believes and what is so differ
//! whenever a host is dead, hung, or back too early, and a test asserts on what is so: [`Cloud::running_copies`],
//! [`Cloud::ever_ran_twice`].
//!
//! Shaped after Nova 34 as it was seen to behave: `evacuate` checks the vm_state and that the source service is down, but
//! **not the task_state**: a second call is accepted, and then two copies run.

mod actions;
mod builder;
mod compute;
mod fault;
mod groups;
mod http;
mod keystone;
mod lines;
mod migrations;
mod nova;
mod placement;
mod servers;
mod services;
mod trail;
mod world;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use rekindle_proto::id::{HostName, ServerId};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use super::guests::{GuestEvent, GuestLine, GuestNotice, GuestsSocket};
use world::{Machine, World};

pub use builder::{CloudBuilder, Disks, ServerSpec};
pub use fault::{Endpoint, Fault, Span, SpawnFault};
pub use lines::{
    EvacuateCall, EvacuateOutcome, GuestStart, MigrationLine, PowerAction, PowerCall, PowerHook, RanTwice, RequestLine,
};

/// The entry in [`Cloud::clouds_yaml`].
pub const CLOUD_NAME: &str = "simulated";
/// The one region.
pub const REGION: &str = "RegionOne";

/// A running cloud. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct Cloud {
    shared: Arc<Shared>,
    _serving: Arc<Serving>,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

/// To be used, and to be put into a test's assertions.
impl Cloud {
    /// A cloud to be.
    #[must_use]
    pub fn builder() -> CloudBuilder {
        CloudBuilder::default()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Keystone's URL.
    #[must_use]
    pub fn auth_url(&self) -> String {
        self.shared.identity_url()
    }

    /// A `clouds.yaml` with the entry [`CLOUD_NAME`], for an application credential or for a password.
    #[must_use]
    pub fn clouds_yaml(&self, application_credential: bool) -> String {
        self.world().tokens.clouds_yaml(&self.auth_url(), application_credential)
    }

    /// The hosts on which this server's guest really runs, whatever the API says.
    #[must_use]
    pub fn running_copies(&self, server: ServerId) -> Vec<HostName> {
        self.world().running_copies(server)
    }

    /// Every moment at which a server began to run a second time. Checked at each start of a guest; empty is the
    /// headline invariant.
    #[must_use]
    pub fn ever_ran_twice(&self) -> Vec<RanTwice> {
        self.world().twice.clone()
    }

    /// Every moment at which a guest began to run, oldest first. The latest 200,000 are kept.
    #[must_use]
    pub fn guest_starts(&self) -> Vec<GuestStart> {
        self.world().starts.all()
    }

    /// Whether a server with a local disk was rebuilt from its image.
    #[must_use]
    pub fn data_lost(&self, server: ServerId) -> bool {
        self.world().servers.get(&server).is_some_and(|server| server.data_lost)
    }

    /// Every evacuate call that reached Nova, oldest first.
    #[must_use]
    pub fn evacuate_calls(&self) -> Vec<EvacuateCall> {
        self.world().evacuate_calls.all()
    }

    /// Every `os-start` and `os-stop` that Nova accepted, oldest first. The latest 200,000 are kept.
    #[must_use]
    pub fn power_calls(&self) -> Vec<PowerCall> {
        self.world().power_calls.all()
    }

    /// Every HTTP call, oldest first. The latest 200,000 are kept.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestLine> {
        self.world().requests.all()
    }

    /// Every migration record, oldest first.
    #[must_use]
    pub fn migrations(&self) -> Vec<MigrationLine> {
        let line = |migration: &world::Migration| MigrationLine {
            id: migration.id,
            server: migration.server,
            source: migration.source.clone(),
            dest: migration.dest.clone(),
            status: migration.status,
        };
        self.world().migrations.iter().map(line).collect()
    }

    /// Why a host's compute service is disabled; `None`: it is enabled, or nobody said why.
    #[must_use]
    pub fn disabled_reason(&self, host: &HostName) -> Option<String> {
        self.world().hosts.get(host).filter(|host| host.disabled).and_then(|host| host.disabled_reason.clone())
    }

    /// Every server, oldest first.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerId> {
        self.world().order.clone()
    }

    /// The servers Nova holds for this host's, oldest first.
    #[must_use]
    pub fn servers_of(&self, host: &HostName) -> Vec<ServerId> {
        let world = self.world();
        let of = |id: &&ServerId| world.servers.get(*id).is_some_and(|server| server.host == *host);
        world.order.iter().filter(of).copied().collect()
    }

    /// What Nova shows of a server: host, vm_state, task_state.
    #[must_use]
    pub fn shown(&self, server: ServerId) -> Option<(HostName, String, Option<&'static str>)> {
        let world = self.world();
        world.servers.get(&server).map(|it| (it.host.clone(), it.vm_state.clone(), it.task_state))
    }

    /// Every host, by name.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostName> {
        self.world().hosts.keys().cloned().collect()
    }

    /// The guests of a host as its hypervisor lists them.
    #[must_use]
    pub fn guests(&self, host: &HostName) -> Vec<GuestLine> {
        self.world().guest_lines(host)
    }

    /// Adds a server to a host.
    #[must_use]
    pub fn add_server(&self, host: &HostName, spec: ServerSpec) -> ServerId {
        self.world().add_server(host, spec)
    }

    /// Serves this host's guest list on a Unix socket, until the handle is dropped.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn serve_guests(&self, host: &HostName, path: &Path) -> io::Result<GuestsSocket> {
        GuestsSocket::start(self.clone(), host.clone(), path)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    pub(super) fn watch_guests(&self, host: &HostName) -> Option<broadcast::Receiver<GuestNotice>> {
        self.world().hosts.get(host).map(|host| host.notices.subscribe())
    }

    /// `None`: the machine is off. `Some(None)`: it is hung. Else the list, and whether it is complete.
    pub(super) fn guest_list(&self, host: &HostName) -> Option<Option<(Vec<GuestLine>, bool)>> {
        let world = self.world();
        let state = world.hosts.get(host)?;
        match state.machine {
            Machine::Off => None,
            Machine::Hung => Some(None),
            Machine::Up => Some(Some((world.guest_lines(host), state.list_complete))),
        }
    }
}

/// What happens to hosts and guests.
impl Cloud {
    /// The host loses its power or its kernel dies: guests, nova-compute and reports stop at once.
    pub fn host_died(&self, host: &HostName) {
        self.world().cut_power(host, Instant::now());
    }

    /// The host is frozen or cut off: nova-compute neither works nor reports, nothing answers, **its guests run on**.
    pub fn host_hung(&self, host: &HostName) {
        self.shared.hang(host);
    }

    /// A dead host boots: its guests start if autostart is set; later nova-compute starts, destroys the guests that were
    /// evacuated, marks their migrations `completed`, and does what was queued for it. A hung host goes on where it
    /// stopped, without any clean-up.
    pub fn host_returned(&self, host: &HostName) {
        self.shared.return_host(host);
    }

    /// Only the nova-compute process dies.
    pub fn compute_stopped(&self, host: &HostName) {
        self.shared.set_compute(host, false);
    }

    /// The nova-compute process starts, with its clean-up.
    pub fn compute_started(&self, host: &HostName) {
        self.shared.set_compute(host, true);
    }

    /// Whether libvirt starts this host's guests at boot.
    pub fn set_autostart(&self, host: &HostName, autostart: bool) {
        if let Some(host) = self.world().hosts.get_mut(host) {
            host.autostart = autostart;
        }
    }

    /// A guest crashes wherever it runs. Nova does not notice.
    pub fn guest_failed(&self, server: ServerId) {
        let mut world = self.world();
        for host in world.running_copies(server) {
            world.stop_guest(&host, server, GuestEvent::Failed);
        }
    }

    /// From now on nova-compute has this done for each start and stop, of whichever host. Where it fails, Nova shows the
    /// server as it was, as after any failed action.
    pub fn on_power(&self, hook: PowerHook) {
        self.world().power_hook = Some(hook);
    }

    /// Says on the guests socket whether the list is complete.
    pub fn set_guest_list_complete(&self, host: &HostName, complete: bool) {
        if let Some(host) = self.world().hosts.get_mut(host) {
            host.list_complete = complete;
            host.tell(GuestNotice::Changed);
        }
    }

    /// What this host has of a resource class: in all, reserved, allocation ratio.
    pub fn set_inventory(&self, host: &HostName, class: &str, total: u64, reserved: u64, ratio: f64) {
        if let Some(host) = self.world().hosts.get_mut(host) {
            host.inventories.insert(class.to_owned(), placement::Inventory { total, reserved, ratio });
        }
    }

    /// Changes a server: its metadata, its disks, its name. Its vm_state is what Nova shows from now on.
    pub fn change_server(&self, server: ServerId, change: impl FnOnce(&mut ServerSpec)) {
        if let Some(server) = self.world().servers.get_mut(&server) {
            server.spec.vm_state = server.vm_state.clone();
            change(&mut server.spec);
            server.vm_state = server.spec.vm_state.clone();
        }
    }
}

/// What goes wrong.
impl Cloud {
    /// From now on calls to this endpoint meet this fault. Several may be set; each counts by itself.
    pub fn fault(&self, endpoint: Endpoint, fault: Fault, span: Span) {
        self.world().faults.set(endpoint, fault, span);
    }

    /// The next `count` evacuations (to this host, if one is named) fail so.
    pub fn spawn_fault(&self, fault: SpawnFault, host: Option<&HostName>, count: u32) {
        self.world().faults.set_spawn(fault, host.cloned(), count);
    }

    /// No more faults. Calls that hang go on hanging.
    pub fn clear_faults(&self) {
        self.world().faults.clear();
    }

    /// Every token given out so far is worthless.
    pub fn revoke_tokens(&self) {
        self.world().tokens.revoke_all();
    }

    /// The same, after `calls` more calls of Nova that showed a good token.
    pub fn revoke_tokens_after(&self, calls: u64) {
        self.world().tokens.revoke_after(calls);
    }
}

struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    address: SocketAddr,
    began: (Instant, SystemTime),
    world: Mutex<World>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock at that moment.
    fn wall(&self, at: Instant) -> SystemTime {
        let (instant, wall) = self.began;
        match at.checked_duration_since(instant) {
            Some(after) => wall + after,
            None => wall - instant.duration_since(at),
        }
    }

    fn identity_url(&self) -> String {
        format!("http://{}/identity/v3", self.address)
    }

    fn placement_url(&self) -> String {
        format!("http://{}/placement", self.address)
    }

    fn compute_url(&self) -> String {
        format!("http://{}/compute/v2.1", self.address)
    }
}
