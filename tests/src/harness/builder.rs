//! From nothing to running daemons.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use rekindle_proto::id::{ClusterName, HostName};
use uuid::Uuid;

use super::cluster::Cluster;
use super::daemon::Starter;
use super::files::{BMC_USER, Files, Place};
use super::machine::{Host, Machine};
use super::namespace::{Firewall, Isolated};
use crate::fake::bmc::{Bmc, BmcSettings, GuidByteOrder};
use crate::fake::cloud::{Cloud, CloudBuilder, ServerSpec};

/// Most hosts of a cluster: each is a process with a dozen threads, on a machine that also builds.
const HOSTS_MAX: usize = 64;
/// Where members listen.
const MEMBER_PORT: u16 = 7946;
/// RMCP+ (IPMI 2.0, section 13.1.2).
const BMC_PORT: u16 = 623;

/// How many clusters this process has begun: each has loopback addresses of its own.
static BEGUN: AtomicU8 = AtomicU8::new(0);

type ChangeConfig = Box<dyn Fn(&HostName, &mut toml::Table) + Send>;
type ChangeCloud = Box<dyn FnOnce(CloudBuilder) -> CloudBuilder + Send>;

/// A cluster to be.
pub struct ClusterBuilder {
    hosts: usize,
    servers: usize,
    voters: Option<usize>,
    boots: bool,
    storage: bool,
    config: ChangeConfig,
    cloud: ChangeCloud,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            hosts: 5,
            servers: 0,
            voters: None,
            boots: false,
            storage: false,
            config: Box::new(|_, _| ()),
            cloud: Box::new(|cloud| cloud),
        }
    }
}

impl ClusterBuilder {
    /// So many hosts, `cmp-01` and on. Default 5.
    #[must_use]
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// So many servers over all hosts, as evenly as can be. Default 0.
    #[must_use]
    pub fn servers(mut self, servers: usize) -> Self {
        self.servers = servers;
        self
    }

    /// So many servers on each host. Say first how many hosts there are.
    #[must_use]
    pub fn servers_per_host(mut self, servers: usize) -> Self {
        self.servers = servers.saturating_mul(self.hosts);
        self
    }

    /// The first so many hosts vote: 1, 3, 5 or 7. Default 3, from 7 hosts on 5, and 1 with fewer than 3.
    #[must_use]
    pub fn voters(mut self, voters: usize) -> Self {
        self.voters = Some(voters);
        self
    }

    /// Each host has boots of its own, another one after each loss of its power; else all tell that of the machine on which the
    /// tests run.
    #[must_use]
    pub fn boots(mut self) -> Self {
        self.boots = true;
        self
    }

    /// Each host listens on a second network too, the path `storage`.
    #[must_use]
    pub fn storage_network(mut self) -> Self {
        self.storage = true;
        self
    }

    /// Changes each host's configuration before it is written, after the changes asked for before.
    #[must_use]
    pub fn config(mut self, change: impl Fn(&HostName, &mut toml::Table) + Send + 'static) -> Self {
        let before = self.config;
        self.config = Box::new(move |host, table| {
            before(host, table);
            change(host, table);
        });
        self
    }

    /// Changes the simulated cloud to be: its timings, its limits.
    #[must_use]
    pub fn cloud(mut self, change: impl FnOnce(CloudBuilder) -> CloudBuilder + Send + 'static) -> Self {
        self.cloud = Box::new(change);
        self
    }

