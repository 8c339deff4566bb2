//! What a simulated cloud is made of.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rekindle_proto::id::HostName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::world::World;
use super::{Cloud, Serving, Shared, http};

/// Where a server's disks lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disks {
    /// On storage every host reaches: an evacuated server keeps its data.
    Shared,
    /// On its host: an evacuated server is rebuilt from its image, and its data is gone.
    Local,
    /// Nobody can tell. Treated as local.
    Unknown,
}

/// What a server is like at the start.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Its display name.
    pub name: String,
    /// Nova's vm_state: `active`, `stopped`, `error`, `paused`… Only an `active` one runs.
    pub vm_state: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its disks.
    pub disks: Disks,
    /// The id of its project.
    pub project: String,
    /// The name of its flavor.
    pub flavor: String,
    /// The extra specs of its flavor; `None`: the caller may not see them.
    pub extra_specs: Option<BTreeMap<String, String>>,
    /// The id of the image it was made from; `None`: it boots from a volume.
    pub image: Option<String>,
    /// What it holds of its host, by resource class.
    pub resources: BTreeMap<String, u64>,
}

impl ServerSpec {
    /// An active server with shared disks and no metadata.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let resources = [("VCPU", 1), ("MEMORY_MB", 64), ("DISK_GB", 1)];
        Self {
            name: name.to_owned(),
            vm_state: "active".into(),
            metadata: BTreeMap::new(),
            disks: Disks::Shared,
            // Every server is some other project's: a caller that forgets all_tenants sees none.
            project: format!("{:032x}", 0x7e4a47),
            flavor: "m1.tiny".to_owned(),
            extra_specs: Some(BTreeMap::new()),
            image: None,
            resources: resources.map(|(class, amount)| (class.to_owned(), amount)).into(),
        }
    }
}

/// Timings and limits. All have Nova's own default but the spawn and start times, which are short.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) page_limit: usize,
    pub(super) schedule_time: Range<Duration>,
    pub(super) spawn_time: Range<Duration>,
    pub(super) power_time: Duration,
    pub(super) compute_start_time: Duration,
    pub(super) report_every: Duration,
    pub(super) service_down_after: Duration,
    pub(super) rpc_timeout: Duration,
    pub(super) token_life: Duration,
    pub(super) autostart: bool,
    pub(super) resume_guests: bool,
    pub(super) placement: bool,
}

/// Changes a server before it is made: its host, its number on that host, itself.
type ServerChange = Box<dyn Fn(&HostName, usize, &mut ServerSpec) + Send>;

/// A cloud to be. [`CloudBuilder::start`] brings it up.
pub struct CloudBuilder {
    hosts: Vec<String>,
    servers_per_host: usize,
    settings: Settings,
    each_server: ServerChange,
}

impl Default for CloudBuilder {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            servers_per_host: 0,
            settings: Settings {
                seed: 1,
                page_limit: 1000,
                schedule_time: Duration::from_millis(5)..Duration::from_millis(20),
                spawn_time: Duration::from_millis(50)..Duration::from_millis(150),
                power_time: Duration::from_millis(10),
                compute_start_time: Duration::from_millis(50),
                report_every: Duration::from_secs(10),
                service_down_after: Duration::from_secs(60),
                rpc_timeout: Duration::from_secs(60),
                token_life: Duration::from_secs(3600),
                autostart: false,
                resume_guests: false,
                placement: true,
            },
            each_server: Box::new(|_, _, _| ()),
        }
    }
}

impl CloudBuilder {
    /// These hypervisors.
    #[must_use]
    pub fn hosts<I: IntoIterator<Item: AsRef<str>>>(mut self, names: I) -> Self {
        self.hosts = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self
    }

    /// So many servers on each. Default 0.
    #[must_use]
    pub fn servers_per_host(mut self, count: usize) -> Self {
        self.servers_per_host = count;
        self
    }

    /// Changes each server before it is made: its host, its number on that host from 0, and itself.
    #[must_use]
    pub fn each_server(mut self, change: impl Fn(&HostName, usize, &mut ServerSpec) + Send + 'static) -> Self {
        self.each_server = Box::new(change);
        self
    }

    /// The seed of ids, jitter and the scheduler's choice. Default 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Nova's `[api] max_limit`: the longest page. Default 1000.
    #[must_use]
    pub fn page_limit(mut self, limit: usize) -> Self {
        self.settings.page_limit = limit.max(1);
        self
    }

    /// From an evacuate call to the destination's claim. Default 5 to 20 ms.
    #[must_use]
    pub fn schedule_time(mut self, time: Range<Duration>) -> Self {
        self.settings.schedule_time = time;
        self
    }

    /// From the claim to the running guest. Default 50 to 150 ms.
    #[must_use]
    pub fn spawn_time(mut self, time: Range<Duration>) -> Self {
        self.settings.spawn_time = time;
        self
    }

    /// From a machine's boot to nova-compute's clean-up. Until then autostarted guests run. Default 50 ms.
    #[must_use]
    pub fn compute_start_time(mut self, time: Duration) -> Self {
        self.settings.compute_start_time = time;
        self
    }

    /// Nova's `report_interval` (10 s) and `service_down_time` (60 s).
    #[must_use]
    pub fn heartbeat(mut self, every: Duration, down_after: Duration) -> Self {
        self.settings.report_every = every.max(Duration::from_millis(1));
        self.settings.service_down_after = down_after;
        self
    }

    /// Nova's `rpc_response_timeout` (60 s): how long a `disabled` on a dead host that Nova holds for up blocks.
    #[must_use]
    pub fn rpc_timeout(mut self, timeout: Duration) -> Self {
        self.settings.rpc_timeout = timeout;
        self
    }

    /// How long a token is good. Default an hour.
    #[must_use]
    pub fn token_life(mut self, life: Duration) -> Self {
        self.settings.token_life = life;
        self
    }

    /// libvirt starts a booting host's guests again, before nova-compute has cleaned up. Default no.
    #[must_use]
    pub fn autostart(mut self, autostart: bool) -> Self {
        self.settings.autostart = autostart;
        self
    }

    /// Nova's `resume_guests_state_on_host_boot`: nova-compute starts, after its clean-up, the guests that are still its
    /// own. Default no.
    #[must_use]
    pub fn resume_guests(mut self, resume: bool) -> Self {
        self.settings.resume_guests = resume;
        self
    }

    /// A cloud whose catalog has no Placement. Default: it has.
    #[must_use]
    pub fn without_placement(mut self) -> Self {
        self.settings.placement = false;
        self
    }

    /// Brings the cloud up on `address` (port 0: any). Call it within a tokio runtime.
    ///
    /// # Errors
    /// When a host's name is illegal or the address cannot be bound.
    pub async fn start(self, address: SocketAddr) -> io::Result<Cloud> {
        let names = self.hosts.iter().map(|name| HostName::new(name).map_err(io::Error::other));
        let hosts: Vec<HostName> = names.collect::<io::Result<_>>()?;
        let mut world = World::new(self.settings, hosts.clone());
        for host in &hosts {
            for number in 0..self.servers_per_host {
                let mut spec = ServerSpec::named(&format!("{host}-vm-{number}"));
                (self.each_server)(host, number, &mut spec);
                world.add_server(host, spec);
            }
        }
        let listener = TcpListener::bind(address).await?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            began: (Instant::now(), SystemTime::now()),
            world: Mutex::new(world),
        });
        let task = tokio::spawn(http::serve(Arc::clone(&shared), listener));
        Ok(Cloud { shared, _serving: Arc::new(Serving(task.abort_handle())) })
    }
}