    /// Starts everything, in a temporary directory. The daemons are processes by then, and not yet ready: see
    /// [`Cluster::init_roster_and_arm`].
    ///
    /// # Errors
    /// If the number of hosts or voters is impossible, or the system refuses something.
    pub async fn start(self, isolated: &Isolated) -> Result<Cluster> {
        if let (true, Err(why)) = (self.boots, &isolated.mounts) {
            bail!("hosts cannot have boots of their own: this process has no mount namespace of its own ({why})");
        }
        ensure!((1..=HOSTS_MAX).contains(&self.hosts), "{} hosts; it must be 1 to {HOSTS_MAX}", self.hosts);
        let number = BEGUN.fetch_add(1, Ordering::Relaxed);
        let name = ClusterName::new("demo")?;
        let places = places(number, self.hosts, self.storage)?;
        let voters = self.voters.unwrap_or(match self.hosts {
            0..3 => 1,
            3..7 => 3,
            _ => 5,
        });
        let voters: Vec<HostName> = places.iter().take(voters).map(|place| place.name.clone()).collect();
        let dir = tempfile::Builder::new().prefix("rekindle-").tempdir().context("no temporary directory")?;
        let files = Files::new(dir.path());

        files.write_certificates(&name, &places)?;
        let cloud = Cloud::builder().hosts(places.iter().map(|place| place.name.as_str()));
        let cloud = (self.cloud)(cloud).start(SocketAddr::from((Ipv4Addr::new(127, number, 0, 1), 0))).await;
        let cloud = cloud.context("the simulated cloud cannot be started")?;
        for server in 0..self.servers {
            let host = &places[server % places.len()].name;
            let spec = ServerSpec::named(&format!("{host}-vm-{}", server / places.len() + 1));
            // By name and host a test finds it.
            let _ = cloud.add_server(host, spec);
        }
        let password = Uuid::new_v4().simple().to_string()[..16].to_owned();
        files.write_secrets(&password, &cloud.clouds_yaml(true))?;
        files.write_roster(&places)?;

        let firewall = Arc::new(Firewall::new(&format!("rekindle_{number}"))?);
        let starter = Arc::new(Starter::new()?);
        let mut hosts = BTreeMap::new();
        for place in &places {
            files.write_host(&name, &places, &voters, place, &*self.config)?;
            let machine = Arc::new(Machine {
                name: place.name.clone(),
                address: place.listen,
                storage: place.storage,
                dir: files.host_dir(&place.name),
                cloud: cloud.clone(),
                firewall: Arc::clone(&firewall),
                starter: Arc::clone(&starter),
                daemon: Mutex::new(None),
                silent: AtomicBool::new(false),
                stopped: AtomicBool::new(false),
                boots: self.boots,
            });
            machine.begin_boot()?;
            let settings = BmcSettings {
                username: BMC_USER.to_owned(),
                // For a daemon that is told apart from the others: see `Bmc::silent_to`.
                other_users: places.iter().map(|place| place.name.to_string()).collect(),
                password: password.clone(),
                guid: place.system_uuid,
                guid_byte_order: GuidByteOrder::Smbios,
            };
            let bmc = Bmc::start(SocketAddr::new(place.bmc, BMC_PORT), settings, machine.power_hook()).await;
            let bmc = bmc.with_context(|| format!("the BMC of {} cannot be started", place.name))?;
            let guests = cloud.serve_guests(&place.name, &files.guests_socket(&place.name));
            let guests = guests.with_context(|| format!("no guests socket for {}", place.name))?;
            hosts.insert(place.name.clone(), Host { machine, bmc, _guests: guests });
        }
        let cluster = Cluster::new(name, voters, hosts, cloud, files, dir);
        for host in cluster.hosts() {
            host.start()?;
        }
        Ok(cluster)
    }
}

/// Names and addresses: `127.C.1.N` is host N of cluster C, `127.C.2.N` its BMC, `127.C.3.N` the host on its storage network.
fn places(cluster: u8, hosts: usize, storage: bool) -> Result<Vec<Place>> {
    let place = |number: usize| {
        let number = u8::try_from(number).context("too many hosts")?;
        let listen = SocketAddr::from((Ipv4Addr::new(127, cluster, 1, number), MEMBER_PORT));
        let bmc = IpAddr::from(Ipv4Addr::new(127, cluster, 2, number));
        let storage = storage.then(|| SocketAddr::from((Ipv4Addr::new(127, cluster, 3, number), MEMBER_PORT)));
        let name = HostName::new(&format!("cmp-{number:02}"))?;
        Ok(Place { name, listen, storage, bmc, system_uuid: Uuid::new_v4() })
    };
    (1..=hosts).map(place).collect()
}
